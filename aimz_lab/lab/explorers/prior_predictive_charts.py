"""Charts of prior predictive draws beside the data, and a table of draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from aimz_lab.lab.explorers.charts import (
    MOST_POINTS,
    Band,
    Bars,
    Chart,
    Layer,
    Line,
    Points,
    Role,
    Rule,
)
from aimz_lab.lab.explorers.quantiles import quantiles
from aimz_lab.lab.explorers.share_layers import Predicted, has_bars, share_layers
from aimz_lab.lab.explorers.value_axis import ValueAxis, axis_for, whole_ecdf

_LINES = 12
_NINETY = "90% of the draws"
_PREDICTIVE = "prior predictive"
_BEHIND = 0.3  # of the distance of two whole numbers: room behind the bounds at the ends
_ENTRIES: tuple[Role, ...] = ("main", "second", "data", "bad", "quiet")
MOST_ENTRIES = len(_ENTRIES)
"""A site with more entries has one curve, over all of them."""
_BESIDE = 0.15  # of the place of a level: where its data stands, beside its interval


def predictive_chart(
    values: np.ndarray,
    data: np.ndarray | None,
    possible: tuple[float, float],
    pinned: np.ndarray | None,
    *,
    name: str,
    as_ecdf: bool,
    levels: Sequence[str] = (),
) -> tuple[Chart, tuple[float, float]]:
    """Draw the distribution of a site's values over all rows, with a band over the draws.

    Args:
        values: Draws, ``(draw, ...)``.
        data: Observed values, flat, or ``None``.
        possible: Lowest and highest possible value.
        pinned: Draws that were pinned, or ``None``.
        name: Name of the site.
        as_ecdf: Whether to draw cumulative shares, not densities or the share of each number.
        levels: What 0, 1, 2, ... stand for, if they are numbers of levels.

    Returns:
        The chart, and the ends of the values that it shows.
    """
    pooled = values.ravel()
    axis = axis_for(pooled if pinned is None else np.append(pooled, pinned.ravel()), data)
    own = data if data is not None and len(data) else None
    if axis.has_single_numbers and not as_ecdf:
        return _shares_chart(axis, values, own, possible, pinned, name, levels), axis.ends
    places = axis.places
    if as_ecdf:
        places = whole_ecdf(axis.edges, axis.edges)[0] if axis.is_whole else axis.edges[1:]

    def heights(flat: np.ndarray) -> np.ndarray:
        if not as_ecdf:
            return axis.density(flat)
        below = np.sum(flat < axis.edges[0]) / max(len(flat), 1)
        shares = np.cumsum(axis.shares(flat)) + below
        if not axis.is_whole:
            return shares
        return whole_ecdf(axis.edges, np.append(below, shares))[1]

    layers: list[Layer] = [
        Band(places, *_ninety(values, heights), label=_NINETY),
        Line(places, heights(pooled), label=_PREDICTIVE),
    ]
    if pinned is not None:
        kept = heights(pinned.ravel())
        layers.append(Line(places, kept, label="pinned", role="pinned", dashed=True))
    if own is not None:
        layers.append(Line(places, heights(own), label="data", role="data"))
    layers += _bounds(possible, axis.edges)
    label = "cumulative share" if as_ecdf else axis.density_label(name.partition(" ")[0])
    title = f"{name}, all rows"
    chart = Chart(layers, title, name, label, x_scale=axis.scale, x_range=axis.ends)
    return chart, axis.ends


def entries_chart(
    values: np.ndarray, pinned: np.ndarray | None, *, name: str, as_ecdf: bool
) -> tuple[Chart, tuple[float, float]]:
    """Draw the distribution of each entry of a site over the draws, of which each has one value.

    Args:
        values: Draws, ``(draw, ...)``, of at most :data:`MOST_ENTRIES` entries.
        pinned: Draws that were pinned, or ``None``.
        name: Name of the site.
        as_ecdf: Whether to draw cumulative shares, not densities.

    Returns:
        The chart, and the ends of the values that it shows.
    """
    pooled = values.ravel()
    axis = axis_for(pooled if pinned is None else np.append(pooled, pinned.ravel()), None)
    layers: list[Layer] = []
    for draws, role in ((values, None), (pinned, "pinned")):
        if draws is None:
            continue
        for i, index in enumerate(np.ndindex(draws.shape[1:])):
            own = draws[(slice(None), *index)]
            if as_ecdf:
                x, y = np.sort(own), np.arange(1, len(own) + 1) / len(own)
            else:
                x, y = axis.places, axis.density(own)
            entry = f"{name}[{', '.join(map(str, index))}]" if index else "prior draws"
            label = entry if role is None else "pinned" * (i == 0)
            shown_as = role or _ENTRIES[i]
            layers.append(Line(x, y, label=label, role=shown_as, dashed=role is not None))
    label = "cumulative share" if as_ecdf else axis.density_label(name)
    title = f"{name}, prior"
    return Chart(layers, title, name, label, x_scale=axis.scale, x_range=axis.ends), axis.ends


def _shares_chart(
    axis: ValueAxis,
    values: np.ndarray,
    data: np.ndarray | None,
    possible: tuple[float, float],
    pinned: np.ndarray | None,
    name: str,
    levels: Sequence[str],
) -> Chart:
    """Draw the share of each whole number, as such numbers have no density."""

    def predicted(draws: np.ndarray, called: str) -> Predicted:
        return Predicted(called, _NINETY, axis.shares(draws.ravel()), *_ninety(draws, axis.shares))

    layers = share_layers(
        axis.edges,
        predicted(values, _PREDICTIVE),
        None if data is None else ("data", axis.shares(data)),
        None if pinned is None else predicted(pinned, "pinned"),
        levels,
    )
    top = max(float(np.max(one)) for layer in layers for one in layer.extent()[1])
    # Of whole numbers the last possible one is drawn in full, and the bound stands behind it.
    low, high = np.ceil(possible[0]) - 0.5, np.floor(possible[1]) + 0.5
    first = axis.edges[0] + 0.5 if has_bars(axis.edges) else 0.0  # bars stand at 0, 1, ...
    edges = axis.edges - first
    layers += _bounds((low - first, high - first), edges)
    ends = float(edges[0]) - _BEHIND, float(edges[-1]) + _BEHIND
    title, label = f"{name}, all rows", "share of the values"
    return Chart(layers, title, name, label, x_range=ends, y_range=(0.0, 1.05 * top or 1.0))


def _ninety(values: np.ndarray, heights: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return the ends of the middle 90% of the heights of the draws."""
    each = np.stack([heights(one) for one in values.reshape(len(values), -1)])
    return np.quantile(each, [0.05, 0.95], axis=0)


