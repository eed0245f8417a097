"""The order of the rows in an epoch, as a pure function of the key and the epoch's number.

Grain keeps its order the same way (``grain/_src/python/dataset/transformations/shuffle.py``): no
state is carried from one epoch to the next, so that a run can be resumed anywhere. Ours is made by
NumPy: a JAX permutation would compile anew for each number of rows.
"""

from __future__ import annotations

import jax
import numpy as np
from jaxtyping import Int

from aimz_lab.data.keys import as_typed_key, key_words
from aimz_lab.errors import ArgumentError


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
    seed = np.random.SeedSequence(key_words(as_typed_key(key)).tolist(), spawn_key=(epoch,))
    words = np.random.Philox(seed).random_raw(n)
    row_bits = np.uint64(max(n - 1, 1).bit_length())
    words >>= row_bits
    words <<= row_bits
    words |= np.arange(n, dtype=np.uint64)
    words.sort()
    words &= (np.uint64(1) << row_bits) - np.uint64(1)
    return words.view(np.int64)
