"""A model and its chains: running them, and making their draws the model's."""

from __future__ import annotations

from typing import Literal, Self

import jax

from aimz_lab.inference.feeds.fingerprint import TrainingFingerprint
from aimz_lab.inference.feeds.schema import InputSchema
from aimz_lab.inference.feeds.training_data import TrainingData
from aimz_lab.inference.mcmc.learner import start_mcmc, warn_of_chains
from aimz_lab.inference.run.handle import RunHandle
from aimz_lab.inference.running import RunCall, RunningModel


class ChainModel(RunningModel):
    """A model that does MCMC; see :class:`aimz_lab.ImpactModel`."""

    def _run_chains(
        self,
        data: TrainingData,
        steps_per_call: int | Literal["auto"],
        key: jax.Array,
        call: RunCall,
    ) -> Self | RunHandle:
        run, loop, spec = start_mcmc(
            self._kernel, self._inference, data, key, call.listeners(), steps_per_call
        )
        self._last_run = run
        self._advance(call.rng_key)

        def work() -> None:
            loop.run_to_end()
            if (posterior := loop.posterior(spec)) is None:
                return
            self._spec, self._posterior = spec, posterior
            self._mcmc_schema = InputSchema.of(data)
            self._trained_rows = TrainingFingerprint.of(data.rows, self.param_output)

        return self._carry_out(run, loop, work, warn_of_chains, blocking=call.blocking)
