"""Join the sums of parts where they were computed, as a tree, so that few of them travel far."""

from __future__ import annotations

from aimz_lab.cluster.executors import DaskWorkers, PartFuture

_AT_A_TIME = 8
"""Neighbours that are joined at a time: a power of two, as sums are then joined to one."""


class SumsOnWorkers:
    """Sums of parts that stay on the workers.

    A worker joins eight neighbouring parts, later eight of such sums, and so on. Who does so
    changes no bit of the total; see ``predictive/reducers/pairwise_sums.py``.

    Args:
        workers: The workers.
    """

    def __init__(self, workers: DaskWorkers) -> None:
        self._workers = workers
        self._levels: list[list[PartFuture]] = []

    @property
    def futures(self) -> list[PartFuture]:
        """All that is kept on the workers."""
        return [future for level in self._levels for future in level]

    def add(self, part: PartFuture) -> None:
        """Take the next part."""
        self._add(part, 0)

    def total(self) -> PartFuture:
        """Join what is left, of all levels."""
        left: list[PartFuture] = []
        for level in self._levels:
            both = [*level, *left]  # sums of a higher level are those of earlier parts
            left = [self._workers.join(both)] if len(both) > 1 else both
        self._levels = [left]
        return left[0]

    def _add(self, future: PartFuture, height: int) -> None:
        if height == len(self._levels):
            self._levels.append([])
        level = self._levels[height]
        level.append(future)
        if len(level) == _AT_A_TIME:
            self._levels[height] = []
            self._add(self._workers.join(level), height + 1)
