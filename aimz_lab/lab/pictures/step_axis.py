"""Number the horizontal axis of a picture with steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aimz_lab.lab import formatting
from aimz_lab.system.imports import late_import

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST = 9
_FONT_SIZE = 8
_DIGIT, _GAP = 0.65, 1.25  # width of a digit, and between two numbers, in font sizes


def set_steps(axes: Axes, *, log: bool = False) -> None:
    """Write whole numbers along the axis of steps, as many as it has room for.

    Args:
        axes: The axes.
        log: Whether the axis is a logarithmic one.
    """
    ticker = late_import("matplotlib.ticker")

    class Steps(ticker.MaxNLocator):
        def tick_values(self, vmin: float, vmax: float) -> np.ndarray:
            longest = formatting.count(max(abs(vmin), abs(vmax)))
            sizes = axes.bbox.width * 72 / axes.figure.dpi / _FONT_SIZE
            self.set_params(nbins=int(np.clip(sizes / (_DIGIT * len(longest) + _GAP), 1, _MOST)))
            return super().tick_values(vmin, vmax)

    axes.tick_params("x", labelsize=_FONT_SIZE)
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(ticker.NullLocator())
        axes.xaxis.set_major_locator(ticker.LogLocator(numticks=_MOST))
    else:
        axes.xaxis.set_major_locator(Steps(integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: formatting.count(value)))
