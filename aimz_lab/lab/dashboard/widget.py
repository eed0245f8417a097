"""The live page: an anywidget that draws the frames of the panels on its own canvas."""

from __future__ import annotations

import functools
import math
import threading
import time
import uuid
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aimz_lab.inference.run.events import Run
from aimz_lab.inference.run.run_words import time_now
from aimz_lab.lab import formatting
from aimz_lab.lab.dashboard.busy_kernel import answer_reloaded_pages
from aimz_lab.lab.dashboard.comm_routing import hear_beside_cells
from aimz_lab.lab.dashboard.moving_text import (
    MovingText,
    below_widget,
    needs_kernel,
    was_preparing,
)
from aimz_lab.lab.dashboard.static import module, style
from aimz_lab.lab.dashboard.views import (
    PANELS,
    NotebookView,
    PictureView,
    Receive,
    SeldomPicture,
    widget_bundle,
)
from aimz_lab.lab.environment import has_subshells, kernel, place
from aimz_lab.lab.panels.panel_set import Frames
from aimz_lab.lab.pictures.choices import Choices
from aimz_lab.preparing import Preparing
from aimz_lab.system.imports import late_import
from aimz_lab.system.notebook_output import show_output

if TYPE_CHECKING:
    from anywidget import AnyWidget

PATIENCE_S = 10.0
"""Seconds in which a page says that it shows the widget."""

_SLOWEST_S = 1.5
"""Most seconds between two updates, however slowly the page draws."""


_KEPT_RECORDS = 16

_OF_HEAD = {"progress", "sampling"}
"""Panels that the head of a page tells the position from, which stays above the record."""

_with_record: deque[AnyWidget] = deque()


@functools.cache
def widget_class() -> type[AnyWidget]:
    """Return the widget's class, which has a trait for each panel and for the record of the end.

    ``card`` says whether a page has the run in a card in its corner; it is set after the record.
    """
    anywidget, traitlets = late_import("anywidget"), late_import("traitlets")
    names = ("meta", "previous_runs", "record", "card", "choices", *PANELS)
    traits = {name: traitlets.Dict().tag(sync=True) for name in names}
    members = {
        "__module__": __name__,
        "_esm": module(),
        "_css": style(),
        "__repr__": _text,
        "_ipython_display_": _display,
        "show_below": None,
        "keep_output": None,
    }
    return type("DashboardWidget", (anywidget.AnyWidget,), {**members, **traits})


def _text(widget: AnyWidget) -> str:
    """Return what a page reads that cannot show the widget."""
    if widget.record:
        return widget.record["data"]["text/plain"]
    progress = widget.progress
    if not progress:
        return "no run"
    step, total = progress["step"], progress["total_steps"]
    of = f" of {formatting.count(total)}" if total else ""
    model, words = widget.meta.get("model", "run"), progress["words"]
    if progress["status"] in ("pending", "running", "paused"):
        words = f"was {words} at {time_now()}"  # a saved notebook keeps it
    return f"{model}: {words} · step {formatting.count(step)}{of}"


def _display(widget: AnyWidget) -> None:
    """Show a widget in the cell that asks, and below it what stands for it without its kernel.

    A notebook that a program executes has the latter alone: nobody sees the widget.
    """
    if widget.show_below is None or place() == "page":
        bundle, metadata = widget._repr_mimebundle_()  # Colab's metadata are anywidget's to know
        if widget.show_below is not None:
            bundle = {**bundle, "text/plain": needs_kernel(widget.meta.get("model", "run"))}
        output = show_output(bundle, metadata)
        if widget.keep_output is not None:
            widget.keep_output(output)
    if widget.show_below is not None:
        widget.show_below()


def show_picture_below(widget: AnyWidget, bundle: dict[str, Any], metadata: dict[str, Any]) -> None:
    """Show a still picture that the page of a widget hides, in the cell that asks.

    Args:
        widget: The widget.
        bundle: The picture.
        metadata: Metadata of its parts.
    """
    text = below_widget(widget.model_id, bundle["text/html"])
    show_output(bundle | {"text/html": text}, metadata)


def make_widget(frames: Frames) -> AnyWidget:
    """Return a widget that shows ``frames`` and takes clicks while a cell runs."""
    model_id = uuid.uuid4().hex
    named = {**frames, "meta": {**frames.get("meta", {}), "model_id": model_id}}
    widget = widget_class()(model_id=model_id, **named)
    hear_beside_cells(widget.comm)
    return widget


