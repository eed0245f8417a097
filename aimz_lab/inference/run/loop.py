"""The lifecycle of a run: start, requests, reports, and every way to end.

SVI, Markov chains and hand-written loops share it. Each supplies its own way to report pending
steps, to change the learning rate, and to describe its position.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from aimz_lab.inference.run.constant_loss import note_of_end
from aimz_lab.inference.run.control import INTERRUPTED, Control, StopRequest, interrupt_stops
from aimz_lab.inference.run.events import Callbacks
from aimz_lab.inference.run.getting_ready import take_back
from aimz_lab.inference.run.live_runs import LiveRun, enter
from aimz_lab.inference.run.run import Run
from aimz_lab.inference.run.steps import Steps
from aimz_lab.preparing import current
from aimz_lab.types import RunStatus

CHUNK_S = 0.05
"""Aimed length of a chunk in seconds: short enough to feel live, long enough to cost nothing."""


class Lifecycle:
    """A run and its callbacks, for a loop that some other code drives.

    The driver calls :meth:`begin`, then :meth:`report` and :meth:`handle_requests` after each
    chunk, then :meth:`finish` or :meth:`fail`.

    Args:
        run: The record that callbacks read.
        callbacks: The callbacks of the run.

    Attributes:
        run: The record that callbacks read.
        callbacks: The callbacks of the run.
        preparation: Tells displays what is done before the first report.
        lap_began: Time at which the steps after the last :meth:`lap` began, in seconds.
    """

    def __init__(self, run: Run, callbacks: Callbacks) -> None:
        self.run = run
        self.callbacks = callbacks
        self.preparation = current()
        self._called = self.preparation.began
        self.lap_began = 0.0
        self._apart_s = 0.0  # at the last lap
        self._live: LiveRun | None = None

    def flush(self) -> None:
        """Report pending steps; here there are none."""

    def set_learning_rate(self, rate: float) -> str:
        """Train with ``rate`` from the next step on, if the control allows another rate.

        Returns:
            Why the rate stays as it is, as a sentence; empty if it is set.
        """
        raise NotImplementedError

    @property
    def control(self) -> Control:
        """The requests to handle."""
        return self.run.control

    @property
    def where(self) -> str:
        """The position of the run, as a phrase for its reason."""
        return f"after step {self.run.step:,}"

    def begin(self) -> None:
        """Start the clock, at the beginning of the call, and call ``on_fit_begin``.

        Raises:
            Exception: An error of a callback that is not a display.
        """
        self.lap_began = time.monotonic()
        self.run.begin(self._called)
        self._live = enter(self.run, self.callbacks)
        self.callbacks.emit("on_fit_begin")

    def begin_steps(self) -> None:
        """End the preparation: what comes now is the first step."""
        self.run.clock.begin_steps()
        self.preparation.stage = "running"
        self.lap(time.monotonic())

    def lap(self, now: float) -> float:
        """Return the seconds since the last lap; begin another.

        Pauses, compilations and waiting for other calls do not count.
        """
        self.run.clock.count()
        before, self._apart_s = self._apart_s, self.run.compiling_s + self.run.waited_s
        seconds, self.lap_began = now - self.lap_began, now
        return max(seconds - (self._apart_s - before), 0.0)

    def report(self, steps: Steps, epoch_ends: Sequence[int] = ()) -> None:
        """Record ``steps`` and call the callbacks.

        Args:
            steps: The steps since the last report; there may be none.
            epoch_ends: Epochs that ended with them, ascending.
        """
        if len(steps):
            self.preparation.end()
            self.run.record(steps)
        self.callbacks.steps_end(steps, epoch_ends)

    def handle_requests(self, *, is_last: bool = False) -> StopRequest | None:
        """Between two chunks: checkpoint, pause, and change the learning rate as requested.

        Args:
            is_last: Whether no step follows. A requested rate then stays pending; a checkpoint
                keeps it for a resumed run.

        Returns:
            Reason and status of a requested stop, or ``None``.
        """
        control = self.control
        if not control.has_requests:
            return None
        self.flush()
        self.handle_checkpoint()
        if control.paused:
            self._hold_while_paused()
            self.handle_checkpoint()
        if control.stop_request is None and not is_last:
            self.handle_learning_rate()
        return control.stop_request

    def handle_checkpoint(self) -> None:
        """Call the checkpoint callbacks if a checkpoint is requested."""
        if self.control.take_checkpoint():
            self.callbacks.emit("on_checkpoint")

    def handle_learning_rate(self) -> None:
        """Apply a requested learning rate, after a report of the steps with the old rate."""
        rate = self.control.take_learning_rate()
        if rate is not None:
            self.flush()
            if why_not := self.set_learning_rate(rate):
                self.run.notes.append(why_not)
            else:
                self.run.rate_changed(rate)

    def _hold_while_paused(self) -> None:
        """Block until the pause is over; the time counts neither for steps nor for callbacks."""
        run, began, before = self.run, time.monotonic(), self.run.status
        run.begin_pause()
        self.callbacks.emit("on_pause")
        try:
            self.wait_while_paused()
        finally:
            run.end_pause(before)
            self.callbacks.emit("on_resume")
        self.lap_began += time.monotonic() - began

    def wait_while_paused(self) -> None:
        """Block until the pause is over."""
        self.run.control.wait_while_paused()

    def finish(self, status: RunStatus, reason: str) -> None:
        """End the run, unless it has ended: report pending steps, then call ``on_fit_end``.

        Args:
            status: How it ended.
            reason: Why, as a phrase.

        Raises:
            Exception: An error of a callback that is not a display, once all were called.
        """
        if self.run.finished:
            return
        try:
            self.flush()
            self.handle_checkpoint()
        except BaseException as error:
            self._end_by(error)
            raise
        self._conclude(status, reason)

    def fail(self, error: BaseException) -> None:
        """End the run by an error or an interrupt, unless it has ended.

        Further errors of callbacks become notes of ``error``.

        Args:
            error: The error; a ``KeyboardInterrupt`` leaves the run ``interrupted``.

        Raises:
            BaseException: A later error, if the pending steps cannot be reported.
        """
        if self.run.finished:
            return
        try:
            self.flush()
        except BaseException as later:
            self._end_by(later)
            raise
        self._end_by(error)

    def _end_by(self, error: BaseException) -> None:
        if isinstance(error, KeyboardInterrupt):
            self._conclude("interrupted", f"interrupted {self.where}")
            return
        self.run.exception = error
        self._close("failed", f"{type(error).__name__}: {error}")
        others = self.callbacks.conclude("on_exception", error)
        others += self.callbacks.conclude("on_fit_end")
        _add_notes(error, others)

    def _conclude(self, status: RunStatus, reason: str) -> None:
        self._close(status, reason)
        errors = self.callbacks.conclude("on_fit_end")
        if errors:
            _add_notes(errors[0], errors[1:])
            raise errors[0]

    def _close(self, status: RunStatus, reason: str) -> None:
        """Stop the clock; the last change of the record before callbacks see the end."""
        self.preparation.end()
        take_back(self.callbacks.unreached)
        ended_well = status in ("completed", "stopped", "early_stopped")
        if ended_well and (note := note_of_end(self.run)):
            self.run.notes.append(note)
        self.run.finish(status, reason)


def _add_notes(error: BaseException, others: Sequence[Exception]) -> None:
    for other in others:
        error.add_note(f"At the end of the run also: {type(other).__name__}: {other}")


class RunLoop(Lifecycle):
    """A run that drives its own chunks; subclasses supply :meth:`chunks`.

    Args:
        run: The record that callbacks read.
        callbacks: The callbacks of the run.
    """

    def __init__(self, run: Run, callbacks: Callbacks) -> None:
        super().__init__(run, callbacks)
        run.call = self.preparation.number

    def chunks(self) -> StopRequest:
        """Run the chunks; return the reason and status of the end."""
        raise NotImplementedError

    def run_to_end(self) -> None:
        """Run to the end, a stop, an interrupt or a failure.

        Afterwards ``run.status`` and ``run.reason`` say how it ended.

        Raises:
            KeyboardInterrupt: If the run was interrupted a second time before it had ended.
            Exception: An error of the kernel, or of a callback that is not a display.
        """
        control = self.run.control
        try:
            with interrupt_stops(control), self.preparation.as_current():
                if self.run.status == "pending":
                    self.begin()
                reason, status = self.chunks()
        except KeyboardInterrupt as error:
            self.fail(error)
            if control.stop_request == INTERRUPTED:
                raise
            return
        except BaseException as error:
            self.fail(error)
            raise
        if status == "interrupted" and control.stop_request == INTERRUPTED:
            reason = f"interrupted {self.where}"
        self.finish(status, reason)
