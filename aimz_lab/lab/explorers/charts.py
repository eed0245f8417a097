"""What an explorer shows: charts of layers, sentences and a table, before anything is drawn.

One description is drawn twice: on the page's canvas, and by matplotlib. So the limits of the axes
are chosen here, once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from aimz_lab.errors import ArgumentError
from aimz_lab.types import shown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

Role = Literal["main", "second", "pinned", "data", "bad", "quiet"]
"""What a layer stands for; its colour follows from it, in light and in dark."""

Scale = Literal["linear", "log", "log1p"]
"""Scale of an axis; ``"log1p"`` is the logarithm of one more, for counts from zero on."""

MOST_POINTS = 2_000
_ROWS_IN_TEXT = 10
_ROOM = 0.05
HANDLE_ROW = {"large": 0.083, "small": 0.15}
"""Share of a chart's height that a row of handles takes, with their words."""


def _frozen(values: object) -> np.ndarray:
    array = np.array(values, dtype=float)
    array.flags.writeable = False
    return array


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A part of a chart.

    Attributes:
        label: Its name in the legend; none without it.
        role: What it stands for.
    """

    label: str = ""
    role: Role = "main"

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            msg = f"role= is one of {', '.join(get_args(Role))}; got {shown(self.role)}."
            raise ArgumentError(msg)
        for name in self.arrays:
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _frozen(getattr(self, name)))
        sizes = {len(getattr(self, n)) for n in self.alike if getattr(self, n) is not None}
        if len(sizes) > 1:
            msg = f"{', '.join(self.alike)} of {type(self).__name__} have as many values each."
            raise ArgumentError(msg)

    @property
    def arrays(self) -> tuple[str, ...]:
        """Names of its arrays of numbers."""
        known = ("x", "y", "low", "high", "edges", "heights", "values")
        return tuple(f.name for f in fields(self) if f.name in known)

    @property
    def alike(self) -> tuple[str, ...]:
        """Names of the arrays with one value for each place."""
        return self.arrays

    def extent(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the values that the horizontal axis spans, and those of the vertical one."""
        vertical = [getattr(self, n) for n in ("y", "low", "high") if hasattr(self, n)]
        return [self.x], vertical  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Line(Layer):
    """A line through points, in their order; it breaks at values that are not finite.

    Attributes:
        x: Positions.
        y: Heights.
        dashed: Whether it is dashed.
    """

    x: np.ndarray
    y: np.ndarray
    dashed: bool = False


@dataclass(frozen=True)
class Band(Layer):
    """The area between two curves.

    Attributes:
        x: Positions.
        low: Heights of its lower edge.
        high: Heights of its upper edge.
    """

    x: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Area(Layer):
    """A density, filled down to zero.

    Attributes:
        x: Positions.
        y: Densities.
    """

    x: np.ndarray
    y: np.ndarray

    def extent(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the positions, and the densities with zero."""
        return [self.x], [self.y, np.zeros(1)]


@dataclass(frozen=True)
class Steps(Layer):
    """A histogram.

    Attributes:
        edges: Edges of its bins, one more than there are bins.
        heights: Height of each bin.
    """

    edges: np.ndarray
    heights: np.ndarray

    @property
    def alike(self) -> tuple[str, ...]:
        """None: there is one edge more than there are heights."""
        return ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.edges) != len(self.heights) + 1:
            raise ArgumentError("edges= of Steps has one value more than heights=.")

    def extent(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the edges, and the heights with zero."""
        return [self.edges], [self.heights, np.zeros(1)]


@dataclass(frozen=True)
class Points(Layer):
    """Points, at most 2,000: more rows are shown as a density.

    Attributes:
        x: Positions.
        y: Heights.
        names: A name for each, which the page shows where the reader points.
    """

    x: np.ndarray
    y: np.ndarray
    names: Sequence[str] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.x) > MOST_POINTS:
            msg = f"Points draws at most {MOST_POINTS:,} rows; got {len(self.x):,}. Use a density."
            raise ArgumentError(msg)


