"""Listeners that need no screen: they keep, stop, steer, save and measure a run."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any, Self

import numpy as np

from aimz_lab.errors import ArgumentError
from aimz_lab.inference.events import Callback, Run, Steps
from aimz_lab.lab import words
from aimz_lab.lab.board import Board
from aimz_lab.lab.history import History, compare
from aimz_lab.lab.line import Line
from aimz_lab.lab.metrics import GradientNorm, ParamDrift
from aimz_lab.lab.panels import ConvergencePanel
from aimz_lab.lab.panels.base import Frame
from aimz_lab.lab.rates import LearningRateScheduler, ReduceLROnPlateau
from aimz_lab.lab.saving import ModelCheckpoint
from aimz_lab.lab.stopping import EarlyStopping, TerminateOnNaN
from aimz_lab.lab.throttle import Throttle
from aimz_lab.lab.traces import Trace
from aimz_lab.lab.tracking import MLflowLogger

__all__ = [
    "CSVLogger",
    "EarlyStopping",
    "GradientNorm",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "MLflowLogger",
    "ModelCheckpoint",
    "ParamDrift",
    "ProgressLine",
    "ReduceLROnPlateau",
    "TerminateOnNaN",
    "compare",
]

_COLUMNS = ("step", "epoch", "loss", "rows", "n_pad", "seconds", "learning_rate")


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
        self._line = Line(self._stream)
        self._loss = Trace()
        self._loss.add(run.losses)
        self._throttle = Throttle(0.1 if self._line.rewrite else 10.0, share=0.01)
        self._board = Board([ConvergencePanel()] if run.chains else [], share=0.01)
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
        return words.status_line(run, loss, self._line.width, self._convergence)


class CSVLogger(Callback):
    """Writes a row a step to a CSV file while the run goes on, so that a crash loses nothing.

    The columns are step, epoch, loss, rows, n_pad, seconds, learning_rate and the metrics that the
    first steps report.

    Args:
        path: The file.
        append: Whether to add to a file that exists, without another header, or to replace it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     log = CSVLogger(f"{folder}/run.csv")
        ...     _ = im.fit(X, y, epochs=5, progress=False, callbacks=[log])
        ...     log.path.read_text().splitlines()[0]
        'step,epoch,loss,rows,n_pad,seconds,learning_rate'
    """

    every_epoch = False

    def __init__(self, path: str | Path, *, append: bool = False) -> None:
        self.path = Path(path)
        self._append = append
        self._file: IO[str] | None = None
        self._metrics: tuple[str, ...] | None = None

    def on_fit_begin(self, run: Run) -> None:  # noqa: ARG002
        """Open the file."""
        self._metrics = None
        self._file = self.path.open("a" if self._append else "w", newline="", encoding="utf-8")

    def on_steps_end(self, run: Run, steps: Steps) -> None:
        """Write the rows of the chunk."""
        writer = csv.writer(self._file)
        if self._metrics is None:
            self._metrics = tuple(steps.metrics)
            if self._file.tell() == 0:
                writer.writerow([*_COLUMNS, *self._metrics])
        values = [steps.metrics.get(name, np.full(len(steps), np.nan)) for name in self._metrics]
        seconds = float(run.column("seconds")[-1])
        writer.writerows(
            [info.step, info.epoch, info.loss, info.rows, info.n_pad, seconds, steps.learning_rate]
            + [float(column[i]) for column in values]
            for i, info in enumerate(steps)
        )
        self._file.flush()

    def on_fit_end(self, run: Run) -> None:  # noqa: ARG002
        """Close the file."""
        self._file.close()


class LambdaCallback(Callback):
    """A listener from plain functions.

    Args:
        **functions: What to call, by the name of the event, with the event's arguments:
            ``on_epoch_end=lambda run, epoch: ...``.

    Raises:
        ArgumentError: If there is no event of that name.

    Example:
        >>> LambdaCallback(on_fit_end=lambda run: print(run.status)).kind
        'user'
    """

    def __new__(cls, **functions: Callable[..., None]) -> Self:
        """Make a class that overrides just these events, so that no other one is called."""
        _check_events(functions)
        events = {name: _ignoring_self(function) for name, function in functions.items()}
        return super().__new__(type(cls.__name__, (cls,), {"__module__": __name__, **events}))

    def __init__(self, **functions: Callable[..., None]) -> None:
        self.functions = functions


def _ignoring_self(function: Callable[..., None]) -> Callable[..., None]:
    def event(self: Callback, *args: Any) -> None:  # noqa: ARG001
        function(*args)

    return event


def _check_events(names: Iterable[str]) -> None:
    known = [name for name in vars(Callback) if name.startswith("on_")]
    if unknown := sorted(set(names) - set(known)):
        msg = f"There is no event {unknown[0]!r}; use one of {', '.join(known)}."
        raise ArgumentError(msg)
