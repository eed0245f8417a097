"""Pictures of an effect: its average, by group, and over a column."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from aimz_lab.calls import public
from aimz_lab.data.arrays import are_zeros_and_ones
from aimz_lab.effects import PREDICTIVE_GROUPS, hdi
from aimz_lab.effects.measures import NO_EFFECT, UNIT_WORDS
from aimz_lab.effects.outcome_names import called, check_has_mean, reference_of, site_called
from aimz_lab.effects.sentences import noted_as_drawn
from aimz_lab.effects.summaries import check_is_effect
from aimz_lab.errors import ArgumentError
from aimz_lab.lab import environment
from aimz_lab.lab.pictures import ink
from aimz_lab.number_text import number_beside
from aimz_lab.system.lazy_modules import xr
from aimz_lab.types import SAMPLE_DIMS, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BINS = 20
"""Groups of rows along a column; each has the mean effect of as many rows."""

_MOST_GROUPS = 60

_LABEL_WIDTH = 38
"""Characters of a line of a vertical axis's name."""

_BETWEEN_GROUPS = 0.6
"""Share of the room between two levels over which the dots of groups are spread."""


@public
def plot_effect(
    effect: xr.DataTree,
    *,
    by: ArrayLike | None = None,
    over: ArrayLike | None = None,
    site: str | None = None,
    prob: float = 0.94,
) -> Figure:
    """Draw an effect with its interval: the average, by group, or over a column.

    Args:
        effect: Result of :meth:`~aimz_lab.ImpactModel.estimate_effect`, with draws for each row, or
            averaged; or of :meth:`~aimz_lab.ImpactModel.sweep`, whose dose-response it draws.
        by: One label per row: the mean effect of the rows of each label.
        over: One number per row, such as a column of the table: the mean effect along it.
        site: The site, or the table's column of the output; by default the output, or the first
            site without it.
        prob: Mass of the interval.

    Returns:
        A matplotlib figure. It shows itself at the end of a cell; elsewhere, pass it to
        :func:`~aimz_lab.lab.show_figure`.

    Raises:
        ArgumentError: If these are predictions and no effect, there are no draws, labels do not fit
            the rows, or there are too many groups.
        OptionalDependencyError: If matplotlib is missing.

    Example:
        >>> effect = im.estimate_effect(args_baseline={"X": X}, args_intervention={"X": X + 1})
        >>> plot_effect(effect, by=np.sign(X)).axes[0].get_xlabel()
        'effect on y (of drawn outcomes)'
    """
    environment.require_matplotlib()
    draws = _draws(effect, site)
    name = _named(effect, str(draws.name).removesuffix("_mean"))
    if "swept" in _attrs(effect):
        _check_plain(by, over)
        return _dose_response(draws.rename(name), _attrs(effect), prob)
    name += UNIT_WORDS.get(_attrs(effect).get("contrast", "difference"), "")
    if by is not None and over is not None:
        msg = "Pass by= for groups or over= for a column, not both."
        raise ArgumentError(msg)
    if by is not None:
        draws = _group_means(draws, _per_row(draws, "by", by))
    if over is not None:
        return _along(draws, _per_row(draws, "over", over), name, prob, _title(over, "row"))
    others = [dim for dim in draws.dims if dim not in SAMPLE_DIMS]
    averaged = str(draws.name).endswith("_mean") or _is_average(effect)
    if others and (by is not None or averaged):
        return _by_group(_one_axis(draws, others), name, prob, _no_effect(effect))
    _check_one(others, effect)
    return _average(draws.mean(others) if others else draws, name, prob, _no_effect(effect))


def _attrs(effect: xr.DataTree) -> dict[str, Any]:
    return next(effect[name].attrs for name in PREDICTIVE_GROUPS if name in effect)


def _is_average(effect: xr.DataTree) -> bool:
    return "averaged" in _attrs(effect)


def _no_effect(effect: xr.DataTree) -> float:
    """Return the value of the contrast where the intervention changes nothing."""
    return NO_EFFECT.get(_attrs(effect).get("contrast", "difference"), 0.0)


