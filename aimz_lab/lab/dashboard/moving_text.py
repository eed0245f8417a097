"""A line of text beside a widget, for pages that cannot show the widget; those that can hide it."""

from __future__ import annotations

import html
import time
from collections.abc import Callable
from typing import Any

from aimz_lab.inference.run.events import Run
from aimz_lab.lab import formatting

PATIENCE_S = 2.0
"""Seconds in which a page that shows the widget says so, if its messages arrive."""

INTERVAL_S = 1.0
"""Least seconds between two lines."""


class MovingText:
    """Text in an output of its own, which says where the run is.

    It comes only where no page has said that it shows the widget: the page cannot, or its messages
    do not arrive while the cell runs. The widget's style sheet hides it where the widget is shown.
    """

    def __init__(self) -> None:
        self._handle: Any = None
        self._began = self._shown = time.monotonic()

    def show(self, run: Run) -> None:
        """Write the line of a run anew, if that is due."""
        self.show_line(lambda: formatting.status_line(run))

    def show_line(self, make: Callable[[], str]) -> None:
        """Write any line anew, if that is due.

        Args:
            make: Makes the line.
        """
        now = time.monotonic()
        if now - self._began < PATIENCE_S or now - self._shown < INTERVAL_S:
            return
        self._shown = now
        self._put(make())

    def close(self) -> None:
        """Leave an empty output."""
        if self._handle is not None:
            self._put("")

    def _put(self, text: str) -> None:
        from IPython.display import display

        shown = f'<div class="aimz-elsewhere">{html.escape(text)}</div>' if text else ""
        bundle = {"text/html": shown, "text/plain": text}
        if self._handle is None:
            self._handle = display(bundle, raw=True, metadata={}, display_id=True)
        else:
            self._handle.update(bundle, raw=True, metadata={})
