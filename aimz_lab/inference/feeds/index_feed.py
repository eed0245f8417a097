"""A feed of rows in memory: it gathers batches on the host and moves them in chunks.

Two host buffers take turns, so one chunk is gathered while the previous one computes. On the CPU
the steps read the buffers themselves; so a buffer is reused only after its chunk was waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int32

from aimz_lab.data import canonical
from aimz_lab.inference.feeds.feed import (
    BEGINNING,
    CHUNK_BYTES,
    Chunk,
    FeedKind,
    Position,
    bytes_of_steps,
    chunk_capacity,
    epochs_begun,
    epochs_ended,
    row_bytes,
)
from aimz_lab.inference.feeds.placement import Placement
from aimz_lab.types import Rows

INDEX_BYTES = 4 << 20
"""Upper bound for the bytes of one chunk's row numbers, if the rows are on the device and
:data:`FEWEST_STEPS` take no more."""

FEWEST_STEPS = 64
"""Steps of such a chunk at least, unless they take :data:`CHUNK_BYTES`: a GPU does a step on large
batches in less time than a host needs for a chunk."""

_ALIGNED = 64


def host_buffer(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return zeros that the CPU can compute on without a copy.

    JAX copies arrays that do not begin at a multiple of 64 bytes; NumPy's rarely do.
    """
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    memory = np.zeros(size + _ALIGNED, np.uint8)
    begin = -memory.ctypes.data % _ALIGNED
    return memory[begin : begin + size].view(dtype).reshape(shape)


class _Part(NamedTuple):
    """Batches of one chunk that are of one epoch.

    Attributes:
        epoch: Number of the epoch, from 0.
        rows: Row numbers of each batch, padding included.
        valid: Rows without padding of each batch.
    """

    epoch: int
    rows: Int[np.ndarray, "step row"]
    valid: Int32[np.ndarray, " step"]


