"""Read the loss of a run window by window."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from aimz_lab.inference.run.read_run import ReadRun
from aimz_lab.inference.run.records import HELD_OUT
from aimz_lab.inference.run.smoothing import window_steps

Monitor = Literal["loss", "validation"]
"""``loss``: means over windows of training steps. ``validation``: the held-out loss."""


def losses_of(run: ReadRun, first: int, last: int) -> Float[np.ndarray, " step"]:
    """Return the losses of the steps after ``first`` up to ``last``, in nats per row."""
    return run.losses[first:last].astype(np.float64) / (run.info.n_obs or 1)


class MonitorWindows:
    """The readings of one monitor, each returned once and in order.

    They depend only on the run's history, however it was cut into chunks or resumed.

    Args:
        monitor: ``"loss"`` or ``"validation"``.
        window: Steps of a window of losses; ``None`` for :func:`window_steps`.
    """

    def __init__(self, monitor: Monitor, window: int | None = None) -> None:
        self._monitor = monitor
        self._requested = window
        self._window = window or window_steps(None)
        self._taken = 0

    def begin(self, run: ReadRun) -> None:
        """Begin anew with the history of a run."""
        self._window = self._requested or window_steps(run.info.steps_per_epoch)
        self._taken = 0

    @property
    def window(self) -> int:
        """Steps of a window of losses."""
        return self._window

    @property
    def name(self) -> str:
        """Name of the readings; two monitors of the same name read the same values."""
        if self.is_held_out:
            return HELD_OUT
        return f"loss over {self._window} steps"

    @property
    def is_held_out(self) -> bool:
        """Whether the readings are held-out losses."""
        return self._monitor == "validation"

    def ends(self, run: ReadRun, count: int) -> Int[np.ndarray, " reading"]:
        """Return the steps done by the last ``count`` readings that were returned."""
        if self.is_held_out:
            return run.validation.steps[self._taken - count : self._taken]
        return self._taken - self._window * np.arange(count - 1, -1, -1)

    def new(self, run: ReadRun) -> Float[np.ndarray, "reading window"]:
        """Return the readings since the last call, in nats per row.

        Returns:
            Shape ``(reading, window)``, or ``(reading, 1)`` for the held-out loss.
        """
        if self.is_held_out:
            values = run.validation.losses[self._taken :]
            self._taken += len(values)
            return values.reshape(-1, 1)
        size, first = self._window, self._taken
        count = (run.step - first) // size
        self._taken = first + count * size
        # A window may be longer than any run; NumPy has no rows of that length.
        losses = losses_of(run, first, self._taken)
        return losses.reshape(count, size) if count else np.empty((0, 1))

    def last(self, run: ReadRun) -> float:
        """Return the reading that ends with the last step, wherever the windows begin."""
        if self.is_held_out:
            return float(run.validation.losses[-1])
        return float(losses_of(run, run.step - self._window, run.step).mean())
