"""A feed of batches of which each process reads a share."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int32

from aimz_lab.data import BatchSource, canonical
from aimz_lab.errors import DataError
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
from aimz_lab.inference.feeds.placement import Placement
from aimz_lab.inference.feeds.process_stream import ShareLayout
from aimz_lab.inference.feeds.ranges import ranges_to_tell, told_ranges
from aimz_lab.inference.feeds.training_data import HasRanges
from aimz_lab.types import HostRows, Rows


class ProcessStreamFeed:
    """Read this process's share of a stream, in step with the other processes.

    A step takes one batch of each share. Before each chunk the processes tell each other how many
    batches they have read; one whose share has ended brings rows of padding until all have. A chunk
    ends with its epoch.

    Args:
        source: This process's share.
        measured: The source below it that measures the range of what it reads.
        layout: How the rows of a step lie on the devices.
        placement: Devices of the batches.
        padding: A batch whose last row is the padding of a share without rows.
        epochs: Number of epochs.
        start: Position of the first step; each share is read from the batch of that number.
    """

    kind: FeedKind = "stacked"

    def __init__(
        self,
        source: BatchSource,
        measured: HasRanges,
        layout: ShareLayout,
        *,
        placement: Placement,
        padding: Rows,
        epochs: int,
        start: Position = BEGINNING,
    ) -> None:
        self._source, self._measured = source, measured
        self._layout, self._placement = layout, placement
        self._padding = {
            name: np.asarray(canonical(array, name))[-1:] for name, array in padding.items()
        }
        self._epochs, self._at = epochs, start
        self._n_read = 0  # in this epoch
        self._first_pass = FirstPass() if start.batch == 0 else None
        self._batches: Iterator[HostRows] | None = None
        self._held: HostRows | None = None
        self._told: object = None
        each = -(-layout.all_rows // layout.team.size)  # the same in all processes
        self.max_steps = chunk_capacity(row_bytes(self._padding), each)

    def next(self, steps: int, align: int) -> Chunk | None:
        """Return the next chunk, or ``None`` at the end; see :class:`Feed`.

        Raises:
            DataError: If no share has rows in an epoch, or a batch is wrong.
            ClusterError: If another process has failed.
        """
        del align  # each chunk ends with its epoch
        while self._at.epoch < self._epochs:
            own = self._read(min(steps, self.max_steps))
            told = {
                "rows": [_n_rows(batch) for batch in own],
                "more": self._held is not None,
                "ranges": self._ranges(),
            }
            each = self._layout.team.gather(told, "reads its stream")
            self._hear_ranges([one["ranges"] for one in each])
            is_over = not any(one["more"] for one in each)
            begin, counts = self._at, [one["rows"] for one in each]
            n_steps = max(map(len, counts))
            self._advance(n_steps, sum(map(sum, counts)), is_over=is_over)
            if n_steps:
                return self._chunk(own, counts, begin, is_over=is_over)
        return None

    def _read(self, most: int) -> list[HostRows]:
        """Read batches of the current epoch, and one ahead."""
        if self._batches is None:
            read = self._source.epoch(*self._at)
            self._batches = (
                {name: np.asarray(canonical(array, name)) for name, array in batch.items()}
                for batch in read
            )
            self._held = next(self._batches, None)
        own = []
        while self._held is not None and len(own) < most:
            own.append(self._held)
            self._held = next(self._batches, None)
        return own

    def _ranges(self) -> object:
        """What this process has to tell of the ranges of columns; ``None`` if nothing is new."""
        now = ranges_to_tell(self._measured.ranges)
        self._told, before = now, self._told
        return None if now == before else now

    def _hear_ranges(self, told: list[object]) -> None:
        for one in told:
            if one is not None:
                self._measured.ranges = told_ranges(self._measured.ranges, one)
        self._told = ranges_to_tell(self._measured.ranges)

    def _advance(self, n_steps: int, n_rows: int, *, is_over: bool) -> None:
        """Go on behind the steps of a chunk."""
        epoch, batch = self._at
        self._n_read += n_rows
        if self._first_pass is not None:
            self._first_pass = self._first_pass.then(n_rows, n_steps)
        self._at = Position(epoch, batch + n_steps)
        if not is_over:
            return
        if self._n_read == 0 and batch == 0:
            msg = f"Epoch {epoch + 1} has no batches in any process."
            raise DataError(msg)
        self._at, self._batches, self._n_read = Position(epoch + 1), None, 0
        self._first_pass = FirstPass() if self._first_pass is None else self._first_pass.ended()

    def _chunk(
        self, own: list[HostRows], counts: list[list[int]], begin: Position, *, is_over: bool
    ) -> Chunk:
        layout, n_steps = self._layout, max(map(len, counts))
        needed = [layout.holding(max(rows, default=0), rank) for rank, rows in enumerate(counts)]
        layout = layout._replace(device_rows=max(needed))
        slots = self.max_steps if layout == self._layout else n_steps
        buffers = {
            name: np.zeros((slots, layout.own_rows, *array.shape[1:]), array.dtype)
            for name, array in self._padding.items()
        }
        for step in range(n_steps):
            batch = own[step] if step < len(own) else {}
            n_rows = _n_rows(batch) if batch else 0
            if batch:
                self._padding = {name: batch[name][-1:] for name in self._padding}
            for name, buffer in buffers.items():
                if batch:
                    buffer[step, :n_rows] = batch[name]
                buffer[step, n_rows:] = self._padding[name]
        valid = np.ones((slots, sum(layout.devices)), np.int32)
        valid[:n_steps] = _rows_of_devices(counts, layout, n_steps)
        epoch = begin.epoch + 1
        return Chunk(
            feed=self._placement.put_own_rows(buffers, layout.all_rows, leading=1),
            valid=valid,
            epoch=np.full(n_steps, epoch, np.int32),
            n_pad=layout.all_rows - valid[:n_steps].sum(axis=1, dtype=np.int32),
            begin=begin,
            end=self._at,
            epoch_begins=(epoch,) if begin.batch == 0 else (),
            epoch_ends=(epoch,) if is_over else (),
            nbytes=bytes_of_steps(buffers, n_steps),
            first_pass=self._first_pass,
        )


def _rows_of_devices(
    counts: list[list[int]], layout: ShareLayout, n_steps: int
) -> Int32[np.ndarray, "step device"]:
    """Return how many rows of each step are data, on each device: a process fills its in order."""
    found = []
    for rows, n_devices in zip(counts, layout.devices, strict=True):
        own = np.zeros(n_steps, np.int64)
        own[: len(rows)] = rows
        before = layout.device_rows * np.arange(n_devices)
        found.append(np.clip(own[:, None] - before, 0, layout.device_rows))
    return np.concatenate(found, axis=1).astype(np.int32)


def _n_rows(batch: HostRows) -> int:
    return next(iter(batch.values())).shape[0]
