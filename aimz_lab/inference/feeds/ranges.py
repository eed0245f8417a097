"""Keep the range of each column of the training data, and warn of new rows far outside of it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float, Shaped

from aimz_lab.data import BatchSource
from aimz_lab.data.wrapped_source import WrappedSource
from aimz_lab.errors import OutputWarning
from aimz_lab.files import Value
from aimz_lab.inference.feeds.columns import check_columns
from aimz_lab.number_text import number
from aimz_lab.tracebacks import warn
from aimz_lab.types import Array, Batch, Columns, JsonObject, Rows

FAR = 5.0
"""A value is far outside if its distance from the range is more than this many widths of it."""

COARSE = 1000.0
"""A column has to be this many steps of its type wide."""

_MOST_COLUMNS = 4096
"""Fields with more columns, such as images, have one range for all of them."""

_LARGEST = 1 << 30
"""Of fields with more bytes than this, only some rows are read, at equal distances."""

_LINE = 2048
"""How many numbers are compared at once; column by column would be slow."""

_LISTED = 5


class ColumnRange(NamedTuple):
    """Smallest and largest finite value of each column.

    Attributes:
        low: Smallest values, in the shape of a row; NaN where there is no finite value. One number
            if there are very many columns.
        high: Largest values.
    """

    low: Float[np.ndarray, ...]
    high: Float[np.ndarray, ...]

    @classmethod
    def of(cls, array: Shaped[Array, "row ..."]) -> ColumnRange:
        """Return the range of each column of an array with at least one row."""
        low, high = _low_high(_some_rows(array))
        if np.size(low) > _MOST_COLUMNS:
            low, high = np.nanmin(low), np.nanmax(high)
        return cls(np.asarray(low, np.float64), np.asarray(high, np.float64))

    def joined(self, other: ColumnRange) -> ColumnRange:
        """Return the range of both."""
        return ColumnRange(np.fmin(self.low, other.low), np.fmax(self.high, other.high))

    def far(self, new: ColumnRange) -> np.ndarray:
        """Mark the columns in which ``new`` is far outside; none if the shapes differ.

        A constant column counts as wide as its value, and at least 1 wide.

        Example:
            >>> trained = ColumnRange.of(np.array([[-2.0, 0.0], [3.0, 0.0]]))
            >>> trained.far(ColumnRange.of(np.array([[9.0, 41.0]])))
            array([False,  True])
        """
        if self.low.shape != new.low.shape:
            return np.zeros((), bool)
        width = self.high - self.low
        width = FAR * np.where(width > 0, width, np.maximum(np.abs(self.low), 1.0))
        return (new.low < self.low - width) | (new.high > self.high + width)


Ranges: TypeAlias = Mapping[str, ColumnRange]
"""The range of each column, by field."""


class ColumnScale(Protocol):
    """The way back from a column of an argument to the user's table.

    Attributes:
        column: Name of the table's column.
    """

    column: str

    def __call__(self, values: Float[np.ndarray, ...]) -> ArrayLike:
        """Return values on the scale of that column."""


ColumnScales: TypeAlias = Mapping[str, Sequence[ColumnScale | None]]
"""That of each column, by argument; ``None`` of one that does not come from a single number."""


def ranges_of(rows: Rows) -> dict[str, ColumnRange]:
    """Return the ranges of all fields of real numbers; flags have none."""
    return {name: ColumnRange.of(array) for name, array in rows.items() if _is_real(array)}


def joined_ranges(one: Ranges, other: Ranges) -> dict[str, ColumnRange]:
    """Return the ranges of both, field by field."""
    both = {**one, **other}
    for name in one.keys() & other:
        same = one[name].low.shape == other[name].low.shape
        both[name] = one[name].joined(other[name]) if same else other[name]
    return both


def ranges_to_tell(ranges: Ranges) -> JsonObject:
    """Return ranges as JSON values for another process, which has the same fields."""
    return {name: [each.low.tolist(), each.high.tolist()] for name, each in ranges.items()}


def told_ranges(own: Ranges, told: JsonObject) -> dict[str, ColumnRange]:
    """Join the ranges that another process has told to those of this one.

    Args:
        own: The ranges here.
        told: From :func:`ranges_to_tell`.
    """
    others = {
        name: ColumnRange(*(np.asarray(bound, np.float64) for bound in each))
        for name, each in told.items()
    }
    return joined_ranges(own, others)


def plain_ranges(ranges: Ranges) -> JsonObject:
    """Return ranges as JSON values, with ``None`` for NaN."""

    def plain(values: np.ndarray) -> object:
        return np.where(np.isnan(values), None, values.astype(object)).tolist()

    return {
        name: {"low": plain(each.low), "high": plain(each.high)} for name, each in ranges.items()
    }


def ranges_of_plain(plain: Value, rows: Mapping[str, tuple[int, ...]]) -> dict[str, ColumnRange]:
    """Return ranges from their JSON values.

    Args:
        plain: From :func:`plain_ranges`.
        rows: Shape of a row, by field.

    Raises:
        Malformed: If a range has not the shape of a row, or ends below its beginning.
    """
    ranges = {}
    for name, each in plain.named().items():
        shape = rows.get(name)
        if shape is None:
            raise each.refuse(f"ranges of the fields {', '.join(rows)} alone")
        ends = each.fields("low", "high")
        shape = shape if isinstance(ends["low"].value, list) else ()
        found = ColumnRange(_end(ends["low"], shape), _end(ends["high"], shape))
        if (found.low > found.high).any():
            raise each.refuse("no range that ends below its beginning")
        ranges[name] = found
    return ranges


def _end(plain: Value, shape: tuple[int, ...]) -> np.ndarray:
    """Return the numbers of nested lists, with NaN for ``null``."""
    if not shape:
        number = plain.optional(Value.number)
        return np.asarray(np.nan if number is None else number, np.float64)
    parts = [_end(part, shape[1:]) for part in plain.listed(shape[0])]
    return np.stack(parts) if parts else np.empty(shape, np.float64)


def warn_if_far(
    trained: Ranges, new: Ranges, columns: Columns, scales: ColumnScales | None = None
) -> bool:
    """Warn once, of all columns with new values far outside of the range in training.

    Args:
        trained: Ranges of the training data.
        new: Ranges of the new rows.
        columns: Column names of the fields that are tables.
        scales: The way back to the user's table; ``None`` if these rows come from none.

    Returns:
        Whether there was a warning.

    Warns:
        OutputWarning: With names and numbers.
    """
    found = list(
        dict.fromkeys(
            _described(name, trained[name], new[name], place, columns.get(name), scales or {})
            for name in trained
            if name in new
            for place in np.argwhere(trained[name].far(new[name])).tolist()
        )
    )
    if not found:
        return False
    more = f"; and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    advice = "The model has learned nothing about such values."
    if scales is None:
        advice = (
            "If the training data was scaled, scale these rows in the same way; otherwise the "
            "model has learned nothing about such values."
        )
    warn(
        "Rows are far outside of what the model was trained on: "
        f"{'; '.join(found[:_LISTED])}{more}. {advice}",
        OutputWarning,
    )
    return True


def warn_if_coarse(rows: Rows, columns: Columns) -> None:
    """Warn of columns whose values JAX's type cannot tell apart, such as times in seconds.

    Args:
        rows: Arrays by field, before they take that type.
        columns: Column names of the fields that are tables.

    Warns:
        OutputWarning: If a column is narrower than a thousand steps between its numbers.
    """
    found = []
    for name, array in rows.items():
        target = np.dtype(jax.dtypes.canonicalize_dtype(array.dtype))
        if array.dtype.kind != "f" or target.itemsize >= array.dtype.itemsize:
            continue
        known = ColumnRange.of(array)
        width = known.high - known.low
        largest = np.fmax(np.abs(known.low), np.abs(known.high))
        coarse = (width > 0) & (width < COARSE * np.finfo(target).eps * largest)
        places = np.argwhere(coarse).tolist()
        found += [_name_of(name, place, columns.get(name)) for place in places]
    if found:
        more = f"; and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
        warn(
            f"Single precision cannot tell the values of {'; '.join(found[:_LISTED])}{more} apart: "
            "they are close together and far from zero. Subtract their mean first.",
            OutputWarning,
        )


class WatchedSource(WrappedSource):
    """A stream that warns of the first batch far outside of the range in training.

    Args:
        source: The stream.
        trained: Ranges of the training data.
        columns: Column names of the training data.
        scales: The way back to the user's table; ``None`` if these rows come from none.
    """

    def __init__(
        self,
        source: BatchSource,
        trained: Ranges,
        columns: Columns,
        scales: ColumnScales | None = None,
    ) -> None:
        super().__init__(source)
        self._trained, self._trained_columns, self._scales = trained, columns, scales

    def _wrapping(self, part: BatchSource, first: int) -> WatchedSource:  # noqa: ARG002
        return WatchedSource(part, self._trained, self._trained_columns, self._scales)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Return the batches of one epoch.

        Raises:
            DataError: If a table has other columns than in training.
        """
        warned = False
        for batch in self._source.epoch(epoch, start):
            check_columns(self._trained_columns, self._source.columns, {})
            if not warned:
                rows = {name: batch[name] for name in self._trained if name in batch}
                warned = warn_if_far(
                    self._trained, ranges_of(rows), self._trained_columns, self._scales
                )
            yield batch


