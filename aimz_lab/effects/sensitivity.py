"""Sensitivity to a confounder that was not measured: E-values and tipping points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr

from aimz_lab.calls import public
from aimz_lab.data.options import check_flag, real_number
from aimz_lab.effects.measures import NO_EFFECT
from aimz_lab.effects.summaries import draws_of, hdi, site_of
from aimz_lab.errors import ArgumentError
from aimz_lab.system.imports import late_import
from aimz_lab.types import SAMPLE_DIMS, check_choice, shown

if TYPE_CHECKING:
    import pandas as pd

Measured = Literal["risk_ratio", "odds_ratio", "hazard_ratio", "difference"]

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
    """

    estimate: float
    limit: float | None
    risk_ratio: float
    limits: tuple[float, float] | None

    @property
    def text(self) -> str:
        """The value in a sentence."""
        said = (
            f"A confounder left out would have to be related to both treatment and outcome by risk "
            f"ratios of {self.estimate:.2f} each, beyond what is in the model, to explain the "
            f"effect (a risk ratio of {self.risk_ratio:.2f}) away"
        )
        if self.limit is None:
            return f"{said}."
        return f"{said}, and by {self.limit:.2f} to move the interval to no effect."

    def __str__(self) -> str:
        return self.text


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
        low: Lower end of the interval of a number.
        high: Upper end.
        measure: What the number is, ``"risk_ratio"`` by default; an effect knows it.
        rare: Of an odds or hazard ratio: whether the outcome is rare, below 15%.
        sd: Of a difference: the outcome's standard deviation, in its units.
        se: Of a difference given as a number, its standard error, in the same units.
        true: The effect to explain the estimate to; by default none.
        site: Of an effect with several sites, which.
        prob: Share of the draws in the interval of an effect.

    Raises:
        ArgumentError: If a number is not possible, or something that the measure needs is missing.

    Example:
        >>> found = e_value(3.9, 1.8, 8.7)
        >>> round(found.estimate, 2), round(found.limit, 2)
        (7.26, 3.0)
    """
    if isinstance(effect, xr.DataTree | xr.Dataset):
        kind, draws = average_draws(effect, site)
        measure = measure or _OF_CONTRAST.get(kind)
        if measure is None:
            msg = (
                f"An E-value needs a ratio, an odds ratio or a difference; the effect is {kind!r}."
            )
            raise ArgumentError(msg)
        convert = _conversion(check_choice("measure", measure, Measured), rare, sd)
        values = np.sort(convert(draws))
        estimate = float(convert(draws.mean()))
        limits = tuple(map(float, hdi(values, prob)))
    else:
        measure = _measure(measure, Measured)
        convert = _conversion(measure, rare, sd)
        estimate, limits = _of_numbers(effect, low, high, se, sd, measure, convert)
    aim = 1.0 if true is None else float(convert(_number("true", true, measure)))
    point = _needed(estimate, aim)
    return EValue(point, _needed_by_limit(estimate, limits, aim), estimate, limits)


@public
def tipping_points(
    effect: float | xr.DataTree | xr.Dataset,
    limit: float | None = None,
    *,
    measure: Literal["risk_ratio", "difference"] | None = None,
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
        limit: The end of the interval nearest to no effect, of a number.
        measure: ``"risk_ratio"`` or ``"difference"``; an effect knows it.
        strengths: The strengths to tabulate.
        site: Of an effect with several sites, which.
        prob: Share of the draws in the interval of an effect.

    Returns:
        For each strength what is needed to explain the estimate away, and the limit if there is
        one; infinite where no confounder of that strength can.

    Raises:
        ArgumentError: If a value is not possible for the measure.

    Example:
        >>> tipping_points(3.9, 1.8, strengths=[4.0, 8.0]).round(2).to_numpy().tolist()
        [[117.0, 2.45], [6.66, 2.03]]
    """
    if isinstance(effect, xr.DataTree | xr.Dataset):
        kind, draws = average_draws(effect, site)
        measure = _OF_TABLE.get(kind) if measure is None else measure
        if measure is None:
            msg = f"A tipping point is of a ratio or a difference; the effect is {kind!r}."
            raise ArgumentError(msg)
        effect, (low, high) = float(draws.mean()), map(float, hdi(draws, prob))
        none = NO_EFFECT.get(kind, 0.0)
        limit = none if low <= none <= high else (low if effect > none else high)
    measure = _measure(measure, Literal["risk_ratio", "difference"])
    is_ratio = measure == "risk_ratio"
    try:
        listed = (_STRENGTHS if is_ratio else _SHARES) if strengths is None else list(strengths)
    except TypeError:  # it is refused as a strength
        listed = [math.nan]
    values = np.array([real_number(one) for one in listed])
    allowed = values >= 1 if is_ratio else (values > 0) & (values <= 1)
    if not len(values) or not (allowed & np.isfinite(values)).all():
        what = "at least 1" if is_ratio else "above 0 and at most 1"
        msg = f"strengths={shown(strengths)} is not allowed; those of a {measure} are {what}."
        raise ArgumentError(msg)
    needed = _ratio_needed if is_ratio else _effect_needed
    table = {"estimate": needed(_number("effect", effect, measure), values)}
    if limit is not None:
        table["limit"] = needed(_number("limit", limit, measure), values)
    pd = late_import("pandas")
    name = "confounder and treatment" if is_ratio else "difference in shares"
    return pd.DataFrame(table, index=pd.Index(values, name=name))


