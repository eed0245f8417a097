"""Quantiles of draws, of which some may be infinite, and their errors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


def quantiles(
    values: Float[np.ndarray, ...], levels: Sequence[float], axis: int | None = None
) -> Float[np.ndarray, ...]:
    """Return quantiles; one between infinite draws is infinite, and not NaN.

    Args:
        values: The draws; a NaN among them makes the quantiles NaN.
        levels: Shares of the draws, from 0 to 1.
        axis: The axis of the draws; ``None`` for all values.

    Example:
        >>> quantiles(np.array([1.0, 2.0, np.inf, np.inf]), [0.0, 0.9]).tolist()
        [1.0, inf]
    """
    with np.errstate(invalid="ignore"):  # linear interpolation takes the difference of neighbours
        found = np.quantile(values, levels, axis=axis)
    if np.isnan(found).any():
        found = np.where(
            np.isnan(found), np.quantile(values, levels, axis=axis, method="inverted_cdf"), found
        )
    return found


def quantile_with_error(draws: Float[np.ndarray, "draw ..."], level: float) -> tuple[float, float]:
    """Return a quantile of all values, and its standard error with other draws.

    The values of one draw go together, so that the error is one between draws: that of the share
    below the quantile, read as a span of levels (Woodruff 1952).

    Args:
        draws: The draws, each of some values; those that are no numbers are left out.
        level: Share of the values below the quantile, from 0 to 1.

    Returns:
        Both NaN if no value is a number; an error may be infinite.

    Example:
        >>> quantile_with_error(np.arange(401.0), 0.5)
        (200.0, 10.0)
    """
    rows = draws.reshape(len(draws), -1)
    numbers = rows[~np.isnan(rows)]
    if not len(numbers):
        return math.nan, math.nan
    middle = float(quantiles(numbers, [level])[0])
    error = float(np.std(np.mean(rows <= middle, axis=1))) / math.sqrt(len(rows))
    span = [max(level - error, 0.0), min(level + error, 1.0)]
    low, high = map(float, quantiles(numbers, span))
    return middle, (high - low) / 2 if high > low else 0.0
