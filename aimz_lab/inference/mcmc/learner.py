"""Markov chains: a run on all rows, watched and steered as training is, its chains kept apart."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import jax
from numpyro.infer import HMC, MCMC

from aimz_lab.data import canonical
from aimz_lab.errors import FitWarning, NotFittedError
from aimz_lab.inference.feeds.training_data import TrainingData
from aimz_lab.inference.mcmc.chain_loop import ChainLoop, posterior_of
from aimz_lab.inference.mcmc.chains import HAMILTONIAN, Chains
from aimz_lab.inference.posterior import Posterior
from aimz_lab.inference.run.events import Callback, Callbacks, Control, Run, RunInfo
from aimz_lab.inference.svi.plan import trace_data
from aimz_lab.kernel.signature import KernelSignature
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.kernel.tracing import tracing_lock
from aimz_lab.types import callable_name

_NO_RATE = "Chains have no learning rate; Hamiltonian ones adapt their step size as they warm up."


def start_mcmc(
    signature: KernelSignature,
    mcmc: MCMC,
    data: TrainingData,
    key: jax.Array,
    callbacks: Iterable[Callback],
    iterations_per_call: int | Literal["auto"] = "auto",
) -> tuple[Run, ChainLoop, KernelSpec]:
    """Prepare a run of chains: all that can be refused is refused here.

    Args:
        signature: The kernel.
        mcmc: The sampler; its ``num_warmup``, ``num_samples`` and ``num_chains`` count.
        data: All rows.
        key: A typed random key.
        callbacks: The listeners.
        iterations_per_call: Iterations of a chunk; ``"auto"`` aims at 50 ms.

    Returns:
        The run, what runs it, and the kernel's structure.

    Raises:
        KernelError: If the kernel's structure is not usable.
        SiteError: If a site has the rows on two axes.
        DataError: If an argument indexes beyond the end of what it indexes.
        InferenceError: If a listener needs a loss that is minimised.
        Exception: What the kernel or the sampler raised.
    """
    name = callable_name(signature.kernel)
    method = f"MCMC/{type(mcmc.sampler).__name__}"
    spec = trace_data(signature.kernel, data, signature.output)
    run = Run(RunInfo(name, method, is_sampling=True), control=Control(why_not=_NO_RATE))
    listeners = Callbacks(callbacks, run)
    chains = Chains(mcmc, key, _arguments(data))
    run.info = RunInfo(
        model=name,
        method=method,
        n_obs=data.n_obs,
        batch_size=data.n_obs,
        epochs=1,
        steps_per_epoch=chains.plan.iterations,
        is_sampling=True,
    )
    loop = ChainLoop(
        chains,
        run,
        listeners,
        n_obs=data.n_obs,
        latent_sites=spec.latent_sites,
        iterations_per_call=iterations_per_call,
    )
    return run, loop, spec


def warn_of_chains(run: Run) -> None:
    """Warn if chains were interrupted, or have drawn nothing."""
    kept = "" if run.chains.draws else "; the model is as it was"
    if kept or run.status == "interrupted":
        with contextlib.suppress(KeyboardInterrupt):
            warnings.warn(f"The run ended early: {run.reason}{kept}.", FitWarning, stacklevel=5)


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
        with _without_bar(mcmc), tracing_lock:
            state_key = mcmc.last_state.rng_key
            mcmc.run(state_key, extra_fields=_fields(mcmc), **_arguments(data))
    finally:
        mcmc.post_warmup_state, mcmc.num_samples = before
        # How many draws to collect follows the number of samples; NumPyro works it out here.
        mcmc._set_collection_params()
    return posterior_of(mcmc, spec)


def _arguments(data: TrainingData) -> dict[str, Any]:
    rows = {name: canonical(array, name) for name, array in data.rows.items()}
    return {**rows, **jax.tree.map(canonical, dict(data.shared)), **data.static}


def _fields(mcmc: MCMC) -> tuple[str, ...]:
    return HAMILTONIAN if isinstance(mcmc.sampler, HMC) else ()


@contextlib.contextmanager
def _without_bar(mcmc: MCMC) -> Iterator[None]:
    """Hide the sampler's progress bar, and leave the user's object as it was."""
    before, mcmc.progress_bar = mcmc.progress_bar, False
    try:
        yield
    finally:
        mcmc.progress_bar = before
