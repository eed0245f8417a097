"""Markov chains: one run on all rows, with its chains kept apart."""

from __future__ import annotations

from typing import Any

import jax
from numpyro.infer import MCMC

from aimz_lab.data import canonical
from aimz_lab.inference.inputs import KernelPorts
from aimz_lab.inference.plan import TrainingData, trace_data
from aimz_lab.inference.posterior import Posterior
from aimz_lab.kernel.spec import KernelSpec, tracing_lock
from aimz_lab.types import Progress


def run_mcmc(
    ports: KernelPorts, mcmc: MCMC, data: TrainingData, key: jax.Array, progress: Progress
) -> tuple[Posterior, KernelSpec]:
    """Run the chains.

    Args:
        ports: The kernel.
        mcmc: The sampler; its ``num_samples`` and ``num_chains`` count.
        data: All rows.
        key: A typed random key.
        progress: Whether the sampler may show its own progress bar.

    Returns:
        The draws of the latent sites, chain by chain, and the kernel's structure.

    Raises:
        KernelError: If the kernel's structure is not usable.
        SiteError: If a site has the rows on two axes.
    """
    spec = trace_data(ports.kernel, data, ports.output)
    rows: dict[str, Any] = {name: canonical(array, name) for name, array in data.rows.items()}
    whole = jax.tree.map(canonical, dict(data.whole))
    mcmc.progress_bar = bool(progress) and mcmc.progress_bar
    with tracing_lock:
        mcmc.run(key, **rows, **whole, **data.static)
        draws = mcmc.get_samples()
    latent = {name: draws[name] for name in spec.latent_sites if name in draws}
    return Posterior(latent, mcmc.num_chains), spec
