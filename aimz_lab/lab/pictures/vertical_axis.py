"""Set the vertical axis of a picture, and write its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from aimz_lab.lab import formatting
from aimz_lab.lab.pictures.vertical_view import VerticalView
from aimz_lab.system.imports import late_import

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.ticker import Formatter

_WITHIN = {1: (1, 2, 3, 5), 3: (1, 2, 5)}  # ticks of a decade, by the number of decades
_ABOUT = 6
_A_DECADE = 0.7  # a shorter axis has round numbers a like distance apart


def set_vertical(axes: Axes, view: VerticalView) -> None:
    """Set the scale, the ends and the numbers of the vertical axis.

    A logarithmic axis keeps the values themselves as its data, and is labelled with distances.
    """
    if view.kind == "linear":
        axes.set_ylim(view.low, view.high)
        return
    ticker = late_import("matplotlib.ticker")

    def distance(values: np.ndarray) -> np.ndarray:
        return np.log10(np.maximum(np.asarray(values, float) - view.base, view.low))

    def value(distances: np.ndarray) -> np.ndarray:
        return view.base + 10.0 ** np.asarray(distances, float)

    ticks = _log_ticks(view.low, view.high)
    axes.set_yscale("function", functions=(distance, value))
    axes.set_ylim(view.base + view.low, view.base + view.high)
    axes.yaxis.set_major_locator(ticker.FixedLocator([view.base + tick for tick in ticks]))
    axes.yaxis.set_major_formatter(ticker.FixedFormatter(formatting.tick_labels(ticks)))
    axes.yaxis.set_minor_locator(ticker.NullLocator())


def say_what_is_unseen(axes: Axes) -> None:
    """Say in the legend which lines have no point within the ends of the vertical axis."""
    low, high = axes.get_ylim()
    for line in axes.lines:
        values = np.asarray(line.get_ydata(), float)
        if not np.any((low <= values) & (values <= high)):
            line.set_label(f"{line.get_label()}, outside of this picture")


def _log_ticks(low: float, high: float) -> list[float]:
    """Positions from ``low`` to ``high``: powers of ten, finer where there are few."""
    ends = np.log10([low, high])
    if ends[1] - ends[0] < _A_DECADE:
        ticks = late_import("matplotlib.ticker").MaxNLocator(_ABOUT).tick_values(low, high)
    else:
        first, last = int(np.floor(ends[0])), int(np.ceil(ends[1]))
        every = max(1, -(-(last - first) // _ABOUT))
        within = next((w for decades, w in _WITHIN.items() if last - first <= decades), (1,))
        ticks = [m * 10.0**e for e in range(first, last + 1, every) for m in within]
    return [float(tick) for tick in ticks if 0.999 * low <= tick <= 1.001 * high]


def numbers() -> Formatter:
    """Return what writes the numbers along an axis, as on the live page."""

    class Numbers(late_import("matplotlib.ticker").Formatter):
        def __call__(self, value: float, pos: int | None = None) -> str:  # noqa: ARG002
            return formatting.number(value)

        def format_ticks(self, values: Sequence[float]) -> list[str]:
            return formatting.tick_labels(list(map(float, values)))

    return Numbers()
