"""What watches over a run: windows of its losses, a test for a plateau, and its best state.

A minibatch loss is an estimate. Whether training still gets anywhere is therefore asked of the
means of whole windows of steps, and answered against the standard error of their difference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from aimz_lab.inference.run import Run

Monitor = Literal["loss", "validation"]
"""``loss``: means over windows of training steps. ``validation``: the held-out loss."""

_LONGEST = 256
_SHORTEST = 64
_BLOCKS = 16

# Student's t with 15 degrees of freedom, one-sided 5%.
_QUANTILE = 1.753

# Nats. Two posteriors that are so much apart cannot be told from one another in practice.
_LEAST_FALL = 0.1


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


class Readings:
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

    def new(self, run: Run) -> list[np.ndarray]:
        """Return the readings that came since the last call, in nats per row.

        Returns:
            Arrays of shape ``(window,)``, or ``(1,)`` for the held-out loss.
        """
        if self._monitor == "validation":
            values = [np.array([loss]) for _, loss in run.validation[self._taken :]]
            self._taken += len(values)
            return values
        size, first = self._window, self._taken
        count = (run.step - first) // size
        self._taken = first + count * size
        losses = run.losses[first : self._taken].astype(np.float64) / (run.info.n_obs or 1)
        return list(losses.reshape(count, size))


def fall_of_mean(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """How far the mean fell from one window to another, and the standard error of that.

    Neighbouring losses are correlated. So the error comes from the means of 16 blocks, and a
    correlation that is left between blocks widens it as in an AR(1) process (batch means: Law and
    Kelton 2000, sec. 9.5.3). It is estimated twice, and the smaller one holds: from the
    differences at equal places, in which a steady trend and the pattern of an epoch cancel; and
    from the second window alone, as if both had its noise, so that a steep beginning in the first
    one is taken for the progress that it is.

    Args:
        before: Losses of a window, shape ``(k,)``; values that are not finite do not count.
        after: Losses of a later window of the same length.

    Returns:
        The fall and its standard error, in the unit of the losses. A single value has error 0.

    Example:
        >>> fall_of_mean(np.full(64, 3.0), np.full(64, 1.0))
        (2.0, 0.0)
    """
    fall = float(_means(before, 1)[0] - _means(after, 1)[0])
    if len(after) == 1:
        return fall, 0.0
    own = 2**0.5 * _error_of_mean(after)
    return fall, min(own, _error_of_mean(before - after))


def _error_of_mean(values: np.ndarray) -> float:
    means = _means(values, min(_BLOCKS, len(values)))
    means = means[np.isfinite(means)]
    if len(means) < 2:
        return np.inf
    apart = means - means.mean()
    squares = float(apart @ apart)
    if squares == 0:
        return 0.0
    correlation = min(max(float(apart[1:] @ apart[:-1]) / squares, 0.0), 0.9)
    variance = squares / (len(means) - 1) / len(means)
    return math.sqrt(variance * (1 + correlation) / (1 - correlation))


def _means(values: np.ndarray, blocks: int) -> np.ndarray:
    """Means of the finite values in blocks of about equal length; NaN where there are none."""
    starts = np.arange(blocks) * len(values) // blocks
    finite = np.isfinite(values)
    sums = np.add.reduceat(np.where(finite, values, 0.0), starts)
    counts = np.add.reduceat(finite, starts, dtype=np.int64)
    return np.divide(sums, counts, out=np.full(blocks, np.nan), where=counts > 0)


def fall_at_end(run: Run) -> tuple[float, int] | None:
    """How far the loss still fell at the end of a run, if it did.

    The last tenth of the steps, in whole windows, is compared with the tenth before it. A fall
    counts if it is more than three standard errors and a tenth of a nat over all rows.

    Args:
        run: A run that has ended.

    Returns:
        The fall in nats per row and the steps that it took, or ``None``.
    """
    base = window_steps(run.info.steps_per_epoch)
    size = base * max(run.step // (10 * base), 1)
    if run.step < 3 * size:
        return None  # nothing but the beginning
    losses = run.losses_per_row[-2 * size :].astype(np.float64)
    fall, error = fall_of_mean(losses[:size], losses[size:])
    counts = fall > 3 * error and fall * (run.info.n_obs or 1) > _LEAST_FALL
    return (fall, size) if counts else None


class PlateauTest:
    """Tells whether a monitor still falls by more than its noise.

    A reading counts as progress if its mean is below that of the last reading that did, by more
    than ``min_delta`` and 1.75 standard errors (a one-sided test at 5%). Slow progress adds up: the
    reference stays until it is beaten.

    Args:
        min_delta: Least fall that counts, in nats per row.

    Attributes:
        waited: Readings since the last progress.
    """

    def __init__(self, min_delta: float = 0.0) -> None:
        self.waited = 0
        self._min_delta = min_delta
        self._reference: np.ndarray | None = None

    def add(self, reading: np.ndarray) -> bool:
        """Judge the next reading, from :meth:`Readings.new`; returns whether it is progress."""
        if self._reference is None:
            fell = bool(np.isfinite(reading).any())
        else:
            fall, error = fall_of_mean(self._reference, reading)
            fell = fall - self._min_delta > _QUANTILE * error
        if fell:
            self._reference = reading
        self.waited = 0 if fell else self.waited + 1
        return fell
