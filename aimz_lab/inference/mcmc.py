"""Markov chains: one run on all rows, with its chains kept apart."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from numpyro.infer import HMC, MCMC

from aimz_lab.data import canonical
from aimz_lab.errors import NotFittedError
from aimz_lab.inference.inputs import KernelPorts
from aimz_lab.inference.plan import TrainingData, trace_data
from aimz_lab.inference.posterior import Posterior
from aimz_lab.kernel.spec import KernelSpec, tracing_lock
from aimz_lab.types import Progress

_STATS = {
    "accept_prob": "acceptance_rate",
    "diverging": "diverging",
    "energy": "energy",
    "num_steps": "n_steps",
    "potential_energy": "lp",
}
"""What NumPyro's Hamiltonian samplers report, and what ArviZ calls it."""


def run_mcmc(
    ports: KernelPorts, mcmc: MCMC, data: TrainingData, key: jax.Array, progress: Progress
) -> tuple[Posterior, KernelSpec]:
    """Run the chains, warm-up included.

    Args:
        ports: The kernel.
        mcmc: The sampler; its ``num_samples`` and ``num_chains`` count.
        data: All rows.
        key: A typed random key.
        progress: Whether the sampler may show its own progress bar.

    Returns:
        The draws of the latent sites and what the sampler says of them, chain by chain, and the
        kernel's structure.

    Raises:
        KernelError: If the kernel's structure is not usable.
        SiteError: If a site has the rows on two axes.
        DataError: If an argument indexes beyond the end of what it indexes.
    """
    spec = trace_data(ports.kernel, data, ports.output)
    with _bar(mcmc, shown=bool(progress)), tracing_lock:
        mcmc.run(key, extra_fields=_fields(mcmc), **_arguments(data))
    return _posterior(mcmc, spec), spec


def continue_mcmc(mcmc: MCMC, data: TrainingData, num_samples: int, spec: KernelSpec) -> Posterior:
    """Let the chains go on from where they are; the next run starts afresh all the same.

    Args:
        mcmc: The sampler.
        data: All rows.
        num_samples: Draws of each chain, before thinning.
        spec: The kernel's structure.

    Raises:
        NotFittedError: If the sampler has not run.
    """
    if mcmc.last_state is None:
        msg = "The chains have not run yet, so that they cannot go on; call fit_on_batch first."
        raise NotFittedError(msg)
    before = mcmc.post_warmup_state, mcmc.num_samples
    mcmc.post_warmup_state, mcmc.num_samples = mcmc.last_state, num_samples
    try:
        with _bar(mcmc, shown=False), tracing_lock:
            state_key = mcmc.last_state.rng_key
            mcmc.run(state_key, extra_fields=_fields(mcmc), **_arguments(data))
    finally:
        mcmc.post_warmup_state, mcmc.num_samples = before
        # How many draws to collect follows the number of samples; NumPyro works it out here.
        mcmc._set_collection_params()
    return _posterior(mcmc, spec)


def _arguments(data: TrainingData) -> dict[str, Any]:
    rows = {name: canonical(array, name) for name, array in data.rows.items()}
    return {**rows, **jax.tree.map(canonical, dict(data.whole)), **data.static}


def _fields(mcmc: MCMC) -> tuple[str, ...]:
    return tuple(_STATS) if isinstance(mcmc.sampler, HMC) else ()


def _posterior(mcmc: MCMC, spec: KernelSpec) -> Posterior:
    draws = mcmc.get_samples()
    latent = {name: draws[name] for name in spec.latent_sites if name in draws}
    return Posterior(latent, mcmc.num_chains, _stats(mcmc.get_extra_fields()))


def _stats(fields: Mapping[str, Any]) -> dict[str, jax.Array]:
    stats = {_STATS[name]: jnp.asarray(values) for name, values in fields.items() if name in _STATS}
    if "lp" in stats:
        stats["lp"] = -stats["lp"]
    return stats


@contextlib.contextmanager
def _bar(mcmc: MCMC, *, shown: bool) -> Iterator[None]:
    """Hide the sampler's progress bar, and leave the user's object as it was."""
    before = mcmc.progress_bar
    mcmc.progress_bar = before and shown
    try:
        yield
    finally:
        mcmc.progress_bar = before