@dataclass(frozen=True)
class Bars(Layer):
    """A value for each of several names, as a dot with an interval or as a bar from zero.

    Attributes:
        names: The names; a chart has one set of them.
        values: A value for each.
        low: Lower ends of intervals, with which the values are dots.
        high: Upper ends.
        beside: How far right of its name each stands, in distances of names: dots of several layers
            would lie on one another.
    """

    names: Sequence[str]
    values: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    beside: float = 0.0

    def extent(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the places of the names, and the values with their intervals or with zero."""
        others = [np.zeros(1)] if self.low is None else [self.low, self.high]
        return [np.array([-0.5, len(self.names) - 0.5])], [self.values, *others]


@dataclass(frozen=True)
class Rule(Layer):
    """A straight line across the chart.

    Attributes:
        at: Its place.
        axis: The axis that it crosses there: ``"x"`` for a vertical line.
        role: What it stands for.
    """

    at: float
    axis: Literal["x", "y"] = "x"
    role: Role = field(default="data", kw_only=True)

    def extent(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return its place on its own axis."""
        place = [np.array([float(self.at)])]
        return (place, []) if self.axis == "x" else ([], place)


@dataclass(frozen=True)
class Cells(Layer):
    """A grid of cells, each of one of a few kinds.

    Attributes:
        values: Number of the kind of each cell, rows by columns; negative for none.
        x_names: Names of the columns.
        y_names: Names of the rows.
        kinds: Name and role of each kind.
    """

    values: np.ndarray
    x_names: Sequence[str] = ()
    y_names: Sequence[str] = ()
    kinds: Sequence[tuple[str, Role]] = ()

    def extent(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the edges of the grid."""
        rows, columns = self.values.shape
        return [np.array([-0.5, columns - 0.5])], [np.array([-0.5, rows - 0.5])]


def _same(value: float) -> float:
    return value


@dataclass(frozen=True)
class Handle:
    """A place on the horizontal axis that the reader drags; the control of its name follows.

    Attributes:
        name: Name of the control.
        at: Its place.
        value_at: Value of the control for a place.
        label: What the page calls it; its name, if empty.
        mark: A short name that stands beside it, for a chart with several.
        text: The control's value in words, where it is not what the axis says there.
        places: The places that it can take; any place, if empty.
        role: What it moves; its colour follows from it.
    """

    name: str
    at: float
    value_at: Callable[[float], Any] = _same
    label: str = ""
    mark: str = ""
    text: str = ""
    places: Sequence[float] = ()
    role: Role = "main"


@dataclass(frozen=True)
class Chart:
    """Layers over one pair of axes.

    Attributes:
        layers: The layers, the last one on top.
        title: What it shows.
        x_label: Name and unit of the horizontal axis.
        y_label: Name and unit of the vertical axis.
        x_scale: Scale of the horizontal axis; ``"log1p"`` wants an ``x_range``.
        y_scale: Scale of the vertical axis; ``"log1p"`` wants a ``y_range``.
        x_names: Names of the places 0, 1, ... of the horizontal axis, in place of numbers.
        handles: Places that the reader drags.
        size: A small chart stands beside others.
        x_range: Ends of the horizontal axis; from the layers if ``None``.
        y_range: Ends of the values on the vertical axis; from the layers if ``None``. Below them
            may be room for handles.
    """

    layers: Sequence[Layer]
    title: str = ""
    x_label: str = ""
    y_label: str = ""
    x_scale: Scale = "linear"
    y_scale: Scale = "linear"
    x_names: Sequence[str] = ()
    handles: Sequence[Handle] = ()
    size: Literal["large", "small"] = "large"
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None

    def names(self) -> Sequence[str]:
        """Return the names of the places of the horizontal axis, or none."""
        bars = (layer.names for layer in self.layers if isinstance(layer, Bars))
        return self.x_names or next(bars, ())

    def limits(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return the ends of the horizontal and of the vertical axis."""
        found = [layer.extent() for layer in self.layers]
        at = [np.array([handle.at]) for handle in self.handles]
        exact = any(isinstance(layer, Cells) for layer in self.layers)
        room = 0.0 if exact or self.names() else _ROOM
        x = _ends([a for xs, _ in found for a in xs] + at, self.x_scale, room / 2)
        y = _ends([a for _, ys in found for a in ys], self.y_scale, 0.0 if exact else _ROOM)
        low, high = self.y_range or y
        return self.x_range or x, (low - self._for_handles * (high - low), high)

    @property
    def lowest_tick(self) -> float | None:
        """The place from which on the vertical axis has ticks, if rows of handles are below it."""
        if not self._for_handles:
            return None
        low, high = self.limits()[1]
        return high - (high - low) / (1 + self._for_handles)

    @property
    def _for_handles(self) -> float:
        """Room for rows of handles, as a share of that of the values, which they would hide."""
        if len(self.handles) < 2 or self.y_scale != "linear":
            return 0.0
        share = len(self.handles) * HANDLE_ROW[self.size]
        return share / (1 - share)


def _ends(arrays: list[np.ndarray], scale: str, room: float) -> tuple[float, float]:
    values = np.concatenate([np.ravel(array) for array in arrays]) if arrays else np.zeros(0)
    values = values[np.isfinite(values) & ((values > 0) | (scale == "linear"))]
    if not len(values):
        return (1.0, 10.0) if scale == "log" else (0.0, 1.0)
    low, high = float(values.min()), float(values.max())
    if scale == "log":
        factor = (high / low) ** room if high > low else 2.0
        return low / factor, high * factor
    if high == low:
        wide = abs(low) * 0.1 or 1.0
        return low - wide, high + wide
    # What begins at zero stands on the axis.
    return low - (0.0 if low == 0 else room * (high - low)), high + room * (high - low)


@dataclass(frozen=True)
class View:
    """One answer of an explorer; at the end of a cell it prints its sentences and its numbers.

    Attributes:
        charts: Its charts, in the order in which they are read.
        svg: Markup of our own, whose texts are escaped. A click on an element with the attribute
            ``data-pick`` sets the control ``"site"``.
        table: Its numbers.
        sentences: What there is to know, in words.
        alt: What the picture shows, for those who cannot see it; the sentences, if empty.
        draw: Draws with matplotlib, in the axes it is given, what ``svg`` shows.
        draw_inches: Height of these axes.
    """

    charts: Sequence[Chart] = ()
    svg: str = ""
    table: pd.DataFrame | None = None
    sentences: Sequence[str] = ()
    alt: str = ""
    draw: Callable[[Axes], None] | None = None
    draw_inches: float = 3.6

    def __repr__(self) -> str:
        return self.text() or self.words()  # the charts are arrays, by the thousand

    def text(self) -> str:
        """Return the sentences and the first rows of the table."""
        table = [] if self.table is None else [self.table.head(_ROWS_IN_TEXT).to_string()]
        return "\n".join([*self.sentences, *table])

    def words(self) -> str:
        """Return the alternative text."""
        titles = "; ".join(chart.title for chart in self.charts if chart.title)
        return self.alt or " ".join(self.sentences) or titles or "A picture"

    def handles(self) -> Iterator[Handle]:
        """Go through the handles of all charts."""
        for chart in self.charts:
            yield from chart.handles
