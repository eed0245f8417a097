"""Decisions: expected utility of actions, the chance that each is best, regret, whom to treat."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float

from aimz_lab.data import AxisLabels, row_labels
from aimz_lab.data.options import real_number
from aimz_lab.data.tables import is_table
from aimz_lab.effects.allocation import Allocation, allocate
from aimz_lab.effects.contrasts import PREDICTIVE_GROUPS, label_conflict
from aimz_lab.effects.decision import TARGETED, Decision, decision_of
from aimz_lab.effects.measures import traced
from aimz_lab.effects.monte_carlo import (
    FEWEST,
    PARTS,
    as_of_other_draws,
    crossed,
    half_means,
    unsettled,
)
from aimz_lab.effects.outcome_names import column_of
from aimz_lab.effects.row_groups import Inputs, RowGroups, agreeing_labels, numbers_by_row
from aimz_lab.effects.sentences import FIT_STEP
from aimz_lab.errors import ArgumentError, CallError, DataError
from aimz_lab.kernel.cache_keys import CodeKey
from aimz_lab.kernel.output_transform import TRANSFORM, why_not_itself
from aimz_lab.predictive.drawn_sites import named_as_drawn
from aimz_lab.predictive.level_sites import level_numbers, levels_of, why_no_mean
from aimz_lab.predictive.reducers import Mean
from aimz_lab.predictive.reducers.moments import PartMeans, Sd
from aimz_lab.predictive.reducers.row_means import RowTotals
from aimz_lab.system.lazy_modules import xr
from aimz_lab.types import shown

Benefits: TypeAlias = float | str | ArrayLike | Callable[[Any], Any]
Costs: TypeAlias = float | str | ArrayLike | Mapping[str, float | str | ArrayLike]
Compute: TypeAlias = "Callable[..., list[xr.DataTree]]"
"""Computes scenarios with one key: ``(calls, reduces, combine)``."""

_UNITS = 8
"""Units of the last digit by which means of draws may be off."""


def decide(
    compute: Compute,
    actions: Mapping[str, Mapping[str, Any]],
    benefits: Benefits,
    costs: Costs,
    budget: float | None,
    site: str,
    prob: float,
) -> Decision:
    """Compute the scenarios of the actions, and decide.

    Args:
        compute: Computes scenarios with one key.
        actions: Arguments of ``predict`` by action; the first is what is done now.
        benefits: Utility of a unit of the outcome, for all or for each row; or a function of it.
        costs: Cost on each row, by action, or of all but the first action.
        budget: Most that the costs may add up to, or ``None``.
        site: The outcome.
        prob: Share of the draws in the intervals.

    Raises:
        ArgumentError: If a value is not allowed, or the kernel observes a function of the outcome
            and benefits are no function.
        DataError: If costs or benefits do not fit the rows, or the budget is less than the cheapest
            actions cost.
    """
    names, inputs = list(actions), list(actions.values())
    if budget is not None and not 0 <= real_number(budget) < math.inf:
        msg = f"budget={shown(budget)} is not allowed; use a number of at least 0."
        raise ArgumentError(msg)
    own = benefits if callable(benefits) else None
    combine = None if own is None else Utility(own)
    per_unit = np.float64(1.0) if own is not None else _amounts("benefits", benefits, inputs)
    calls = [{**call, "return_sites": [site]} for call in inputs]
    listed = list(costs.values()) if isinstance(costs, Mapping) else [costs]
    labels = agreeing_labels({"benefits": [benefits], "costs": listed})
    # The mean of a function of the outcome is not that function of its mean.
    again = partial(compute, calls, combine=combine, expected=None if own else "means")
    given = [("benefits=", benefits), *(("costs=", one) for one in listed)]
    labelled = dict.fromkeys(name for name, value in given if row_labels(value) is not None)
    totals = _totals(per_unit, labels, " and ".join(labelled))
    reduce = {"total": totals, "mean": Mean(), "sd": Sd()}
    reduce["parts"] = PartMeans(PARTS)
    trees = again([reduce] * len(calls))
    groups = [_predictive(tree) for tree in trees]
    _check_outcome(site, names, groups)
    column, about = column_of(groups[0], site), groups[0].attrs
    if own is None and site == about.get("output"):
        _refuse_transform(site, about.get(TRANSFORM))
    if own is None and (why := why_no_mean(about, site, column)):
        raise ArgumentError(f"{why} {_of_worth(levels_of(about, site))}")
    rows = groups[0][f"{site}_mean"]
    kept = trees[0].encoding.get("kept_rows")
    cost = _costs(costs, names, inputs, rows.size, kept)
    per_unit = _of_kept(per_unit, kept, inputs)
    _check_length("benefits", per_unit, rows.size)
    means = np.stack([group[f"{site}_mean"].values for group in groups]).astype(np.float64)
    utility = per_unit * means - cost
    if not np.isfinite(utility).all():
        raise DataError("Some expected utilities are not finite; mend the benefits or the outcome.")
    rounding = np.abs(per_unit) * _rounding(groups, site)
    most = None if budget is None else real_number(budget)
    found = allocate(utility, cost, most, rounding)
    totals = [group[f"{site}_total"].values.ravel() for group in groups]
    n_draws = len(totals[0])
    halves, doubtful = [found, found], None
    if n_draws >= FEWEST:
        parts = per_unit * np.stack([group[f"{site}_parts"].values for group in groups])
        by_half = [each - cost for each in half_means(parts, n_draws)]
        halves = [allocate(each, cost, most, rounding) for each in by_half]
        others, prices = as_of_other_draws(utility, parts), np.zeros(PARTS)
        if found.price:
            prices[:] = [allocate(each, cost, most, rounding).price for each in others]
        by_noise = unsettled(utility, others, rounding, cost, found.price, prices)
        doubtful = int(by_noise.sum())
    of_drawn = site in named_as_drawn(*(group.attrs for group in groups))
    numbers = level_numbers(about, site)
    one, other = _draws_of(halves, again, per_unit, site, len(names))
    targeted = one if doubtful is None else crossed((one, other))
    draws = np.stack([*(t - c.sum() for t, c in zip(totals, cost, strict=True)), targeted])
    return decision_of(
        names, rows, utility, cost, draws / rows.size, found, budget, prob,
        float(np.mean(rounding)), doubtful, about.get(FIT_STEP), of_drawn=of_drawn,
        numbered="" if own or not numbers else f"{column} ({numbers})",
    )  # fmt: skip


def _check_outcome(site: str, names: Sequence[str], groups: Sequence[xr.Dataset]) -> None:
    """Refuse a site that is not one number a row, on the same rows, in the units of the outcome."""
    first, *others = groups
    if f"{site}_mean" not in first:
        msg = f"{site!r} has no rows; decide on an outcome, or on what is expected of it, by row."
        raise ArgumentError(msg)
    mean = first[f"{site}_mean"]
    for name, group in zip(names[1:], others, strict=True):
        _check_same_rows(names[0], mean, name, group[f"{site}_mean"])
    if mean.ndim != 1:
        msg = (
            f"{site!r} has the dimensions {mean.dims}; decide on an outcome with one number a row."
        )
        raise ArgumentError(msg)
    scale, output = first.attrs.get("output_scale"), first.attrs.get("output")
    if scale is not None and site != output:
        msg = (
            f"{site!r} is in the kernel's units, while {output!r} comes back in those of the "
            f"{scale}, which benefits and costs are in. Decide on {output!r}. For the kernel's "
            "units, pass output_scale='model' with each action: {'X': df, 'output_scale': 'model'}."
        )
        raise ArgumentError(msg)


def _refuse_transform(output: str, transform: str | None) -> None:
    """Refuse what a unit of the outcome is worth where the draws are of a function of it."""
    if transform:
        msg = (
            f"Utilities would be of {transform}, and not of {output}. "
            f"{why_not_itself(output, transform)} Or pass benefits= as a function that takes draws "
            "back, such as jax.numpy.exp for a log."
        )
        raise ArgumentError(msg)


def _of_worth(levels: Sequence[str]) -> str:
    worth = ", ".join(f"{number}.0" for number in range(min(len(levels), 3)))
    return (
        "A site of one probability a row can be decided on, by site='p'. Or say what each level is "
        "worth, in the order of their numbers: benefits=lambda level: "
        f"jax.numpy.array([{worth}{', ...' * (len(levels) > 3)}])[level]."
    )


def _draws_of(
    choices: Sequence[Allocation],
    compute: Callable[..., list[xr.DataTree]],
    per_unit: np.ndarray,
    site: str,
    n_actions: int,
) -> list[Float[np.ndarray, " draw"]]:
    """Return the draws of the utility of choices, all rows together, in one pass by action."""
    reduces = [
        {f"by_{k}": _totals(per_unit * (each.choice == i)) for k, each in enumerate(choices)}
        for i in range(n_actions)
    ]
    groups = [_predictive(tree) for tree in compute(reduces=reduces)]
    return [
        sum(group[f"{site}_by_{k}"].values.ravel() for group in groups) - each.spent
        for k, each in enumerate(choices)
    ]


def _rounding(groups: Sequence[xr.Dataset], site: str) -> Float[np.ndarray, " row"]:
    """Return by how much rounding may change the difference of two means of a row.

    Draws of their precision are rounded by half a unit of their last digit, and so are they where
    they are computed and where they are summed: some units in all.
    """
    means = np.stack([group[f"{site}_mean"].values for group in groups])
    spreads = np.stack([group[f"{site}_sd"].values for group in groups])
    # A single draw has no spread, and the squares of huge values none that is finite.
    size = np.abs(means) + np.where(np.isfinite(spreads), spreads, 0)
    return _UNITS * np.finfo(means.dtype).eps * size.max(0).astype(np.float64)


def _check_same_rows(name: str, one: xr.DataArray, other_name: str, other: xr.DataArray) -> None:
    """Refuse actions on different rows: each row gets one of them."""
    if one.shape != other.shape:
        msg = (
            f"The outcome has shape {one.shape} under {name!r} and {other.shape} under "
            f"{other_name!r}; every action needs the same rows."
        )
        raise DataError(msg)
    if (conflict := label_conflict(one, other)) is not None:
        _, row, label, other_label = conflict
        msg = (
            f"The actions label their rows differently: row {row} is {label} under {name!r} and "
            f"{other_label} under {other_name!r}. Align them by .loc[index], or by "
            ".set_axis(index) if they are the same rows as they stand."
        )
        raise DataError(msg)


def check_actions(actions: object) -> dict[str, dict[str, Any]]:
    """Return the arguments of each action.

    Raises:
        CallError: If this is no mapping of two or more actions, or one lacks the input.
        ArgumentError: If one has the name of the policy that gives each row its own.
    """
    if not isinstance(actions, Mapping) or len(actions) < 2:
        msg = (
            "actions= takes two or more actions by name, each a data frame or arguments of "
            "predict; the first is what is done now: {'none': {'X': X0}, 'all': {'X': X1}}."
        )
        raise CallError(msg)
    found = {}
    for name, given in actions.items():
        if name == TARGETED or not isinstance(name, str):
            msg = f"An action cannot be called {name!r}; use another text."
            raise ArgumentError(msg)
        given = {"X": given} if is_table(given) else given
        if not isinstance(given, Mapping) or "X" not in given:
            msg = f"The action {name!r} needs a data frame, or arguments of predict with 'X'."
            raise CallError(msg)
        for option in {"rng_key", "reduce", "store", "return_sites"} & set(given):
            msg = f"The action {name!r} has {option}=, which decide sets itself; leave it out."
            raise ArgumentError(msg)
        found[name] = dict(given)
    return found


class Utility:
    """Turns outcomes into utilities, within a compiled pass.

    Args:
        function: Takes and returns arrays of JAX.
    """

    def __init__(self, function: Callable) -> None:
        self.function, self._key = function, CodeKey(function)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Utility) and other._key == self._key

    def __hash__(self) -> int:
        return hash((Utility, self._key))

    def __call__(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the utility of each value.

        Raises:
            ArgumentError: If the function fails, or returns another shape.
        """
        return {name: traced("benefits=", self.function, value) for name, value in values.items()}


