"""Quantiles of draws, of which some may be infinite."""

from __future__ import annotations

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
