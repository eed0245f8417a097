"""What a training run tells its listeners, and how they steer it.

Training is a stream of events. :class:`Run` is what a listener reads, :class:`Steps` is what a
chunk of compiled steps reported, :class:`Control` is how any thread asks the run for something, and
:class:`Callback` is the listener. The trainer applies requests between two chunks; nothing here
trains, and nothing here draws.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

from aimz_lab.errors import CallbackWarning, InferenceError
from aimz_lab.inference.run.control import Control
from aimz_lab.inference.run.run import Run, RunInfo
from aimz_lab.inference.run.steps import StepInfo, Steps

__all__ = ["Callback", "Callbacks", "Control", "Run", "RunInfo", "StepInfo", "Steps"]

CallbackKind = Literal["metric", "user", "display", "checkpoint"]
_ORDER: tuple[CallbackKind, ...] = ("metric", "user", "display", "checkpoint")


class Callback:
    """Base of the listeners; override what is of interest. Each event is called with the run.

    Within one event, metrics are called first, then user callbacks, displays, and checkpoints. At
    the end of a run displays come last, and so show what the others did.
    A ``display`` that raises is switched off and named in :attr:`Run.disabled`; the run goes on.
    Any other callback that raises ends the run with status ``failed``, and the error is passed on.

    Attributes:
        kind: Place in the order: ``metric``, ``user``, ``display`` or ``checkpoint``.
        every_epoch: Whether ``on_epoch_begin`` and ``on_epoch_end`` need the parameters as they are
            at that very boundary. Chunks of steps then end with the epoch, at some cost for tiny
            data. A listener that reads only losses and counts sets it to ``False``.
        metrics: Names of per-step values that the trainer is asked to compute: ``grad_norm``.
        needs_loss: Whether it is of use only where a loss is minimised; a run of Markov chains
            refuses it.
        may_fail: Whether an error switches the listener off, as with displays, instead of ending
            the run.

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
    metrics: tuple[str, ...] = ()

    def on_fit_begin(self, run: Run) -> None:
        """Called once, before the first step."""

    def on_epoch_begin(self, run: Run, epoch: int) -> None:
        """Called before the first step of epoch ``epoch``, from 1."""

    def on_steps_end(self, run: Run, steps: Steps) -> None:
        """Called after ``steps``: of one compiled call, or of all calls of a tenth of a second."""

    def on_step_end(self, run: Run, step: StepInfo) -> None:
        """Called for each ``step``, after its chunk; for convenience, at some cost in Python."""

    def on_epoch_end(self, run: Run, epoch: int) -> None:
        """Called after the last step of epoch ``epoch``, from 1."""

    def on_validation_end(self, run: Run, loss_per_row: float) -> None:
        """Called after the held-out loss was evaluated: ``loss_per_row``, in nats."""

    def on_pause(self, run: Run) -> None:
        """Called when the run begins to wait, because somebody asked for a pause."""

    def on_resume(self, run: Run) -> None:
        """Called when the run goes on after a pause, or ends instead."""

    def on_checkpoint(self, run: Run) -> None:
        """Called when somebody asked for a checkpoint."""

    def on_exception(self, run: Run, exception: BaseException) -> None:
        """Called when the run ends by an ``exception``, before ``on_fit_end``."""

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
        InferenceError: If one needs a loss that is minimised, and the run is of Markov chains.
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
            if callback.needs_loss and run.info.is_sampling:
                msg = (
                    f"{type(callback).__name__} follows parameters while a loss is minimised, and "
                    "MCMC draws from the posterior instead; leave it out. Chains are judged by "
                    "R-hat and ESS."
                )
                raise InferenceError(msg)
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
        """Call ``event`` on each listener that overrides it, displays last, even after one raised.

        Returns:
            What listeners that are not displays raised.
        """
        failures = []
        ordered = sorted(self._active, key=lambda callback: callback.kind == "display")
        for callback in [c for c in ordered if _overrides(c, event)]:
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
