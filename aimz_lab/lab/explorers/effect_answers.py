"""Answer questions about an effect: its draws, their summary, the curve over an input."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aimz_lab.effects.measures import Contrast, Measure, name_of
from aimz_lab.effects.outcome_names import check_has_ratio, check_measured
from aimz_lab.effects.summaries import summarize_effect
from aimz_lab.effects.sweep import average_sites, contrast_averages
from aimz_lab.errors import AimzLabError
from aimz_lab.kernel.output_transform import TRANSFORM
from aimz_lab.lab.explorers.answered_effect import Answered, Curve, Effect
from aimz_lab.lab.explorers.charts import View
from aimz_lab.lab.explorers.effect_question import EffectOptions, EffectQuestion, curve_grid
from aimz_lab.lab.explorers.effect_view import effect_view
from aimz_lab.lab.explorers.moved_inputs import MovedInput
from aimz_lab.lab.explorers.scenario_averages import ScenarioAverages, Settings
from aimz_lab.predictive.drawn_sites import DRAWN, named_as_drawn
from aimz_lab.predictive.level_sites import LEVEL_ATTRS
from aimz_lab.system.lazy_modules import xr

if TYPE_CHECKING:
    from aimz_lab.effects.effect_summary import EffectSummary

_KEPT = ("output", "output_scale", "output_column", "output_event", TRANSFORM, DRAWN, *LEVEL_ATTRS)
"""Attributes of a prediction that say what its output is, and which sites are drawn by row."""

_FOLLOWED = (
    "The model has been trained since this panel was made, or its draws were set: the numbers are "
    "of its present posterior."
)

_FIRST_S, _NEXT_S = 0.5, 0.15
"""Seconds after which the rest of a curve waits for the next answer: of the first one, which opens
the explorer, and of the others, which follow a slider."""


@dataclass
class EffectAnswers:
    """Answers what the controls of an explorer of effects ask.

    The effect is answered at once; the curve grows from answer to answer.

    Attributes:
        averages: Computes the scenarios.
        options: What can be chosen.
        prob: Share of the draws in the intervals.
        go_on: Asks for the next answer, if one is not whole; ``None`` for the first one.
        is_whole: Whether the latest answer had its whole curve.
    """

    averages: ScenarioAverages
    options: EffectOptions
    prob: float
    go_on: Callable[[], None] | None = None
    is_whole: bool = True

    def __call__(self, values: Mapping[str, Any]) -> View:
        """Return what is shown for these values of the controls.

        Args:
            values: Value of each control.

        Raises:
            AimzLabError: If the effect cannot be computed for them.
        """
        until = time.monotonic() + (_FIRST_S if self.go_on is None else _NEXT_S)
        asked = self.options.question(values)
        self.averages.begin()
        effect = self._effect(asked, asked.baseline, asked.intervention)
        pinned = asked.pinned and self._effect(asked, *asked.pinned)
        curve = self._curve(asked, until)
        self.is_whole = curve is None or len(curve.values) == curve.n_values
        if not self.is_whole and self.go_on is not None:
            self.go_on()
        told = [
            *([_FOLLOWED] if self.averages.has_followed else []),
            *self.averages.warnings_of(asked.baseline, asked.intervention, *(asked.pinned or ())),
        ]
        names = list(self.options.inputs)
        return effect_view(
            Answered(asked, self.inputs, names, self.prob, effect, pinned, curve, told)
        )

    @property
    def inputs(self) -> Sequence[MovedInput]:
        """What scenarios set."""
        return list(self.options.inputs.values())

    def _effect(self, asked: EffectQuestion, before: Settings, after: Settings) -> Effect:
        """Return the effect of one scenario against another, and the averages under both."""
        groups = self.options.groups[asked.by]
        both = self.averages.pair(before, after, asked.by, groups, asked.contrast)
        averages = [self._site(each, asked.site) for each in both]
        draws = _contrasted(*averages, asked.contrast)
        return Effect(draws, self._summary(draws), averages[0], averages[1])

    def _site(self, averages: xr.Dataset, site: str) -> xr.Dataset:
        known = {name: averages.attrs[name] for name in _KEPT if name in averages.attrs}
        return average_sites(averages)[[site]].assign_attrs(known)

    def _summary(self, draws: xr.Dataset) -> EffectSummary:
        return summarize_effect(draws, self.prob, direction="greater")

    def _curve(self, asked: EffectQuestion, until: float) -> Curve | None:
        """Return the averages under the intervention over the values of one input.

        Beside the levels of a category stands the average with those that are observed.
        """
        if asked.curve is None:
            return None
        moved, groups = self.inputs[asked.curve], self.options.groups[asked.by]
        grid = [*([] if moved.is_number else [moved.kept]), *curve_grid(moved)]
        found: list[tuple[Any, xr.Dataset]] = []
        try:
            both = itertools.pairwise(map(asked.at, grid))
            anew = frozenset().union(*itertools.starmap(self.averages.drawn_anew, both))
            rest = asked.by, groups, asked.contrast, anew
            for value in grid:
                kept = self.averages.has(asked.at(value), asked.by, asked.contrast, anew)
                if kept or time.monotonic() <= until:
                    found.append((value, self.averages.of(asked.at(value), *rest)))
        except AimzLabError as error:
            return Curve([], xr.Dataset(), None, 0, str(error))
        if not found:
            return Curve([], xr.Dataset(), None, len(grid))
        values = [value for value, _ in found]
        sites = [self._site(each, asked.site) for _, each in found]
        joined = xr.concat(
            sites, dim=xr.DataArray(range(len(values)), dims="__value", name="__value"),
            coords="minimal", compat="override", join="override",
        )  # fmt: skip
        joined = joined.assign_attrs(contrast="average")
        before = self._site(self.averages.of(asked.baseline, *rest), asked.site)
        reach = [_reach(before, each, asked) for each in sites]
        known = [each for each in reach if each is not None]
        ends = (min(low for low, _ in known), max(high for _, high in known)) if known else None
        return Curve(values, summarize_effect(joined, self.prob), ends, len(grid))


def _contrasted(before: xr.Dataset, after: xr.Dataset, contrast: Contrast) -> xr.Dataset:
    for site in map(str, after):
        check_has_ratio(after, site, contrast)
    check_measured(after.attrs, after, contrast)
    found = contrast_averages(before, after, Measure(contrast))
    told = {"contrast": name_of(contrast), DRAWN: named_as_drawn(before.attrs, after.attrs)}
    return found.assign_attrs(after.attrs | told)


def _reach(
    before: xr.Dataset, after: xr.Dataset, asked: EffectQuestion
) -> tuple[float, float] | None:
    """Return the ends of an effect's draws; ``None`` where it is not defined."""
    try:
        draws = _contrasted(before, after, asked.contrast)[asked.site].values
    except AimzLabError:
        return None
    return (float(draws.min()), float(draws.max())) if np.isfinite(draws).all() else None
