"""Densities that are zero below and above the support of their distribution.

NumPyro's densities are whatever their formulas yield there: a ``Uniform`` is as dense outside as
inside, and a ``Categorical`` takes -1 for its last category.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from numpyro.distributions import Distribution, MaskedDistribution
from numpyro.distributions.constraints import boolean, independent


def log_prob_within(distribution: Distribution, value: ArrayLike) -> jax.Array:
    """Log density of a value; ``-inf`` where it lies below or above the support."""
    if isinstance(distribution, MaskedDistribution):
        density = log_prob_within(distribution.base_dist, value)
        return jnp.where(distribution._mask, density, 0.0)
    density = distribution.log_prob(value)
    low, high = bounds_of(distribution)
    if low is None and high is None:
        return density
    outside = jnp.zeros(jnp.shape(value), bool)
    if low is not None:
        outside |= value < low
    if high is not None:
        outside |= value > high
    events = tuple(range(-distribution.event_dim, 0))
    return jnp.where(outside.any(events), -jnp.inf, density)


def is_masked(distribution: Distribution) -> bool:
    """Whether a mask leaves entries out of the density."""
    while not isinstance(distribution, MaskedDistribution):
        distribution = getattr(distribution, "base_dist", None)
        if distribution is None:
            return False
    return True


def bounds_of(distribution: Distribution) -> tuple[ArrayLike | None, ArrayLike | None]:
    """The least and the greatest value, if each value of the support lies between two numbers."""
    try:
        support = distribution.support
    except NotImplementedError:  # a mixture of unlike components
        return None, None
    while isinstance(support, independent):
        support = support.base_constraint
    if support is boolean:
        return 0, 1
    if support is None or support.event_dim:
        return None, None
    return getattr(support, "lower_bound", None), getattr(support, "upper_bound", None)
