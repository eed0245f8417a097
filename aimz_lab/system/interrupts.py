"""Hold Ctrl-C back while something must not be left half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import ParamSpec

from aimz_lab.dropped_interrupts import interrupt_soon

P = ParamSpec("P")
Handler = Callable[[int, FrameType | None], object]


@contextmanager
def hold_interrupts() -> Iterator[None]:
    """Hold Ctrl-C back until the block has ended; then it takes effect.

    Only the main thread receives signals, so other threads are left alone. So is a program
    that ignores Ctrl-C, or leaves it to the operating system.

    Example:
        >>> with hold_interrupts():
        ...     pass  # whole, or not begun
    """
    held: list[FrameType | None] = []
    try:
        with _recorded(held) as before:
            yield
    finally:  # also if the block raises, such as for a module that is not there
        if held:
            before(signal.SIGINT, held[-1])


def python_s_own_handler() -> Handler | None:
    """Return the handler of this thread's interrupts, if it is Python's or a notebook kernel's.

    Returns:
        The handler; ``None`` for a program's own one, and on threads without signals.
    """
    handler = _handler()
    of_kernel = getattr(handler, "__module__", None) == "ipykernel.ipkernel"
    return handler if handler is signal.default_int_handler or of_kernel else None


def _handler() -> Handler | None:
    """The function that handles this thread's interrupts: only the main thread has any."""
    if threading.current_thread() is not threading.main_thread():
        return None
    handler = signal.getsignal(signal.SIGINT)
    return handler if callable(handler) else None


def in_finalizer(action: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
    """Call a function from a finalizer, where Python prints a ``KeyboardInterrupt`` and drops it.

    A Ctrl-C meanwhile takes effect in the code that goes on after the finalizer.

    Args:
        action: The function.
        args: Its arguments.
        kwargs: Likewise.
    """
    held: list[FrameType | None] = []
    ended = threading.Event()
    try:
        with _recorded(held):
            action(*args, **kwargs)
    except KeyboardInterrupt:  # in the moment before it was held back, or just after
        held.append(None)
        action(*args, **kwargs)
    finally:
        if held:
            threading.Thread(target=_interrupt_after, args=(ended,), daemon=True).start()
        ended.set()


def _interrupt_after(ended: threading.Event) -> None:
    ended.wait()
    interrupt_soon()


@contextmanager
def _recorded(held: list[FrameType | None]) -> Iterator[Handler | None]:
    """Append interrupts to a list; yield the handler that they would have reached."""
    before = _handler()
    if before is None:
        yield None
        return
    signal.signal(signal.SIGINT, lambda signum, frame: held.append(frame))  # noqa: ARG005
    try:
        yield before
    finally:
        signal.signal(signal.SIGINT, before)
