"""The report of an overlap: what is extrapolated, and whom the data can compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from aimz_lab.data.html import html_table
from aimz_lab.number_text import number
from aimz_lab.trust.report import Finding, Level, Report

if TYPE_CHECKING:
    import pandas as pd

FEW_OUTSIDE, FEW_EXTREME = 0.02, 0.1
"""Shares above which the overlap is bad: rows outside the trained ones, extreme propensities."""

_RARE = 0.05
"""How often chance may give what counts as no chance."""

_SENTENCES = {
    "green": "The data covers the scenario",
    "amber": "The data covers most of the scenario",
    "red": "The data does not cover the scenario",
}
_EXTRAPOLATED = (
    "Leave the rows of report.outside out (subset=), or collect data like them: their effects are "
    "extrapolated, and the kernel's form decides, not the data."
)
_NO_COUNTERPART = (
    "Restrict the effect to rows that have a counterpart (subset=), or read it as extrapolated."
)

_FEW_ROWS = "Pass fewer columns to judge the treatment: those that act on it and on the outcome."


class Propensities(NamedTuple):
    """Probabilities of the treatment given the other columns, and what they say.

    Attributes:
        score: One for each trained row, or for 50,000.
        extreme: Share of these outside of the limits.
        auc: How well the other columns tell treated from untreated rows.
        effective: Effective number of treated and of untreated rows over their number.
        by_chance: The most extreme share of shuffled treatments, if there are so few rows for the
            columns that these have some; else ``None``.
    """

    score: Float[np.ndarray, " row"]
    extreme: float
    auc: float
    effective: tuple[float, float]
    by_chance: float | None = None


class Overlap(Report):
    """How far a scenario goes beyond the trained rows, and treatment beyond chance.

    Made by :meth:`aimz_lab.ImpactModel.overlap`; like a trust report it is green, amber or red.

    Args:
        columns: A row for each column.
        outside: Which rows of the scenario are outside.
        scores: Propensities, if there is a treatment.
        changed: Names of the columns that differ.
        findings: What was found of the rows.

    Attributes:
        columns: For each column the trained range, the share of the scenario's rows outside of it
            (of a category: with a level that was not trained on), and the difference of means in
            trained standard deviations.
        outside: For each row of the scenario, whether one column is outside of its range, or all
            together are farther from the trained mean than any trained row (Mahalanobis). False for
            rows that ``TableSpec(missing="drop")`` leaves out.
        propensity: Of each trained row that was compared (or of 50,000), the probability of the
            treatment given its other columns; ``None`` without a treatment.
        extreme: Share of these outside of the limits; Crump et al. (2009).
        auc: How well the other columns tell treated from untreated rows: 0.5 not at all, 1 fully.
        effective: Effective number of treated and of untreated rows, weighted by the inverse
            propensity, over their number.
        changed: The columns in which the scenario differs from the trained rows.
    """

    def __init__(
        self,
        columns: pd.DataFrame,
        outside: Bool[np.ndarray, " row"],
        scores: Propensities | None,
        changed: tuple[str, ...],
        findings: Sequence[Finding],
    ) -> None:
        self.columns = columns
        self.outside = outside
        self.propensity = scores and scores.score
        self.extreme = scores and scores.extreme
        self.auc = scores and scores.auc
        self.effective = scores and scores.effective
        self.changed = changed
        of_treatment = [] if scores is None else [_of_treatment(scores)]
        super().__init__("Overlap", (*findings, *of_treatment), _SENTENCES)

    @property
    def text(self) -> str:
        """What was found, in a paragraph."""
        found = [f"{one.text[0].upper()}{one.text[1:]}." for one in self.findings]
        return " ".join([*found, *self.next_steps])

    def __str__(self) -> str:
        table = self.columns.to_string(float_format=number, na_rep="")
        return f"{super().__str__()}\n\n{table}"

    def _repr_html_(self) -> str:
        rows = [
            [str(name), *(_cell(value) for value in row)]
            for name, *row in self.columns.itertuples()
        ]
        return super()._repr_html_() + html_table("Columns", ["", *self.columns.columns], rows)


def _level(share: float, few: float) -> Level:
    return "green" if share <= few / 2 else "amber" if share <= few else "red"


def _cell(value: str | float) -> str:
    return value if isinstance(value, str) else "" if np.isnan(value) else number(value)


def rows_finding(
    columns: pd.DataFrame,
    outside: Bool[np.ndarray, " row"],
    together: float,
    alone: Bool[np.ndarray, " trained_row"] | None,
) -> Finding:
    """Judge how many rows of a scenario lie outside of the trained ones.

    Rows like the trained ones lie outside by chance, the more the fewer rows and the more columns
    there are: as often as a trained row lies outside of the others.

    Args:
        columns: The table of the columns.
        outside: Which rows of the scenario lie outside.
        together: Share of the rows that do so by no single column.
        alone: Which trained rows lie outside of the other ones; ``None`` if those of the scenario
            are the same rows with some columns changed, which no chance did.
    """
    share = float(outside.mean())
    text = f"{share:.1%} of the scenario's rows lie outside of the trained ones"
    worst = columns["outside"].idxmax()
    if columns.loc[worst, "outside"] > 0:
        text += f", most for {worst!r} ({columns.loc[worst, 'outside']:.1%})"
    if together > 0:
        text += f", {together:.1%} by how their columns go together rather than by one alone"
    level = _level(share, FEW_OUTSIDE)
    if level != "green" and alone is not None and _happens_by_chance(outside, alone):
        level = "green"
        text += (
            f"; rows like the trained ones would do so too, about {alone.mean():.1%} of them, as "
            f"there are {len(alone):,} rows for {len(columns):,} columns"
        )
    return Finding("rows", level, text, "" if level == "green" else _EXTRAPOLATED)


def _happens_by_chance(
    outside: Bool[np.ndarray, " row"], alone: Bool[np.ndarray, " trained_row"]
) -> bool:
    """Whether as many of rows like the trained ones would lie outside, 5 times of 100 at least."""
    from scipy.stats import betabinom

    count = int(alone.sum())
    if not count:
        return False
    # All rows are compared with the same ends, whose own share outside is a beta variable.
    chance = betabinom(len(outside), count, len(alone) + 1 - count)
    return float(chance.sf(outside.sum() - 1)) >= _RARE


def _of_treatment(scores: Propensities) -> Finding:
    treated, untreated = scores.effective
    text = (
        f"the other columns tell treated from untreated rows with an AUC of {scores.auc:.2f}; "
        f"{scores.extreme:.1%} of the propensities are extreme; weighted to be alike, the treated "
        f"rows count as {treated:.0%} of their number, the untreated as {untreated:.0%}"
    )
    level = _level(scores.extreme, FEW_EXTREME)
    if level != "green" and scores.by_chance is not None and scores.extreme <= scores.by_chance:
        text += (
            f", which says nothing: of shuffled treatments up to {scores.by_chance:.1%} are, as "
            f"there are few rows ({len(scores.score):,}) for the columns"
        )
        return Finding("treatment", "unjudged", text, _FEW_ROWS)
    return Finding("treatment", level, text, "" if level == "green" else _NO_COUNTERPART)
