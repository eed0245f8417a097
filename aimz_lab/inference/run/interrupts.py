"""The stop button of a notebook, and Ctrl-C: the first ends a run between two chunks."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from aimz_lab.inference.run.events import Control
from aimz_lab.types import RunStatus

INTERRUPTED: tuple[str, RunStatus] = ("interrupted", "interrupted")
"""What a run is asked by the first interrupt: reason and status of the stop."""


@contextmanager
def interrupt_stops(control: Control) -> Iterator[None]:
    """Turn the first interrupt into a request to stop; a second one raises ``KeyboardInterrupt``.

    A request waits for the end of the chunk, where state, position and losses belong together. It
    is made in the main thread only, where signals arrive, and only in place of Python's own
    handler: a program that handles interrupts itself goes on to do so.

    Args:
        control: Of the run.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        yield
        return

    def stop(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001
        signal.signal(signal.SIGINT, before)
        reason, status = INTERRUPTED
        control.stop(reason, status=status)

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
