"""Events of a run, and the callbacks that receive them.

A :class:`Callback` receives the events of a run. It reads the :class:`Run`, gets new
:class:`Steps`, and steers the run by requests to its :class:`Control`, which the run handles
between two chunks.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

from aimz_lab.data.options import check_names
from aimz_lab.errors import CallbackWarning, CallError, InferenceError
from aimz_lab.inference.run.control import Control
from aimz_lab.inference.run.records import RunInfo
from aimz_lab.inference.run.run import Run
from aimz_lab.inference.run.steps import StepInfo, Steps
from aimz_lab.tracebacks import warn
from aimz_lab.types import shown

__all__ = ["Callback", "Callbacks", "Control", "Run", "RunInfo", "StepInfo", "Steps"]

CallbackKind = Literal["metric", "user", "display", "checkpoint"]
METRICS = ("grad_norm",)
"""Values of each step that a trainer can compute beside the loss."""
_ORDER: tuple[CallbackKind, ...] = ("metric", "user", "display", "checkpoint")


class Callback:
    """Base class of callbacks; override the events of interest.

    Within one event, metrics are called first, then user callbacks, displays, and checkpoints. At
    the end of a run displays come last, so that they show the effects of the others.
    A ``display`` that raises is switched off and listed in :attr:`Run.disabled`; the run goes on.
    Any other callback that raises ends the run with status ``failed``, and its error is raised.

    Attributes:
        kind: Place in the order: ``metric``, ``user``, ``display`` or ``checkpoint``.
        every_epoch: Whether ``on_epoch_begin`` and ``on_epoch_end`` need the parameters at that
            very boundary. Chunks of steps then end with the epoch, at some cost for tiny data. Set
            it to ``False`` in a callback that reads only losses and counts.
        metrics: Names of per-step values for the trainer to compute: ``grad_norm``.
        needs_loss: Whether it needs a loss that is minimised; a run of Markov chains refuses it.
        may_fail: Whether an error only switches the callback off, as with displays.
        writes: Whether it writes or shows something. If several processes train together, only the
            first one calls it, as it does displays and checkpoints.

    Example:
        >>> class Longest(Callback):
        ...     seconds = 0.0
        ...
        ...     def on_steps_end(self, run, steps):
        ...         self.seconds = max(self.seconds, steps.seconds)
        >>> longest = Longest()
        >>> _ = im.fit(X, y, epochs=5, progress=False, callbacks=[longest])
        >>> longest.seconds > 0
        True
    """

    kind: ClassVar[CallbackKind] = "user"
    every_epoch: bool = True
    needs_loss: ClassVar[bool] = False
    may_fail: bool = False
    writes: ClassVar[bool] = False
    metrics: tuple[str, ...] = ()

    def on_fit_begin(self, run: Run) -> None:
        """Called once, before the first step."""

    def on_epoch_begin(self, run: Run, epoch: int) -> None:
        """Called before the first step of epoch ``epoch``, from 1."""

    def on_steps_end(self, run: Run, steps: Steps) -> None:
        """Called after ``steps``: those of one chunk, or of all chunks of a tenth of a second."""

    def on_step_end(self, run: Run, step: StepInfo) -> None:
        """Called for each ``step``, after its chunk; for convenience, at some cost in Python."""

    def on_epoch_end(self, run: Run, epoch: int) -> None:
        """Called after the last step of epoch ``epoch``, from 1."""

    def on_validation_end(self, run: Run, loss_per_row: float) -> None:
        """Called after the held-out loss was evaluated: ``loss_per_row``, in nats."""

    def on_pause(self, run: Run) -> None:
        """Called when the run begins to wait because of a pause."""

    def on_resume(self, run: Run) -> None:
        """Called when the run goes on after a pause, or ends instead."""

    def on_checkpoint(self, run: Run) -> None:
        """Called when a checkpoint is requested."""

    def on_exception(self, run: Run, exception: BaseException) -> None:
        """Called when an ``exception`` ends the run, before ``on_fit_end``."""

    def on_fit_end(self, run: Run) -> None:
        """Always called, once, at the end; ``run.status`` says how the run ended.

        The only exception: callbacks whose :meth:`on_fit_begin` was not reached, because that of an
        earlier callback raised an error.
        """

    def on_model_fitted(self, run: Run, model: Any, data: Any) -> None:
        """Called after ``on_fit_end``, when ``model``, the ``ImpactModel``, can predict.

        ``data`` is what it was trained on: its ``rows``, ``shared`` and ``static`` are the kernel's
        arguments by name. Not called if the run failed.
        """


def _writes(callback: Callback) -> bool:
    return callback.writes or callback.kind in ("display", "checkpoint")


def _overrides(callback: Callback, event: str) -> bool:
    return getattr(type(callback), event) is not getattr(Callback, event)


def check_callbacks(callbacks: Iterable[Callback]) -> list[Callback]:
    """Return the callbacks of a call as a list.

    Raises:
        CallError: If this is no iterable of :class:`Callback` instances, or one has attributes
            that no callback has.
        ArgumentError: If the metrics of one are no names.
    """
    if isinstance(callbacks, Callback):
        msg = f"callbacks= takes a list of callbacks: callbacks=[{type(callbacks).__name__}(...)]."
        raise CallError(msg)
    try:
        each = iter(callbacks)
    except TypeError:
        msg = f"callbacks={shown(callbacks)} is not allowed; use a list of aimz_lab.Callback."
        raise CallError(msg) from None
    listed = list(each)
    for callback in listed:
        if not isinstance(callback, Callback):
            hint = "; did you forget to call it?" if isinstance(callback, type) else "."
            msg = f"callbacks= takes instances of aimz_lab.Callback, not {shown(callback)}{hint}"
            raise CallError(msg)
        _check_attributes(callback)
    return listed


def _check_attributes(callback: Callback) -> None:
    """Check what a callback of the user's says of itself."""
    name = type(callback).__name__
    if callback.kind not in _ORDER:
        listed = ", ".join(map(repr, _ORDER))
        msg = f"The callback {name} is of the kind {shown(callback.kind)}; use one of {listed}."
        raise CallError(msg)
    for metric in check_names(f"The callback {name}: metrics", callback.metrics):
        if metric not in METRICS:
            listed = ", ".join(map(repr, METRICS))
            msg = f"The callback {name} asks for the metric {metric!r}; there are {listed}."
            raise CallError(msg)
    for event in (event for event in vars(Callback) if event.startswith("on_")):
        if not callable(getattr(callback, event)):
            msg = f"The callback {name} has {event}={shown(getattr(callback, event))}, no method."
            raise CallError(msg)


