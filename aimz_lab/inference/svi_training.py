"""A model and its SVI runs: preparing them, and making what they trained the model's."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from typing import Any, Self

import jax
from numpyro.infer.svi import SVIRunResult

from aimz_lab.data.checks import check_positive_int
from aimz_lab.errors import GuideError
from aimz_lab.inference.checkpoint.checkpoint import Checkpoint, load_checkpoint
from aimz_lab.inference.checkpoint.provenance import Origin
from aimz_lab.inference.feeds.fingerprint import TrainingFingerprint
from aimz_lab.inference.feeds.inputs import held_out_rows
from aimz_lab.inference.feeds.placement import resolve_placement
from aimz_lab.inference.feeds.training_data import TrainingData
from aimz_lab.inference.posterior import Posterior
from aimz_lab.inference.request import FitOptions
from aimz_lab.inference.run.events import Run
from aimz_lab.inference.run.handle import RunHandle
from aimz_lab.inference.running import RunCall, RunningModel
from aimz_lab.inference.svi.run_info import warn_of_outcome
from aimz_lab.inference.svi.validation import HeldOut
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.types import Device


class SviModel(RunningModel):
    """A model that is trained by SVI; see :class:`aimz_lab.ImpactModel`."""

    def _origin(
        self, resume: str | PathLike[str] | None, rng_key: jax.Array | None
    ) -> tuple[Checkpoint | None, Origin]:
        """The checkpoint to go on from, if any, and where the randomness of a fit comes from."""
        if resume is None:
            return None, Origin(self._split(rng_key, 3), self._epochs_done)
        checkpoint = load_checkpoint(resume)
        return checkpoint, checkpoint.origin

    def _prepared(
        self,
        make_data: Callable[..., tuple[TrainingData, Device | None]],
        batch_size: int | None,
    ) -> tuple[TrainingData, Device | None, KernelSpec]:
        """The training data with its device, and the kernel's structure, in batches that train.

        Args:
            make_data: Makes the data, and names its device, given ``batch_size``.
            batch_size: The user's choice, or ``None``.
        """
        data, device = make_data(batch_size=batch_size)
        try:
            return data, device, self._session.prepare(data)
        except GuideError:
            # Without a batch size of the user's, all rows at once are a choice that trains.
            if batch_size is not None or not data.in_memory or data.order is None:
                raise
        data, device = make_data(batch_size=data.n_obs)
        return data, device, self._session.prepare(data)

    def _held_out(
        self,
        validation: Any,
        every: int,
        data: TrainingData,
        allow_nonfinite: bool,
    ) -> HeldOut | None:
        if validation is None:
            return None
        check_positive_int("validation_every", every)
        extra = {**data.shared, **data.static}
        rows = held_out_rows(self._kernel, validation, extra, allow_nonfinite=allow_nonfinite)
        return HeldOut(rows, every)

    def _train(
        self,
        data: TrainingData,
        spec: KernelSpec,
        device: Device | None,
        options: FitOptions,
        num_samples: int,
        call: RunCall,
    ) -> Self | RunHandle:
        listeners = call.listeners()
        placement = resolve_placement(self._device, device)
        keys = options.origin.keys
        run, trainer = self._session.start(data, spec, placement, listeners, options, keys[0])
        # Before the run is the model's: an interrupt here leaves one that never began.
        self._session.draws.compile_for(data, keys[2], self._session.state, num_samples, spec)
        self._last_run, self._spec = run, spec
        self._advance(call.rng_key)

        def work() -> None:
            try:
                self._session.train(run, trainer)
            finally:
                if run.step:
                    self._keep(data, keys[2], num_samples, run)
                    epochs = 0 if options.num_steps else run.epoch
                    self._epochs_done = options.origin.first_epoch + epochs

        return self._carry_out(run, trainer, work, warn_of_outcome, blocking=call.blocking)

    def _keep(self, data: TrainingData, key: jax.Array, num_samples: int, run: Run) -> None:
        """Make a run the model's: its parameters, its losses, and draws from its guide."""
        params = self._session.params
        self._vi_result = SVIRunResult(params, self._session.state, run.losses)
        draws = self._session.draws.draw_for(data, key, params, num_samples, self._spec)
        self._posterior = Posterior(draws, count=num_samples)
        rows = data.rows if data.in_memory else {}
        self._trained_rows = TrainingFingerprint.of(rows, self.param_output)
