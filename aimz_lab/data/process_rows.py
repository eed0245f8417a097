"""Rows of arrays that lie on the devices of several processes."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Shaped

from aimz_lab.types import Array


def all_devices() -> NamedSharding:
    """Return the sharding of rows over the devices of all processes."""
    return NamedSharding(Mesh(np.array(jax.devices()), ("rows",)), PartitionSpec("rows"))


def own_rows(sharding: NamedSharding, n_rows: int, *, leading: int = 0) -> slice:
    """Return the rows that lie on the devices of this process, which are neighbours.

    Args:
        sharding: Sharding of an array with ``leading`` axes in front of its rows.
        n_rows: Number of rows, over all processes.
        leading: Number of axes in front.
    """
    shape = (1,) * leading + (n_rows,)
    parts = [index[leading] for index in sharding.addressable_devices_indices_map(shape).values()]
    bounds = [part.indices(n_rows)[:2] for part in parts]
    return slice(min(first for first, _ in bounds), max(stop for _, stop in bounds))


def joined_rows(
    own: Mapping[str, Array], sharding: NamedSharding, n_rows: int, *, leading: int = 0
) -> dict[str, Shaped[jax.Array, ...]]:
    """Return arrays of all processes' rows, of which each gives its own.

    Args:
        own: This process's rows, as :func:`own_rows` says, by field.
        sharding: Sharding of the arrays.
        n_rows: Number of rows, over all processes.
        leading: Number of axes in front of the rows.
    """
    return {
        name: jax.make_array_from_process_local_data(
            sharding,
            np.asarray(array),
            (*array.shape[:leading], n_rows, *array.shape[leading + 1 :]),
        )
        for name, array in own.items()
    }


def spans_processes(device: object) -> bool:
    """Whether a device or sharding has devices of other processes."""
    return isinstance(device, jax.sharding.Sharding) and not device.is_fully_addressable
