"""Figures of a run's losses, by matplotlib without pyplot.

Any thread may draw one: only ``Figure`` and the Agg canvas are used, and no text is parsed as
mathematics.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from aimz_lab.calls import public
from aimz_lab.data.options import check_flag, check_text
from aimz_lab.errors import ArgumentError
from aimz_lab.inference.run.events import Run
from aimz_lab.inference.run.run_words import heading, time_now
from aimz_lab.lab import environment, formatting
from aimz_lab.lab.panels.chains import ENERGY
from aimz_lab.lab.panels.rate_curve import LEARNING_RATE
from aimz_lab.lab.pictures import ink
from aimz_lab.lab.pictures.choices import Choices
from aimz_lab.lab.pictures.curves import LOSS, Curve, curve_names, curve_of
from aimz_lab.lab.pictures.encoding import image_tag, png
from aimz_lab.lab.pictures.energies import draw_energies, shade_warmup
from aimz_lab.lab.pictures.rate_marks import draw_rate_changes
from aimz_lab.lab.pictures.step_axis import set_steps
from aimz_lab.lab.pictures.summary import WIDTH, Summary, notice_html
from aimz_lab.lab.pictures.vertical_axis import numbers, say_what_is_unseen, set_vertical
from aimz_lab.lab.pictures.vertical_view import vertical_view
from aimz_lab.lab.record import RunSource, run_of
from aimz_lab.system.imports import import_in_background, late_import

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

_DASHES = ((2, 3), (6, 3, 1, 3), (10, 4), (1, 4))
_WIDTH_IN, _HEIGHT_IN = 5.8, 2.85
_SECOND_HEIGHT_IN = 2.1  # of a second picture below
_DPI = 148
_TITLE_GAP = 24  # pixels
_COLUMNS = 400  # with more, noise fills the picture and doubles its bytes
_COLORS = {LOSS: ink.BLUE, LEARNING_RATE: ink.PINK}


@public
def loss_figure(
    *sources: RunSource,
    curve: str | None = None,
    log: bool = False,
    whole: bool = False,
    last_half: bool = False,
    per_row: bool = True,
    smooth: bool = True,
) -> Figure:
    """Draw the losses of a run: each step, smoothed, the best, and held-out.

    For chains, draw the potential energy of each instead. Their warm-up is shaded. If several
    iterations share a point, the line shows their mean and a shade their range.

    The vertical axis follows the data: a start far above the rest is cut off, and the picture says
    so. If the losses fall by orders of magnitude up to the end, the axis is logarithmic.

    Args:
        *sources: The run, or an object with one: a history, a dashboard, a watched loop. Further
            runs are drawn in grey for comparison.
        curve: What to draw instead of the loss: ``"learning_rate"``, or a metric of the run.
        log: Whether the vertical axis is logarithmic. It then shows the distance to the lowest
            loss, which is above zero whatever the sign of the losses.
        whole: Whether a linear axis has the whole range, also where the start is far off.
        last_half: Whether only the second half of the steps is drawn.
        per_row: Whether the loss is divided by the number of rows, if it is known.
        smooth: Whether to draw the smoothed curve as well.

    Returns:
        A figure of matplotlib without a window. It shows itself at the end of a cell; elsewhere,
        pass it to :func:`~aimz_lab.lab.show_figure`. Its background is transparent, and its colours
        are legible on light and on dark pages.

    Raises:
        ArgumentError: If no run is given, it has no such curve, or an option is neither ``True``
            nor ``False``.
        OptionalDependencyError: If matplotlib is missing.

    Example:
        >>> loss_figure(im.last_run, log=True).axes[0].get_xlabel()
        'step'
    """
    if not sources:
        msg = "loss_figure() draws at least one run; pass a Run, a History or a LiveDashboard."
        raise ArgumentError(msg)
    runs = [run_of(source) for source in sources]
    names = curve_names(runs[0])
    if curve is not None:
        check_text("curve", curve)
        if curve not in names:
            msg = f"The run has no curve {curve!r}; it has {', '.join(names)}."
            raise ArgumentError(msg)
    choices = Choices(
        curve or names[0],
        check_flag("log", log),
        check_flag("whole", whole),
        check_flag("last_half", last_half),
        check_flag("per_row", per_row),
        check_flag("smooth", smooth),
    )
    return draw_choices(runs, choices)


def load_drawing() -> None:
    """Import matplotlib while a run compiles: it takes a third of a second of the first picture."""
    if environment.has_matplotlib():
        import_in_background(
            "matplotlib.backends.backend_agg", "aimz_lab.lab.pictures.figure_layout"
        )


def draw_choices(runs: Sequence[Run], choices: Choices, *, is_second: bool = False) -> Figure:
    """Draw a run, and others in grey, as a reader chose.

    Args:
        runs: The run, and others.
        choices: How it is shown; a curve that the run does not have gives way to its first one.
        is_second: Whether it stands below a picture of the same run, and so is lower and has no
            title.

    Raises:
        OptionalDependencyError: If matplotlib is missing.
    """
    environment.require_matplotlib()
    agg = late_import("matplotlib.backends.backend_agg")
    layout = late_import("aimz_lab.lab.pictures.figure_layout")
    run, *others = runs
    size = _WIDTH_IN, _SECOND_HEIGHT_IN if is_second else _HEIGHT_IN
    figure = layout.ShownFigure(
        figsize=size, dpi=_DPI, facecolor=ink.PAPER, layout=layout.Margins()
    )
    figure.shown_width = WIDTH
    agg.FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor=ink.PAPER)
    axes.yaxis.set_major_formatter(numbers())
    names = curve_names(run)
    name = choices.curve if choices.curve in names else names[0]
    if not is_second:
        _title(axes, run)
    axis = "iteration" if run.info.is_sampling else "step"
    if choices.last_half:
        axis += ", second half of the run"
    if run.info.is_sampling and name in (LOSS, ENERGY):
        energies = draw_energies(axes, run, last_half=choices.last_half)
        unit = "potential energy (nats)"
        unit = unit if energies is None else energies.in_lines(unit)
        _dress(axes, unit, axis, is_second=is_second)
        if energies is not None:
            set_vertical(axes, energies)
        figure.alt = "Below it, the potential energy." if is_second else Summary(run).alt()
        return figure
    shown = curve_of(run, others, name=name, per_row=choices.per_row, smooth=choices.smooth)
    since = shown.total / 2 if choices.last_half else 0.0
    shown = shown.since(since)
    shade_warmup(axes, run, since)
    view = vertical_view(shown, log=choices.log, whole=choices.whole, was_log=choices.was_log)
    _draw_curve(axes, shown)
    words = view.words(shown.unit)
    warmup = " The warm-up is shaded." if run.chains else ""
    part = "It shows the second half of the steps; the" if choices.last_half else "The"
    curve = formatting.curve_words(name, is_sampling=run.info.is_sampling)
    about = f"Below it, the {curve}." if is_second else Summary(run).alt(curve)
    figure.alt = f"{about} {part} vertical axis shows {words}.{warmup}"
    set_vertical(axes, view)
    if len(shown.steps):
        say_what_is_unseen(axes)
    _dress(axes, view.in_lines(shown.unit), axis, is_second=is_second)
    draw_rate_changes(axes, shown.rate_changes)
    return figure


def _draw_curve(axes: Axes, shown: Curve) -> None:
    if len(shown.steps) == 0:
        axes.text(0.5, 0.5, "no steps", transform=axes.transAxes, color=ink.TEXT, ha="center")
        return
    for other, dash in zip(shown.others, _DASHES * len(shown.others), strict=False):
        axes.plot(
            other.steps, other.values, color=ink.OTHER, linewidth=1.1, dashes=dash,
            label=other.label,
        )  # fmt: skip
    color = _COLORS.get(shown.name, ink.BROWN)
    _draw_each_step(axes, shown, color)
    if shown.smoothed is not None and _has_neighbours(shown.smoothed):
        axes.plot(shown.steps, shown.smoothed, color=color, linewidth=1.9, label="smoothed")
    if shown.best is not None:
        name, step, value = shown.best
        label = f"{name} {formatting.number(value)} at step {step:,}"
        axes.plot(step, value, "D", color=ink.GREEN, markersize=6, label=label)
    if shown.validation is not None:
        steps, values = shown.validation.steps, shown.validation.values
        marker = "o" if len(steps) <= 60 else ""
        axes.plot(
            steps, values, color=ink.ORANGE, linewidth=1.6, dashes=(4, 2), marker=marker,
            markersize=3.5, label=shown.validation.label,
        )  # fmt: skip


def _has_neighbours(values: Float[np.ndarray, " point"]) -> bool:
    """Whether there is anything of a line without markers to see."""
    finite = np.isfinite(values)
    return bool((finite[1:] & finite[:-1]).any())


def _draw_each_step(axes: Axes, shown: Curve, color: str) -> None:
    coarse = shown.coarser(_COLUMNS)
    if coarse.width > 1:
        axes.fill_between(
            coarse.steps, coarse.low, coarse.high, color=color, alpha=0.18, linewidth=0
        )
    style = {"linewidth": 1.4} if shown.smoothed is None else {"linewidth": 0.8, "alpha": 0.5}
    name = LOSS if shown.name == LOSS else shown.unit
    label = "each step" if shown.smoothed is not None or shown.name == LOSS else name
    if shown.smoothed is None and coarse.width > 1:
        label = f"{name}, means of {coarse.width:,} steps"
    # A line needs two neighbours; a finite value between others that are not is a dot.
    finite = np.r_[False, np.isfinite(coarse.mean), False]
    alone = np.flatnonzero(finite[1:-1] & ~finite[:-2] & ~finite[2:])
    if len(alone):
        style |= {"marker": "o", "markersize": 4, "markevery": alone.tolist()}
    axes.plot(coarse.steps, coarse.mean, color=color, label=label, **style)
    # Steps without a finite value are steps too.
    axes.update_datalim([(step, 0) for step in shown.steps[[0, -1]]], updatey=False)
    if not finite.any():
        axes.text(
            0.5, 0.5, "no finite value", transform=axes.transAxes, color=ink.TEXT, ha="center"
        )


def _dress(axes: Axes, unit: str, axis: str, *, is_second: bool) -> None:
    axes.set_xlabel(axis, color=ink.TEXT, fontsize=8.5)
    axes.set_ylabel(unit, color=ink.TEXT, fontsize=7.5 if is_second else 8.5)
    axes.tick_params(colors=ink.TEXT, labelsize=8, length=0)
    set_steps(axes)
    axes.grid(color=ink.OTHER, alpha=0.25, linewidth=0.8)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.margins(x=0.01)
    late_import("aimz_lab.lab.pictures.figure_layout").legend_below(axes, ink.TEXT)


def _title(axes: Axes, run: Run) -> None:
    """Write the run's name on the left and its status on the right, beside it or below."""
    name = axes.set_title(
        heading(run), loc="left", y=1.0, color=ink.TEXT, fontsize=10.5, fontweight="bold",
        parse_math=False,
    )  # fmt: skip
    begins = f"{run.info.model}: "
    line = formatting.line_then(run)
    state = axes.set_title(
        line[len(begins) :], loc="right", y=1.0, color=ink.TEXT, fontsize=8.5, parse_math=False
    )
    room = 0.87 * axes.figure.bbox.width  # the axes have a little more
    if _width(name) + _width(state) + _TITLE_GAP > room:
        _shorten(name, room)
        line = formatting.line_then(run, width=len(line) - 1)  # without its least part
        while _width(state) > room and line.startswith(begins):
            state.set_text(line[len(begins) :])
            line = formatting.line_then(run, width=len(line) - 1)
        _wrap(state, room)
        name.set_text(name.get_text() + "\n" * (1 + state.get_text().count("\n")))


