"""Show an effect that is explored by hand: charts, a table and sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aimz_lab.effects.measures import name_of
from aimz_lab.effects.summaries import summarize_effect
from aimz_lab.lab.explorers.answered_effect import Answered, Effect
from aimz_lab.lab.explorers.charts import View
from aimz_lab.lab.explorers.effect_charts import effect_charts, of_panels
from aimz_lab.lab.explorers.effect_question import described
from aimz_lab.lab.formatting import number_beside
from aimz_lab.number_text import percentage
from aimz_lab.system.imports import late_import
from aimz_lab.types import SAMPLE_DIMS

if TYPE_CHECKING:
    import pandas as pd

    from aimz_lab.effects.effect_summary import EffectSummary


def effect_view(answer: Answered) -> View:
    """Return what is shown of an answer."""
    return View(effect_charts(answer), table=_table(answer), sentences=_sentences(answer))


def _table(answer: Answered) -> pd.DataFrame:
    """Return the summary as ``summarize_effect`` gives it; with a pin, that and the difference."""
    table = answer.effect.summary.table()
    if answer.pinned is not None:
        pd = late_import("pandas")
        parts = {
            "now": table,
            "pinned": answer.pinned.summary.table(),
            "now - pinned": _against_pin(answer, answer.pinned).table(),
        }
        table = pd.concat(parts, names=["scenario"])
    return table.reset_index() if table.index.nlevels > 1 else table


def _against_pin(answer: Answered, pinned: Effect) -> EffectSummary:
    """Summarise the difference of the effects, draw by draw."""
    difference = answer.effect.draws - pinned.draws
    plain = difference.assign_attrs(contrast="difference")
    return summarize_effect(plain, answer.prob, direction="greater")


def _sentences(answer: Answered) -> list[str]:
    asked, site = answer.asked, answer.asked.site
    scenarios = [described(answer.inputs, each) for each in (asked.baseline, asked.intervention)]
    said = [f"Baseline: {scenarios[0]}. Intervention: {scenarios[1]}."]
    said.append(answer.effect.summary[site].attrs["text"])
    if answer.effect.draws[site].ndim == len(SAMPLE_DIMS):
        both = [each[site] for each in (answer.effect.before, answer.effect.after)]
        # The scenarios share the noise of their level: their difference is known far better.
        spread = float(answer.effect.summary[site].sel(summary="sd"))
        means = [number_beside(float(each.mean()), spread) for each in both]
        said.append(
            f"The average of {answer.effect.called(site)} is {means[0]} under the baseline "
            f"and {means[1]} under the intervention."
        )
    if answer.pinned is not None and asked.pinned is not None:
        said += _pin_sentences(answer, answer.pinned)
    said += of_panels(answer)
    if answer.curve is not None and answer.curve.problem:
        said.append(f"There is no curve: {answer.curve.problem}")
    elif answer.curve is not None and len(answer.curve.values) < answer.curve.n_values:
        said.append(
            f"The curve has {len(answer.curve.values)} of {answer.curve.n_values} values so far."
        )
    return [*said, *(f"Note: {text}" for text in answer.told)]


_PINNED_WORDS = {
    "percent": ("effect", " percentage points"),
    "ratio": ("ratio", ""),
    "odds_ratio": ("odds ratio", ""),
}
"""What changed since the pin, and its unit, where it is no difference in the outcome's unit."""


def _pin_sentences(answer: Answered, pinned: Effect) -> list[str]:
    before, after = answer.asked.pinned or ((), ())
    said = f"Pinned: {described(answer.inputs, after)}, against {described(answer.inputs, before)}."
    summary = _against_pin(answer, pinned)[answer.asked.site]
    if summary.ndim > 1:
        return [said]
    mean, low, high, p = (
        float(summary.sel(summary=each)) for each in ("mean", "hdi_low", "hdi_high", "p_greater")
    )
    what, unit = _PINNED_WORDS.get(name_of(answer.asked.contrast), ("effect", ""))
    more = "larger" if mean >= 0 else "smaller"
    size, *ends = (number_beside(one, high - low) for one in (abs(mean), low, high))
    return [
        f"{said} The {what} now is {size}{unit} {more} "
        f"({answer.prob:.0%} interval of the difference {' to '.join(ends)}), and "
        f"larger with probability {percentage(p)}."
    ]
