"""Omitted variables in a linear regression: robustness values; Cinelli and Hazlett (2020).

They hold for a coefficient of a linear model with normal errors, such as a posterior under weak
priors whose ``t`` is the mean over the standard deviation.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from aimz_lab.calls import public
from aimz_lab.data.options import real_number
from aimz_lab.errors import ArgumentError
from aimz_lab.types import shown


class Adjusted(NamedTuple):
    """A coefficient as if a confounder had been in the regression.

    Attributes:
        estimate: The coefficient.
        se: Its standard error.
        t: Their ratio.
    """

    estimate: float
    se: float
    t: float


@public
def partial_r2(t: float, dof: int) -> float:
    """Share of the outcome's residual variance that a coefficient explains.

    A confounder that explained all of the rest would have to explain as much of the treatment to
    bring the coefficient to 0.

    Args:
        t: The coefficient over its standard error.
        dof: Residual degrees of freedom.

    Raises:
        ArgumentError: If a number is not possible.

    Example:
        >>> round(partial_r2(4.184, 783), 4)
        0.0219
    """
    t, dof = _checked(t, dof)
    return t**2 / (t**2 + dof)


@public
def robustness_value(t: float, dof: int, *, q: float = 1.0, alpha: float | None = None) -> float:
    """Share of both variances that a confounder must explain to take an effect away.

    Args:
        t: The coefficient over its standard error.
        dof: Residual degrees of freedom.
        q: Share of the estimate to take away; 1 for all of it.
        alpha: If given, to make what is left insignificant at this level, instead.

    Returns:
        The partial R2 of the confounder with treatment and outcome, in [0, 1].

    Raises:
        ArgumentError: If a number is not possible.

    Example:
        >>> round(robustness_value(4.184, 783), 3)
        0.139
        >>> round(robustness_value(4.184, 783, alpha=0.05), 3)
        0.076
    """
    t, dof = _checked(t, dof)
    if not 0 < real_number(q) < math.inf:
        msg = f"q={shown(q)} is not allowed; use a positive share of the estimate."
        raise ArgumentError(msg)
    f = real_number(q) * abs(t) / math.sqrt(dof)
    if alpha is None:
        return _equal_strength(f)
    critical = _critical(alpha, dof)
    if f <= critical:
        return 0.0
    if critical > 0 and f > 1 / critical:  # the confounder's two shares cannot be equal
        return (f**2 - critical**2) / (1 + f**2)
    return _equal_strength(f - critical)


@public
def adjusted_for(
    estimate: float, se: float, dof: int, *, r2_treatment: float, r2_outcome: float
) -> Adjusted:
    """Coefficient after the most harmful confounder of a given strength.

    Args:
        estimate: The coefficient.
        se: Its standard error.
        dof: Residual degrees of freedom.
        r2_treatment: Share of the treatment's residual variance that the confounder explains.
        r2_outcome: Share of the outcome's residual variance, beside the treatment.

    Raises:
        ArgumentError: If a number is not possible.

    Example:
        >>> found = adjusted_for(0.0973, 0.0233, 783, r2_treatment=0.00916, r2_outcome=0.1246)
        >>> round(found.estimate, 3), round(found.t, 2)
        (0.075, 3.44)
    """
    if not 0 < real_number(se) < math.inf or not math.isfinite(real_number(estimate)):
        msg = f"estimate={shown(estimate)} and se={shown(se)} have to be finite, and se above 0."
        raise ArgumentError(msg)
    estimate, se = real_number(estimate), real_number(se)
    _, dof = _checked(estimate / se, dof)
    shares = {"r2_treatment": r2_treatment, "r2_outcome": r2_outcome}
    for name, value in shares.items():
        if not 0 <= real_number(value) < 1:
            msg = f"{name}={shown(value)} is not allowed; use a share from 0 to below 1."
            raise ArgumentError(msg)
    of_treatment, of_outcome = map(real_number, shares.values())
    bias = se * math.sqrt(dof * of_outcome * of_treatment / (1 - of_treatment))
    new_se = se * math.sqrt((1 - of_outcome) / (1 - of_treatment) * dof / (dof - 1))
    new = math.copysign(1, estimate) * (abs(estimate) - bias)
    return Adjusted(new, new_se, new / new_se)


def _equal_strength(f: float) -> float:
    return (math.sqrt(f**4 + 4 * f**2) - f**2) / 2


def _critical(alpha: float, dof: float) -> float:
    from scipy import stats

    if not 0 < real_number(alpha) < 1:
        msg = f"alpha={shown(alpha)} is not allowed; use a level in (0, 1)."
        raise ArgumentError(msg)
    return float(stats.t.ppf(1 - real_number(alpha) / 2, dof - 1)) / math.sqrt(dof - 1)


def _checked(t: float, dof: int) -> tuple[float, float]:
    if not math.isfinite(real_number(t)) or not 1 < real_number(dof) < math.inf:
        msg = (
            f"t={shown(t)} and dof={shown(dof)} are not allowed; use the coefficient over its "
            "standard error, and degrees of freedom above 1."
        )
        raise ArgumentError(msg)
    return real_number(t), real_number(dof)