def _totals(amounts: np.ndarray, labels: AxisLabels | None = None, labelled: str = "") -> RowTotals:
    groups = RowGroups(labels=labels, given="benefits=", labelled=labelled)
    if amounts.ndim == 0:
        return RowTotals(groups, float(amounts))
    return RowTotals(replace(groups, weights=amounts))


def _predictive(tree: xr.DataTree) -> xr.Dataset:
    return next(tree[name].to_dataset() for name in PREDICTIVE_GROUPS if name in tree)


def _amounts(argument: str, given: object, inputs: Inputs) -> Float[np.ndarray, ...]:
    """Return a number, or one for each row."""
    number = real_number(given)
    values = np.float64(number)
    is_one = isinstance(given, (float, np.floating)) or getattr(given, "ndim", 1) == 0
    if is_one and math.isnan(number):
        msg = f"{argument}={shown(given)} is not allowed; use a number, or one for each row."
        raise ArgumentError(msg)
    if math.isnan(number):
        values = numbers_by_row(argument, given, inputs)
    if not np.isfinite(values).all():
        msg = f"{argument}= has values that are not finite."
        raise DataError(msg)
    return values


def _of_kept(amounts: np.ndarray, kept: np.ndarray | None, inputs: Inputs) -> np.ndarray:
    """Return the amounts of the rows that were kept, of those of a table with missing values."""
    if kept is None or not amounts.ndim or len(amounts) != len(inputs[0]["X"]):
        return amounts
    return amounts[kept]


def _costs(
    costs: Costs, names: Sequence[str], inputs: Inputs, n_rows: int, kept: np.ndarray | None
) -> np.ndarray:
    """Return the cost of each action on each row."""
    if not isinstance(costs, Mapping):
        costs = dict.fromkeys(names[1:], costs)
    unknown = [name for name in costs if name not in names]
    if unknown:
        msg = f"costs= names {unknown[0]!r}; the actions are {', '.join(map(repr, names))}."
        raise ArgumentError(msg)
    found = np.zeros((len(names), n_rows))
    for name, given in costs.items():
        amounts = _of_kept(_amounts("costs", given, inputs), kept, inputs)
        _check_length("costs", amounts, n_rows)
        if (amounts < 0).any():
            raise DataError(
                f"costs= of {name!r} are negative on some rows; use benefits= for gains."
            )
        found[names.index(name)] = amounts
    return found


def _check_length(argument: str, amounts: np.ndarray, n_rows: int) -> None:
    if amounts.ndim and len(amounts) != n_rows:
        raise DataError(f"{argument}= has {len(amounts):,} values; the data has {n_rows:,} rows.")
