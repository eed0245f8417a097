"""The steps of a run: one step, the steps of a report, and the history of all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Num
from numpy.typing import ArrayLike, DTypeLike


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
        seconds: Wall time from the end of the steps before to the end of these.
        learning_rate: The rate of these steps; ``None`` if the optimizer's state has none.
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
    metrics: Mapping[str, Num[np.ndarray, " step"]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.loss)

    def __iter__(self) -> Iterator[StepInfo]:
        columns = (self.epoch, self.loss, self.rows, self.n_pad)
        for i, (epoch, loss, rows, n_pad) in enumerate(
            zip(*(column.tolist() for column in columns), strict=True)
        ):
            yield StepInfo(self.first + i, epoch, loss, rows, n_pad)


COLUMN_TYPES = {
    "loss": np.float32,
    "epoch": np.int32,
    "rows": np.int32,
    "n_pad": np.int32,
    "seconds": np.float64,
    "learning_rate": np.float32,
}
"""Types of the values that every step has."""

METRIC_TYPE = np.float32


class Column:
    """A one-dimensional array that grows at its end in amortised constant time.

    Args:
        dtype: Type of its values.
    """

    def __init__(self, dtype: DTypeLike) -> None:
        self._data = np.empty(64, dtype)
        self._size = 0

    def extend(self, values: ArrayLike) -> None:
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
    def values(self) -> Num[np.ndarray, " value"]:
        """The values so far, read-only, without a copy."""
        view = self._data[: self._size]
        view.flags.writeable = False
        return view


class StepHistory:
    """The values of every step so far, one column each.

    Attributes:
        resumed_at: Steps of an earlier process, up to the checkpoint; 0 for a new run.
    """

    def __init__(self) -> None:
        self.resumed_at = 0
        self._columns = {name: Column(dtype) for name, dtype in COLUMN_TYPES.items()}
        self._metrics: dict[str, Column] = {}

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the values that every step has."""
        return tuple(self._columns)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the further values that steps reported."""
        return tuple(self._metrics)

    def column(self, name: str) -> Num[np.ndarray, " step"]:
        """One value a step, read-only; see :meth:`Run.column`."""
        return (self._columns.get(name) or self._metrics[name]).values

    def extend(self, steps: Steps) -> None:
        """Append ``steps``; a metric is NaN where a step lacks it."""
        before = self.column("seconds")
        stepping_s = (before[-1] if len(before) else 0.0) + steps.seconds
        for name in ("loss", "epoch", "rows", "n_pad"):
            self._columns[name].extend(getattr(steps, name))
        self._columns["seconds"].extend(np.full(len(steps), stepping_s))
        rate = np.nan if steps.learning_rate is None else steps.learning_rate
        self._columns["learning_rate"].extend(np.full(len(steps), rate))
        for name in dict.fromkeys([*self._metrics, *steps.metrics]):
            if name not in self._metrics:
                self._metrics[name] = Column(METRIC_TYPE)
                self._metrics[name].extend(np.full(len(before), np.nan))
            missing = np.full(len(steps), np.nan)
            self._metrics[name].extend(steps.metrics.get(name, missing))

    def restore(self, columns: Mapping[str, np.ndarray], metrics: Mapping[str, np.ndarray]) -> None:
        """Begin with the history of an earlier process; see :meth:`Run.take_over`."""
        for name, column in self._columns.items():
            column.extend(columns[name])
        for name, values in metrics.items():
            self._metrics[name] = Column(METRIC_TYPE)
            self._metrics[name].extend(values)
        self.resumed_at = len(self.column("loss"))

    @property
    def in_first_chunk(self) -> bool:
        """Whether this process has recorded at most one chunk, in which the step compiles."""
        _, ends = self._chunk_ends
        return len(ends) == 0 or ends[0] == ends[-1]

    @property
    def steps_per_s(self) -> float:
        """See :attr:`Run.steps_per_s`."""
        began, ends = self._chunk_ends
        if len(ends) == 0:
            return 0.0
        recent = int(np.searchsorted(ends, ends[-1] - 3.0))
        if recent == 0 and not self.in_first_chunk:
            recent = int(np.searchsorted(ends, ends[0], side="right"))
        span = ends[-1] - (ends[recent - 1] if recent else began)
        return (len(ends) - recent) / span if span > 0 else 0.0

    @property
    def _chunk_ends(self) -> tuple[float, np.ndarray]:
        """Stepping time at the beginning of this process, and after each of its steps."""
        seconds = self.column("seconds")
        began = float(seconds[self.resumed_at - 1]) if self.resumed_at else 0.0
        return began, seconds[self.resumed_at :]