def _in_order(callbacks: Iterable[Callback]) -> list[Callback]:
    return sorted(callbacks, key=lambda callback: _ORDER.index(callback.kind))


class Callbacks:
    """The callbacks of one run, called in order.

    Args:
        callbacks: The callbacks, in any order; within one kind their order is kept.
        run: The run that they receive.
        leads: Whether this process is the first, or the only one, of those that train together.

    Attributes:
        unreached: Callbacks that are not told of the run, as an earlier one refused it.

    Raises:
        CallError: If this is no list of :class:`Callback` instances.
        InferenceError: If one needs a loss that is minimised, and the run has Markov chains.
    """

    def __init__(self, callbacks: Iterable[Callback], run: Run, *, leads: bool = True) -> None:
        listed = check_callbacks(callbacks)
        for callback in listed:
            if callback.needs_loss and run.info.is_sampling:
                msg = (
                    f"{type(callback).__name__} follows parameters while a loss is minimised, and "
                    "MCMC draws from the posterior instead; leave it out. Chains are judged by "
                    "R-hat and ESS."
                )
                raise InferenceError(msg)
        self._run = run
        self._active = _in_order(listed)
        self._lock = threading.Lock()
        self._joining: list[Callback] = []
        self.unreached: list[Callback] = []
        self._is_over = False
        run.control.can_checkpoint = any(_overrides(c, "on_checkpoint") for c in self._active)
        # What the steps compute, and where they are cut, is the same in all processes.
        self._aligned_to_epochs = self._needs_epochs()
        self._metrics = frozenset(name for callback in self._active for name in callback.metrics)
        if not leads:
            self._active = [one for one in self._active if not _writes(one)]

    def __len__(self) -> int:
        return len(self._active)

    @property
    def active(self) -> tuple[Callback, ...]:
        """The callbacks that have not been switched off, and the displays that join next."""
        with self._lock:
            return (*self._active, *self._joining)

    def join(self, display: Callback) -> bool:
        """Let a display follow a run that has begun; from any thread.

        Its ``on_fit_begin`` is called after the next event, on the thread of the run.

        Args:
            display: A callback of the kind ``display``.

        Returns:
            Whether an event will come; ``False`` once the run has ended.
        """
        with self._lock:
            if not self._is_over:
                self._joining.append(display)
            return not self._is_over

    def _let_join(self, *, is_last: bool = False) -> None:
        with self._lock:
            joining, self._joining = self._joining, []
            self._is_over = self._is_over or is_last
        for display in joining:
            self._active = _in_order([*self._active, display])
            self._call(display, "on_fit_begin", ())

    @property
    def aligned_to_epochs(self) -> bool:
        """Whether a chunk must end with each epoch."""
        return self._aligned_to_epochs

    def _needs_epochs(self) -> bool:
        return any(
            callback.every_epoch
            and (_overrides(callback, "on_epoch_begin") or _overrides(callback, "on_epoch_end"))
            for callback in self._active
        )

    @property
    def metrics(self) -> frozenset[str]:
        """Names of the per-step values that callbacks need."""
        return self._metrics

    def emit(self, event: str, *args: object) -> None:
        """Call ``event`` on each callback that overrides it.

        Raises:
            Exception: An error of a callback that is not a display.
        """
        with self._run.clock.spending("callbacks"):
            for callback in [c for c in self._active if _overrides(c, event)]:
                try:
                    self._call(callback, event, args)
                except BaseException:
                    if event == "on_fit_begin":
                        # Callbacks that never saw the beginning need no end, and could not handle
                        # it.
                        reached = self._active.index(callback) + 1
                        self._active, self.unreached = (
                            self._active[:reached],
                            self._active[reached:],
                        )
                    raise
            if self._joining:  # after the event: the record already has what it tells
                self._let_join()

    def conclude(self, event: str, *args: object) -> list[Exception]:
        """Call ``event`` on each callback that overrides it, displays last, even after one raised.

        Returns:
            Errors of callbacks that are not displays.
        """
        failures = []
        self._let_join(is_last=event == "on_fit_end")
        ordered = sorted(self._active, key=lambda callback: callback.kind == "display")
        for callback in [c for c in ordered if _overrides(c, event)]:
            try:
                self._call(callback, event, args)
            except Exception as error:  # noqa: BLE001  the caller raises it
                failures.append(error)
        return failures

    def steps_end(self, steps: Steps, epoch_ends: Sequence[int]) -> None:
        """Emit the events of a report: first of its steps, then of each epoch they end.

        Args:
            steps: The steps, already recorded in the run; no steps, no event.
            epoch_ends: The epochs that ended with the steps, ascending.
        """
        if len(steps):
            self.emit("on_steps_end", steps)
        if any(_overrides(callback, "on_step_end") for callback in self._active):
            for step in steps:
                self.emit("on_step_end", step)
        for epoch in epoch_ends:
            self.emit("on_epoch_end", epoch)

    def _call(self, callback: Callback, event: str, args: tuple[object, ...]) -> None:
        try:
            _checked_call(callback, event, (self._run, *args))
        except Exception as error:
            if callback.kind != "display" and not callback.may_fail:
                raise
            self._active.remove(callback)
            self._run.disabled.append((callback, error))
            msg = (
                f"{type(callback).__name__} failed in {event} and was switched off; "
                f"the run goes on. {type(error).__name__}: {error}"
            )
            warn(msg, CallbackWarning)


def _checked_call(callback: Callback, event: str, args: tuple[object, ...]) -> None:
    """Call a callback; one whose method takes other arguments is refused by a sentence."""
    try:
        getattr(callback, event)(*args)
    except TypeError as error:
        if error.__traceback__.tb_next is not None:
            raise
        method = f"{type(callback).__name__}.{event}"
        expected = ", ".join(inspect.signature(getattr(Callback, event)).parameters)
        msg = f"{method} does not take what it is called with; define it as {event}({expected})."
        raise CallError(msg) from None
