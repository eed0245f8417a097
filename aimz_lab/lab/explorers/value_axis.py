"""The axis of a histogram, chosen by the values: linear, or logarithmic where a few reach far."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from aimz_lab.lab.explorers.charts import Scale

_BINS = 60
_MOST_COUNTS = 120  # whole numbers that have a bin of their own
_INSET = 1e-3  # of a jump, so that the pointer reads at a whole number the share up to it
_FAR = 10.0
"""Values further than this many spreads from the median squeeze all others into a few bins.

The spread is the middle half. The outermost of 200 draws lie 2 of them off under a normal
distribution, 4 under an exponential one, 8 under a lognormal one and 30 under a Cauchy one.
"""

_DENSITIES = {"linear": "density", "log": "density of log {}", "log1p": "density of log(1 + {})"}


@dataclass(frozen=True)
class ValueAxis:
    """The bins of a histogram, and the scale of its axis.

    Attributes:
        edges: Edges of the bins.
        scale: The scale on which the bins, but those of single counts, are equally wide.
        is_whole: Whether the values are whole numbers, and the edges lie between them.
    """

    edges: np.ndarray
    scale: Scale = "linear"
    is_whole: bool = False

    @property
    def ends(self) -> tuple[float, float]:
        """The ends of the axis."""
        return float(self.edges[0]), float(self.edges[-1])

    @property
    def has_single_numbers(self) -> bool:
        """Whether each bin is one of whole numbers, all equally far from each other."""
        return self.is_whole and self.scale == "linear"

    @property
    def places(self) -> np.ndarray:
        """The middle of each bin; of one of counts, that between its least and largest count."""
        within = 0.5 if self.is_whole else 0.0
        low, high = (
            _ON[self.scale](one) for one in (self.edges[:-1] + within, self.edges[1:] - within)
        )
        return _BACK[self.scale]((low + high) / 2)

    def shares(self, values: np.ndarray) -> np.ndarray:
        """Return the share of the values in each bin; what lies outside counts in the whole."""
        counts, _ = np.histogram(values, self.edges)
        return counts / max(len(values), 1)

    def density(self, values: np.ndarray) -> np.ndarray:
        """Return the density of each bin on the scale of the axis."""
        return self.shares(values) / np.diff(_ON[self.scale](self.edges))

    def density_label(self, name: str) -> str:
        """Return what :meth:`density` is, for values of this name."""
        return _DENSITIES[self.scale].format(name)


_ON = {"linear": np.asarray, "log": np.log, "log1p": np.log1p}
_BACK = {"linear": np.asarray, "log": np.exp, "log1p": np.expm1}


def axis_for(values: np.ndarray, data: np.ndarray | None) -> ValueAxis:
    """Return an axis that holds most of the draws and all of the data.

    Its ends are round, so that the axis stays while a prior moves a little. Where a few values
    reach far, it is the logarithmic one if none is negative. Else it leaves out the draws there.

    Args:
        values: The draws, flat.
        data: The data, or ``None``.
    """
    usual = values[np.isfinite(values)]
    low, high = np.quantile(usual, [0.005, 0.995]) if len(usual) else (0.0, 1.0)
    near_low, near_high = _near(usual)
    known = usual if data is None else np.concatenate([usual, data])
    if data is not None and len(data):
        low, high = min(low, float(data.min())), max(high, float(data.max()))
        near_low, near_high = min(near_low, float(data.min())), max(near_high, float(data.max()))
    is_whole = bool(np.all(known == np.round(known)))
    if len(known) and high > _near(known)[1] and np.min(known) >= 0:
        if is_whole:
            return ValueAxis(_count_edges(low, high), "log1p", is_whole=True)
        if low > 0:
            return ValueAxis(np.geomspace(_rounded(low, -1), _rounded(high, 1), _BINS + 1), "log")
    low, high = max(low, near_low), min(high, near_high)
    if is_whole and high - low <= _MOST_COUNTS:
        edges = np.arange(math.floor(low), math.ceil(high) + 2) - 0.5
        return ValueAxis(edges, is_whole=True)
    wide = max(high - low, 1e-9 * max(abs(low), abs(high), 1e-3))
    unit = 10.0 ** math.floor(math.log10(wide)) / 2
    edges = np.linspace(math.floor(low / unit) * unit, math.ceil(high / unit) * unit, _BINS + 1)
    return ValueAxis(edges)


def whole_ecdf(edges: np.ndarray, heights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return places and heights of a cumulative share of whole numbers, which jumps at each.

    A bin of several numbers has a slope from its least to its largest.

    Args:
        edges: Edges of bins, between whole numbers.
        heights: Share below each edge.
    """
    least, largest = edges[:-1] + 0.5 - _INSET, edges[1:] - 0.5
    jumps = np.stack([least, largest], axis=1).ravel()
    return np.concatenate([edges[:1], jumps, edges[-1:]]), np.repeat(heights, 2)


def _near(values: np.ndarray) -> tuple[float, float]:
    """Return the ends of what lies near the median."""
    if not len(values):
        return -math.inf, math.inf
    tenth, low, middle, high, nine_tenths = np.quantile(values, [0.1, 0.25, 0.5, 0.75, 0.9])
    # More than half of the values may be one, such as zero.
    spread = max(high - low, (nine_tenths - tenth) / 4)
    if spread == 0:
        return -math.inf, math.inf
    return middle - _FAR * spread, middle + _FAR * spread


def _rounded(value: float, direction: int) -> float:
    """Round a positive number to one digit, down or up."""
    unit = 10.0 ** math.floor(math.log10(value))
    return unit * (math.floor(value / unit) if direction < 0 else math.ceil(value / unit))


def _count_edges(low: float, high: float) -> np.ndarray:
    """Return edges between whole numbers, about equally far from each other after ``log1p``."""
    ends = np.log1p([math.floor(low), _rounded(high, 1)])
    return np.unique(np.round(np.expm1(np.linspace(*ends, _BINS + 1)))) - 0.5
