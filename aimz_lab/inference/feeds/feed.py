"""Chunks of batches, which move to the devices together, and what hands them out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from aimz_lab.inference.svi.compiled_steps import FeedKind

CHUNK_BYTES = 16 << 20
"""Upper bound for the batches of one chunk; two chunks are in flight, so twice this on the host."""

CHUNK_STEPS = 16384
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
        (780, 1)
    """
    return int(np.clip(most_bytes // max(row_bytes * rows, 1), 1, CHUNK_STEPS))


def row_bytes(arrays: Mapping[str, Any]) -> int:
    """Bytes of one row of all arrays."""
    return sum(
        a.dtype.itemsize * int(np.prod(a.shape[1:], dtype=np.int64)) for a in arrays.values()
    )


def epochs_begun(begin: int, end: int, stride: int) -> tuple[int, ...]:
    """Numbers from 1 of the epochs whose first step is in ``[begin, end)``."""
    first = -(-begin // stride)
    return tuple(range(first + 1, (end - 1) // stride + 2))


def epochs_ended(begin: int, end: int, stride: int) -> tuple[int, ...]:
    """Numbers from 1 of the epochs whose last step is in ``[begin, end)``."""
    return tuple(range(begin // stride + 1, end // stride + 1))
