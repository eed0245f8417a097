"""Let one call at a time change a model."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aimz_lab.errors import BusyError
from aimz_lab.preparing import doing, preparing_line
from aimz_lab.system.forks import check_can_compute

_LONGEST_WAIT_S = 60.0
"""Seconds to wait for a call that was asked to stop; a step may take longer than that."""

_SLICE_S = 0.1
"""Waiting is cut into slices of this length in seconds, so that an interrupt gets through."""

_FROM_WITHIN = (
    "this call comes from within, as from a callback. Call it when that has ended; a callback "
    "steers by run.control, and reads run.params and run.state."
)
_FROM_OUTSIDE = (
    "wait for its end, by wait() of a fit's handle, or stop() it. Predictions go on meanwhile."
)
_NOT_STOPPED = (
    f"it was asked to stop, and has not ended within {_LONGEST_WAIT_S:.0f} s. Wait for its end, by "
    "wait() of a fit's handle."
)


class Change:
    """A call that changes a model, until its end.

    Args:
        owner: Lets one such call at a time.
        method: Name of the call.

    Attributes:
        goes_on: Whether it goes on after the end of the call.
        is_to_stop: Returns whether it was asked to stop; others then wait for its end.
        ended: Set at its end.
    """

    def __init__(self, owner: OneChange, method: str) -> None:
        self._owner = owner
        self._method = method
        self._thread: threading.Thread | None = threading.current_thread()
        self.goes_on = False
        self.is_to_stop: Callable[[], bool] = lambda: False
        self.ended = threading.Event()

    @contextmanager
    def in_background(self) -> Iterator[None]:
        """Go on after the end of the call, unless the block cannot start the thread."""
        self.goes_on, self._thread = True, None
        try:
            yield
        except Exception:
            self.goes_on = False
            raise

    @contextmanager
    def on_this_thread(self) -> Iterator[None]:
        """Carry on here; the end of the block is the end of a change that goes on."""
        self._thread = threading.current_thread()
        try:
            yield
        finally:
            if self.goes_on:
                self._owner.end(self)

    @property
    def _is_around(self) -> bool:
        """Whether who asks is called by it, as a callback is, and must not wait for its end."""
        return threading.current_thread() is self._thread

    def ends_soon(self, method: str, *, tells: bool) -> bool:
        """Wait for its end, if it was asked to stop.

        Args:
            method: Name of the call that waits.
            tells: Whether a line says that it waits.

        Returns:
            Whether it has ended; ``False`` at once if it was not asked to stop, or calls this.

        Raises:
            ForkedProcessError: In a forked process, where nothing ends it.
        """
        if self._is_around or not self.is_to_stop():
            return self.ended.is_set()
        check_can_compute(method)
        deadline = time.monotonic() + _LONGEST_WAIT_S
        with preparing_line(method, enabled=tells):
            doing(f"waiting for the end of {self._method}, which was asked to stop")
            while not self.ended.wait(_SLICE_S):
                if time.monotonic() > deadline:
                    return False
        return True

    def refuses(self, method: str) -> BusyError:
        """Return the error of another call that comes before the end of this one."""
        why = _NOT_STOPPED if self.is_to_stop() else _FROM_OUTSIDE
        why = _FROM_WITHIN if self._is_around else why
        return BusyError(
            f"{method} has to wait while {self._method} of this model is under way: {why}"
        )


class OneChange:
    """Lets one call at a time change a model; another one is refused at once.

    If the call under way was asked to stop, another one waits for its end instead, up to a minute.
    A copy or a pickle of it is free.

    Example:
        >>> one = OneChange()
        >>> with one.begin("fit"), one.begin("sample"):
        ...     pass
        Traceback (most recent call last):
        ...
        aimz_lab.errors.BusyError: sample has to wait while fit of this model is under way: ...
    """

    def __init__(self) -> None:
        self._changes: dict[str, Change] = {}
        self._lent_to: int | None = None

    def __reduce__(self) -> tuple[type[OneChange], tuple[()]]:
        return OneChange, ()

    @contextmanager
    def begin(self, method: str, *, tells: bool = True) -> Iterator[Change]:
        """Keep other calls out, on all threads, until the block ends.

        Args:
            method: Name of the call, for the message of another one.
            tells: Whether a line says that this one waits for a stop.

        Raises:
            BusyError: If another call is under way, on this thread or another one.
            ForkedProcessError: In a forked process, if it would wait.
        """
        mine = Change(self, method)
        if self._lent_to == threading.get_ident():
            yield mine
            return
        try:
            # One atomic operation, so that threads and interrupts find it done or not done.
            while (before := self._changes.setdefault("now", mine)) is not mine:
                if not before.ends_soon(method, tells=tells):
                    raise before.refuses(method)
            yield mine
        finally:
            if not mine.goes_on:
                self.end(mine)

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Let this thread make changes of its own within the present one."""
        self._lent_to = threading.get_ident()
        try:
            yield
        finally:
            self._lent_to = None

    def wait_for_stop(self, method: str) -> None:
        """Wait for the end of a call that was asked to stop, up to a minute.

        Args:
            method: Name of the call that waits.

        Raises:
            ForkedProcessError: In a forked process, if it would wait.
        """
        before = self._changes.get("now")
        if before is not None:
            before.ends_soon(method, tells=False)

    def end(self, change: Change) -> None:
        """Let other calls in, if this is the call under way."""
        if self._changes.get("now") is change:
            del self._changes["now"]
        change.ended.set()
