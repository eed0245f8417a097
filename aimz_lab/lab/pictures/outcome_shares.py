"""Draw the shares of whole numbers, as counts and outcomes of 0 and 1: they have no density."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from aimz_lab.lab import environment
from aimz_lab.lab.formatting import number, share
from aimz_lab.lab.pictures import ink
from aimz_lab.trust.histogram_grid import Grid, choose_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEVEL = 0.9
"""Share of the draws whose shares lie within the interval, value by value."""

_MOST_BARS = 40
_MOST_LETTERS = 60  # of labels side by side; more are turned
_WORTH_SAYING = 0.001  # of the values, beyond the ends of the picture
_CROWDED = 0.5  # of the values in one bin of several numbers: bins of equal width say nothing


def grid_of_whole(
    drawn: Float[np.ndarray, "draw value"], observed: Float[np.ndarray, " value"]
) -> Grid | None:
    """Return a bin for each whole number, or for several; ``None`` for other outcomes.

    Counts of very different sizes have bins that begin at 0, 1, 2, 5, 10, 20, 50, and so on.

    Args:
        drawn: Predicted values.
        observed: Observed ones, perhaps none.
    """
    finite = drawn[np.isfinite(drawn)]
    if not len(finite):
        return None
    grid = choose_grid(observed if len(observed) else finite, finite)
    if not grid.is_whole or _width(grid) == 1 or finite.min() < 0:
        return grid if grid.is_whole else None
    if _shares(grid, finite).max() < _CROWDED:
        return grid
    largest = max(finite.max(), observed.max(initial=0))
    begins = np.multiply.outer(10.0 ** np.arange(np.log10(largest) + 1), [1, 2, 5]).ravel()
    last = np.searchsorted(begins, largest, side="right")
    return Grid(np.r_[0, begins[: last + 1]] - 0.5, "log", is_whole=True)


def _width(grid: Grid) -> int:
    return int(grid.edges[1] - grid.edges[0])


def draw_shares(
    grid: Grid,
    drawn: Float[np.ndarray, "draw value"],
    observed: Float[np.ndarray, " value"],
    name: str,
    levels: Sequence[str] = (),
) -> Figure:
    """Draw the share of the rows at each value: observed, and predicted with an interval.

    Args:
        grid: The bins, as :func:`grid_of_whole` returns them.
        drawn: Predicted values.
        observed: Observed ones, perhaps none.
        name: What the values are.
        levels: What 0, 1, 2, ... stand for, if they are numbers of levels.

    Raises:
        OptionalDependencyError: If matplotlib is missing.
    """
    environment.require_matplotlib()
    from aimz_lab.lab.pictures.figure_layout import figure_of_axes

    figure = figure_of_axes(6.6, 3.2)
    axes = figure.subplots()
    if 0 < len(levels) <= _MOST_BARS:
        grid = Grid(np.arange(len(levels) + 1) - 0.5, is_whole=True)
    shares = np.stack([_shares(grid, draw) for draw in drawn])
    own = _shares(grid, observed) if len(observed) else None
    width = _width(grid)
    if grid.scale == "log":
        _draw_bars(axes, np.arange(grid.n_bins) + 0.5, shares, own)
        _label_bins(axes, grid)
        per = " in each bin"
    elif grid.n_bins <= _MOST_BARS and width == 1:
        _draw_bars(axes, grid.edges[:-1] + 0.5, shares, own)
        _label_values(axes, levels)
        per = ""
    else:
        _draw_steps(axes, grid, shares, own)
        per = f" in each {width:,} values" if width > 1 else ""
    axes.set_ylim(bottom=0)
    axes.set_ylabel(f"share of the rows{per}")
    axes.set_xlabel(name + _beyond(shares, own), parse_math=False)
    axes.set_facecolor(ink.PAPER)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    ink.adapt(figure)
    return figure


def _shares(grid: Grid, values: Float[np.ndarray, " value"]) -> Float[np.ndarray, " bin"]:
    """Return the share of the values in each bin; what lies beyond counts in the whole."""
    values = values[np.isfinite(values)]
    counts = np.bincount(grid.bins(values), minlength=grid.n_bins + 2)[1:-1]
    return counts / max(len(values), 1)


def _draw_bars(axes: Axes, at: np.ndarray, shares: np.ndarray, own: np.ndarray | None) -> None:
    if own is not None:
        axes.bar(at, own, 0.7, color=ink.ORANGE, alpha=0.7, label="observed")
    axes.plot(at, shares.mean(axis=0), "o", color=ink.BLUE, ms=5, label="predicted, mean")
    axes.vlines(at, *_interval(shares), color=ink.BLUE, lw=2, label=_label(shares))
    axes.set_xlim(at[0] - 0.5, at[-1] + 0.5)


def _label_values(axes: Axes, levels: Sequence[str]) -> None:
    """Label bars at whole numbers by these numbers, or by the levels that they stand for."""
    from matplotlib.ticker import MaxNLocator

    if not levels:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        return
    turned = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
    many = sum(map(len, levels)) > _MOST_LETTERS
    axes.set_xticks(range(len(levels)), levels, parse_math=False, **(turned if many else {}))


def _label_bins(axes: Axes, grid: Grid) -> None:
    """Label bars by the first number of their bins, where it is a power of ten."""
    begins = (grid.edges + 0.5).tolist()
    ticks = {at: begin for at, begin in enumerate(begins) if at % 3 == 1 or not at}
    labels = [f"{n:.0e}".replace("e+0", "e") if n >= 1e5 else number(n) for n in ticks.values()]
    axes.set_xticks(list(ticks), labels)


def _draw_steps(axes: Axes, grid: Grid, shares: np.ndarray, own: np.ndarray | None) -> None:
    if own is not None:
        axes.stairs(own, grid.edges, fill=True, color=ink.ORANGE, alpha=0.5, label="observed")
    low, high = _interval(shares)
    mean = shares.mean(axis=0)
    axes.stairs(mean, grid.edges, color=ink.BLUE, baseline=None, label="predicted, mean")
    axes.stairs(
        high, grid.edges, baseline=low, fill=True, color=ink.BLUE, alpha=0.25, label=_label(shares)
    )
    axes.set_ylim(0, 1.05 * max(high.max(), 0 if own is None else own.max()))


def _label(shares: Float[np.ndarray, "draw bin"]) -> str:
    return f"predicted, {LEVEL:.0%} of {len(shares)} draws"


def _interval(shares: Float[np.ndarray, "draw bin"]) -> Float[np.ndarray, "end bin"]:
    return np.quantile(shares, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)


def _beyond(shares: np.ndarray, own: np.ndarray | None) -> str:
    """Say which part of the values lies beyond the ends of the picture, if it is worth it."""
    parts = {"predicted": shares.sum(axis=1).mean()} | (
        {} if own is None else {"observed": own.sum()}
    )
    parts = {what: round(1 - float(inside), 9) for what, inside in parts.items()}
    if max(parts.values()) < _WORTH_SAYING:
        return ""
    return f" (beyond: {' and '.join(f'{share(part)} of {what}' for what, part in parts.items())})"
