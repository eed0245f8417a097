"""Ctrl-C in a finalizer, where Python prints and drops it, comes again just after it."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_FINALIZER_S = 0.005
"""How long a finalizer takes to return to the code that it broke into, and far more."""


@contextmanager
def dropped_interrupts_come_again() -> Iterator[None]:
    """Let Ctrl-C take effect also if it comes in a finalizer, where Python prints and drops it.

    It comes again in the code that goes on after the finalizer. Tracing and compiling make much
    garbage: without this, up to a quarter of the interrupts of a first call are dropped. Only the
    main thread receives signals, so other threads are left alone.

    Example:
        >>> with dropped_interrupts_come_again():
        ...     pass  # what makes garbage
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = sys.unraisablehook

    def hook(dropped: sys.UnraisableHookArgs) -> None:
        if issubclass(dropped.exc_type, KeyboardInterrupt):
            # A Thread would take locks that the code around the finalizer may hold.
            _thread.start_new_thread(interrupt_soon, ())
        else:
            before(dropped)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def interrupt_soon() -> None:
    """Interrupt the main thread, once a finalizer has returned to the code that it broke into."""
    time.sleep(_FINALIZER_S)
    if hasattr(signal, "pthread_kill"):  # wakes a call that sleeps
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    else:
        _thread.interrupt_main()
