"""Who gets which action: the best one of each row, under a budget."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from aimz_lab.errors import DataError
from aimz_lab.number_text import number

_HALVINGS = 200

SLACK = 1e-9
"""Share of the budget that rounding may exceed it by: three times 0.1 are more than 0.3."""


class Allocation(NamedTuple):
    """An action for each row.

    Attributes:
        choice: Number of each row's action.
        spent: Sum of their costs.
        price: Utility of one more unit of the budget; 0 if it does not bind.
        gap: Most utility that any other choice within the budget could add.
        tied: Rows that missed a better action although they gain as much per cost as the last one
            that got it, up to rounding; the first rows got it.
    """

    choice: Int[np.ndarray, " row"]
    spent: float
    price: float
    gap: float
    tied: int


def allocate(
    utility: Float[np.ndarray, "action row"],
    cost: Float[np.ndarray, "action row"],
    budget: float | None,
    rounding: float | Float[np.ndarray, " row"] = 0.0,
) -> Allocation:
    """Choose an action for each row, so that their utilities add up to most within the budget.

    Without a binding budget each row gets its best action; of equal ones the cheapest. Under a
    budget this is the multiple-choice knapsack problem: rows choose at a common price of cost,
    found by bisection, and what is left of the budget goes to the best gains per cost (Dantzig,
    1957). It is exact if all costs are equal and whole actions fill the budget; else ``gap`` bounds
    what it misses. Actions whose utilities differ by less than rounding are as good as each other,
    so that rounding chooses no row.

    Args:
        utility: Expected utility of each action on each row, its cost subtracted.
        cost: Its cost.
        budget: Most that all costs may add up to; ``None`` for no limit.
        rounding: By how much rounding may change the difference of two utilities, of all rows or of
            each.

    Raises:
        DataError: If even the cheapest actions cost more.
    """
    rounding = np.broadcast_to(np.asarray(rounding, np.float64), utility.shape[1:])
    free = _at_price(utility, cost, 0.0, rounding)
    budget = None if budget is None else budget * (1 + SLACK)
    if budget is None or _spent(cost, free) <= budget:
        return Allocation(free, _spent(cost, free), 0.0, 0.0, 0)
    least = float(cost.min(0).sum())
    if least > budget:
        msg = (
            f"budget={number(budget, 6)} does not pay for the cheapest actions, which cost "
            f"{number(least, 6)}."
        )
        raise DataError(msg)
    price = _price(utility, cost, budget)
    choice = _at_price(utility, cost, price, rounding)
    choice, tied = _filled(utility, cost, budget, choice, price, rounding)
    value = utility - price * cost
    missed = value.max(0) - np.take_along_axis(value, choice[None], 0)[0]
    spent = _spent(cost, choice)
    gap = np.where(missed <= rounding, 0.0, missed).sum() + price * (budget - spent)
    return Allocation(choice, spent, price, max(0.0, float(gap)), tied)


def _at_price(
    utility: np.ndarray, cost: np.ndarray, price: float, rounding: float | np.ndarray = 0.0
) -> np.ndarray:
    """Each row's best action at a price of cost; of equal ones the cheapest."""
    value = utility - price * cost
    best = value >= value.max(0) - rounding
    return np.where(best, cost, np.inf).argmin(0)


def _spent(cost: np.ndarray, choice: np.ndarray) -> float:
    return float(np.take_along_axis(cost, choice[None], 0).sum())


def _price(utility: np.ndarray, cost: np.ndarray, budget: float) -> float:
    """The lowest price at which the rows' choices stay within the budget."""
    low, high = 0.0, 1.0
    while _spent(cost, _at_price(utility, cost, high)) > budget:
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if _spent(cost, _at_price(utility, cost, middle)) > budget:
            low = middle
        else:
            high = middle
    return high


def _filled(
    utility: np.ndarray,
    cost: np.ndarray,
    budget: float,
    choice: np.ndarray,
    price: float,
    rounding: np.ndarray,
) -> tuple[np.ndarray, int]:
    """Spend what is left on the rows that gain most per cost; count those that miss by a tie."""
    choice, left = choice.copy(), budget - _spent(cost, choice)
    gain = utility - np.take_along_axis(utility, choice[None], 0)
    extra = cost - np.take_along_axis(cost, choice[None], 0)
    actions, rows = np.nonzero((gain > rounding) & (extra > 0))
    needed = extra[actions, rows]
    rate, error = gain[actions, rows] / needed, rounding[rows] / needed
    # The common price is itself the rate of some row: rows around it are a tie, whichever it was.
    rate = np.where(np.abs(rate - price) <= error, price, rate)
    order = np.lexsort((rows, -rate))
    actions, rows, rate, error, needed = (
        each[order] for each in (actions, rows, rate, error, needed)
    )
    least_to_come = np.minimum.accumulate(needed[::-1])[::-1]
    changed: set[int] = set()
    first, end, last = 0, 0, slice(0, 0)
    while first < len(rows) and least_to_come[first] <= left:
        close = np.maximum(error[first], 1e-9 * rate[first])
        end = int(np.searchsorted(-rate, close - rate[first], side="right"))
        for i in first + np.argsort(rows[first:end], kind="stable"):
            if needed[i] <= left and int(rows[i]) not in changed:
                choice[rows[i]] = actions[i]
                left -= needed[i]
                changed.add(int(rows[i]))
                last = slice(first, end)
        first = end
    return choice, len(set(rows[last].tolist()) - changed)
