"""Figures of a run's losses, by matplotlib without pyplot.

Any thread may draw one: only ``Figure`` and the Agg canvas are used, and no text is parsed as
mathematics.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aimz_lab.calls import public
from aimz_lab.data.options import check_flag
from aimz_lab.errors import ArgumentError, OptionalDependencyError
from aimz_lab.inference.run.events import Run
from aimz_lab.lab import formatting
from aimz_lab.lab.environment import has_matplotlib
from aimz_lab.lab.pictures.encoding import png
from aimz_lab.lab.pictures.energies import draw_energies
from aimz_lab.lab.pictures.summary import Summary, heading
from aimz_lab.lab.record import RunSource, loss_trace, run_of
from aimz_lab.lab.traces import Trace
from aimz_lab.system.imports import late_import

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text
    from matplotlib.ticker import Formatter

# Okabe and Ito's palette, as in the live view.
_LOSS, _VALIDATION, _BEST, _OTHER = "#0072b2", "#c04f00", "#00795a", "#767676"
_TEXT, _MUTED, _GRID, _PAPER = "#1c1e21", "#5c6066", "#e6e8eb", "#ffffff"
_DASHES = ((2, 3), (6, 3, 1, 3), (10, 4), (1, 4))
_SIZE_IN = (8.2, 3.3)
_DPI = 130
_TITLE_GAP = 24  # pixels
_COLUMNS = 400  # with more, noise fills the picture and doubles its bytes


@public
def loss_figure(
    *sources: RunSource, log: bool = False, per_row: bool = True, smooth: bool = True
) -> Figure:
    """Draw the losses of a run: each step, smoothed, the best, and validation.

    Of a run of chains, draw the potential energy of each instead, its warm-up shaded.

    Args:
        *sources: The run, or an object with one: a history, a dashboard, a watched loop. Further
            ones are drawn in grey for comparison.
        log: Whether the loss is on a logarithmic axis.
        per_row: Whether the loss is divided by the number of rows, if it is known.
        smooth: Whether to draw the exponential moving average as well.

    Returns:
        A figure of matplotlib without a window; it shows itself at the end of a cell.

    Raises:
        ArgumentError: If no run is given, or an option is neither ``True`` nor ``False``.
        OptionalDependencyError: If matplotlib is missing.

    Example:
        >>> loss_figure(im.last_run, log=True).axes[0].get_xlabel()
        'step'
    """
    if not sources:
        msg = "loss_figure() draws at least one run; pass a Run, a History or a LiveDashboard."
        raise ArgumentError(msg)
    log, per_row = check_flag("log", log), check_flag("per_row", per_row)
    smooth = check_flag("smooth", smooth)
    if not has_matplotlib():
        msg = "Pictures need matplotlib: pip install 'aimz_lab[lab]'"
        raise OptionalDependencyError(msg)
    agg = late_import("matplotlib.backends.backend_agg")
    layout = late_import("aimz_lab.lab.pictures.figure_layout")
    run, *others = [run_of(source) for source in sources]
    figure = layout.ShownFigure(
        figsize=_SIZE_IN, dpi=_DPI, facecolor=_PAPER, layout=layout.Margins()
    )
    agg.FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if run.info.is_sampling:
        draw_energies(axes, run)
        _dress(axes, run, "potential energy (nats)", "iteration")
        return figure
    rows = (run.info.n_obs or 1) if per_row else 1
    for other, dash in zip(others, _DASHES * len(others), strict=False):
        _draw_other(axes, other, per_row=per_row, dash=dash)
    _draw_losses(axes, run, rows, smooth=smooth)
    _draw_validation(axes, run, per_row=per_row)
    if log:
        lowest = axes.dataLim.y0
        axes.set_yscale("log" if lowest > 0 else "symlog")
    _dress(axes, run, "loss per row (nats)" if rows > 1 else "loss (nats)")
    if log and lowest > 0 and axes.dataLim.y1 < 10 * lowest:
        _label_within_a_decade(axes)
    return figure


def _draw_losses(axes: Axes, run: Run, rows: int, *, smooth: bool) -> None:
    trace = loss_trace(run)
    if trace.n_steps == 0:
        axes.text(0.5, 0.5, "no steps", transform=axes.transAxes, color=_MUTED, ha="center")
        return
    _draw_each_step(axes, trace.coarser(_COLUMNS), rows, light=smooth)
    steps, smoothed = trace.steps, trace.smooth() / rows
    line = smoothed if smooth else trace.mean / rows
    if smooth:
        axes.plot(steps, smoothed, color=_LOSS, linewidth=1.9, label="smoothed")
    if np.isfinite(line).any():
        at = int(np.nanargmin(line))
        label = f"best {formatting.number(float(line[at]))} at step {int(steps[at]):,}"
        axes.plot(
            steps[at], line[at], "D", color=_BEST, markersize=6, markeredgecolor=_PAPER, label=label
        )


def _draw_each_step(axes: Axes, trace: Trace, rows: int, *, light: bool) -> None:
    steps = trace.steps
    if trace.width > 1:
        axes.fill_between(
            steps, trace.low / rows, trace.high / rows, color=_LOSS, alpha=0.15, linewidth=0
        )
    style = {"linewidth": 0.8, "alpha": 0.45} if light else {"linewidth": 1.4}
    if trace.n_steps == 1:
        style |= {"marker": "o", "markersize": 4}
    axes.plot(steps, trace.mean / rows, color=_LOSS, label="each step", **style)


def _draw_validation(axes: Axes, run: Run, *, per_row: bool) -> None:
    if not run.validation or not (per_row or run.info.n_obs):
        return
    steps, values = (np.asarray(column, float) for column in zip(*run.validation, strict=True))
    if not per_row:
        values *= run.info.n_obs
    marker = "o" if len(steps) <= 60 else ""
    axes.plot(
        steps, values, color=_VALIDATION, linewidth=1.6, dashes=(4, 2), marker=marker,
        markersize=3.5, label="validation",
    )  # fmt: skip


def _draw_other(axes: Axes, run: Run, *, per_row: bool, dash: tuple[int, ...]) -> None:
    trace = loss_trace(run)
    rows = (run.info.n_obs or 1) if per_row else 1
    axes.plot(
        trace.steps, trace.smooth() / rows, color=_OTHER, linewidth=1.1, dashes=dash,
        label=f"{run.info.model}, {run.step:,} steps",
    )  # fmt: skip


def _dress(axes: Axes, run: Run, unit: str, axis: str = "step") -> None:
    ticker = late_import("matplotlib.ticker")
    _title(axes, run)
    axes.set_xlabel(axis, color=_MUTED, fontsize=8.5)
    axes.set_ylabel(unit, color=_MUTED, fontsize=8.5)
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: formatting.count(value)))
    axes.yaxis.set_major_formatter(_tick_formatter())
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())
    axes.tick_params(colors=_MUTED, labelsize=8, length=0)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.margins(x=0.01)
    if axes.get_legend_handles_labels()[0]:
        legend = axes.legend(
            fontsize=8, labelcolor=_TEXT, loc="upper right", facecolor=_PAPER, framealpha=0.85,
            edgecolor="none",
        )  # fmt: skip
        for text in legend.get_texts():
            text.set_parse_math(False)


def _label_within_a_decade(axes: Axes) -> None:
    """Label the minor ticks of a logarithmic axis that has few major ones."""
    axes.yaxis.set_minor_formatter(_tick_formatter())
    axes.tick_params(axis="y", which="minor", colors=_MUTED, labelsize=8, length=0)


def _tick_formatter() -> Formatter:
    class Numbers(late_import("matplotlib.ticker").Formatter):
        def __call__(self, value: float, pos: int | None = None) -> str:  # noqa: ARG002
            return formatting.number(value)

        def format_ticks(self, values: Sequence[float]) -> list[str]:
            return formatting.tick_labels(list(map(float, values)))

    return Numbers()


def _title(axes: Axes, run: Run) -> None:
    """Write the run's name on the left and its status on the right, beside it or below."""
    name = axes.set_title(
        heading(run), loc="left", y=1.0, color=_TEXT, fontsize=10.5, fontweight="bold",
        parse_math=False,
    )  # fmt: skip
    status = formatting.status_line(run)[len(f"{run.info.model}: ") :]
    state = axes.set_title(status, loc="right", y=1.0, color=_MUTED, fontsize=8.5, parse_math=False)
    room = 0.87 * axes.figure.bbox.width  # the axes have a little more
    if _width(name) + _width(state) + _TITLE_GAP > room:
        _shorten(name, room)
        _shorten(state, room)
        name.set_text(f"{name.get_text()}\n")


def _width(text: Text) -> float:
    return text.get_window_extent(text.figure.canvas.get_renderer()).width


def _shorten(text: Text, room: float) -> None:
    """Cut the end of a text that is wider than ``room`` pixels."""
    whole = text.get_text()
    for length in range(len(whole) - 1, 0, -1):
        if _width(text) <= room:
            return
        text.set_text(f"{whole[:length].rstrip()}…")


def picture_bundle(source: RunSource) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the final output of a run: picture, HTML and text, and their metadata.

    Without matplotlib there is no picture.

    Args:
        source: A run, or an object with one.

    Returns:
        A MIME bundle with base64 text for the picture, and the metadata of its parts.
    """
    run = run_of(source)
    summary = Summary(run)
    if not has_matplotlib():
        return {"text/html": summary.html(), "text/plain": summary.text()}, {}
    encoded = base64.b64encode(png(loss_figure(run))).decode("ascii")
    bundle = {
        "image/png": encoded,
        "text/html": summary.html(f"data:image/png;base64,{encoded}"),
        "text/plain": summary.text(),
    }
    return bundle, {"image/png": {"width": 820, "alt": summary.alt()}}
