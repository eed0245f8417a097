"""What stands below a widget, for pages that cannot show it: a line of text, or a still picture.

The widget's page hides it. A notebook that is opened without its kernel shows it.
"""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Callable
from typing import Any

from aimz_lab.inference.run.events import Run
from aimz_lab.inference.run.run_words import time_now
from aimz_lab.lab import formatting
from aimz_lab.preparing import Preparing
from aimz_lab.system.notebook_output import show_output

PATIENCE_S = 2.0
"""Seconds in which a page that shows the widget says so, if its messages arrive."""

INTERVAL_S = 1.0
"""Least seconds between two lines."""

SELDOM_S = 10.0
"""The same where a page shows the widget: the line is then for the saved notebook alone."""


def needs_kernel(name: str) -> str:
    """Return the text of a widget itself, for pages that cannot show it: below stands the rest.

    Args:
        name: What it shows.
    """
    return f"{name}: a live view, which needs its kernel and a page that shows widgets"


def below_widget(model_id: str, content: str) -> str:
    """Return HTML that the page of a widget hides, and that stands for the widget without it.

    What JupyterLab writes in place of a widget that is gone is hidden by it.

    Args:
        model_id: Identifier of the widget.
        content: HTML.
    """
    mark = f"aimz-still-{model_id}"
    above = f".jp-OutputArea-child:has(+ .jp-OutputArea-child .{mark})"
    style = f"{above} > .jp-OutputArea-output:not(:has(*)) {{ display: none; }}"
    return f'<div class="{mark}">{content}</div><style>{style}</style>'


class MovingText:
    """Text in outputs of its own, which says where a run is.

    It moves once a second where no page has said that it shows the widget: the page cannot, or its
    messages do not arrive while the cell runs. Elsewhere it is brought up to date now and then, and
    says where the run was: a saved notebook shows it when the run may be gone with its kernel. A
    pause is written at once, as a paused run reports nothing more.

    Args:
        model_id: Identifier of the widget that stands above; empty without one.
    """

    def __init__(self, model_id: str = "") -> None:
        self._model_id = model_id
        self._handles: list[Any] = []
        self._text = ""
        self._has_moved = self._is_of_pause = False
        self._began = self._shown = time.monotonic()
        self._putting = threading.Lock()  # a cell may show it while the run writes it

    def show(self, run: Run, loss: float | None = None, *, seldom: bool = False) -> None:
        """Write the line of a run anew, if that is due.

        Args:
            run: The run.
            loss: Its loss, per row if their number is known.
            seldom: Whether a page shows the widget.
        """
        line = formatting.last_known_line if seldom else formatting.line_then
        is_paused = run.status == "paused"
        at_once, self._is_of_pause = is_paused != self._is_of_pause, is_paused
        self.show_line(lambda: line(run, loss), seldom=seldom, at_once=at_once)

    def show_line(
        self, make: Callable[[], str], *, seldom: bool = False, at_once: bool = False
    ) -> None:
        """Write any line anew, if that is due.

        Args:
            make: Makes the line.
            seldom: Whether a page shows the widget.
            at_once: Whether it is due however long ago the last line was.
        """
        now = time.monotonic()
        interval_s = SELDOM_S if seldom and self._has_moved else INTERVAL_S
        is_early = now - self._began < PATIENCE_S or now - self._shown < interval_s
        if is_early and not at_once:
            return
        self._shown, self._has_moved = now, True
        self._put(make())

    def display(self, text: str) -> None:
        """Show the text in one more output, in the cell that runs.

        Args:
            text: The line as it is now.
        """
        with self._putting:
            self._text = text
            self._handles.append(self._new())

    def close(self) -> None:
        """Leave empty outputs."""
        if self._handles:
            self._put("")

    def _put(self, text: str) -> None:
        with self._putting:
            self._text = text
            if not self._handles:
                self._handles.append(self._new())
                return
            for handle in self._handles:
                handle.update(self._bundle(), raw=True, metadata={})

    def _new(self) -> Any:
        return show_output(self._bundle())

    def _bundle(self) -> dict[str, str]:
        line = html.escape(self._text)
        if line and self._model_id:
            line = below_widget(self._model_id, line)
        return {"text/html": line, "text/plain": self._text}


def was_preparing(preparing: Preparing) -> str:
    """Return what a call did, as a line that stays true when the call is gone with its kernel.

    Args:
        preparing: What the call does now.

    Example:
        >>> was_preparing(Preparing("earnings", "tracing the model", 2.43))
        'earnings: was preparing at ... · tracing the model'
    """
    return f"{preparing.name}: was {preparing.stage} at {time_now()} · {preparing.activity}"
