"""The clock of a run's steps, which stands still while their thread compiles."""

from __future__ import annotations

import threading
import time
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


class StepClock:
    """Counts the time of steps, and apart from it what their thread compiles and waits for others.

    How much of an activity was compiling is known once it ends. So the clock moves on at the end of
    each; only a wait for steps, which compiles nothing, counts while it lasts. It never goes back.

    Example:
        >>> clock = StepClock()
        >>> clock.start()
        >>> apart = clock.count()
        >>> clock.trained_s > 0.0, set(apart) <= {"compiling", "tracing", "waiting"}
        (True, True)
    """

    def __init__(self) -> None:
        self._reading = _Reading(0.0, 0.0, goes_on=False)
        self._before: _OfThread | None = None  # None while the clock is stopped

    @property
    def trained_s(self) -> float:
        """Seconds of steps, with callbacks and held-out losses."""
        reading = self._reading
        return reading.trained_s + (time.monotonic() - reading.at_s if reading.goes_on else 0.0)

    @property
    def waits_since(self) -> float | None:
        """Time at which the present wait for steps began; ``None`` without one."""
        reading = self._reading
        return reading.at_s if reading.goes_on else None

    def start(self) -> None:
        """Go on from here."""
        self._before = _of_thread()
        self._reading = self._reading._replace(at_s=time.monotonic())

    def stop(self) -> None:
        """Stand still from the last :meth:`count` on."""
        self._before = None

    def count(self, *, then_waits: bool = False) -> dict[str, float]:
        """Count the time since the last call.

        Args:
            then_waits: Whether a wait for steps begins here.

        Returns:
            Seconds of it that were no stepping, by their activity: ``compiling``; ``tracing``, of
            a program that was there or was loaded; and ``waiting`` for other calls, of which one at
            a time traces its kernel.
        """
        before, now = self._before, time.monotonic()
        if before is None:
            return {}
        self._before = own = _of_thread()
        took, apart = now - self._reading.at_s, {}
        if own.thread == before.thread:  # what another one did before is not known
            traced = min(own.compiled_s - before.compiled_s, took)
            waited = min(own.waited_s - before.waited_s, took - traced)
            compiling = "compiling" if own.programs > before.programs else "tracing"
            found = {compiling: traced, "waiting": waited}
            apart = {activity: seconds for activity, seconds in found.items() if seconds > 0}
        trained_s = self._reading.trained_s + took - sum(apart.values())
        self._reading = _Reading(trained_s, now, then_waits)
        return apart


def _of_thread() -> _OfThread:
    return _OfThread(threading.get_ident(), compiled_s(), waited_s(), compiled_programs())
