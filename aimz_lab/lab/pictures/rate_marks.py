"""Marks where the learning rate of a run was changed, for its figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aimz_lab.inference.run.records import RateChange
from aimz_lab.lab import formatting
from aimz_lab.lab.pictures import ink

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GAP_PT = 6
_FONT_PT = 7
_ROW_PT = 9
_ROWS = 2  # from below; no line runs through them


def draw_rate_changes(axes: Axes, changes: Sequence[RateChange]) -> None:
    """Draw a thin line at each change, and the new rate above it where it has room in two rows.

    The last change has its rate. A rate begins at its line, or ends there if it has no room on the
    right; below or above one that ends at its line, none begins at another.

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
    gap, above = (pt * figure.dpi / 72 for pt in (_GAP_PT, 2 + _ROWS * _ROW_PT))
    end = 1 - above / axes.bbox.height
    # Pixels of the axes on the left of the labels so far, by row, and of those that end at a line.
    free, begins = [axes.bbox.width] * _ROWS, axes.bbox.width
    places = [(change.step - first) / (last - first) * axes.bbox.width for change in changes]
    for change, at in zip(reversed(changes), reversed(places), strict=True):
        axes.axvline(
            change.step, ymax=end, color=ink.BROWN, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1
        )
        label = axes.annotate(
            f"rate {formatting.number(change.after, 3)}",
            (change.step, 1), xycoords=("data", "axes fraction"), xytext=(0, -2),
            textcoords="offset points", color=ink.TEXT, fontsize=_FONT_PT, va="top",
        )  # fmt: skip
        width = label.get_window_extent(renderer).width
        row = next((row for row in range(_ROWS) if at + width <= min(free[row], begins)), None)
        if row is None:
            # Another line that reaches to it from below has the row between for its own rate.
            is_above = any(at - width < other < at for other in places)
            rows = range(_ROWS)[:: -1 if is_above else 1]
            row = next((row for row in rows if width <= at <= free[row]), None)
            if row is None and change is not changes[-1]:
                label.remove()
                continue
            row = rows[0] if row is None else row
            label.set_ha("right")
            at -= width
            begins = min(begins, at - gap)
        label.set_y(-2 - (_ROWS - 1 - row) * _ROW_PT)
        free[row] = at - gap
