"""Refuse sites whose distribution has no sampler, such as ``ImproperUniform``."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import jax.numpy as jnp
from numpyro.distributions import Distribution
from numpyro.primitives import Messenger

from aimz_lab.errors import NoSamplerError
from aimz_lab.kernel.prior_draws import can_be_sampled


class refuse_without_sampler(Messenger):
    """Effect handler that raises :class:`NoSamplerError` at sites that cannot be drawn.

    It goes around handlers that seed and substitute.

    Args:
        fn: The kernel.
        output: Name of the output, for the message.
        unused: Sites whose own value nothing uses, since another is set; their own becomes NaN.
    """

    def __init__(self, fn: Callable, output: str, unused: Collection[str] = ()) -> None:
        self._output, self._unused = output, unused
        super().__init__(fn)

    def process_message(self, msg: dict[str, Any]) -> None:
        """Refuse the message if it has no value and its distribution cannot be sampled."""
        if msg["type"] != "sample" or msg["value"] is not None or can_be_sampled(msg["fn"]):
            return
        if msg["name"] not in self._unused:
            raise NoSamplerError(self._refusal(msg["name"], msg["fn"]))
        msg["value"] = jnp.full(msg["fn"].shape(msg["kwargs"].get("sample_shape", ())), jnp.nan)

    def _refusal(self, name: str, distribution: Distribution) -> str:
        kind = _innermost(distribution)
        if name == self._output:
            return (
                f"The output {name!r} cannot be predicted: its distribution {kind} has no sampler. "
                "Give it a method sample(key, sample_shape) to predict; fit and log_likelihood "
                "work without."
            )
        return (
            f"The site {name!r} has no prior to draw from: its distribution {kind} has no sampler. "
            "Give the site a proper prior, draws of its posterior (fit, set_posterior_sample), or "
            "a value by intervention= or condition=."
        )


def _innermost(distribution: Distribution) -> str:
    """Name of the distribution without those that only expand, mask or transform it."""
    while isinstance(getattr(distribution, "base_dist", None), Distribution):
        distribution = distribution.base_dist
    return type(distribution).__name__
