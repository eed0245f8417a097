"""Whether the log density of observed values depends on their unit."""

from __future__ import annotations

from numpyro.distributions import Delta, Distribution, ImproperUniform, MaskedDistribution, Unit
from numpyro.distributions.censored import (
    IntervalCensoredDistribution,
    LeftCensoredDistribution,
    RightCensoredDistribution,
)
from numpyro.distributions.constraints import independent
from numpyro.distributions.discrete import HurdleLogits, HurdleProbs

from aimz_lab.kernel.spec import DensityKind

_IN_PART = (
    Delta,
    HurdleLogits,
    HurdleProbs,
    ImproperUniform,
    IntervalCensoredDistribution,
    LeftCensoredDistribution,
    MaskedDistribution,
    RightCensoredDistribution,
    Unit,
)
"""Distributions with a density of some values alone: others have a probability, or nothing."""


def density_kind(fn: Distribution) -> DensityKind | None:
    """Return what the distribution of an observed site has of a value.

    Args:
        fn: The distribution.

    Returns:
        ``"density"`` of NumPyro's continuous distributions over all numbers of an interval,
        ``"mass"`` of discrete ones, ``"censored"`` of continuous ones that take some values for
        bounds; ``None`` where it may be both, or is not known.
    """
    if fn.support.is_discrete:
        return "mass"
    # The entries of an event on a surface, such as a simplex, have no unit each.
    is_flat = not fn.event_dim or isinstance(fn.support, independent)
    if isinstance(fn, (LeftCensoredDistribution, RightCensoredDistribution)):
        return "censored" if is_flat and _is_continuous(fn.base_dist) else None
    return "density" if is_flat and _is_continuous(fn) else None


def _is_continuous(fn: Distribution) -> bool:
    """Whether it and all that it is made of are continuous distributions of NumPyro."""
    if isinstance(fn, _IN_PART) or not type(fn).__module__.startswith("numpyro.distributions."):
        return False
    parts = [getattr(fn, name, None) for name in ("base_dist", "component_distribution")]
    parts += getattr(fn, "component_distributions", [])
    return all(_is_continuous(one) for one in parts if one is not None)
