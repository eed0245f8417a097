"""Read draws of chains during their run."""

from __future__ import annotations

import math
from typing import TypeVar

import jax
import numpy as np
from jaxtyping import Int, Shaped

AnyArray = TypeVar("AnyArray", jax.Array, np.ndarray)


def read_draws(
    kept: jax.Array,
    rows: Int[np.ndarray, " draw"],
    at: Int[np.ndarray, " value"],
    *,
    chain_axis: int | None,
) -> Shaped[np.ndarray, "chain draw value"]:
    """Read some values of some draws of a site.

    On the CPU, NumPy views the array itself: nothing is compiled, and only the values are copied.
    The view ends with this call, since an array with a view cannot be written in place.

    Args:
        kept: The draws, shape ``(draw, *values)``, or with an axis of chains before or after that
            of the draws.
        rows: Indices of the draws of each chain.
        at: Positions of the values in a flattened draw.
        chain_axis: 0 or 1; ``None`` if ``kept`` has one chain and no axis for it.

    Returns:
        A copy, shape ``(chain, len(rows), len(at))``.
    """
    parts = _numpy_views(kept, chain_axis)
    if parts is None:
        drawn = np.asarray(_read_on_device(kept, _padded(rows), _padded(at), chain_axis=chain_axis))
        return drawn[:, : len(rows), : len(at)].copy()
    return np.concatenate([chosen_draws(part, rows, at, chain_axis=chain_axis) for part in parts])


def _numpy_views(kept: jax.Array, chain_axis: int | None) -> list[np.ndarray] | None:
    """View the array by NumPy, or its parts chain by chain; ``None`` if NumPy cannot."""
    if any(device.platform != "cpu" for device in kept.devices()):
        return None
    shards = kept.addressable_shards
    if kept.is_fully_replicated:
        shards = shards[:1]
    elif chain_axis != 0 or any(shard.data.shape[1:] != kept.shape[1:] for shard in shards):
        return None
    try:
        return [
            np.from_dlpack(shard.data)
            for shard in sorted(shards, key=lambda shard: shard.index[0].start or 0)
        ]
    except (BufferError, RuntimeError):  # NumPy lacks the type
        return None


def chosen_draws(
    kept: AnyArray, rows: np.ndarray, at: np.ndarray, *, chain_axis: int | None
) -> AnyArray:
    """See :func:`read_draws`. The name appears in lists of compiled programs."""
    by_chain = kept[None] if chain_axis is None else kept.swapaxes(0, chain_axis)
    flat = by_chain.reshape(*by_chain.shape[:2], math.prod(by_chain.shape[2:]))
    return flat[:, rows[:, None], at]


_read_on_device = jax.jit(chosen_draws, static_argnames="chain_axis")


def _padded(index: np.ndarray) -> np.ndarray:
    """Lengthen to a power of two: indices grow with the run, and each length compiles."""
    return np.concatenate([index, np.zeros(-len(index) % _power_of_two(len(index)), index.dtype)])


def _power_of_two(length: int) -> int:
    return 1 << max(length - 1, 0).bit_length()
