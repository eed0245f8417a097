"""What to do where a guide is not the posterior."""

from __future__ import annotations

from collections.abc import Callable

from numpyro.infer.autoguide import (
    AutoBNAFNormal,
    AutoIAFNormal,
    AutoLaplaceApproximation,
    AutoMultivariateNormal,
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


def better_draws(guide: Callable, *, has_nuts: bool = False) -> str:
    """Return the advice for a guide whose draws are not those of the posterior.

    Args:
        guide: The guide in use.
        has_nuts: Whether the report has a short NUTS run already.
    """
    richer = richer_guides(guide)
    use = f"; or use a guide that follows more than yours: {richer}" if richer else ""
    nuts = "" if has_nuts else "; or diagnose(..., refine='nuts')"
    return f"Train longer, with a falling learning rate{use}{nuts}."
