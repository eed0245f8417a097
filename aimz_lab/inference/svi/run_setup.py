"""Training data, plan, feed and compiled steps of an SVI run: all but its state."""

from __future__ import annotations

from typing import NamedTuple

import jax
from numpyro.infer.svi import SVIState

from aimz_lab.inference.compiling import FULL, QUICK
from aimz_lab.inference.feeds.feed import Feed
from aimz_lab.inference.feeds.training_data import TrainingData
from aimz_lab.inference.request import FitRequest
from aimz_lab.inference.svi.compiled_steps import StepEngine
from aimz_lab.inference.svi.plan import TrainingPlan
from aimz_lab.inference.svi.trainer import TrainOptions, Validation
from aimz_lab.inference.svi.validation import HeldOut, held_out_loss
from aimz_lab.types import Shared

SMALL_VALUES = 2**20
"""Values of a data set on which steps take as long, whether they were optimized or not."""


def compiler_effort(data: TrainingData) -> int:
    """Choose what to spend on compiling steps.

    It follows from the data alone: a run compiles nothing that another run on these data has
    compiled, and one that goes on from a checkpoint computes the same bits.

    Args:
        data: What to train on.
    """
    if data.n_obs is None:
        return FULL
    of_batch = sum(array.size for array in data.first_batch.rows.values())
    return QUICK if of_batch * data.n_obs <= SMALL_VALUES * data.batch_size else FULL


class RunSetup(NamedTuple):
    """A run that lacks its state.

    Attributes:
        request: What the user asked for.
        data: What to train on.
        held_out: Data to validate on, or ``None``.
        plan: How a step is computed.
        feed: The batches.
        engine: The compiled steps.
        shared: The kernel's shared arguments, on the devices.
    """

    request: FitRequest
    data: TrainingData
    held_out: HeldOut | None
    plan: TrainingPlan
    feed: Feed
    engine: StepEngine
    shared: Shared

    @property
    def n_obs(self) -> int:
        """Rows of the data set, or of a batch where the number is unknown."""
        return self.data.n_obs or self.data.batch_size

    def train_options(self, key: jax.Array, state: SVIState) -> TrainOptions:
        """Say how the run goes, with the held-out loss on the way.

        Args:
            key: For the noise of that loss.
            state: The state to begin with.
        """
        held_out, validation = self.held_out, None
        if held_out is not None:
            loss = held_out_loss(
                self.engine, self.plan, held_out, self.shared, self.data, key, state
            )
            validation = Validation(loss, held_out.every)
        return TrainOptions(self.request.steps_per_call, self.request.on_nonfinite, validation)
