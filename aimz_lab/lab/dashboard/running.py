"""The runs of this process that go on: list them, and stop or pause them."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aimz_lab.calls import public
from aimz_lab.data.html import html_table
from aimz_lab.errors import ArgumentError
from aimz_lab.inference.run.events import Run
from aimz_lab.inference.run.live_runs import LiveRun, live_runs
from aimz_lab.inference.run.run_words import method_words, taken_at
from aimz_lab.lab import environment, formatting
from aimz_lab.lab.dashboard.busy_kernel import answer_reloaded_pages
from aimz_lab.lab.dashboard.clicks import obey
from aimz_lab.lab.dashboard.comm_routing import let_page_choose_shell
from aimz_lab.lab.dashboard.moving_text import below_widget, line_of, needs_kernel
from aimz_lab.lab.dashboard.static import module, style
from aimz_lab.lab.dashboard.views import WIDGET_MIME
from aimz_lab.system.imports import late_import
from aimz_lab.types import shown

if TYPE_CHECKING:
    from anywidget import AnyWidget


@public
def running() -> RunningRuns:
    """List the runs of this process that go on, to stop, pause or show them.

    It needs no display of theirs: it finds a run whose output was cleared, whose cell was run
    again, or whose handle was lost. While a cell trains, ask from a console with a subshell (in
    JupyterLab: *New Subshell Console for Notebook*) or from another thread.

    Returns:
        The runs, by number or by name of their kernel. In a notebook they show themselves as a
        table with buttons, which stays up to date; elsewhere as text.

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
        from IPython.display import display

        bundle = self._repr_mimebundle_()
        if WIDGET_MIME not in bundle:
            display(bundle, raw=True)
            return
        # A notebook without its kernel has no table with buttons, and shows the one below.
        widget = bundle[WIDGET_MIME]
        display({WIDGET_MIME: widget, "text/plain": needs_kernel("lab.running()")}, raw=True)
        html = below_widget(widget["model_id"], bundle["text/html"])
        display({"text/html": html, "text/plain": bundle["text/plain"]}, raw=True)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        listed = live_runs()
        text = {"text/plain": _text(listed), "text/html": _html(listed)}
        if not listed or environment.place() != "page" or not environment.has_widgets():
            return text
        widget = _RunsTable().widget
        model = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
        return {WIDGET_MIME: model, **text}


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


def _position(run: Run) -> str:
    """The line of a run without its name."""
    return formatting.status_line(run)[len(f"{run.info.model}: ") :]


def _text(listed: list[LiveRun]) -> str:
    if not listed:
        return "No run goes on in this process."
    width = len(str(listed[-1].number))
    return "\n".join(f"{one.number:>{width}}  {line_of(one.run)}" for one in listed)


def _html(listed: list[LiveRun]) -> str:
    if not listed:
        return f"<p>{_text(listed)}</p>"
    rows = [
        (one.number, one.run.info.model, _position(one.run), taken_at(one.run)) for one in listed
    ]
    return html_table("", ("run", "kernel", "", ""), rows, n_labels=4)


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
    """A table of the runs that go on, with buttons; its page asks for news of them."""

    def __init__(self) -> None:
        self._listed: dict[int, LiveRun] = {}
        model_id = uuid.uuid4().hex
        self.widget = _table_class()(
            model_id=model_id, meta={"model_id": model_id}, rows=self._rows()
        )
        let_page_choose_shell(self.widget.comm)
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
                "status": live.run.status,
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
        if all(one.run.finished for one in self._listed.values()):
            ended = list(self._listed.values())
            text = {"text/plain": _text(ended), "text/html": _html(ended)}
            self.widget.record = {"data": text, "metadata": {}}
