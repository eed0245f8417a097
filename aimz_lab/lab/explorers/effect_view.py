"""Show an effect that is explored by hand: its draws or groups, the curve, numbers and words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aimz_lab.effects.measures import NO_EFFECT, UNIT_WORDS, name_of
from aimz_lab.effects.outcome_names import called
from aimz_lab.effects.summaries import summarize_effect
from aimz_lab.lab.explorers.charts import (
    Area,
    Band,
    Bars,
    Chart,
    Handle,
    Layer,
    Line,
    Role,
    Rule,
    View,
)
from aimz_lab.lab.explorers.effect_question import (
    EffectQuestion,
    baseline_of,
    contrasted,
    described,
    value_text,
)
from aimz_lab.lab.explorers.moved_inputs import MovedInput, is_kept
from aimz_lab.lab.formatting import number
from aimz_lab.predictive.drawn_sites import named_as_drawn
from aimz_lab.progress import percentage
from aimz_lab.system.imports import late_import
from aimz_lab.system.lazy_modules import xr
from aimz_lab.types import SAMPLE_DIMS

if TYPE_CHECKING:
    import pandas as pd

    from aimz_lab.effects.effect_summary import EffectSummary

_MOST_BARS = 40
_MOST_LINES = 3
_FAR = 4.0  # times the width of an effect
_MOVES = 2.5  # times it, to hold the effect at other values of the curve too
_ROOM = 0.6  # of the distance of two levels, for the dots of groups beside each other
_LINES: tuple[Role, ...] = ("main", "second", "quiet")


@dataclass(frozen=True)
class Effect:
    """An effect of one site.

    Attributes:
        draws: Its draws, by site.
        summary: Their summary.
        before: Averages under the baseline.
        after: Averages under the intervention.
    """

    draws: xr.Dataset
    summary: EffectSummary
    before: xr.Dataset
    after: xr.Dataset

    def called(self, site: str) -> str:
        """Return the column that the site stands for, if it is the output of a table."""
        return called(self.draws, site)

    def noted(self, site: str) -> str:
        """Return what is said beside an axis of it, if it holds the noise of drawn outcomes."""
        return " (drawn outcomes)" * (site in named_as_drawn(self.draws.attrs))


@dataclass(frozen=True)
class Curve:
    """Averages over the values of one input.

    Attributes:
        values: The values that were computed.
        summary: Summary of the averages, along ``__value``.
        reach: Ends of all draws of the effects at these values.
        n_values: How many values it will have.
        problem: Why there is none.
    """

    values: Sequence[Any]
    summary: xr.Dataset
    reach: tuple[float, float] | None
    n_values: int
    problem: str = ""


@dataclass(frozen=True)
class Answered:
    """All that an answer shows.

    Attributes:
        asked: The question.
        inputs: What scenarios set.
        names: Names of their controls.
        prob: Share of the draws in the intervals.
        effect: The effect.
        pinned: That of the pinned scenario, or ``None``.
        curve: The curve, or ``None``.
        told: What was warned of.
    """

    asked: EffectQuestion
    inputs: Sequence[MovedInput]
    names: Sequence[str]
    prob: float
    effect: Effect
    pinned: Effect | None
    curve: Curve | None
    told: Sequence[str]


def effect_view(answer: Answered) -> View:
    """Return what is shown of an answer."""
    charts = [_effect_chart(answer)]
    if answer.curve is not None and answer.curve.values:
        charts.append(_curve_chart(answer, answer.curve))
    return View(charts, table=_table(answer), sentences=_sentences(answer))


def entries(draws: xr.DataArray) -> tuple[list[str], np.ndarray]:
    """Return a name for each entry of a site beside its draws, and its draws, ``(S, entry)``.

    Args:
        draws: Draws of the site.
    """
    rest = [dim for dim in draws.dims if dim not in SAMPLE_DIMS]
    values = draws.transpose(*SAMPLE_DIMS, *rest).values
    shape = values.shape[2:]
    labels = [
        draws.indexes[dim].tolist() if dim in draws.indexes else list(range(draws.sizes[dim]))
        for dim in rest
    ]
    names = [", ".join(str(labels[i][k]) for i, k in enumerate(at)) for at in np.ndindex(*shape)]
    return names, values.reshape(values.shape[0] * values.shape[1], -1)


def _effect_chart(answer: Answered) -> Chart:
    asked, site = answer.asked, answer.asked.site
    names, draws = entries(answer.effect.draws[site])
    called = answer.effect.called(site)
    unit = UNIT_WORDS.get(name_of(asked.contrast), "")
    x_label = f"effect on the average of {called}{unit}{answer.effect.noted(site)}"
    none = NO_EFFECT.get(name_of(asked.contrast))
    if len(names) > 1:
        return _groups_chart(answer, names, x_label, none)
    layers: list[Layer] = []
    if answer.pinned is not None:
        pinned = entries(answer.pinned.draws[site])[1][:, 0]
        layers += _density(pinned, None, "pinned", "pinned")
    summary = answer.effect.summary[site]
    low, high = (float(summary.sel(summary=f"hdi_{end}")) for end in ("low", "high"))
    layers += _density(draws[:, 0], (low, high), f"effect, {answer.prob:.0%} interval", "main")
    if none is not None:
        layers.append(Rule(none, label="no effect"))
    return Chart(
        layers,
        title=f"Effect on {called}: {_contrasted(answer)}",
        x_label=x_label,
        y_label="density",
        x_range=_x_range(answer, draws, none),
    )


def _contrasted(answer: Answered) -> str:
    return contrasted(answer.inputs, answer.asked.baseline, answer.asked.intervention)


def _density(
    draws: np.ndarray, interval: tuple[float, float] | None, label: str, role: Role
) -> list[Layer]:
    draws = draws[np.isfinite(draws)]
    if not len(draws) or np.ptp(draws) <= 1e-9 * max(abs(float(draws[0])), 1e-300):
        at = float(draws[0]) if len(draws) else 0.0
        return [Rule(at, label=label, role=role)] if len(draws) else []
    x, y, _ = late_import("arviz_stats.base").array_stats.kde(
        draws, bound_correction=False, extend=True
    )
    layers: list[Layer] = [Area(x, y, label=label, role=role)]
    if interval is not None:
        inside = (x >= interval[0]) & (x <= interval[1])
        layers.append(Band(x[inside], np.zeros(inside.sum()), y[inside], role=role))
    return layers


def _x_range(answer: Answered, draws: np.ndarray, none: float | None) -> tuple[float, float] | None:
    """Return ends that hold the effect at every value of the curve: moving it moves the picture.

    A curve that reaches far would squeeze the effect into a part of the axis; then its own ends are
    kept.
    """
    if answer.curve is None or answer.curve.reach is None or not np.isfinite(draws).all():
        return None
    found = [float(draws.min()), float(draws.max())]
    if answer.pinned is not None:
        kept = answer.pinned.draws[answer.asked.site].values
        found += [float(kept.min()), float(kept.max())] if np.isfinite(kept).all() else []
    own = _with_none(min(found), max(found), none)
    low, high = min(*own, *answer.curve.reach), max(*own, *answer.curve.reach)
    if high - low > _MOVES * (max(found) - min(found)):
        low, high = own
    room = 0.05 * (high - low)
    return (low - room, high + room) if room > 0 else None


def _with_none(low: float, high: float, none: float | None) -> tuple[float, float]:
    """Return ends that hold no effect too, where it is near."""
    both = (low, high) if none is None else (min(low, none), max(high, none))
    return both if both[1] - both[0] <= _FAR * (high - low) else (low, high)


def _groups_chart(answer: Answered, names: Sequence[str], label: str, none: float | None) -> Chart:
    site, shown = answer.asked.site, slice(0, _MOST_BARS)
    layers: list[Layer] = [] if none is None else [Rule(none, axis="y", label="no effect")]
    both: list[tuple[Effect, Role, str]] = [(answer.effect, "main", "effect")]
    if answer.pinned is not None:
        both.insert(0, (answer.pinned, "pinned", "pinned"))
    for i, (effect, role, text) in enumerate(both):
        summary = effect.summary[site].transpose("summary", ...).values
        mean, _, low, high = summary.reshape(len(summary), -1)[:4]
        layers.append(
            Bars(
                names[shown], mean[shown], low[shown], high[shown], _beside(i, len(both)),
                role=role, label=text,
            )
        )  # fmt: skip
    dims = [str(d) for d in answer.effect.draws[site].dims if d not in SAMPLE_DIMS]
    more = f", the first {_MOST_BARS} of {len(names):,}" if len(names) > _MOST_BARS else ""
    return Chart(
        layers,
        title=f"Effect on {answer.effect.called(site)} by {' and '.join(dims)}{more}: "
        f"{_contrasted(answer)}",
        x_label=", ".join(dims),
        y_label=label,
    )


def _curve_chart(answer: Answered, curve: Curve) -> Chart:
    """Draw the averages over one input, with the baseline's and a place to drag."""
    asked, site = answer.asked, answer.asked.site
    place = asked.curve or 0
    moved, name = answer.inputs[place], answer.names[place]
    summary = curve.summary[site].transpose("summary", "__value", ...)
    names = entries(answer.effect.after[site])[0]
    values = summary.values.reshape(len(summary), len(curve.values), -1)
    is_number = moved.is_number
    x = np.array([_place(moved, value) for value in curve.values])
    before = entries(answer.effect.before[site])[1].mean(0)
    layers: list[Layer] = []
    text = f"average, {answer.prob:.0%} interval"
    n_lines = min(values.shape[-1], len(_LINES))
    for i, role in enumerate(_LINES[:n_lines]):
        mean, _, low, high = values[:4, :, i]
        label = names[i] if len(names) > 1 else text
        if not is_number:  # there is nothing between two levels
            ends = np.stack([mean, low, high])
            layers.append(_levels(moved, x, ends, label, role, _beside(i, n_lines)))
        elif len(names) > 1:
            layers.append(Line(x, mean, label=label, role=role))
        else:
            layers += [Band(x, low, high), Line(x, mean, label=label)]
    if len(names) == 1:
        layers.append(Rule(float(before[0]), axis="y", label="baseline"))
    layers += _marks(answer, moved, place)
    more = f" (the first {_MOST_LINES} groups)" if len(names) > _MOST_LINES else ""
    called, held = answer.effect.called(site), _held(answer, place)
    interval = f", {answer.prob:.0%} interval" if len(names) > 1 and not is_number else ""
    return Chart(
        layers,
        title=f"Average of {called} over {moved.name}{more}{held}",
        x_label=moved.name,
        y_label=f"average of {called}{interval}{answer.effect.noted(site)}",
        x_names=() if is_number else list(map(str, moved.choices)),
        x_range=None if is_number else (-0.5, len(moved.choices) - 0.5),
        handles=_handles(answer, moved, name, place),
    )


