"""Distributions without a sampler, such as ``ImproperUniform``: stand-ins in traces, and refusals.

A trace of a kernel's structure needs some value at each site. Where its distribution cannot be
sampled, a value of its support stands in. A prediction refuses such a site, unless its value is
given.
"""

from __future__ import annotations

from collections.abc import Callable
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
    """

    def __init__(
        self, fn: Callable, then: Literal["stand_in", "refuse"], output: str | None = None
    ) -> None:
        self._then, self._output = then, output
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
            if self._then == "refuse":
                raise KernelError(self._refusal(msg["name"], msg["fn"])) from error
            sample_shape = msg["kwargs"].get("sample_shape", ())
            msg["value"] = _value_of_support(msg["fn"], sample_shape)

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


def _value_of_support(distribution: Distribution, sample_shape: tuple[int, ...]) -> Any:
    shape = distribution.shape(sample_shape)
    return distribution.support.feasible_like(jnp.zeros(shape))


def _innermost(distribution: Distribution) -> str:
    """Name of the distribution without those that only expand, mask or transform it."""
    while isinstance(getattr(distribution, "base_dist", None), Distribution):
        distribution = distribution.base_dist
    return type(distribution).__name__
