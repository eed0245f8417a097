"""One thread that answers the latest question; changes that come meanwhile wait as one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

GATHERED_S = 0.06
"""Seconds in which changes are gathered into one question."""

_IDLE_S = 1.0


class Worker:
    """Answers questions on a thread of its own, in order, the latest alone.

    The thread ends when there is nothing to do, and begins with the next question.

    Args:
        answer: Takes the number of a question, and the time when its first change was made.
        rest: Called after a second without a question.
    """

    def __init__(self, answer: Callable[[int, float], None], rest: Callable[[], None]) -> None:
        self._answer, self._rest = answer, rest
        self._condition = threading.Condition()
        self._asked = self._answered = 0
        self._asked_at: float | None = None
        self._is_urgent = False
        self._thread: threading.Thread | None = None
        self.is_closed = False

    @property
    def is_here(self) -> bool:
        """Whether who asks is its thread."""
        return threading.current_thread() is self._thread

    def ask(self) -> None:
        """Ask anew; returns at once."""
        with self._condition:
            if self.is_closed:
                return
            self._asked += 1
            self._asked_at = self._asked_at or time.monotonic()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="aimz-lab-explorer", daemon=True
                )
                self._thread.start()
            self._condition.notify_all()

    def wait(self) -> None:
        """Wait until the latest question is answered, without gathering further changes."""
        with self._condition:
            asked = self._asked
            self._is_urgent = self._answered < asked
            self._condition.notify_all()
            while self._answered < asked and not self.is_closed:
                self._condition.wait(1.0)

    def close(self) -> None:
        """Answer nothing more."""
        with self._condition:
            self.is_closed = True
            self._condition.notify_all()

    def _work(self) -> None:
        while (question := self._next()) is not None:
            number, asked_at = question
            try:
                self._answer(number, asked_at)
            finally:
                with self._condition:
                    self._answered = number
                    self._condition.notify_all()

    def _next(self) -> tuple[int, float] | None:
        """Wait for changes and gather them; ``None`` once there have been none for a while."""
        has_rested = False
        while True:
            with self._condition:
                if self._answered == self._asked and not self.is_closed and not has_rested:
                    self._condition.wait(_IDLE_S)
                if self._answered < self._asked and not self.is_closed:
                    return self._gather()
                if has_rested or self.is_closed:
                    self._thread = None
                    return None
            self._rest()
            has_rested = True

    def _gather(self) -> tuple[int, float]:
        """Return the number of the latest question, and the time of its first change."""
        asked_at = self._asked_at or time.monotonic()
        due = asked_at + GATHERED_S
        while not self._is_urgent and (left := due - time.monotonic()) > 0:
            self._condition.wait(left)
        self._asked_at, self._is_urgent = None, False
        return self._asked, asked_at
