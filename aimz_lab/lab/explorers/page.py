"""The panel of an explorer on the page: its controls, beside an anywidget that draws the view."""

from __future__ import annotations

import functools
import sys
import time
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import fields
from html import escape
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from aimz_lab.errors import AimzLabError
from aimz_lab.lab import environment, formatting
from aimz_lab.lab.dashboard.busy_kernel import answer_reloaded_pages
from aimz_lab.lab.dashboard.comm_routing import hear_beside_cells
from aimz_lab.lab.dashboard.moving_text import needs_kernel
from aimz_lab.lab.dashboard.views import widget_bundle
from aimz_lab.lab.explorers.charts import Chart, Handle, Layer, View
from aimz_lab.lab.explorers.controls import RefusedValuesError
from aimz_lab.lab.explorers.drawing import draw_view
from aimz_lab.lab.explorers.static import module, style
from aimz_lab.lab.pictures.encoding import Bundle, png, shown_bundle
from aimz_lab.system.imports import late_import
from aimz_lab.system.notebook_output import show_output
from aimz_lab.types import shown

if TYPE_CHECKING:
    from anywidget import AnyWidget
    from ipywidgets import Widget

_MOST_ROWS = 20  # of the table on the page
_FLOATS = (float, np.floating)
_KEPT_QUESTIONS = 100  # of which the page may still say that it has drawn them


class Shown(Protocol):
    """What is known of an explorer: its controls, its latest view, and where messages go."""

    title: str
    pins: bool
    controls: dict[str, Widget]
    groups: dict[str, Sequence[str]]
    drawn: deque[float]

    @property
    def view(self) -> View:
        """The latest answer."""

    @property
    def values(self) -> dict[str, Any]:
        """Values of the controls of the latest answer."""

    @property
    def problem(self) -> Exception | None:
        """The error of the values that the controls have, or ``None``."""

    def code(self) -> str:
        """Return the lines of Python that give the numbers of the latest answer."""

    def take(self, message: Mapping[str, Any]) -> None:
        """Take a message of the page."""


def show(explorer: Shown) -> Page | None:
    """Show an explorer in the cell that asks: as a panel, a picture, or text.

    Args:
        explorer: The explorer.

    Returns:
        The panel; ``None`` where no page can show one.
    """
    if environment.kernel() is None:
        sys.stdout.write(f"{explorer!r}\n")
        return None
    if environment.place() != "page" or not environment.has_widgets():
        show_output(*_still(explorer))
        return None
    return Page(explorer)


def _still(explorer: Shown, page_id: str = "") -> Bundle:
    """Return words and picture of a view; a page that shows the panel of that id hides them."""
    text = repr(explorer)
    if not environment.has_matplotlib() or not (explorer.view.charts or explorer.view.draw):
        return {"text/plain": text}, {}
    figure = draw_view(explorer.view)
    bundle, metadata = shown_bundle(png(figure), figure.alt)
    words = "".join(f"<p>{escape(sentence)}</p>" for sentence in explorer.view.sentences)
    html = f'<div class="aimz-still-{page_id}">{words}{bundle["text/html"]}</div>'
    html += _without_panel(page_id) if page_id else ""
    return bundle | {"text/plain": text, "text/html": html}, metadata


def _without_panel(page_id: str) -> str:
    """Return a style that hides what JupyterLab writes in place of a panel that is gone."""
    above = f".jp-OutputArea-child:has(+ .jp-OutputArea-child .aimz-still-{page_id})"
    return f"<style>{above} > .jp-OutputArea-output:not(:has(*)) {{ display: none; }}</style>"


@functools.cache
def picture_class() -> type[AnyWidget]:
    """Return the class of the widget that draws a view."""
    anywidget, traitlets = late_import("anywidget"), late_import("traitlets")
    members = {
        "__module__": __name__,
        "_esm": module(),
        "_css": style(),
        "meta": traitlets.Dict().tag(sync=True),
        "view": traitlets.Dict().tag(sync=True),
        "problem": traitlets.Unicode().tag(sync=True),
    }
    return type("ExplorerWidget", (anywidget.AnyWidget,), members)


