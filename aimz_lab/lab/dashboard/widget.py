"""The live page: an anywidget with a canvas of its own, fed with the frames of the panels."""

from __future__ import annotations

import functools
import math
import time
from typing import Any

from aimz_lab.inference.run.events import Run
from aimz_lab.lab import formatting
from aimz_lab.lab.dashboard.static import module, style
from aimz_lab.lab.dashboard.views import PANELS, WIDGET_MIME, NotebookView, PictureView, Receive
from aimz_lab.lab.environment import has_subshells
from aimz_lab.lab.panels.panel_set import Frames

_PATIENCE_S = 10.0
_SLOWEST_S = 3.0


@functools.cache
def widget_class() -> type:
    """Return the widget, which holds one trait a panel and nothing else."""
    import anywidget
    import traitlets

    traits = {name: traitlets.Dict().tag(sync=True) for name in ("meta", "earlier", *PANELS)}
    members = {"__module__": __name__, "_esm": module(), "_css": style(), **traits}
    return type("DashboardWidget", (anywidget.AnyWidget,), members)


def make_widget(frames: Frames) -> Any:
    """Return a widget that shows ``frames`` and takes clicks while a cell runs."""
    widget = widget_class()(**frames)
    let_page_choose_shell(widget.comm)
    return widget


def let_page_choose_shell(comm: Any) -> None:
    """Let a page's messages on ``comm`` go to the subshell that the page asked for.

    ipykernel 7.4 hands them to the shell that last wrote on the comm instead, which is the busy
    one. What is changed is private there, hence the guard; other versions need nothing.
    """
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda data, asked: asked  # noqa: ARG005


class WidgetView(NotebookView):
    """The live page in an output; the still picture takes its place at the end.

    A page that can show the widget says so within seconds, if its messages arrive at all while a
    cell runs. Where they should arrive and none does, pictures take the widget's place, and give it
    back when the page is heard after all.

    A page tells how often it can draw without taking more than a hundredth of the time, since it
    may live on the cores that train; it gets no more updates than that.

    Args:
        interval_s: Least seconds between two updates.
    """

    wants = PANELS

    def __init__(self, interval_s: float = 0.1) -> None:
        super().__init__()
        self._least_interval_s = self._live_interval_s = self.interval_s = interval_s
        self._widget: Any = None
        self._heard = False
        self._silent = False
        self._opened = 0.0

    def open(self, run: Run, frames: Frames, receive: Receive) -> None:
        """Show the widget, and begin to listen to it."""
        self._heard = self._silent = False
        self._live_interval_s = self.interval_s = self._least_interval_s
        self._widget = make_widget(frames)
        self._widget.on_msg(lambda _, message, __: self._take(message, receive))
        self._opened = time.monotonic()
        super().open(run, frames, receive)

    def live_bundle(self, run: Run) -> dict[str, Any]:
        """Return the reference to the widget, with words for who cannot show it."""
        model = {"version_major": 2, "version_minor": 0, "model_id": self._widget.model_id}
        return {WIDGET_MIME: model, "text/plain": formatting.status_line(run)}

    def show(self, run: Run, frames: Frames) -> None:
        """Send the new frames in one message."""
        with self._widget.hold_sync():
            for name, frame in frames.items():
                setattr(self._widget, name, frame)
        self._mind_silence(run)

    def close(self, run: Run, frames: Frames) -> None:
        """Put the picture in the place of the widget, and let the widget go."""
        self.show(run, frames)
        super().close(run, frames)
        self._widget.close()

    def _take(self, message: dict[str, Any], receive: Receive) -> None:
        # On a subshell's thread, while the cell runs on the main one.
        if message.get("kind") == "hello":
            self._heard = True
            self.tell({"kind": "welcome"})
        elif message.get("kind") == "pace":
            self._keep_pace(message.get("value"))
        else:
            receive(message)

    def _keep_pace(self, seconds: Any) -> None:
        if isinstance(seconds, int | float) and math.isfinite(seconds):
            self._live_interval_s = max(min(seconds, _SLOWEST_S), self._least_interval_s)
            if not self._silent:
                self.interval_s = self._live_interval_s

    def tell(self, message: dict[str, Any]) -> None:
        """Send the page a message of its own."""
        self._widget.send(message)

    def _mind_silence(self, run: Run) -> None:
        """Show pictures while a page that ought to be heard is not."""
        if run.finished:
            return
        if self._heard and self._silent:
            self._silent, self.interval_s = False, self._live_interval_s
            self.replace(self.live_bundle(run))
        late = time.monotonic() - self._opened > _PATIENCE_S
        if not self._heard and late and has_subshells():
            self._silent, self.interval_s = True, PictureView.interval_s
            self.replace(PictureView().live_bundle(run))