def _described(
    name: str,
    trained: ColumnRange,
    new: ColumnRange,
    place: list[int],
    columns: tuple[str, ...] | None,
    scales: ColumnScales,
) -> str:
    at, what = tuple(place), _name_of(name, place, columns)
    ends = np.array([[each.low[at], each.high[at]] for each in (new, trained)])
    of_field, i = scales.get(name, ()), place[0] if place else 0
    scale = of_field[i] if len(place) < 2 and i < len(of_field) else None
    if scale is not None and np.isfinite(there := np.asarray(scale(ends))).all():
        what, ends = f"column {scale.column!r}", np.sort(there)
    (low, high), (least, most) = ends.tolist()
    return (
        f"{what} goes from {number(low)} to {number(high)}, in training from {number(least)} to "
        f"{number(most)}"
    )


def _is_real(array: Array) -> bool:
    return jax.numpy.issubdtype(array.dtype, np.floating) or array.dtype.kind in "iu"


def _some_rows(array: Array) -> Array:
    if isinstance(array, jax.Array):
        if all(device.platform == "cpu" for device in array.devices()):
            array = np.asarray(array)  # shares memory
        return array
    step = -(-array.nbytes // _LARGEST)
    return array[::step] if step > 1 else array


def _low_high(array: Array) -> tuple[np.ndarray, np.ndarray]:
    """Return the finite minimum and maximum of each column."""
    low, high = _ends(array, "min"), _ends(array, "max")
    if np.isfinite(low).all() and np.isfinite(high).all():
        return low, high
    array = np.asarray(array, np.float64)
    gaps = np.where(np.isfinite(array), array, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # columns of NaN alone
        return np.nanmin(gaps, 0), np.nanmax(gaps, 0)


def _ends(array: Array, which: str) -> np.ndarray:
    """Return the minimum or maximum of each column; short rows are compared several at a time."""
    width = int(np.prod(array.shape[1:]))
    together = max(_LINE // max(width, 1), 1)
    n_rows = array.shape[0] // together * together
    if not isinstance(array, np.ndarray) or n_rows < 2 * together or not array.flags.c_contiguous:
        return np.asarray(getattr(array, which)(axis=0))
    lines = getattr(array[:n_rows].reshape(-1, together * width), which)(axis=0)
    ends = getattr(lines.reshape(together, *array.shape[1:]), which)(axis=0)
    rest = array[n_rows:]
    if not len(rest):
        return ends
    least = np.minimum if which == "min" else np.maximum
    return least(ends, getattr(rest, which)(axis=0))


def _name_of(name: str, place: list[int], columns: tuple[str, ...] | None) -> str:
    if columns is not None and len(place) == 1 and place[0] < len(columns):
        return f"column {columns[place[0]]!r} of {name}"
    return f"{name}[:, {', '.join(map(str, place))}]" if place else name
