"""Tests of whether a loss falls, or rose, by more than its noise: of a run, and at its end.

A minibatch loss is a noisy estimate. So both compare the means of windows of steps with the
standard error of their difference. :class:`PlateauTest` follows the windows of a run: by it
``EarlyStopping`` stops, and ``diagnose`` says that the loss settled. :func:`fall_at_end` looks at
the last tenth alone, with a stricter limit and whole epochs: by it the summary of a run and
``diagnose`` say that the loss still fell. :func:`rise_to_end` compares the end with the lowest
window before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit

from aimz_lab.inference.run.read_run import ReadRun
from aimz_lab.inference.run.smoothing import window_steps

_BLOCKS = 16

# Student's t with 15 degrees of freedom, one-sided 5%.
_QUANTILE = 1.753

# Share of settled runs of independent noise whose end is taken for a fall, by one kind of blocks.
_FALSE_FALLS = 0.005

# Among fewer blocks, one that sticks out cannot be told from noise.
_FEWEST_CUT = 12

# Median absolute deviations of a normal distribution in three of its standard deviations.
_REACH = 3 * 1.4826

# Nats. Two posteriors this close cannot be distinguished in practice.
_LEAST_FALL = 0.1

# Parts of a run whose means are compared, and standard errors that a rise has to exceed.
_RISE_SHARES = (64, 32, 16, 8)
_RISE_ERRORS = 4.0


@dataclass(frozen=True)
class _Windows:
    """Means of windows of losses; a chunk of small steps fills many windows at once.

    Attributes:
        mean: Mean of the finite losses of each window, NaN without any; shape ``(window,)``.
        blocks: The means of its 16 blocks, or its single values; shape ``(window, block)``.
    """

    mean: np.ndarray
    blocks: np.ndarray

    @classmethod
    def of(cls, losses: np.ndarray, unit: int = 1) -> Self:
        """Summarize losses, shape ``(window, step)``.

        Args:
            losses: The windows.
            unit: Steps that lie in one block together; they divide those of a window.
        """
        units = losses.shape[1] // unit
        blocks = min(_BLOCKS, units)
        sums, counts = _sums(losses, np.arange(blocks) * units // blocks * unit)
        return cls(_means(sums.sum(axis=1), counts.sum(axis=1)), _means(sums, counts))

    def part(self, which: slice | np.ndarray) -> Self:
        """Some of the windows."""
        return type(self)(self.mean[which], self.blocks[which])

    def without_spikes(self) -> Self:
        """The windows with blocks that stick out of the others cut to the edge of these.

        A spike of the loss spoils a block or two. Noise and a trend run through all blocks, and
        stay within three standard deviations, estimated by the median absolute deviation.
        """
        with np.errstate(invalid="ignore"):
            middle = _medians(self.blocks)
            reach = _REACH * _medians(np.abs(self.blocks - middle))
            blocks = np.clip(self.blocks, middle - reach, middle + reach)
        finite = np.isfinite(blocks)
        sums = np.where(finite, blocks, 0.0).sum(axis=1)
        return type(self)(_means(sums, finite.sum(axis=1)), blocks)


def fall_of_mean(
    before: Float[np.ndarray, " step"], after: Float[np.ndarray, " step"]
) -> tuple[float, float]:
    """Return the fall of the mean from one window to another, with its standard error.

    Neighbouring losses are correlated. So the error comes from the means of 16 blocks, and a
    correlation that remains between blocks widens it as in an AR(1) process (batch means: Law and
    Kelton 2000, sec. 9.5.3). It is estimated twice, and the smaller estimate counts. The first
    uses the differences at equal places: a steady trend and the pattern of an epoch cancel in them.
    The second uses the later window alone, as if both had its noise: a steep fall within the
    earlier window then counts as progress and not as noise.

    Args:
        before: Losses of a window, shape ``(k,)``; values that are not finite are left out.
        after: Losses of a later window of the same length.

    Returns:
        The fall and its standard error, in the unit of the losses. A single value has error 0.

    Example:
        >>> fall_of_mean(np.full(64, 3.0), np.full(64, 1.0))
        (2.0, 0.0)
    """
    falls, errors = _falls(_Windows.of(before[None]), _Windows.of(after[None]))
    return float(falls[0]), float(errors[0])


def errors_of_means(
    readings: Float[np.ndarray, "reading step"],
) -> Float[np.ndarray, " reading"]:
    """Return the standard error of the mean of each reading; see :func:`fall_of_mean`.

    Args:
        readings: Losses of windows of steps; values that are not finite are left out.

    Returns:
        The errors in the unit of the losses; infinite for a window of one step.
    """
    return _errors_of_mean(_Windows.of(readings).blocks)


def _falls(before: _Windows, after: _Windows) -> tuple[np.ndarray, np.ndarray]:
    """:func:`fall_of_mean` from one window to each of some, each of shape ``(window,)``."""
    falls = before.mean - after.mean
    if after.blocks.shape[1] == 1:
        return falls, np.zeros_like(falls)
    own, apart = 2**0.5 * after.blocks, before.blocks - after.blocks
    return falls, _errors_of_mean(np.concatenate([own, apart])).reshape(2, -1).min(axis=0)


def _errors_of_mean(blocks: np.ndarray) -> np.ndarray:
    """Standard errors of the windows' means; infinite where fewer than two blocks are finite."""
    errors = _errors_of_finite(blocks)
    for i in np.flatnonzero(~np.isfinite(errors)):
        errors[i] = _errors_of_finite(blocks[i : i + 1, np.isfinite(blocks[i])])[0]
    return errors


