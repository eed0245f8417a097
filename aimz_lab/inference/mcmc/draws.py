"""Reading some values of the draws that a run of chains keeps, while it goes on."""

from __future__ import annotations

import math
from typing import TypeVar

import jax
import numpy as np

Array = TypeVar("Array", jax.Array, np.ndarray)


def read_draws(
    kept: jax.Array, rows: np.ndarray, at: np.ndarray, *, chain_axis: int | None
) -> np.ndarray:
    """Read some values of some draws of a site.

    Where NumPy can look at the array itself, nothing is compiled and nothing else is copied. It
    looks no longer than this takes: what is looked at cannot be written in place.

    Args:
        kept: The draws, shape ``(draw, *values)``, or with an axis of chains before or after that
            of the draws.
        rows: Which draws of each chain.
        at: Which values, as positions in a flattened draw.
        chain_axis: 0 or 1; ``None`` if ``kept`` has one chain and no axis for it.

    Returns:
        A copy, shape ``(chain, len(rows), len(at))``.
    """
    parts = _seen_by_numpy(kept, chain_axis)
    if parts is None:
        drawn = np.asarray(_read_on_device(kept, _padded(rows), _padded(at), chain_axis=chain_axis))
        return drawn[:, : len(rows), : len(at)].copy()
    return np.concatenate([chosen_draws(part, rows, at, chain_axis=chain_axis) for part in parts])


def _seen_by_numpy(kept: jax.Array, chain_axis: int | None) -> list[np.ndarray] | None:
    """Return the array as NumPy sees it, or its parts chain by chain; ``None`` where it cannot."""
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
    except (BufferError, RuntimeError):  # a type that NumPy does not have
        return None


def chosen_draws(kept: Array, rows: np.ndarray, at: np.ndarray, *, chain_axis: int | None) -> Array:
    """See :func:`read_draws`; by a name that is understood where programs are listed."""
    by_chain = kept[None] if chain_axis is None else kept.swapaxes(0, chain_axis)
    flat = by_chain.reshape(*by_chain.shape[:2], math.prod(by_chain.shape[2:]))
    return flat[:, rows[:, None], at]


_read_on_device = jax.jit(chosen_draws, static_argnames="chain_axis")


def _padded(index: np.ndarray) -> np.ndarray:
    """Lengthen to a power of two: what is read grows with a run, and each length is compiled."""
    return np.concatenate([index, np.zeros(-len(index) % _power_of_two(len(index)), index.dtype)])


def _power_of_two(length: int) -> int:
    return 1 << max(length - 1, 0).bit_length()
