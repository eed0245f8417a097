"""The picture of a trust report: of a guide, or of chains, and of the predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aimz_lab.errors import ArgumentError
from aimz_lab.lab import environment
from aimz_lab.lab.pictures import ink
from aimz_lab.lab.pictures.step_axis import set_steps
from aimz_lab.types import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from aimz_lab.trust.diagnosis import TrustReport

_BLUE, _ORANGE, _GREY = ink.BLUE, ink.ORANGE, ink.OTHER
_SHADE = 0.35  # how opaque a band is, on light paper and on dark
_BELOW_LEGEND = 0.8  # of the height of the axes
_COLOURS = {"green": "#208a40", "amber": "#a47000", "red": "#db3b45"}
_MOST_ENTRIES = 10


def plot_trust(report: TrustReport) -> Figure:
    """Draw a trust report in one picture, with its verdict above.

    For a guide: the loss of each window of steps, with its noise; the log ratios of joint
    density to guide density, whose tail k-hat describes; and means and two standard deviations
    of the draws beside those of better draws, for the entries that are furthest off. For
    chains: the draws of the entry with the highest R-hat; R-hat and effective sample size of
    each entry; and, if the sampler kept the energies, their distribution beside that of their
    changes from draw to draw (Betancourt, 2016). For both: how far the calibration of
    predictions departs from uniform, with a band that contains it with 99% probability if the
    model is calibrated.

    Args:
        report: The result of :meth:`aimz_lab.ImpactModel.diagnose`.

    Returns:
        A matplotlib figure. It shows itself at the end of a cell; elsewhere, pass it to
        :func:`~aimz_lab.lab.show_figure`.

    Raises:
        ArgumentError: If this is no trust report.
        OptionalDependencyError: If matplotlib is missing.

    Example:
        >>> len(plot_trust(im.diagnose(X, y)).axes)
        4
    """
    from aimz_lab.trust.diagnosis import TrustReport

    if not isinstance(report, TrustReport):
        msg = f"plot_trust draws the result of im.diagnose(X, y), not {shown(report)}."
        raise ArgumentError(msg)
    environment.require_matplotlib()
    from aimz_lab.lab.pictures.figure_layout import figure_of_axes

    figure = figure_of_axes(8.0, 6.4)
    panels = _panels(report)
    axes = figure.subplots(2, 2).flat
    figure.suptitle(
        _wrapped(f"{report.level.upper()}: {report.verdict}"),
        color=_COLOURS[report.level],
        fontsize=11,
    )
    for each in axes[len(panels) :]:
        each.remove()
    for each, (_, draw) in zip(axes, panels, strict=False):
        draw(each, report)
        each.set_facecolor(ink.PAPER)
        each.spines[["top", "right"]].set_visible(False)
    listed = ", ".join(what for what, _ in panels)
    figure.alt = f"Trust report, {report.level}. {report.verdict} Pictures: {listed}."
    ink.adapt(figure)
    return figure


def _panels(report: TrustReport) -> list[tuple[str, Callable[[Axes, TrustReport], None]]]:
    """Return what to draw, in words and as a function."""
    of_predictions = ("the calibration of predictions", _calibration)
    mixed = report.mixed
    if mixed is None or report.log_ratios is not None:
        return [
            ("the loss", _loss),
            ("the importance of draws", _ratios),
            ("means and sds", _summaries),
            of_predictions,
        ]
    of_energies = [] if mixed.energy is None else [("energies", _energies)]
    of_chains = [("draws of chains", _traces), ("R-hat and effective draws", _r_hat)]
    return [*of_chains, *of_energies, of_predictions]


def _wrapped(text: str, width: int = 90) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, width))


def _nothing(axes: Axes, why: str) -> None:
    axes.text(
        0.5,
        0.5,
        _wrapped(why, 30),
        ha="center",
        va="center",
        color=ink.TEXT,
        transform=axes.transAxes,
    )
    axes.set_xticks([])
    axes.set_yticks([])


def _loss(axes: Axes, report: TrustReport) -> None:
    axes.set_title("loss", fontsize=10)
    trend = report.loss
    if trend is None or len(trend.windows) < 2:
        _nothing(axes, "no history of the loss")
        return
    steps = (np.arange(len(trend.windows)) + 1) * trend.window
    later = slice(len(trend.windows) // 4, None)  # the first fall would hide the end
    low, high = np.nanmin(trend.windows), np.nanmax(trend.windows[later])
    if np.isfinite(trend.errors).all():
        # A fall within its noise is none, however far the axis spreads it.
        ends = trend.windows + 2 * np.outer([-1, 1], trend.errors)
        low, high = min(low, ends[0, later].min()), max(high, ends[1, later].max())
        label = "± 2 standard errors"
        axes.fill_between(
            steps[later], *ends[:, later], color=_BLUE, alpha=_SHADE, linewidth=0, label=label
        )
    axes.plot(steps, trend.windows, color=_BLUE, linewidth=1.2)
    axes.set_ylim(low - 0.05 * (high - low) - 1e-9, high + 0.3 * (high - low) + 1e-9)
    if trend.waited:
        axes.axvline(
            steps[-1 - trend.waited], ymax=_BELOW_LEGEND, color=_GREY, linewidth=1,
            linestyle="--", label="last progress",
        )  # fmt: skip
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=8, frameon=False, loc="upper center", ncols=2)
    axes.set_xlabel("step")
    axes.set_ylabel("nats per row")
    set_steps(axes)


def _ratios(axes: Axes, report: TrustReport) -> None:
    if report.log_ratios is None:
        axes.set_title("importance of draws", fontsize=10)
        _nothing(axes, "no densities of draws are known")
        return
    ratios = report.log_ratios[np.isfinite(report.log_ratios)]
    axes.set_title(f"importance of draws, k-hat {report.k_hat:.2f}", fontsize=10)
    if not len(ratios):
        _nothing(axes, "no finite ratio")
        return
    axes.hist(ratios - ratios.max(), bins=40, color=_BLUE, alpha=_SHADE)
    axes.set_xlabel("log ratio, below the largest")
    axes.set_ylabel("draws")


def _traces(axes: Axes, report: TrustReport) -> None:
    """Draw the chains of one entry."""
    mixed = report.mixed
    axes.set_title(f"draws of {mixed.name}, which has the highest R-hat", fontsize=10)
    for chain, draws in enumerate(mixed.draws):
        colour = ink.LINES[chain % len(ink.LINES)]
        axes.plot(draws, color=colour, linewidth=0.6, alpha=0.8)
    axes.set_xlabel(f"draw, of {len(mixed.draws)} chain{'s' * (len(mixed.draws) > 1)}")


def _r_hat(axes: Axes, report: TrustReport) -> None:
    axes.set_title("R-hat and effective draws", fontsize=10)
    table = report.table
    least = table[["ess_bulk", "ess_tail"]].min(axis=1)
    axes.plot(table["r_hat"], least, "o", color=_BLUE, markersize=4)
    axes.axvline(1.01, color=_GREY, linewidth=1, linestyle="--")
    axes.axhline(100 * len(report.mixed.draws), color=_GREY, linewidth=1, linestyle="--")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("R-hat by entry; at most 1.01 is good")
    axes.set_ylabel("effective draws")


def _energies(axes: Axes, report: TrustReport) -> None:
    """Draw the spread of the energies, and of their changes; Betancourt (2016)."""
    axes.set_title("energies", fontsize=10)
    energy = report.mixed.energy
    found = {
        "energy, from its mean": (energy - energy.mean(), _BLUE),
        "change from draw to draw": (np.diff(energy), _ORANGE),
    }
    finite = [values[np.isfinite(values)] for values, _ in found.values()]
    if not all(map(len, finite)):
        _nothing(axes, "no finite energies")
        return
    bins = np.histogram_bin_edges(np.concatenate(finite), 40)
    for values, (label, (_, colour)) in zip(finite, found.items(), strict=True):
        axes.hist(values, bins=bins, color=colour, alpha=_SHADE, density=True, label=label)
    axes.set_yticks([])
    axes.set_ylim(0, 1.3 * axes.get_ylim()[1])
    axes.set_xlabel("nats")
    axes.legend(fontsize=8, frameon=False, loc="upper right")


def _summaries(axes: Axes, report: TrustReport) -> None:
    axes.set_title("mean and two sds", fontsize=10)
    table = report.table
    name = next((name for name in ("nuts", "psis") if f"{name}_mean" in table), None)
    if not len(table):
        _nothing(axes, "no latent sites")
        return
    if name is None:
        _nothing(axes, "no second opinion: diagnose(..., refine='nuts') has one")
        return
    far = table[f"{name}_shift_sds"].abs() + np.log(table[f"{name}_sd_ratio"]).abs()
    table = table.loc[far.fillna(np.inf).sort_values(ascending=False).index].head(_MOST_ENTRIES)
    # Each entry on the scale of its own draws: sites differ in size.
    centre, spread = table["mean"].to_numpy(), table["sd"].to_numpy()
    spread = np.where(spread > 0, spread, 1.0)
    at = np.arange(len(table))[::-1]
    other = {"nuts": "NUTS", "psis": "reweighted"}[name]
    drawn = ("", "draws", _BLUE, 0.12), (f"{name}_", other, _ORANGE, -0.12)
    for prefix, label, colour, up in drawn:
        mean = (table[f"{prefix}mean"].to_numpy() - centre) / spread
        sd = table[f"{prefix}sd"].to_numpy() / spread
        axes.errorbar(mean, at + up, xerr=2 * sd, fmt="o", color=colour, markersize=4, label=label)
    axes.set_yticks(at, table.index)
    axes.set_xlabel("sds of the draws, from their mean")
    axes.set_ylim(-0.6, len(table) + 0.6)  # with room for the legend
    axes.legend(fontsize=8, frameon=False, loc="upper right", ncols=2)


def _calibration(axes: Axes, report: TrustReport) -> None:
    axes.set_title("calibration of predictions", fontsize=10)
    if report.calibration is None:
        why = (one.text for one in report if one.name == "calibration")
        _nothing(axes, next(why, "predictions were not judged"))
        return
    found = report.calibration.of_pit
    lower, upper = found.lower - found.expected, found.upper - found.expected
    axes.fill_between(
        found.expected, lower, upper, color=_BLUE, alpha=_SHADE, linewidth=0, step="mid"
    )
    axes.step(found.expected, found.ecdf - found.expected, where="mid", color=_BLUE)
    axes.axhline(0, color=_GREY, linewidth=1, linestyle="--")
    axes.set_xlabel("PIT of the observed output")
    axes.set_ylabel("ECDF, less uniform")
