"""Labels of rows and columns: read them from tables, and compare them.

Labels are compared, never used to reorder: data labelled in another order is refused. Where nobody
labelled anything, pandas writes an unnamed index that counts from 0. Such an index agrees with
labels of any other kind; it contradicts other unnamed numbers, which may be other rows of a table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from aimz_lab.data.tables import is_a
from aimz_lab.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


class RowCoord(NamedTuple):
    """Row labels, for the coordinate of a result's row dimension.

    Attributes:
        dim: Name of the dimension, or ``None`` if the data does not name it.
        labels: One label per row: numbers, text or dates.
        time_zone: Name of the time zone of dates, which are its local time.
        levels: Those of each level of a multi-index, by name.
    """

    dim: str | None
    labels: Shaped[np.ndarray, " row"]
    time_zone: str | None = None
    levels: Mapping[str, RowCoord] = {}


class AxisLabels(NamedTuple):
    """Labels along one axis.

    Attributes:
        names: Names of the levels of a pandas index, or the name of an xarray dimension.
        labels: One label per entry; ``None`` for an xarray dimension without a coordinate.
        counts: Whether this is an unnamed index that only counts from 0.
        index: The pandas index that the labels come from, if any.
    """

    names: tuple[str, ...]
    labels: Shaped[np.ndarray, " entry"] | None
    counts: bool = False
    index: pd.Index | None = None

    def conflict(self, other: AxisLabels) -> int | None:
        """Return the first entry to which both give different labels; ``None`` if there is none.

        Example:
            >>> a, b = AxisLabels((), np.array([0, 1]), True), AxisLabels((), np.array([1, 0]))
            >>> a.conflict(b)
            0
        """
        one, two = self.labels, other.labels
        if one is None or two is None or one is two or len(one) != len(two):
            return None
        if sorted(self.names) == sorted(other.names) and self.names != other.names:
            return 0  # the same levels in another order: "1, 2" does not mean what it meant
        differ = _differ(one, two)
        if self.counts != other.counts and not _are_numbers(self, other):
            return None
        return int(np.argmax(differ)) if differ.any() else None

    def same_as(self, other: AxisLabels | None) -> bool:
        """Whether both give each entry the same label.

        Example:
            >>> AxisLabels((), np.array([0, 1])).same_as(AxisLabels((), np.array([1, 0])))
            False
        """
        if other is None or self.names != other.names or self.labels is None:
            return False
        return self.labels is other.labels or np.array_equal(self.labels, other.labels)

    def in_order(self, order: Shaped[np.ndarray, " entry"]) -> AxisLabels:
        """Return the labels of entries in another order, given by their numbers."""
        index = None if self.index is None else self.index[order]
        return self._replace(labels=self.labels[order], index=index)

    def text(self, entry: int) -> str:
        """Return the label of an entry, with the names of its levels if there are several."""
        levels = f" ({', '.join(self.names)})" if len(self.names) > 1 else ""
        return f"{self.labels[entry]}{levels}"


def _are_numbers(one: AxisLabels, other: AxisLabels) -> bool:
    """Whether both are unnamed numbers, as two parts of a table have them."""
    both = one, other
    return not any(a.names for a in both) and all(a.labels.dtype.kind in "iuf" for a in both)


def axis_labels(value: Any) -> tuple[AxisLabels | None, ...]:
    """Return the labels along each axis of a pandas or xarray object; ``()`` for other values."""
    if is_a(value, "pandas", "Series"):
        return (labels_of_index(value.index),)
    if is_a(value, "pandas", "DataFrame"):
        return labels_of_index(value.index), labels_of_index(value.columns)
    if is_a(value, "xarray", "DataArray"):
        return tuple(_of_dim(value, dim) for dim in value.dims)
    return ()


def row_labels(value: Any) -> AxisLabels | None:
    """Return the labels along the leading axis of a pandas or xarray object, or ``None``.

    Args:
        value: Anything; labels are returned as they are.
    """
    if isinstance(value, AxisLabels):
        return value
    if is_a(value, "pandas", "DataFrame", "Series"):
        return labels_of_index(value.index)
    if is_a(value, "xarray", "DataArray") and value.ndim:
        return _of_dim(value, value.dims[0])
    return None


def row_coord(value: Any) -> RowCoord | None:
    """Return the row labels of a pandas or xarray object, for results.

    They come from a pandas index, or from the coordinate of an xarray object's leading dimension.
    An unnamed pandas index that only counts the rows gives none. The levels of a multi-index are
    joined to one text, ``"2021, TX"``, and kept beside it. Dates with a time zone become its local
    time, in which an hour comes twice where the clocks go back. polars objects and plain arrays
    have no labels.

    Args:
        value: Anything.

    Returns:
        The labels and their dimension, or ``None`` if there are none.
    """
    return as_coord(row_labels(value))


def as_coord(labels: AxisLabels | None) -> RowCoord | None:
    """Return labels as a coordinate of results; ``None`` if they only count."""
    if labels is None or labels.labels is None or labels.counts:
        return None
    dim, index = "_".join(labels.names) or None, labels.index
    if not is_a(index, "pandas", "MultiIndex"):
        return RowCoord(dim, *_local(labels.labels, index))
    levels: dict[str, RowCoord] = {}
    for i, name in enumerate(index.names):
        level, name = index.get_level_values(i), f"level_{i}" if name is None else str(name)
        levels[name] = RowCoord(name, *_local(_index_labels(level), level))
    return RowCoord(dim, labels.labels, levels=levels)


def _local(labels: np.ndarray, index: pd.Index | None) -> tuple[np.ndarray, str | None]:
    """Return dates in the local time of their zone, and its name: files have no zones."""
    zone = getattr(index, "tz", None)
    return (labels, None) if zone is None else (np.asarray(index.tz_localize(None)), str(zone))


def shared_row_labels(fields: Mapping[str, object]) -> AxisLabels | None:
    """Return the row labels of the first labelled field, after checking those of the others.

    Args:
        fields: The objects that the user passed, by field; all with the same number of rows.

    Returns:
        The labels, or ``None``. Labels that only count are taken if there are no others.

    Raises:
        DataError: If two fields label the same row differently, or if the row dimension of one is
            another axis of the other: their rows do not belong together.
    """
    _check_dims(fields)
    seen: dict[str, AxisLabels] = {}
    for name, value in fields.items():
        labels = row_labels(value)
        if labels is None or labels.labels is None:
            continue
        for other, known in seen.items():
            row = labels.conflict(known)
            if row is not None:
                msg = (
                    f"Fields {other!r} and {name!r} label their rows differently: row {row} is "
                    f"{known.text(row)} in {other!r} and {labels.text(row)} in {name!r}. Align "
                    f"them, {name} = {name}.loc[{other}.index]; or, if they belong together as "
                    f"they stand, {name} = {name}.set_axis({other}.index)."
                )
                raise DataError(msg)
        if not any(labels.labels is known.labels for known in seen.values()):
            seen[name] = labels
    return first_row_labels(seen.values())


def first_row_labels(fields: Iterable[object]) -> AxisLabels | None:
    """Return the first row labels among fields; those that only count if there are no others."""
    counting = None
    for value in fields:
        labels = row_labels(value)
        if labels is None or labels.labels is None:
            continue
        if not labels.counts:
            return labels
        counting = counting or labels
    return counting


def _check_dims(fields: Mapping[str, object]) -> None:
    """Refuse an xarray object whose later axis is the row dimension of another one."""
    arrays = {
        name: value
        for name, value in fields.items()
        if is_a(value, "xarray", "DataArray") and value.ndim
    }
    for name, value in arrays.items():
        for other, rows in ((other, array.dims[0]) for other, array in arrays.items()):
            if rows in value.dims[1:]:
                msg = (
                    f"Field {name!r} has the dimensions {', '.join(map(str, value.dims))}, and "
                    f"{rows!r} are the rows of {other!r}. Put them first: "
                    f"{name}.transpose({rows!r}, ...)."
                )
                raise DataError(msg)


def column_names(value: Any) -> tuple[str, ...] | None:
    """Return the names of a table's columns, or the labels of an array's axes behind its rows.

    Args:
        value: Anything; data frames and xarray objects have names.

    Returns:
        The labels of the second axis as text; of three or more axes, the labels of each with the
        name of its dimension. ``None`` if there are none.
    """
    if is_a(value, "pandas", "DataFrame") or is_a(value, "polars", "DataFrame"):
        return tuple(map(str, value.columns))
    if not is_a(value, "xarray", "DataArray") or value.ndim < 2:
        return None
    axes = [_of_dim(value, dim) for dim in value.dims[1:]]
    if len(axes) == 1:
        return None if axes[0].labels is None else tuple(map(str, axes[0].labels))
    return tuple(
        f"{'_'.join(axis.names)}={label}"
        for axis in axes
        for label in (("?",) if axis.labels is None else axis.labels)
    )


def same_columns(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether two tables agree in their columns; columns that only count agree with other names.

    Example:
        >>> same_columns(("a", "b"), ("0", "1")), same_columns(("0", "1"), ("1", "0"))
        (True, False)
    """
    if one == other:
        return True
    count = tuple(map(str, range(len(one))))
    if len(one) != len(other) or count not in (one, other):
        return False
    return not set(one) & set(other)


