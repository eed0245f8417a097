"""Sensitivity to a confounder that was not measured: E-values and tipping points."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aimz_lab.calls import public
from aimz_lab.data.html import html_paragraph
from aimz_lab.data.options import real_number
from aimz_lab.effects.outcome_names import warn_of_transform
from aimz_lab.effects.risk_ratios import (
    NONE,
    Measured,
    Tabulated,
    average_draws,
    check_draws,
    check_unused,
    checked_number,
    conversion,
    measure_of,
    measure_with_article,
)
from aimz_lab.effects.summaries import draws_of, hdi, site_of
from aimz_lab.errors import ArgumentError
from aimz_lab.number_text import number
from aimz_lab.system.imports import late_import
from aimz_lab.system.lazy_modules import xr
from aimz_lab.types import check_choice, shown

if TYPE_CHECKING:
    import pandas as pd


_OF_CONTRAST = {"ratio": "risk_ratio", "odds_ratio": "odds_ratio", "difference": "difference"}
_OF_TABLE = {"ratio": "risk_ratio", "difference": "difference"}
_STRENGTHS = (1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0)
_SHARES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.8)


@dataclass(frozen=True)
class EValue:
    """How strong a confounder must be to explain an effect away; VanderWeele and Ding (2017).

    Attributes:
        estimate: The risk ratio that it needs with both treatment and outcome, for the estimate.
        limit: The same for the end of the interval nearest to no effect; 1 if the interval has no
            effect within; ``None`` without an interval.
        risk_ratio: The effect as a risk ratio, converted if it was another measure.
        limits: The ends of the interval as risk ratios, or ``None``.
        true: The risk ratio that it is explained to; 1 for none.
        measure: What the effect was given as, such as ``"odds_ratio"``.
        effect: The effect in this measure.
    """

    estimate: float
    limit: float | None
    risk_ratio: float
    limits: tuple[float, float] | None
    true: float = 1.0
    measure: Measured = "risk_ratio"
    effect: float | None = None

    @property
    def text(self) -> str:
        """The value in a sentence."""
        aim = "no effect" if self.true == 1 else f"a risk ratio of {self.true:.2f}"
        said = (
            f"A confounder left out would have to be related to both treatment and outcome by risk "
            f"ratios of {self.estimate:.2f} each, beyond what is in the model, to explain the "
            f"effect ({self._called}) "
            f"{'away' if self.true == 1 else f'as {aim}'}"
        )
        if self.limit is None:
            return f"{said}."
        if self.limit == 1:
            return f"{said}; the interval holds {aim} as it is."
        return f"{said}, and by {self.limit:.2f} to move the interval to {aim}."

    @property
    def _called(self) -> str:
        """The effect by its own measure, and as the risk ratio that the value is of."""
        as_ratio = f"a risk ratio of {self.risk_ratio:.2f}"
        if self.effect is None or self.measure == "risk_ratio":
            return as_ratio
        effect = number(self.effect, 3)
        return f"{measure_with_article(self.measure)} of {effect}, which counts as {as_ratio}"

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return html_paragraph(self.text)


@public
def e_value(
    effect: float | xr.DataTree | xr.Dataset,
    low: float | None = None,
    high: float | None = None,
    *,
    measure: Measured | None = None,
    rare: bool | None = None,
    sd: float | None = None,
    se: float | None = None,
    true: float | None = None,
    site: str | None = None,
    prob: float = 0.94,
) -> EValue:
    """Return the E-value of an effect, from its numbers or its draws.

    An odds ratio of a common outcome counts as its square root, a hazard ratio of a common outcome
    as ``(1 - 0.5 ** sqrt(HR)) / (1 - 0.5 ** sqrt(1 / HR))``, and a difference of ``d`` standard
    deviations of the outcome as ``exp(0.91 d)``, with ``exp(0.91 d -+ 1.78 se)`` as its interval;
    VanderWeele and Ding (2017), VanderWeele (2017), Chinn (2000).

    Args:
        effect: A number; or an average effect of :meth:`~aimz_lab.ImpactModel.estimate_effect`,
            whose interval is that of its draws.
        low: Lower end of the interval of a number; the end nearest to no effect is needed.
        high: Upper end.
        measure: What the number is, ``"risk_ratio"`` by default; an effect knows it.
        rare: Of an odds or hazard ratio: whether the outcome is rare, below 15%.
        sd: Of a difference: the outcome's standard deviation, in its units.
        se: Of a difference given as a number, its standard error, in the same units.
        true: The effect to explain the estimate to; by default none.
        site: Of an effect with several sites, which.
        prob: Share of the draws in the interval of an effect.

    Raises:
        ArgumentError: If a number is not possible, or something that the measure needs is missing,
            or something is given that it has no use for.
        DataError: If a draw is no such ratio, or not finite.

    Warns:
        OutputWarning: If the effect's draws hold the noise of drawn outcomes; or ``sd`` has to be
            that of a function of the outcome, which the kernel observes.

    Example:
        >>> found = e_value(3.9, 1.8, 8.7)
        >>> round(found.estimate, 2), round(found.limit, 2)
        (7.26, 3.0)
    """
    if isinstance(effect, xr.DataTree | xr.Dataset):
        check_unused("the interval of draws is theirs", low=low, high=high, se=se)
        kind, draws = average_draws(effect, site)
        measure = measure_of(kind, measure, _OF_CONTRAST, "An E-value", Measured)
        check_draws(draws, measure)
        if sd is not None:
            warn_of_transform(draws_of(effect).attrs, site_of(draws_of(effect), site).name, "sd=")
        convert = conversion(measure, rare, sd)
        with np.errstate(over="ignore"):
            limits = tuple(map(float, hdi(convert(draws), prob)))
            own = float(draws.mean())
            estimate = float(convert(own))
    else:
        measure = check_choice("measure", "risk_ratio" if measure is None else measure, Measured)
        convert = conversion(measure, rare, sd)
        if measure != "difference":
            check_unused(
                f"{measure_with_article(measure)} has low= and high= for its interval", se=se
            )
        end = NONE[measure] if true is None else checked_number("true", true, measure)
        with np.errstate(over="ignore"):
            own = checked_number("effect", effect, measure)
            estimate, limits = _of_numbers(own, low, high, se, sd, measure, convert, end)
    aim = 1.0 if true is None else float(convert(checked_number("true", true, measure)))
    if not 0 < estimate < math.inf:
        msg = f"The effect is no finite risk ratio in units of sd={shown(sd)}; mend effect= or sd=."
        raise ArgumentError(msg)
    limit = _needed_by_limit(estimate, limits, aim)
    return EValue(_needed(estimate, aim), limit, estimate, limits, aim, measure, own)


@public
def tipping_points(
    effect: float | xr.DataTree | xr.Dataset,
    limit: float | None = None,
    *,
    measure: Tabulated | None = None,
    strengths: Sequence[float] | None = None,
    site: str | None = None,
    prob: float = 0.94,
) -> pd.DataFrame:
    """Return what else a confounder left out would need, for each strength of its tie to treatment.

    Of a risk ratio the strength is the risk ratio between confounder and treatment, and what is
    needed that between confounder and outcome; Ding and VanderWeele (2016). Of a difference the
    strength is the difference in the confounder's share between treated and untreated, and what is
    needed its effect on the outcome; VanderWeele and Arah (2011).

    Args:
        effect: A number, or an average effect as of :func:`e_value`.
        limit: The end of the interval nearest to no effect, of a number; beyond no effect, the
            interval holds it as it is, and nothing is needed.
        measure: ``"risk_ratio"`` or ``"difference"``; an effect knows it.
        strengths: The strengths to tabulate.
        site: Of an effect with several sites, which.
        prob: Share of the draws in the interval of an effect.

    Returns:
        For each strength what is needed to explain the estimate away, and the limit if there is
        one; infinite where no confounder of that strength can.

    Raises:
        ArgumentError: If a value is not possible for the measure, or not needed.
        DataError: If a draw is no such ratio, or not finite.

    Warns:
        OutputWarning: If the effect's draws hold the noise of drawn outcomes.

    Example:
        >>> tipping_points(3.9, 1.8, strengths=[4.0, 8.0]).round(2).to_numpy().tolist()
        [[117.0, 2.45], [6.66, 2.03]]
    """
    if isinstance(effect, xr.DataTree | xr.Dataset):
        check_unused("the interval of draws is theirs", limit=limit)
        kind, draws = average_draws(effect, site)
        measure = measure_of(kind, measure, _OF_TABLE, "A tipping point", Tabulated)
        check_draws(draws, measure)
        effect, (low, high) = float(draws.mean()), map(float, hdi(draws, prob))
        # The mean of skewed draws may lie outside of their interval.
        limit = min(low, effect) if effect > NONE[measure] else max(high, effect)
    measure = check_choice("measure", "risk_ratio" if measure is None else measure, Tabulated)
    is_ratio = measure == "risk_ratio"
    try:
        listed = (_STRENGTHS if is_ratio else _SHARES) if strengths is None else list(strengths)
    except TypeError:  # it is refused as a strength
        listed = [math.nan]
    values = np.array([real_number(one) for one in listed])
    allowed = values >= 1 if is_ratio else (values > 0) & (values <= 1)
    if not len(values) or not (allowed & np.isfinite(values)).all():
        what = "at least 1" if is_ratio else "above 0 and at most 1"
        named = measure_with_article(measure)
        msg = f"strengths={shown(strengths)} is not allowed; those of {named} are {what}."
        raise ArgumentError(msg)
    needed = _ratio_needed if is_ratio else _effect_needed
    effect = checked_number("effect", effect, measure)
    table = {"estimate": needed(effect, values)}
    if limit is not None:
        limit = _nearest(checked_number("limit", limit, measure), effect, NONE[measure])
        table["limit"] = needed(limit, values)
    pd = late_import("pandas")
    name = "confounder and treatment" if is_ratio else "difference in shares"
    return pd.DataFrame(table, index=pd.Index(values, name=name))


def _nearest(limit: float, effect: float, none: float) -> float:
    """Return the end of an interval nearest to no effect, or no effect if that lies within."""
    if abs(limit - none) > abs(effect - none) and (limit > none) == (effect > none):
        msg = (
            f"limit={limit:g} is farther from no effect ({none:g}) than the estimate {effect:g}; "
            "use the end of the interval that is nearest to no effect."
        )
        raise ArgumentError(msg)
    return limit if (limit > none) == (effect > none) else none


def _ratio_needed(ratio: float, strengths: np.ndarray) -> np.ndarray:
    ratio = max(ratio, 1 / ratio)
    with np.errstate(divide="ignore"):
        needed = ratio * (strengths - 1) / (strengths - ratio)
    return np.where(ratio == 1, 1.0, np.where(strengths > ratio, needed, np.inf))


def _effect_needed(difference: float, strengths: np.ndarray) -> np.ndarray:
    return difference / strengths


def _of_numbers(
    point: float,
    low: Any,
    high: Any,
    se: Any,
    sd: Any,
    measure: Measured,
    convert: Callable[[Any], Any],
    aim: float,
) -> tuple[float, tuple[float, float] | None]:
    """Return the estimate and the ends of the interval as risk ratios."""
    estimate = float(convert(point))
    if measure == "difference" and se is not None:
        if not 0 <= real_number(se) < math.inf:
            msg = f"se={shown(se)} is not allowed; use a standard error of at least 0."
            raise ArgumentError(msg)
        check_unused("se= says what the interval is", low=low, high=high)
        half = np.exp(1.78 * real_number(se) / real_number(sd))
        return estimate, (float(estimate / half), float(estimate * half))
    given = {"low": low, "high": high}
    ends = {n: checked_number(n, v, measure) for n, v in given.items() if v is not None}
    if not ends:
        return estimate, None
    if not ends.get("low", point) <= point <= ends.get("high", point):
        msg = f"The estimate {point} does not lie between low={low} and high={high}."
        raise ArgumentError(msg)
    near = "low" if point > aim else "high"
    if near not in ends and point != aim:
        msg = f"{near}= is missing: the end of the interval nearest to {aim:g} is what counts."
        raise ArgumentError(msg)
    far = {"low": 0.0, "high": math.inf}
    first, last = (float(convert(ends[n])) if n in ends else far[n] for n in far)
    return estimate, (first, last)


def _needed(ratio: float, aim: float) -> float:
    """The E-value for moving a risk ratio to another one; VanderWeele and Ding (2017), eq. 1."""
    factor = max(ratio / aim, aim / ratio)
    return factor + math.sqrt(factor * (factor - 1))


def _needed_by_limit(
    estimate: float, limits: tuple[float, float] | None, aim: float
) -> float | None:
    if limits is None:
        return None
    if limits[0] <= aim <= limits[1]:
        return 1.0
    return _needed(limits[0] if estimate > aim else limits[1], aim)
