"""What to do where a guide is not the posterior."""

from __future__ import annotations

from collections.abc import Callable

from numpyro.infer import init_to_median
from numpyro.infer.autoguide import (
    AutoBNAFNormal,
    AutoContinuous,
    AutoIAFNormal,
    AutoLaplaceApproximation,
    AutoMultivariateNormal,
    AutoNormal,
)

_CORRELATIONS = "AutoMultivariateNormal, which follows correlations"
_SHAPES = "AutoBNAFNormal, which follows other shapes too"


def richer_guides(guide: Callable) -> str:
    """Name guides that follow more of a posterior than one does; empty if there is none.

    Args:
        guide: The guide in use.

    Example:
        >>> richer_guides(AutoMultivariateNormal(lambda: None))
        'AutoBNAFNormal, which follows other shapes too'
    """
    if isinstance(guide, AutoBNAFNormal | AutoIAFNormal):
        return ""
    if isinstance(guide, AutoMultivariateNormal | AutoLaplaceApproximation):
        return _SHAPES
    return f"{_CORRELATIONS}, or {_SHAPES}"


def better_draws(
    guide: Callable, *, has_settled: bool, is_spent: bool = False, has_nuts: bool = False
) -> str:
    """Return the advice for a guide whose draws are not those of the posterior.

    Args:
        guide: The guide in use.
        has_settled: Whether its loss settled so long ago that more steps alone would not help.
        is_spent: Whether its learning rate has come to 0.
        has_nuts: Whether the report has a short NUTS run already.
    """
    longer = "train longer, with a falling learning rate"
    if is_spent:
        longer = "build the model anew and train it longer, with a schedule as long"
    ways = [] if has_settled else [longer]
    if richer := richer_guides(guide):
        ways.append(f"use a guide that follows more than yours: {richer}")
    if has_settled:
        ways += [] if is_spent else ["lower the learning rate"]
        if _may_begin_at_median(guide):
            name = type(guide).__name__
            ways.append(
                f"begin at the median of the prior: {name}(kernel, init_loc_fn="
                "numpyro.infer.init_to_median)"
            )
    if not has_nuts:
        ways.append("diagnose(..., refine='nuts')")
    text = "; or ".join(ways)
    return f"{text[0].upper()}{text[1:]}."


def _may_begin_at_median(guide: Callable) -> bool:
    if not isinstance(guide, AutoNormal | AutoContinuous):
        return False
    begins = guide.init_loc_fn
    return getattr(begins, "func", begins) is not init_to_median