def _errors_of_finite(blocks: np.ndarray) -> np.ndarray:
    n = blocks.shape[1]
    if n < 2:
        return np.full(len(blocks), np.inf)
    return np.sqrt(_widened_squares(blocks - (blocks.sum(axis=1) / n)[:, None]) / (n - 1) / n)


def _widened_squares(apart: np.ndarray) -> np.ndarray:
    """Sums of squares of the rows, widened by the correlation of neighbours."""
    squares = np.einsum("ij,ij->i", apart, apart)
    products = np.einsum("ij,ij->i", apart[:, 1:], apart[:, :-1])
    ratio = np.divide(products, squares, out=np.zeros(len(squares)), where=squares > 0)
    correlation = np.minimum(np.maximum(ratio, 0.0), 0.9)
    return squares * (1 + correlation) / (1 - correlation)


def _fall_and_noise(blocks: np.ndarray) -> tuple[float, float]:
    """Return the fall from the first half of blocks to the second, and what noise seldom exceeds.

    The noise is what is left beside a straight line through the blocks: a steady fall is none. Of
    several blocks, one that sticks out of the others along their line is a spike, and is cut to the
    edge of these. Student's t allows for few blocks.

    Args:
        blocks: Means of blocks, shape ``(block,)``; values that are not finite are left out.
    """
    places = np.flatnonzero(np.isfinite(blocks))
    values, n = blocks[places], len(places)
    is_first = places < len(blocks) // 2
    if min(is_first.sum(), n - is_first.sum()) < 2:
        return 0.0, np.inf
    if n >= _FEWEST_CUT:
        # The median of the slopes between two blocks (Theil and Sen), which a spike hardly moves.
        one, other = np.triu_indices(n, 1)
        slope = np.median((values[other] - values[one]) / (places[other] - places[one]))
        line = slope * places + np.median(values - slope * places)
        reach = _REACH * np.median(np.abs(values - line))
        values = line + np.clip(values - line, -reach, reach)
    apart = values - np.polyval(np.polyfit(places, values, 1), places)
    error = np.sqrt(_widened_squares(apart[None])[0] / (n - 2) * 4 / n)
    fall = values[is_first].mean() - values[~is_first].mean()
    return float(fall), float(-stdtrit(n - 2, _FALSE_FALLS) * error)


def _sums(losses: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums and numbers of the finite losses of each window in blocks.

    Args:
        losses: Shape ``(window, step)``.
        starts: First steps of the blocks, from 0.

    Returns:
        Both of a shape that broadcasts to ``(window, block)``.
    """
    sums = np.add.reduceat(losses, starts, axis=1)
    if np.isfinite(sums).all():
        return sums, np.diff(starts, append=losses.shape[1])[None]
    finite = np.isfinite(losses)
    sums = np.add.reduceat(np.where(finite, losses, 0.0), starts, axis=1)
    return sums, np.add.reduceat(finite, starts, axis=1, dtype=np.int64)


def _medians(blocks: np.ndarray) -> np.ndarray:
    """Medians of the finite blocks of each window, NaN without any; shape ``(window, 1)``."""
    medians = np.full((len(blocks), 1), np.nan)
    for i, each in enumerate(blocks):
        if len(finite := each[np.isfinite(each)]):
            medians[i] = np.median(finite)
    return medians


def _means(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Means; NaN for a count of 0."""
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)


def steps_at_rate(run: ReadRun) -> int:
    """Return the steps since the last change of the learning rate, or of the whole run.

    Args:
        run: A run that has ended.
    """
    return run.step - (run.rate_changes[-1].step if run.rate_changes else 0)


