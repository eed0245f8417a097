"""A run read from a history, the run behind an object, and the curve of its losses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import numpy as np

from aimz_lab.data.options import check_text
from aimz_lab.errors import ArgumentError, DataTypeError
from aimz_lab.inference.run.events import Run, RunInfo
from aimz_lab.inference.run.run_words import run_name
from aimz_lab.lab.traces import Trace
from aimz_lab.types import RunStatus, shown

_traces: WeakKeyDictionary[Run, Trace] = WeakKeyDictionary()


@runtime_checkable
class HasRun(Protocol):
    """An object with a run: a history, a dashboard, a watched loop."""

    run: Run | None


@runtime_checkable
class HasLastRun(Protocol):
    """An object with its last run: a model."""

    last_run: Run | None


RunSource = Run | HasRun | HasLastRun
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
        trained_s: Of that, the time in which it trained, with that of an earlier process.
        prepared_s: Of that, the time before its first step.
        compiling_s: Of that, the time since then in which it traced and compiled.
        waited_s: Of that, the time since then in which it waited for other calls.
        paused_s: Of that, the time that it was paused.
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
        trained_s: float,
        prepared_s: float,
        compiling_s: float,
        waited_s: float,
        paused_s: float,
    ) -> None:
        super().__init__(info)
        self.begin()
        self.clock.begin_steps()
        self.take_over(columns, metrics)
        self._history.count_as_own()
        if self.step and np.isfinite(rate := self.column("learning_rate")[-1]):
            self.learning_rate = float(rate)
        self.finish(status, reason)
        self.clock.seconds_in = {
            "preparing": prepared_s,
            "compiling": compiling_s,
            "waiting": waited_s,
            "paused": paused_s,
        }
        self._took_s, self._trained_s = elapsed_s, trained_s

    @property
    def elapsed_s(self) -> float:
        """Wall time that the run took."""
        return self._took_s

    @property
    def trained_s(self) -> float:
        """Wall time in which the run trained, with that of an earlier process."""
        return self._trained_s


def run_of(source: RunSource) -> Run:
    """Return ``source`` if it is a run, or else its run.

    Raises:
        DataTypeError: If there is none.
    """
    if isinstance(source, Run):
        return source
    if isinstance(source, HasRun) and isinstance(source.run, Run):
        return source.run
    if isinstance(source, HasLastRun) and isinstance(source.last_run, Run):
        return source.last_run
    if source is None or (isinstance(source, HasLastRun) and source.last_run is None):
        msg = (
            "There is no run: the model was loaded, or no fit has trained it. Of a loop with "
            "lab.monitor, pass its watch or watch.run in place of the model. A saved model keeps "
            "its draws (im.summary(), lab.plot_posterior(im)) and, of SVI, its losses "
            "(im.vi_result.losses), but not its run. Where it was trained, "
            "lab.History(im.last_run).to_json('run.json') keeps that too; then "
            "lab.show(lab.History.from_json('run.json')) shows it. Models without a run are "
            "compared by their scores: compare_runs({...}, held_out=(X, y))."
        )
        raise DataTypeError(msg)
    msg = (
        f"{type(source).__name__} holds no run yet; pass a Run, a model that was trained in this "
        "session, or a RunHandle, History, LiveDashboard or watched loop that has seen one. Only "
        "compare() and compare_runs() take several in a list."
    )
    raise DataTypeError(msg)


def name_at(source: RunSource, place: int) -> str:
    """Name a run as on its page; one that had no page, by its kernel and its place.

    Args:
        source: The run, or an object with one.
        place: Its place among others, from 1.

    Raises:
        DataTypeError: If it has no run.
    """
    run = run_of(source)
    return f"{run.info.model} {place}" if run.number is None else run_name(run)


def named_sources(
    sources: Iterable[object], name_at: Callable[[Any, int], str] = name_at
) -> dict[str, RunSource]:
    """Return objects with runs by name: those of dicts by their own.

    Args:
        sources: Runs or objects with one, one by one, in lists, or in dicts by name.
        name_at: Returns the name of a source at a place, or raises.

    Raises:
        ArgumentError: If two are one run or have the same name, or a name is no text.
        DataTypeError: If one has no run.
    """
    found: dict[str, RunSource] = {}
    names: dict[int, str] = {}  # of the runs, by their identity
    for given, source in _flat(sources):
        name = name_at(source, len(found) + 1)
        if given is not None:
            check_text("The name of a run", given)
            name = given
        first = names.setdefault(id(_run_or_itself(source)), name)
        if first != name:
            msg = f"{shown(first)} is given twice, also as {shown(name)}; pass each run once."
            raise ArgumentError(msg)
        if name in found:
            msg = f"Two runs have the name {shown(name)}; give each its own: {{'name': run, ...}}."
            if given is None:
                msg = f"{shown(name)} is given twice; pass each run once."
            raise ArgumentError(msg)
        found[name] = source
    return found


def _run_or_itself(source: Any) -> object:
    """Return the run of a source; a model that was loaded has none."""
    try:
        return run_of(source)
    except DataTypeError:
        return source


def _flat(sources: Iterable[object]) -> Iterator[tuple[object, object]]:
    """Yield pairs of a name, or ``None``, and what should have a run."""
    for source in sources:
        if isinstance(source, Mapping):
            yield from source.items()
        elif isinstance(source, list | tuple):
            yield from _flat(source)
        else:
            yield None, source


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
