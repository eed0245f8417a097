"""Draw the losses of several runs over each other, and below them how their models differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from aimz_lab.inference.run.events import Run
from aimz_lab.inference.run.run_words import of_outcomes
from aimz_lab.lab import formatting
from aimz_lab.lab.pictures import ink
from aimz_lab.lab.pictures.curves import curve_of, over_log_steps
from aimz_lab.lab.pictures.step_axis import set_steps
from aimz_lab.lab.pictures.vertical_view import common_view
from aimz_lab.system.imports import late_import

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DASHES = ((), (6, 2), (2, 2), (8, 2, 2, 2))
_WIDE, _HIGH, _DPI = 5.8, 3.0, 148
_FAR_LONGER = 20.0  # times the steps of another run: that one is too short for a linear axis
_OF_A_MODEL, _OF_AXIS = 0.24, 0.75  # inches


def has_curve(run: Run) -> bool:
    """Whether a run has losses; what chains report is none."""
    return bool(run.step) and not run.info.is_sampling


def comparison_figure(
    runs: Mapping[str, Run],
    differences: Mapping[str, tuple[float, float]],
    names: Sequence[str],
) -> Figure:
    """Draw the smoothed losses of runs, and differences of leave-one-out, on transparent paper.

    Args:
        runs: The runs by name.
        differences: Difference to the best model and its standard error, by the name of the run.
        names: Names of all runs and of models without one, in the order of their colours.
    """
    layout = late_import("aimz_lab.lab.pictures.figure_layout")
    agg = late_import("matplotlib.backends.backend_agg")
    drawn = {name: run for name, run in runs.items() if has_curve(run)}
    below = _OF_AXIS + _OF_A_MODEL * len(differences) if differences else 0.0
    engine = "constrained" if differences else layout.Margins()
    figure = layout.ShownFigure(
        figsize=(_WIDE, _HIGH + below), dpi=_DPI, facecolor="none", layout=engine
    )
    agg.FigureCanvasAgg(figure)
    if differences:
        axes, lower = figure.subplots(2, 1, height_ratios=[_HIGH, below])
        _draw_differences(lower, differences, names)
    else:
        axes = figure.add_subplot()
    _draw_losses(axes, drawn, names)
    if not differences:
        layout.legend_below(axes, ink.TEXT)
    elif drawn:
        layout.legend_beside(axes)
    figure.alt = _words(drawn, differences)
    return figure


def _words(runs: Mapping[str, Run], differences: Mapping[str, tuple[float, float]]) -> str:
    ends = [f"{name} ends at {formatting.number(_end(run))}" for name, run in runs.items()]
    said = [f"Losses over the steps: {', '.join(ends)}."] if ends else []
    less = [f"{name} {formatting.number_beside(*one)}" for name, one in differences.items()]
    if less:
        said.append(f"Leave-one-out compared with the best: {', '.join(less)}.")
    return " ".join(said)


def _end(run: Run) -> float:
    return float(curve_of(run, per_row=True, smooth=True).line[-1])


def _draw_losses(axes: Axes, runs: Mapping[str, Run], names: Sequence[str]) -> None:
    """Draw the lines on an axis that is chosen as that of any curve."""
    vertical = late_import("aimz_lab.lab.pictures.vertical_axis")
    axes.set_facecolor("none")
    curves = {name: curve_of(run, per_row=True, smooth=True) for name, run in runs.items()}
    totals = [curve.total for curve in curves.values()]
    log = bool(totals) and max(totals) > _FAR_LONGER * min(totals)
    of = dict(zip(runs, of_outcomes(list(runs.values())), strict=True))
    for name, curve in curves.items():
        steps, line = curve.steps, curve.line
        if log:
            even = over_log_steps(runs[name], per_row=True)
            steps, line = even.steps, even.values
        i = names.index(name)
        dashes = _DASHES[i // len(ink.LINES) % len(_DASHES)]
        axes.plot(
            steps, line, color=ink.LINES[i % len(ink.LINES)],
            linewidth=1.8, dashes=dashes or (None, None), marker="o" if curve.total == 1 else "",
            label=f" {name}{of[name]}", zorder=2 + 1 / (1 + curve.total),  # the shorter, the nearer
        )  # fmt: skip
    per_row = all(run.info.n_obs for run in runs.values())
    view = common_view(list(curves.values()))
    # Means of few steps, at the start of a logarithmic axis, are in no bucket of the curves.
    drawn = np.concatenate([np.empty(0), *(one.get_ydata() for one in axes.lines)])
    lowest = drawn[np.isfinite(drawn)].min(initial=np.inf)
    if view.kind == "linear" and lowest < view.low:
        view = replace(view, below=float(lowest))
    unit = "loss per row (nats)" if per_row else "loss (nats)"
    axes.yaxis.set_major_formatter(vertical.numbers())
    vertical.set_vertical(axes, view)
    vertical.say_what_is_unseen(axes)
    _dress(axes, "step, log scale" if log else "step", view.in_lines(unit))
    set_steps(axes, log=log)


def _draw_differences(
    axes: Axes, differences: Mapping[str, tuple[float, float]], names: Sequence[str]
) -> None:
    axes.set_facecolor("none")
    for place, (name, (less, error)) in enumerate(differences.items()):
        color = ink.LINES[names.index(name) % len(ink.LINES)]
        axes.plot([less - 2 * error, less + 2 * error], [place, place], color=color, linewidth=2)
        axes.plot([less], [place], "o", color=color, markersize=5)
    axes.set_yticks(range(len(differences)), list(differences))
    for text in axes.get_yticklabels():
        text.set_parse_math(False)
    axes.set_ylim(len(differences) - 0.5, -0.5)
    _dress(axes, "elpd, leave-one-out, compared with the best (nats), and two standard errors", "")


def _dress(axes: Axes, x_label: str, y_label: str) -> None:
    axes.set_xlabel(x_label, color=ink.TEXT, fontsize=8.5)
    axes.set_ylabel(y_label, color=ink.TEXT, fontsize=8.5)
    axes.tick_params(colors=ink.TEXT, labelsize=8, length=0)
    axes.grid(color=ink.TEXT, alpha=0.2, linewidth=0.8)
    for spine in axes.spines.values():
        spine.set_visible(False)
