"""Keys of draws, as words on the host."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import random

from aimz_lab.data import fold_in, key_data
from aimz_lab.data.keys import THREEFRY

GLOBAL_BLOCK = 0xFFFFFFFF
"""Block number of what is drawn once per draw; no block of rows reaches it."""


def draw_keys(key: jax.Array, n_draws: int) -> np.ndarray:
    """Return the keys of draws, ``(S, 2)``.

    The bits of generators other than Threefry may depend on what they are batched with, and every
    promise about noise rests on their not doing so; such a key gives a seed for Threefry.
    """
    if random.key_impl(key) != THREEFRY:
        key = random.key(random.bits(key, (), jnp.uint32), impl=THREEFRY)
    return fold_in(key_data(key), np.arange(n_draws))