def _check_one(others: list[Any], effect: xr.DataTree) -> None:
    """Refuse a mean over what should not be averaged: several groups, or ratios of rows."""
    contrast = _attrs(effect).get("contrast", "difference")
    if others and (_is_average(effect) or contrast != "difference"):
        msg = (
            f"The {contrast} has the dimensions {', '.join(map(str, others))}, and their mean is "
            "no effect of its own. Choose one entry: effect.sel(...), or group by one column."
        )
        raise ArgumentError(msg)


def _check_plain(by: object, over: object) -> None:
    if by is not None or over is not None:
        msg = (
            "A sweep has no rows to group; leave by= and over= out, and pass by= to im.sweep(...)."
        )
        raise ArgumentError(msg)


def _dose_response(draws: xr.DataArray, attrs: dict[str, Any], prob: float) -> Figure:
    """Draw averages over the grid by group: lines over numbers, dots at levels."""
    from aimz_lab.lab.pictures.figure_layout import legend_beside

    dose, contrast = attrs["swept"], attrs["contrast"]
    others = [dim for dim in draws.dims if dim not in (*SAMPLE_DIMS, dose)]
    lines = draws.stack(line=others) if others else draws.expand_dims("line", -1)
    if lines.sizes["line"] > len(ink.LINES):
        msg = (
            f"There are {lines.sizes['line']} groups, and a picture of a sweep has up to "
            f"{len(ink.LINES)} lines; choose some: tree.sel(...)."
        )
        raise ArgumentError(msg)
    grid = draws[dose].values
    is_number = grid.dtype.kind in "iufM" and not are_zeros_and_ones(grid)
    figure, axes = _figure()
    n_lines = lines.sizes["line"]
    for i in range(n_lines):
        values = lines.isel(line=i).transpose(*SAMPLE_DIMS, dose).values.reshape(-1, len(grid))
        label = ", ".join(map(str, lines.indexes["line"][i])) if others else None
        if is_number:
            _draw_line(axes, grid, values, prob, ink.LINES[i], label)
        else:  # there is nothing between two levels
            beside = _BETWEEN_GROUPS * (i - (n_lines - 1) / 2) / n_lines
            _draw_dots(axes, np.arange(len(grid)) + beside, values, prob, ink.LINES[i], label)
    if not is_number:
        _name_levels(
            axes, [f"{each:g}" if grid.dtype.kind in "iuf" else str(each) for each in grid]
        )
    if contrast != "average":
        axes.axhline(NO_EFFECT.get(contrast, 0.0), color=ink.OTHER, linewidth=1, linestyle="--")
    axes.set_xlabel(dose)
    what = f"{contrast.replace('_', ' ')} of {draws.name}"
    reference = reference_of(attrs)
    against = f"against {reference}" if reference else ""
    axes.set_ylabel(f"{what}\n{against}".strip(), parse_math=False)
    if others:
        legend_beside(axes, ", ".join(map(str, others)))
    ends = [f"{_mean(lines.isel({dose: i}).mean('line').values)} at {grid[i]}" for i in (0, -1)]
    over = " ".join(filter(None, (what, against, "over", dose)))
    words = f"{over}, with {prob:.0%} HDI: {' and '.join(ends)}."
    return _finished(figure, words)


def _name_levels(axes: Axes, names: Sequence[str]) -> None:
    axes.set_xticks(np.arange(len(names)), names, parse_math=False)
    axes.set_xlim(-0.5, len(names) - 0.5)


def _draw_line(
    axes: Axes, at: np.ndarray, values: np.ndarray, prob: float, color: str, label: str | None
) -> None:
    """Draw the mean over a number with its bands."""
    for mass, alpha in ((prob, 0.2), (0.5, 0.35)):
        low, high = hdi(values, mass).T
        axes.fill_between(at, low, high, color=color, alpha=alpha, linewidth=0)
    axes.plot(at, values.mean(0), color=color, marker="o", markersize=3, label=label)


def _draw_dots(
    axes: Axes, at: np.ndarray, values: np.ndarray, prob: float, color: str, label: str | None
) -> None:
    """Draw the mean at each place with its intervals."""
    for mass, width in ((prob, 1.5), (0.5, 4.0)):
        low, high = hdi(values, mass).T
        axes.vlines(at, low, high, color=color, linewidth=width)
    axes.plot(at, values.mean(0), "o", color=color, markersize=5, label=label)


def _mean(draws: np.ndarray) -> str:
    """Write the mean of draws, as far as their spread shows."""
    return number_beside(float(draws.mean()), float(draws.std()), 3)


