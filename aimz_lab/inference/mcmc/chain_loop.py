"""The loop that runs Markov chains chunk by chunk, and their posterior."""

from __future__ import annotations

import time
from collections.abc import Container, Mapping
from dataclasses import replace
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from numpyro.infer import MCMC

from aimz_lab.inference.compiling import compiling
from aimz_lab.inference.mcmc.chain_steps import MOST_ITERATIONS
from aimz_lab.inference.mcmc.chains import Chains
from aimz_lab.inference.posterior import Posterior, Transitions
from aimz_lab.inference.run.chain_record import ChainRecord
from aimz_lab.inference.run.control import StopRequest
from aimz_lab.inference.run.events import Callbacks
from aimz_lab.inference.run.loop import CHUNK_S, RunLoop
from aimz_lab.inference.run.run import Run
from aimz_lab.inference.run.steps import Steps
from aimz_lab.kernel.spec import KernelSpec

_GROWTH = 4

_STATS = {
    "accept_prob": "acceptance_rate",
    "diverging": "diverging",
    "energy": "energy",
    "num_steps": "n_steps",
    "potential_energy": "lp",
}
"""ArviZ's names for the fields of NumPyro's Hamiltonian samplers."""


class ChainLoop(RunLoop):
    """Runs chains chunk by chunk, with a report after each.

    Args:
        chains: The chains, set up.
        run: The record that callbacks read.
        callbacks: The callbacks of the run.
        n_obs: Rows of the data.
        latent_sites: The sites used to judge convergence.
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
        self._iterations_per_call = iterations_per_call
        self._size = 1
        sites = {name: shape for name, shape in chains.sites.items() if name in latent_sites}
        run.chains = ChainRecord(chains.plan, sites, chains.values)

    def posterior(self, spec: KernelSpec) -> Posterior | None:
        """Give the sampler the draws so far and return them; ``None`` if there are none."""
        if self._chains.draws == 0:
            return None
        self._chains.give_to_sampler()
        return replace(posterior_of(self._chains.mcmc, spec), transitions=self._transitions())

    def _transitions(self) -> Transitions:
        record = self.run.chains
        count = (record.iterations - record.plan.warmup) * record.plan.chains
        diverged = None if record.divergences is None else int(record.divergences.sum())
        return Transitions(count, diverged, record.plan.thinning)

    @property
    def where(self) -> str:
        """The position of the chains, as a phrase for the run's reason."""
        draws, done, plan = self._chains.draws, self._chains.done, self._chains.plan
        if draws:
            return f"after draw {draws:,} of each chain"
        if done < plan.warmup:
            return f"in the warm-up, at iteration {done:,} of {plan.warmup:,}"
        return "before the first draw"

    def chunks(self) -> StopRequest:
        """Run the chunks."""
        chains = self._chains
        self.preparation.activity = compiling("the sampler")
        chains.compile()
        self.callbacks.emit("on_epoch_begin", 1)
        self.preparation.activity = "computing the first draws"
        self.begin_steps()
        while chains.done < chains.plan.iterations:
            self._advance()
            stop = self.handle_requests()
            if stop is not None:
                reason, status = stop
                return f"{reason}, {self.where}", status
        return f"all {chains.draws:,} draws of each chain done", "completed"

    def _advance(self) -> None:
        chains = self._chains
        count = self._next_size()
        began = time.monotonic()
        columns = chains.advance(count, self.run.clock.spending)
        now = time.monotonic()
        self._learn_size(count, now - began)
        means = {name: values.mean(axis=1, dtype=np.float64) for name, values in columns.items()}
        steps = Steps(
            first=self.run.step + 1,
            epoch=np.ones(count, np.int32),
            loss=means.pop("potential_energy", np.full(count, np.nan)),
            rows=np.full(count, self._n_obs, np.int32),
            n_pad=np.zeros(count, np.int32),
            seconds=self.lap(now),
            metrics=means,
        )
        self.run.chains.extend(columns, count)
        is_last = chains.done == chains.plan.iterations
        self.report(steps, (1,) if is_last else ())

    def _next_size(self) -> int:
        """Iterations of the next chunk, which never crosses the end of the warm-up."""
        size = self._size if self._iterations_per_call == "auto" else self._iterations_per_call
        plan, done = self._chains.plan, self._chains.done
        end = plan.warmup if done < plan.warmup else plan.iterations
        return min(size, MOST_ITERATIONS, end - done)

    def _learn_size(self, count: int, seconds: float) -> None:
        """Aim at :data:`CHUNK_S` from the last chunk alone: in warm-up the speed changes often."""
        aim = int(count * CHUNK_S / max(seconds, 1e-9))
        self._size = max(1, min(aim, _GROWTH * count))


def posterior_of(mcmc: MCMC, spec: KernelSpec) -> Posterior:
    """Read the draws of the latent sites, and the statistics of the sampler."""
    draws = mcmc.get_samples()
    latent = {name: draws[name] for name in spec.latent_sites if name in draws}
    return Posterior(latent, mcmc.num_chains, _stats(mcmc.get_extra_fields()))


def _stats(fields: Mapping[str, ArrayLike]) -> dict[str, jax.Array]:
    stats = {_STATS[name]: jnp.asarray(values) for name, values in fields.items() if name in _STATS}
    if "lp" in stats:
        stats["lp"] = -stats["lp"]
    return stats
