"""A run from beginning to end, whatever ends it: its plan, a stop, an interrupt, an error."""

from __future__ import annotations

from aimz_lab.inference.run.events import Callbacks, Run
from aimz_lab.inference.run.interrupts import INTERRUPTED, interrupt_stops
from aimz_lab.types import RunStatus


class RunLoop:
    """What every run has around its chunks; :meth:`_loop` is what is between.

    Args:
        run: What listeners read.
        callbacks: The listeners.
    """

    def __init__(self, run: Run, callbacks: Callbacks) -> None:
        self._run = run
        self._callbacks = callbacks

    def begin(self) -> None:
        """Start the clock and tell the listeners; :meth:`run_to_end` does it if nobody has.

        Raises:
            Exception: What a callback that is not a display raised.
        """
        self._run.begin()
        self._callbacks.emit("on_fit_begin")

    def run_to_end(self) -> None:
        """Run to the end, a stop, an interrupt or a failure.

        Afterwards ``run.status`` and ``run.reason`` say how it ended.

        Raises:
            KeyboardInterrupt: If the run was interrupted a second time before it had ended.
            Exception: What the kernel or a callback that is not a display raised.
        """
        run = self._run
        try:
            with interrupt_stops(run.control):
                if run.status == "pending":
                    self.begin()
                status, reason = self._loop()
        except KeyboardInterrupt:
            self._conclude("interrupted", self._interrupted)
            if self._was_interrupted:
                raise
            return
        except BaseException as error:
            self.fail(error)
            raise
        if status == "interrupted" and self._was_interrupted:
            reason = self._interrupted
        self._conclude(status, reason)

    def fail(self, error: BaseException) -> None:
        """End the run by an error, and tell the listeners."""
        self._run.exception = error
        self._run.finish("failed", f"{type(error).__name__}: {error}")
        more = self._callbacks.conclude("on_exception", error)
        more += self._callbacks.conclude("on_fit_end")
        for other in more:
            error.add_note(f"At the end of the run also: {type(other).__name__}: {other}")

    def _loop(self) -> tuple[RunStatus, str]:
        """Run the chunks; returns how and why they ended."""
        raise NotImplementedError

    @property
    def _interrupted(self) -> str:
        return f"interrupted after step {self._run.step:,}"

    @property
    def _was_interrupted(self) -> bool:
        """Whether an interrupt has been turned into a request already."""
        return self._run.control.stop_request == INTERRUPTED

    def _conclude(self, status: RunStatus, reason: str) -> None:
        self._run.finish(status, reason)
        for error in self._callbacks.conclude("on_fit_end"):
            raise error