class IndexFeed:
    """Batches of rows in memory, in a known order for each epoch.

    Args:
        arrays: Per-row arrays, on the host or the device.
        order: Returns the row numbers of an epoch in order, given its number.
        batch_size: Rows of a batch.
        epochs: Number of epochs.
        placement: Devices of the batches.
        padded: Pad the last, short batch to the size of the others; otherwise it is a chunk of its
            own.
        resident: Move ``arrays`` to the device once, and gather rows there.
        start: Position of the first batch.
    """

    def __init__(
        self,
        arrays: Rows,
        order: Callable[[int], Int[np.ndarray, " row"]],
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
        self._moved = 0  # bytes that the next chunk reports beside its own
        if resident:
            hosted = (array for array in self._arrays.values() if isinstance(array, np.ndarray))
            self._moved = sum(array.nbytes for array in hosted)
            self._arrays = placement.put_everywhere(self._arrays)
        else:
            self._arrays = {name: np.asarray(array) for name, array in self._arrays.items()}
        self._n = next(iter(self._arrays.values())).shape[0]
        self._order = order
        self._size = batch_size
        self._padded_size = -(-batch_size // placement.row_multiple) * placement.row_multiple
        self._padded = padded
        self._placement = placement
        self._own = placement.own_rows(self._padded_size)
        self._epochs = epochs
        self._at = start
        if resident:
            most = max(INDEX_BYTES, FEWEST_STEPS * 4 * self._padded_size)
            self.max_steps = chunk_capacity(4, self._padded_size, min(most, CHUNK_BYTES))
        else:
            self.max_steps = chunk_capacity(row_bytes(self._arrays), self._padded_size)
        self._ring = [self._buffers() for _ in range(2)]
        self._cached: tuple[int, np.ndarray] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch, including the short one."""
        return -(-self._n // self._size)

    def next(self, steps: int, align: int) -> Chunk | None:
        """Return the next chunk, or ``None`` at the end; see :class:`Feed`."""
        begin = self._at
        wanted = min(steps, self.max_steps)
        parts: list[_Part] = []
        epoch, batch = begin
        while wanted and epoch < self._epochs:
            part = self._part(epoch, batch, wanted, first=not parts)
            if not len(part.valid):
                break
            parts.append(part)
            wanted -= len(part.valid)
            batch += len(part.valid)
            if batch == self.steps_per_epoch:
                epoch, batch = epoch + 1, 0
                if align and epoch % align == 0:
                    break
            if not self._padded and part.valid[-1] != self._size:
                break
        if not parts:
            return None
        self._at = Position(epoch, batch)
        return self._chunk(parts, begin)

    def _part(self, epoch: int, batch: int, wanted: int, *, first: bool) -> _Part:
        """Return the next batches of an epoch."""
        matrix = self._epoch_matrix(epoch)
        end = min(batch + wanted, len(matrix))
        short = self._n - (len(matrix) - 1) * self._size
        if not self._padded and short < self._size and end == len(matrix):
            if batch < end - 1:
                end -= 1
            elif first:
                return _Part(epoch, matrix[batch:end, :short], np.array([short], np.int32))
            else:
                return _Part(epoch, matrix[:0], np.zeros(0, np.int32))
        valid = np.full(end - batch, self._size, np.int32)
        if end == len(matrix):
            valid[-1] = short
        return _Part(epoch, matrix[batch:end], valid)

    def _epoch_matrix(self, epoch: int) -> Int[np.ndarray, "batch row"]:
        """Return the row numbers of an epoch's batches, each padded with its last row."""
        if self._cached is not None and self._cached[0] == epoch:
            return self._cached[1]
        # NumPy would convert other integers before it gathers.
        order = np.asarray(self._order(epoch), np.intp)
        missing = self.steps_per_epoch * self._size - self._n
        if missing:
            order = np.concatenate([order, np.full(missing, order[-1])])
        matrix = order.reshape(-1, self._size)
        if self._padded_size > self._size:
            repeats = self._padded_size - self._size
            matrix = np.concatenate([matrix, np.repeat(matrix[:, -1:], repeats, axis=1)], axis=1)
        self._cached = (epoch, matrix)
        return matrix

    def _buffers(self) -> dict[str, np.ndarray]:
        own = self._own.stop - self._own.start
        if self.kind == "resident":
            return {"indices": host_buffer((self.max_steps, own), np.dtype(np.int32))}
        return {
            name: host_buffer((self.max_steps, own, *array.shape[1:]), array.dtype)
            for name, array in self._arrays.items()
        }

    def _chunk(self, parts: list[_Part], begin: Position) -> Chunk:
        rows = parts[0].rows.shape[1]
        if rows != self._padded_size:  # the short batch, a chunk of its own
            buffers = self._gathered(parts[0].rows[:, self._placement.own_rows(rows)])
        else:
            self._ring.reverse()
            buffers = self._ring[0]
            self._gather(parts, buffers)
        valid = np.concatenate([part.valid for part in parts])
        slots = np.ones(next(iter(buffers.values())).shape[0], np.int32)
        slots[: len(valid)] = valid
        feed = self._placement.put_own_rows(buffers, rows, leading=1)
        nbytes = bytes_of_steps(buffers, len(valid)) + self._moved
        self._moved = 0
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
            epoch=np.concatenate(
                [np.full(len(part.valid), part.epoch + 1, np.int32) for part in parts]
            ),
            n_pad=(rows - valid).astype(np.int32),
            begin=begin,
            end=self._at,
            epoch_begins=epochs_begun(first, last, per_epoch),
            epoch_ends=epochs_ended(first, last, per_epoch),
            nbytes=nbytes,
            rows_of=partial(_rows_of, parts),
        )

    def _gather(self, parts: Iterable[_Part], buffers: Mapping[str, np.ndarray]) -> None:
        """Write the batches of all parts into the slots of the buffers."""
        begin = 0
        for part in parts:
            end = begin + len(part.valid)
            own = part.rows[:, self._own]
            if self.kind == "resident":
                buffers["indices"][begin:end] = own
            else:
                flat = own.reshape(-1)
                for name, array in self._arrays.items():
                    out = buffers[name][begin:end].reshape(len(flat), *array.shape[1:])
                    # mode="clip" writes directly into out; the default writes to a copy first.
                    np.take(array, flat, axis=0, out=out, mode="clip")
            begin = end

    def _gathered(self, indices: Int[np.ndarray, "step row"]) -> dict[str, np.ndarray]:
        """Return batches in new arrays."""
        if self.kind == "resident":
            return {"indices": indices.astype(np.int32)}
        return {name: array[indices] for name, array in self._arrays.items()}


def _rows_of(parts: Iterable[_Part], step: int) -> Int[np.ndarray, " row"]:
    """Return the row numbers of a step of a chunk, without padding."""
    for part in parts:
        if step < len(part.valid):
            return part.rows[step, : part.valid[step]]
        step -= len(part.valid)
    msg = "The chunk has fewer steps."
    raise IndexError(msg)
