"""One line of text that shows where a run is."""

from __future__ import annotations

import time
from typing import IO

from aimz_lab.inference.run.events import Callback, Run, Steps
from aimz_lab.lab import formatting
from aimz_lab.lab.panels import ConvergencePanel
from aimz_lab.lab.panels.base import Frame
from aimz_lab.lab.panels.panel_set import PanelSet
from aimz_lab.lab.throttle import Throttle
from aimz_lab.lab.traces import Trace
from aimz_lab.progress import StatusLine


class ProgressLine(Callback):
    """One line of text that is kept up to date: epoch, step, loss, rows per second, time left.

    Of chains: draws, divergences, step size, the worst R-hat, the least effective sample size.

    On a terminal the line is written over itself; elsewhere a new one comes every ten seconds.

    It is not ``tqdm.auto``, which counts iterations: a stream may not know how many there will be,
    the loss and the chains' state would be an afterthought to the bar, and a log would get a line
    for each of its states. In a notebook it would be a widget, which is empty when the notebook is
    opened again; this line stays, and the last one says how the run ended.

    Args:
        stream: Where to write; standard error, as it is when the run begins, by default.

    Example:
        >>> import sys
        >>> _ = im.fit(X, y, epochs=5, progress=False, callbacks=[ProgressLine(sys.stdout)])
        kernel: ...
    """

    kind = "display"
    every_epoch = False

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream

    def on_fit_begin(self, run: Run) -> None:
        """Begin the line."""
        self._line = StatusLine(self._stream)
        self._loss = Trace()
        self._loss.add(run.losses)
        self._throttle = Throttle(0.1 if self._line.rewrite else 10.0, share=0.01)
        self._board = PanelSet([ConvergencePanel()] if run.chains else [], share=0.01)
        self._board.begin(run)
        self._convergence: Frame = {}
        if self._line.rewrite:
            self._line.write(f"{run.info.model}: compiling the first step")

    def on_steps_end(self, run: Run, steps: Steps) -> None:
        """Write the line anew, if that is due."""
        self._loss.add(steps.loss)
        began = time.perf_counter()
        if self._throttle.ready(began):
            self._line.write(self._text(run))
            ended = time.perf_counter()
            self._throttle.spent(ended, ended - began)

    def on_fit_end(self, run: Run) -> None:
        """Write how the run ended."""
        reason = "" if run.status == "completed" or not run.reason else f" · {run.reason}"
        self._line.close(self._text(run) + reason)

    def _text(self, run: Run) -> str:
        frames = self._board.frames(run, everything=run.finished)
        self._convergence = frames.get("convergence", self._convergence)
        smoothed = self._loss.smooth()
        loss = float(smoothed[-1]) / (run.info.n_obs or 1) if len(smoothed) else None
        return formatting.status_line(run, loss, self._line.width, self._convergence)
