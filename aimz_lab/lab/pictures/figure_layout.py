"""The figure and the margins of still pictures; importing it loads matplotlib."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import LayoutEngine

from aimz_lab.lab.pictures import ink
from aimz_lab.lab.pictures.encoding import Bundle, png, shown_bundle

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

_EDGE = 14  # pixels, between the edge of the picture and the text
_GAP = 9  # between an axis and its numbers, and between these and its name
_LEFT_OF_LEGEND = 110  # most that the name and the usual numbers of the vertical axis take
_LAST_NUMBER = 48  # half of the number at the right end of the axis of steps


class Margins(LayoutEngine):
    """Leaves room for the text around one pair of axes.

    It measures once, and only texts that differ between pictures. matplotlib's own engines measure
    everything twice, which takes longer than drawing it.
    """

    _adjust_compatible = True
    _colorbar_gridspec = True

    def execute(self, figure: Figure) -> None:
        """Place the axes and their names."""
        if not figure.axes:
            return
        axes, renderer = figure.axes[0], figure.canvas.get_renderer()
        (width, height), place = figure.bbox.size, figure.transFigure

        def most(size: str, texts: Iterable[Artist]) -> float:
            return max((getattr(t.get_window_extent(renderer), size) for t in texts), default=0.0)

        legend = axes.get_legend()
        below = 0.0 if legend is None else most("height", [legend]) + _GAP
        high = most("height", [axes.xaxis.label])
        names = _EDGE + below
        bottom = names + high + 2 * _GAP + most("height", axes.get_xticklabels()[:1])
        above = _EDGE + _GAP + most("height", [axes.title, axes._left_title, axes._right_title])
        bottom, top = bottom / height, 1 - above / height
        figure.subplots_adjust(bottom=bottom, top=top)  # which numbers an axis has depends on it
        wide = most("width", [axes.yaxis.label])
        left = _EDGE + wide + _GAP + most("width", axes.get_yticklabels(which="both")) + _GAP
        left, right = left / width, 1 - _LAST_NUMBER / width
        figure.subplots_adjust(left=left, right=right)
        if legend is not None:  # below the axes, and left of them rather than cut
            begins = max(min(left * width, width - most("width", [legend]) - _EDGE), _EDGE)
            legend.set_bbox_to_anchor((begins / width, _EDGE / height), place)
        axes.xaxis.set_label_coords((left + right) / 2, (names + high) / height, place)
        # A name longer than its axis goes below it: above are the title's lines.
        middle = min((bottom + top) / 2, top - most("height", [axes.yaxis.label]) / height / 2)
        axes.yaxis.set_label_coords((_EDGE + wide) / width, middle, place)


def legend_below(axes: Axes, color: str) -> None:
    """Name the lines in rows below the axes, where no curve runs through the names.

    Args:
        axes: The axes, of a figure with :class:`Margins`.
        color: Colour of the names.
    """
    figure = axes.figure
    room = figure.bbox.width - _LEFT_OF_LEGEND - _EDGE
    for columns in range(len(axes.get_legend_handles_labels()[1]), 0, -1):
        legend = axes.legend(
            fontsize=8, labelcolor=color, frameon=False, loc="lower left", ncols=columns,
            borderpad=0, borderaxespad=0, columnspacing=1.6,
        )  # fmt: skip
        for text in legend.get_texts():
            text.set_parse_math(False)
        if legend.get_window_extent(figure.canvas.get_renderer()).width <= room:
            return


def legend_beside(axes: Axes, title: str | None = None) -> None:
    """Name the lines right of the axes, where none runs through the names.

    Args:
        axes: The axes, of a figure whose layout is the constrained one.
        title: What the names are names of.
    """
    legend = axes.legend(
        title=title, loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=8,
        title_fontsize=8, labelcolor=ink.TEXT,
    )  # fmt: skip
    for text in (*legend.get_texts(), legend.get_title()):
        text.set_parse_math(False)
    legend.get_title().set_color(ink.TEXT)


class ShownFigure(Figure):
    """A figure that shows itself at the end of a cell.

    Notebooks learn to show plain ones only when pyplot makes its first.

    Attributes:
        alt: The alternative text: what the picture shows, for those who cannot see it.
        shown_width: Its width on the page in pixels; as many as it has, if ``None``.
        follows: Whether it is darker on light pages and brighter on dark ones.
    """

    alt = ""
    shown_width: int | None = None
    follows = True

    def _repr_mimebundle_(self, **_: object) -> Bundle:
        return shown_bundle(png(self), self.alt, self.shown_width, follows=self.follows)


def figure_of_axes(width: float, height: float, dpi: int = 110) -> ShownFigure:
    """Return an empty figure on transparent paper, which makes room for its axes by itself.

    Args:
        width: Its width in inches.
        height: Its height in inches.
        dpi: Pixels of an inch.
    """
    size = (width, height)
    figure = ShownFigure(figsize=size, dpi=dpi, facecolor=ink.PAPER, layout="constrained")
    FigureCanvasAgg(figure)
    return figure