class Page:
    """An explorer's panel in an output, and below it the still picture that a saved notebook keeps.

    The panel hides the picture. A notebook that is opened without its kernel has no panel, and so
    shows the picture.

    Args:
        explorer: The explorer.
    """

    def __init__(self, explorer: Shown) -> None:
        self._explorer = explorer
        self._id = uuid.uuid4().hex
        self._asked_at: dict[int, float] = {}
        self._still_of: View | None = explorer.view
        self.picture = picture_class()(
            meta={"id": self._id, "title": explorer.title, "pins": explorer.pins},
            view=as_sent(explorer, 0),
        )
        self.picture.on_msg(lambda _, message, __: self._take(message))
        self._refusals = {name: _unseen_note() for name in explorer.controls}
        self.box = _boxed(explorer, self.picture, self._refusals)
        for widget in (self.picture, *explorer.controls.values()):
            hear_beside_cells(widget.comm)
        answer_reloaded_pages(environment.kernel())
        self._handles: list[Any] = []
        self.display()

    def display(self) -> None:
        """Show the panel in the cell that asks, with the picture below."""
        bundle, metadata = _still(self._explorer, self._id)
        text = needs_kernel(self._explorer.title or "Explorer")
        show_output(widget_bundle(self.box.model_id, text))
        self._handles.append(show_output(bundle, metadata))

    def tell(self, number: int, asked_at: float) -> None:
        """Send the answer of a question, or the problem with it.

        Args:
            number: Number of the question.
            asked_at: When it was asked, on the monotonic clock.
        """
        if self._explorer.problem is not None:
            self.tell_problem()
            return
        while len(self._asked_at) >= _KEPT_QUESTIONS:
            self._asked_at.pop(next(iter(self._asked_at)))
        self._asked_at[number] = asked_at
        self._tell_refusals({})
        with self.picture.hold_sync():
            self.picture.problem = ""
            self.picture.view = as_sent(self._explorer, number)

    def tell_problem(self) -> None:
        """Send the explorer's problem in words, and what the picture, which stays, is of.

        A value that is refused is told beside its field too: the picture may be out of sight.
        """
        error = self._explorer.problem
        self._tell_refusals(error.by_control if isinstance(error, RefusedValuesError) else {})
        named = isinstance(error, AimzLabError) or type(error) is ValueError
        text = str(error) if named else f"{type(error).__name__}: {error}"
        self.picture.problem = "\n".join([text, *_still_of(self._explorer)])

    def _tell_refusals(self, by_control: Mapping[str, str]) -> None:
        for name, note in self._refusals.items():
            note.value = escape(by_control.get(name, ""))
            note.layout.display = None if name in by_control else "none"

    def tell_busy(self) -> None:
        """Say that the answer takes a while."""
        self.picture.send({"kind": "busy"})

    def redraw_still(self) -> None:
        """Draw the still picture of the latest answer, if it shows another."""
        if self._still_of is self._explorer.view:
            return
        self._still_of = self._explorer.view
        bundle, metadata = _still(self._explorer, self._id)
        for handle in self._handles:
            handle.update(bundle, raw=True, metadata=metadata)

    def close(self) -> None:
        """Take the panel off the page; the picture stays."""
        self.box.close()
        self.picture.close()

    def _take(self, message: dict[str, Any]) -> None:
        if message.get("kind") != "drawn":
            self._explorer.take(message)
        elif (asked_at := self._asked_at.pop(message.get("value"), None)) is not None:
            self._explorer.drawn.append(1000 * (time.monotonic() - asked_at))


def _still_of(explorer: Shown) -> list[str]:
    """Say which values the picture is of, where the controls have others that were refused."""
    kept = explorer.values
    refused = [name for name, one in explorer.controls.items() if one.value != kept.get(name)]
    values = ", ".join(f"{name} = {shown(kept[name])}" for name in refused)
    return [f"The picture is still that of {values}."] if refused else []


