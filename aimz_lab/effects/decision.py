"""A decision as it is told: its table, its text, and the choice of each row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from aimz_lab.data.html import html_report
from aimz_lab.effects.allocation import SLACK, Allocation
from aimz_lab.effects.sentences import DRAWN_HERE, OF_RUNNING_FIT, WITHOUT_NOISE
from aimz_lab.effects.summaries import hdi
from aimz_lab.number_text import fixed, number, number_beside, numbers_alike, percentage
from aimz_lab.system.imports import late_import
from aimz_lab.system.lazy_modules import xr

if TYPE_CHECKING:
    import pandas as pd

_UTILITIES = ["utility", "hdi_low", "hdi_high"]

TARGETED = "targeted"
"""Name of the policy that gives each row an action of its own."""


@dataclass(frozen=True)
class Decision:
    """What to do: each action for all rows, against the best action for each row.

    Attributes:
        table: For each policy its expected utility per row, its interval, what it adds to that of
            the best action for all rows (``added``), and the sum of its costs; for each action the
            probability that it is the best one for all rows, and its expected regret per row, which
            is what knowing the truth would add. The ends of an interval that leaves out the mean
            are NaN. Under a budget, ``added`` is against the best of the actions for all rows that
            it pays for, if there is one.
        choice: The action of each row.
        gain: By how much its expected utility exceeds that of the first action, row by row. It
            is an upper estimate where noise decides (:attr:`unsettled`), unlike ``added``.
        utility: Draws of the utility per row of each policy: of its expectation given the
            parameters, or of drawn outcomes where :meth:`aimz_lab.ImpactModel.decide` says so.
            Those of ``"targeted"`` are, in each half of the draws, of the choice by the other half:
            draws that chose would promise more than there is. With fewer than 20 draws they are of
            :attr:`choice`, an upper estimate.
        budget: The budget, or ``None``.
        spent: Costs of :attr:`choice`.
        price: Utility of one more unit of the budget; 0 if it does not bind.
        gap: Most utility that another choice within the budget could add.
        tied: Rows that missed an action by a tie with the last one that got it. Gains that differ
            by less than rounding are ties, and the first rows get the action.
        unsettled: Rows that other draws might choose otherwise: their best two actions, at the
            price, differ by less than two standard errors of the mean over draws of their
            difference. ``None`` with fewer than 20 draws.
        fit_step: If a fit went on in the background, the step of the guide that the draws are from;
            else ``None``.
    """

    table: pd.DataFrame
    choice: xr.DataArray
    gain: xr.DataArray
    utility: xr.DataArray
    budget: float | None
    spent: float
    price: float
    gap: float
    tied: int
    unsettled: int | None
    fit_step: int | None
    _counts: dict[str, int] = field(repr=False)
    _of_drawn: bool = field(repr=False)
    _numbered: str = field(repr=False)

    @property
    def text(self) -> str:
        """The decision in a paragraph."""
        actions = self.table.drop(index=TARGETED)
        best = actions["added"].idxmax()  # of equal ones the first
        row = actions.loc[best]
        counts = ", ".join(f"{name} {count:,}" for name, count in self._counts.items())
        added = self.table.loc[TARGETED, "added"]
        compared, than, other = self._compared_with(actions, best)
        said = [
            f"Of one action for all rows, {best!r} has the highest expected utility, "
            f"{self._utility(best)} per row; it is the best of them with probability "
            f"{percentage(row['p_best'])}, and knowing the truth would add "
            f"{self._small(row['regret'], row['utility'])} per row"
            f"{self._beyond(row['cost'])}.",
            *compared,
            f"Choosing for each row ({counts}) is worth {self._small(abs(added), row['utility'])} "
            f"{'more' if added >= 0 else 'less'} per row than {than}"
            f"{self._chance_of(other, added)}{self._how_valued}.",
            *self._of_noise(),
        ]
        spent = "" if self.budget is None else f"The budget of {_amount(self.budget)}"
        if self.budget is not None and self.price == 0:
            said.append(f"{spent} does not bind: {_amount(self.spent)} is spent.")
        elif self.budget is not None and not self.spent:
            said.append(f"{spent} pays for none of the actions that would add something.")
        elif self.budget is not None:
            said += [
                f"{spent} binds: {_amount(self.spent)} is spent, and one more unit would add about "
                f"{number(self.price, 3)}.",
                self._best_within(len(self.choice) * row["utility"]),
            ]
        if self.tied:
            rows = "1 other row gains" if self.tied == 1 else f"{self.tied:,} other rows gain"
            said.append(
                f"{rows} as much per cost as the last one chosen: the order of the rows decided "
                "which of them get it."
            )
        if self._of_drawn:
            said.append(
                f"{DRAWN_HERE}: probabilities, regret and intervals hold the noise of single rows, "
                "and knowing the truth means knowing what is drawn. "
                f"{WITHOUT_NOISE}, with site='expected'."
            )
        if self._numbered:
            said.append(
                f"Utilities count {self._numbered} by these numbers, each step alike; pass a "
                "function as benefits= for what each level is worth."
            )
        if self.table["hdi_low"].isna().any():
            said.append("Where no interval is given, that of the draws leaves out their mean.")
        if self.fit_step is not None:
            said.append(f"Its draws are {OF_RUNNING_FIT.format(self.fit_step)}.")
        return " ".join(said)

    def _compared_with(self, actions: pd.DataFrame, best: str) -> tuple[list[str], str, str]:
        """Name the action for all rows that the choice for each row is compared with."""
        if self._is_paid(actions.loc[best, "cost"]):
            return [], "that", best
        paid = actions[[self._is_paid(cost) for cost in actions["cost"]]]
        if paid.empty:
            return ["The budget pays for no action for all rows."], f"{best!r} for all", best
        other = paid["added"].idxmax()
        said = (
            f"Of those that the budget pays for, it is {other!r}, {self._utility(other)} per row."
        )
        return [said], "that", other

    @property
    def _spreads(self) -> list[float]:
        """What the digits of utilities have to show: intervals, and how far actions are apart.

        What moves the utilities of all actions alike decides nothing between them, and may make
        their intervals far wider than the differences to the best action.
        """
        actions = self.table.drop(index=TARGETED)
        draws = self.utility.sel(policy=list(actions.index)).transpose("policy", "sample").values
        apart = draws - draws[int(np.argmax(actions["added"]))]
        differences = np.maximum(np.abs(apart.mean(1)), apart.std(1))
        widths = self.table["hdi_high"] - self.table["hdi_low"]
        return [float(one) for one in (*widths, *differences) if one > 0]

    def _utility(self, action: str) -> str:
        spread = min(self._spreads, default=math.nan)
        return number_beside(self.table.loc[action, "utility"], spread)

    def _chance_of(self, other: str, added: float) -> str:
        """Say in how many draws the choice for each row is worth more, or less, than an action."""
        gained = (self.utility.sel(policy=TARGETED) - self.utility.sel(policy=other)).values
        if self.unsettled is None or not gained.any():
            return ""
        side = gained > 0 if added >= 0 else gained < 0
        return f", with probability {percentage(float(side.mean()))}"

    def _is_paid(self, cost: float) -> bool:
        return self.budget is None or cost <= self.budget * (1 + SLACK)

    @property
    def _how_valued(self) -> str:
        if self.unsettled is not None:
            return ", as each half of the draws values what the other half chooses"
        return (
            f"; this is an upper estimate, as the same {self.utility.sizes['sample']} draws choose "
            "and value"
        )

    def _of_noise(self) -> list[str]:
        """Say how many rows the noise of the draws decides, and what to do."""
        if not self.unsettled:
            return []
        draws = self.utility.sizes["sample"]
        return [
            f"For {self.unsettled:,} of {self.choice.size:,} rows the noise of the {draws:,} draws "
            "decides: their actions differ by less than two standard errors. More draws would "
            "settle it."
        ]

    @staticmethod
    def _small(value: float, beside: float) -> str:
        """Write a value beside a larger one, of whose last digits it would say nothing."""
        return number(value, 3) if value > 1e-6 * abs(beside) else "nothing"

    def _best_within(self, total: float) -> str:
        """Say what another choice that the budget pays for could add."""
        by = ", by these draws" if self.unsettled else ""
        most = self._small(self.gap, total)
        if most == "nothing":
            return f"Within the budget no other choice is worth more{by}."
        return f"Within the budget no other choice is worth over {most} more in all{by}."

    def _beyond(self, cost: float) -> str:
        if self._is_paid(cost):
            return ""
        return f"; it costs {_amount(cost)} in all, which is beyond the budget"

    def __repr__(self) -> str:
        pd = late_import("pandas")
        header, *rows = self._cells()
        table = pd.DataFrame(rows, columns=header).set_index("policy").rename_axis(None)
        return f"{self.text}\n{table.to_string()}"

    def _repr_html_(self) -> str:
        header, *rows = self._cells()
        return html_report(self.text, ["", *header[1:]], rows)

    def _cells(self) -> list[list[str]]:
        """Return the table as text: utilities with equal decimals, shares as percentages."""
        utilities = self.table[_UTILITIES].to_numpy()
        known = ~np.isnan(utilities)
        alike = np.full(utilities.shape, "-", object)
        alike[known] = numbers_alike(utilities[known], self._spreads)
        columns = dict(zip(_UTILITIES, alike.T.tolist(), strict=True))
        for name in ("added", "regret"):
            known = self.table[name].dropna()
            written = dict(zip(known.index, numbers_alike(known.to_list()), strict=True))
            columns[name] = [written.get(policy, "-") for policy in self.table.index]
        columns["p_best"] = ["-" if np.isnan(p) else percentage(p) for p in self.table["p_best"]]
        columns["cost"] = [_amount(cost) for cost in self.table["cost"]]
        names = list(map(str, self.table.index))
        rows = zip(names, *(columns[name] for name in self.table.columns), strict=True)
        return [["policy", *self.table.columns], *map(list, rows)]


def _amount(value: float) -> str:
    """Write an amount of money: six digits, or thousands in groups with two decimals."""
    return number(value, 6) if abs(value) < 1000 else fixed(value, 2).removesuffix(".00")


def decision_of(
    names: Sequence[str],
    rows: xr.DataArray,
    utility: Float[np.ndarray, "action row"],
    cost: Float[np.ndarray, "action row"],
    draws: Float[np.ndarray, "policy draw"],
    found: Allocation,
    budget: float | None,
    prob: float,
    rounding: float,
    unsettled: int | None,
    fit_step: int | None,
    *,
    of_drawn: bool,
    numbered: str,
) -> Decision:
    """Return the decision, with the table of its policies.

    Args:
        names: Names of the actions.
        rows: An array with the dimension and the labels of the rows.
        utility: Expected utility of each action on each row, its cost subtracted.
        cost: Its cost.
        draws: Draws of the utility per row, of each action and of the targeted choice.
        found: The targeted choice.
        budget: The budget, or ``None``.
        prob: Share of the draws in the intervals.
        rounding: By how much rounding may change the difference of two utilities per row.
        unsettled: See :class:`Decision`.
        fit_step: Likewise.
        of_drawn: Whether the utilities are of drawn outcomes.
        numbered: The outcome with the numbers of its levels, if these stand for them; else empty.
    """
    pd = late_import("pandas")
    low, high = hdi(draws.T, prob).T
    uniform, expected, costs = draws[:-1], draws.mean(1), [*cost.sum(1), found.spent]
    slack = rounding + 1e-6 * np.maximum(np.abs(low), np.abs(high))
    leaves_out = (expected < low - slack) | (expected > high + slack)
    low[leaves_out] = high[leaves_out] = np.nan
    best = uniform.max(0)
    is_best = uniform >= best - rounding
    paid = np.asarray(costs[:-1]) <= (math.inf if budget is None else budget * (1 + SLACK))
    reference = expected[:-1][paid if paid.any() else slice(None)].max()
    added = expected - reference
    added[:-1][np.abs(added[:-1]) <= rounding] = 0.0
    # Actions that tie in a draw share it. The targeted policy is no rival of its own parts.
    p_best = [*(is_best / is_best.sum(0)).mean(1), np.nan]
    table = pd.DataFrame(
        {
            "utility": expected,
            "hdi_low": low,
            "hdi_high": high,
            "p_best": p_best,
            "regret": [*(best - uniform).mean(1), np.nan],
            "added": added,
            "cost": costs,
        },
        index=pd.Index([*names, TARGETED], name="policy"),
    )
    coords = {dim: rows.coords[dim] for dim in rows.dims if dim in rows.coords}
    labels = np.asarray(names)[found.choice]
    gained = np.take_along_axis(utility, found.choice[None], 0)[0] - utility[0]
    counts = {name: int((found.choice == i).sum()) for i, name in enumerate(names)}
    return Decision(
        table=table,
        choice=xr.DataArray(labels, dims=rows.dims, coords=coords, name="action"),
        gain=xr.DataArray(gained, dims=rows.dims, coords=coords, name="gain"),
        utility=xr.DataArray(
            draws, dims=("policy", "sample"), coords={"policy": table.index.to_numpy()}
        ),
        budget=budget,
        spent=found.spent,
        price=found.price,
        gap=found.gap,
        tied=found.tied,
        unsettled=unsettled,
        fit_step=fit_step,
        _counts=counts,
        _of_drawn=of_drawn,
        _numbered=numbered,
    )
