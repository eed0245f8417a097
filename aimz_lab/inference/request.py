"""What a user may ask of a fit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from aimz_lab.data.checks import check_positive_int
from aimz_lab.inference.checkpoint.checkpoint import Checkpoint
from aimz_lab.inference.checkpoint.provenance import Origin
from aimz_lab.inference.feeds.feed import Position
from aimz_lab.inference.svi.plan import PlanOptions
from aimz_lab.inference.svi.trainer import TrainOptions
from aimz_lab.inference.svi.validation import HeldOut
from aimz_lab.types import OnNonFinite, check_choice


@dataclass(frozen=True)
class FitOptions:
    """What the user asked of a fit.

    Attributes:
        epochs: Passes over the data.
        num_steps: Steps on all rows at once, instead of epochs of batches.
        plan: How batches are weighted.
        train: How the run goes.
        held_out: Data to validate on, or ``None``.
        origin: Where the randomness of the fit comes from; for checkpoints.
        resume: Where to go on, or ``None`` for a new run.
    """

    epochs: int = 1
    num_steps: int | None = None
    plan: PlanOptions = field(default_factory=PlanOptions)
    train: TrainOptions = field(default_factory=TrainOptions)
    held_out: HeldOut | None = None
    origin: Origin | None = None
    resume: Checkpoint | None = None

    @property
    def start(self) -> Position:
        """Position to begin at."""
        if self.resume is None:
            return Position()
        # A fit on all rows is one epoch of num_steps steps, and may be asked for more of them.
        return Position(0, self.resume.step) if self.num_steps else self.resume.position


def train_options(steps_per_call: int | Literal["auto"], on_nonfinite: str) -> TrainOptions:
    """Check how the user wants a run to go.

    Raises:
        ArgumentError: If a value is not allowed.
    """
    if steps_per_call != "auto":
        check_positive_int("steps_per_call", steps_per_call)
    return TrainOptions(steps_per_call, check_choice("on_nonfinite", on_nonfinite, OnNonFinite))
