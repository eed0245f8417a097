"""Pictures of posterior and predictive draws, by arviz-plots, as matplotlib figures."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from aimz_lab.calls import public
from aimz_lab.effects.outcome_names import column_of
from aimz_lab.errors import ArgumentError, OptionalDependencyError
from aimz_lab.impact_model import ImpactModel
from aimz_lab.lab.pictures import ink
from aimz_lab.lab.pictures.outcome_shares import draw_shares, grid_of_whole
from aimz_lab.number_text import number_beside
from aimz_lab.predictive.level_sites import levels_of
from aimz_lab.system.imports import late_import
from aimz_lab.system.lazy_modules import xr
from aimz_lab.types import SAMPLE_DIMS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TITLE_WIDTH = 26
"""Characters of a line of a title that fit above a panel."""

_WIDEST_IN = 8.4
"""A cell of a notebook shrinks wider figures, and their text."""

_PANEL_IN = 2.5
_FOREST_IN = 6.6
_UNROUNDED = {"round_to": "none"}
"""A mean of two digits, as ArviZ rounds it, may lie outside its interval."""

_GREY = ("credible_interval", "point_estimate", "point_estimate_text")
"""What ArviZ draws in a grey that is too dark for dark pages."""

_PREDICTED = {"color": ink.BLUE, "alpha": 0.3}
_OBSERVED = {"color": ink.ORANGE, "width": 2.5, "zorder": 3}
"""The observed density lies above all predicted ones."""

_MOST_TICKS = 4
_GAP_PT = 8  # between two numbers
_SHORT = 20
"""Most characters of labels for which a forest of this width has room."""

MOST_PANELS = 40
"""A picture has at most this many panels; more would be unreadable."""


@public
def plot_posterior(
    source: ImpactModel | xr.DataTree, sites: Sequence[str] | None = None, *, prob: float = 0.94
) -> Figure:
    """Draw the posterior density of each parameter, with its mean and interval.

    Args:
        source: A fitted model, or a tree with the group ``posterior``.
        sites: Names of the sites; by default all.
        prob: Mass of the interval.

    Returns:
        A matplotlib figure. It shows itself at the end of a cell; elsewhere, pass it to
        :func:`~aimz_lab.lab.show_figure`.

    Raises:
        ArgumentError: If there is no posterior, a site is not in it, or there are too many panels.
        NotFittedError: If the model has no posterior that may be used.
        OptionalDependencyError: If arviz-plots is missing.

    Example:
        >>> len(plot_posterior(im, ["slope"]).axes)
        1
    """
    tree = _with_group(source, "posterior")
    names = _sites(tree["posterior"], sites, limit=MOST_PANELS)
    figure = _drawn(
        "plot_dist",
        _sentence(f"Posterior densities, with {prob:.0%} HDI,", names),
        tree,
        var_names=names,
        ci_kind="hdi",
        ci_prob=prob,
        stats={"point_estimate": _UNROUNDED},
        visuals={visual: {"color": ink.TEXT} for visual in _GREY},
    )
    _fit_panels(figure)
    return figure


@public
def plot_forest(
    source: ImpactModel | xr.DataTree, sites: Sequence[str] | None = None, *, prob: float = 0.94
) -> Figure:
    """Draw the mean and the interval of each parameter in a row of its own.

    Args:
        source: A fitted model, or a tree with the group ``posterior``.
        sites: Names of the sites; by default all.
        prob: Mass of the wide interval; the narrow one has half of the draws.

    Returns:
        A matplotlib figure.

    Raises:
        ArgumentError: If there is no posterior, a site is not in it, or there are too many rows.
        NotFittedError: If the model has no posterior that may be used.
        OptionalDependencyError: If arviz-plots is missing.

    Example:
        >>> plot_forest(im, ["slope"]).axes[0].get_title()
        ''
    """
    tree = _with_group(source, "posterior")
    names = _sites(tree["posterior"], sites, limit=10 * MOST_PANELS)
    figure = _drawn(
        "plot_forest",
        _sentence(f"Posterior means, with 50% and {prob:.0%} HDI,", names),
        tree,
        var_names=names,
        ci_kind="hdi",
        ci_probs=(0.5, prob),
        combined=True,
    )
    coords = tree["posterior"].to_dataset()[names].coords
    labels = [str(one) for dim in coords if dim not in SAMPLE_DIMS for one in coords[dim].values]
    if max(map(len, labels), default=0) <= _SHORT:
        figure.set_size_inches(min(_FOREST_IN, figure.get_figwidth()), figure.get_figheight())
    return figure


@public
def plot_prior_posterior(
    prior: xr.DataTree, posterior: ImpactModel | xr.DataTree, sites: Sequence[str] | None = None
) -> Figure:
    """Draw the prior and the posterior density of each parameter in one panel.

    Args:
        prior: Result of :meth:`~aimz_lab.ImpactModel.sample_prior_predictive` with the latent sites
            in ``return_sites``.
        posterior: A fitted model, or a tree with the group ``posterior``.
        sites: Names of the sites; by default those of which both have draws.

    Returns:
        A matplotlib figure.

    Raises:
        ArgumentError: If a group is missing, or they have no site in common.
        NotFittedError: If the model has no posterior that may be used.
        OptionalDependencyError: If arviz-plots is missing.

    Example:
        >>> prior = im.sample_prior_predictive(X, return_sites=["slope"], progress=False)
        >>> len(plot_prior_posterior(prior, im).axes)
        1
    """
    after = _with_group(posterior, "posterior")["posterior"].to_dataset()
    before = _with_group(prior, "prior_predictive")["prior_predictive"].to_dataset()
    names = [name for name in after.data_vars if name in before.data_vars]
    if sites is not None:
        names = [name for name in sites if name in names]
    if not names:
        msg = (
            f"The prior has draws of {', '.join(map(str, before.data_vars))}, and the posterior of "
            f"{', '.join(map(str, after.data_vars))}; draw the prior of the latent sites: "
            "im.sample_prior_predictive(X, return_sites=[...])."
        )
        raise ArgumentError(msg)
    tree = xr.DataTree.from_dict({"prior": before[names], "posterior": after[names]})
    _sites(tree["posterior"], names, limit=MOST_PANELS)
    figure = _drawn(
        "plot_prior_posterior",
        _sentence("Prior and posterior densities", names),
        tree,
        var_names=names,
    )
    _fit_panels(figure)
    return figure


@public
def plot_ppc(tree: xr.DataTree, *, num_samples: int = 50) -> Figure:
    """Draw densities of the predicted output, and that of the observed output over them.

    Whole numbers, such as counts and outcomes of 0 and 1, have no density. For them, the picture
    shows the share of the rows at each value, predicted with the interval of 90% of the draws.

    Args:
        tree: Result of :meth:`~aimz_lab.ImpactModel.predict` on the training rows, with the group
            ``observed_data``; or of ``sample_prior_predictive``.
        num_samples: Number of draws to show.

    Returns:
        A matplotlib figure.

    Raises:
        ArgumentError: If the tree has no predictive draws.
        OptionalDependencyError: If arviz-plots is missing.

    Example:
        >>> len(plot_ppc(im.predict(X, progress=False)).axes)
        1
    """
    groups = ("posterior_predictive", "predictions", "prior_predictive")
    group = next((name for name in groups if isinstance(tree, xr.DataTree) and name in tree), None)
    if group is None:
        msg = "plot_ppc draws a tree with predictive draws; pass the result of im.predict(X)."
        raise ArgumentError(msg)
    draws = tree[group].to_dataset()
    name = _output_of(tree, draws)
    if name == f"{draws.attrs.get('output')}_mean":
        msg = "plot_ppc draws outcomes of rows, and the tree has averages of groups; leave out by=."
        raise ArgumentError(msg)
    observed = "observed_data" in tree and name in tree["observed_data"].data_vars
    count = min(num_samples, draws.sizes["chain"] * draws.sizes["draw"])
    column = column_of(draws, name)
    drawn, own = _some_draws(draws[name], count, tree["observed_data"][name] if observed else None)
    if (grid := grid_of_whole(drawn, own)) is not None:
        figure = draw_shares(grid, drawn, own, column, levels_of(draws.attrs, name))
        beside = ", and in the observed rows" if observed else ""
        figure.alt = f"Shares of each value of {column} in {count} draws from the model{beside}."
        return figure
    beside = ", and the observed one," if observed else ""
    figure = _drawn(
        "plot_ppc_dist",
        _sentence(f"Densities of {count} draws from the model{beside}", [column]),
        tree,
        group=group,
        var_names=[name],
        num_samples=count,
        visuals={"predictive_dist": _PREDICTED, "observed_dist": _OBSERVED if observed else False},
    )
    figure.axes[0].set_title(column, parse_math=False)
    _name_densities(figure.axes[0], count, observed=observed)
    return figure


def _name_densities(axes: Axes, count: int, *, observed: bool) -> None:
    """Add a legend of the predicted densities, of which one stands for all, and the observed."""
    named = {f"predicted, {count} draws": axes.lines[0]}
    if observed:
        named["observed"] = axes.lines[-1]
    legend = axes.legend(
        named.values(), named.keys(), frameon=False, fontsize=8, labelcolor=ink.TEXT
    )
    for handle in legend.legend_handles:
        handle.set_alpha(1.0)  # of one line alone, faint, the colour would not be seen


def _some_draws(
    draws: xr.DataArray, count: int, observed: xr.DataArray | None
) -> tuple[Float[np.ndarray, "draw value"], Float[np.ndarray, " value"]]:
    """Return so many draws, evenly over all, and the observed values, where there are such.

    Values that were not observed are left out of both.
    """
    chain, draw = np.divmod(
        np.linspace(0, draws.sizes["chain"] * draws.sizes["draw"] - 1, count).astype(int),
        draws.sizes["draw"],
    )
    chosen = {"chain": xr.DataArray(chain, dims="shown"), "draw": xr.DataArray(draw, dims="shown")}
    some = draws.isel(chosen).astype(float)
    if observed is None or {*observed.dims} != {*some.dims} - {"shown"}:
        return some.transpose("shown", ...).values.reshape(count, -1), np.empty(0)
    drawn = some.transpose("shown", *observed.dims).values.reshape(count, -1)
    own = observed.values.ravel().astype(float)
    return drawn[:, np.isfinite(own)], own[np.isfinite(own)]


def _output_of(tree: xr.DataTree, draws: xr.Dataset) -> str:
    """Return the site of the output: the observed one, that of the call, or the first one.

    Raises:
        ArgumentError: If there are no draws of it.
    """
    observed = list(tree["observed_data"].data_vars) if "observed_data" in tree else []
    sampled = [str(name) for name, one in draws.data_vars.items() if {*SAMPLE_DIMS} <= {*one.dims}]
    wanted = [*observed, draws.attrs.get("output"), *sampled]
    found = next((name for name in wanted if name in sampled), None)
    if found is None:
        have = ", ".join(map(str, draws.data_vars))
        msg = f"plot_ppc draws samples of the output, and the tree has {have}; leave out reduce=."
        raise ArgumentError(msg)
    return found


def _with_group(source: ImpactModel | xr.DataTree, group: str) -> xr.DataTree:
    tree = source.posterior_tree if isinstance(source, ImpactModel) else source
    if not isinstance(tree, xr.DataTree) or group not in tree:
        msg = f"This picture is of a fitted model, or of a tree with the group {group!r}."
        raise ArgumentError(msg)
    return tree.assign({group: xr.DataTree(_with_numbers(tree[group].to_dataset()))})


def _with_numbers(group: xr.Dataset) -> xr.Dataset:
    """Truths as 0 and 1: ArviZ draws no densities of booleans."""
    return group.assign(
        {name: group[name].astype(np.int8) for name in group if group[name].dtype == bool}
    )


def _sites(group: xr.DataTree, sites: Sequence[str] | None, *, limit: int) -> list[str]:
    """Return names of sites that are there, and not too many."""
    have = list(map(str, group.data_vars))
    names = have if sites is None else [sites] if isinstance(sites, str) else list(sites)
    unknown = [name for name in names if name not in have]
    if unknown or not names:
        missing = ", ".join(map(repr, unknown))
        msg = f"The posterior has no draws of {missing}; it has {', '.join(have)}."
        raise ArgumentError(msg)
    count = sum(int(np.prod(group[name].shape[2:])) for name in names)
    if count > limit:
        msg = f"These sites have {count} entries, and a picture shows {limit}; pass sites=[...]."
        raise ArgumentError(msg)
    return names


def _fit_panels(figure: Figure) -> None:
    """Make panels so large that they are not shrunk in a cell, with few numbers below each."""
    rows, columns = figure.axes[0].get_subplotspec().get_gridspec().get_geometry()
    figure.set_size_inches(min(_PANEL_IN * columns, _WIDEST_IN), _PANEL_IN * rows * 0.75)
    for axes in figure.axes:
        axes.tick_params(labelsize=9)
        for text in list(axes.texts):  # the mean, through which the curve would run
            mean = number_beside(text.get_position()[0], float(np.ptp(axes.get_xlim())), 3)
            text.remove()
            axes.title.set_text(f"{axes.get_title()}\nmean {mean}")
        axes.title.set_fontsize(10)
    figure.get_layout_engine().execute(figure)  # how wide the axes are decides what has room
    for axes in figure.axes:
        _number_below(axes)


def _number_below(axes: Axes) -> None:
    """Write as many numbers below a panel as stand apart."""
    ticker = late_import("matplotlib.ticker")
    axes.xaxis.set_major_formatter(late_import("aimz_lab.lab.pictures.vertical_axis").numbers())
    renderer = axes.figure.canvas.get_renderer()
    gap, (low, high) = _GAP_PT * axes.figure.dpi / 72, axes.get_xlim()
    for most in range(_MOST_TICKS, 0, -1):
        axes.xaxis.set_major_locator(ticker.MaxNLocator(most))
        labels = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
        boxes = [one.get_window_extent(renderer) for at, one in labels if low <= at <= high]
        if all(one.x1 + gap <= other.x0 for one, other in pairwise(boxes)):
            return


def _drawn(plot: str, alt: str, tree: xr.DataTree, **options: Any) -> Figure:
    """Call a function of arviz-plots, and return its figure."""
    function, pyplot = _arviz_plot(plot)
    layout = late_import("aimz_lab.lab.pictures.figure_layout")
    paper = {"FigureClass": layout.ShownFigure}
    collection = function(tree, backend="matplotlib", figure_kwargs=paper, **options)
    figure = collection.viz["figure"].item()
    pyplot.close(figure)  # else the notebook shows it twice
    late_import("matplotlib.backends.backend_agg").FigureCanvasAgg(figure)  # closing may take it
    for axes in figure.axes:  # long names would run into those beside them
        lines = [textwrap.fill(line, _TITLE_WIDTH) for line in axes.get_title().split("\n")]
        axes.set_title("\n".join(lines), parse_math=False)
    figure.set_layout_engine("constrained")  # titles of several lines need room
    figure.alt = alt
    ink.adapt(figure)
    return figure


def _sentence(what: str, names: Sequence[str]) -> str:
    return f"{what} of {', '.join(map(str, names))}."


def _arviz_plot(name: str) -> tuple[Callable[..., Any], Any]:
    try:
        pyplot = late_import("matplotlib.pyplot")
        arviz_plots = late_import("arviz_plots")
    except ImportError as error:
        msg = "Pictures of draws need arviz-plots and matplotlib: pip install 'aimz_lab[lab]'."
        raise OptionalDependencyError(msg) from error
    return getattr(arviz_plots, name), pyplot
