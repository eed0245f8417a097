"""The live map of a call on workers: which worker has which part, and a button to stop."""

from __future__ import annotations

import functools
import time
import uuid
from typing import TYPE_CHECKING, Any

from aimz_lab.cluster.call_log import CallLog
from aimz_lab.lab.dashboard.busy_kernel import answer_reloaded_pages
from aimz_lab.lab.dashboard.call_frames import frame_of, position, record_of_call
from aimz_lab.lab.dashboard.comm_routing import hear_beside_cells
from aimz_lab.lab.dashboard.moving_text import MovingText
from aimz_lab.lab.dashboard.static import module, style
from aimz_lab.lab.dashboard.views import widget_bundle
from aimz_lab.lab.dashboard.widget import keep_for_pages
from aimz_lab.lab.environment import kernel
from aimz_lab.lab.throttle import Throttle
from aimz_lab.progress import QUIET_S
from aimz_lab.system.imports import late_import
from aimz_lab.system.notebook_output import show_output

if TYPE_CHECKING:
    from anywidget import AnyWidget

_INTERVAL_S = 0.25
_SHARE = 0.01  # of the wall time


@functools.cache
def _map_class() -> type[AnyWidget]:
    anywidget, traitlets = late_import("anywidget"), late_import("traitlets")
    names = ("meta", "call", "record")
    traits = {name: traitlets.Dict().tag(sync=True) for name in names}
    members = {"__module__": __name__, "_esm": module("worker_map"), "_css": style(), **traits}
    return type("WorkerMapWidget", (anywidget.AnyWidget,), members)


class WorkerMap:
    """Shows a call on workers in a notebook's page, and leaves a table of the workers.

    A call that ends within half a second is not shown. Stop is a message of the page; while a cell
    runs it arrives on a thread of its own, and the call ends at its next look.

    Attributes:
        widget: The widget of the call that is shown; ``None`` before.
    """

    def __init__(self) -> None:
        self.widget: AnyWidget | None = None
        self._output: Any = None
        self._is_heard = False
        self._throttle = Throttle(_INTERVAL_S, _SHARE)

    def show(self, log: CallLog) -> None:
        """Show how the call stands, if that is due."""
        began = time.perf_counter()
        if log.seconds < QUIET_S or not self._throttle.ready(began):
            return
        if self.widget is None:
            self._open(log)
        else:
            self.widget.call = frame_of(log)
        self._text.show_line(lambda: f"{log.kernel}: {position(log)}", seldom=self._is_heard)
        ended = time.perf_counter()
        self._throttle.spent(ended, ended - began)

    def close(self, log: CallLog) -> None:
        """Put the table of the workers in place of the map."""
        if self.widget is None:
            return
        self._text.close()
        record = record_of_call(log)
        self._output.update(record, raw=True, metadata={})
        with self.widget.hold_sync():
            self.widget.call = frame_of(log)
            self.widget.record = {"data": record, "metadata": {}}
        keep_for_pages(self.widget)

    def _open(self, log: CallLog) -> None:
        model_id = uuid.uuid4().hex
        meta = {"model_id": model_id, "kernel": log.kernel, "link": log.link}
        self.widget = _map_class()(model_id=model_id, meta=meta, call=frame_of(log))
        hear_beside_cells(self.widget.comm)
        answer_reloaded_pages(kernel())
        self.widget.on_msg(lambda _, message, __: self._take(message, log))
        self._text = MovingText(model_id)
        self._output = show_output(widget_bundle(model_id, f"{log.kernel}: {position(log)}"))

    def _take(self, message: dict[str, Any], log: CallLog) -> None:
        # On a subshell's thread, while the cell runs on the main one.
        if message.get("kind") == "hello":
            self._is_heard = True
            self.widget.send({"kind": "welcome"})
        elif message.get("kind") == "stop" and log.status == "running":
            log.stop("Stop was clicked")
            self.widget.call = frame_of(log)
