"""The order of the rows in an epoch, as a pure function of the key and the epoch's number.

Grain keeps its order the same way (``grain/_src/python/dataset/transformations/shuffle.py``): no
state is carried from one epoch to the next, so that a run can be resumed anywhere. Ours is made by
NumPy: a JAX permutation would compile anew for each number of rows.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from aimz_lab.errors import ArgumentError, DataTypeError


def as_typed_key(rng_key: Any) -> jax.Array:
    """Return one typed random key; a legacy ``uint32`` key is converted.

    Args:
        rng_key: From ``jax.random.key`` or ``jax.random.PRNGKey``.

    Raises:
        DataTypeError: If it is no key, or several.

    Example:
        >>> as_typed_key(jax.random.PRNGKey(7)) == jax.random.key(7)
        Array(True, dtype=bool)
    """
    dtype = getattr(rng_key, "dtype", None)
    if dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key):
        key = rng_key
    elif dtype == np.uint32 and np.ndim(rng_key):
        try:
            key = jax.random.wrap_key_data(jnp.asarray(rng_key))
        except (TypeError, ValueError) as error:
            msg = f"rng_key has the shape {np.shape(rng_key)} of no key; use jax.random.key(0)."
            raise DataTypeError(msg) from error
    else:
        kind = type(rng_key).__name__
        msg = f"rng_key must be a key such as jax.random.key(0), got {rng_key!r} ({kind})."
        raise DataTypeError(msg)
    if key.shape != ():
        msg = f"rng_key must be a single key, got an array of keys of shape {key.shape}; pass one."
        raise DataTypeError(msg)
    return key


def key_words(key: jax.Array) -> list[int]:
    """Return the 32-bit words of a key, as plain integers.

    Example:
        >>> key_words(jax.random.key(7))
        [0, 7]
    """
    return np.asarray(jax.random.key_data(key)).tolist()


def epoch_order(n: int, key: jax.Array, epoch: int) -> Int[np.ndarray, " row"]:
    """Return the row numbers 0 to ``n - 1`` in the random order of one epoch.

    The order is the same on every platform, for any number of devices and with every release of
    NumPy: it is made of what NumPy guarantees not to change (``SeedSequence`` and the raw stream of
    the ``Philox`` generator, see NEP 19), not of ``Generator.permutation``, which may.

    Every row draws a random number; the rows' order is that of these numbers. A number and its row
    share one 64-bit word, number first, so that a plain sort of values (several times faster than
    an argsort) does it and equal numbers are ordered by row. With b bits for the row there are 64 -
    b for the number: 44 for a million rows.

    Args:
        n: Number of rows.
        key: One random key, typed or legacy.
        epoch: Number of the epoch, from 0.

    Returns:
        A permutation, as ``int64``.

    Raises:
        ArgumentError: If ``n`` or ``epoch`` is negative.

    Example:
        >>> epoch_order(8, jax.random.key(0), epoch=0)
        array([1, 4, 5, 6, 2, 0, 3, 7])
    """
    if n < 0 or epoch < 0:
        msg = f"n={n} and epoch={epoch} must not be negative."
        raise ArgumentError(msg)
    seed = np.random.SeedSequence(key_words(as_typed_key(key)), spawn_key=(epoch,))
    words = np.random.Philox(seed).random_raw(n)
    row_bits = np.uint64(max(n - 1, 1).bit_length())
    words >>= row_bits
    words <<= row_bits
    words |= np.arange(n, dtype=np.uint64)
    words.sort()
    words &= (np.uint64(1) << row_bits) - np.uint64(1)
    return words.view(np.int64)
