"""The history of a run: the loss of every step, and bounded columns of everything else."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int, Num
from numpy.typing import DTypeLike

from aimz_lab.inference.run.buckets import (
    EXACT_STEPS,
    HIGH,
    LOW,
    SUM,
    BucketKind,
    Buckets,
    Column,
    kept_form,
    mean_of,
)
from aimz_lab.inference.run.steps import Steps

_COLUMNS: dict[str, tuple[DTypeLike, BucketKind]] = {
    "epoch": (np.int32, "last"),
    "rows": (np.int32, "sum"),
    "n_pad": (np.int32, "measured"),
    "seconds": (np.float64, "last"),
    "learning_rate": (np.float32, "last"),
}
_METRIC: tuple[DTypeLike, BucketKind] = (np.float32, "measured")

_RECENT_S = 3.0
_LEAST_APART_S = 0.01
_STALL_S, _STALLED = 0.5, 8.0


Form = tuple[np.dtype, tuple[int, ...]]
"""Type and shape of an array."""


def column_forms(n_steps: int) -> dict[str, Form]:
    """Return type and shape of what is kept of so many steps, by the names of the columns."""
    forms = {name: kept_form(*column, n_steps) for name, column in _COLUMNS.items()}
    return {"loss": (np.dtype(np.float32), (n_steps,)), **forms}


def metric_form(n_steps: int) -> Form:
    """Return type and shape of what is kept of a metric of so many steps."""
    return kept_form(*_METRIC, n_steps)


class StepHistory:
    """The values of the steps so far, one column each.

    The losses are kept whole, 4 bytes a step: they are a result. The other columns are
    :class:`~aimz_lab.inference.run.buckets.Buckets`, whose memory is bounded.

    Attributes:
        resumed_at: Steps of an earlier process, up to the checkpoint; 0 for a new run.
        stepping_s: Stepping time so far, in seconds; that of an earlier process included.
        earlier_s: That of the earlier process; 0 for a new run.
    """

    def __init__(self) -> None:
        self.resumed_at = 0
        self.stepping_s = self.earlier_s = 0.0
        self._losses = Column(np.float32)
        self._columns = {name: Buckets(*column) for name, column in _COLUMNS.items()}
        self._metrics: dict[str, Buckets] = {}
        self._pace = Pace(0.0, 0)
        # A column is read by other threads while the run goes on.
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._losses)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the values that every step has."""
        return ("loss", *self._columns)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the further values that steps reported."""
        return tuple(self._metrics)

    @property
    def losses(self) -> Float[np.ndarray, " step"]:
        """Loss of each step; read-only, without a copy."""
        return self._losses.values

    @property
    def bucket_steps(self) -> Int[np.ndarray, " bucket"]:
        """See :attr:`Run.bucket_steps`."""
        with self._lock:
            return self._columns["epoch"].sizes

    def column(self, name: str) -> Num[np.ndarray, " bucket"]:
        """See :meth:`Run.column`."""
        if name == "loss" and len(self) <= EXACT_STEPS:
            return self.losses
        return _values(name, self._kept_of(name))

    def extreme(self, name: str, which: int) -> Num[np.ndarray, " bucket"]:
        """See :meth:`Run.lowest` and :meth:`Run.highest`; ``which`` is LOW or HIGH."""
        if name not in ("loss", "n_pad"):
            self._metrics[name]  # the others have no such values
        return _extreme(self._kept_of(name), which)

    def table(self) -> dict[str, Num[np.ndarray, " bucket"]]:
        """See :meth:`Run.table`."""
        with self._lock:
            sizes = self._columns["epoch"].sizes
            columns, metrics = self._kept()
        columns["loss"] = _loss_buckets(columns["loss"]).kept
        extremes = {
            f"{name}_{word}": _extreme(kept, which)
            for name, kept in {"loss": columns["loss"], **metrics}.items()
            for word, which in (("low", LOW), ("high", HIGH))
            if kept.ndim > 1
        }
        values = {name: _values(name, kept) for name, kept in {**metrics, **columns}.items()}
        return {**extremes, **values, "bucket_steps": sizes}

    def _kept_of(self, name: str) -> np.ndarray:
        if name == "loss":
            return _loss_buckets(self.losses).kept
        with self._lock:
            return self.buckets(name).kept

    def kept(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """See :meth:`Run.kept`."""
        with self._lock:
            return self._kept()

    def _kept(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        columns = {name: column.kept for name, column in self._columns.items()}
        metrics = {name: column.kept for name, column in self._metrics.items()}
        return {"loss": self.losses, **columns}, metrics

    def buckets(self, name: str) -> Buckets:
        """Return a column with its buckets; a new one of the losses, which are kept whole.

        Raises:
            KeyError: If there is no such column.
        """
        if name == "loss":
            return _loss_buckets(self.losses)
        return self._columns[name] if name in self._columns else self._metrics[name]

    def extend(self, steps: Steps) -> None:
        """Append ``steps``; a metric is NaN where a step lacks it."""
        count, before = len(steps), len(self)
        rate = np.nan if steps.learning_rate is None else steps.learning_rate
        rates = np.full(count, rate) if steps.rates is None else steps.rates
        with self._lock:
            self.stepping_s += steps.seconds
            self._losses.extend(steps.loss)
            for name in ("epoch", "rows", "n_pad"):
                self._columns[name].extend(getattr(steps, name))
            self._columns["seconds"].extend(np.full(count, self.stepping_s))
            self._columns["learning_rate"].extend(rates)
            for name in dict.fromkeys([*self._metrics, *steps.metrics]):
                if name not in self._metrics:
                    self._metrics[name] = Buckets(*_METRIC)
                    self._metrics[name].extend(np.full(before, np.nan, np.float32))
                self._metrics[name].extend(steps.metrics.get(name, np.full(count, np.nan)))
        self._pace.add(self.stepping_s, len(self))

    def restore(
        self,
        columns: Mapping[str, Num[np.ndarray, "bucket ..."]],
        metrics: Mapping[str, Num[np.ndarray, "bucket ..."]],
    ) -> None:
        """Begin with the history of an earlier process; see :meth:`Run.take_over`."""
        n_steps = len(columns["loss"])
        self._losses.extend(columns["loss"])
        for name, column in self._columns.items():
            column.restore(columns[name], n_steps)
        for name, kept in metrics.items():
            self._metrics[name] = Buckets(*_METRIC)
            self._metrics[name].restore(kept, n_steps)
        self.stepping_s = float(self.column("seconds")[-1]) if n_steps else 0.0
        self.earlier_s = self.stepping_s
        self.resumed_at = n_steps
        self._pace = Pace(self.stepping_s, n_steps)

    def count_as_own(self) -> None:
        """Take the restored steps for steps of this process: a finished run, read from a file."""
        self.resumed_at, self._pace = 0, Pace(0.0, 0)
        ends, done = self.column("seconds"), np.cumsum(self.bucket_steps)
        last = np.flatnonzero(np.diff(ends, append=np.inf))
        for end, step in zip(ends[last].tolist(), done[last].tolist(), strict=True):
            self._pace.add(end, step)

    @property
    def in_first_chunk(self) -> bool:
        """Whether this process has recorded at most one chunk, in which the step compiles."""
        return self._pace.chunks <= 1

    @property
    def steps_per_s(self) -> float:
        """See :attr:`Run.steps_per_s`."""
        return self._pace.steps_per_s

    @property
    def recent_rows(self) -> float:
        """Rows of a step, the mean over the latest 256 steps or buckets; 0 before the first."""
        with self._lock:
            stats, sizes = self._columns["rows"].since(-256)
        return float(stats[:, SUM].sum() / sizes.sum()) if len(sizes) else 0.0


def _loss_buckets(losses: np.ndarray) -> Buckets:
    buckets = Buckets(*_METRIC)
    buckets.extend(losses)
    return buckets


def _values(name: str, kept: np.ndarray) -> np.ndarray:
    """The values that stand for the steps of each bucket; read-only."""
    if kept.ndim == 1:
        values = kept.view()
    else:
        values = kept[:, SUM].astype(np.int64) if name == "n_pad" else mean_of(kept)
    values.flags.writeable = False
    return values


def _extreme(kept: np.ndarray, which: int) -> np.ndarray:
    values = kept.view() if kept.ndim == 1 else kept[:, which].copy()
    values.flags.writeable = False
    return values


class Pace:
    """Steps per second over the last seconds of stepping.

    The first chunk compiles; it counts only until the second. A later one that takes many times as
    long as its steps did before has compiled too, or was held up; that time does not count, unless
    the next chunk is as slow.

    Args:
        began_s: Stepping time at the beginning, in seconds.
        step: Steps done by then.

    Attributes:
        chunks: Chunks so far.

    Example:
        >>> pace = Pace(0.0, 0)
        >>> for end_s, step in [(50.0, 10), (52.0, 20)]:
        ...     pace.add(end_s, step)
        >>> pace.steps_per_s
        5.0
    """

    def __init__(self, began_s: float, step: int) -> None:
        self.chunks = 0
        self._has_stalled = False
        # The steps count from the first of these ends.
        self._ends = deque([(began_s, step)])

    def add(self, end_s: float, step: int) -> None:
        """Note the end of a chunk.

        Args:
            end_s: Stepping time by then, in seconds.
            step: Steps done by then.
        """
        self.chunks += 1
        ends = self._ends
        rate = self.steps_per_s if self.chunks > 2 else 0.0
        usual_s = (step - ends[-1][1]) / rate if rate else np.inf
        lost_s = end_s - ends[-1][0] - usual_s
        stalls = lost_s > max(_STALL_S, _STALLED * usual_s)
        if stalls and not self._has_stalled:
            self._ends = ends = deque((at + lost_s, done) for at, done in ends)
        elif stalls:  # the steps have become slow
            self._ends = ends = deque([ends[-1]])
        self._has_stalled = stalls
        if len(ends) > 2 and end_s - ends[-2][0] < _LEAST_APART_S:
            ends.pop()  # bounds their number
        ends.append((end_s, step))
        if self.chunks == 2:
            ends.popleft()
        while len(ends) > 2 and ends[1][0] < end_s - _RECENT_S:
            ends.popleft()

    @property
    def steps_per_s(self) -> float:
        """The rate; 0 before the first chunk."""
        (began_s, before), (end_s, step) = self._ends[0], self._ends[-1]
        return (step - before) / (end_s - began_s) if end_s > began_s else 0.0
