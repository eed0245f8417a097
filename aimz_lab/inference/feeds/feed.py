"""The contract of feeds: chunks of batches, moved to the devices together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import jax
import numpy as np
from jaxtyping import Int, Int32, PyTree

from aimz_lab.inference.feeds.first_pass import FirstPass
from aimz_lab.types import HasShape

FeedKind = Literal["stacked", "fixed", "resident"]
"""Where a step finds its batch.

``stacked``: in arrays ``(slot, row, ...)``; step i takes the i-th. ``fixed``: in arrays ``(row,
...)``; every step takes all rows. ``resident``: in arrays ``(n_obs, ...)`` on the device, at the
indices ``(slot, row)``.
"""

CHUNK_BYTES = 16 << 20
"""Upper bound for the bytes of one chunk; two are in flight, so the host holds twice as much."""

CHUNK_STEPS = 16384
"""Upper bound for the steps of one chunk."""


class Position(NamedTuple):
    """The position of a feed.

    Attributes:
        epoch: Number of the epoch, from 0.
        batch: Number of the next batch in it, from 0.
    """

    epoch: int = 0
    batch: int = 0


BEGINNING = Position()


@dataclass(frozen=True)
class Chunk:
    """The batches of one compiled call; its steps use the first slots.

    Attributes:
        feed: Arrays on the devices that hold the batches; see ``FeedKind``.
        valid: Rows without padding of each slot; of each of its parts of equal length, where each
            process pads its own.
        epoch: Epoch of each step, from 1.
        n_pad: Rows of padding of each step.
        begin: Position of the first batch.
        end: Position after the last batch.
        epoch_begins: Epochs, from 1, that begin in this chunk.
        epoch_ends: Epochs, from 1, that end in this chunk.
        nbytes: Bytes of the batches that were moved to the devices; empty slots do not count.
        rows_of: Returns the row numbers of a step of this chunk, if they are known.
        first_pass: Of a stream, its first pass up to the end of this chunk; ``None`` where its
            length was known before, or the epoch was read from within.
    """

    feed: Mapping[str, PyTree[jax.Array]]
    valid: Int32[np.ndarray, "slot ..."]
    epoch: Int32[np.ndarray, " step"]
    n_pad: Int32[np.ndarray, " step"]
    begin: Position
    end: Position
    epoch_begins: tuple[int, ...]
    epoch_ends: tuple[int, ...]
    nbytes: int
    rows_of: Callable[[int], Int[np.ndarray, " row"]] | None = None
    first_pass: FirstPass | None = None

    def __len__(self) -> int:
        return len(self.epoch)

    @property
    def rows(self) -> Int32[np.ndarray, " step"]:
        """Rows without padding of each step."""
        valid = self.valid[: len(self)]
        return valid if valid.ndim == 1 else valid.sum(axis=1, dtype=np.int32)


class Feed(Protocol):
    """Returns the chunks of a run, one after the other."""

    kind: FeedKind

    @property
    def max_steps(self) -> int:
        """Maximum number of steps in a chunk."""
        ...

    def next(self, steps: int, align: int) -> Chunk | None:
        """Return the next chunk, or ``None`` at the end of the last epoch.

        Args:
            steps: Maximum number of steps in the chunk.
            align: End the chunk with every ``align``-th epoch; 0 never does.
        """
        ...


def chunk_capacity(row_bytes: int, rows: int, most_bytes: int = CHUNK_BYTES) -> int:
    """Number of slots in a chunk for batches of this size.

    Empty slots are moved too, so that all chunks have one shape.

    Args:
        row_bytes: Bytes of one row of all fields.
        rows: Rows of a batch, padding included.
        most_bytes: Upper bound for the bytes of all slots.

    Example:
        >>> chunk_capacity(row_bytes=84, rows=256), chunk_capacity(row_bytes=1 << 20, rows=64)
        (780, 1)
    """
    return int(np.clip(most_bytes // max(row_bytes * rows, 1), 1, CHUNK_STEPS))


def bytes_of_steps(buffers: Mapping[str, np.ndarray], n_steps: int) -> int:
    """Bytes of the slots of a chunk that its steps use.

    Example:
        >>> bytes_of_steps({"y": np.zeros((780, 256), np.float32)}, n_steps=3)
        3072
    """
    return sum(buffer[:n_steps].nbytes for buffer in buffers.values())


def row_bytes(arrays: Mapping[str, HasShape]) -> int:
    """Bytes of one row of all arrays."""
    return sum(
        a.dtype.itemsize * int(np.prod(a.shape[1:], dtype=np.int64)) for a in arrays.values()
    )


def epochs_begun(begin: int, end: int, stride: int) -> tuple[int, ...]:
    """Numbers, from 1, of the epochs whose first step is in ``[begin, end)``."""
    first = -(-begin // stride)
    return tuple(range(first + 1, (end - 1) // stride + 2))


def epochs_ended(begin: int, end: int, stride: int) -> tuple[int, ...]:
    """Numbers, from 1, of the epochs whose last step is in ``[begin, end)``."""
    return tuple(range(begin // stride + 1, end // stride + 1))
