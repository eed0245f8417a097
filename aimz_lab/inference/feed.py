"""Chunks of batches: cut, gathered on the host, and moved to the devices together.

A feed hands out chunks one after the other. Its host buffers are two and take turns, so that one
chunk can be gathered while the one before it computes; a buffer is written again only after the
chunk that used it was waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from aimz_lab.data.arrays import canonical
from aimz_lab.inference.placement import Placement
from aimz_lab.inference.svi import FeedKind

CHUNK_BYTES = 8 << 20
"""Upper bound for the batches of one chunk; two chunks are in flight, so twice this on the host."""

INDEX_BYTES = 1 << 20
"""Upper bound for the row numbers of one chunk, where the rows themselves are on the device."""

CHUNK_STEPS = 4096
"""Upper bound for the steps of one chunk."""


class Position(NamedTuple):
    """Where a feed stands.

    Attributes:
        epoch: Number of the epoch, from 0.
        batch: Number of the next batch in it, from 0.
    """

    epoch: int = 0
    batch: int = 0


BEGINNING = Position()


@dataclass(frozen=True)
class Chunk:
    """Batches that run in one dispatch; ``k`` of ``capacity`` slots are used.

    Attributes:
        feed: What the step engine picks batches from, on the devices.
        valid: Rows without padding by slot, shape ``(capacity,)``.
        epoch: Epoch of each step from 1, shape ``(k,)``.
        n_pad: Rows of padding of each step, shape ``(k,)``.
        begin: Position of the first batch.
        end: Position after the last batch.
        epoch_begins: Epochs, from 1, whose first batch is here.
        epoch_ends: Epochs, from 1, whose last batch is here.
        nbytes: Bytes that were moved to the devices.
        rows_of: Row numbers of a step of this chunk, where they are known.
    """

    feed: Mapping[str, Any]
    valid: np.ndarray
    epoch: np.ndarray
    n_pad: np.ndarray
    begin: Position
    end: Position
    epoch_begins: tuple[int, ...]
    epoch_ends: tuple[int, ...]
    nbytes: int
    rows_of: Callable[[int], np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.epoch)


class Feed(Protocol):
    """Where a trainer gets its chunks."""

    kind: FeedKind

    @property
    def max_steps(self) -> int:
        """Most steps that a chunk can hold."""
        ...

    def next(self, steps: int, align: int) -> Chunk | None:
        """Return the next chunk, or ``None`` at the end of the last epoch.

        Args:
            steps: Most steps in it.
            align: It ends where an epoch ends whose number, from 1, is a multiple; 0 for nowhere.
        """
        ...


def chunk_capacity(row_bytes: int, rows: int, most_bytes: int = CHUNK_BYTES) -> int:
    """Slots of a chunk for batches of this size.

    All slots are moved, also those that a chunk leaves empty: every chunk has one shape.

    Args:
        row_bytes: Bytes of a row of all fields.
        rows: Rows of a batch, padding included.
        most_bytes: Upper bound for the slots together.

    Example:
        >>> chunk_capacity(row_bytes=84, rows=256), chunk_capacity(row_bytes=1 << 20, rows=64)
        (390, 1)
    """
    return int(np.clip(most_bytes // max(row_bytes * rows, 1), 1, CHUNK_STEPS))


def row_bytes(arrays: Mapping[str, Any]) -> int:
    """Bytes of one row of all arrays."""
    return sum(
        a.dtype.itemsize * int(np.prod(a.shape[1:], dtype=np.int64)) for a in arrays.values()
    )


class FixedFeed:
    """All rows in every step, without copies.

    Args:
        arrays: The rows' arrays, on the host or the device.
        n_rows: Rows without padding.
        epochs: Epochs to run.
        steps_per_epoch: Steps of an epoch; every one takes all rows.
        placement: Where the rows go.
        start: Position to begin at.
    """

    kind: FeedKind = "fixed"

    def __init__(
        self,
        arrays: Mapping[str, Any],
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
            epoch_begins=_begins(begin, end, self._per_epoch),
            epoch_ends=_ends(begin, end, self._per_epoch),
            nbytes=nbytes,
            rows_of=lambda _: self._rows,
        )


def _begins(begin: int, end: int, stride: int) -> tuple[int, ...]:
    """Numbers from 1 of the epochs whose first step is in ``[begin, end)``."""
    first = -(-begin // stride)
    return tuple(range(first + 1, (end - 1) // stride + 2))


def _ends(begin: int, end: int, stride: int) -> tuple[int, ...]:
    """Numbers from 1 of the epochs whose last step is in ``[begin, end)``."""
    return tuple(range(begin // stride + 1, end // stride + 1))


class IndexFeed:
    """Batches of rows that are in memory, in an order that is known for each epoch.

    Args:
        arrays: The rows' arrays; on the host, or on the device with ``resident``.
        order: Row numbers of an epoch, from its number.
        batch_size: Rows of a batch.
        epochs: Epochs to run.
        placement: Where batches go.
        padded: Pad the last, short batch to the size of the others; else it is a chunk of its own.
        resident: Gather rows on the device; ``arrays`` is then moved there once.
        start: Position to begin at.
    """

    def __init__(
        self,
        arrays: Mapping[str, Any],
        order: Callable[[int], np.ndarray],
        *,
        batch_size: int,
        epochs: int,
        placement: Placement,
        padded: bool = True,
        resident: bool = False,
        start: Position = BEGINNING,
    ) -> None:
        self.kind: FeedKind = "resident" if resident else "stacked"
        self._arrays = {name: canonical(array, name) for name, array in arrays.items()}
        if resident:
            self._arrays = placement.put_everywhere(self._arrays)
        else:
            self._arrays = {name: np.asarray(array) for name, array in self._arrays.items()}
        self._n = next(iter(self._arrays.values())).shape[0]
        self._order = order
        self._size = batch_size
        self._padded_size = -(-batch_size // placement.row_multiple) * placement.row_multiple
        self._padded = padded
        self._placement = placement
        self._epochs = epochs
        self._at = start
        if resident:
            self.max_steps = chunk_capacity(4, self._padded_size, INDEX_BYTES)
        else:
            self.max_steps = chunk_capacity(row_bytes(self._arrays), self._padded_size)
        self._ring = [self._buffers() for _ in range(2)]
        self._cached: tuple[int, np.ndarray] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch, the short one included."""
        return -(-self._n // self._size)

    def next(self, steps: int, align: int) -> Chunk | None:
        """Return the next chunk, or ``None`` at the end; see :class:`Feed`."""
        begin = self._at
        wanted = min(steps, self.max_steps)
        parts: list[np.ndarray] = []
        valid: list[np.ndarray] = []
        epochs: list[np.ndarray] = []
        epoch, batch = begin
        while wanted and epoch < self._epochs:
            indices, rows = self._segment(epoch, batch, wanted, first=not parts)
            if not len(indices):
                break
            parts.append(indices)
            valid.append(rows)
            epochs.append(np.full(len(rows), epoch + 1, np.int32))
            wanted -= len(rows)
            batch += len(rows)
            if batch == self.steps_per_epoch:
                epoch, batch = epoch + 1, 0
                if align and epoch % align == 0:
                    break
            if not self._padded and rows[-1] != self._size:
                break
        if not parts:
            return None
        self._at = Position(epoch, batch)
        return self._chunk(
            np.concatenate(parts), np.concatenate(valid), np.concatenate(epochs), begin
        )

    def _segment(
        self, epoch: int, batch: int, wanted: int, *, first: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers ``(m, rows)`` and valid rows ``(m,)`` of the next batches of an epoch."""
        matrix = self._epoch_matrix(epoch)
        end = min(batch + wanted, len(matrix))
        short = self._n - (len(matrix) - 1) * self._size
        if not self._padded and short < self._size and end == len(matrix):
            if batch < end - 1:
                end -= 1
            elif first:
                return matrix[batch:end, :short], np.array([short], np.int32)
            else:
                return matrix[:0], np.zeros(0, np.int32)
        rows = np.full(end - batch, self._size, np.int32)
        if end == len(matrix):
            rows[-1] = short
        return matrix[batch:end], rows

    def _epoch_matrix(self, epoch: int) -> np.ndarray:
        """Row numbers of all batches of an epoch, padded by each batch's last row."""
        if self._cached is not None and self._cached[0] == epoch:
            return self._cached[1]
        order = np.asarray(self._order(epoch), np.int32)
        full = self.steps_per_epoch * self._size
        order = np.concatenate([order, np.full(full - self._n, order[-1], np.int32)])
        matrix = order.reshape(-1, self._size)
        if self._padded_size > self._size:
            repeats = self._padded_size - self._size
            matrix = np.concatenate([matrix, np.repeat(matrix[:, -1:], repeats, axis=1)], axis=1)
        self._cached = (epoch, matrix)
        return matrix

    def _buffers(self) -> dict[str, np.ndarray]:
        if self.kind == "resident":
            return {"indices": np.zeros((self.max_steps, self._padded_size), np.int32)}
        return {
            name: np.zeros((self.max_steps, self._padded_size, *array.shape[1:]), array.dtype)
            for name, array in self._arrays.items()
        }

    def _chunk(
        self, indices: np.ndarray, valid: np.ndarray, epochs: np.ndarray, begin: Position
    ) -> Chunk:
        k, rows = indices.shape
        if rows != self._padded_size:
            resident = self.kind == "resident"
            buffers = (
                {"indices": indices}
                if resident
                else {name: array[indices] for name, array in self._arrays.items()}
            )
        else:
            self._ring.reverse()
            buffers = self._ring[0]
            self._gather(indices, buffers)
        slots = np.ones(next(iter(buffers.values())).shape[0], np.int32)
        slots[:k] = valid
        feed = self._placement.put_rows(buffers, leading=1)
        nbytes = sum(buffer.nbytes for buffer in buffers.values())
        if self.kind == "resident":
            feed = {**feed, "arrays": self._arrays}
        per_epoch = self.steps_per_epoch
        first, last = (
            begin.epoch * per_epoch + begin.batch,
            self._at.epoch * per_epoch + self._at.batch,
        )
        return Chunk(
            feed=feed,
            valid=slots,
            epoch=epochs,
            n_pad=(rows - valid).astype(np.int32),
            begin=begin,
            end=self._at,
            epoch_begins=_begins(first, last, per_epoch),
            epoch_ends=_ends(first, last, per_epoch),
            nbytes=nbytes,
            rows_of=lambda step: indices[step, : valid[step]],
        )

    def _gather(self, indices: np.ndarray, buffers: Mapping[str, np.ndarray]) -> None:
        k = len(indices)
        if self.kind == "resident":
            buffers["indices"][:k] = indices
            return
        flat = indices.reshape(-1)
        for name, array in self._arrays.items():
            out = buffers[name][:k].reshape(len(flat), *array.shape[1:])
            # mode="clip" writes straight into out; the default goes through a copy of it.
            np.take(array, flat, axis=0, out=out, mode="clip")
