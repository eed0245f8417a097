"""The base of sources that read another one, and watch or check its batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from aimz_lab.data.ranged_source import can_be_cut, rows_between
from aimz_lab.data.sources import BatchSource
from aimz_lab.types import Batch, Columns


class WrappedSource(ABC):
    """A source with the size, fields and columns of another one.

    Args:
        source: The source that is read.
    """

    def __init__(self, source: BatchSource) -> None:
        self._source = source
        self.reiterable = source.reiterable

    @property
    def n_obs(self) -> int | None:
        """Rows of the whole data, if the source knows."""
        return self._source.n_obs

    @property
    def n_batches(self) -> int | None:
        """Batches of an epoch, if the source knows."""
        return self._source.n_batches

    @property
    def epoch_rows(self) -> int | None:
        """Rows of an epoch where they were counted; otherwise ``None``."""
        return self._source.epoch_rows

    @property
    def columns(self) -> Columns:
        """Column names of each field that is a table, if they are known."""
        return self._source.columns

    @property
    def fields(self) -> tuple[str, ...] | None:
        """The fields' names; ``None`` before the first batch is read."""
        return self._source.fields

    @property
    def can_be_cut(self) -> bool:
        """Whether any range of its rows can be read alone."""
        return can_be_cut(self._source)

    def check_there(self) -> None:
        """Check that this process sees the arrays; only of a source that can be cut."""
        self._source.check_there()

    def between(self, first: int, count: int) -> WrappedSource:
        """Return ``count`` rows from ``first``, wrapped likewise."""
        return self._wrapping(rows_between(self._source, first, count), first)

    @abstractmethod
    def _wrapping(self, part: BatchSource, first: int) -> WrappedSource:
        """Wrap a part of the source likewise; its rows begin at ``first``."""

    @abstractmethod
    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Return the batches of one epoch."""
