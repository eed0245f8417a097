"""What is read to watch over a run: windows of losses, or the held-out loss; and its best state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from aimz_lab.inference.run.run import Run

Monitor = Literal["loss", "validation"]
"""``loss``: means over windows of training steps. ``validation``: the held-out loss."""

_LONGEST = 256
_SHORTEST = 64


@dataclass(frozen=True)
class Best:
    """The best state of a run so far, by one monitor.

    Attributes:
        value: What it was judged by, in nats per row.
        step: Steps done by then.
        state: The trainer's state; its arrays are shared with the run, not copied.
    """

    value: float
    step: int
    state: Any


def offer_best(run: Run, name: str, value: float) -> bool:
    """Keep the run's present state under ``name`` if it is better than the one kept there.

    Args:
        run: The run; the state goes to :attr:`Run.best`, and with it into checkpoints.
        name: What it is judged by.
        value: The judgement in nats per row; lower is better.

    Returns:
        Whether the present state is now the best.
    """
    best = run.best.get(name)
    if np.isfinite(value) and (best is None or value < best.value):
        run.best[name] = Best(float(value), run.step, run.state)
    return name in run.best and run.best[name].step == run.step


def window_steps(steps_per_epoch: int | None) -> int:
    """Steps of a window where nobody says: whole epochs if they are short, else 256.

    Windows of whole epochs see the same rows: their means differ by noise and progress alone.

    Example:
        >>> window_steps(6), window_steps(100), window_steps(3_000), window_steps(None)
        (66, 100, 256, 256)
    """
    if steps_per_epoch is None or steps_per_epoch > _LONGEST:
        return _LONGEST
    return -(-_SHORTEST // steps_per_epoch) * steps_per_epoch


class MonitorWindows:
    """The readings of one monitor, each of them given once and in order.

    They depend on the run's history alone, not on how it was cut into chunks or resumed.

    Args:
        monitor: What is read.
        window: Steps of a window of losses; ``None`` for :func:`window_steps`.
    """

    def __init__(self, monitor: Monitor, window: int | None = None) -> None:
        self._monitor = monitor
        self._asked = window
        self._window = window or _LONGEST
        self._taken = 0

    def begin(self, run: Run) -> None:
        """Begin anew with the history of a run."""
        self._window = self._asked or window_steps(run.info.steps_per_epoch)
        self._taken = 0

    @property
    def name(self) -> str:
        """What is read, in words: two readers of the same name read the same."""
        if self._monitor == "validation":
            return "validation"
        return f"loss over {self._window} steps"

    def new(self, run: Run) -> np.ndarray:
        """Return the readings that came since the last call, in nats per row.

        Returns:
            Shape ``(reading, window)``, or ``(reading, 1)`` for the held-out loss.
        """
        if self._monitor == "validation":
            values = [loss for _, loss in run.validation[self._taken :]]
            self._taken += len(values)
            return np.array(values, np.float64).reshape(-1, 1)
        size, first = self._window, self._taken
        count = (run.step - first) // size
        self._taken = first + count * size
        losses = run.losses[first : self._taken].astype(np.float64) / (run.info.n_obs or 1)
        return losses.reshape(count, size)