def _draws(effect: xr.DataTree, site: str | None) -> xr.DataArray:
    groups = [g for g in PREDICTIVE_GROUPS if isinstance(effect, xr.DataTree) and g in effect]
    if not groups:
        msg = "plot_effect draws the result of im.estimate_effect(...)."
        raise ArgumentError(msg)
    found = effect[groups[0]].to_dataset()
    check_is_effect(found.attrs)
    names = [name for name, draws in found.data_vars.items() if set(SAMPLE_DIMS) <= set(draws.dims)]
    if not names:
        msg = "The effect has no draws, only what reduce= made of them; compute it without reduce=."
        raise ArgumentError(msg)
    site = site_called(found, site, names)
    if site is not None and site not in names:
        sites = f"the site{'s' * (len(names) > 1)} {', '.join(map(repr, names))}"
        msg = f"The effect has {sites}, and none called {shown(site)}."
        if reduced := [name for name in found.data_vars if name not in names]:
            msg += f" reduce= left no draws of {', '.join(map(repr, reduced))}."
        raise ArgumentError(msg)
    output = str(found.attrs.get("output"))
    site = site or next((n for n in (output, f"{output}_mean") if n in names), names[0])
    check_has_mean(found, site)
    return found[site]


def _named(effect: xr.DataTree, site: str) -> str:
    group = next(group for group in PREDICTIVE_GROUPS if group in effect)
    name = called(effect[group].to_dataset(), site)
    return name + noted_as_drawn(site, _attrs(effect))


def _title(values: Any, default: str) -> str:
    name = getattr(values, "name", None)
    return default if name is None else str(name)


def _per_row(draws: xr.DataArray, argument: str, values: ArrayLike) -> xr.DataArray:
    """Return values by row as an array along the rows' dimension."""
    others = [dim for dim in draws.dims if dim not in SAMPLE_DIMS]
    array = np.asarray(values)
    if len(others) != 1 or array.shape != (draws.sizes[others[0]],):
        sizes = {dim: draws.sizes[dim] for dim in others}
        msg = (
            f"{argument}= takes one value per row; its shape is {array.shape}, and the effect has "
            f"{sizes}."
        )
        raise ArgumentError(msg)
    return xr.DataArray(array, dims=others, name=_title(values, "group"))


def _too_many(count: int, name: str) -> ArgumentError:
    msg = (
        f"There are {count:,} groups of {name}, and a picture shows up to {_MOST_GROUPS}. Put "
        "numbers into ranges, as tens in by=df.age // 10 * 10, or choose groups: effect.sel(...). "
        "The numbers of all groups are in summarize_effect(effect)."
    )
    return ArgumentError(msg)


def _group_means(draws: xr.DataArray, labels: xr.DataArray) -> xr.DataArray:
    levels, codes = np.unique(labels.values, return_inverse=True)
    if len(levels) > _MOST_GROUPS:
        raise _too_many(len(levels), str(labels.name))
    (rows,) = labels.dims
    means = [draws.isel({rows: np.flatnonzero(codes == i)}).mean(rows) for i in range(len(levels))]
    joined = xr.concat(means, dim=str(labels.name), coords="minimal", compat="override")
    return joined.assign_coords({str(labels.name): levels}).rename(draws.name)


def _one_axis(draws: xr.DataArray, groups: list[str]) -> xr.DataArray:
    """Return the draws with crossed groups on one axis, whose labels are joined.

    Raises:
        ArgumentError: If there are too many.
    """
    joined = draws.stack({", ".join(groups): groups}) if len(groups) > 1 else draws
    (dim,) = (dim for dim in joined.dims if dim not in SAMPLE_DIMS)
    if joined.sizes[dim] > _MOST_GROUPS:
        raise _too_many(joined.sizes[dim], " and ".join(groups))
    if len(groups) == 1:
        return draws
    labels = [", ".join(map(str, each)) for each in joined[dim].values]
    return joined.drop_vars([dim, *groups]).assign_coords({dim: labels})


