"""Distributions without a sampler, such as ``ImproperUniform``: stand-ins in traces, and refusals.

A trace of a kernel's structure needs some value at each site. Where its distribution cannot be
sampled, a value of its support stands in. A prediction refuses such a site, unless its value is
given.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Literal

import jax.numpy as jnp
from numpyro.distributions import Distribution
from numpyro.primitives import Messenger

from aimz_lab.errors import KernelError


class without_sampler(Messenger):
    """Effect handler for sites that have no value and whose distribution has no sampler.

    It goes around handlers that seed and substitute.

    Args:
        fn: The kernel.
        then: ``"stand_in"`` gives such a site a value of its support; ``"refuse"`` raises
            :class:`KernelError` with its name.
        output: Name of the output, for the message.
        unused: Sites whose own value nothing uses, since another is set: it is NaN.
    """

    def __init__(
        self,
        fn: Callable,
        then: Literal["stand_in", "refuse"],
        *,
        output: str | None = None,
        unused: Collection[str] = (),
    ) -> None:
        self._then, self._output, self._unused = then, output, unused
        super().__init__(fn)

    def process_message(self, msg: dict[str, Any]) -> None:
        """Draw the value here, where NumPyro would draw it next."""
        if msg["type"] != "sample" or msg["value"] is not None:
            return
        try:
            msg["value"], msg["intermediates"] = msg["fn"](
                *msg["args"], sample_intermediates=True, **msg["kwargs"]
            )
        except NotImplementedError as error:
            shape = msg["fn"].shape(msg["kwargs"].get("sample_shape", ()))
            if msg["name"] in self._unused:
                msg["value"] = jnp.full(shape, jnp.nan)
            elif self._then == "stand_in":
                msg["value"] = msg["fn"].support.feasible_like(jnp.zeros(shape))
            else:
                raise KernelError(self._refusal(msg["name"], msg["fn"])) from error

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
