"""What an answer on an effect holds: the question, the effect, and the curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aimz_lab.effects.outcome_names import called, column_of
from aimz_lab.effects.sentences import noted_as_drawn
from aimz_lab.lab.explorers.effect_question import EffectQuestion, described
from aimz_lab.lab.explorers.moved_inputs import MovedInput, is_kept
from aimz_lab.predictive.level_sites import level_numbers
from aimz_lab.system.lazy_modules import xr
from aimz_lab.types import SAMPLE_DIMS

if TYPE_CHECKING:
    from aimz_lab.effects.effect_summary import EffectSummary


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

    def on_axis(self, site: str) -> str:
        """Return the same for an axis, which has no room for the numbers of levels."""
        has_numbers = level_numbers(self.draws.attrs, site)
        return column_of(self.draws, site) if has_numbers else self.called(site)

    def noted(self, site: str) -> str:
        """Return what is said beside an axis of it, if it holds the noise of drawn outcomes."""
        return noted_as_drawn(site, self.draws.attrs)


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

    @property
    def groups(self) -> list[str]:
        """Names of the dimensions of its groups; none for a single effect."""
        draws = self.effect.draws[self.asked.site]
        return [str(dim) for dim in draws.dims if dim not in SAMPLE_DIMS]

    def held(self, place: int) -> str:
        """Say what the intervention sets beside the input of the curve, by its number."""
        settings = [*self.asked.intervention]
        settings[place] = self.inputs[place].kept
        return "" if all(map(is_kept, settings)) else f": {described(self.inputs, settings)}"


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