def _held(answer: Answered, place: int) -> str:
    """Say what the intervention sets beside the input of the curve."""
    settings = [*answer.asked.intervention]
    settings[place] = answer.inputs[place].kept
    return "" if all(map(is_kept, settings)) else f": {described(answer.inputs, settings)}"


def _beside(number_: int, count: int) -> float:
    """Return how far right of a level the dots of one of several layers stand."""
    return _ROOM * (number_ - (count - 1) / 2) / count


def _levels(
    moved: MovedInput, x: np.ndarray, summary: np.ndarray, label: str, role: Role, beside: float
) -> Bars:
    """Return dots with intervals at the levels that were computed."""
    whole = np.full((3, len(moved.choices)), np.nan)
    whole[:, x.astype(int)] = summary
    return Bars(list(map(str, moved.choices)), *whole, beside, role=role, label=label)


def _marks(answer: Answered, moved: MovedInput, place: int) -> list[Layer]:
    """Return lines where the scenarios stand on the axis of the curve."""
    found: list[Layer] = []
    asked = answer.asked
    for settings, role, text in (
        (asked.pinned and asked.pinned[1], "pinned", "pinned"),
        (asked.intervention, "main", "intervention"),
    ):
        if settings is not None and not is_kept(settings[place]):
            found.append(Rule(_place(moved, settings[place]), label=text, role=role))
    return found