def fall_at_end(run: ReadRun) -> tuple[float, int] | None:
    """Return how far the loss still fell at the end of a run, if it did.

    The halves of the last tenth of the steps are compared, in whole windows: a loss that fell
    before them and then levelled off is at rest. A change of the learning rate shifts the loss, so
    that all these steps are of one rate, and not the first ones at it. A spike of the loss is no
    level to fall from, and is cut off.

    A fall counts if it is more than independent noise makes in one of 200 runs, and a tenth of a
    nat over all rows. The noise is that of blocks of steps or, if it is less, of whole epochs:
    which rows a step has may be the most of it, and an epoch has them all.

    Args:
        run: A run that has ended.

    Returns:
        The fall in nats per row and the steps that it took, or ``None``.
    """
    base, at_rate = window_steps(run.info.steps_per_epoch), steps_at_rate(run)
    half = base * max(min(run.step // 20, at_rate // 3) // base, 1)
    if at_rate < 3 * half:
        return None  # too short: these are the first steps
    losses = run.losses[-2 * half :].astype(np.float64) / (run.info.n_obs or 1)
    per_epoch = run.info.steps_per_epoch or 1
    is_whole = half % per_epoch == 0 and half >= 2 * per_epoch
    for unit in (1, per_epoch) if is_whole else (1,):
        blocks = _Windows.of(losses.reshape(2, half), unit).blocks.ravel()
        fall, noise = _fall_and_noise(blocks)  # over half of the steps
        if fall > noise and 2 * fall * (run.info.n_obs or 1) > _LEAST_FALL:
            return 2 * fall, 2 * half
    return None


class Rise(NamedTuple):
    """A rise of the loss to the end of a run, between the means of two windows of steps.

    Attributes:
        lowest: The lower mean, in nats per row.
        last: The mean of the last steps.
        first: The first step of the lower window.
        window: Steps of each window.
    """

    lowest: float
    last: float
    first: int
    window: int


def rise_to_end(run: ReadRun) -> Rise | None:
    """Return how far the loss of a run rose to its end from its lowest window, if it did.

    Windows of about a 64th to an eighth of the steps are compared, in whole epochs: rows in a fixed
    order have a pattern, whose lowest part is no loss to return to. A rise counts if it is more
    than four standard errors without the spikes, as the lowest of many means is low by its noise,
    and a tenth of a nat over all rows with and without them. The means that are returned have all
    steps. Of several windows, the clearest rise is returned.

    Args:
        run: A run that has ended.
    """
    rows, per_epoch = run.info.n_obs or 1, run.info.steps_per_epoch
    base = -(-window_steps(per_epoch) // (per_epoch or 1)) * (per_epoch or 1)
    windows = {max(run.step // share // base, 1) * base for share in _RISE_SHARES}
    losses = run.losses.astype(np.float64) / rows
    found: list[tuple[float, Rise]] = []
    for window in windows:
        number = len(losses) // window
        if number < min(_RISE_SHARES):
            continue
        start = len(losses) - number * window
        windowed = _Windows.of(losses[start:].reshape(number, window))
        if not np.isfinite(windowed.mean[-1]):
            continue
        lowest = int(np.nanargmin(windowed.mean))
        both = windowed.part(np.array([lowest, -1]))
        usual = both.without_spikes()
        rise = float(usual.mean[1] - usual.mean[0])
        error = float(np.hypot(*_errors_of_mean(usual.blocks)))
        least = min(rise, float(both.mean[1] - both.mean[0])) * rows
        if rise > _RISE_ERRORS * error and least > _LEAST_FALL:
            first = start + lowest * window + 1
            clear = rise / error if error else np.inf
            found.append((clear, Rise(*map(float, both.mean), first, window)))
    return max(found)[1] if found else None


class PlateauTest:
    """Test, window by window, whether a monitor makes progress beyond its noise.

    The reference is the last reading that was progress. A reading is progress if its mean is below
    the reference's by more than ``min_delta`` and 1.75 standard errors (a one-sided test at 5%).
    Slow progress adds up, since the reference stays until it is beaten.

    Args:
        min_delta: Least fall that counts, in nats per row.

    Attributes:
        waited: Readings since the last progress.
    """

    def __init__(self, min_delta: float = 0.0) -> None:
        self.waited = 0
        self._min_delta = min_delta
        self._reference: _Windows | None = None

    def add(self, readings: Float[np.ndarray, "reading step"]) -> list[int]:
        """Judge the next readings.

        Args:
            readings: From :meth:`~aimz_lab.inference.run.monitor_windows.MonitorWindows.new`; shape
                ``(reading, step)``.

        Returns:
            The value of :attr:`waited` after each of them: 0 for progress.
        """
        rest, waits = _Windows.of(readings), []
        while len(rest.mean):
            fell = self._fell(rest)
            first = int(fell.argmax()) if fell.any() else len(fell)
            waits += range(self.waited + 1, self.waited + 1 + first)
            if first == len(fell):
                self.waited += first
                break
            waits.append(0)
            self.waited, self._reference = 0, rest.part(slice(first, first + 1))
            rest = rest.part(slice(first + 1, None))
        return waits

    def _fell(self, windows: _Windows) -> np.ndarray:
        """Whether each of the windows is progress; shape ``(window,)``."""
        if self._reference is None:
            return np.isfinite(windows.mean)
        falls, errors = _falls(self._reference, windows)
        return falls - self._min_delta > _QUANTILE * errors