def _bounds(possible: tuple[float, float], edges: np.ndarray) -> list[Layer]:
    inside = [at for at in possible if math.isfinite(at) and edges[0] <= at <= edges[-1]]
    labels = ["impossible beyond", ""]
    return [Rule(at, role="bad", label=label) for at, label in zip(inside, labels, strict=False)]


class CurveColumn(NamedTuple):
    """A column that a curve goes over.

    Attributes:
        values: A value for each row.
        levels: Names of the values 0, 1, ..., if these are levels of a category.
    """

    values: np.ndarray
    levels: tuple[str, ...] = ()


def levels_chart(
    values: np.ndarray,
    column: CurveColumn,
    data: np.ndarray | None,
    pinned: np.ndarray | None,
    *,
    name: str,
    column_name: str,
) -> Chart:
    """Draw a site's values at each level of a category: their middle 90%, over draws and rows.

    Args:
        values: Draws, ``(draw, row)``.
        column: The level of each row.
        data: Observed values of the rows, or ``None``.
        pinned: Draws that were pinned, or ``None``.
        name: Name of the site.
        column_name: Name of the column.
    """
    codes = column.values.astype(int)
    places = np.arange(len(column.levels))
    low, middle, high = _at_levels(values, codes, len(places))
    label = "median and 90% of the draws"
    layers: list[Layer] = [Bars(column.levels, middle, low, high, label=label)]
    if pinned is not None:
        _, median, _ = _at_levels(pinned, codes, len(places))
        layers.append(Points(places - _BESIDE, median, label="pinned median", role="pinned"))
    if data is not None:
        every = -(-len(codes) // MOST_POINTS)
        said = "data" if every == 1 else f"data, one row in {every}"
        points = Points(codes[::every] + _BESIDE, data[::every], label=said, role="data")
        layers.append(points)
    return _over(layers, values, data, pinned, name, column_name)


def _at_levels(values: np.ndarray, codes: np.ndarray, n_levels: int) -> np.ndarray:
    """Return the ends of the middle 90% and the median at each level; NaN at one without rows."""
    found = np.full((3, n_levels), np.nan)
    for code in np.unique(codes):
        found[:, code] = quantiles(values[:, codes == code], [0.05, 0.5, 0.95])
    return found


def curve_chart(
    values: np.ndarray,
    column: np.ndarray,
    data: np.ndarray | None,
    pinned: np.ndarray | None,
    *,
    name: str,
    column_name: str,
    has_lines: bool,
) -> Chart:
    """Draw a site's values over a column: bands over the draws, and a few draws.

    Args:
        values: Draws, ``(draw, row)``.
        column: The column, a value for each row.
        data: Observed values of the rows, or ``None``.
        pinned: Draws that were pinned, or ``None``.
        name: Name of the site.
        column_name: Name of the column.
        has_lines: Whether to draw some of the draws; those of noise would hide the rest.
    """
    order = np.argsort(column, kind="stable")
    x = column[order]
    lines = values[:_LINES] if has_lines else ()
    low, inner_low, middle, inner_high, high = quantiles(
        values[:, order], [0.05, 0.25, 0.5, 0.75, 0.95], axis=0
    )
    layers: list[Layer] = [
        Band(x, low, high, label="90% of the draws"),
        Band(x, inner_low, inner_high, label="half of the draws"),
        *(Line(x, one[order], role="quiet") for one in lines),
        Line(x, middle, label="median"),
    ]
    if pinned is not None:
        median = np.median(pinned[:, order], axis=0)
        layers.append(Line(x, median, label="pinned", role="pinned", dashed=True))
    if data is not None:
        every = -(-len(x) // MOST_POINTS)
        said = "data" if every == 1 else f"data, one row in {every}"
        layers.append(Points(x[::every], data[order][::every], label=said, role="data"))
    return _over(layers, values, data, pinned, name, column_name)


def _over(
    layers: list[Layer],
    values: np.ndarray,
    data: np.ndarray | None,
    pinned: np.ndarray | None,
    name: str,
    column_name: str,
) -> Chart:
    """Return a chart over a column, whose vertical axis is on the scale of a histogram of it."""
    pooled = values.ravel() if pinned is None else np.append(values.ravel(), pinned.ravel())
    scale = axis_for(pooled, None if data is None else data[np.isfinite(data)].ravel()).scale
    chart = Chart(layers, f"{name} over {column_name}", column_name, name, y_scale=scale)
    if scale != "log1p":
        return chart
    (_, top) = replace(chart, y_scale="linear").limits()[1]
    return replace(chart, y_range=(-0.5, top))  # zero stands a little above the axis


def table_rows(values: Mapping[str, np.ndarray], sites: Sequence[str]) -> dict[str, list[float]]:
    """Return mean, sd and quantiles of the values of sites, over draws and entries.

    Args:
        values: Draws by site.
        sites: Names of the sites, in the order of the rows.
    """
    columns: dict[str, list[float]] = {"mean": [], "sd": [], "5%": [], "50%": [], "95%": []}
    for name in sites:
        flat = np.asarray(values[name], float).ravel()
        with np.errstate(invalid="ignore"):  # of infinite draws there is no sd
            moments = [flat.mean(), flat.std()]
        found = [*moments, *quantiles(flat, [0.05, 0.5, 0.95])]
        for column, value in zip(columns, found, strict=True):
            columns[column].append(float(value))
    return columns
