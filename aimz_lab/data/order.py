"""The row order of an epoch: a pure function of the key and the epoch number.

No state is carried from one epoch to the next, so a run can resume anywhere. Grain does the same
(``grain/_src/python/dataset/transformations/shuffle.py``). NumPy computes the order, because a JAX
permutation would compile once for each number of rows.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64

from aimz_lab.data.checks import check_int_from
from aimz_lab.data.keys import as_typed_key, key_data
from aimz_lab.types import RandomKey

_BLOCK = 1 << 13
"""Rows to number at a time. Of 100,000 rows at once the numbers take as long as the sort: they do
not fit the cache, and their memory is fetched from the system anew for each epoch."""


def epoch_order(n: int, key: RandomKey, epoch: int) -> Int64[np.ndarray, " n"]:
    """Return the row numbers 0 to ``n - 1`` in the random order of one epoch.

    The order is the same on every platform, for any number of devices and with every release of
    NumPy. It uses only what NumPy promises not to change: ``SeedSequence`` and the raw stream of
    ``Philox`` (NEP 19). ``Generator.permutation`` has no such promise.

    Each row draws a random number, and the rows are sorted by it. Number and row share one 64-bit
    word, number first: a plain sort (several times faster than an argsort) then sorts the rows, and
    equal numbers are ordered by row. If the row takes b bits, the number has 64 - b: 44 for a
    million rows.

    Args:
        n: Number of rows.
        key: One random key, typed or legacy.
        epoch: Number of the epoch, from 0.

    Returns:
        A permutation of the row numbers.

    Raises:
        ArgumentError: If ``n`` or ``epoch`` is not an int of at least 0.

    Example:
        >>> import jax
        >>> epoch_order(8, jax.random.key(0), epoch=0)
        array([1, 4, 5, 6, 2, 0, 3, 7])
    """
    n, epoch = check_int_from(0, "n", n), check_int_from(0, "epoch", epoch)
    seed = np.random.SeedSequence(key_data(as_typed_key(key)).tolist(), spawn_key=(epoch,))
    words = np.random.Philox(seed).random_raw(n)
    row_bits = np.uint64(max(n - 1, 1).bit_length())
    of_row = (np.uint64(1) << row_bits) - np.uint64(1)
    for begin in range(0, n, _BLOCK):
        part = words[begin : begin + _BLOCK]
        part &= ~of_row
        part |= np.arange(begin, begin + len(part), dtype=np.uint64)
    words.sort()
    words &= of_row
    return words.view(np.int64)
