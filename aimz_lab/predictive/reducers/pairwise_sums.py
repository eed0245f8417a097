"""Sums of numbered terms, in a tree whose shape depends on the numbers alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class _Node(NamedTuple):
    """The sum of ``count`` terms from ``first``, two halves of which were added."""

    first: int
    count: int
    total: np.ndarray


class PairwiseSums:
    """The sum of terms that are numbered and added in order.

    Neighbours are added, then sums of neighbours, and so on: Higham (2002), *Accuracy and
    Stability of Numerical Algorithms*, 4.1. Consecutive terms may be summed apart and joined, and
    the total is the same to the last bit. At most two sums for each power of two are kept.

    Args:
        first: Number of the first term.
    """

    def __init__(self, first: int = 0) -> None:
        self._nodes: list[_Node] = []
        self._next = first

    def add(self, term: np.ndarray) -> None:
        """Add the next term."""
        self._push(_Node(self._next, 1, term))

    def join(self, following: PairwiseSums) -> None:
        """Add the terms that follow, which were summed apart."""
        for node in following._nodes:
            self._push(node)

    @property
    def total(self) -> np.ndarray:
        """The sum of all terms."""
        *before, last = self._nodes
        total = last.total
        for node in reversed(before):
            total = node.total + total
        return total

    def _push(self, node: _Node) -> None:
        self._next = node.first + node.count
        while self._nodes and _are_halves(self._nodes[-1], node):
            before = self._nodes.pop()
            # Never in place: a worker that still has the halves may be asked for them again.
            node = _Node(before.first, 2 * node.count, before.total + node.total)
        self._nodes.append(node)


def _are_halves(one: _Node, other: _Node) -> bool:
    return one.count == other.count and one.first % (2 * one.count) == 0
