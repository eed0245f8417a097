"""The grid on which histograms of draws are counted: of integers, or of a linear or log scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int, Shaped

_BINS = 160
_TAIL = 0.002  # of the values at each end, which may lie far out
_SKEWED = 30  # times the median that a large value is, from which a log scale shows more


@dataclass(frozen=True)
class Grid:
    """Edges of bins.

    Attributes:
        edges: The edges.
        scale: The scale on which they are evenly spaced; roughly, on a log scale of integers.
        is_whole: Whether values are integers, and edges lie between them.
    """

    edges: Float[np.ndarray, " edge"]
    scale: Literal["linear", "log"] = "linear"
    is_whole: bool = False

    @property
    def n_bins(self) -> int:
        """Number of bins between the edges."""
        return len(self.edges) - 1

    def bins(self, values: Shaped[np.ndarray, ...]) -> Int[np.ndarray, ...]:
        """Return the bin of each value: 0 below the first edge, then 1, 2, ...

        Args:
            values: The values.
        """
        edges, n_bins = self.edges, self.n_bins
        if self.is_whole and self.scale == "log":
            return np.searchsorted(edges, values, side="right")
        step = (edges[-1] - edges[0]) / n_bins
        if self.scale == "log":
            step = np.log(edges[-1] / edges[0]) / n_bins
            with np.errstate(divide="ignore", invalid="ignore"):
                near = np.log(np.asarray(values, np.float64) / edges[0]) / step
            near = np.where(np.isnan(near), -1.0, near)
        else:
            near = (np.asarray(values, np.float64) - edges[0]) / step
        at = np.clip(near, -1, n_bins).astype(np.int64)
        at += np.asarray(values >= edges[np.clip(at + 1, 0, n_bins)])  # rounding may be off by one
        at -= np.asarray(values < edges[np.clip(at, 0, n_bins)])
        return np.clip(at, -1, n_bins) + 1

    def every(self, n_values: int) -> int:
        """Return how many bins to put together, so that a histogram of some values is smooth.

        Args:
            n_values: How many values there are.
        """
        if self.is_whole:
            return 1
        wanted = int(np.clip(4 * n_values ** (1 / 3), 16, _BINS))
        return next(k for k in (1, 2, 4, 5, 8, 10) if self.n_bins // k <= wanted or k == 10)

    def widths(self, every: int) -> Float[np.ndarray, " bin"]:
        """Return the widths of bins put together, on the scale of the grid.

        Args:
            every: How many are put together.
        """
        edges = self.edges[::every]
        return np.diff(np.log(edges) if self.scale == "log" else edges)


def choose_grid(observed: Float[np.ndarray, " row"], drawn: Float[np.ndarray, "draw some"]) -> Grid:
    """Choose a grid that holds all but the far tails of observed and of predicted values.

    Args:
        observed: The observed values.
        drawn: Predictions of some rows.
    """
    parts = [np.quantile(each, [0, _TAIL, 0.5, 1 - _TAIL, 1]) for each in (observed, drawn)]
    if all((each == np.round(each)).all() for each in (observed, drawn)):
        return _whole(*_ends(parts))
    middle = np.median([part[2] for part in parts])
    far = max(part[3] for part in parts)
    if min(part[0] for part in parts) > 0 and far > _SKEWED * middle:
        ends = _ends([np.log(part) for part in parts])
        return Grid(np.exp(np.linspace(*ends, _BINS + 1)), "log")
    low, high = _ends(parts)
    if high <= low:
        room = abs(low) * 0.1 or 1.0
        low, high = low - room, high + room
    room = 0.02 * (high - low)
    return Grid(np.linspace(low - room, high + room, _BINS + 1))


def _ends(parts: list[np.ndarray]) -> tuple[float, float]:
    """Return the ends of the values; those far beyond the others are left out."""
    low, high = min(part[1] for part in parts), max(part[3] for part in parts)
    room = high - low
    least, largest = min(part[0] for part in parts), max(part[4] for part in parts)
    return float(max(least, low - room)), float(min(largest, high + room))


def _whole(low: float, high: float) -> Grid:
    low, high = np.floor(low), np.ceil(high)
    step = max(1, int(np.ceil((high - low + 1) / _BINS)))
    count = int(np.ceil((high - low + 1) / step))
    return Grid(low - 0.5 + step * np.arange(count + 1), is_whole=True)
