"""The runs of this process that go on: list them, and stop or pause them."""

from __future__ import annotations

import functools
import threading
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from aimz_lab.calls import public
from aimz_lab.data.html import html_table
from aimz_lab.errors import ArgumentError
from aimz_lab.inference.run.events import Callback, Run
from aimz_lab.inference.run.live_runs import LiveRun, live_runs
from aimz_lab.inference.run.run_words import method_words
from aimz_lab.lab import environment, formatting
from aimz_lab.lab.dashboard.busy_kernel import answer_reloaded_pages
from aimz_lab.lab.dashboard.clicks import obey
from aimz_lab.lab.dashboard.comm_routing import hear_beside_cells
from aimz_lab.lab.dashboard.moving_text import below_widget, needs_kernel
from aimz_lab.lab.dashboard.static import module, style
from aimz_lab.lab.dashboard.views import widget_bundle
from aimz_lab.system.imports import late_import
from aimz_lab.system.notebook_output import show_output, update_output
from aimz_lab.types import shown

if TYPE_CHECKING:
    from anywidget import AnyWidget

Line = Callable[[Run], str]
"""Describes a run in a line that begins with its name."""

_AGAIN = "Call lab.running() again to see where they are."


@public
def running() -> RunningRuns:
    """List the runs of this process that go on, to stop, pause or show them.

    It needs no display of theirs: it finds a run whose output was cleared, whose cell was run
    again, or whose handle was lost. While a cell trains, ask from a console with a subshell (in
    JupyterLab: *New Subshell Console for Notebook*) or from another thread.

    Returns:
        The runs, by number or by name of their kernel. In a notebook they show themselves as a
        table with buttons, which stays up to date; elsewhere as text. A page without widgets gets
        the table as it is, and once more when the runs have ended.

    Example:
        >>> running()
        No run goes on in this process.
        >>> handle = im.fit(X, y, epochs=10**6, blocking=False, progress=False)
        >>> [run.info.model for run in running()]
        ['kernel']
        >>> running().stop("kernel")
        >>> handle.wait().status
        'stopped'
    """
    return RunningRuns()


@public
class RunningRuns:
    """The runs of this process that go on, read anew at each use; made by :func:`running`.

    Its length is their number; iterating it gives each :class:`~aimz_lab.inference.run.run.Run` in
    the order in which they began. ``running()[3]`` and ``running()["earnings"]`` are runs, which
    :func:`~aimz_lab.lab.show` shows live.

    Example:
        >>> len(running()), list(running())
        (0, [])
    """

    def __len__(self) -> int:
        return len(live_runs())

    def __iter__(self) -> Iterator[Run]:
        return iter([live.run for live in live_runs()])

    def __getitem__(self, which: int | str) -> Run:
        return _chosen(which, "[{}]").run

    def stop(self, which: int | str | None = None, *, reason: str = "asked to stop") -> None:
        """End a run after its current chunk of steps, and keep its result.

        This returns at once; ``wait()`` of its handle waits for the end, and so does the next call
        of its model.

        Args:
            which: Its number, or the name of its kernel; ``None`` for the only one.
            reason: A phrase that becomes :attr:`Run.reason`.

        Raises:
            ArgumentError: If no run goes on, or ``which`` is none of them or several, or
                ``reason`` is no text.
        """
        _chosen(which, ".stop({})").run.control.stop(reason)

    def pause(self, which: int | str | None = None) -> None:
        """Hold a run after its current chunk of steps.

        Args:
            which: Its number, or the name of its kernel; ``None`` for the only one.

        Raises:
            ArgumentError: If no run goes on, or ``which`` is none of them or several.
        """
        _chosen(which, ".pause({})").run.control.pause()

    def resume(self, which: int | str | None = None) -> None:
        """Let a run go on after a pause.

        Args:
            which: Its number, or the name of its kernel; ``None`` for the only one.

        Raises:
            ArgumentError: If no run goes on, or ``which`` is none of them or several.
        """
        _chosen(which, ".resume({})").run.control.resume()

    def __repr__(self) -> str:
        return _text(live_runs())

    def _ipython_display_(self) -> None:
        if environment.place() in ("terminal", "pipe", "automation"):
            raise NotImplementedError  # IPython then writes the text, as of any object
        listed = live_runs()
        if not _shows_table(listed):
            _Words(listed)
            return
        # A notebook without its kernel has no table with buttons, and shows the words below.
        table = _RunsTable()
        model_id = table.widget.model_id
        show_output(widget_bundle(model_id, needs_kernel("lab.running()")))
        table.words = _Words(listed, partial(below_widget, model_id))

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        listed = live_runs()
        text = {"text/plain": _text(listed), "text/html": _html(listed)}
        if not _shows_table(listed):
            return text
        return widget_bundle(_RunsTable().widget.model_id, text.pop("text/plain")) | text


def _shows_table(listed: list[LiveRun]) -> bool:
    return bool(listed) and environment.place() == "page" and environment.has_widgets()


