"""What is asked of an effect by hand: two scenarios, groups, a site and a contrast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aimz_lab.effects.measures import Contrast
from aimz_lab.lab.explorers.moved_inputs import MovedInput, is_kept
from aimz_lab.lab.explorers.scenario_averages import Settings
from aimz_lab.lab.formatting import number

ALL_ROWS, NO_CURVE = "all rows", "none"


@dataclass(frozen=True)
class EffectQuestion:
    """What is asked of an effect.

    Attributes:
        baseline: The scenario to compare with.
        intervention: The other scenario.
        by: Name of the groups that it is averaged in.
        site: The site.
        contrast: The measure.
        curve: Place of the input that the curve is over; ``None`` for no curve.
        pinned: Baseline and intervention that were pinned, or ``None``.
    """

    baseline: Settings
    intervention: Settings
    by: str
    site: str
    contrast: Contrast
    curve: int | None
    pinned: tuple[Settings, Settings] | None

    def at(self, value: Any) -> Settings:
        """Return the intervention with another value of the curve's input."""
        moved = list(self.intervention)
        moved[self.curve or 0] = value
        return tuple(moved)


def described(inputs: Sequence[MovedInput], settings: Sequence[Any]) -> str:
    """Say what a scenario sets.

    Args:
        inputs: What can be set.
        settings: The scenario.

    Example:
        >>> described([], ())
        'as observed'
    """
    said = [
        f"{moved.name} = {value_text(value)}"
        for moved, value in zip(inputs, settings, strict=True)
        if not is_kept(value)
    ]
    return ", ".join(said) or "as observed"


def contrasted(inputs: Sequence[MovedInput], baseline: Settings, intervention: Settings) -> str:
    """Say what two scenarios set, input by input.

    Args:
        inputs: What can be set.
        baseline: The scenario to compare with.
        intervention: The other scenario.

    Example:
        >>> contrasted([], (), ())
        'as observed in both'
    """
    said = []
    for moved, before, after in zip(inputs, baseline, intervention, strict=True):
        if before == after and is_kept(before):
            continue
        against = "" if before == after else f" against {value_text(before)}"
        said.append(f"{moved.name} = {value_text(after)}{against}")
    return ", ".join(said) or "as observed in both"


def value_text(value: Any) -> str:
    """Write a value of an input.

    Args:
        value: A number, a flag or a level.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return number(value, 6) if is_number else str(value)


def curve_grid(moved: MovedInput, most: int = 9) -> list[Any]:
    """Return the values that the curve over an input sweeps, the ends among them.

    Args:
        moved: The input.
        most: How many at most.
    """
    values = moved.values
    if len(values) <= most or not moved.is_number:
        return values
    places = [round(i * (len(values) - 1) / (most - 1)) for i in range(most)]
    return [values[place] for place in places]


@dataclass(frozen=True)
class EffectOptions:
    """What an explorer of effects lets choose.

    Attributes:
        inputs: What scenarios set, by the name of the control.
        groups: ``by`` of ``estimate_effect`` by name.
        contrasts: Measures by name.
        sites: The sites, each with the names of the measures that can work for it.
        own: Name of the groups whose labels were given, and not named; empty if there are none.
    """

    inputs: Mapping[str, MovedInput]
    groups: Mapping[str, Any]
    contrasts: Mapping[str, Contrast]
    sites: Mapping[str, Sequence[str]]
    own: str = ""

    def question(self, values: Mapping[str, Any]) -> EffectQuestion:
        """Return what the values of the controls ask.

        Args:
            values: Value of each control; see ``explore_effect``.
        """
        names = list(self.inputs)
        pinned = values.get("pinned")
        curve = values["curve"]
        return EffectQuestion(
            *self._scenarios(values),
            values["by"],
            values["site"],
            self.contrasts[values["contrast"]],
            None if curve == NO_CURVE else names.index(curve),
            None if pinned is None else self._scenarios(pinned),
        )

    def _scenarios(self, values: Mapping[str, Any]) -> tuple[Settings, Settings]:
        before = tuple(values[baseline_of(name)] for name in self.inputs)
        return before, tuple(values[name] for name in self.inputs)


def baseline_of(name: str) -> str:
    """Return the name of the control of the baseline.

    Args:
        name: Name of the control of the intervention.
    """
    return f"{name}_baseline"
