"""Censored distributions: which values of a site are bounds of what was not seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from numpyro import handlers
from numpyro.distributions import (
    Distribution,
    IntervalCensoredDistribution,
    LeftCensoredDistribution,
    RightCensoredDistribution,
)

from aimz_lab.kernel.prior_draws import seeded
from aimz_lab.kernel.tracing import Message, tracing_lock

LEFT, SEEN, RIGHT, INTERVAL = -1, 0, 1, 2
"""Whether a value is an upper bound, the value itself, a lower bound, or one end of an interval."""


def sides_of(site: Message) -> jax.Array | None:
    """Return for each entry of a site how it is censored; ``None`` if its distribution is not.

    Args:
        site: The site, with its distribution and its value.
    """
    fn, shape = site["fn"], jnp.shape(site["value"])
    while isinstance(fn, Distribution):
        if isinstance(fn, IntervalCensoredDistribution):
            return jnp.full(shape, INTERVAL, jnp.int8)
        if isinstance(fn, (LeftCensoredDistribution, RightCensoredDistribution)):
            side = RIGHT if isinstance(fn, RightCensoredDistribution) else LEFT
            return jnp.broadcast_to(jnp.where(fn.censored, side, SEEN).astype(jnp.int8), shape)
        fn = getattr(fn, "base_dist", None)
    return None


def is_censored(kernel: Callable, name: str, arguments: Mapping[str, Any], **static: Any) -> bool:
    """Whether the distribution of a site takes some of its values for bounds.

    Args:
        kernel: The kernel.
        name: Name of the site.
        arguments: The kernel's arrays by name.
        **static: Its other arguments.
    """

    def sides(key: jax.Array, given: Mapping[str, Any]) -> jax.Array | None:
        return sides_of(handlers.trace(seeded(kernel, key)).get_trace(**given, **static)[name])

    given = jax.random.key(0), dict(arguments)
    with tracing_lock:
        if jax.eval_shape(sides, *given) is None:
            return False
        return bool(jax.jit(sides)(*given).any())
