"""The report of placebos: whether a model finds effects where there can be none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float

from aimz_lab.data.html import html_table
from aimz_lab.number_text import number_beside, numbers_of_row
from aimz_lab.system.imports import late_import
from aimz_lab.trust.report import Finding, Level, Report, of_left_out

if TYPE_CHECKING:
    import pandas as pd

_SENTENCES = {
    "green": "The model finds no effect where there can be none",
    "amber": "The model may find effects where there can be none",
    "red": "The model finds effects where there can be none",
}
_NOT_TOLD = {"amber": "The real effect cannot be told from chance"}
"""Where that alone is amber, and the placebos are as they should be."""

_CONFOUNDED = (
    "A confounder is likely: adjust for what lies before treatment and outcome, and read "
    "effects.e_value and effects.tipping_points of the real effect."
)
_TOO_NARROW = (
    "Intervals are too narrow or the fit has not settled: read im.diagnose(X, y), and choose a "
    "likelihood with the right spread."
)
_RARE = 0.1
"""How often an effect of no treatment may count as told from chance."""

_MORE_SHUFFLES = "Shuffle 9 times or more (n=) to tell the real effect from chance."
_ALIKE = "Read the real effect as not told from chance; more rows would tell."


def chance_of(draws: Float[np.ndarray, " draw"]) -> float:
    """Return how often a true 0 would lie as far from the mean, of a normal posterior."""
    sd = float(np.std(draws))
    if sd == 0:
        return float(np.mean(draws) == 0)
    return math.erfc(abs(float(np.mean(draws))) / sd / math.sqrt(2))


class Placebo(Report):
    """Effects where there can be none, beside the real one.

    Made by :meth:`aimz_lab.ImpactModel.placebo`; like a trust report it is green, amber or red.

    Args:
        table: A row for each effect.
        kind: What the placebos are.
        chances: How often a true 0 would be as far from each effect's mean.
        prob: Share of the draws in the intervals.
        left_out: Which rows of a table were left out, as a phrase; empty for none.

    Attributes:
        table: The mean and the interval of the real effect and of each placebo.
        kind: ``"treatment"`` or ``"outcome"``.
        p: Share of all, the real one among them, whose mean is at least as far from 0 as the real
            one's; of placebo treatments, as a permutation test (Fisher, 1935). ``None`` for
            outcomes.
        covered: Share of the placebos whose interval holds 0.
        prob: Share of the draws in the intervals.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        kind: Literal["treatment", "outcome"],
        chances: Mapping[str, float],
        prob: float,
        left_out: str = "",
    ) -> None:
        sham = table.iloc[1:]
        self.table = table
        self.kind = kind
        self.prob = prob
        self.covered = float(((sham["hdi_low"] <= 0) & (sham["hdi_high"] >= 0)).mean())
        far = (table["mean"].abs() >= abs(table["mean"].iloc[0])).mean()
        self.p = float(far) if kind == "treatment" else None
        findings = [
            *of_left_out(left_out),
            _of_placebos(self, len(sham), [chances[name] for name in sham.index]),
        ]
        if self.p is not None:
            findings.append(_of_the_real(self.p, len(sham), table.iloc[0]))
        is_right = findings[0].level == "green"
        sentences = _SENTENCES | (_NOT_TOLD if is_right else {})
        super().__init__("Placebo", tuple(findings), sentences)

    @property
    def text(self) -> str:
        """What was found, in a paragraph."""
        found = [f"{one.text[0].upper()}{one.text[1:]}." for one in self.findings]
        return " ".join([*found, *self.next_steps])

    def __str__(self) -> str:
        cells = late_import("pandas").DataFrame(self._cells(), self.table.index, self.table.columns)
        return f"{super().__str__()}\n\n{cells.to_string()}"

    def _repr_html_(self) -> str:
        named = zip(self.table.index, self._cells(), strict=True)
        cells = [[str(name), *row] for name, row in named]
        header = [str(self.table.index.name or ""), *self.table.columns]
        return super()._repr_html_() + html_table("Effects", header, cells)

    def _cells(self) -> list[list[str]]:
        return [numbers_of_row(row) for row in self.table.to_dict("records")]


def _of_placebos(found: Placebo, n: int, chances: list[float]) -> Finding:
    """Judge outcomes one by one, with Bonferroni's correction; shuffles by how many miss 0."""
    if found.kind == "outcome":
        chance = min(1.0, n * min(chances))
    else:
        from scipy.stats import binom

        missed = round((1 - found.covered) * n)
        chance = float(binom.sf(missed - 1, n, 1 - found.prob))
    level: Level = "green" if chance >= 0.05 else "amber" if chance >= 0.01 else "red"
    text = (
        f"{found.covered:.0%} of the {n} placebo {found.kind}s have 0 in their {found.prob:.0%} "
        f"interval, and {found.prob:.0%} would be right (p = {chance:.2g})"
    )
    advice = _CONFOUNDED if found.kind == "outcome" else _TOO_NARROW
    return Finding(f"placebo {found.kind}s", level, text, "" if level == "green" else advice)


def _of_the_real(p: float, n: int, real: pd.Series) -> Finding:
    mean = number_beside(real["mean"], real["hdi_high"] - real["hdi_low"], 3)
    text = (
        f"{p:.0%} of all effects, the real one of {mean} among them, are at least as far from 0 as "
        "it"
    )
    least = 1 / (n + 1)
    if p > max(_RARE, least):
        return Finding("real effect", "amber", text, _ALIKE)
    if least > _RARE:
        text += f", which chance alone would do once in {n + 1} times"
        return Finding("real effect", "unjudged", text, _MORE_SHUFFLES)
    return Finding("real effect", "green", text)