def _by_group(draws: xr.DataArray, name: str, prob: float, none: float) -> Figure:
    (group,) = (dim for dim in draws.dims if dim not in SAMPLE_DIMS)
    values = draws.stack(sample=SAMPLE_DIMS).transpose(group, "sample").values
    labels = list(map(str, draws[group].values))
    figure, axes = _figure(height=1.2 + 0.32 * len(labels))
    places = np.arange(len(labels))[::-1]
    for mass, width in ((prob, 1.5), (0.5, 4.0)):
        low, high = hdi(values, mass, axis=1).T
        axes.hlines(places, low, high, color=ink.BLUE, linewidth=width)
    axes.plot(values.mean(1), places, "o", color=ink.BLUE, markersize=5)
    axes.axvline(none, color=ink.OTHER, linewidth=1, linestyle="--")
    axes.set_yticks(places, labels, parse_math=False)
    axes.set_ylim(-0.7, len(labels) - 0.3)
    axes.set_ylabel(str(group))
    axes.set_xlabel(f"effect on {name}")
    means = [f"{label} {_mean(own)}" for label, own in zip(labels, values, strict=True)]
    return _finished(
        figure, f"Effect on {name} by {group}, with {prob:.0%} HDI. Means: {', '.join(means)}."
    )


def _average(draws: xr.DataArray, name: str, prob: float, none: float) -> Figure:
    values = draws.stack(sample=SAMPLE_DIMS).values
    figure, axes = _figure()
    axes.hist(values, bins="auto", density=True, color=ink.BLUE, alpha=0.45)
    low, high = hdi(values, prob)
    axes.hlines(0, low, high, color=ink.BLUE, linewidth=4, clip_on=False)
    axes.plot([values.mean()], [0], "o", color=ink.BLUE, clip_on=False)
    axes.axvline(none, color=ink.OTHER, linewidth=1, linestyle="--")
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)  # a density's scale says nothing here
    spread = float(high - low)
    mean, *ends = (number_beside(float(each), spread, 3) for each in (values.mean(), low, high))
    said = f"mean {mean}, {prob:.0%} HDI {' to '.join(ends)}"
    axes.set_title(said, fontsize=10)
    axes.set_xlabel(f"effect on {name}")
    return _finished(figure, f"Posterior of the mean effect on {name}: {said}.")


def _along(draws: xr.DataArray, over: xr.DataArray, name: str, prob: float, column: str) -> Figure:
    values = np.asarray(over.values, float)
    (rows,) = over.dims
    distinct, codes = np.unique(values, return_inverse=True)
    if len(distinct) > _BINS:
        bins = np.array_split(np.argsort(values, kind="stable"), _BINS)
    else:
        bins = [np.flatnonzero(codes == i) for i in range(len(distinct))]
    means = np.stack(
        [draws.isel({rows: b}).mean(rows).stack(sample=SAMPLE_DIMS).values for b in bins]
    )
    at = np.array([values[b].mean() for b in bins])
    figure, axes = _figure()
    if are_zeros_and_ones(distinct):
        _draw_dots(axes, at, means.T, prob, ink.BLUE, None)
        _name_levels(axes, ["0", "1"])
    else:
        for mass, alpha in ((prob, 0.2), (0.5, 0.3)):
            low, high = hdi(means, mass, axis=1).T
            axes.fill_between(at, low, high, color=ink.BLUE, alpha=alpha, linewidth=0)
        axes.plot(at, means.mean(1), color=ink.BLUE)
    axes.axhline(0, color=ink.OTHER, linewidth=1, linestyle="--")
    axes.set_xlabel(column)
    axes.set_ylabel(f"effect on {name}")
    first, last = (_mean(means[i]) for i in (0, -1))
    along = f"Effect on {name} along {column}, with {prob:.0%} HDI"
    return _finished(figure, f"{along}: from {first} at the lowest to {last} at the highest.")


def _figure(height: float = 3.2) -> tuple[Figure, Axes]:
    from aimz_lab.lab.pictures.figure_layout import figure_of_axes

    figure = figure_of_axes(6.4, height)
    axes = figure.add_subplot(facecolor=ink.PAPER)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _finished(figure: Figure, alt: str) -> Figure:
    figure.alt = alt
    for axes in figure.axes:  # a name longer than its axis would be cut
        lines = axes.get_ylabel().split("\n")
        filled = [part for line in lines for part in textwrap.wrap(line, _LABEL_WIDTH)]
        axes.set_ylabel("\n".join(filled), parse_math=False)
    ink.adapt(figure)
    return figure
