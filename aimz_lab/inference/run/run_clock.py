"""The clock of a run: its wall time by activity, and the time of its steps."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

from aimz_lab.system.compile_time import compiled_programs, compiled_s, waited_s


class _Reading(NamedTuple):
    """What the clock shows: one object, since other threads read it meanwhile."""

    trained_s: float
    at_s: float
    goes_on: bool


class _OfThread(NamedTuple):
    """What a thread did so far."""

    thread: int
    compiled_s: float
    waited_s: float
    programs: int


class RunClock:
    """Counts the wall time of a run by activity.

    The time of steps stands still while their thread compiles or waits for others. How much of an
    activity that was is known once it ends, so that the clock moves on at the end of each; only a
    wait for steps, which compiles nothing, counts while it lasts. It never goes back.

    Attributes:
        seconds_in: Wall time by activity, as :class:`~aimz_lab.inference.run.run.Run` lists them.
        first_step_at: Time at which the first step began; ``None`` before.

    Example:
        >>> clock = RunClock()
        >>> clock.begin()
        >>> clock.begin_steps()
        >>> with clock.spending("data"):
        ...     pass
        >>> clock.trained_s > 0.0, {"preparing", "data"} <= set(clock.seconds_in)
        (True, True)
    """

    def __init__(self) -> None:
        self.seconds_in: dict[str, float] = {}
        self.first_step_at: float | None = None
        self._began: float | None = None
        self._paused_at: float | None = None
        self._ended: float | None = None
        self._reading = _Reading(0.0, 0.0, goes_on=False)
        self._before: _OfThread | None = None  # None while no time counts as trained

    @property
    def trained_s(self) -> float:
        """Seconds of steps, with callbacks and held-out losses."""
        reading = self._reading
        return reading.trained_s + (time.monotonic() - reading.at_s if reading.goes_on else 0.0)

    @property
    def elapsed_s(self) -> float:
        """Seconds from the beginning to the end, or up to now."""
        if self._began is None:
            return 0.0
        return (self._ended or time.monotonic()) - self._began

    @property
    def paused_s(self) -> float:
        """Seconds of all pauses, including the present one."""
        now = 0.0 if self._paused_at is None else time.monotonic() - self._paused_at
        return self.seconds_in.get("paused", 0.0) + now

    @property
    def seconds_so_far(self) -> dict[str, float]:
        """:attr:`seconds_in` with the present wait for steps."""
        # In this order: on another thread the wait is left out for a moment, and never counted
        # twice.
        spent, reading = dict(self.seconds_in), self._reading
        if reading.goes_on:
            spent["steps"] = spent.get("steps", 0.0) + time.monotonic() - reading.at_s
        return spent

    @property
    def has_ended(self) -> bool:
        """Whether it was stopped for good."""
        return self._ended is not None

    def begin(self, called: float | None = None) -> None:
        """Start the clock.

        Args:
            called: Time at which the call began that trains, in seconds of the monotonic clock;
                ``None`` for now.
        """
        self._began = time.monotonic() if called is None else called

    def begin_steps(self) -> None:
        """End the preparation, as the first step begins."""
        began = time.monotonic()
        self.spend("preparing", began - self._began)
        self._go_on()
        self.first_step_at = began  # last: other threads read the clock

    def spend(self, activity: str, seconds: float) -> None:
        """Add ``seconds`` to an ``activity`` of :attr:`seconds_in`."""
        self.seconds_in[activity] = self.seconds_in.get(activity, 0.0) + seconds

    @contextlib.contextmanager
    def spending(self, activity: str) -> Iterator[None]:
        """Measure what is done in a ``with`` statement.

        Before the first step begins, all of it is preparation.

        Args:
            activity: One of :attr:`seconds_in`. Compilations count as ``compiling``, or as
                ``tracing`` if nothing was compiled; waiting for other threads that trace counts as
                ``waiting``.

        Returns:
            A context manager.
        """
        self.count(then_waits=activity == "steps")
        began = time.monotonic()
        try:
            yield
        finally:
            took, apart_s = time.monotonic() - began, self.count()
            if self.first_step_at is not None:
                self.spend(activity, max(took - apart_s, 0.0))

    def count(self, *, then_waits: bool = False) -> float:
        """Count the time since the last call, on the thread that trains.

        Args:
            then_waits: Whether a wait for steps begins here.

        Returns:
            Seconds of it that were no stepping. They are spent: as ``compiling``; ``tracing``, of
            a program that was there or was loaded; and ``waiting`` for other calls, of which one at
            a time traces its kernel.
        """
        before, now = self._before, time.monotonic()
        if before is None:
            return 0.0
        self._before = own = _of_thread()
        took, apart_s = now - self._reading.at_s, 0.0
        if own.thread == before.thread:  # what another one did before is not known
            traced = min(own.compiled_s - before.compiled_s, took)
            waited = min(own.waited_s - before.waited_s, took - traced)
            compiling = "compiling" if own.programs > before.programs else "tracing"
            for activity, seconds in ((compiling, traced), ("waiting", waited)):
                if seconds > 0:
                    self.spend(activity, seconds)
                    apart_s += seconds
        self._reading = _Reading(self._reading.trained_s + took - apart_s, now, then_waits)
        return apart_s

    def begin_pause(self) -> None:
        """Count the time as paused from here on."""
        self.count()
        self._before, self._paused_at = None, time.monotonic()

    def end_pause(self) -> None:
        """Count the time as before the pause again."""
        self.spend("paused", time.monotonic() - self._paused_at)
        self._paused_at = None
        if self.first_step_at is not None:
            self._go_on()

    def end(self) -> None:
        """Stop the clock for good."""
        self.count()
        self._before, self._ended = None, time.monotonic()

    def _go_on(self) -> None:
        self._before = _of_thread()
        self._reading = self._reading._replace(at_s=time.monotonic())


def _of_thread() -> _OfThread:
    return _OfThread(threading.get_ident(), compiled_s(), waited_s(), compiled_programs())
