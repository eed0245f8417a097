"""Read the loss window by window, and keep the state with the lowest reading."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float

from aimz_lab.inference.run.records import Best
from aimz_lab.inference.run.run import Run

Monitor = Literal["loss", "validation"]
"""``loss``: means over windows of training steps. ``validation``: the held-out loss."""

_LONGEST = 256
_SHORTEST = 64


def offer_best(run: Run, name: str, value: float) -> bool:
    """Keep the run's present state under ``name`` if it is better than the one kept there.

    Args:
        run: The run; the state goes to :attr:`Run.best`, and from there into checkpoints.
        name: Name of the monitor.
        value: The monitor's value in nats per row; lower is better.

    Returns:
        Whether the present state is now the best.
    """
    best = run.best.get(name)
    if np.isfinite(value) and (best is None or value < best.value):
        run.best[name] = Best(float(value), run.step, run.state)
    return name in run.best and run.best[name].step == run.step


def window_steps(steps_per_epoch: int | None) -> int:
    """Steps of a window by default: whole epochs if they are short, else 256.

    Windows of whole epochs see the same rows: their means differ by noise and progress alone.

    Example:
        >>> window_steps(6), window_steps(100), window_steps(3_000), window_steps(None)
        (66, 100, 256, 256)
    """
    if steps_per_epoch is None or steps_per_epoch > _LONGEST:
        return _LONGEST
    return -(-_SHORTEST // steps_per_epoch) * steps_per_epoch


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
        self._window = window or _LONGEST
        self._taken = 0

    def begin(self, run: Run) -> None:
        """Begin anew with the history of a run."""
        self._window = self._requested or window_steps(run.info.steps_per_epoch)
        self._taken = 0

    @property
    def name(self) -> str:
        """Name of the readings; two monitors of the same name read the same values."""
        if self._monitor == "validation":
            return "validation"
        return f"loss over {self._window} steps"

    def new(self, run: Run) -> Float[np.ndarray, "reading window"]:
        """Return the readings since the last call, in nats per row.

        Returns:
            Shape ``(reading, window)``, or ``(reading, 1)`` for the held-out loss.
        """
        if self._monitor == "validation":
            values = run.validation.losses[self._taken :]
            self._taken += len(values)
            return values.reshape(-1, 1)
        size, first = self._window, self._taken
        count = (run.step - first) // size
        self._taken = first + count * size
        losses = run.losses[first : self._taken].astype(np.float64) / (run.info.n_obs or 1)
        # A window may be longer than any run; NumPy has no rows of that length.
        return losses.reshape(count, size) if count else np.empty((0, 1))