def _differ(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    # Two missing labels (NaN and NaT are unequal to themselves) count as equal.
    return (a != b) & ((a == a) | (b == b))


def labels_of_index(index: pd.Index, *, named: bool = True) -> AxisLabels:
    """Return the labels of a pandas index.

    Args:
        index: The index.
        named: Whether the names of its levels matter.
    """
    labels = _index_labels(index)
    names = tuple(str(name) for name in index.names if name is not None and named)
    counts = (
        not names and labels.dtype.kind in "iu" and np.array_equal(labels, np.arange(len(labels)))
    )
    return AxisLabels(names, labels, counts, index)


def _of_dim(array: Any, dim: object) -> AxisLabels:
    if dim not in array.indexes:
        return AxisLabels((str(dim),), None)
    index = array.indexes[dim]
    return AxisLabels((str(dim),), _index_labels(index), index=index)


def _index_labels(index: pd.Index) -> np.ndarray:
    if is_a(index, "pandas", "MultiIndex"):
        return _joined_levels(index)
    labels = np.asarray(index)
    if labels.dtype.kind == "O" and all(map(_is_number, labels)):
        labels = np.array(labels.tolist())  # numbers in an index of any objects
    return labels if labels.dtype.kind in "biufmMUS" else labels.astype(str)


def _is_number(label: object) -> bool:
    return isinstance(label, Real) and not isinstance(label, bool)


def _joined_levels(index: pd.MultiIndex) -> np.ndarray:
    """Join the texts level by level; row by row would take a second per million rows."""
    # A missing entry has the code -1, which selects the last text.
    joined, *others = (
        np.append(np.asarray(level).astype(str), "nan").astype(object)[codes]
        for level, codes in zip(index.levels, index.codes, strict=True)
    )
    for texts in others:
        joined = joined + ", " + texts
    return joined.astype(str)
