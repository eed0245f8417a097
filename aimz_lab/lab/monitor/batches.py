"""The batches of a hand-written loop: their number, rows, bytes and devices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import jax
import numpy as np

from aimz_lab.data.padding import row_multiple
from aimz_lab.errors import DataTypeError
from aimz_lab.types import shown

Source = Iterable[Any] | Callable[[], Iterable[Any]]
"""Batches: an iterable, or a function that returns one for each epoch."""


class Batches:
    """Epochs of batches from any source, and their sizes as far as the source gives them.

    Args:
        source: A loader, a list, any other iterable, or a function that returns an iterable and is
            called once an epoch.
        epochs: Passes over the source.
        n_obs: Rows of the data set; ``None`` to ask the source.

    Raises:
        DataTypeError: If ``source`` is neither, or is used up by one pass and ``epochs`` is more.
    """

    def __init__(self, source: Source, epochs: int, n_obs: int | None) -> None:
        if not callable(source) and (not isinstance(source, Iterable) or _is_0d(source)):
            msg = (
                f"monitor() takes an iterable of batches, or a function that returns one; got "
                f"batches={shown(source)}."
            )
            raise DataTypeError(msg)
        one_pass = isinstance(source, Iterator)
        if one_pass and epochs > 1:
            msg = (
                f"{type(source).__name__} is used up after one pass, and epochs={epochs}. Pass the "
                "function that makes it, without calling it, or a list of batches."
            )
            raise DataTypeError(msg)
        self._source = source
        self.n_obs = n_obs if n_obs is not None else _count_rows(source)

    def epoch(self) -> Iterator[Any]:
        """Begin a pass over the batches."""
        is_function = callable(self._source) and not isinstance(self._source, Iterable)
        made = self._source() if is_function else self._source
        try:
            return iter(made)
        except TypeError as error:
            msg = (
                "monitor() takes a function that returns an iterable of batches; this one returned "
                f"{shown(made)}."
            )
            raise DataTypeError(msg) from error

    @property
    def per_epoch(self) -> int | None:
        """Batches of an epoch, or ``None`` if unknown."""
        with suppress(TypeError, NotImplementedError):
            return len(self._source)
        return None

    @property
    def batch_size(self) -> int | None:
        """Rows of a full batch, or ``None`` if unknown."""
        size = getattr(self._source, "batch_size", None)
        return size if isinstance(size, int) else None

    @property
    def row_multiple(self) -> int:
        """The rows of a batch are padded to a multiple of this number."""
        return row_multiple(self._device)

    @property
    def devices(self) -> tuple[jax.Device, ...]:
        """The devices that the batches go to."""
        device = self._device
        if isinstance(device, jax.sharding.Sharding):
            return tuple(sorted(device.device_set, key=lambda one: one.id))
        return (device,) if device is not None else (jax.local_devices()[0],)

    @property
    def _device(self) -> Any:
        device = getattr(self._source, "device", None)
        known = isinstance(device, jax.Device | jax.sharding.Sharding)
        return device if known else None


def _is_0d(source: Any) -> bool:
    """Whether this is an array without an axis, which counts as iterable."""
    return isinstance(source, np.ndarray | jax.Array) and source.ndim == 0


def _count_rows(source: Source) -> int | None:
    dataset = getattr(source, "dataset", None)
    if dataset is not None:
        with suppress(TypeError, NotImplementedError):
            return len(dataset)
        return None
    if isinstance(source, list | tuple):
        return sum(rows_of(batch)[0] for batch in source) or None
    return None


def rows_of(item: Any) -> tuple[int, int]:
    """Count the rows of data and of padding in an item of a loader.

    An item is a mapping or tuple of arrays, a single array, or a pair of a mapping and its number
    of padded rows. Anything else counts as no rows.

    Example:
        >>> rows_of(({"X": np.zeros((16, 2))}, 6)), rows_of([np.zeros(5), np.zeros(5)])
        ((10, 6), (5, 0))
    """
    n_pad = 0
    if isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], Mapping):
        item, n_pad = item[0], _as_int(item[1])
    return max(_leading(item) - n_pad, 0), n_pad


def _as_int(value: Any) -> int:
    return int(value) if isinstance(value, int | np.integer) else 0


def _leading(batch: Any) -> int:
    parts = batch.values() if isinstance(batch, Mapping) else batch
    if not isinstance(parts, Iterable) or hasattr(parts, "shape"):
        parts = (parts,)
    for part in parts:
        shape = getattr(part, "shape", ())
        if len(shape):
            return int(shape[0])
    return 0


def bytes_of(item: Any) -> int:
    """Count the bytes of the host arrays in an item of a loader; JAX arrays do not move again.

    Example:
        >>> bytes_of(({"X": np.zeros((4, 2), np.float32)}, 0))
        32
    """
    if isinstance(item, jax.Array):
        return 0
    if isinstance(item, Mapping):
        return sum(bytes_of(part) for part in item.values())
    if isinstance(item, list | tuple):
        return sum(bytes_of(part) for part in item)
    return int(getattr(item, "nbytes", 0))