def _measure(measure: object, allowed: object) -> Any:
    return check_choice("measure", "risk_ratio" if measure is None else measure, allowed)


def _ratio_needed(ratio: float, strengths: np.ndarray) -> np.ndarray:
    ratio = max(ratio, 1 / ratio)
    with np.errstate(divide="ignore"):
        needed = ratio * (strengths - 1) / (strengths - ratio)
    return np.where(ratio == 1, 1.0, np.where(strengths > ratio, needed, np.inf))


def _effect_needed(difference: float, strengths: np.ndarray) -> np.ndarray:
    return difference / strengths


def average_draws(effect: xr.DataTree | xr.Dataset, site: str | None) -> tuple[str, np.ndarray]:
    """Return the contrast and the draws of one average effect.

    Args:
        effect: The effect.
        site: Its site; ``None`` for the only one.

    Raises:
        ArgumentError: If there are several sites or entries, or no draws.
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
    values = np.asarray(draws.values, dtype=np.float64).ravel()
    return str(found.attrs.get("contrast", "difference")), values


def _conversion(measure: Measured, rare: bool | None, sd: float | None) -> Any:
    """Return what makes risk ratios of values of the measure."""
    if measure in ("odds_ratio", "hazard_ratio"):
        if rare is None:
            msg = (
                f"An E-value of a {measure.replace('_', ' ')} depends on whether the outcome is "
                "rare (below 15%): pass rare=True or rare=False."
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


def _of_numbers(
    effect: Any, low: Any, high: Any, se: Any, sd: Any, measure: Measured, convert: Any
) -> tuple[float, tuple[float, float] | None]:
    """Return the estimate and the ends of the interval as risk ratios."""
    point = _number("effect", effect, measure)
    estimate = float(convert(point))
    if measure == "difference" and se is not None:
        if not 0 <= real_number(se) < math.inf:
            msg = f"se={shown(se)} is not allowed; use a standard error of at least 0."
            raise ArgumentError(msg)
        half = 1.78 * real_number(se) / real_number(sd)
        return estimate, (estimate * math.exp(-half), estimate * math.exp(half))
    given = {"low": low, "high": high}
    ends = {n: _number(n, v, measure) for n, v in given.items() if v is not None}
    if not ends:
        return estimate, None
    if not ends.get("low", point) <= point <= ends.get("high", point):
        msg = f"The estimate {point} does not lie between low={low} and high={high}."
        raise ArgumentError(msg)
    far = {"low": 0.0, "high": math.inf}
    first, last = (float(convert(ends[n])) if n in ends else far[n] for n in far)
    return estimate, (first, last)


def _number(name: str, value: Any, measure: str) -> float:
    number = real_number(value)
    if not math.isfinite(number) or (measure != "difference" and number <= 0):
        what = "number" if measure == "difference" else "number above 0"
        msg = f"{name}={shown(value)} is not allowed; use a {what}, as a {measure} is."
        raise ArgumentError(msg)
    return number


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
