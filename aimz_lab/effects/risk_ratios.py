"""Measures of an effect as sensitivity analyses take them: which it is, and what ratio it makes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from aimz_lab.data.options import check_flag, real_number
from aimz_lab.effects.measures import NO_EFFECT
from aimz_lab.effects.sentences import WITHOUT_NOISE
from aimz_lab.effects.summaries import draws_of, site_of
from aimz_lab.errors import ArgumentError, DataError, OutputWarning
from aimz_lab.predictive.drawn_sites import named_as_drawn
from aimz_lab.system.lazy_modules import xr
from aimz_lab.tracebacks import warn
from aimz_lab.types import SAMPLE_DIMS, check_choice, shown

Measured = Literal["risk_ratio", "odds_ratio", "hazard_ratio", "difference"]
Tabulated = Literal["risk_ratio", "difference"]

NONE = {"risk_ratio": 1.0, "odds_ratio": 1.0, "hazard_ratio": 1.0, "difference": 0.0}
"""The value of each measure without an effect."""


def measure_with_article(measure: str) -> str:
    """Return the name of a measure in words: ``"an odds ratio"``.

    Args:
        measure: The measure.
    """
    name = measure.replace("_", " ")
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def average_draws(effect: xr.DataTree | xr.Dataset, site: str | None) -> tuple[str, np.ndarray]:
    """Return the contrast and the draws of one average effect.

    Args:
        effect: The effect.
        site: Its site; ``None`` for the only one.

    Raises:
        ArgumentError: If there are several sites or entries, or no draws.

    Warns:
        OutputWarning: If they hold the noise of drawn outcomes.
    """
    found = draws_of(effect)
    draws = site_of(found, site)
    if set(draws.dims) != set(SAMPLE_DIMS):
        dims = ", ".join(map(str, draws.dims))
        msg = (
            f"{draws.name!r} has the dimensions {dims}; choose one entry, or average: "
            "im.estimate_effect(..., average=True)."
        )
        raise ArgumentError(msg)
    if draws.name in named_as_drawn(found.attrs):
        msg = (
            f"The interval of {draws.name!r} is one of drawn outcomes, or of values computed from "
            f"them, which hold the noise of single rows. {WITHOUT_NOISE}."
        )
        warn(msg, OutputWarning)
    values = np.asarray(draws.values, dtype=np.float64).ravel()
    return str(found.attrs.get("contrast", "difference")), values


def measure_of(
    kind: str, measure: object, known: Mapping[str, str], what: str, allowed: object
) -> Any:
    """Return the measure of an effect: its own, or for a contrast of the user's the one given.

    Args:
        kind: The contrast of the effect.
        measure: The measure that was given, or ``None``.
        known: Measures by contrast.
        what: What needs it, for messages.
        allowed: The measures that can be given.

    Raises:
        ArgumentError: If it is not known, or not that of the effect.
    """
    own = known.get(kind)
    if measure is None:
        if own is None:
            listed = ", ".join(known)
            msg = f"{what} needs one of {listed}; the effect is {kind!r}."
            raise ArgumentError(msg)
        return own
    measure = check_choice("measure", measure, allowed)
    if kind in (*NO_EFFECT, "average") and measure != own:
        msg = f"measure={measure!r} is not what the effect is: its contrast is {kind!r}."
        raise ArgumentError(msg)
    return measure


def check_draws(draws: np.ndarray, measure: str) -> None:
    """Raise :class:`DataError` if draws are not finite, or no ratios where they should be."""
    bad = ~np.isfinite(draws) | ((draws <= 0) & (measure != "difference"))
    if bad.any():
        what = (
            "finite"
            if measure == "difference"
            else f"above 0, as {measure_with_article(measure)} is"
        )
        msg = f"{bad.sum():,} of {bad.size:,} draws of the effect are not {what}."
        raise DataError(msg)


def check_unused(why: str, **given: object) -> None:
    """Raise :class:`ArgumentError` if an argument is given that would be ignored."""
    for name, value in given.items():
        if value is not None:
            raise ArgumentError(f"{name}={shown(value)} has no use here: {why}. Leave it out.")


def checked_number(name: str, value: Any, measure: str) -> float:
    """Return a value of a measure as a float.

    Args:
        name: Its argument, for messages.
        value: The value.
        measure: The measure.

    Raises:
        ArgumentError: If it is not finite, or a ratio not above 0.
    """
    number = real_number(value)
    if not math.isfinite(number) or (measure != "difference" and number <= 0):
        what = "number" if measure == "difference" else "number above 0"
        named = measure_with_article(measure)
        msg = f"{name}={shown(value)} is not allowed; use a {what}, as {named} is."
        raise ArgumentError(msg)
    return number


def conversion(measure: Measured, rare: bool | None, sd: float | None) -> Callable[[Any], Any]:
    """Return what makes risk ratios of values of a measure.

    Args:
        measure: The measure.
        rare: Of an odds or hazard ratio: whether the outcome is rare.
        sd: Of a difference: the standard deviation of the outcome.

    Raises:
        ArgumentError: If one is missing, or given for another measure.
    """
    named = measure_with_article(measure)
    if measure not in ("odds_ratio", "hazard_ratio"):
        check_unused(f"it is about an odds or hazard ratio, and this is {named}", rare=rare)
    if measure != "difference":
        check_unused(f"it is about a difference, and this is {named}", sd=sd)
    if measure in ("odds_ratio", "hazard_ratio"):
        if rare is None:
            msg = (
                f"An E-value of {named} depends on whether the outcome is rare (below 15%): pass "
                "rare=True or rare=False."
            )
            raise ArgumentError(msg)
        if check_flag("rare", rare):
            return lambda value: value
        return np.sqrt if measure == "odds_ratio" else _of_common_hazard
    if measure == "difference":
        if sd is None or not 0 < real_number(sd) < math.inf:
            msg = (
                f"sd={shown(sd)}: an E-value of a difference needs the standard deviation of the "
                "outcome, in its units; 1 if the difference is standardised."
            )
            raise ArgumentError(msg)
        return lambda value: np.exp(0.91 * value / real_number(sd))
    return lambda value: value


def _of_common_hazard(ratio: Any) -> Any:
    return (1 - 0.5 ** np.sqrt(ratio)) / (1 - 0.5 ** np.sqrt(1 / ratio))
