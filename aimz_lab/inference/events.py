"""What a training run tells its listeners, and how they steer it.

Training is a stream of events. :class:`Run` is what a listener reads, :class:`Steps` is what a chunk of
compiled steps reported, :class:`Control` is how any thread asks the run for something, and
:class:`Callback` is the listener. The trainer applies requests between two chunks; nothing here
trains, and nothing here draws.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import jax
import numpy as np

from aimz_lab.errors import ArgumentError, CallbackWarning
from aimz_lab.inference.guard import Best
from aimz_lab.types import RunStatus

CallbackKind = Literal["metric", "user", "display", "checkpoint"]
_ORDER: tuple[CallbackKind, ...] = ("metric", "user", "display", "checkpoint")


@dataclass(frozen=True, slots=True)
class StepInfo:
    """One training step.

    Attributes:
        step: Number of the step in the run, from 1.
        epoch: Number of its epoch, from 1.
        loss: Negative ELBO in nats, of all ``n_obs`` rows.
        rows: Rows of data that the step used, padding excluded.
        n_pad: Rows of padding that it carried along.
    """

    step: int
    epoch: int
    loss: float
    rows: int
    n_pad: int


@dataclass(frozen=True)
class Steps:
    """A chunk of steps that ran in one dispatch; arrays of shape ``(k,)``.

    Attributes:
        first: Number of the first step, from 1.
        epoch: Epoch of each step, from 1.
        loss: Negative ELBO of each step in nats.
        rows: Rows of data in each step, padding excluded.
        n_pad: Rows of padding in each step.
        seconds: Wall time from the end of the previous chunk to the end of this one.
        learning_rate: The rate that the chunk ran with, where the optimizer tells.
        metrics: Further values of each step by name, such as ``grad_norm``.
    """

    first: int
    epoch: np.ndarray
    loss: np.ndarray
    rows: np.ndarray
    n_pad: np.ndarray
    seconds: float
    learning_rate: float | None = None
    metrics: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.loss)

    def __iter__(self) -> Iterator[StepInfo]:
        columns = (self.epoch, self.loss, self.rows, self.n_pad)
        for i, (epoch, loss, rows, n_pad) in enumerate(
            zip(*(column.tolist() for column in columns), strict=True)
        ):
            yield StepInfo(self.first + i, epoch, loss, rows, n_pad)


class Control:
    """Requests to a run, from any thread; the trainer applies them between two chunks.

    Args:
        can_set_learning_rate: Whether the optimizer's rate can be changed.
        why_not: What to tell who asks for it where it cannot.

    Attributes:
        can_checkpoint: Whether a listener writes checkpoints; :class:`Callbacks` finds out.
    """

    def __init__(self, *, can_set_learning_rate: bool = False, why_not: str = "") -> None:
        self.can_set_learning_rate = can_set_learning_rate
        self.can_checkpoint = False
        self._why_not = why_not
        self._lock = threading.Lock()
        self._unpaused = threading.Event()
        self._unpaused.set()
        self._stop: tuple[str, RunStatus] | None = None
        self._learning_rate: float | None = None
        self._checkpoint = False

    def stop(self, reason: str = "asked to stop", *, status: RunStatus = "stopped") -> None:
        """End the run after the current chunk and keep what it has; the first reason counts."""
        with self._lock:
            self._stop = self._stop or (reason, status)
        self._unpaused.set()

    def pause(self) -> None:
        """Hold the run after the current chunk, until :meth:`resume` or :meth:`stop`."""
        with self._lock:
            if self._stop is None:
                self._unpaused.clear()

    def resume(self) -> None:
        """Go on after :meth:`pause`."""
        self._unpaused.set()

    def checkpoint(self) -> None:
        """Ask the checkpoint callbacks to write after the current chunk."""
        with self._lock:
            self._checkpoint = True

    def set_learning_rate(self, rate: float) -> None:
        """Train with ``rate`` from the next chunk on.

        Raises:
            ArgumentError: If the rate is not a positive finite number, or the optimizer has none
                that can be set.
        """
        self.check_learning_rate()
        if not (np.isfinite(rate) and rate > 0):
            msg = f"A learning rate is a positive finite number; got {rate!r}."
            raise ArgumentError(msg)
        with self._lock:
            self._learning_rate = float(rate)

    def check_learning_rate(self) -> None:
        """Make sure that the rate can be set, before a run begins that relies on it.

        Raises:
            ArgumentError: If the optimizer has none that can be set; it says which ones have.
        """
        if not self.can_set_learning_rate:
            raise ArgumentError(self._why_not or "The learning rate of this run cannot be set.")

    @property
    def requested_learning_rate(self) -> float | None:
        """The rate that the next chunk will have, if one was asked for."""
        return self._learning_rate

    @property
    def stop_request(self) -> tuple[str, RunStatus] | None:
        """Reason and status of a requested stop, or ``None``."""
        return self._stop

    @property
    def paused(self) -> bool:
        """Whether a pause has been asked for and not taken back."""
        return not self._unpaused.is_set()

    def wait_while_paused(self) -> None:
        """Block while paused. In slices, so that an interrupt gets through."""
        while not self._unpaused.wait(0.1):
            pass

    def take_learning_rate(self) -> float | None:
        """Return and clear the requested learning rate."""
        with self._lock:
            rate, self._learning_rate = self._learning_rate, None
        return rate

    def take_checkpoint(self) -> bool:
        """Return and clear the request for a checkpoint."""
        with self._lock:
            asked, self._checkpoint = self._checkpoint, False
        return asked


class _Column:
    """A one-dimensional array that grows at its end in amortised constant time."""

    def __init__(self, dtype: Any) -> None:
        self._data = np.empty(64, dtype)
        self._size = 0

    def extend(self, values: Any) -> None:
        values = np.asarray(values, self._data.dtype)
        need = self._size + len(values)
        if need > len(self._data):
            grown = np.empty(max(need, 2 * len(self._data)), self._data.dtype)
            grown[: self._size] = self._data[: self._size]
            self._data = grown
        self._data[self._size : need] = values
        self._size = need

    @property
    def values(self) -> np.ndarray:
        view = self._data[: self._size]
        view.flags.writeable = False
        return view


@dataclass(frozen=True)
class RunInfo:
    """What is known of a run before its first step.

    Attributes:
        model: Name of the kernel.
        method: Inference method and guide, such as ``"SVI/AutoNormal"``.
        n_obs: Rows of the data set, or ``None`` where nobody knows.
        batch_size: Rows of a full batch, padding excluded.
        epochs: Planned epochs.
        steps_per_epoch: Planned steps of an epoch, or ``None`` where nobody knows.
        row_multiple: What a batch is padded to a multiple of.
        devices: The devices that the run computes on.
        scaled: Factor on the rows' likelihood, in words, such as ``"N / B = 12.4"``.
        validation_every: Epochs between two evaluations of the held-out loss; ``None`` without one.
    """

    model: str
    method: str
    n_obs: int | None = None
    batch_size: int | None = None
    epochs: int | None = None
    steps_per_epoch: int | None = None
    row_multiple: int = 1
    devices: tuple[jax.Device, ...] = ()
    scaled: str = ""
    validation_every: int | None = None

    @property
    def total_steps(self) -> int | None:
        """Planned steps of the run, or ``None`` where nobody knows."""
        if self.epochs is None or self.steps_per_epoch is None:
            return None
        return self.epochs * self.steps_per_epoch


class Run:
    """The state of a training run, as its listeners read it.

    Attributes:
        info: What was known before the first step.
        control: Where to ask for a stop, a pause, a checkpoint or another learning rate.
        status: One of :data:`aimz_lab.types.RunStatus`.
        reason: Why the run ended, in words.
        epoch: Epoch of the last step, from 1; 0 before the first.
        learning_rate: The rate of the last step, where the optimizer tells.
        validation: Pairs of step and held-out loss in nats per row.
        disabled: Callbacks that failed and were switched off, with what they raised.
        checkpoints: Paths written so far, with the step of each.
        seconds_in: Wall time by activity: ``data``, ``transfer``, ``steps``, ``callbacks``.
        transferred_bytes: Bytes of batches that were moved to the devices so far.
        skipped: Steps that were left out because they were not finite.
        notes: Sentences that a display should show.
        exception: What ended a failed run.
        resumed_at: Steps that an earlier process did, up to the checkpoint; 0 for a new run.
        best: The best state so far by what it was judged by; see :mod:`aimz_lab.inference.guard`.
    """

    def __init__(
        self,
        info: RunInfo,
        *,
        control: Control | None = None,
        get_params: Callable[[], Mapping[str, jax.Array]] | None = None,
    ) -> None:
        self.info = info
        self.control = control or Control()
        self.status: RunStatus = "pending"
        self.reason = ""
        self.epoch = 0
        self.learning_rate: float | None = None
        self.validation: list[tuple[int, float]] = []
        self.disabled: list[tuple[Callback, Exception]] = []
        self.checkpoints: list[tuple[int, str]] = []
        self.seconds_in: dict[str, float] = {}
        self.transferred_bytes = 0
        self.skipped = 0
        self.notes: list[str] = []
        self.exception: BaseException | None = None
        self.resumed_at = 0
        self.best: dict[str, Best] = {}
        self._kept: Any = None
        self._get_params = get_params
        self._get_state: Callable[[], Any] | None = None
        self._get_position: Callable[[], Any] | None = None
        self._get_provenance: Callable[[], Mapping[str, Any]] | None = None
        self._columns = {
            "loss": _Column(np.float32),
            "epoch": _Column(np.int32),
            "rows": _Column(np.int32),
            "n_pad": _Column(np.int32),
            "seconds": _Column(np.float64),
        }
        self._metrics: dict[str, _Column] = {}
        self._began: float | None = None
        self._ended: float | None = None

    @property
    def step(self) -> int:
        """Steps done so far."""
        return len(self.losses)

    @property
    def losses(self) -> np.ndarray:
        """Loss of each step in nats; shape ``(step,)``, read-only."""
        return self._columns["loss"].values

    @property
    def losses_per_row(self) -> np.ndarray:
        """Loss of each step in nats per row; the total where nobody knows the number of rows."""
        return self.losses / (self.info.n_obs or 1)

    @property
    def params(self) -> Mapping[str, jax.Array]:
        """The guide's constrained parameters after the last step; empty where nobody tells."""
        return self._get_params() if self._get_params else {}

    @property
    def elapsed_s(self) -> float:
        """Wall time since the run began, up to its end."""
        if self._began is None:
            return 0.0
        return (self._ended or time.monotonic()) - self._began

    @property
    def steps_per_s(self) -> float:
        """Rate over the last few seconds of stepping; 0 before the first chunk.

        The first chunk, during which the step is compiled, counts only as long as it is alone.
        """
        ends = self._columns["seconds"].values
        if len(ends) == 0:
            return 0.0
        recent = int(np.searchsorted(ends, ends[-1] - 3.0))
        if recent == 0 and not self._in_first_chunk:
            recent = int(np.searchsorted(ends, ends[0], side="right"))
        span = ends[-1] - (ends[recent - 1] if recent else 0.0)
        return (len(ends) - recent) / span if span > 0 else 0.0

    @property
    def _in_first_chunk(self) -> bool:
        ends = self._columns["seconds"].values
        return len(ends) == 0 or ends[0] == ends[-1]

    @property
    def rows_per_s(self) -> float:
        """Rows of data per second, at the rate of :attr:`steps_per_s`."""
        rows = self._columns["rows"].values
        return self.steps_per_s * float(rows[-256:].mean()) if len(rows) else 0.0

    @property
    def eta_s(self) -> float | None:
        """Expected wall time to the planned end, or ``None`` where it cannot be told yet."""
        total, rate = self.info.total_steps, self.steps_per_s
        if total is None or rate == 0 or (self._in_first_chunk and self.step < total):
            return None
        return max(total - self.step, 0) / rate

    @property
    def finished(self) -> bool:
        """Whether the run has ended, in whatever way."""
        return self._ended is not None

    def column(self, name: str) -> np.ndarray:
        """One value a step, read-only: ``loss``, ``epoch``, ``rows``, ``n_pad``, or a metric.

        ``seconds`` is the stepping time at the end of the step's chunk, in seconds.

        Raises:
            KeyError: If no step reported such a value.
        """
        return (self._columns.get(name) or self._metrics[name]).values

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the further values that the steps reported."""
        return tuple(self._metrics)

    @property
    def state(self) -> Any:
        """The trainer's state after the last accepted step; ``None`` where nobody tells."""
        return self._get_state() if self._get_state else None

    @property
    def position(self) -> Any:
        """Where in the data the next step begins; ``None`` where nobody tells."""
        return self._get_position() if self._get_position else None

    @property
    def final_state(self) -> Any:
        """The state that the model ends with: the one of :meth:`end_with`, else :attr:`state`."""
        return self.state if self._kept is None else self._kept

    def end_with(self, state: Any) -> None:
        """Give the model this state at the end, instead of the one after the last step.

        Training itself, and what a checkpoint holds, go on from :attr:`state`.
        """
        self._kept = state

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What a run must share with this one to go on from its checkpoint; plain values."""
        return self._get_provenance() if self._get_provenance else {}

    def bind(
        self,
        *,
        params: Callable[[], Mapping[str, jax.Array]],
        state: Callable[[], Any],
        position: Callable[[], Any],
        provenance: Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        """Say where parameters, state, position and provenance are to be had; for trainers."""
        self._get_params, self._get_state, self._get_position = params, state, position
        self._get_provenance = provenance

    def begin(self) -> None:
        """Start the clock; for trainers."""
        self.status = "running"
        self._began = time.monotonic()

    def record(self, steps: Steps) -> None:
        """Append a chunk of steps; for trainers."""
        before = self._columns["seconds"].values
        stepping_s = (before[-1] if len(before) else 0.0) + steps.seconds
        for name in ("loss", "epoch", "rows", "n_pad"):
            self._columns[name].extend(getattr(steps, name))
        self._columns["seconds"].extend(np.full(len(steps), stepping_s))
        for name in dict.fromkeys([*self._metrics, *steps.metrics]):
            if name not in self._metrics:
                self._metrics[name] = _Column(np.float32)
                self._metrics[name].extend(np.full(len(before), np.nan))
            missing = np.full(len(steps), np.nan)
            self._metrics[name].extend(steps.metrics.get(name, missing))
        self.learning_rate = steps.learning_rate
        if len(steps):
            self.epoch = int(steps.epoch[-1])

    def spend(self, activity: str, seconds: float) -> None:
        """Add wall time to an activity of :attr:`seconds_in`; for trainers."""
        self.seconds_in[activity] = self.seconds_in.get(activity, 0.0) + seconds

    def finish(self, status: RunStatus, reason: str) -> None:
        """Stop the clock and say how the run ended; for trainers."""
        self.status, self.reason = status, reason
        self._ended = time.monotonic()


class Callback:
    """Base of the listeners; override what is of interest.

    Within one event, metrics are called first, then user callbacks, displays, and checkpoints.
    A ``display`` that raises is switched off and named in :attr:`Run.disabled`, and the run goes on.
    Any other callback that raises ends the run with status ``failed``, and the error is passed on.

    Attributes:
        kind: Place in the order: ``metric``, ``user``, ``display`` or ``checkpoint``.
        every_epoch: Whether ``on_epoch_begin`` and ``on_epoch_end`` need the parameters as they are
            at that very boundary. Chunks of steps then end with the epoch, at some cost for tiny
            data. A listener that reads only losses and counts sets it to ``False``.
        metrics: Names of per-step values that the trainer is asked to compute: ``grad_norm``.
        may_fail: Whether an error switches the listener off, as with displays, instead of ending
            the run.
    """

    kind: ClassVar[CallbackKind] = "user"
    every_epoch: bool = True
    may_fail: bool = False
    metrics: tuple[str, ...] = ()

    def on_fit_begin(self, run: Run) -> None:
        """Called once, before the first step."""

    def on_epoch_begin(self, run: Run, epoch: int) -> None:
        """Called before the first step of epoch ``epoch``, from 1."""

    def on_steps_end(self, run: Run, steps: Steps) -> None:
        """Called after each chunk of steps."""

    def on_step_end(self, run: Run, step: StepInfo) -> None:
        """Called once a step, after its chunk; for convenience, since it costs Python time."""

    def on_epoch_end(self, run: Run, epoch: int) -> None:
        """Called after the last step of epoch ``epoch``, from 1."""

    def on_validation_end(self, run: Run, loss_per_row: float) -> None:
        """Called after the held-out loss was evaluated, in nats per row."""

    def on_pause(self, run: Run) -> None:
        """Called when the run begins to wait, because somebody asked for a pause."""

    def on_resume(self, run: Run) -> None:
        """Called when the run goes on after a pause, or ends instead."""

    def on_checkpoint(self, run: Run) -> None:
        """Called when somebody asked for a checkpoint."""

    def on_exception(self, run: Run, exception: BaseException) -> None:
        """Called when the run ends by an exception, before ``on_fit_end``."""

    def on_fit_end(self, run: Run) -> None:
        """Called once at the end, always; ``run.status`` says how the run ended."""


def _overrides(callback: Callback, event: str) -> bool:
    return getattr(type(callback), event) is not getattr(Callback, event)


class Callbacks:
    """The listeners of one run, called in order.

    Args:
        callbacks: The listeners, in any order; among one kind their order is kept.
        run: The run that they listen to.

    Raises:
        TypeError: If one of them is not a :class:`Callback` instance.
    """

    def __init__(self, callbacks: Iterable[Callback], run: Run) -> None:
        listed = list(callbacks)
        for callback in listed:
            if not isinstance(callback, Callback):
                what = (
                    f"{callback!r}; did you forget to call it?"
                    if isinstance(callback, type)
                    else repr(callback)
                )
                msg = f"callbacks= takes instances of aimz_lab.Callback, not {what}"
                raise TypeError(msg)
        self._run = run
        self._active = sorted(listed, key=lambda callback: _ORDER.index(callback.kind))
        run.control.can_checkpoint = any(_overrides(c, "on_checkpoint") for c in self._active)

    def __len__(self) -> int:
        return len(self._active)

    @property
    def aligned_to_epochs(self) -> bool:
        """Whether chunks must end where an epoch ends."""
        return any(
            callback.every_epoch
            and (_overrides(callback, "on_epoch_begin") or _overrides(callback, "on_epoch_end"))
            for callback in self._active
        )

    @property
    def metrics(self) -> frozenset[str]:
        """Per-step values that somebody asked for."""
        return frozenset(name for callback in self._active for name in callback.metrics)

    def emit(self, event: str, *args: Any) -> None:
        """Call ``event`` on each listener that overrides it.

        Raises:
            Exception: What a listener that is not a display raised.
        """
        began = time.monotonic()
        for callback in [c for c in self._active if _overrides(c, event)]:
            self._call(callback, event, args)
        self._run.spend("callbacks", time.monotonic() - began)

    def conclude(self, event: str, *args: Any) -> list[Exception]:
        """Call ``event`` on each listener that overrides it, even after one has raised.

        Returns:
            What listeners that are not displays raised.
        """
        failures = []
        for callback in [c for c in self._active if _overrides(c, event)]:
            try:
                self._call(callback, event, args)
            except Exception as error:  # noqa: BLE001  the caller passes it on
                failures.append(error)
        return failures

    def steps_end(self, steps: Steps, epoch_ends: Sequence[int]) -> None:
        """Tell of a chunk: its steps, then each epoch that ended in it.

        Args:
            steps: The chunk, already recorded in the run.
            epoch_ends: The epochs that ended within the chunk, ascending.
        """
        self.emit("on_steps_end", steps)
        if any(_overrides(callback, "on_step_end") for callback in self._active):
            for step in steps:
                self.emit("on_step_end", step)
        for epoch in epoch_ends:
            self.emit("on_epoch_end", epoch)

    def hold_while_paused(self) -> float:
        """Block while a pause is asked for, and tell the listeners; for trainers, between chunks.

        Returns:
            Seconds that the run waited, which are no part of a chunk's :attr:`Steps.seconds`.
        """
        if not self._run.control.paused:
            return 0.0
        began = time.monotonic()
        before, self._run.status = self._run.status, "paused"
        self.emit("on_pause")
        try:
            self._run.control.wait_while_paused()
        finally:
            self._run.status = before
            self.emit("on_resume")
        return time.monotonic() - began

    def _call(self, callback: Callback, event: str, args: tuple[Any, ...]) -> None:
        try:
            getattr(callback, event)(self._run, *args)
        except Exception as error:
            if callback.kind != "display" and not callback.may_fail:
                raise
            self._active.remove(callback)
            self._run.disabled.append((callback, error))
            msg = (
                f"{type(callback).__name__} failed in {event} and was switched off; "
                f"the run goes on. {type(error).__name__}: {error}"
            )
            warnings.warn(msg, CallbackWarning, stacklevel=2)
