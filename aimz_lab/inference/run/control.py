"""Requests to a run, from any thread."""

from __future__ import annotations

import threading

import numpy as np

from aimz_lab.errors import ArgumentError
from aimz_lab.types import RunStatus


class Control:
    """Requests to a run, from any thread; the trainer applies them between two chunks.

    Args:
        can_set_learning_rate: Whether the optimizer's rate can be changed.
        why_not: What to tell who asks for it where it cannot.

    Attributes:
        can_checkpoint: Whether a listener writes checkpoints; :class:`Callbacks` finds out.

    Example:
        >>> control = Control()
        >>> control.stop("seen enough")
        >>> control.stop_request
        ('seen enough', 'stopped')
    """

    def __init__(self, *, can_set_learning_rate: bool = False, why_not: str = "") -> None:
        self.can_set_learning_rate = can_set_learning_rate
        self.can_checkpoint = False
        self._why_not = why_not
        self._lock = threading.Lock()
        self._unpaused = threading.Event()
        self._unpaused.set()
        self._stop: tuple[str, RunStatus] | None = None
        self._learning_rate: float | None = None
        self._checkpoint = False

    def stop(self, reason: str = "asked to stop", *, status: RunStatus = "stopped") -> None:
        """End the run after the current chunk and keep what it has; the first reason counts.

        Args:
            reason: Why, in words; it is told with the run.
            status: What the run is called then, one of :data:`aimz_lab.types.RunStatus`.
        """
        with self._lock:
            self._stop = self._stop or (reason, status)
        self._unpaused.set()

    def pause(self) -> None:
        """Hold the run after the current chunk, until :meth:`resume` or :meth:`stop`."""
        with self._lock:
            if self._stop is None:
                self._unpaused.clear()

    def resume(self) -> None:
        """Go on after :meth:`pause`."""
        self._unpaused.set()

    def checkpoint(self) -> None:
        """Ask the checkpoint callbacks to write after the current chunk."""
        with self._lock:
            self._checkpoint = True

    def set_learning_rate(self, rate: float) -> None:
        """Train with ``rate`` from the next chunk on.

        Args:
            rate: Positive and finite.

        Raises:
            ArgumentError: If the rate is not a positive finite number, or the optimizer has none
                that can be set.
        """
        self.check_learning_rate()
        if not (np.isfinite(rate) and rate > 0):
            msg = f"A learning rate is a positive finite number; got {rate!r}."
            raise ArgumentError(msg)
        with self._lock:
            self._learning_rate = float(rate)

    def check_learning_rate(self) -> None:
        """Make sure that the rate can be set, before a run begins that relies on it.

        Raises:
            ArgumentError: If the optimizer has none that can be set; it says which ones have.
        """
        if not self.can_set_learning_rate:
            raise ArgumentError(self._why_not or "The learning rate of this run cannot be set.")

    @property
    def requested_learning_rate(self) -> float | None:
        """The rate that the next chunk will have, if one was asked for."""
        return self._learning_rate

    @property
    def stop_request(self) -> tuple[str, RunStatus] | None:
        """Reason and status of a requested stop, or ``None``."""
        return self._stop

    @property
    def paused(self) -> bool:
        """Whether a pause has been asked for and not taken back."""
        return not self._unpaused.is_set()

    def wait_while_paused(self) -> None:
        """Block while paused. In slices, so that an interrupt gets through."""
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
            asked, self._checkpoint = self._checkpoint, False
        return asked