def leave_record(widget: AnyWidget, bundle: dict[str, Any], metadata: dict[str, Any]) -> None:
    """Leave a widget with the record of its run alone, which its pages keep in its place.

    An output of a page that was loaded again, or was closed at the end of the run, no longer
    follows the kernel's own replacement. So the latest widgets stay open until a page asks.

    Args:
        widget: The widget of a run that has ended.
        bundle: The record, as a MIME bundle.
        metadata: Metadata of its parts.
    """
    with widget.hold_sync():
        widget.record = {"data": bundle, "metadata": metadata}
        for name in ("previous_runs", *(PANELS - _OF_HEAD)):
            setattr(widget, name, {})
    keep_for_pages(widget)


def keep_for_pages(widget: AnyWidget) -> None:
    """Keep a widget that has its record open for pages that ask later; close the oldest one.

    Args:
        widget: The widget.
    """
    _with_record.append(widget)
    while len(_with_record) > _KEPT_RECORDS:
        _with_record.popleft().close()


class WidgetView(NotebookView):
    """The live page in an output; the still picture replaces it at the end.

    A page that can show the widget says hello within seconds, if its messages arrive while a cell
    runs. Until then a line of text moves below the widget, hidden where the widget is shown. From
    then on it moves seldom: by it a notebook that is saved meanwhile, and opened without its
    kernel, tells where the run was. If messages could arrive and none does, pictures replace the
    widget until the page's first message. Below them the line goes on to move.

    A page whose outputs were cleared says so: a cell that still runs gets the picture as a new one.

    A page reports how often it can draw in a hundredth of the time, since it may run on the cores
    that train. It gets no more updates than that.

    Args:
        interval_s: Least seconds between two updates.
        beside: Runs that are drawn in grey, in the picture at the end.

    Attributes:
        widget: The widget of the run that is shown, or ``None`` before the first one.
    """

    wants = PANELS

    def __init__(self, interval_s: float = 0.1, beside: Sequence[Run] = ()) -> None:
        super().__init__(beside)
        self._least_interval_s = self._live_interval_s = self.interval_s = interval_s
        self.widget: AnyWidget | None = None
        self._is_heard = False
        self._shows_pictures = False
        self._n_cleared = 0
        self._is_in_card = False
        self._opened = self._progress_set = 0.0
        self._loss: float | None = None

    def open(self, run: Run, frames: Frames, receive: Receive) -> None:
        """Show the widget, and begin to take its messages."""
        self._make(frames, receive)
        self._stand_below(run)
        super().open(run, frames, receive)
        # Now, in the cell: a page drops new outputs of a cell that has returned, as of a fit that
        # goes on in the background.
        self.widget.show_below()

    def display(self, run: Run | None) -> None:
        """Show the widget in one more output, with the line below."""
        super().display(run)
        if run is not None and not run.finished:
            self.widget.show_below()

    def _stand_below(self, run: Run) -> None:
        self.widget.show_below = lambda: self._text.display(self._line(run))
        self.widget.keep_output = lambda output: self._handles.append(output)

    def _line(self, run: Run) -> str:
        line = formatting.last_known_line if self._is_heard else formatting.line_then
        return line(run, self._loss)

    def _make(self, frames: Frames, receive: Receive) -> None:
        self._is_heard = self._shows_pictures = False
        self._n_cleared = 0
        self._is_in_card = False
        self.choices = None
        self._live_interval_s = self.interval_s = self._least_interval_s
        self.widget = make_widget(frames)
        self.widget.on_msg(lambda _, message, __: self._take(message, receive))
        answer_reloaded_pages(kernel())
        self._opened = self._progress_set = time.monotonic()
        self.widget.observe(self._note_progress, "progress")
        self._text, self._picture = MovingText(self.widget.model_id), SeldomPicture()
        self._loss = frames.get("loss", {}).get("now")

    def live_bundle(self, run: Run) -> dict[str, Any]:
        """Return the reference to the widget, with text for pages that cannot show it."""
        # This text does not move; the line below does.
        return widget_bundle(self.widget.model_id, needs_kernel(run.info.model))

    def prepare(self, preparing: Preparing) -> None:
        """Show the text, in the page once the widget is there."""
        if self._is_open and not self._shows_pictures:
            self.send({"kind": "preparing", "what": preparing.what})
            self._text.show_line(lambda: was_preparing(preparing), seldom=self._is_heard)
        else:
            self.announce(preparing.text)

    def show(self, run: Run, frames: Frames) -> None:
        """Send the new frames in one message."""
        with self.widget.hold_sync():
            for name, frame in frames.items():
                setattr(self.widget, name, frame)
            if self.choices is not None:  # for a page that is loaded anew
                self.widget.choices = self.choices.as_sent()
        self._show_pictures_to_silent_page(run)
        self._loss = frames.get("loss", {}).get("now", self._loss)
        if run.finished:
            self._text.close()
        else:
            self._text.show(run, self._loss, seldom=self._is_heard)

    def close(self, run: Run, frames: Frames) -> None:
        """Replace the widget by the picture, and leave the picture in the widget."""
        bundle, metadata = self._record(run)
        self._text.close()
        with self.widget.hold_sync():
            for name in frames.keys() & _OF_HEAD:
                setattr(self.widget, name, frames[name])
        self.replace(bundle, metadata)
        # Only the main thread's outputs belong to the cell that runs.
        is_in_cell = threading.current_thread() is threading.main_thread()
        if is_in_cell and 0 < len(self._handles) == self._n_cleared:
            self._put(bundle, metadata)
        leave_record(self.widget, bundle, metadata)
        self.widget.card = {"open": self._is_in_card}

    def _take(self, message: dict[str, Any], receive: Receive) -> None:
        # On a subshell's thread, while the cell runs on the main one.
        if message.get("kind") == "hello":
            self._is_heard = True
            # A paused run sends nothing more, and its clock goes on.
            age_s = time.monotonic() - self._progress_set
            self.send({"kind": "welcome", "age_s": age_s})
        elif message.get("kind") == "pace":
            self._keep_pace(message.get("value"))
        elif message.get("kind") == "cleared":
            self._n_cleared = len(self._handles)
        elif message.get("kind") == "card":
            self._is_in_card = bool(message.get("value"))
            if self.widget.record:  # else on a subshell's thread, beside the one that sets traits
                self.widget.card = {"open": self._is_in_card}
        elif message.get("kind") == "choices":
            self.choices = Choices.of_page(message.get("value"))
        else:
            receive(message)

    def _note_progress(self, _: object) -> None:
        self._progress_set = time.monotonic()

    def _keep_pace(self, seconds: Any) -> None:
        if isinstance(seconds, int | float) and math.isfinite(seconds):
            self._live_interval_s = max(min(seconds, _SLOWEST_S), self._least_interval_s)
            if not self._shows_pictures:
                self.interval_s = self._live_interval_s

    def send(self, message: dict[str, Any]) -> None:
        """Send the page a message."""
        self.widget.send(message)

    def _show_pictures_to_silent_page(self, run: Run) -> None:
        """Show pictures while no message comes from a page whose messages could arrive."""
        self.apart_s = 0.0
        if run.finished:
            return
        if self._is_heard and self._shows_pictures:
            self._shows_pictures, self.interval_s = False, self._live_interval_s
            self.replace(self.live_bundle(run))
        late = time.monotonic() - self._opened > PATIENCE_S
        if not self._is_heard and late and has_subshells():
            self._shows_pictures, self.interval_s = True, PictureView.interval_s
            self.apart_s = self._picture.update(run, self.replace)


class FollowingView(WidgetView):
    """A widget that is handed out, and follows a run that began before.

    Args:
        run: The run.
        frames: The run so far.
        receive: Takes the messages of its page.
        beside: Runs that are drawn in grey, in the picture at the end too.
        interval_s: Least seconds between two updates.
    """

    def __init__(
        self,
        run: Run,
        frames: Frames,
        receive: Receive,
        beside: Sequence[Run] = (),
        interval_s: float = 0.1,
    ) -> None:
        super().__init__(interval_s, beside)
        self._make(frames, receive)
        self._stand_below(run)

    def open(self, run: Run, frames: Frames, receive: Receive) -> None:  # noqa: ARG002
        """Go on with the widget that was handed out."""
        self._is_open = True
        with self.widget.hold_sync():
            for name in frames.keys() & PANELS:
                setattr(self.widget, name, frames[name])

    def replace(self, bundle: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
        """Show a MIME bundle in the outputs that show the widget, if there are any."""
        if self._handles:
            super().replace(bundle, metadata)
