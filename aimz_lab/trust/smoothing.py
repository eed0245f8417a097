"""Pareto-smoothed importance sampling, finite for any log ratios."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from aimz_lab.errors import OptionalDependencyError
from aimz_lab.system.imports import late_import

LEAST_DRAWS = 100
"""Fewer draws have too short a tail for its shape to mean anything."""


def array_stats() -> Any:
    """Return arviz-stats' functions of arrays.

    Raises:
        OptionalDependencyError: If arviz-stats is missing.
    """
    try:
        return late_import("arviz_stats.base").array_stats
    except ImportError as error:
        msg = "Trust reports need arviz-stats: pip install 'aimz_lab[lab]'"
        raise OptionalDependencyError(msg) from error


def trusted_k(n_draws: int) -> float:
    """Return the k-hat up to which a smoothed mean is trusted; Vehtari et al. (2024), sec. 3.2.4.

    Args:
        n_draws: Number of draws; of a single one, no mean is trusted.

    Example:
        >>> round(trusted_k(1000), 3), trusted_k(10_000)
        (0.667, 0.7)
    """
    if n_draws < 2:
        return -np.inf
    return float(min(1 - 1 / np.log10(n_draws), 0.7))


@dataclass(frozen=True)
class Smoothed:
    """Smoothed importance weights.

    Attributes:
        weights: Weights that sum to 1, shape ``(draw,)``.
        k: Shape of the tail of the raw ratios, k-hat; ``inf`` if one draw outweighs all others so
            far that the tail has no shape.
    """

    weights: Float[np.ndarray, " draw"]
    k: float

    @property
    def ess(self) -> float:
        """Effective number of draws, ``1 / sum(w**2)``; Kong (1992)."""
        return float(1 / np.square(self.weights).sum())

    @property
    def k_error(self) -> float:
        """Standard error of k-hat: how far that of other draws would be, about.

        That of the shape of a generalised Pareto tail of as many ratios (Smith 1987), which is
        drawn towards 0.5 with the weight of ten ratios (Vehtari et al. 2024, appendix C).
        """
        n_draws = len(self.weights)
        n_tail = math.ceil(min(n_draws / 5, 3 * math.sqrt(n_draws)))
        return max(1 + self.k, 0.0) * math.sqrt(n_tail) / (n_tail + 10)

    @property
    def is_trusted(self) -> bool:
        """Whether means under these weights are to be trusted."""
        return self.k <= trusted_k(len(self.weights))


def smoothed(log_ratios: Float[np.ndarray, " draw"], r_eff: float = 1.0) -> Smoothed:
    """Smooth the largest importance ratios by a generalised Pareto tail.

    Vehtari, Simpson, Gelman, Yao and Gabry (2024), "Pareto smoothed importance sampling", by
    arviz-stats. In double precision and relative to the largest, so that any ratios give finite
    weights. A ratio that is NaN, or a tail without a shape, gives ``k = inf``.

    Args:
        log_ratios: Log of target over proposal at each draw, up to a constant; ``-inf`` where the
            target is 0.
        r_eff: Effective draws over draws.

    Returns:
        Weights and k-hat.
    """
    given = np.asarray(log_ratios, np.float64)
    usable = ~np.isnan(given) & (given < np.inf)
    if not (usable & (given > -np.inf)).any():
        return Smoothed(np.full(len(given), 1 / len(given)), np.inf)
    top = given[usable].max()
    # Below the smallest double, exp gives 0 in any case; arviz's arithmetic needs finite values.
    centred = np.where(usable, np.maximum(given - top, -1e4), -1e4)
    raw = np.exp(centred)
    raw /= raw.sum()
    if np.ptp(centred) < 1e-10:  # the proposal is the target
        return Smoothed(raw, -np.inf)
    try:
        with np.errstate(all="ignore"):
            log_weights, k = array_stats().psislw(-centred, r_eff=r_eff)
    except (ValueError, IndexError):  # no tail: its values are all the same, or too few
        return Smoothed(raw, np.inf)
    weights, k = np.exp(np.asarray(log_weights)), float(k)
    if not np.isfinite(k) or not np.isfinite(weights).all() or not usable.all():
        return Smoothed(raw, np.inf)
    return Smoothed(weights / weights.sum(), k)
