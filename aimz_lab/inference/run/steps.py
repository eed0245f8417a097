"""The steps of a run: one step, and the steps of a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Num


@dataclass(frozen=True, slots=True)
class StepInfo:
    """One training step.

    Attributes:
        step: Number of the step in the run, from 1.
        epoch: Number of its epoch, from 1.
        loss: Negative ELBO in nats, of all ``n_obs`` rows.
        rows: Rows of data that the step used, padding excluded.
        n_pad: Rows of padding in its batch.

    Example:
        >>> StepInfo(step=1, epoch=1, loss=3.5, rows=64, n_pad=0).loss
        3.5
    """

    step: int
    epoch: int
    loss: float
    rows: int
    n_pad: int


@dataclass(frozen=True)
class Steps:
    """Steps of one report, of one or more chunks; arrays of shape ``(k,)``.

    Attributes:
        first: Number of the first step, from 1.
        epoch: Epoch of each step, from 1.
        loss: Negative ELBO of each step in nats.
        rows: Rows of data in each step, padding excluded.
        n_pad: Rows of padding in each step.
        seconds: Wall time from the end of the previous steps to the end of these.
        learning_rate: The rate of these steps, or of the last one; ``None`` if it is not known.
        rates: The rate of each step, where a schedule changes it from step to step.
        metrics: Further values of each step by name, such as ``grad_norm``.

    Example:
        >>> one, loss, rows, n_pad = np.array([[1, 1], [3.5, 3.0], [64, 64], [0, 0]])
        >>> steps = Steps(first=1, epoch=one, loss=loss, rows=rows, n_pad=n_pad, seconds=0.1)
        >>> [step.loss for step in steps]
        [3.5, 3.0]
    """

    first: int
    epoch: Num[np.ndarray, " step"]
    loss: Num[np.ndarray, " step"]
    rows: Num[np.ndarray, " step"]
    n_pad: Num[np.ndarray, " step"]
    seconds: float
    learning_rate: float | None = None
    rates: Num[np.ndarray, " step"] | None = None
    metrics: Mapping[str, Num[np.ndarray, " step"]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.loss)

    def __iter__(self) -> Iterator[StepInfo]:
        columns = (self.epoch, self.loss, self.rows, self.n_pad)
        for i, (epoch, loss, rows, n_pad) in enumerate(
            zip(*(column.tolist() for column in columns), strict=True)
        ):
            yield StepInfo(self.first + i, epoch, loss, rows, n_pad)
