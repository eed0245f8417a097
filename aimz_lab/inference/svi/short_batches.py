"""Notice short batches: the same one in each pass of a loop by hand, and a very short last one."""

from __future__ import annotations

import math
import zlib

import numpy as np

from aimz_lab.errors import FitWarning
from aimz_lab.tracebacks import warn
from aimz_lab.types import Rows

_BY_CHANCE = 1e-6
"""Probability of what a random order is not taken to do."""

_MUCH_SHORTER = 16
"""A batch so many times as short as the others has four times their noise."""


class ShortBatches:
    """Warns once if the same short batch comes again and again.

    A loop written by hand tells each step how many rows there are, and nothing of its epochs: a
    batch stands for all rows. In a random order that is right. In a fixed one, the same rows are
    in the short batch each time, and weigh more than the others.
    """

    def __init__(self) -> None:
        self._longest = 0
        self._last: int | None = None
        self._times = 0
        self._warned = False

    def see(self, rows: Rows, valid: int, n_obs: int | None) -> None:
        """Look at a batch; a long one costs nothing.

        Args:
            rows: Arrays of the batch.
            valid: Rows without padding.
            n_obs: Rows of the data set, or ``None`` if unknown.

        Warns:
            FitWarning: Once, if the short batch is the same as before, more often than by chance.
        """
        if valid >= self._longest or n_obs is None or self._warned:
            self._longest = max(valid, self._longest)
            return
        checksum = 0
        for array in rows.values():
            checksum = zlib.crc32(np.ascontiguousarray(array[:valid]).tobytes(), checksum)
        self._times = self._times + 1 if checksum == self._last else 0
        self._last = checksum
        if self._times * _log_choices(n_obs, valid) < -math.log(_BY_CHANCE):
            return
        self._warned = True
        msg = (
            f"The same batch of {valid:,} row{'s' * (valid > 1)} comes again, and others have "
            f"{self._longest:,}: the batches are always the same. Each stands for all {n_obs:,} "
            f"rows, so that a row of this one weighs {self._longest / valid:.3g} times as much as "
            "one of those. Shuffle the rows in each epoch, make the batches equal, or use fit, "
            "which weighs all rows the same."
        )
        warn(msg, FitWarning)


def _log_choices(n_obs: int, rows: int) -> float:
    """Log of the number of ways to choose some rows: a random order repeats few of few rows."""
    return math.lgamma(n_obs + 1) - math.lgamma(rows + 1) - math.lgamma(max(n_obs - rows, 0) + 1)


def short_batch_note(n_rows: int, batch_size: int) -> str | None:
    """Return a sentence on a last batch that is much shorter than the others, or ``None``.

    Rows in a random order weigh N over the rows of their batch, so that the noise of a gradient
    is as 1 over the root of their number.

    Args:
        n_rows: Rows of an epoch.
        batch_size: Rows of the other batches.

    Example:
        >>> print(short_batch_note(101, 20))
        The last batch of each epoch has 1 row and the others 20, yet it stands for all rows as they
        do: its step is 4.5 times as noisy. With batch_size=18 it has 11.
    """
    rest = n_rows % batch_size
    if not 0 < rest * _MUCH_SHORTER <= batch_size or rest == n_rows:
        return None
    better = next(size for size in range(batch_size - 1, 0, -1) if -n_rows % size <= size / 2)
    return (
        f"The last batch of each epoch has {rest:,} row{'s' if rest > 1 else ''} and the others "
        f"{batch_size:,}, yet it stands for all rows as they do: its step is "
        f"{math.sqrt(batch_size / rest):.2g} times as noisy. With batch_size={better:,} it has "
        f"{n_rows % better or better:,}."
    )
