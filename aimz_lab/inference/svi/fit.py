"""A fit by SVI that was started, and what it gives its model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import jax
from numpyro.infer.svi import SVIRunResult, SVIState

from aimz_lab.inference.feeds.fingerprint import TrainingFingerprint
from aimz_lab.inference.feeds.schema import InputSchema
from aimz_lab.inference.feeds.training_data import TrainingData
from aimz_lab.inference.posterior import Posterior
from aimz_lab.inference.request import FitRequest, FitResult
from aimz_lab.inference.run.events import Run
from aimz_lab.inference.svi.trainer import Trainer
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.types import Params


class GuideLearner(Protocol):
    """What a fit asks of its learner once the run has ended."""

    output: str

    def params(self, state: SVIState | None) -> dict[str, jax.Array]:
        """Return the constrained parameters of a state."""

    def draw_for(
        self, request: FitRequest, data: TrainingData, params: Params, spec: KernelSpec
    ) -> Posterior:
        """Draw from the guide."""


@dataclass(frozen=True)
class SviFit:
    """A fit by SVI whose checks have passed; see :class:`~aimz_lab.inference.request.StartedFit`.

    Attributes:
        learner: What drew up the run, and draws from its guide.
        request: What the user asked for.
        data: What is trained on.
        spec: The kernel's structure.
        run: What callbacks read.
        loop: What trains.
    """

    learner: GuideLearner
    request: FitRequest
    data: TrainingData
    spec: KernelSpec
    run: Run
    loop: Trainer

    def results(self) -> Iterator[FitResult]:
        """Yield what was trained, then the draws too: an interrupt of these loses no training."""
        run, origin = self.run, self.request.origin
        state = run.final_state.svi
        schema = InputSchema.of(self.data)
        if run.status == "failed" and run.step == run.resumed_at:
            return  # refused by a callback before the first step
        if not run.step:
            yield FitResult(self.spec, schema, state)
            return
        params = self.learner.params(state)
        trained = FitResult(
            self.spec,
            schema,
            state,
            vi_result=SVIRunResult(params, state, run.losses),
            epochs_done=origin.first_epoch + (0 if self.request.num_steps else run.epoch),
        )
        yield trained
        posterior = self.learner.draw_for(self.request, self.data, params, self.spec)
        rows = self.data.rows if self.data.in_memory else {}
        fingerprint = TrainingFingerprint.of(rows, self.learner.output)
        yield replace(trained, posterior=posterior, fingerprint=fingerprint)

    def warning(self) -> str | None:
        """Say that the run ended early, for a reason that the user should know."""
        if self.run.status in ("diverged", "interrupted"):
            return f"The fit ended early: {self.run.reason}"
        return None
