"""Take the masks off a distribution, list them, or join those of a site."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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


def mask_of(site: Mapping[str, Any]) -> jax.Array | None:
    """Return the mask of a site, in the shape of its value; ``None`` without one."""
    fn, found = site["fn"], None
    while fn is not None:
        if isinstance(fn, MaskedDistribution):
            mask = jnp.asarray(fn._mask)
            mask = jnp.expand_dims(mask, tuple(range(mask.ndim, mask.ndim + fn.event_dim)))
            found = mask if found is None else found & mask
        fn = getattr(fn, "base_dist", None)
    return None if found is None else jnp.broadcast_to(found, jnp.shape(site["value"]))