def _width(text: Text) -> float:
    return text.get_window_extent(text.figure.canvas.get_renderer()).width


def _shorten(text: Text, room: float) -> None:
    """Cut the end of a text that is wider than ``room`` pixels."""
    whole = text.get_text()
    for length in range(len(whole) - 1, 0, -1):
        if _width(text) <= room:
            return
        text.set_text(f"{whole[:length].rstrip()}…")


def _wrap(text: Text, room: float) -> None:
    """Write the parts of a status in lines of at most ``room`` pixels."""
    lines = [""]
    for part in text.get_text().split(" · "):
        text.set_text(f"{lines[-1]} · {part}" if lines[-1] else part)
        if lines[-1] and _width(text) > room:
            lines.append(part)
        else:
            lines[-1] = text.get_text()
    text.set_text("\n".join(lines))


def picture_bundle(
    source: RunSource, choices: Choices | None = None, others: Sequence[Run] = ()
) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the final output of a run: picture, HTML and text, and their metadata.

    Of a run that goes on, it says of when the picture is. Without matplotlib there is no picture.
    Where another curve than the loss is chosen, or than the first one of chains, that stands below.

    Args:
        source: A run, or an object with one.
        choices: How its curve is shown.
        others: Runs that are drawn in grey.

    Returns:
        A MIME bundle with base64 text for the picture, and the metadata of its parts. JupyterLab
        reads the alternative text from the HTML alone, and other programs from the metadata.
    """
    run = run_of(source)
    summary = Summary(run)
    if not environment.has_matplotlib():
        return {"text/html": summary.html(), "text/plain": summary.text()}, {}
    figures = _chosen_and_first([run, *others], choices or Choices())
    alt = " ".join(figure.alt for figure in figures)
    encoded = base64.b64encode(png(*figures)).decode("ascii")
    if run.finished:
        html = summary.html(f"data:image/png;base64,{encoded}", alt)
    else:  # a table would be of another moment than the picture
        image = image_tag(f"data:image/png;base64,{encoded}", alt, WIDTH)
        html = f"<div>{image}{notice_html(f'as of {time_now()}')}</div>"
    bundle = {"image/png": encoded, "text/html": html, "text/plain": summary.text()}
    return bundle, {"image/png": {"width": WIDTH, "alt": alt}}


def _chosen_and_first(runs: Sequence[Run], choices: Choices) -> list[Figure]:
    """Draw the chosen curve, and below it the first one: every record of a run has its loss."""
    first, *others = curve_names(runs[0])
    figures = [draw_choices(runs, choices)]
    if choices.curve in others:
        loss = replace(choices, curve=first, was_log=False)
        figures.append(draw_choices(runs, loss, is_second=True))
    return figures
