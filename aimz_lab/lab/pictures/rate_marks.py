"""Marks where the learning rate of a run was changed, for its figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aimz_lab.inference.run.records import RateChange
from aimz_lab.lab import formatting
from aimz_lab.lab.pictures import ink

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GAP_PT = 3
_FONT_PT = 7
_ROWS = 2


def draw_rate_changes(axes: Axes, changes: Sequence[RateChange]) -> None:
    """Draw a thin line at each change, with the new rate where it has room, in one of two rows.

    The last change has its rate; it goes to the left where the axes end.

    Args:
        axes: Axes with steps from left to right, and all else drawn on them; of a figure with
            :class:`~aimz_lab.lab.pictures.figure_layout.Margins`.
        changes: The changes, at most some dozens, by step.
    """
    if not changes:
        return
    figure = axes.figure
    renderer = figure.canvas.get_renderer()
    figure.get_layout_engine().execute(figure)  # how wide the axes are decides what has room
    first, last = axes.get_xlim()
    gap = _GAP_PT * figure.dpi / 72
    free = [axes.bbox.width] * _ROWS  # pixels of the axes on the left of the labels so far
    for change in reversed(changes):
        axes.axvline(change.step, color=ink.BROWN, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
        at = (change.step - first) / (last - first) * axes.bbox.width
        label = axes.annotate(
            f"rate {formatting.number(change.after, 3)}",
            (change.step, 1), xycoords=("data", "axes fraction"), xytext=(_GAP_PT, -2),
            textcoords="offset points", color=ink.TEXT, fontsize=_FONT_PT, va="top",
        )  # fmt: skip
        width = label.get_window_extent(renderer).width
        fits = [row for row in range(_ROWS) if at + gap + width <= free[row]]
        if change is changes[-1] and not fits:
            label.set(x=-_GAP_PT, ha="right")
            free[0] = at - 2 * gap - width
        elif fits:
            label.set(y=-2 - fits[0] * (_FONT_PT + 2))
            free[fits[0]] = at
        else:
            label.remove()
