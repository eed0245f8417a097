"""Draw a view with matplotlib: the still picture of a notebook that is saved."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from aimz_lab.lab import environment
from aimz_lab.lab.explorers.charts import (
    HANDLE_ROW,
    Area,
    Band,
    Bars,
    Cells,
    Chart,
    Handle,
    Layer,
    Line,
    Points,
    Rule,
    Steps,
    View,
)
from aimz_lab.lab.explorers.log_ticks import log_ticks
from aimz_lab.lab.formatting import number
from aimz_lab.lab.pictures import ink

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend
    from matplotlib.text import Text

COLORS = {
    "main": ink.BLUE,
    "second": ink.GREEN,
    "pinned": ink.PINK,
    "data": ink.ORANGE,
    "bad": "#cc4437",
    "quiet": ink.OTHER,
}
"""The colour of each role; the page has its own for light and for dark."""

_SMALL_IN_A_ROW = 3
_HEIGHTS = {"large": 2.9, "small": 1.9}  # inches
_WIDTH = 7.6
_MOST_NAMES = 40
_MOST_LETTERS = 100  # of a line of a title; a picture is as wide as about 115
_DESCENT_PT = 4  # of the letters of a title, below its line
_LETTERS_OF_NAMES = {"large": 90, "small": 24}  # of all names on an axis; more are slanted
_BESIDE_HANDLE_PT = 6
_LETTER_PT = 5.1  # of a number at 8 points
_LINE_PT = 12
_MOST_LINED = 40  # cells beside each other; lines around more would hide them


def draw_view(view: View) -> Figure:
    """Draw the charts of a view in one figure.

    Args:
        view: What an explorer shows.

    Returns:
        A figure. It shows itself at the end of a cell; elsewhere, pass it to
        :func:`~aimz_lab.lab.show_figure`.

    Raises:
        OptionalDependencyError: If matplotlib is missing.
    """
    environment.require_matplotlib()
    from aimz_lab.lab.pictures.figure_layout import figure_of_axes

    rows = _rows(view)
    heights = [
        _HEIGHTS[row[0].size] if isinstance(row[0], Chart) else view.draw_inches for row in rows
    ]
    figure = figure_of_axes(_WIDTH, max(sum(heights), 1.0), dpi=110)
    figure.alt = view.words()
    if rows:
        grid = figure.add_gridspec(len(rows), 1, height_ratios=heights)
    most = max((len(row) for row in rows if _is_small(row)), default=1)
    for i, row in enumerate(rows):
        columns = grid[i].subgridspec(1, most if _is_small(row) else 1)
        for j, chart in enumerate(row):
            axes = figure.add_subplot(columns[j], facecolor=ink.PAPER)
            if isinstance(chart, Chart):
                _chart(axes, chart)
            else:
                chart(axes)
    return figure


def _is_small(row: Sequence[Any]) -> bool:
    return isinstance(row[0], Chart) and row[0].size == "small"


def _rows(view: View) -> list[list[Any]]:
    """Put small charts that follow each other beside each other."""
    rows: list[list[Any]] = [[view.draw]] if view.draw is not None else []
    for chart in view.charts:
        last = rows[-1] if rows and _is_small(rows[-1]) else []
        if last and _is_small([chart]) and len(last) < _SMALL_IN_A_ROW:
            last.append(chart)
        else:
            rows.append([chart])
    return rows


def _plain(text: str) -> str:
    """Return a text in which matplotlib finds no mathematics."""
    return text.replace("$", r"\$")


def _chart(axes: Axes, chart: Chart) -> None:
    cells = any(isinstance(layer, Cells) for layer in chart.layers)
    of_counts = {"value": "function", "functions": (np.log1p, np.expm1)}
    for set_scale, kind in ((axes.set_xscale, chart.x_scale), (axes.set_yscale, chart.y_scale)):
        set_scale(**(of_counts if kind == "log1p" else {"value": kind}))
    _number_axes(axes, chart, whole=cells)  # before the layers, of which some name their places
    for layer in chart.layers:
        _DRAWN[type(layer)](axes, layer, COLORS[layer.role])
    (left, right), (low, high) = chart.limits()
    axes.set_xlim(left, right)
    axes.set_ylim(*((high, low) if cells else (low, high)))
    if chart.lowest_tick is not None:
        ticks = axes.get_yticks()
        axes.set_yticks(ticks[(ticks >= chart.lowest_tick) & (ticks <= high)])
    _draw_handles(axes, chart)
    names = chart.names()
    if names:
        _name_places(axes, names, _LETTERS_OF_NAMES[chart.size])
    words = chart.title if chart.size == "small" else fill(chart.title, _MOST_LETTERS)
    title = _title(axes, _plain(words))
    axes.set_xlabel(_plain(chart.x_label), fontsize=8, color=ink.TEXT)
    axes.set_ylabel(_plain(chart.y_label), fontsize=8, color=ink.TEXT)
    axes.tick_params(colors=ink.TEXT, labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(ink.TEXT)
    if n := len(axes.get_legend_handles_labels()[1]):
        legend = axes.legend(
            loc="lower right", bbox_to_anchor=(1, 1), ncols=n, borderpad=0.2, fontsize=8,
            labelcolor=ink.TEXT, frameon=False,
        )  # fmt: skip
        _raise_title(axes, title, legend)


def _title(axes: Axes, words: str, pad: float | None = None) -> Text:
    return axes.set_title(words, loc="left", fontsize=9, color=ink.TEXT, pad=pad)


def _raise_title(axes: Axes, title: Text, legend: Legend) -> None:
    """Put the title above a legend that leaves no room beside it."""
    renderer = axes.figure.canvas.get_renderer()
    words, names = (each.get_window_extent(renderer) for each in (title, legend))
    # Axes that are not laid out yet are narrower than at the end.
    if words.width + names.width > axes.bbox.width:
        above = (names.y1 - axes.bbox.y1) * 72 / axes.figure.dpi
        _title(axes, title.get_text(), pad=above + _DESCENT_PT)


def _number_axes(axes: Axes, chart: Chart, *, whole: bool) -> None:
    """Write the numbers of a logarithmic axis without mathematics, and whole ones of a grid."""
    from matplotlib.ticker import (
        FixedLocator,
        FuncFormatter,
        MaxNLocator,
        NullFormatter,
    )

    kinds = chart.x_scale, chart.y_scale
    # Axes that are not laid out yet are not longer than at the end.
    room = np.array(axes.bbox.size) * 72 / axes.figure.dpi
    sizes = (lambda label: _LETTER_PT * (len(label) + 2)), (lambda _: _LINE_PT)
    every = zip((axes.xaxis, axes.yaxis), kinds, chart.limits(), room, sizes, strict=True)
    for axis, kind, ends, length, size_of in every:
        if kind != "linear":
            ticks = log_ticks(*ends, length, size_of, of_counts=kind == "log1p")
            axis.set_major_locator(FixedLocator(ticks))
            axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
            axis.set_minor_formatter(NullFormatter())
        elif whole:
            axis.set_major_locator(MaxNLocator(integer=True))


def _draw_handles(axes: Axes, chart: Chart) -> None:
    """Draw handles as on the page, each in a row of its own; as no dot, which may be an average."""
    on_axis = axes.get_xaxis_transform()
    rules = [one.at for one in chart.layers if isinstance(one, Rule) and one.axis == "x"]
    for row, handle in enumerate(chart.handles):
        color, above = COLORS[handle.role], HANDLE_ROW[chart.size] * (row + 0.4)
        axes.plot([handle.at], [above], "^", color=color, ms=6, transform=on_axis)
        axes.vlines(handle.at, 0, above, color=color, lw=1, transform=on_axis)
        if handle.mark and len(chart.handles) > 1:
            stems = [other.at for other in chart.handles[row + 1 :]]
            _name_handle(axes, handle, above, [*stems, *rules])


def _name_handle(axes: Axes, handle: Handle, above: float, lines: Sequence[float]) -> None:
    """Write the name of a handle on the side where no line runs through it; on the right, if both.

    The paper is transparent, so that nothing behind the words could hide a line.
    """
    words = axes.annotate(
        _plain(f"{handle.mark}: {handle.text}"), (handle.at, above), (_BESIDE_HANDLE_PT, 0),
        xycoords=axes.get_xaxis_transform(), textcoords="offset points", ha="left", va="center",
        fontsize=7, color=ink.TEXT,
    )  # fmt: skip
    renderer, to_pixels = axes.figure.canvas.get_renderer(), axes.transData.transform
    at, *others = (to_pixels((place, 0))[0] for place in (handle.at, *lines))
    room = words.get_window_extent(renderer).x1 - at
    on_right = [other for other in (*others, axes.bbox.x1) if at < other < at + room]
    on_left = [other for other in (*others, axes.bbox.x0) if at - room < other < at]
    if on_right and not on_left:
        words.set(ha="right", position=(-_BESIDE_HANDLE_PT, 0))


def _name_places(axes: Axes, names: Sequence[str], most_letters: int) -> None:
    every, last = max(1, -(-len(names) // _MOST_NAMES)), len(names) - 1
    # The last one may stand for many before it.
    places = [*range(0, last - every + 1, every), last]
    long = max((len(str(name)) for name in names), default=0) * len(places) > most_letters
    axes.set_xticks(places, [_plain(str(names[i])) for i in places])
    if long:
        for text in axes.get_xticklabels():
            text.set(rotation=35, ha="right", rotation_mode="anchor")


def _name(layer: Layer) -> str | None:
    return _plain(layer.label) or None


def _line(axes: Axes, layer: Line, color: str) -> None:
    style = "--" if layer.dashed else "-"
    width = 0.8 if layer.role == "quiet" else 1.6
    axes.plot(layer.x, layer.y, style, color=color, lw=width, label=_name(layer))


def _band(axes: Axes, layer: Band, color: str) -> None:
    axes.fill_between(
        layer.x, layer.low, layer.high, color=color, alpha=0.22, lw=0, label=_name(layer)
    )


def _area(axes: Axes, layer: Area, color: str) -> None:
    axes.fill_between(layer.x, 0, layer.y, color=color, alpha=0.22, lw=0)
    axes.plot(layer.x, layer.y, color=color, lw=1.6, label=_name(layer))


def _steps(axes: Axes, layer: Steps, color: str) -> None:
    axes.stairs(layer.heights, layer.edges, fill=True, color=color, alpha=0.22)
    axes.stairs(layer.heights, layer.edges, color=color, lw=1.3, label=_name(layer))


def _points(axes: Axes, layer: Points, color: str) -> None:
    axes.plot(layer.x, layer.y, "o", color=color, ms=3, alpha=0.6, mew=0, label=_name(layer))


def _bars(axes: Axes, layer: Bars, color: str) -> None:
    places = np.arange(len(layer.names)) + layer.beside
    if layer.low is None or layer.high is None:
        axes.bar(places, layer.values, 0.7, color=color, alpha=0.7, label=_name(layer))
        return
    axes.vlines(places, layer.low, layer.high, color=color, lw=2)
    axes.plot(places, layer.values, "o", color=color, ms=5, label=_name(layer))


def _rule(axes: Axes, layer: Rule, color: str) -> None:
    line = axes.axvline if layer.axis == "x" else axes.axhline
    line(layer.at, color=color, lw=1.3, ls="--", label=_name(layer))


def _cells(axes: Axes, layer: Cells, color: str) -> None:  # noqa: ARG001
    from matplotlib.colors import ListedColormap

    kinds = np.ma.masked_less(layer.values, 0)
    palette = ListedColormap([COLORS[role] for _, role in layer.kinds] or [ink.BLUE])
    edges = [np.arange(n + 1) - 0.5 for n in layer.values.shape]
    # A cell that is none has no lines around it either.
    around = ["none" if kind < 0 else ink.TEXT for kind in layer.values.ravel()]
    axes.pcolormesh(
        edges[1], edges[0], kinds, cmap=palette, vmin=-0.5, vmax=palette.N - 0.5,
        edgecolors=around, linewidth=0.2 if max(layer.values.shape) <= _MOST_LINED else 0,
    )  # fmt: skip
    if layer.x_names:
        _name_places(axes, layer.x_names, _LETTERS_OF_NAMES["large"])
    if layer.y_names:
        every = max(1, -(-len(layer.y_names) // _MOST_NAMES))
        places = range(0, len(layer.y_names), every)
        axes.set_yticks(list(places), [_plain(str(layer.y_names[i])) for i in places])
    for name, role in layer.kinds:
        axes.plot([], [], "s", color=COLORS[role], label=_plain(name))


_DRAWN = {
    Line: _line,
    Band: _band,
    Area: _area,
    Steps: _steps,
    Points: _points,
    Bars: _bars,
    Rule: _rule,
    Cells: _cells,
}
