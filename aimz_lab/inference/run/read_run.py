"""What the modules that judge and describe a run read of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Float

from aimz_lab.inference.run.chain_record import ChainRecord
from aimz_lab.inference.run.control import Control
from aimz_lab.inference.run.records import Best, RateChange, RunInfo, TrainerState, ValidationLosses
from aimz_lab.types import RunStatus


class ReadRun(Protocol):
    """What is read of a run; :class:`aimz_lab.inference.run.run.Run` says what it means."""

    info: RunInfo
    control: Control
    number: int | None
    status: RunStatus
    reason: str
    activity: str
    epoch: int
    step: int
    skipped: int
    planned_steps: int | None
    losses: Float[np.ndarray, " step"]
    losses_after: Float[np.ndarray, " step"] | None
    validation: ValidationLosses
    rate_changes: Sequence[RateChange]
    first_learning_rate: float | None
    notes: list[str]
    resumed_at: int
    unmoved_steps: int
    has_spent_rate: bool
    step_of_model: int
    chains: ChainRecord | None
    finished: bool
    is_preparing: bool
    trained_s: float
    prepared_s: float
    compiling_s: float
    waited_s: float
    paused_s: float
    best: dict[str, Best]
    candidates: dict[str, Best]
    end_best: dict[str, Best]
    restored: Best | None
    best_so_far: Best | None
    state: TrainerState | None
    has_last_state: bool
    left_model: bool
    outcome_column: str
