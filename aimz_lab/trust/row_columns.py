"""Columns that rows are sorted, coloured and grouped by: numbers, dates, and levels with names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float, Int, Shaped

from aimz_lab.number_text import number
from aimz_lab.system.lazy_modules import pd

Kind = Literal["number", "date", "level"]

MOST_LEVELS = 12
"""Groups of one column; more levels are shown by the largest ones and the rest."""

MOST_GROUPINGS = 8
"""Columns by which the sums of draws are kept apart."""

_DIGITS, _MOST_DIGITS = 4, 17
_PLACES = 20
_ROWS_OF_A_PLACE = 20
_FEWEST_PLACES = 4
_QUARTERS = ("lowest", "second", "third", "highest")


@dataclass(frozen=True)
class RowColumn:
    """One value for each row.

    Attributes:
        name: Its name.
        kind: What its values are.
        values: Numbers; of dates nanoseconds since 1970; of levels their numbers. NaN if missing.
        levels: Names of the levels, in their order.
    """

    name: str
    kind: Kind
    values: Float[np.ndarray, " row"]
    levels: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether all values are missing."""
        return bool(np.isnan(self.values).all())

    def texts(self, rows: Int[np.ndarray, " few"]) -> list[str]:
        """Write the values of some rows.

        Args:
            rows: Positions of the rows.
        """
        return [self.text(value) for value in self.values[rows]]

    def text(self, value: float, digits: int = _DIGITS) -> str:
        """Write one value.

        Args:
            value: A value of :attr:`values`.
            digits: Significant digits of a number.
        """
        if np.isnan(value):
            return "missing"
        if self.kind == "level":
            return self.levels[int(value)]
        return _date(value) if self.kind == "date" else number(value, digits)

    def distinct(self, values: Float[np.ndarray, " few"]) -> tuple[str, ...]:
        """Write different values differently, with as many digits as that takes.

        Args:
            values: The values.
        """
        return _distinct(lambda digits: tuple(self.text(value, digits) for value in values))

    def spans(self, ends: Iterable[tuple[float, float]], *, both: bool = False) -> tuple[str, ...]:
        """Name spans of values; of dates by the first, which others follow without a gap.

        Args:
            ends: Least and largest value of each.
            both: Whether dates are named by both ends too.
        """
        ends, both = list(ends), both or self.kind == "number"

        def write(digits: int) -> tuple[str, ...]:
            texts = [[self.text(one, digits) for one in pair] for pair in ends]
            return tuple(" to ".join(pair) if both else pair[0] for pair in texts)

        return _distinct(write)

    def places(self) -> tuple[Int[np.ndarray, " row"], tuple[str, ...], Float[np.ndarray, " at"]]:
        """Put rows with like values together, at most 20 sets of about the same size.

        Returns:
            The set of each row, -1 where the value is missing; the name of each set; and its place
            on an axis: the mean of its values.
        """
        known = ~np.isnan(self.values)
        found = np.unique(self.values[known])
        if self.kind == "level" or len(found) <= _PLACES:
            codes = np.where(known, np.searchsorted(found, self.values), -1)
            names = self.distinct(found)
        else:
            n_places = np.clip(known.sum() // _ROWS_OF_A_PLACE, _FEWEST_PLACES, _PLACES)
            cuts = np.quantile(self.values[known], np.linspace(0, 1, n_places + 1)[1:-1])
            codes = np.where(known, np.searchsorted(np.unique(cuts), self.values, "right"), -1)
            found, codes[known] = np.unique(codes[known], return_inverse=True)
            ends = [self.values[codes == one] for one in range(len(found))]
            names = self.spans((one.min(), one.max()) for one in ends)
        count = np.bincount(codes[known], minlength=len(names))
        sums = np.bincount(codes[known], weights=self.values[known], minlength=len(names))
        return codes, names, sums / np.maximum(count, 1)


@dataclass(frozen=True)
class Grouping:
    """Groups of rows by one column.

    Attributes:
        name: Name of the column.
        codes: Number of each row's group; -1 for none.
        labels: Names of the groups.
    """

    name: str
    codes: Int[np.ndarray, " row"]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class RowTable:
    """The columns of some rows, and what the rows are called.

    Attributes:
        n_rows: How many rows there are.
        names: Name of each row; ``None`` for their positions.
        columns: The columns by name.
    """

    n_rows: int
    names: Shaped[np.ndarray, " row"] | None = None
    columns: Mapping[str, RowColumn] = field(default_factory=dict)

    def row_names(self, rows: Int[np.ndarray, " few"]) -> list[str]:
        """Name some rows.

        Args:
            rows: Their positions.
        """
        if self.names is None:
            return [str(row) for row in rows]
        return [_label(one) for one in self.names[rows]]

    def groupings(self) -> tuple[Grouping, ...]:
        """Return the groups that the columns make, of the first columns that make any."""
        found = (_grouping(column) for column in self.columns.values())
        return tuple(one for one in found if one is not None)[:MOST_GROUPINGS]


def row_columns(named: Iterable[tuple[str, object]], n_rows: int) -> dict[str, RowColumn]:
    """Read columns; those that are neither numbers, dates nor text are left out.

    Args:
        named: Names and values, one for each row.
        n_rows: How many rows there are.
    """
    found: dict[str, RowColumn] = {}
    for name, values in named:
        column = _column(str(name), values)
        if column is not None and len(column.values) == n_rows and not column.is_empty:
            found.setdefault(column.name, column)
    return found


def _column(name: str, values: object) -> RowColumn | None:
    series = pd.Series(values).reset_index(drop=True)
    if isinstance(series.dtype, pd.PeriodDtype):
        series = series.dt.to_timestamp()
    kind = series.dtype
    if pd.api.types.is_datetime64_any_dtype(kind):
        plain = series.dt.tz_localize(None) if series.dt.tz is not None else series
        # Nanoseconds of integers end in 1677 and 2262.
        numbers = plain.astype("datetime64[us]").to_numpy().astype(np.int64) * 1000.0
        return RowColumn(name, "date", np.where(series.isna(), np.nan, numbers))
    if pd.api.types.is_bool_dtype(kind) or isinstance(kind, pd.CategoricalDtype):
        return _levels(name, series.astype("category"))
    if pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_complex_dtype(kind):
        numbers = series.to_numpy(np.float64, na_value=np.nan)
        return RowColumn(name, "number", np.where(np.isfinite(numbers), numbers, np.nan))
    texts = series.map(lambda one: one if pd.isna(one) else str(one))
    return _levels(name, texts.astype("category"))


def _levels(name: str, series: pd.Series) -> RowColumn:
    codes = series.cat.codes.to_numpy().astype(np.float64)
    labels = tuple(_label(one) for one in series.cat.categories)
    return RowColumn(name, "level", np.where(codes < 0, np.nan, codes), labels)


def _grouping(column: RowColumn) -> Grouping | None:
    known = ~np.isnan(column.values)
    if not known.any():
        return None
    found, counts = np.unique(column.values[known], return_counts=True)
    if len(found) < 2:
        return None
    if len(found) <= MOST_LEVELS:
        codes = np.where(known, np.searchsorted(found, column.values), -1)
        return Grouping(column.name, codes, column.distinct(found))
    if column.kind == "level":
        return _largest(column, known, found, counts)
    return _quarters(column, known)


def _largest(
    column: RowColumn, known: np.ndarray, found: np.ndarray, counts: np.ndarray
) -> Grouping:
    kept = np.sort(found[np.argsort(-counts, kind="stable")[: MOST_LEVELS - 1]])
    codes = np.full(len(column.values), -1)
    codes[known] = MOST_LEVELS - 1
    for number_, level in enumerate(kept):
        codes[column.values == level] = number_
    rest = f"{len(found) - len(kept):,} other levels"
    return Grouping(column.name, codes, (*(column.text(one) for one in kept), rest))


def _quarters(column: RowColumn, known: np.ndarray) -> Grouping | None:
    values = column.values[known]
    cuts = np.unique(np.quantile(values, [0.25, 0.5, 0.75]))
    codes = np.full(len(known), -1)
    found, codes[known] = np.unique(np.searchsorted(cuts, values, "right"), return_inverse=True)
    ends = [values[codes[known] == one] for one in range(len(found))]
    spans = column.spans(((one.min(), one.max()) for one in ends), both=True)
    if len(spans) == len(_QUARTERS):
        spans = [f"{name} quarter, {span}" for name, span in zip(_QUARTERS, spans, strict=True)]
    return Grouping(column.name, codes, tuple(spans)) if len(spans) > 1 else None


def _distinct(write: Callable[[int], tuple[str, ...]]) -> tuple[str, ...]:
    """Write names with the fewest digits that make them differ, as far as digits do."""
    for digits in range(_DIGITS, _MOST_DIGITS + 1):
        names = write(digits)
        if len({*names}) == len(names):
            return names
    return write(_DIGITS)


def _date(nanoseconds: float) -> str:
    # Double precision has no nanoseconds: they would be written as a millisecond's last digits.
    return _label(np.datetime64(round(nanoseconds / 1000), "us"))


def _label(value: object) -> str:
    if isinstance(value, np.datetime64 | pd.Timestamp):
        return str(pd.Timestamp(value)).removesuffix(" 00:00:00")
    return str(value)
