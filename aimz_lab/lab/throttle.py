"""Limit the work of a display to a small share of the wall time."""

from __future__ import annotations

import math


class Throttle:
    """Allows work at most every ``interval_s`` seconds and for a share of the wall time.

    The cost is averaged over the last few times, so that one slow picture does not delay the next
    ones for long. The first time imports and compiles; so does, once, what has something to show
    only later, such as convergence after the warm-up. These costs count for ``spent_s`` alone.

    Args:
        interval_s: Least seconds between two times.
        share: Largest share of wall time that the work may take.

    Attributes:
        spent_s: Seconds that the work took so far.
    """

    _MEMORY = 0.7
    _COLD = 10.0  # times the usual cost

    def __init__(self, interval_s: float, share: float) -> None:
        self.interval_s = interval_s
        self.share = share
        self.spent_s = 0.0
        self._cost_s: float | None = None
        self._is_warm = self._was_cold_again = False
        self._next = -math.inf

    @property
    def wait_s(self) -> float:
        """Seconds from one time to the next, by the present cost."""
        return max(self.interval_s, (self._cost_s or 0.0) / self.share)

    def ready(self, now: float) -> bool:
        """Whether the work may be done at ``now``, in seconds of a monotonic clock."""
        return now >= self._next

    def spent(self, now: float, seconds: float) -> None:
        """Note that the work was done just before ``now`` and took ``seconds``."""
        self.spent_s += seconds
        if not self._is_warm:
            self._is_warm = True
            self._next = now + self.interval_s
            return
        before = seconds if self._cost_s is None else self._cost_s
        if seconds > self._COLD * before and not self._was_cold_again:
            self._was_cold_again, seconds = True, before
        self._cost_s = self._MEMORY * before + (1 - self._MEMORY) * seconds
        self._next = now + self.wait_s
