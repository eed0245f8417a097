"""Downsampled curves: equal buckets of steps with minimum, maximum and mean.

A run may have millions of steps; a picture has a thousand columns. A :class:`Trace` takes every
step and keeps at most ``capacity`` buckets of equal width. When they are full, neighbours merge and
the width doubles. No peak is lost, and the cost of a picture does not grow with the run.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped
from numpy.typing import ArrayLike

from aimz_lab.inference.run.buckets import Buckets
from aimz_lab.inference.run.smoothing import averaged_steps

CAPACITY = 1024
_MOST_AT_ONCE = 2**18  # bounds the memory of a long run's losses in double precision


class Trace:
    """Buckets over the steps of a run.

    Args:
        capacity: Most buckets that are kept; even.

    Attributes:
        width: Steps in a bucket; a power of two.
        n_steps: Steps taken so far.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.width = 1
        self.n_steps = 0
        self._capacity = capacity
        self._n_buckets = 0
        self._tail = np.empty(0, np.float64)
        # Rows: lowest, highest, sum, number of finite values.
        self._buckets = np.empty((4, capacity), np.float64)
        self._last = np.empty((4, 0), np.float64)  # the bucket that is not full yet, if any

    def add(self, values: ArrayLike) -> None:
        """Take the values of the next steps, shape ``(k,)``."""
        values = np.asarray(values)
        for start in range(0, len(values), _MOST_AT_ONCE):
            self._add(values[start : start + _MOST_AT_ONCE].astype(np.float64))

    def _add(self, values: np.ndarray) -> None:
        self.n_steps += len(values)
        pending = np.concatenate([self._tail, values])
        while len(pending) >= self.width:
            room = self._capacity - self._n_buckets
            n_full = min(len(pending) // self.width, room)
            filled, pending = np.split(pending, [n_full * self.width])
            new = slice(self._n_buckets, self._n_buckets + n_full)
            self._buckets[:, new] = _reduce(filled.reshape(n_full, self.width))
            self._n_buckets += n_full
            if self._n_buckets == self._capacity:
                self._merge_neighbours()
        self._tail = pending
        self._last = _reduce(pending[None, :]) if len(pending) else np.empty((4, 0))

    def follow(self, column: Buckets, item: int | None = None) -> None:
        """Take the steps of a run's column since the last call.

        Where the column joins steps, its buckets lie within those of the trace, which are wider.

        Args:
            column: The same column each time.
            item: Position in its values, if these are not scalars.
        """
        at = () if item is None else (item,)
        if column.is_exact:
            self.add(column.kept[(slice(self.n_steps, None), *at)])
            return
        self.n_steps, self._tail = len(column), np.empty(0)
        while self.n_steps // self.width >= self._capacity or self.width < column.width:
            self._merge_neighbours()
        # The last bucket is made anew: of its steps, some may have been joined since.
        first = self._n_buckets * self.width // column.width
        stats, sizes = column.since(first)
        begins = first * column.width + np.cumsum(sizes) - sizes
        starts = np.flatnonzero(np.diff(begins // self.width, prepend=-1))
        new = _joined(stats[(..., *at)].T, starts)
        end = self.n_steps // self.width
        n_full = end - self._n_buckets
        self._buckets[:, self._n_buckets : end] = new[:, :n_full]
        self._n_buckets, self._last = end, new[:, n_full:]

    def _merge_neighbours(self) -> None:
        """Join full buckets in pairs; an odd one that is left over is dropped."""
        half = self._n_buckets // 2
        low, high, total, n_finite = self._buckets[:, : 2 * half].reshape(4, half, 2)
        self._buckets[:, :half] = (
            np.fmin(low[:, 0], low[:, 1]),
            np.fmax(high[:, 0], high[:, 1]),
            total.sum(axis=1),
            n_finite.sum(axis=1),
        )
        self._n_buckets = half
        self.width *= 2

    def _columns(self) -> np.ndarray:
        return np.concatenate([self._buckets[:, : self._n_buckets], self._last], axis=1)

    @property
    def steps(self) -> Int[np.ndarray, " bucket"]:
        """Last step of each bucket, from 1."""
        n = len(self.mean)
        return np.minimum(self.width * np.arange(1, n + 1), self.n_steps)

    @property
    def low(self) -> Float[np.ndarray, " bucket"]:
        """Lowest finite value in each bucket, NaN without any."""
        return self._columns()[0]

    @property
    def high(self) -> Float[np.ndarray, " bucket"]:
        """Highest finite value in each bucket, NaN without any."""
        return self._columns()[1]

    @property
    def mean(self) -> Float[np.ndarray, " bucket"]:
        """Mean of the finite values in each bucket, NaN without any."""
        _, _, total, n_finite = self._columns()
        return np.divide(total, n_finite, out=np.full(len(total), np.nan), where=n_finite > 0)

    def smooth(self, steps_per_epoch: int | None = None) -> Float[np.ndarray, " bucket"]:
        """Return the smoothed value at the last step of each bucket, see :func:`smooth`.

        Args:
            steps_per_epoch: Steps of an epoch; ``None`` if unknown.
        """
        return smooth(self.mean, self.width, self.n_steps, steps_per_epoch)

    def coarser(self, capacity: int) -> Trace:
        """Return a copy with at most ``capacity`` buckets, for a picture; it takes no more steps.

        Buckets are merged; the cost does not depend on the number of steps.
        """
        columns = self._columns()
        group = 1
        while group * capacity < columns.shape[1]:
            group *= 2
        starts = np.arange(0, columns.shape[1], group)
        coarse = Trace(capacity)
        coarse.width, coarse.n_steps = self.width * group, self.n_steps
        coarse._n_buckets = len(starts)
        coarse._buckets[:, : len(starts)] = _joined(columns, starts)
        return coarse

    def frame(self) -> dict[str, Any]:
        """Describe the buckets for the page: a plain dict with float32 buffers."""
        mean = self.mean
        frame: dict[str, Any] = {"width": self.width, "steps": self.n_steps}
        frame["mean"] = float32(mean)
        if self.width > 1:
            frame["low"], frame["high"] = float32(self.low), float32(self.high)
        return frame


def _joined(columns: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Join buckets from each start to the next; shape ``(4, start)``."""
    if len(starts) == 0:
        return np.empty((4, 0))
    low, high, total, n_finite = columns
    return np.stack(
        [
            np.fmin.reduceat(low, starts),
            np.fmax.reduceat(high, starts),
            np.add.reduceat(total, starts),
            np.add.reduceat(n_finite, starts),
        ]
    )


def _reduce(rows: np.ndarray) -> np.ndarray:
    finite = np.isfinite(rows)
    if finite.all():  # the usual case, and several times as fast
        n_finite = np.full(len(rows), rows.shape[1])
        return np.stack([rows.min(axis=1), rows.max(axis=1), rows.sum(axis=1), n_finite])
    n_finite = finite.sum(axis=1)
    low = np.where(finite, rows, np.inf).min(axis=1)
    high = np.where(finite, rows, -np.inf).max(axis=1)
    low[n_finite == 0] = high[n_finite == 0] = np.nan
    return np.stack([low, high, np.where(finite, rows, 0.0).sum(axis=1), n_finite])


def smooth(
    values: Float[np.ndarray, " n"],
    width: int,
    n_steps: int | None = None,
    steps_per_epoch: int | None = None,
) -> Float[np.ndarray, " n"]:
    """Return the mean of the last steps up to each value; NaN values weigh nothing.

    It is over as many steps as the loss of a run is, see
    :func:`~aimz_lab.inference.run.smoothing.averaged_steps`, and later values do not change it.

    Args:
        values: Equally spaced values, each the mean of ``width`` steps.
        width: Steps from one value to the next.
        n_steps: Steps in all; the last value may stand for fewer than ``width``.
        steps_per_epoch: Steps of an epoch; ``None`` if unknown.

    Returns:
        The mean at each value; NaN without a finite value in it.

    Example:
        >>> smooth(np.array([2.0, 2.0, np.nan, 2.0]), 1)
        array([ 2.,  2., nan,  2.])
    """
    n = len(values)
    ends = width * np.arange(1, n + 1)
    if n and n_steps is not None:
        ends[-1] = n_steps
    begins = np.maximum(ends - averaged_steps(ends, steps_per_epoch), 0)
    weights = np.diff(ends, prepend=0) * np.isfinite(values)
    finite = np.where(np.isfinite(values), values, 0.0)
    found = np.full(n, np.nan)
    for i, begin in enumerate(begins.tolist()):
        first = begin // width
        of_each = weights[first : i + 1].astype(float)
        # Of the first value, only a part of its steps is within.
        of_each[0] *= 1 - (begin - first * width) / (ends[first] - first * width)
        if (total := of_each.sum()) > 0:
            found[i] = of_each @ finite[first : i + 1] / total
    return found


def thin(
    x: Shaped[np.ndarray, " n"], y: Shaped[np.ndarray, " n"], most: int
) -> tuple[Shaped[np.ndarray, " kept"], Shaped[np.ndarray, " kept"]]:
    """Keep at most ``most`` points of a line: the lowest and the highest of each stretch, in order.

    Args:
        x: Positions, ascending.
        y: Values.
        most: Most points to keep, at least 2.

    Example:
        >>> thin(np.arange(8), np.array([0, 9, 1, 2, 3, 4, -5, 6]), 4)
        (array([0, 1, 6, 7]), array([ 0,  9, -5,  6]))
    """
    if len(x) <= most:
        return x, y
    stretches = np.array_split(np.arange(len(x)), most // 2)
    ranked = np.where(np.isfinite(y), y, np.inf), np.where(np.isfinite(y), y, -np.inf)
    kept = [i for s in stretches for i in {s[np.argmin(ranked[0][s])], s[np.argmax(ranked[1][s])]}]
    kept = np.array(sorted(kept))
    return x[kept], y[kept]


def float32(values: ArrayLike) -> bytes:
    """Pack values as a little-endian float32 buffer."""
    return np.ascontiguousarray(values, "<f4").tobytes()


def unpack(buffer: bytes) -> Float[np.ndarray, " value"]:
    """Read back what :func:`float32` packed."""
    return np.frombuffer(buffer, "<f4")
