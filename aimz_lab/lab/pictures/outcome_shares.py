"""Draw the shares of whole numbers, as counts and outcomes of 0 and 1: they have no density."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from aimz_lab.lab import environment
from aimz_lab.lab.formatting import share
from aimz_lab.lab.pictures import ink
from aimz_lab.trust.histogram_grid import Grid, choose_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEVEL = 0.9
"""Share of the draws whose shares lie within the interval, value by value."""

_MOST_BARS = 40
_WORTH_SAYING = 0.001  # of the values, beyond the ends of the picture


def grid_of_whole(
    drawn: Float[np.ndarray, "draw value"], observed: Float[np.ndarray, " value"]
) -> Grid | None:
    """Return a bin for each whole number, or for as many as fit; ``None`` for other outcomes.

    Args:
        drawn: Predicted values.
        observed: Observed ones, perhaps none.
    """
    finite = drawn[np.isfinite(drawn)]
    if not len(finite):
        return None
    grid = choose_grid(observed if len(observed) else finite, finite)
    return grid if grid.is_whole else None


def draw_shares(
    grid: Grid,
    drawn: Float[np.ndarray, "draw value"],
    observed: Float[np.ndarray, " value"],
    name: str,
) -> Figure:
    """Draw the share of the rows at each value: observed, and predicted with an interval.

    Args:
        grid: The bins, as :func:`grid_of_whole` returns them.
        drawn: Predicted values.
        observed: Observed ones, perhaps none.
        name: What the values are.

    Raises:
        OptionalDependencyError: If matplotlib is missing.
    """
    environment.require_matplotlib()
    from aimz_lab.lab.pictures.figure_layout import figure_of_axes

    figure = figure_of_axes(6.6, 3.2)
    axes = figure.subplots()
    shares = np.stack([_shares(grid, draw) for draw in drawn])
    own = _shares(grid, observed) if len(observed) else None
    label = f"predicted, {LEVEL:.0%} of {len(drawn)} draws"
    width = int(grid.edges[1] - grid.edges[0])
    draw = _draw_bars if grid.n_bins <= _MOST_BARS and width == 1 else _draw_steps
    draw(axes, grid, shares, own, label)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("share of the rows" + (f" in each {width:,} values" if width > 1 else ""))
    axes.set_xlabel(name + _beyond(shares, own), parse_math=False)
    axes.set_facecolor(ink.PAPER)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    ink.adapt(figure)
    return figure


def _shares(grid: Grid, values: Float[np.ndarray, " value"]) -> Float[np.ndarray, " bin"]:
    """Return the share of the values in each bin; what lies beyond counts in the whole."""
    values = values[np.isfinite(values)]
    counts = np.bincount(grid.bins(values), minlength=grid.n_bins + 2)[1:-1]
    return counts / max(len(values), 1)


def _draw_bars(
    axes: Axes, grid: Grid, shares: np.ndarray, own: np.ndarray | None, label: str
) -> None:
    from matplotlib.ticker import MaxNLocator

    at = grid.edges[:-1] + 0.5
    if own is not None:
        axes.bar(at, own, 0.7, color=ink.ORANGE, alpha=0.7, label="observed")
    axes.vlines(at, *_interval(shares), color=ink.BLUE, lw=2)
    axes.plot(at, shares.mean(axis=0), "o", color=ink.BLUE, ms=5, label=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(grid.edges[0], grid.edges[-1])


def _draw_steps(
    axes: Axes, grid: Grid, shares: np.ndarray, own: np.ndarray | None, label: str
) -> None:
    if own is not None:
        axes.stairs(own, grid.edges, fill=True, color=ink.ORANGE, alpha=0.5, label="observed")
    low, high = _interval(shares)
    axes.stairs(high, grid.edges, baseline=low, fill=True, color=ink.BLUE, alpha=0.25)
    axes.stairs(shares.mean(axis=0), grid.edges, color=ink.BLUE, baseline=None, label=label)
    axes.set_ylim(0, 1.05 * max(high.max(), 0 if own is None else own.max()))


def _interval(shares: Float[np.ndarray, "draw bin"]) -> Float[np.ndarray, "end bin"]:
    return np.quantile(shares, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)


def _beyond(shares: np.ndarray, own: np.ndarray | None) -> str:
    """Say which part of the values lies beyond the ends of the picture, if it is worth it."""
    parts = {"predicted": 1 - float(shares.sum(axis=1).mean())}
    if own is not None:
        parts["observed"] = 1 - float(own.sum())
    if max(parts.values()) < _WORTH_SAYING:
        return ""
    return f" (beyond: {' and '.join(f'{share(part)} of {what}' for what, part in parts.items())})"
