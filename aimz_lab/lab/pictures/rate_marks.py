"""Marks where the learning rate of a run was changed, for its figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aimz_lab.inference.run.records import RateChange
from aimz_lab.lab import formatting
from aimz_lab.lab.pictures import ink

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_LABELS = 6


def draw_rate_changes(axes: Axes, changes: Sequence[RateChange], n_steps: int) -> None:
    """Draw a thin line at each change, with the new rate where there are few.

    Args:
        axes: Axes with steps from left to right.
        changes: The changes, at most some dozens.
        n_steps: Steps of the run.
    """
    for change in changes:
        axes.axvline(change.step, color=ink.BROWN, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
        is_last = change.step > 0.85 * n_steps
        if len(changes) <= _MOST_LABELS:
            axes.annotate(
                f"rate {formatting.number(change.after, 3)}",
                (change.step, 1), xycoords=("data", "axes fraction"),
                xytext=(-3 if is_last else 3, -2), textcoords="offset points", color=ink.TEXT,
                fontsize=7, va="top", ha="right" if is_last else "left",
            )  # fmt: skip
