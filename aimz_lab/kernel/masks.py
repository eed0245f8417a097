"""Take the masks off a distribution, or list them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from numpyro.distributions import Distribution, MaskedDistribution


def unmasked(distribution: Distribution) -> Distribution:
    """The distribution without masks, under which it has no density, but draws all the same."""
    while isinstance(distribution, MaskedDistribution):
        distribution = distribution.base_dist
    return distribution


def masks_of(distribution: Distribution) -> list[jax.Array]:
    """The masks of a distribution, but for those that are one flag of Python."""
    found = []
    while isinstance(distribution, MaskedDistribution):
        if not isinstance(distribution._mask, bool):
            found.append(jnp.asarray(distribution._mask))
        distribution = distribution.base_dist
    return found
