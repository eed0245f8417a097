"""Columns of a run that grow with its steps: whole, or bounded by buckets of neighbouring steps."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Int, Num
from numpy.typing import ArrayLike, DTypeLike

EXACT_STEPS = 2**17
"""Most steps that a run keeps one by one; neighbouring steps of a longer run share a bucket."""

BucketKind = Literal["last", "sum", "measured"]
"""What a bucket keeps of its steps: the last value, their sum, or :data:`LOW` to :data:`COUNT`."""

LOW, HIGH, SUM, COUNT = range(4)
"""Places in a measured bucket: its lowest and highest finite value, their sum and their number."""


class Column:
    """An array that grows at the end of its leading axis in amortised constant time.

    Args:
        dtype: Type of its values.
        shape: Shape of a value.
    """

    def __init__(self, dtype: DTypeLike, shape: tuple[int, ...] = ()) -> None:
        self._data = np.empty((64, *shape), dtype)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def extend(self, values: ArrayLike) -> None:
        """Append values; they lie along the leading axis."""
        values = np.asarray(values, self._data.dtype)
        need = self._size + len(values)
        if need > len(self._data):
            # By a quarter: a run may keep this to its end, and a model its losses for good.
            grown = np.empty((max(need, len(self._data) * 5 // 4), *values.shape[1:]), values.dtype)
            grown[: self._size] = self._data[: self._size]
            self._data = grown
        self._data[self._size : need] = values
        self._size = need

    @property
    def values(self) -> Num[np.ndarray, "value ..."]:
        """The values so far, read-only, without a copy."""
        view = self._data[: self._size]
        view.flags.writeable = False
        return view


class Buckets:
    """One value a step up to a limit; of more steps, one for each bucket of neighbouring steps.

    All buckets stand for ``width`` steps, a power of two. Before there would be more than ``limit``
    of them, neighbours merge in pairs, and the width doubles. Steps that do not fill a bucket yet
    are kept one by one. So what is kept is a function of the steps alone, bit for bit, and not of
    the chunks in which they came.

    Args:
        dtype: Type of the values; of integers, if they are summed.
        kind: What a bucket keeps of its steps.
        limit: Most buckets; a power of two.
        shape: Shape of a value.

    Attributes:
        width: Steps of a bucket.

    Example:
        >>> column = Buckets(np.int64, "sum", limit=2)
        >>> column.extend([1, 2, 3, 4, 5])
        >>> column.width, column.kept, column.sizes
        (4, array([10,  5]), array([4, 1]))
    """

    def __init__(
        self,
        dtype: DTypeLike,
        kind: BucketKind,
        *,
        limit: int = EXACT_STEPS,
        shape: tuple[int, ...] = (),
    ) -> None:
        self.width = 1
        self._dtype = np.dtype(dtype)
        self._kind = kind
        self._limit = limit
        self._shape = shape
        self._full = Column(dtype, shape)
        self._open = np.empty((0, *shape), dtype)  # steps that do not fill a bucket yet

    def __len__(self) -> int:
        return len(self._full) * self.width + len(self._open)

    @property
    def is_exact(self) -> bool:
        """Whether every step is kept by itself."""
        return self.width == 1

    @property
    def kept(self) -> Num[np.ndarray, "bucket ..."]:
        """What is kept, for :meth:`restore`: one value a step while exact, else one a bucket.

        A measured bucket has an axis with the four values :data:`LOW` to :data:`COUNT`.
        """
        if self.is_exact:
            return self._full.values  # only ever appended to
        return np.concatenate([self._full.values, self._lifted(self._open)])

    @property
    def sizes(self) -> Int[np.ndarray, " bucket"]:
        """Steps of each bucket."""
        return np.repeat([self.width, 1], [len(self._full), len(self._open)])

    def since(
        self, first: int
    ) -> tuple[Num[np.ndarray, "bucket 4 ..."], Int[np.ndarray, " bucket"]]:
        """Return the buckets from number ``first`` on, as measured ones, and their sizes.

        The cost is that of these buckets alone. A negative number counts from the end.
        """
        n_full = len(self._full)
        first = max(first + n_full + len(self._open), 0) if first < 0 else first
        steps = self._lifted(self._open[max(first - n_full, 0) :])
        kept = np.concatenate([self._full.values[first:], steps])
        if self._kind != "measured" or self.is_exact:
            kept = measured(kept)
        sizes = np.ones(len(kept), int)
        sizes[: max(n_full - first, 0)] = self.width
        return kept, sizes

    def extend(self, values: ArrayLike) -> None:
        """Append values, one a step along the leading axis."""
        values = np.asarray(values, self._dtype)
        while len(values):
            room = self._limit * self.width - len(self)
            if room == 0:
                self._double()
                continue
            room = min(room, self._limit)  # bounds the memory of many steps at once
            self._append(values[:room])
            values = values[room:]

    def restore(self, kept: Num[np.ndarray, "bucket ..."], n_steps: int) -> None:
        """Begin with what another object of these arguments has :attr:`kept` of its steps.

        Raises:
            ValueError: If it has not the shape that so many steps have.
        """
        width = width_of(n_steps, self._limit)
        self._full = self._column(width)
        expected = (n_steps // width + n_steps % width, *self._full.values.shape[1:])
        if kept.shape != expected:
            msg = f"{n_steps} steps are kept in the shape {expected}, not {kept.shape}"
            raise ValueError(msg)
        self.width = width
        self._full.extend(kept[: n_steps // width])
        steps = kept[n_steps // width :]
        if steps.ndim > 1 + len(self._shape):  # measured
            steps = np.where(steps[:, COUNT] > 0, steps[:, SUM], np.nan)
        self._open = steps.astype(self._dtype)

    def _column(self, width: int) -> Column:
        dtype, axes = _bucket_form(self._dtype, self._kind, width)
        return Column(dtype, (*axes, *self._shape))

    def _lifted(self, values: np.ndarray) -> np.ndarray:
        """Single steps as buckets of one step; as they are while all buckets are."""
        if self.is_exact:
            return values
        if self._kind == "sum":
            return values.astype(np.int64)
        return measured(values) if self._kind == "measured" else values

    def _append(self, values: np.ndarray) -> None:
        if self.is_exact:
            self._full.extend(values)
            return
        pending = np.concatenate([self._open, values])
        whole = len(pending) - len(pending) % self.width
        if whole:
            self._full.extend(self._merged(self._lifted(pending[:whole]), self.width))
            pending = pending[whole:].copy()
        self._open = pending

    def _double(self) -> None:
        """Merge neighbours; there are as many as the limit, and no step is left over."""
        values, were_steps = self._full.values, self.is_exact
        self.width *= 2
        values = self._merged(self._lifted(values) if were_steps else values, 2)
        self._full = self._column(self.width)  # a new one: what was read before does not change
        self._full.extend(values)

    def _merged(self, values: np.ndarray, width: int) -> np.ndarray:
        """Merge each ``width`` neighbours, by pairs: sums do not depend on when it is done."""
        while width > 1:
            first, second = values[0::2], values[1::2]
            if self._kind == "last":
                values = second
            else:
                values = first + second
                if self._kind == "measured":
                    values[:, LOW] = np.fmin(first[:, LOW], second[:, LOW])
                    values[:, HIGH] = np.fmax(first[:, HIGH], second[:, HIGH])
            width //= 2
        return values


def width_of(n_steps: int, limit: int = EXACT_STEPS) -> int:
    """Return the steps of a bucket after so many steps: the least power of two that suffices.

    Example:
        >>> width_of(8, limit=8), width_of(9, limit=8), width_of(33, limit=8)
        (1, 2, 8)
    """
    return 1 << (max(-(-n_steps // limit), 1) - 1).bit_length()


def bucket_sizes(n_steps: int, limit: int = EXACT_STEPS) -> Int[np.ndarray, " bucket"]:
    """Return the steps of each bucket after so many steps.

    Example:
        >>> bucket_sizes(3, limit=8), bucket_sizes(17, limit=8)
        (array([1, 1, 1]), array([4, 4, 4, 4, 1]))
    """
    width = width_of(n_steps, limit)
    return np.repeat([width, 1], [n_steps // width, n_steps % width])


def kept_form(
    dtype: DTypeLike, kind: BucketKind, n_steps: int, limit: int = EXACT_STEPS
) -> tuple[np.dtype, tuple[int, ...]]:
    """Return type and shape of what a column of scalars keeps of so many steps.

    Example:
        >>> kept_form(np.float32, "measured", 17, limit=8)
        (dtype('float64'), (5, 4))
    """
    dtype, axes = _bucket_form(np.dtype(dtype), kind, width_of(n_steps, limit))
    return dtype, (len(bucket_sizes(n_steps, limit)), *axes)


def _bucket_form(dtype: np.dtype, kind: BucketKind, width: int) -> tuple[np.dtype, tuple[int, ...]]:
    """Type of what a bucket of so many steps keeps, and its axes before those of a value."""
    if kind == "last" or width == 1:
        return dtype, ()
    return (np.dtype(np.int64), ()) if kind == "sum" else (np.dtype(np.float64), (4,))


def measured(values: Num[np.ndarray, "step ..."]) -> Num[np.ndarray, "step 4 ..."]:
    """Return single steps as measured buckets; a value that is not finite does not count."""
    values = values.astype(np.float64)
    finite = np.isfinite(values)
    if finite.all():
        return np.stack([values, values, values, finite], axis=1)
    known = np.where(finite, values, np.nan)
    return np.stack([known, known, np.where(finite, values, 0.0), finite], axis=1)


def mean_of(stats: Num[np.ndarray, "bucket 4 ..."]) -> Num[np.ndarray, "bucket ..."]:
    """Return the mean of the finite values of measured buckets; NaN without any."""
    count = stats[:, COUNT]
    return np.divide(stats[:, SUM], count, out=np.full(count.shape, np.nan), where=count > 0)
