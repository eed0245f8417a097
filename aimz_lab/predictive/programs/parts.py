"""Protocols for receivers of computed parts: ``Sink`` and ``Finish``."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import PyTree


class Span(NamedTuple):
    """The place of a part in the result: ``count`` entries from ``first`` along ``axis``.

    Attributes:
        axis: 0 for draws, 1 for rows.
        first: First entry.
        count: Number of entries.
    """

    axis: int
    first: int
    count: int


class Sink(Protocol):
    """Takes parts of the sites with rows; draws and rows lead."""

    def prepare(self, span: Span, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Do the work that needs no order, on the computing thread.

        Returns:
            The arrays for :meth:`write`, which takes the parts in order.
        """

    def write(self, span: Span, values: Mapping[str, np.ndarray]) -> None:
        """Take a part; its arrays are not valid afterwards."""


@runtime_checkable
class Finish(Protocol):
    """Reduces draws on the devices, within the compiled program."""

    @property
    def key(self) -> Hashable:
        """Identifies its programs."""

    def row_values(self, first: int, n_rows: int, n_blocks: int) -> PyTree[np.ndarray]:
        """Return values by row for :meth:`on_device`, ``(G, B, ...)``."""

    def on_device(
        self, values: Mapping[str, jax.Array], rows: PyTree[jax.Array]
    ) -> PyTree[jax.Array]:
        """Reduce draws ``(S, G, B, ...)``."""

    def take(self, first: int, n_rows: int, found: PyTree[np.ndarray]) -> None:
        """Take the result of some rows."""
