"""A run read from a history, the run behind an object, and the curve of its losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import numpy as np

from aimz_lab.errors import DataTypeError
from aimz_lab.inference.run.events import Run, RunInfo
from aimz_lab.lab.traces import Trace
from aimz_lab.types import RunStatus

_traces: WeakKeyDictionary[Run, Trace] = WeakKeyDictionary()


@runtime_checkable
class HasRun(Protocol):
    """An object with a run: a history, a dashboard, a watched loop."""

    run: Run | None


RunSource = Run | HasRun
"""A run, or an object with one."""


class RecordedRun(Run):
    """A finished run that was not trained in this process.

    Args:
        info: What is known before its first step.
        columns: What was kept of its steps, by name; see :meth:`Run.take_over`.
        metrics: What was kept of its metrics, by name.
        status: How it ended.
        reason: Why it ended, in words.
        elapsed_s: Wall time that it took.
    """

    def __init__(
        self,
        info: RunInfo,
        columns: Mapping[str, np.ndarray],
        metrics: Mapping[str, np.ndarray],
        *,
        status: RunStatus,
        reason: str,
        elapsed_s: float,
    ) -> None:
        super().__init__(info)
        self.begin()
        self.take_over(columns, metrics)
        self._history.count_as_own()
        if self.step and np.isfinite(rate := self.column("learning_rate")[-1]):
            self.learning_rate = float(rate)
        self.finish(status, reason)
        self._took_s = elapsed_s

    @property
    def elapsed_s(self) -> float:
        """Wall time that the run took."""
        return self._took_s


def run_of(source: RunSource) -> Run:
    """Return ``source`` if it is a run, or else its run.

    Raises:
        DataTypeError: If there is none.
    """
    if isinstance(source, Run):
        return source
    if isinstance(source, HasRun) and isinstance(source.run, Run):
        return source.run
    msg = (
        f"{type(source).__name__} holds no run yet; pass a Run (such as im.last_run after a "
        "training), or a History, LiveDashboard or watched loop that has seen one; several go one "
        "by one, not as a list."
    )
    raise DataTypeError(msg)


def loss_trace(run: Run) -> Trace:
    """Return the losses of a run in bounded memory, in nats of all rows.

    The trace of a finished run is kept: several descriptions ask for it, and a run may have
    millions of steps.
    """
    if run in _traces:
        return _traces[run]
    trace = Trace()
    trace.add(run.losses)
    if run.finished:
        keep_loss_trace(run, trace)
    return trace


def keep_loss_trace(run: Run, trace: Trace) -> None:
    """Keep the trace of all losses of a finished run for :func:`loss_trace`."""
    _traces[run] = trace


def padded_share(run: Run) -> float:
    """Return the share of all computed rows that were padding."""
    n_pad = int(np.sum(run.column("n_pad"), dtype=np.int64))
    rows = int(np.sum(run.column("rows"), dtype=np.int64))
    return n_pad / (rows + n_pad) if rows + n_pad else 0.0
