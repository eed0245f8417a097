"""Show the progress of a run in a line of text."""

from __future__ import annotations

import time
from typing import IO

from aimz_lab.calls import public
from aimz_lab.errors import ArgumentError
from aimz_lab.inference.run.events import Run, Steps
from aimz_lab.inference.run.getting_ready import Display
from aimz_lab.inference.run.loss_words import loss_per_row
from aimz_lab.lab import formatting
from aimz_lab.lab.panels import ConvergencePanel
from aimz_lab.lab.panels.base import Frame
from aimz_lab.lab.panels.panel_set import PanelSet
from aimz_lab.lab.throttle import Throttle
from aimz_lab.preparing import Preparing
from aimz_lab.progress import NotebookLine, StatusLine, progress_line
from aimz_lab.types import shown


@public
class ProgressLine(Display):
    """Shows a line of text: epoch, step, loss, rows per second, time left.

    For chains: draws, divergences, step size, the worst R-hat, the least effective sample size.

    On a terminal and in a notebook the line is written over itself; elsewhere a new one comes every
    ten seconds. The last line stays, and says how the run ended. For a fit in the
    background, a terminal gets one line at the beginning and one at the end.

    Args:
        stream: Where to write; by default the output of a notebook's cell, or else standard error,
            as it is when the run begins.

    Raises:
        ArgumentError: If ``stream`` cannot be written to.

    Example:
        >>> import sys
        >>> _ = im.fit(X, y, epochs=5, progress=False, callbacks=[ProgressLine(sys.stdout)])
        kernel: ...
    """

    every_epoch = False

    def __init__(self, stream: IO[str] | None = None) -> None:
        if stream is not None and not callable(getattr(stream, "write", None)):
            msg = f"stream={shown(stream)} is not allowed; use a file open for text: sys.stdout."
            raise ArgumentError(msg)
        self._stream = stream
        self._line: StatusLine | NotebookLine | None = None
        self._due_s = 0.0

    def on_preparing(self, preparing: Preparing) -> None:
        """Write what the call does, if that is due."""
        self._line = self._line or progress_line(self._stream)
        if preparing.seconds >= self._due_s:
            self._line.write(preparing.text)
            self._due_s = preparing.seconds + self._line.interval_s

    def on_refused(self) -> None:
        """Take the line away, where that is possible."""
        if self._line is not None:
            self._line.clear()
        self._line, self._due_s = None, 0.0

    def on_fit_begin(self, run: Run) -> None:
        """Begin the line."""
        self._line = self._line or progress_line(self._stream)
        self._throttle = Throttle(self._line.interval_s, share=0.01)
        self._panel_set = PanelSet([ConvergencePanel()] if run.chains else [], share=0.01)
        self._panel_set.begin(run)
        self._convergence: Frame = {}
        self._line.begin(*formatting.first_lines(run))

    def on_steps_end(self, run: Run, steps: Steps) -> None:  # noqa: ARG002
        """Update the line, if that is due."""
        began = time.perf_counter()
        if self._throttle.ready(began):
            self._line.write(self._text(run), _share(run))
            ended = time.perf_counter()
            self._throttle.spent(ended, ended - began)

    def on_fit_end(self, run: Run) -> None:
        """Write how the run ended."""
        self._line.close(f"{self._text(run)}{formatting.why_ended(run)}", _share(run))
        self._line, self._due_s = None, 0.0

    def _text(self, run: Run) -> str:
        frames = self._panel_set.frames(run, everything=run.finished)
        self._convergence = frames.get("convergence", self._convergence)
        return formatting.status_line(run, loss_per_row(run), self._line.width, self._convergence)


def _share(run: Run) -> float | None:
    """The share of the planned steps that are done, if there is a plan."""
    total = run.planned_steps
    return run.step / total if total else None
