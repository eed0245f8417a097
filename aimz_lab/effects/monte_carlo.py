"""Monte Carlo error of a choice: what other draws would choose, and what they say it is worth."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from aimz_lab.predictive.reducers.moments import part_ends

PARTS = 10
"""Parts of the draws whose means are compared; Flegal, Haran and Jones (2008), batch means."""

FEWEST = 2 * PARTS
"""Below so many draws their halves and parts say nothing."""


def half_means(parts: Float[np.ndarray, "action part row"], n_draws: int) -> tuple[np.ndarray, ...]:
    """Return the mean of each half of the draws, ``(action, row)`` each.

    Args:
        parts: Means of the parts, in the order of the draws.
        n_draws: Number of draws.
    """
    sizes = np.diff(part_ends(n_draws, parts.shape[1]))
    halves = slice(None, parts.shape[1] // 2), slice(parts.shape[1] // 2, None)
    return tuple(np.average(parts[:, half], axis=1, weights=sizes[half]) for half in halves)


def crossed(
    values: tuple[Float[np.ndarray, " draw"], Float[np.ndarray, " draw"]],
) -> Float[np.ndarray, " draw"]:
    """Return each half's draws of the policy that the other half chose.

    Args:
        values: Draws of the policy that the first half chose, and of that of the second.
    """
    by_first, by_second = values
    middle = part_ends(len(by_first), PARTS)[PARTS // 2]
    return np.concatenate([by_second[:middle], by_first[middle:]])


def unsettled(
    value: Float[np.ndarray, "action row"],
    parts: Float[np.ndarray, "action part row"],
    rounding: Float[np.ndarray, " row"],
) -> Bool[np.ndarray, " row"]:
    """Return the rows whose best two actions differ by less than two standard errors.

    The actions share their noise, so that the error is that of the mean of their difference.

    Args:
        value: Expected utility of each action on each row, at the price of the budget.
        parts: Expected utilities of the parts of the draws; the costs are the same in each.
        rounding: By how much rounding may change a difference.
    """
    rows = np.arange(value.shape[1])
    first, second = np.argsort(-value, axis=0, kind="stable")[:2]
    margin = value[first, rows] - value[second, rows]
    apart = parts[first, :, rows] - parts[second, :, rows]
    error = apart.std(1, ddof=1) / np.sqrt(parts.shape[1])
    # More draws would not settle a tie up to rounding.
    return 2 * error > margin + rounding
