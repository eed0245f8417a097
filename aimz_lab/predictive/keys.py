"""Keys of draws and blocks, derived on the host.

The same keys as ``jax.random.fold_in`` gives; but what NumPy derives in a millisecond adds no tenth
of a second to what has to be compiled.
"""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax import random

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)

GLOBAL_BLOCK = 0xFFFFFFFF
"""Block number of what is drawn once per draw; no block of rows reaches it."""


def key_words(key: jax.Array) -> np.ndarray:
    """Return the two words of a key of Threefry, ``(2,)``.

    The bits of other generators may depend on what they are batched with, and every promise about
    noise rests on their not doing so; such a key gives a seed for Threefry.
    """
    if random.key_impl(key) != "threefry2x32":
        key = random.key(random.bits(key, (), jnp.uint32), impl="threefry2x32")
    return np.asarray(random.key_data(key))


def fold_in(keys: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Derive keys from keys and numbers, elementwise.

    Threefry-2x32 with 20 rounds; Salmon, Moraes, Dror and Shaw (2011), "Parallel random numbers: as
    easy as 1, 2, 3".

    Args:
        keys: Words of keys, ``(..., 2)``.
        numbers: Numbers below 2^32, ``(...)``; both are broadcast.

    Returns:
        Words of the new keys, ``(..., 2)``.

    Example:
        >>> one = fold_in(key_words(jax.random.key(3)), np.arange(4))[2]
        >>> bool((one == jax.random.key_data(jax.random.fold_in(jax.random.key(3), 2))).all())
        True
    """
    first, second = keys[..., 0], keys[..., 1]
    schedule = itertools.cycle((second, first ^ second ^ _PARITY, first))
    ahead, behind = next(schedule), next(schedule)
    x, y = np.broadcast_arrays(first, second + np.asarray(numbers, dtype=np.uint32))
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x = x + y
            y = x ^ (y << np.uint32(rotation) | y >> np.uint32(32 - rotation))
        x, y = x + ahead, y + behind + np.uint32(group + 1)
        ahead, behind = behind, next(schedule)
    return np.stack([x, y], axis=-1)


def draw_keys(key: jax.Array, n_draws: int) -> np.ndarray:
    """Return the keys of draws, ``(S, 2)``."""
    return fold_in(key_words(key), np.arange(n_draws))


def block_keys(of_draws: np.ndarray, first: int, n_blocks: int) -> np.ndarray:
    """Return the keys of some blocks for each draw, ``(G, S, 2)``."""
    return fold_in(of_draws, np.arange(first, first + n_blocks)[:, None])
