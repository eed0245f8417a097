"""Hold Ctrl-C back while something must not be left half done."""

from __future__ import annotations

import _thread
import gc
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import ParamSpec

P = ParamSpec("P")
Handler = Callable[[int, FrameType | None], object]

_FINALIZER_S = 0.005
"""How long a finalizer takes to return to the code that it broke into, and far more."""


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
    with _recorded(held) as before:
        yield
    if held:
        before(signal.SIGINT, held[-1])


@contextmanager
def noticed_interrupts() -> Iterator[Callable[[], None]]:
    """Notice every Ctrl-C, also one that Python drops as it comes in a finalizer.

    One in a callback of the garbage collector, which Python would print and drop, takes effect in
    the code that goes on after it: JAX has such a callback, and its traces make much garbage. Only
    the main thread receives signals, so other threads are left alone. So are programs with their
    own handler.

    Returns:
        A context manager of a function, which raises ``KeyboardInterrupt`` if there was one.
    """
    came: list[int] = []

    def raise_noticed() -> None:
        if came:
            raise KeyboardInterrupt

    before = python_s_own_handler()
    if before is None:
        yield raise_noticed
        return
    signal.signal(signal.SIGINT, _Noticing(before, came))
    try:
        yield raise_noticed
    finally:
        signal.signal(signal.SIGINT, before)


class _Noticing:
    """Handler of interrupts that notes them and hands them on, but not to where Python drops them.

    Args:
        before: The handler before it.
        came: Where to note them.
    """

    def __init__(self, before: Handler, came: list[int]) -> None:
        self._before, self._came = before, came

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if _is_collecting(frame):
            threading.Thread(target=_interrupt_soon, daemon=True).start()
            return
        self._came.append(signum)
        self._before(signum, frame)


def _is_collecting(frame: FrameType | None) -> bool:
    """Whether code is, or is called by, a callback of the garbage collector."""
    callbacks = {getattr(callback, "__code__", None) for callback in gc.callbacks}
    while frame is not None and frame.f_code not in callbacks:
        frame = frame.f_back
    return frame is not None


def python_s_own_handler() -> Handler | None:
    """Return the handler of this thread's interrupts, if it is Python's or a notebook kernel's.

    Returns:
        The handler; ``None`` for a program's own one, and on threads without signals.
    """
    handler = _handler()
    of_kernel = getattr(handler, "__module__", None) == "ipykernel.ipkernel"
    is_own = handler is signal.default_int_handler or isinstance(handler, _Noticing)
    return handler if is_own or of_kernel else None


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
    _interrupt_soon()


def _interrupt_soon() -> None:
    time.sleep(_FINALIZER_S)
    if hasattr(signal, "pthread_kill"):  # wakes a call that sleeps
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    else:
        _thread.interrupt_main()


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
