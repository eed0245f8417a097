"""Refuse flat priors whose bounds follow from other sites."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
from numpyro import handlers

from aimz_lab.errors import KernelError
from aimz_lab.kernel.arguments import KernelArguments
from aimz_lab.kernel.prior_draws import seeded
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.kernel.tracing import tracing_lock


def check_supports(kernel: Callable, spec: KernelSpec, batch: KernelArguments) -> None:
    """Check that no ``ImproperUniform`` has a support that other sites move.

    NumPyro maps the values of such a site to the real line once, with the support that it has when
    the inference is set up, and so draws from another posterior.

    Args:
        kernel: A function with NumPyro primitives.
        spec: Its structure.
        batch: Arguments of one batch.

    Raises:
        KernelError: If a support is another one for other values of the sites before.
    """
    names = [name for name in spec.latent_sites if spec.sites[name].support_is_computed]
    if not names:
        return

    def supports(key: jax.Array) -> dict[str, list[jax.Array]]:
        with tracing_lock:
            trace = handlers.trace(seeded(kernel, key)).get_trace(
                **batch.rows, **batch.shared, **batch.static
            )
        return {name: jax.tree.leaves(trace[name]["fn"].support) for name in names}

    run = jax.jit(supports)
    one, other = run(jax.random.key(0)), run(jax.random.key(1))
    for name in names:
        pairs = zip(one[name], other[name], strict=True)
        if not all(np.array_equal(*pair, equal_nan=True) for pair in pairs):
            msg = (
                f"The bounds of the flat prior of {name!r} follow from other sites, and NumPyro "
                "would keep those that it begins with. Use numpyro.distributions.Uniform(low, "
                "high), which follows them; or draw a fraction of the interval, and compute "
                f"{name!r} by numpyro.deterministic."
            )
            raise KernelError(msg)
