"""Pad batches so that they divide among devices, and compute what padding costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Shaped

from aimz_lab.data.checks import check_positive_int, check_rows
from aimz_lab.errors import DataError, DataTypeError
from aimz_lab.types import Array, Device, Rows, shown

Count = TypeVar("Count", int, np.ndarray)


def pad_rows(batch: Rows, multiple: int) -> tuple[dict[str, Shaped[Array, "padded_row ..."]], int]:
    """Repeat the last row until the number of rows is a multiple of ``multiple``.

    The values equal those of ``jax.numpy.pad(..., mode="edge")``; NumPy arrays stay on the host.

    Args:
        batch: Arrays by field.
        multiple: At least 1.

    Returns:
        The padded batch and the number of rows added. If that is 0, the arrays are returned as they
        are.

    Raises:
        DataError: If the arrays have different numbers of rows, or no rows.
        ArgumentError: If ``multiple`` is not a positive int.

    Example:
        >>> pad_rows({"y": np.array([1.0, 2.0, 3.0])}, multiple=4)
        ({'y': array([1., 2., 3., 3.])}, 1)
    """
    n_pad = rows_to_pad(check_rows(batch, "batch"), check_positive_int("multiple", multiple))
    if n_pad == 0:
        return dict(batch), 0
    return {name: _repeat_last(array, n_pad) for name, array in batch.items()}, n_pad


def rows_to_pad(rows: Count, multiple: int) -> Count:
    """Return how many rows are missing to the next multiple.

    Args:
        rows: Rows of a batch, or of each of several.
        multiple: At least 1.

    Example:
        >>> rows_to_pad(10, 8), rows_to_pad(16, 8)
        (6, 0)
    """
    return -rows % multiple


def _repeat_last(array: Array, times: int) -> Array:
    if isinstance(array, jax.Array):
        widths = [(0, times)] + [(0, 0)] * (array.ndim - 1)
        return jnp.pad(array, widths, mode="edge")
    last = np.broadcast_to(array[-1:], (times, *array.shape[1:]))
    return np.concatenate((array, last))


def row_multiple(device: Device | None) -> int:
    """Return the number whose multiples are valid batch sizes.

    Args:
        device: ``None`` gives 1. A ``jax.Device`` gives the number of local devices, since the
            batch may be split among them later. A ``Sharding`` gives the number of shards of the
            leading axis, 1 if it is replicated.

    Raises:
        DataTypeError: If ``device`` is anything else.

    Example:
        >>> row_multiple(None)
        1
    """
    if device is None:
        return 1
    if isinstance(device, jax.Device):
        return jax.local_device_count()
    if isinstance(device, jax.sharding.Sharding):
        # Each axis of this shape divides by any number of shards, and its rank fits the spec.
        size = device.num_devices
        rank = max(1, len(getattr(device, "spec", ())))
        return size // device.shard_shape((size,) * rank)[0]
    msg = (
        f"device must be None, a jax.Device (jax.devices()[0]) or a jax.sharding.Sharding, got "
        f"{shown(device)}."
    )
    raise DataTypeError(msg)


def check_sharding(
    sharding: jax.sharding.Sharding, row_shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Raise unless the sharding fits the padded batches of every field.

    Args:
        sharding: Layout of the batches.
        row_shapes: Shape of one row, by field.

    Raises:
        DataError: If a field has too few axes, or an axis that does not divide.
    """
    spec = getattr(sharding, "spec", ())
    for name, row in row_shapes.items():
        shape = (row_multiple(sharding), *row)
        problem = f"it has {len(shape)} axes and {spec} names {len(spec)}"
        if len(spec) <= len(shape):
            try:
                sharding.shard_shape(shape)
            except ValueError as error:
                problem = str(error)
            else:
                continue
        msg = (
            f"The sharding does not fit field {name!r}, whose rows have the shape {row}: "
            f"{problem}. Shard the rows alone, as PartitionSpec('rows') does."
        )
        raise DataError(msg)


def padding_waste(n: int, batch_size: int, multiple: int) -> tuple[int, float]:
    """Return the cost of padding in one epoch.

    Args:
        n: Rows of data.
        batch_size: Rows of data per batch; the last batch may be shorter.
        multiple: From :func:`row_multiple`.

    Returns:
        The number of padding rows, and their share of all rows computed.

    Raises:
        ArgumentError: If an argument is not a positive int.

    Example:
        >>> padding_waste(n=1000, batch_size=10, multiple=8)
        (600, 0.375)
    """
    n, batch_size = check_positive_int("n", n), check_positive_int("batch_size", batch_size)
    multiple = check_positive_int("multiple", multiple)
    full, last = divmod(n, batch_size)
    n_pad = full * rows_to_pad(batch_size, multiple) + rows_to_pad(last, multiple)
    return n_pad, n_pad / (n + n_pad)


def padding_advice(n: int, batch_size: int, multiple: int) -> str:
    """Return a sentence that names a batch size with less padding; ``""`` if there is none.

    Args:
        n: Rows of data.
        batch_size: Rows of data per batch.
        multiple: From :func:`row_multiple`.

    Raises:
        ArgumentError: If an argument is not a positive int.

    Example:
        >>> padding_advice(n=1000, batch_size=10, multiple=8)
        'batch_size=10 on 8 devices wastes 37.5% of the rows computed; 16 wastes 0%.'
    """
    share = padding_waste(n, batch_size, multiple)[1]
    better = batch_size + -batch_size % multiple
    if better == batch_size or padding_waste(n, better, multiple)[1] >= share:
        return ""
    better_share = padding_waste(n, better, multiple)[1]
    return (
        f"batch_size={batch_size} on {multiple} devices wastes {_percent(share)} of the rows "
        f"computed; {better} wastes {_percent(better_share)}."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f}".rstrip("0").rstrip(".") + "%"
