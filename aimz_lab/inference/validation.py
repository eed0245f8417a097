"""The held-out loss: the same data and the same noise at every evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from numpyro.infer.svi import SVIState

from aimz_lab.data import canonical, pad_rows
from aimz_lab.inference.plan import TrainingData, TrainingPlan
from aimz_lab.inference.svi import StepEngine

_VALIDATION_ROWS = 4096
"""Rows that are evaluated at a time."""


@dataclass(frozen=True)
class HeldOut:
    """Data to validate on.

    Attributes:
        rows: Arrays by kernel argument, output included.
        every: Epochs between two evaluations.
    """

    rows: Mapping[str, Any]
    every: int = 1


def held_out_loss(
    engine: StepEngine,
    plan: TrainingPlan,
    held_out: HeldOut,
    whole: Mapping[str, Any],
    data: TrainingData,
    key: jax.Array,
) -> Callable[[SVIState], float]:
    """The held-out loss in nats per row, comparable with the training loss per row.

    Each block of rows stands for all ``n_obs`` rows, so that the prior weighs in it as in
    training; the blocks' losses are averaged by their rows. The noise is the same each time.
    """
    rows = {name: canonical(array, name) for name, array in held_out.rows.items()}
    n_rows = next(iter(rows.values())).shape[0]
    n_obs = data.n_obs or n_rows
    size = min(n_rows, _VALIDATION_ROWS)
    blocks = []
    for start in range(0, n_rows, size):
        block = {name: array[start : start + size] for name, array in rows.items()}
        valid = next(iter(block.values())).shape[0]
        if plan.step.padded:
            multiple = -(-size // plan.placement.row_multiple) * plan.placement.row_multiple
            block, _ = pad_rows(block, multiple)
        blocks.append((plan.placement.put_rows(block), valid))
    noise = jax.random.fold_in(key, 1)

    def loss(state: SVIState) -> float:
        losses = [engine.loss(state, noise, block, n, whole, n_obs) for block, n in blocks]
        weights = [n for _, n in blocks]
        return float(np.average(jax.device_get(losses), weights=weights)) / n_obs

    return loss
