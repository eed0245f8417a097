"""A run of Markov chains, chunk by chunk."""

from __future__ import annotations

import time
from collections.abc import Container, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer import MCMC

from aimz_lab.inference.mcmc.chains import MOST_ITERATIONS, Chains
from aimz_lab.inference.posterior import Posterior
from aimz_lab.inference.run.chain_record import ChainRecord
from aimz_lab.inference.run.events import Callbacks, Run, Steps
from aimz_lab.inference.run.loop import RunLoop
from aimz_lab.inference.svi.trainer import CHUNK_S
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.types import RunStatus

_GROWTH = 4

_STATS = {
    "accept_prob": "acceptance_rate",
    "diverging": "diverging",
    "energy": "energy",
    "num_steps": "n_steps",
    "potential_energy": "lp",
}
"""What NumPyro's Hamiltonian samplers report, and what ArviZ calls it."""


class ChainLoop(RunLoop):
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
        return posterior_of(self._chains.mcmc, spec)

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


def posterior_of(mcmc: MCMC, spec: KernelSpec) -> Posterior:
    """Read the draws of the latent sites, and the statistics of the sampler."""
    draws = mcmc.get_samples()
    latent = {name: draws[name] for name in spec.latent_sites if name in draws}
    return Posterior(latent, mcmc.num_chains, _stats(mcmc.get_extra_fields()))


def _stats(fields: Mapping[str, Any]) -> dict[str, jax.Array]:
    stats = {_STATS[name]: jnp.asarray(values) for name, values in fields.items() if name in _STATS}
    if "lp" in stats:
        stats["lp"] = -stats["lp"]
    return stats
