"""A feed whose steps all take the same rows."""

from __future__ import annotations

import numpy as np

from aimz_lab.data import canonical
from aimz_lab.inference.feeds.feed import (
    BEGINNING,
    CHUNK_STEPS,
    Chunk,
    FeedKind,
    Position,
    epochs_begun,
    epochs_ended,
)
from aimz_lab.inference.feeds.placement import Placement
from aimz_lab.types import Rows


class FixedFeed:
    """Give all rows to every step, without copies.

    Args:
        arrays: Per-row arrays, on the host or the device.
        n_rows: Rows without padding.
        epochs: Number of epochs.
        steps_per_epoch: Number of steps per epoch.
        placement: Devices of the rows.
        start: Position of the first step.
    """

    kind: FeedKind = "fixed"

    def __init__(
        self,
        arrays: Rows,
        n_rows: int,
        *,
        epochs: int,
        placement: Placement,
        steps_per_epoch: int = 1,
        start: Position = BEGINNING,
    ) -> None:
        canonicals = {name: canonical(array, name) for name, array in arrays.items()}
        rows = next(iter(canonicals.values())).shape[0]
        self._feed = placement.put_rows(canonicals)
        self._nbytes = sum(array.nbytes for array in self._feed.values())
        self._n_pad = rows - n_rows
        self._valid = np.full(CHUNK_STEPS, n_rows, np.int32)
        self._per_epoch = steps_per_epoch
        self._at = start.epoch * steps_per_epoch + start.batch
        self._total = epochs * steps_per_epoch
        self._rows = np.arange(n_rows)

    max_steps = CHUNK_STEPS

    def next(self, steps: int, align: int) -> Chunk | None:
        """Return the next chunk, or ``None`` at the end; see :class:`Feed`."""
        begin = self._at
        if begin >= self._total:
            return None
        end = min(begin + min(steps, self.max_steps), self._total)
        if align:
            stride = align * self._per_epoch
            end = min(end, (begin // stride + 1) * stride)
        self._at = end
        epoch = np.arange(begin, end, dtype=np.int32) // self._per_epoch
        nbytes, self._nbytes = self._nbytes, 0
        return Chunk(
            feed=self._feed,
            valid=self._valid,
            epoch=epoch + 1,
            n_pad=np.full(end - begin, self._n_pad, np.int32),
            begin=Position(*divmod(begin, self._per_epoch)),
            end=Position(*divmod(end, self._per_epoch)),
            epoch_begins=epochs_begun(begin, end, self._per_epoch),
            epoch_ends=epochs_ended(begin, end, self._per_epoch),
            nbytes=nbytes,
            rows_of=lambda _: self._rows,
        )
