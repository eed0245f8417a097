"""Are values uniform? Simultaneous bands of the empirical distribution function."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from aimz_lab.system.random_streams import own_rng

_SIMULATIONS = 4000
_MOST_POINTS = 100


@dataclass(frozen=True)
class Uniformity:
    """The empirical distribution function of values, beside that of a uniform distribution.

    Attributes:
        points: Where it is evaluated, shape ``(point,)``.
        ecdf: Share of the values up to each point.
        expected: Share that a uniform distribution has there.
        lower: Lower end of the band that holds the whole curve with probability ``prob``.
        upper: Its upper end.
        prob: That probability.
        p_value: How often uniform values stray as far somewhere.
    """

    points: Float[np.ndarray, " point"]
    ecdf: Float[np.ndarray, " point"]
    expected: Float[np.ndarray, " point"]
    lower: Float[np.ndarray, " point"]
    upper: Float[np.ndarray, " point"]
    prob: float
    p_value: float

    @property
    def is_inside(self) -> bool:
        """Whether the whole curve is inside of the band."""
        return bool(((self.ecdf >= self.lower) & (self.ecdf <= self.upper)).all())

    @property
    def largest_gap(self) -> float:
        """Largest distance between the curve and that of a uniform distribution."""
        return float(np.abs(self.ecdf - self.expected).max())


def uniformity(values: Float[np.ndarray, " value"], *, prob: float = 0.95) -> Uniformity:
    """Compare values in [0, 1] with a uniform distribution.

    Säilynoja, Bürkner and Vehtari (2022), "Graphical test for discrete uniformity and its
    applications in goodness-of-fit evaluation and multiple sample comparison", algorithm 1: the
    pointwise binomial intervals that hold the whole curve with probability ``prob``, found by
    simulation. The curve is read at up to 100 points, as they recommend for long samples.

    Args:
        values: The values, such as probability integral transforms.
        prob: Probability that the band holds the curve of uniform values.

    Example:
        >>> uniformity(np.linspace(0.005, 0.995, 100)).is_inside
        True
    """
    count = len(values)
    n_points = min(count, _MOST_POINTS)
    points = np.arange(1, n_points) / n_points if n_points > 1 else np.array([0.5])
    return _compare(np.sort(np.asarray(values, np.float64)), points, points, prob)


def rank_uniformity(
    ranks: Float[np.ndarray, " value"], most: int, *, prob: float = 0.95
) -> Uniformity:
    """Compare ranks with a uniform distribution over ``0, ..., most``.

    Args:
        ranks: Ranks of true values among ``most`` draws.
        most: The largest rank.
        prob: As for :func:`uniformity`.

    Example:
        >>> bool(rank_uniformity(np.zeros(50), 99).is_inside)
        False
    """
    n_points = min(most, _MOST_POINTS)
    at = np.unique(np.linspace(0, most - 1, n_points).astype(int))
    expected = (at + 1) / (most + 1)
    return _compare(np.sort(np.asarray(ranks)), at.astype(np.float64), expected, prob)


def _compare(
    ordered: np.ndarray, points: np.ndarray, expected: np.ndarray, prob: float
) -> Uniformity:
    from scipy.stats import binom  # it takes long to import, and a fit has no use for it

    count = len(ordered)
    ecdf = np.searchsorted(ordered, points, side="right") / count
    table = binom.cdf(np.arange(-1, count + 1)[:, None], count, expected)  # row c is P(X < c)
    rng = own_rng("uniformity")
    steps = np.diff(np.concatenate([[0.0], expected, [1.0]]))
    simulated = rng.multinomial(count, steps, size=_SIMULATIONS)[:, :-1].cumsum(1)
    tails = _tails(table, simulated)
    # The pointwise level at which the whole curve is inside with probability prob.
    level = np.quantile(tails, 1 - prob)
    found = _tails(table, np.rint(ecdf * count).astype(int)[None])[0]
    lower = binom.ppf(level / 2, count, expected) / count
    upper = binom.ppf(1 - level / 2, count, expected) / count
    p_value = (1 + (tails <= found).sum()) / (1 + len(tails))
    return Uniformity(points, ecdf, expected, lower, upper, prob, float(p_value))


def _tails(table: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Twice the smallest tail probability along each curve, shape ``(curve,)``."""
    at = np.arange(counts.shape[1])
    below, above = table[counts + 1, at], 1 - table[counts, at]
    return 2 * np.minimum(below, above).min(1)