def _chosen(which: int | str | None, call: str) -> LiveRun:
    """Return the run of a number or name; ``call`` is how to ask for the run of a number."""
    live = live_runs()
    if not live:
        raise ArgumentError("No run goes on in this process.")
    found = live if which is None else [one for one in live if _is_called(one, which)]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(f"{one.number} ({one.run.info.model})" for one in found or live)
    if found:
        which = "" if which is None else f" named {which!r}"
        by_number = f"lab.running(){call.format(found[0].number)}"
        msg = f"{len(found)} runs{which} go on: {listed}. Choose one by its number: {by_number}."
    else:
        msg = f"No run that goes on has the number or name {shown(which)}; there are: {listed}."
    raise ArgumentError(msg)


def _is_called(live: LiveRun, which: int | str) -> bool:
    if isinstance(which, bool):
        return False
    return which in (live.number, live.run.info.model)


def _position(run: Run, line: Line = formatting.status_line) -> str:
    """The line of a run without its name."""
    return line(run)[len(f"{run.info.model}: ") :]


def _text(listed: list[LiveRun], line: Line = formatting.line_then) -> str:
    if not listed:
        return "No run goes on in this process."
    width = len(str(listed[-1].number))
    return "\n".join(f"{one.number:>{width}}  {line(one.run)}" for one in listed)


def _html(listed: list[LiveRun], line: Line = formatting.line_then) -> str:
    if not listed:
        return f"<p>{_text(listed)}</p>"
    rows = [(one.number, one.run.info.model, _position(one.run, line)) for one in listed]
    return html_table("", ("run", "kernel", ""), rows, n_labels=3)


class _Words(Callback):
    """The runs in words: as they are, and once they have ended, how.

    Args:
        listed: The runs.
        around: Returns the HTML in which that of the words stands, for words below a widget: these
            are read in a saved notebook, whose kernel may be gone, and so say where the runs were.
    """

    kind = "display"
    every_epoch = False

    def __init__(self, listed: list[LiveRun], around: Callable[[str], str] | None = None) -> None:
        self._listed, self._around = listed, around or str
        self._line = formatting.last_known_line if around else formatting.line_then
        self._going_on = {id(live.run) for live in listed}
        self._ending = threading.Lock()  # the runs end on threads of theirs
        self._output = show_output(self._bundle())
        for live in listed:
            if not live.callbacks.join(self):
                self.on_fit_end(live.run)

    @property
    def are_last(self) -> bool:
        """Whether all runs have ended, and the words say so."""
        return not self._going_on

    def on_fit_end(self, run: Run) -> None:
        """Say how the run ended."""
        with self._ending:
            update_output(self._output, self._bundle())
            self._going_on.discard(id(run))

    def _bundle(self) -> dict[str, str]:
        text, html = _text(self._listed, self._line), _html(self._listed, self._line)
        if any(not live.run.finished for live in self._listed):
            text, html = f"{text}\n{_AGAIN}", f"{html}<p>{_AGAIN}</p>"
        return {"text/plain": text, "text/html": self._around(html)}


@functools.cache
def _table_class() -> type[AnyWidget]:
    anywidget, traitlets = late_import("anywidget"), late_import("traitlets")
    members = {
        "__module__": __name__,
        "_esm": module("running"),
        "_css": style(),
        "rows": traitlets.List().tag(sync=True),
        "meta": traitlets.Dict().tag(sync=True),
        "record": traitlets.Dict().tag(sync=True),
    }
    return type("RunsTableWidget", (anywidget.AnyWidget,), members)


class _RunsTable:
    """A table of the runs that go on, with buttons; its page asks for news of them.

    Attributes:
        words: What stands below the widget, if anything. The page removes it with the record, so
            the record comes after its last change.
    """

    def __init__(self) -> None:
        self._listed: dict[int, LiveRun] = {}
        self.words: _Words | None = None
        model_id = uuid.uuid4().hex
        self.widget = _table_class()(
            model_id=model_id, meta={"model_id": model_id}, rows=self._rows()
        )
        hear_beside_cells(self.widget.comm)
        answer_reloaded_pages(environment.kernel())
        self.widget.on_msg(lambda _, message, __: self._take(message))

    def _rows(self) -> list[dict[str, Any]]:
        """Describe the runs that go on, and those that did and have ended."""
        self._listed |= {live.number: live for live in live_runs()}
        return [
            {
                "number": number,
                "model": live.run.info.model,
                "method": method_words(live.run.info.method),
                "position": _position(live.run),
                "is_paused": live.run.control.paused,
                "is_stopping": live.run.control.stop_request is not None,
                "is_over": live.run.finished,
            }
            for number, live in sorted(self._listed.items())
        ]

    def _take(self, message: dict[str, Any]) -> None:
        kind, number = message.get("kind"), message.get("value")
        live = self._listed.get(number) if isinstance(number, int) else None
        if live is not None and not live.run.finished:
            obey(live.run.control, kind)
        self.widget.rows = self._rows()
        self.widget.send({"kind": "heard"})
        has_words = self.words is not None and not self.words.are_last
        if not has_words and all(one.run.finished for one in self._listed.values()):
            ended = list(self._listed.values())
            text = {"text/plain": _text(ended), "text/html": _html(ended)}
            self.widget.record = {"data": text, "metadata": {}}
