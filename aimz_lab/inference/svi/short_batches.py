"""Notice a hand-written loop whose batches come in a fixed order, the last one short."""

from __future__ import annotations

import zlib

import numpy as np

from aimz_lab.errors import FitWarning
from aimz_lab.tracebacks import warn
from aimz_lab.types import Rows


class ShortBatches:
    """Warns once if the same short batch comes again.

    A loop written by hand tells each step how many rows there are, and nothing of its epochs: a
    batch stands for all rows. In a random order that is right. In a fixed one, the same rows are
    in the short batch each time, and weigh more than the others.
    """

    def __init__(self) -> None:
        self._longest = 0
        self._seen: set[int] = set()
        self._warned = False

    def see(self, rows: Rows, valid: int, n_obs: int | None) -> None:
        """Look at a batch; a long one costs nothing.

        Args:
            rows: Arrays of the batch.
            valid: Rows without padding.
            n_obs: Rows of the data set, or ``None`` if unknown.

        Warns:
            FitWarning: Once, if the same short batch was seen before.
        """
        if valid >= self._longest or n_obs is None or self._warned:
            self._longest = max(valid, self._longest)
            return
        checksum = 0
        for array in rows.values():
            checksum = zlib.crc32(np.ascontiguousarray(array[:valid]).tobytes(), checksum)
        if checksum not in self._seen:
            self._seen.add(checksum)
            return
        self._warned = True
        msg = (
            f"The same batch of {valid:,} rows comes again, and others have {self._longest:,}: the "
            f"batches are always the same. Each stands for all {n_obs:,} rows, so that a row of "
            f"this one weighs {self._longest / valid:.3g} times as much as one of those. Shuffle "
            "the rows in each epoch, make the batches equal, or use fit, which weighs all rows the "
            "same."
        )
        warn(msg, FitWarning)
