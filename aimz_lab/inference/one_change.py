"""Let one call at a time change a model."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from aimz_lab.errors import BusyError

_FROM_WITHIN = (
    "this call comes from within, as from a callback. Call it when that has ended; a callback "
    "steers by run.control, and reads run.params and run.state."
)
_FROM_OUTSIDE = (
    "wait for its end, by wait() of a fit's handle, also after stop(), which only asks for it. "
    "Predictions go on meanwhile."
)


class Change:
    """A call that changes a model, until its end.

    Args:
        owner: Lets one such call at a time.
        method: Name of the call.
    """

    def __init__(self, owner: OneChange, method: str) -> None:
        self._owner = owner
        self._method = method
        self._thread: threading.Thread | None = threading.current_thread()
        self.goes_on = False

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

    def refuses(self, method: str) -> BusyError:
        """Return the error of another call that comes before the end of this one."""
        within = threading.current_thread() is self._thread
        why = _FROM_WITHIN if within else _FROM_OUTSIDE
        return BusyError(
            f"{method} has to wait while {self._method} of this model is under way: {why}"
        )


class OneChange:
    """Lets one call at a time change a model; another one is refused at once.

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
    def begin(self, method: str) -> Iterator[Change]:
        """Keep other calls out, on all threads, until the block ends.

        Args:
            method: Name of the call, for the message of another one.

        Raises:
            BusyError: If another call is under way, on this thread or another one.
        """
        mine = Change(self, method)
        if self._lent_to == threading.get_ident():
            yield mine
            return
        try:
            # One atomic operation, so that threads and interrupts find it done or not done.
            before = self._changes.setdefault("now", mine)
            if before is not mine:
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

    def end(self, change: Change) -> None:
        """Let other calls in, if this is the call under way."""
        if self._changes.get("now") is change:
            del self._changes["now"]