def _place(moved: MovedInput, value: Any) -> float:
    """Return where a value, or what is observed, stands on the axis of an input."""
    if not moved.is_number:
        return float(moved.choices.index(value))
    if not is_kept(value):
        return float(value)
    return float(moved.values[0] if moved.observed is None else moved.observed)


def _handles(answer: Answered, moved: MovedInput, name: str, place: int) -> list[Handle]:
    """Return a handle of each scenario, in the colour of its curve or line."""
    asked = answer.asked
    scenarios: list[tuple[str, Sequence[Any], str, Role]] = [
        (name, asked.intervention, "intervention", "main"),
        (baseline_of(name), asked.baseline, "baseline", "data"),
    ]
    return [
        Handle(
            control, _place(moved, settings[place]), moved.nearest, f"{moved.name}, {scenario}",
            mark=scenario, text=value_text(settings[place]), places=moved.places(), role=role,
        )
        for control, settings, scenario, role in scenarios
    ]  # fmt: skip


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
        means = [float(each[site].mean()) for each in (answer.effect.before, answer.effect.after)]
        said.append(
            f"The average of {answer.effect.called(site)} is {number(means[0])} under the baseline "
            f"and {number(means[1])} under the intervention."
        )
    if answer.pinned is not None and asked.pinned is not None:
        said += _pin_sentences(answer, answer.pinned)
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
    return [
        f"{said} The {what} now is {number(abs(mean))}{unit} {more} "
        f"({answer.prob:.0%} interval of the difference {number(low)} to {number(high)}), and "
        f"larger with probability {percentage(p)}."
    ]
