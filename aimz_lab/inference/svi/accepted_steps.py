"""Accepted chunks of steps, joined until a report of them is due."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from aimz_lab.inference.feeds.feed import Position
from aimz_lab.inference.run.steps import Steps
from aimz_lab.inference.svi.step import TrainState


@dataclass(frozen=True)
class AcceptedSteps:
    """Accepted steps of one or more chunks, without their batches, which take memory.

    Attributes:
        steps: The accepted steps.
        state: The state after them.
        position: Position of the feed after them.
        epoch_ends: Epochs that ended with them.
        nbytes: Bytes that were moved to the devices for them.
    """

    steps: Steps
    state: TrainState
    position: Position
    epoch_ends: tuple[int, ...]
    nbytes: int

    def then(self, after: Self) -> Self:
        """Return these steps and those ``after`` them as one."""
        return type(self)(
            _joined(self.steps, after.steps),
            after.state,
            after.position,
            self.epoch_ends + after.epoch_ends,
            self.nbytes + after.nbytes,
        )


def _joined(before: Steps, after: Steps) -> Steps:
    def both(name: str) -> np.ndarray:
        return np.concatenate([getattr(before, name), getattr(after, name)])

    metrics = {
        name: np.concatenate([values, after.metrics[name]])
        for name, values in before.metrics.items()
    }
    return Steps(
        first=before.first,
        epoch=both("epoch"),
        loss=both("loss"),
        rows=both("rows"),
        n_pad=both("n_pad"),
        seconds=before.seconds + after.seconds,
        learning_rate=after.learning_rate,
        metrics=metrics,
    )
