"""Charts of priors with their handles, and of draws beside the data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aimz_lab.errors import ArgumentError
from aimz_lab.kernel.tracing import tracing_lock
from aimz_lab.lab import formatting
from aimz_lab.lab.explorers.charts import (
    MOST_POINTS,
    Area,
    Band,
    Bars,
    Chart,
    Handle,
    Layer,
    Line,
    Points,
    Role,
    Rule,
    Steps,
)
from aimz_lab.lab.explorers.moved_priors import Numbers
from aimz_lab.lab.explorers.prior_sites import PriorSite, control_name
from aimz_lab.lab.explorers.quantiles import quantiles
from aimz_lab.lab.explorers.remade import Path, remade
from aimz_lab.lab.explorers.share_layers import Predicted, has_bars, share_layers
from aimz_lab.lab.explorers.value_axis import ValueAxis, axis_for, whole_ecdf

_PLACES = 161
_LINES = 12
_TINY = 1e-6
_NINETY = "90% of the draws"
_PREDICTIVE = "prior predictive"
_BEHIND = 0.3  # of the distance of two whole numbers: room behind the bounds at the ends
_ENTRIES: tuple[Role, ...] = ("main", "second", "data", "bad", "quiet")
MOST_ENTRIES = len(_ENTRIES)
"""A site with more entries has one curve, over all of them."""
_BESIDE = 0.15  # of the place of a level: where its data stands, beside its interval


def is_plain(site: PriorSite) -> bool:
    """Whether a prior is one distribution of single numbers, whose density can be drawn.

    Args:
        site: The prior.
    """
    return site.written is not None and not site.fixed and not site.written.event_shape


class Densities:
    """Densities of the plain priors, by one compiled program for all numbers.

    Args:
        sites: The priors.
    """

    def __init__(self, sites: Iterable[PriorSite]) -> None:
        self._sites = {site.name: site for site in sites if site.numbers and is_plain(site)}
        self._compute = jax.jit(self._heights)

    def of(
        self, numbers: Numbers, draws: Mapping[str, np.ndarray]
    ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return places and densities by site, but of those too wide to be drawn.

        Args:
            numbers: All numbers of the priors.
            draws: Draws of the sites, which say where the densities are of interest.

        Raises:
            ArgumentError: If numbers make no distribution.
        """
        names = [name for name in self._sites if name in draws]
        flat = {name: np.ravel(draws[name]) for name in names}
        places = {name: _places(flat[name]) for name in names}
        safe = {name: np.sort(flat[name])[len(flat[name]) // 2] for name in names}
        with tracing_lock:
            found = self._compute({name: dict(numbers[name]) for name in names}, places, safe)
        heights = {name: np.asarray(found[name][0], float) for name in names}
        drawable = {name for name in names if np.any(heights[name] > 0)}
        for name in names:
            if name not in drawable and not found[name][1]:
                its = ", ".join(f"{path[-1]}={one:g}" for path, one in numbers[name].items())
                msg = f"{self._sites[name].family}({its}) of {name!r} is no distribution."
                raise ArgumentError(msg)
        return {name: (places[name], heights[name]) for name in names if name in drawable}

    def _heights(self, numbers: dict, places: dict, safe: dict) -> dict[str, tuple]:
        """Return densities at the places, and whether a draw of its own has one, by site."""
        found = {}
        for name, its in numbers.items():
            one = remade(self._sites[name].written, its)
            spread = places[name].reshape(-1, *(1 for _ in one.batch_shape))
            inside = one.support(spread)
            density = jnp.exp(one.log_prob(jnp.where(inside, spread, safe[name])))
            shown = jnp.where(inside & jnp.isfinite(density), density, 0.0)
            shape = len(places[name]), *one.batch_shape
            at_places = jnp.broadcast_to(shown, shape).reshape(len(places[name]), -1)[:, 0]
            is_inside = one.support(safe[name]) & jnp.isfinite(one.log_prob(safe[name]))
            found[name] = at_places, jnp.all(is_inside)
        return found


def _places(draws: np.ndarray) -> np.ndarray:
    """Return where to draw a density, always as many places so that nothing is compiled anew."""
    if draws.dtype.kind in "biu":
        return np.arange(_PLACES) + int(draws.min()) - 1
    finite = draws[np.isfinite(draws)].astype(float)
    if not len(finite):
        return np.linspace(0.0, 1.0, _PLACES).astype(draws.dtype)
    low, high = np.quantile(finite, [0.02, 0.98])
    room, beyond = 0.4 * (high - low), 0.1 * (high - low)
    left, right = max(low - room, finite.min() - beyond), min(high + room, finite.max() + beyond)
    most = np.finfo(draws.dtype).max
    return np.linspace(max(left, -most), min(right, most), _PLACES).astype(draws.dtype)


def why_refused(site: PriorSite, numbers: Mapping[Path, float]) -> dict[str, str]:
    """Say which numbers are not in the ranges that the family has for each, by control.

    Args:
        site: The prior.
        numbers: Numbers of it.
    """
    why = {control_name(site.name, path): _why(site, path, one) for path, one in numbers.items()}
    return {name: words for name, words in why.items() if words}


def _why(site: PriorSite, path: Path, number: float) -> str:
    if not math.isfinite(number):
        return f"{control_name(site.name, path)} takes a finite number, not {number}."
    owner = site.written
    for name in path[:-1]:
        owner = getattr(owner, name)
    constraint = type(owner).arg_constraints.get(path[-1]) if owner is not None else None
    if constraint is None or "Dependent" in type(constraint).__name__:
        return ""
    if np.all(constraint(np.float32(number))):
        return ""
    return f"{control_name(site.name, path)} cannot be {number:g}: it is {_said(constraint)}."


def _said(constraint: Any) -> str:
    low, high = (getattr(constraint, f"{end}_bound", None) for end in ("lower", "upper"))
    if low is not None and high is not None:
        return f"between {low:g} and {high:g}"
    if low is not None:
        return f"above {low:g}"
    return f"below {high:g}" if high is not None else "a number of its family's range"


# Handles.


def handles_of(site: PriorSite, numbers: Mapping[Path, float]) -> list[Handle]:
    """Return the places of a density that the reader drags.

    Args:
        site: The prior.
        numbers: Its numbers.
    """
    by_name = {path[-1]: number for path, number in numbers.items()}
    moves = _moves(site.family, by_name)
    found = []
    for path in site.numbers:
        if path[-1] in moves and len(path) == 1:
            at, value_at, said = moves[path[-1]]
            name = control_name(site.name, path)
            found.append(
                Handle(
                    name, at, partial(_short, value_at), f"{name}{said}",
                    mark=str(path[-1]), text=formatting.number(numbers[path]),
                )
            )  # fmt: skip
    return [handle for handle in found if math.isfinite(handle.at)]


def _short(value_at: Callable[[float], float], place: float) -> float:
    """Return the value for a place, as exact as a hand is."""
    return float(f"{value_at(place):.3g}")


def _moves(family: str, n: Mapping[str, float]) -> dict[str, tuple[float, Callable, str]]:
    """Return place, way back and words of each number that can be dragged."""
    above = lambda value: max(value, _TINY)  # noqa: E731
    if family == "LogNormal":
        return {
            "loc": (math.exp(n["loc"]), lambda x: math.log(above(x)), " (median)"),
            "scale": (
                math.exp(n["loc"] + n["scale"]),
                lambda x: above(math.log(above(x)) - n["loc"]),
                " (median times its exponential)",
            ),
        }
    if family == "Gamma":
        mean, root = n["concentration"] / n["rate"], math.sqrt(n["concentration"])
        return {
            "concentration": (mean, lambda x: above(x * n["rate"]), " (mean)"),
            "rate": (
                mean + root / n["rate"],
                lambda x: (n["concentration"] + root) / above(x),
                " (mean and one sd)",
            ),
        }
    if family == "Beta":
        a, b = n["concentration1"], n["concentration0"]
        return {
            "concentration1": (
                a / (a + b),
                lambda x: above(b * x / max(1 - x, _TINY)),
                " (mean)",
            )
        }
    moves: dict[str, tuple[float, Callable, str]] = {}
    for end in ("low", "high"):
        if family == "Uniform":
            moves[end] = (n[end], lambda x: x, "")
    if "loc" in n:
        moves["loc"] = (n["loc"], lambda x: x, "")
    if "scale" in n:
        start = n.get("loc", 0.0)
        said = " (loc and one scale)" if "loc" in n else ""
        least = n["scale"] / 100  # of a drag to the other side
        moves["scale"] = (start + n["scale"], lambda x: max(x - start, least), said)
    if family == "Exponential":
        moves["rate"] = (1 / n["rate"], lambda x: 1 / above(x), " (mean)")
    if family == "Poisson":
        moves["rate"] = (n["rate"], above, " (mean)")
    if family == "BernoulliProbs":
        moves["probs"] = (n["probs"], lambda x: min(max(x, 0.0), 1.0), "")
    return moves


def prior_chart(
    site: PriorSite,
    numbers: Mapping[Path, float],
    density: tuple[np.ndarray, np.ndarray] | None,
    values: np.ndarray,
) -> Chart:
    """Draw a site's prior: its density with handles, or a histogram of its draws.

    Args:
        site: The prior.
        numbers: Its numbers.
        density: Places and densities, if they are known.
        values: Draws of all its entries.
    """
    title = f"{site.name} ~ {site.family}"
    if density is None:
        drawn = np.ravel(np.asarray(values, float))
        axis = axis_for(drawn, None)
        bins = Steps(axis.edges, axis.density(drawn))
        drawn_as = {"x_scale": axis.scale, "x_range": axis.ends, "size": "small"}
        return Chart([bins], f"{title}, draws", **drawn_as)
    x, y = density
    handles = handles_of(site, numbers)
    if x.dtype.kind not in "iu":
        return Chart([Area(x, y)], title, size="small", handles=handles)
    last = max(int(np.max(np.nonzero(y > 1e-4 * y.max()))), 2) + 1
    edges = np.append(x[:last], x[last - 1] + 1) - 0.5
    return Chart([Steps(edges, y[:last])], title, size="small", handles=handles)


# Draws beside the data.


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
