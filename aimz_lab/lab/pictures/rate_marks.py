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
_BESIDE_AXES = 160  # pixels, at most: the axes are placed when the figure is drawn


def draw_rate_changes(axes: Axes, changes: Sequence[RateChange]) -> None:
    """Draw a thin line at each change, with the new rate where it has room.

    The last change has its rate; it goes to the left where the axes end.

    Args:
        axes: Axes with steps from left to right, and all else drawn on them.
        changes: The changes, at most some dozens, by step.
    """
    figure = axes.figure
    renderer = figure.canvas.get_renderer()
    first, last = axes.get_xlim()
    room = figure.bbox.width - _BESIDE_AXES
    gap = _GAP_PT * figure.dpi / 72
    free = room  # pixels of the axes on the left of the labels so far
    for change in reversed(changes):
        axes.axvline(change.step, color=ink.BROWN, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
        at = (change.step - first) / (last - first) * room
        label = axes.annotate(
            f"rate {formatting.number(change.after, 3)}",
            (change.step, 1), xycoords=("data", "axes fraction"), xytext=(_GAP_PT, -2),
            textcoords="offset points", color=ink.TEXT, fontsize=7, va="top",
        )  # fmt: skip
        width = label.get_window_extent(renderer).width
        if at + gap + width <= free:
            free = at
        elif change is changes[-1]:
            label.set(x=-_GAP_PT, ha="right")
            free = at - 2 * gap - width
        else:
            label.remove()
