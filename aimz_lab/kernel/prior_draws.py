"""Run a kernel whose priors may have no sampler, such as ``ImproperUniform``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from numpyro import handlers
from numpyro.distributions import Distribution, biject_to
from numpyro.primitives import Messenger


def seeded(kernel: Callable, key: jax.Array) -> Callable:
    """Return a kernel that draws its sites, and gives those without a sampler a feasible value.

    Args:
        kernel: A callable with NumPyro primitives.
        key: A random key.

    Returns:
        The kernel, under handlers. A latent site whose distribution cannot be sampled gets the
        image of 0 in its support: a value of the right shape and type, but no draw.
    """
    return _feasible_values(handlers.seed(kernel, key))


class _feasible_values(Messenger):
    """Give latent sites without a sampler a feasible value."""

    def process_message(self, msg: dict[str, Any]) -> None:
        """Give the site a value if its distribution cannot be sampled."""
        if msg["type"] != "sample" or msg["value"] is not None or can_be_sampled(msg["fn"]):
            return
        sample_shape = tuple(msg["kwargs"].get("sample_shape", ()))
        transform = biject_to(msg["fn"].support)
        shape = transform.inverse_shape(sample_shape + msg["fn"].shape())
        msg["value"] = transform(jnp.zeros(shape))


def can_be_sampled(distribution: Any) -> bool:
    """Whether a distribution has a sampler.

    Example:
        >>> import numpyro.distributions as dist
        >>> improper = dist.ImproperUniform(dist.constraints.real, (), ())
        >>> can_be_sampled(dist.Normal()), can_be_sampled(improper.expand([2]))
        (True, False)
    """
    base = distribution
    while hasattr(base, "base_dist"):
        base = base.base_dist
    if type(base).sample is Distribution.sample:
        return False
    if type(base).__module__.partition(".")[0] == "numpyro":
        return True
    try:  # a distribution of the user's
        jax.eval_shape(base.sample, jax.random.key(0))
    except NotImplementedError:
        return False
    except Exception:  # noqa: BLE001  drawing it raises the better error
        return True
    return True
