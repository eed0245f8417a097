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


def as_of_other_draws(
    value: Float[np.ndarray, "action row"], parts: Float[np.ndarray, "action part row"]
) -> Float[np.ndarray, "part action row"]:
    """Return values moved by the errors of their means, one for each part of the draws."""
    moved = np.moveaxis(parts - parts.mean(1, keepdims=True), 1, 0)
    return value + moved / np.sqrt(len(moved))


def unsettled(
    value: Float[np.ndarray, "action row"],
    others: Float[np.ndarray, "part action row"],
    rounding: Float[np.ndarray, " row"],
    cost: Float[np.ndarray, "action row"] | float = 0.0,
    price: float = 0.0,
    prices: Float[np.ndarray, " part"] | float = 0.0,
) -> Bool[np.ndarray, " row"]:
    """Return the rows whose best two actions differ by less than two standard errors.

    The actions share their noise, so that the error is that of the mean of their difference. The
    price of a budget moves with the rows that decide it.

    Args:
        value: Expected utility of each action on each row.
        others: What other draws may say of it; see :func:`as_of_other_draws`.
        rounding: By how much rounding may change a difference.
        cost: The cost of each action on each row.
        price: The price of the budget.
        prices: What other draws may say of it.
    """
    rows, cost = np.arange(value.shape[1]), np.broadcast_to(cost, value.shape)
    first, second = np.argsort(price * cost - value, axis=0, kind="stable")[:2]
    extra = cost[first, rows] - cost[second, rows]
    margin = value[first, rows] - value[second, rows] - price * extra
    apart = others[:, first, rows] - others[:, second, rows]
    own, spread = apart.var(0, ddof=1), (apart - np.multiply.outer(prices, extra)).var(0, ddof=1)
    # No draw of a row has its rare outcome: its spread is then about that of the others.
    spread = np.where((own == 0) & (margin > rounding), own.mean() + spread, spread)
    # More draws would not settle a tie up to rounding.
    return 2 * np.sqrt(spread) > margin + rounding
