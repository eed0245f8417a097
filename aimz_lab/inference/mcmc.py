"""Markov chains: a run on all rows, watched and steered as training is, its chains kept apart."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer import HMC, MCMC

from aimz_lab.data import canonical
from aimz_lab.errors import FitWarning, NotFittedError
from aimz_lab.inference.chain_record import ChainRecord
from aimz_lab.inference.chains import HAMILTONIAN, MOST_ITERATIONS, Chains
from aimz_lab.inference.events import Callback, Callbacks, Control, Run, RunInfo, Steps
from aimz_lab.inference.inputs import KernelPorts
from aimz_lab.inference.loop import Loop
from aimz_lab.inference.plan import trace_data
from aimz_lab.inference.posterior import Posterior
from aimz_lab.inference.train import CHUNK_S
from aimz_lab.inference.training_data import TrainingData
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.kernel.tracing import tracing_lock
from aimz_lab.types import RunStatus, callable_name

_NO_RATE = "Chains have no learning rate; Hamiltonian ones adapt their step size as they warm up."
_GROWTH = 4

_STATS = {
    "accept_prob": "acceptance_rate",
    "diverging": "diverging",
    "energy": "energy",
    "num_steps": "n_steps",
    "potential_energy": "lp",
}
"""What NumPyro's Hamiltonian samplers report, and what ArviZ calls it."""


class ChainLoop(Loop):
    """Runs chains chunk by chunk, with an event after each.

    Args:
        chains: The chains, set up.
        run: What listeners read.
        callbacks: The listeners.
        n_obs: Rows of the data.
        latent_sites: The sites whose draws listeners judge the chains by.
        iterations_per_call: Iterations of a chunk; ``"auto"`` aims at 50 ms.
    """

    def __init__(
        self,
        chains: Chains,
        run: Run,
        callbacks: Callbacks,
        *,
        n_obs: int,
        latent_sites: Container[str],
        iterations_per_call: int | Literal["auto"] = "auto",
    ) -> None:
        super().__init__(run, callbacks)
        self._chains = chains
        self._n_obs = n_obs
        self._asked = iterations_per_call
        self._size = 1
        self._seen_s = 0.0
        sites = {name: shape for name, shape in chains.sites.items() if name in latent_sites}
        run.chains = ChainRecord(chains.plan, sites, chains.values)

    def begin(self) -> None:
        """Start the clock and tell the listeners."""
        self._seen_s = time.monotonic()
        super().begin()

    def posterior(self, spec: KernelSpec) -> Posterior | None:
        """Make the draws so far the sampler's own and return them; ``None`` if there are none."""
        if self._chains.draws == 0:
            return None
        self._chains.give_to_sampler()
        return _posterior(self._chains.mcmc, spec)

    @property
    def _interrupted(self) -> str:
        return f"interrupted {self._where}"

    @property
    def _where(self) -> str:
        draws = self._chains.draws
        return f"after draw {draws:,} of each chain" if draws else "before the first draw"

    def _loop(self) -> tuple[RunStatus, str]:
        chains, control = self._chains, self._run.control
        chains.compile()
        self._callbacks.emit("on_epoch_begin", 1)
        while chains.done < chains.plan.iterations:
            self._advance()
            if control.take_checkpoint():
                self._callbacks.emit("on_checkpoint")
            if not control.stop_request:
                self._seen_s += self._callbacks.hold_while_paused()
            if control.stop_request:
                reason, status = control.stop_request
                return status, f"{reason}, {self._where}"
        return "completed", f"all {chains.draws:,} draws of each chain done"

    def _advance(self) -> None:
        chains, run = self._chains, self._run
        count = self._next_size()
        began = time.monotonic()
        columns = chains.advance(count)
        now = time.monotonic()
        run.spend("steps", now - began)
        self._learn_size(count, now - began)
        means = {name: values.mean(axis=1, dtype=np.float64) for name, values in columns.items()}
        steps = Steps(
            first=run.step + 1,
            epoch=np.ones(count, np.int32),
            loss=means.pop("potential_energy", np.full(count, np.nan)),
            rows=np.full(count, self._n_obs, np.int32),
            n_pad=np.zeros(count, np.int32),
            seconds=now - self._seen_s,
            metrics=means,
        )
        self._seen_s = now
        run.chains.extend(columns, count)
        run.record(steps)
        is_last = chains.done == chains.plan.iterations
        self._callbacks.steps_end(steps, (1,) if is_last else ())

    def _next_size(self) -> int:
        """Iterations of the next chunk; none has both of the warm-up and of what follows."""
        size = self._size if self._asked == "auto" else self._asked
        plan, done = self._chains.plan, self._chains.done
        end = plan.warmup if done < plan.warmup else plan.iterations
        return min(size, MOST_ITERATIONS, end - done)

    def _learn_size(self, count: int, seconds: float) -> None:
        """Aim at :data:`CHUNK_S` from the rate just seen, which warm-up changes at any time."""
        aim = int(count * CHUNK_S / max(seconds, 1e-9))
        self._size = max(1, min(aim, _GROWTH * count))


def start_mcmc(
    ports: KernelPorts,
    mcmc: MCMC,
    data: TrainingData,
    key: jax.Array,
    callbacks: Iterable[Callback],
    iterations_per_call: int | Literal["auto"] = "auto",
) -> tuple[Run, ChainLoop, KernelSpec]:
    """Prepare a run of chains: all that can be refused is refused here.

    Args:
        ports: The kernel.
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
    name = callable_name(ports.kernel)
    method = f"MCMC/{type(mcmc.sampler).__name__}"
    spec = trace_data(ports.kernel, data, ports.output)
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
    return _posterior(mcmc, spec)


def _arguments(data: TrainingData) -> dict[str, Any]:
    rows = {name: canonical(array, name) for name, array in data.rows.items()}
    return {**rows, **jax.tree.map(canonical, dict(data.whole)), **data.static}


def _fields(mcmc: MCMC) -> tuple[str, ...]:
    return HAMILTONIAN if isinstance(mcmc.sampler, HMC) else ()


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
def _without_bar(mcmc: MCMC) -> Iterator[None]:
    """Hide the sampler's progress bar, and leave the user's object as it was."""
    before, mcmc.progress_bar = mcmc.progress_bar, False
    try:
        yield
    finally:
        mcmc.progress_bar = before
