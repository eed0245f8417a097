"""Requests to stop, pause, checkpoint or change the learning rate of a run, from any thread."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from aimz_lab.calls import public
from aimz_lab.data.options import check_text, real_number
from aimz_lab.errors import ArgumentError
from aimz_lab.system.interrupts import python_s_own_handler
from aimz_lab.types import RunStatus, check_choice, shown

StopRequest = tuple[str, RunStatus]
"""Reason of a stop, and the status that the run ends with."""

INTERRUPTED: StopRequest = ("interrupted", "interrupted")
"""The stop that the first interrupt requests."""


LEAST_RATE, MOST_RATE = 2.0**-126, 2.0**127
"""Bounds of a learning rate: optimizers keep it in 32 bits."""


def check_rate(rate: object) -> None:
    """Check a learning rate.

    Raises:
        ArgumentError: If it is not a positive finite number of 32 bits.
    """
    if not LEAST_RATE <= real_number(rate) <= MOST_RATE:
        msg = (
            "A learning rate is a positive finite number, such as 0.01, that 32 bits can hold, "
            f"from 1e-37 to 1e38; got rate={shown(rate)}."
        )
        raise ArgumentError(msg)


@public
class Control:
    """Requests to a run, from any thread; the run handles them between two chunks.

    Args:
        can_set_learning_rate: Whether the optimizer's rate can be changed.
        why_not: Error message for a rate that cannot be changed.

    Attributes:
        why_not: Error message for a rate that cannot be changed.
        can_checkpoint: Whether a callback writes checkpoints.

    Example:
        >>> control = Control()
        >>> control.stop("seen enough")
        >>> control.stop_request
        ('seen enough', 'stopped')
    """

    def __init__(self, *, can_set_learning_rate: bool = False, why_not: str = "") -> None:
        self.can_set_learning_rate = can_set_learning_rate
        self.can_checkpoint = False
        self.why_not = why_not
        self._lock = threading.Lock()
        self._unpaused = threading.Event()
        self._unpaused.set()
        self._stop: StopRequest | None = None
        self._learning_rate: float | None = None
        self._checkpoint = False
        self._listeners: list[Callable[[], None]] = []

    def listen(self, listener: Callable[[], None]) -> None:
        """Have a function called after each request but a stop, on the thread that makes it.

        A paused run, or one whose steps compile, gets to its requests late; a display shows them
        meanwhile. A stop may be requested by a signal handler, in which nothing can be shown.

        Args:
            listener: The function; its errors are ignored.
        """
        self._listeners.append(listener)

    def _tell(self) -> None:
        for listener in self._listeners:
            with suppress(Exception):  # a broken display must not keep a request from being made
                listener()

    def stop(self, reason: str = "asked to stop", *, status: RunStatus = "stopped") -> None:
        """End the run after the current chunk and keep its result; the first reason counts.

        Args:
            reason: A phrase that becomes :attr:`Run.reason`.
            status: The run's final status, one of :data:`aimz_lab.types.RunStatus`.

        Raises:
            ArgumentError: If ``reason`` is no text, or ``status`` is not known.
        """
        reason, status = check_text("reason", reason), check_choice("status", status, RunStatus)
        with self._lock:
            self._stop = self._stop or (reason, status)
        self._unpaused.set()

    def pause(self) -> None:
        """Hold the run after the current chunk, until :meth:`resume` or :meth:`stop`."""
        with self._lock:
            if self._stop is None:
                self._unpaused.clear()
        self._tell()

    def resume(self) -> None:
        """Go on after :meth:`pause`."""
        self._unpaused.set()
        self._tell()

    def checkpoint(self) -> None:
        """Ask the checkpoint callbacks to write after the current chunk."""
        with self._lock:
            self._checkpoint = True
        self._tell()

    def set_learning_rate(self, rate: float) -> None:
        """Train with ``rate`` from the next chunk on; a schedule continues from there, scaled.

        Args:
            rate: Positive and finite, also in 32 bits.

        Raises:
            ArgumentError: If the rate is not a positive finite number of 32 bits, or the optimizer
                has no rate that can be set.
        """
        self.check_learning_rate()
        check_rate(rate)
        with self._lock:
            self._learning_rate = real_number(rate)
        self._tell()

    def check_learning_rate(self) -> None:
        """Check that the rate can be set, before a run begins that relies on it.

        Raises:
            ArgumentError: If the optimizer has no rate that can be set; the message names
                optimizers that have one.
        """
        if not self.can_set_learning_rate:
            raise ArgumentError(self.why_not or "The learning rate of this run cannot be set.")

    @property
    def why_fixed(self) -> str:
        """Why the learning rate cannot be set; empty if it can, or if the reason is not known."""
        return "" if self.can_set_learning_rate else self.why_not

    @property
    def has_requests(self) -> bool:
        """Whether any request waits to be handled."""
        return (
            self._stop is not None
            or self.paused
            or self._checkpoint
            or self._learning_rate is not None
        )

    def take_requests(self) -> dict[str, object]:
        """Return all requests, for :meth:`follow`; clear those that are handled once."""
        with self._lock:
            taken = {
                "stop": self._stop,
                "paused": self.paused,
                "checkpoint": self._checkpoint,
                "learning_rate": self._learning_rate,
            }
            self._checkpoint, self._learning_rate = False, None
        return taken

    def follow(self, requests: Mapping[str, Any]) -> None:
        """Take over the requests of another control.

        Args:
            requests: What :meth:`take_requests` of the other control returned.
        """
        with self._lock:
            if requests["stop"] is not None:
                self._stop = tuple(requests["stop"])
            self._checkpoint |= requests["checkpoint"]
            if requests["learning_rate"] is not None:
                self._learning_rate = requests["learning_rate"]
        (self._unpaused.clear if requests["paused"] else self._unpaused.set)()

    @property
    def requested_learning_rate(self) -> float | None:
        """The requested rate of the next chunk, or ``None``."""
        return self._learning_rate

    @property
    def wants_checkpoint(self) -> bool:
        """Whether a checkpoint is asked for and not written yet."""
        return self._checkpoint

    @property
    def stop_request(self) -> StopRequest | None:
        """Reason and status of a requested stop, or ``None``."""
        return self._stop

    @property
    def paused(self) -> bool:
        """Whether a pause is requested and not yet over."""
        return not self._unpaused.is_set()

    def share(self, requests: Mapping[str, Any]) -> None:
        """Take over the stop and the pause of other processes, which any of them may end.

        Args:
            requests: As for :meth:`follow`.
        """
        with self._lock:
            if requests["stop"] is not None:
                self._stop = tuple(requests["stop"])
                self._unpaused.set()
            elif requests["paused"]:
                self._unpaused.clear()

    def wait_while_paused(self, seconds: float | None = None) -> None:
        """Block while paused. In slices, so that an interrupt gets through.

        Args:
            seconds: The longest wait; ``None`` for as long as the pause is.
        """
        if seconds is not None:
            self._unpaused.wait(seconds)
            return
        while not self._unpaused.wait(0.1):
            pass

    def take_learning_rate(self) -> float | None:
        """Return and clear the requested learning rate."""
        with self._lock:
            rate, self._learning_rate = self._learning_rate, None
        return rate

    def take_checkpoint(self) -> bool:
        """Return and clear the request for a checkpoint."""
        with self._lock:
            requested, self._checkpoint = self._checkpoint, False
        return requested


@contextmanager
def interrupt_stops(control: Control) -> Iterator[None]:
    """Turn the first interrupt into a request to stop; a second one raises ``KeyboardInterrupt``.

    A request waits for the end of the chunk, where state, position and losses agree. Only the main
    thread receives signals, so other threads are left alone. Programs with their own handler are
    left alone too; a cell that awaits something has one of the kernel's.

    Args:
        control: The control of the run.
    """
    before = python_s_own_handler()
    if before is None:
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
