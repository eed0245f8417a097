"""Steps as a run reports them, and the columns that it keeps of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class StepInfo:
    """One training step.

    Attributes:
        step: Number of the step in the run, from 1.
        epoch: Number of its epoch, from 1.
        loss: Negative ELBO in nats, of all ``n_obs`` rows.
        rows: Rows of data that the step used, padding excluded.
        n_pad: Rows of padding that it carried along.

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
    """Steps that a run reports together, of one dispatch or some; arrays of shape ``(k,)``.

    Attributes:
        first: Number of the first step, from 1.
        epoch: Epoch of each step, from 1.
        loss: Negative ELBO of each step in nats.
        rows: Rows of data in each step, padding excluded.
        n_pad: Rows of padding in each step.
        seconds: Wall time from the end of the steps before to the end of these.
        learning_rate: The rate that they ran with, where the optimizer tells.
        metrics: Further values of each step by name, such as ``grad_norm``.

    Example:
        >>> one, loss, rows, n_pad = np.array([[1, 1], [3.5, 3.0], [64, 64], [0, 0]])
        >>> steps = Steps(first=1, epoch=one, loss=loss, rows=rows, n_pad=n_pad, seconds=0.1)
        >>> [step.loss for step in steps]
        [3.5, 3.0]
    """

    first: int
    epoch: np.ndarray
    loss: np.ndarray
    rows: np.ndarray
    n_pad: np.ndarray
    seconds: float
    learning_rate: float | None = None
    metrics: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.loss)

    def __iter__(self) -> Iterator[StepInfo]:
        columns = (self.epoch, self.loss, self.rows, self.n_pad)
        for i, (epoch, loss, rows, n_pad) in enumerate(
            zip(*(column.tolist() for column in columns), strict=True)
        ):
            yield StepInfo(self.first + i, epoch, loss, rows, n_pad)


class Column:
    """A one-dimensional array that grows at its end in amortised constant time.

    Args:
        dtype: Type of its values.
    """

    def __init__(self, dtype: Any) -> None:
        self._data = np.empty(64, dtype)
        self._size = 0

    def extend(self, values: Any) -> None:
        """Append values, shape ``(k,)``."""
        values = np.asarray(values, self._data.dtype)
        need = self._size + len(values)
        if need > len(self._data):
            grown = np.empty(max(need, 2 * len(self._data)), self._data.dtype)
            grown[: self._size] = self._data[: self._size]
            self._data = grown
        self._data[self._size : need] = values
        self._size = need

    @property
    def values(self) -> np.ndarray:
        """What is there so far, read-only, without a copy."""
        view = self._data[: self._size]
        view.flags.writeable = False
        return view
