"""Charts of an effect that is explored by hand: its draws or groups, and the curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from aimz_lab.effects.measures import NO_EFFECT, UNIT_WORDS, name_of
from aimz_lab.lab.explorers.answered_effect import Answered, Curve, Effect, entries
from aimz_lab.lab.explorers.charts import Area, Band, Bars, Chart, Handle, Layer, Line, Role, Rule
from aimz_lab.lab.explorers.effect_question import baseline_of, contrasted, value_text
from aimz_lab.lab.explorers.moved_inputs import MovedInput, is_kept
from aimz_lab.system.imports import late_import

_MOST_BARS = 40
_MOST_PANELS = 12  # of groups, beside each other, where they do not fit in one chart
_FAR = 4.0  # times the width of an effect
_MOVES = 2.5  # times it, to hold the effect at other values of the curve too
_ROOM_OF_PANELS = 0.05  # of the values, above and below them
_ROOM = 0.6  # of the distance of two levels, for the dots of groups beside each other
_LINES: tuple[Role, ...] = ("main", "second", "quiet")


def effect_charts(answer: Answered) -> list[Chart]:
    """Draw the effect, and the curve if there is one.

    Args:
        answer: The answer.
    """
    charts = [_effect_chart(answer)]
    if answer.curve is not None and answer.curve.values:
        charts += _curve_charts(answer, answer.curve)
    return charts


def _effect_chart(answer: Answered) -> Chart:
    asked, site = answer.asked, answer.asked.site
    names, draws = entries(answer.effect.draws[site])
    called = answer.effect.called(site)
    unit = UNIT_WORDS.get(name_of(asked.contrast), "")
    x_label = (
        f"effect on the average of {answer.effect.on_axis(site)}{unit}{answer.effect.noted(site)}"
    )
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
    dims = answer.groups
    more = f", the first {_MOST_BARS} of {len(names):,}" if len(names) > _MOST_BARS else ""
    return Chart(
        layers,
        title=f"Effect on {answer.effect.called(site)} by {' and '.join(dims)}{more}: "
        f"{_contrasted(answer)}",
        x_label=", ".join(dims),
        y_label=label,
    )


def _curve_charts(answer: Answered, curve: Curve) -> list[Chart]:
    """Draw the averages over one input, with the baseline's and places to drag.

    More groups than there are colours have a chart each, with one scale.
    """
    site = answer.asked.site
    summary = curve.summary[site].transpose("summary", "__value", ...).values
    mean, _, low, high = summary.reshape(len(summary), len(curve.values), -1)[:4]
    ends = np.stack([mean, low, high])
    names = entries(answer.effect.after[site])[0]
    if len(names) > len(_LINES):
        return _charts_of_groups(answer, curve, names, ends)
    return [_curve_chart(answer, curve, names, ends)]


def _curve_chart(answer: Answered, curve: Curve, names: Sequence[str], ends: np.ndarray) -> Chart:
    asked, site = answer.asked, answer.asked.site
    place = asked.curve or 0
    moved = answer.inputs[place]
    x = np.array([_place(moved, value) for value in curve.values])
    layers: list[Layer] = []
    text = f"average, {answer.prob:.0%} interval"
    for i, (name, role) in enumerate(zip(names, _LINES, strict=False)):
        label = name if len(names) > 1 else text
        if not moved.is_number:  # there is nothing between two levels
            beside = _beside(i, len(names))
            layers.append(_levels(moved, x, ends[:, :, i], label, role, beside))
        elif len(names) > 1:
            layers.append(Line(x, ends[0, :, i], label=label, role=role))
        else:
            layers += _with_band(x, ends[:, :, i], label)
    if len(names) == 1:
        before = float(entries(answer.effect.before[site])[1].mean())
        layers.append(Rule(before, axis="y", label="baseline"))
    called = answer.effect.called(site)
    interval = f", {answer.prob:.0%} interval" if len(names) > 1 and not moved.is_number else ""
    return Chart(
        layers + _marks(answer, moved, place),
        title=f"Average of {called} over {moved.name}{answer.held(place)}",
        x_label=moved.name,
        y_label=f"average of {answer.effect.on_axis(site)}{interval}{answer.effect.noted(site)}",
        handles=_handles(answer, moved, answer.names[place], place),
        **_axis_of(moved),
    )


def _charts_of_groups(
    answer: Answered, curve: Curve, names: Sequence[str], ends: np.ndarray
) -> list[Chart]:
    """Return a small chart for each of the first groups; the first names the handles of all."""
    asked, site = answer.asked, answer.asked.site
    place = asked.curve or 0
    moved, dims = answer.inputs[place], ", ".join(answer.groups)
    x = np.array([_place(moved, value) for value in curve.values])
    handles = _handles(answer, moved, answer.names[place], place)
    unnamed = [replace(handle, mark="") for handle in handles]
    marks = [replace(mark, label="") for mark in _marks(answer, moved, place)]
    shown = ends[:, :, :_MOST_PANELS]
    low, high = float(np.nanmin(shown)), float(np.nanmax(shown))
    room = _ROOM_OF_PANELS * (high - low) or 1.0
    charts = []
    for i, name in enumerate(names[:_MOST_PANELS]):
        own = ends[:, :, i]
        drawn = _with_band(x, own) if moved.is_number else [_levels(moved, x, own)]
        which = f" ({i + 1} of {len(names)})" if len(names) > _MOST_PANELS else ""
        charts.append(
            Chart(
                [*drawn, *marks],
                title=f"{dims} = {name}{which}",
                x_label=moved.name,
                y_label=f"average of {answer.effect.on_axis(site)}",
                size="small",
                y_range=(low - room, high + room),
                handles=unnamed if i else handles,
                **_axis_of(moved),
            )
        )
    return charts


def of_panels(answer: Answered) -> list[str]:
    """Say what the charts of groups show, if there are such.

    Args:
        answer: The answer.
    """
    site, place = answer.asked.site, answer.asked.curve
    n_groups = len(entries(answer.effect.after[site])[0])
    if place is None or answer.curve is None or not answer.curve.values or n_groups <= len(_LINES):
        return []
    which = (
        f"the first {_MOST_PANELS} of {n_groups:,}" if n_groups > _MOST_PANELS else f"{n_groups}"
    )
    return [
        f"The small charts show the average of {answer.effect.called(site)}"
        f"{answer.effect.noted(site)} over {answer.inputs[place].name} with its "
        f"{answer.prob:.0%} interval{answer.held(place)}, in {which} groups of "
        f"{', '.join(answer.groups)}, on one scale."
    ]


def _with_band(x: np.ndarray, ends: np.ndarray, label: str = "") -> list[Layer]:
    """Return means as a line, with the band of their intervals."""
    mean, low, high = ends
    return [Band(x, low, high), Line(x, mean, label=label)]


def _axis_of(moved: MovedInput) -> dict[str, Any]:
    """Return the names and the ends of the axis of an input that is no number."""
    if moved.is_number:
        return {}
    return {"x_names": _named_choices(moved), "x_range": (-0.5, len(moved.choices) - 0.5)}


def _named_choices(moved: MovedInput) -> list[str]:
    return list(map(value_text, moved.choices))


def _beside(number_: int, count: int) -> float:
    """Return how far right of a level the dots of one of several layers stand."""
    return _ROOM * (number_ - (count - 1) / 2) / count


def _levels(
    moved: MovedInput,
    x: np.ndarray,
    ends: np.ndarray,
    label: str = "",
    role: Role = "main",
    beside: float = 0.0,
) -> Bars:
    """Return dots with intervals at the levels that were computed."""
    whole = np.full((3, len(moved.choices)), np.nan)
    whole[:, x.astype(int)] = ends
    return Bars(_named_choices(moved), *whole, beside, role=role, label=label)


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
