"""Chunks of batches of rows that are in memory: cut, gathered on the host, and moved together.

The host buffers are two and take turns, so that one chunk can be gathered while the one before it
computes; a buffer is written again only after the chunk that used it was waited for. On the CPU the
steps read the buffers themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from aimz_lab.data import canonical
from aimz_lab.inference.feeds.feed import (
    BEGINNING,
    Chunk,
    Position,
    chunk_capacity,
    epochs_begun,
    epochs_ended,
    row_bytes,
)
from aimz_lab.inference.feeds.placement import Placement
from aimz_lab.inference.svi.compiled_steps import FeedKind

INDEX_BYTES = 1 << 20
"""Upper bound for the row numbers of one chunk, where the rows themselves are on the device."""

_ALIGNED = 64


def host_buffer(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array of zeros that a computation on the CPU reads where it is.

    JAX copies arrays that do not begin at a multiple of 64 bytes, which NumPy's rarely do.
    """
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    memory = np.zeros(size + _ALIGNED, np.uint8)
    begin = -memory.ctypes.data % _ALIGNED
    return memory[begin : begin + size].view(dtype).reshape(shape)


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

    @property
    def example(self) -> tuple[Mapping[str, Any], np.ndarray]:
        """Arrays like ``feed`` and ``valid`` of the first chunk."""
        feed = dict(self._ring[0])
        if self.kind == "resident":
            feed["arrays"] = self._arrays
        return feed, np.ones(self.max_steps, np.int32)

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
            return {"indices": host_buffer((self.max_steps, self._padded_size), np.dtype(np.int32))}
        return {
            name: host_buffer((self.max_steps, self._padded_size, *array.shape[1:]), array.dtype)
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
            epoch_begins=epochs_begun(first, last, per_epoch),
            epoch_ends=epochs_ended(first, last, per_epoch),
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
