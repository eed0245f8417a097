"""A feed of batches from any source, read one after the other.

As in :mod:`aimz_lab.inference.feeds.index_feed`, two host buffers take turns, and a buffer is
reused only after its chunk was waited for.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from aimz_lab.data import BatchSource, canonical
from aimz_lab.errors import FitWarning
from aimz_lab.inference.feeds.feed import (
    BEGINNING,
    Chunk,
    FeedKind,
    Position,
    bytes_of_steps,
    chunk_capacity,
    row_bytes,
)
from aimz_lab.inference.feeds.first_pass import FirstPass
from aimz_lab.inference.feeds.index_feed import host_buffer
from aimz_lab.inference.feeds.placement import Placement
from aimz_lab.tracebacks import warn
from aimz_lab.types import HostRows


class StreamFeed:
    """Read the batches of a source, one after the other.

    Args:
        source: The source.
        batch_size: Expected rows of a batch: those of the first one.
        epochs: Number of epochs.
        placement: Devices of the batches.
        padded: Pad shorter batches to the size of the first; otherwise a batch of another size is a
            chunk of its own.
        start: Position of the first batch.
        expects_equal: Warn of a batch of another size: the kernel scales rows by their number in
            the call, and nobody knows how many rows there are.
    """

    kind: FeedKind = "stacked"

    def __init__(
        self,
        source: BatchSource,
        *,
        batch_size: int,
        epochs: int,
        placement: Placement,
        padded: bool = True,
        start: Position = BEGINNING,
        expects_equal: bool = False,
    ) -> None:
        self._source = source
        self._expected = batch_size if expects_equal else None
        self._first_pass = FirstPass() if start.batch == 0 else None
        self._epochs = epochs
        self._placement = placement
        self._padded = padded
        self._at = start
        self._batches = self._open(start)
        self._held = next(self._batches, None)
        self._rows = _padded_size(batch_size, placement)
        each = 0 if self._held is None else row_bytes(self._held)
        self.max_steps = chunk_capacity(each, self._rows)
        self._ring: list[dict[str, np.ndarray]] = [{}, {}]

    def next(self, steps: int, align: int) -> Chunk | None:
        """Return the next chunk, or ``None`` at the end; see :class:`Feed`."""
        begin = self._at
        batches: list[dict[str, np.ndarray]] = []
        epochs: list[int] = []
        begins: list[int] = []
        ends: list[int] = []
        while self._held is not None and len(batches) < min(steps, self.max_steps):
            size = _n_rows(self._held)
            if batches and not self._fits(size, _n_rows(batches[0])):
                break
            batches.append(self._held)
            epoch, batch = self._at
            epochs.append(epoch + 1)
            if batch == 0:
                begins.append(epoch + 1)
            if self._advance():
                ends.append(epoch + 1)
                if align and (epoch + 1) % align == 0:
                    break
        if not batches:
            return None
        return self._chunk(batches, epochs, begin, begins, ends)

    def _fits(self, size: int, first: int) -> bool:
        return max(size, first) <= self._rows if self._padded else size == first

    def _open(self, start: Position) -> Iterator[HostRows]:
        if start.epoch >= self._epochs:
            return
        for batch in self._source.epoch(start.epoch, start.batch):
            yield {name: canonical(array, name) for name, array in batch.items()}

    def _advance(self) -> bool:
        """Read one batch ahead; return whether the current batch was its epoch's last."""
        if self._first_pass is not None:
            self._first_pass = self._first_pass.then(_n_rows(self._held))
        if self._expected not in (None, _n_rows(self._held)):
            _warn_of_another_size(_n_rows(self._held), self._expected)
            self._expected = None
        self._held = next(self._batches, None)
        if self._held is not None:
            self._at = self._at._replace(batch=self._at.batch + 1)
            return False
        # After an epoch that was resumed within, the next one is read from its beginning.
        self._first_pass = FirstPass() if self._first_pass is None else self._first_pass.ended()
        self._at = Position(self._at.epoch + 1)
        if self._at.epoch < self._epochs:
            self._batches = self._open(self._at)
            self._held = next(self._batches, None)
        return True

    def _chunk(
        self,
        batches: list[dict[str, np.ndarray]],
        epochs: list[int],
        begin: Position,
        begins: list[int],
        ends: list[int],
    ) -> Chunk:
        valid = np.array([_n_rows(batch) for batch in batches], np.int32)
        if self._padded:
            rows = max(self._rows, _padded_size(int(valid.max()), self._placement))
        else:
            rows = int(valid[0])
        slots = self.max_steps if rows == self._rows else len(batches)
        buffers = self._buffers(batches[0], slots, rows)
        for i, batch in enumerate(batches):
            for name, array in batch.items():
                buffers[name][i, : valid[i]] = array
                if valid[i] < rows:
                    buffers[name][i, valid[i] :] = array[-1:]
        slot_valid = np.ones(slots, np.int32)
        slot_valid[: len(valid)] = valid
        return Chunk(
            feed=self._placement.put_rows(buffers, leading=1),
            valid=slot_valid,
            epoch=np.array(epochs, np.int32),
            n_pad=rows - valid,
            begin=begin,
            end=self._at,
            epoch_begins=tuple(begins),
            epoch_ends=tuple(ends),
            nbytes=bytes_of_steps(buffers, len(batches)),
            first_pass=self._first_pass,
        )

    def _buffers(self, like: HostRows, slots: int, rows: int) -> dict[str, np.ndarray]:
        """Return buffers for batches: those of the chunk before the last, if they fit."""
        self._ring.reverse()
        shapes = {name: (slots, rows, *array.shape[1:]) for name, array in like.items()}
        if shapes != {name: buffer.shape for name, buffer in self._ring[0].items()}:
            self._ring[0] = {
                name: host_buffer(shape, like[name].dtype) for name, shape in shapes.items()
            }
        return self._ring[0]


def _warn_of_another_size(n_rows: int, expected: int) -> None:
    msg = (
        f"A batch of the stream has {n_rows:,} rows and the first one {expected:,}. The kernel "
        "scales each batch to all rows, so that rows of a smaller batch weigh more. Say how many "
        "rows there are, fit(..., n_obs=N), and all of them will weigh the same; or make the "
        "batches equal."
    )
    warn(msg, FitWarning)


def _n_rows(batch: HostRows) -> int:
    return next(iter(batch.values())).shape[0]


def _padded_size(rows: int, placement: Placement) -> int:
    return -(-rows // placement.row_multiple) * placement.row_multiple