def _unseen_note() -> Widget:
    widgets = late_import("ipywidgets")
    note = widgets.HTML(layout=widgets.Layout(display="none"))
    return note.add_class("aimz-explorer-refusal")


def _boxed(explorer: Shown, picture: AnyWidget, notes: Mapping[str, Widget]) -> Widget:
    """Put the controls, each with its note, under their headings, beside the picture."""
    widgets = late_import("ipywidgets")
    grouped = {name for names in explorer.groups.values() for name in names}
    alone = [name for name in explorer.controls if name not in grouped]
    parts: list[Widget] = []
    for heading, names in [("", alone), *explorer.groups.items()]:
        if heading:
            parts.append(widgets.Label(heading).add_class("aimz-explorer-heading"))
        for name in names:
            parts += [explorer.controls[name], notes[name]]
    controls = widgets.VBox(parts).add_class("aimz-explorer-controls")
    children = [controls, picture] if parts else [picture]
    return widgets.Box(children).add_class("aimz-explorer")


def as_sent(explorer: Shown, number: int) -> dict[str, Any]:
    """Describe an explorer's view for the page: plain values, and arrays as bytes of float64.

    Args:
        explorer: The explorer.
        number: Number of the question that it answers.
    """
    view = explorer.view
    return {
        "number": number,
        "charts": [_chart(chart) for chart in view.charts],
        "svg": view.svg,
        "table": _table(view),
        "sentences": list(view.sentences),
        "alt": view.words(),
        "code": explorer.code(),
        "pinned": explorer.values.get("pinned") is not None,
    }


def _chart(chart: Chart) -> dict[str, Any]:
    x_limits, y_limits = chart.limits()
    return {
        "layers": [_layer(layer) for layer in chart.layers],
        "handles": [_handle(handle) for handle in chart.handles],
        "x_limits": x_limits,
        "y_limits": y_limits,
        "lowest_tick": chart.lowest_tick,
        "x_names": [str(name) for name in chart.names()],
    } | {
        name: getattr(chart, name)
        for name in ("title", "x_label", "y_label", "x_scale", "y_scale", "size")
    }


def _handle(handle: Handle) -> dict[str, Any]:
    plain = {name: getattr(handle, name) for name in ("name", "label", "mark", "text", "role")}
    return plain | {"at": float(handle.at), "places": sorted(map(float, handle.places))}


def _layer(layer: Layer) -> dict[str, Any]:
    sent: dict[str, Any] = {"kind": type(layer).__name__.lower()}
    for each in fields(layer):
        value = getattr(layer, each.name)
        if isinstance(value, np.ndarray):
            sent[each.name] = np.ascontiguousarray(value, dtype="<f8").tobytes()
            if value.ndim > 1:
                sent["shape"] = list(value.shape)
        elif each.name == "kinds":
            sent[each.name] = [list(kind) for kind in value]
        elif isinstance(value, list | tuple):
            sent[each.name] = [str(one) for one in value]
        else:
            sent[each.name] = value
    return sent


def _table(view: View) -> dict[str, Any] | None:
    if view.table is None or not len(view.table):
        return None
    table = view.table.reset_index() if view.table.index.name else view.table
    columns = [str(column) for column in table.columns]
    rows = table.head(_MOST_ROWS).itertuples(index=False)
    return {
        "columns": columns,
        "rows": [_cells(dict(zip(columns, row, strict=True))) for row in rows],
        "total": len(table),
    }


def _cells(row: Mapping[str, object]) -> list[str]:
    numbers = {name: float(one) for name, one in row.items() if isinstance(one, _FLOATS)}
    written = dict(zip(numbers, formatting.numbers_of_row(numbers), strict=True))
    return [written.get(name) or _cell(value) for name, value in row.items()]


def _cell(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if value is None or type(value).__name__ == "NAType":
        return ""
    return str(value)
