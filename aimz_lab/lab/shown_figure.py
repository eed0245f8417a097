"""The figure that still pictures are drawn on; importing it loads matplotlib."""

from __future__ import annotations

from matplotlib.figure import Figure

from aimz_lab.lab.figures import png


class ShownFigure(Figure):
    """A figure that shows itself at the end of a cell.

    Notebooks learn to show plain ones only when pyplot makes its first.
    """

    def _repr_png_(self) -> bytes:
        return png(self)
