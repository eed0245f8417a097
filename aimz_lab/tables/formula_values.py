"""From columns of a table to the values of a formula."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from formulaic import ModelSpec
from formulaic.errors import FormulaicError

from aimz_lab.errors import DataError, OutputWarning
from aimz_lab.number_text import number
from aimz_lab.system.lazy_modules import pd
from aimz_lab.tables.columns import (
    Column,
    Level,
    as_number,
    check_finite,
    check_precision,
    codes_of,
    kind_of,
    learn_levels,
    missing_rows,
    numbers_of,
    read_columns,
    refuse_missing,
    row_index,
    row_words,
)
from aimz_lab.tables.decimals import as_written
from aimz_lab.tables.expressions import CALLED
from aimz_lab.tables.formulas import Part
from aimz_lab.tables.table_spec import TableSpec
from aimz_lab.tracebacks import warn

if TYPE_CHECKING:
    import polars as pl

_INTERCEPT = "Intercept"

_FAILURES = (FormulaicError, ValueError, TypeError, ArithmeticError, LookupError)
"""What formulaic, pandas and NumPy raise of a formula that cannot be computed."""


def complete_columns(
    spec: TableSpec,
    table: pd.DataFrame | pl.DataFrame,
    names: tuple[str, ...] | list[str],
    *,
    quietly: bool = False,
    by_pieces: bool = False,
) -> tuple[dict[str, pd.Series], np.ndarray | None]:
    """Return columns without missing values, and the positions of the rows kept, if not all."""
    series, kept, left_out = columns_with_values(spec, table, names, by_pieces=by_pieces)
    if left_out and not quietly:
        warn(f"{left_out}.", OutputWarning)
    return series, kept


def columns_with_values(
    spec: TableSpec,
    table: pd.DataFrame | pl.DataFrame,
    names: tuple[str, ...] | list[str],
    *,
    by_pieces: bool = False,
) -> tuple[dict[str, pd.Series], np.ndarray | None, str]:
    """Return the same, and a phrase that says which rows were left out; empty for none.

    Args:
        spec: What the table means.
        table: The table.
        names: Its columns to read.
        by_pieces: Whether these are some rows of a table, of which none may be left out.

    Raises:
        DataError: If a column is not there, or values are missing that may not be.
    """
    series = read_columns(table, names)
    index = row_index(table)
    if not len(index):
        raise DataError("The table has no rows.")
    missing = missing_rows(series)
    if by_pieces or spec.missing == "refuse":
        refuse_missing(missing, index, by_pieces=by_pieces)
    if not missing:
        return series, None, ""
    bad = np.logical_or.reduce(list(missing.values()))
    kept = np.flatnonzero(~bad)
    if not len(kept):
        msg = f"Each row of the table misses a value, in {', '.join(map(repr, missing))}."
        raise DataError(msg)
    by_column = ", ".join(f"{rows.sum()} in {name!r}" for name, rows in missing.items())
    left_out = (
        f"{bad.sum()} of {len(bad)} rows were left out, because values are missing: {by_column}"
    )
    return {name: column.iloc[kept] for name, column in series.items()}, kept, left_out


def learn_column(name: str, column: pd.Series, is_category: bool) -> Column:
    """Return what a column of the training table holds."""
    kind = kind_of(name, column)
    levels = learn_levels(name, column) if is_category or kind == "text" else None
    is_ordered = isinstance(column.dtype, pd.CategoricalDtype) and bool(column.cat.ordered)
    if kind == "text":
        return Column(kind, levels, is_ordered=is_ordered)
    numbers = numbers_of(column).to_numpy()
    return Column(kind, levels, float(numbers.min()), float(numbers.max()), is_ordered)


def frame_of(
    series: Mapping[str, pd.Series], columns: Mapping[str, Column], spec: TableSpec
) -> pd.DataFrame:
    """Return the columns as formulaic needs them: numbers, or categoricals of learned levels.

    Args:
        series: The columns of a table, none missing a value.
        columns: What they held in the training table.
        spec: What the table means.
    """
    made = {}
    for name, column in series.items():
        levels = columns[name].levels
        is_ordered = name in spec.by_order
        if levels is not None and not _has_these(column, levels, is_ordered):
            codes = codes_of(name, column, levels)
            if columns[name].kind == "text":
                values = pd.Categorical.from_codes(codes, list(levels), ordered=is_ordered)
                column = pd.Series(values, column.index)
        if columns[name].kind != "text":
            dtype, column = column.dtype, numbers_of(column)
            if name in spec.sized:
                numbers = [value for one, value in spec.thresholds if one == name]
                column = as_written(column, dtype, numbers)
        made[name] = column
    return pd.DataFrame(made, copy=False)


def _has_these(column: pd.Series, levels: tuple[Level, ...], is_ordered: bool) -> bool:
    """Whether a column is a category of these texts already, as that of the training table is."""
    dtype = column.dtype
    return (
        isinstance(dtype, pd.CategoricalDtype)
        and bool(dtype.ordered) == is_ordered
        and isinstance(levels[0], str)
        and tuple(dtype.categories) == levels
    )


def evaluate(
    part: Part, spec: ModelSpec, frame: pd.DataFrame, columns: Mapping[str, Column]
) -> Any:
    """Return formulaic's matrix of a formula.

    Raises:
        DataError: If it cannot be computed.
    """
    is_all = list(frame.columns) == list(part.columns)
    used = with_levels(part, frame if is_all else frame[list(part.columns)], columns)
    try:
        return _matrix(part, spec, used)
    except _FAILURES as error:
        what = f"The formula {part.text!r} of {part.argument!r} cannot be computed"
        beyond = _beyond_a_spline(part, spec, used)
        cause = part.plain_name(str(error.__cause__ or error))
        msg = f"{what} in {beyond}" if beyond else f"{what}: {cause}"
        raise DataError(msg) from error


def _matrix(part: Part, spec: ModelSpec, used: pd.DataFrame) -> Any:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # what is not finite is refused with its row
        stand_ins = {name: used[column] for name, column in part.quoted.items()}
        hidden = [name for name in part.quoted.values() if name in CALLED]
        values = used.assign(**stand_ins).drop(columns=hidden)
        return spec.get_model_matrix(values, context={})


def _beyond_a_spline(part: Part, spec: ModelSpec, used: pd.DataFrame) -> str:
    """Say which row lies beyond the range of a spline, and what to do; nothing if none does.

    Formulaic says neither row nor column.
    """
    ranges = {
        expr: (float(state["lower_bound"]), float(state["upper_bound"]))
        for expr, state in spec.transform_state.items()
        if {"lower_bound", "upper_bound"} <= set(state)
    }
    if not ranges:
        return ""
    # Each row is computed alone, so that some first rows fail if one of them does.
    good, bad = 0, len(used)
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (good, middle) if _fails(part, spec, used.iloc[:middle]) else (middle, bad)
    row = used.iloc[[good]]
    if not _fails(part, spec, row):
        return ""
    beyond, computed = [], []
    for expr, (low, high) in ranges.items():
        name = _of_one_column(part, expr)
        if name is None:
            computed.append(expr)
        elif not low <= float(row[name].iloc[0]) <= high:
            beyond.append(expr)
    found = (beyond or computed or [*ranges])[0]
    low, high = ranges[found]
    names = [name for name in part.columns if name in part.values and _names(part, found, name)]
    where = " and ".join(f"{name!r} is {number(float(row[name].iloc[0]), 6)}" for name in names)
    text = part.plain_name(found)
    inner = "" if beyond else " of what it is computed from"
    example = re.sub(r",\s*extrapolation\s*=\s*'\w*'", "", text)[:-1]
    return (
        f"{row_words(used.index, good)}, where {where}: the spline {text} has the range from "
        f"{number(low, 6)} to {number(high, 6)}{inner}, and ends there. Leave such rows out; or "
        f"write in the formula how it goes on, and train again: {example}, "
        "extrapolation='extend'), or 'clip' for its value at the end."
    )


def _fails(part: Part, spec: ModelSpec, used: pd.DataFrame) -> bool:
    try:
        _matrix(part, spec, used)
    except _FAILURES:
        return True
    return False


def _of_one_column(part: Part, expr: str) -> str | None:
    """Return the column that a spline is of, if it is of one as it is."""
    match = re.match(r"\w+\(\s*(\w+)\s*[,)]", expr)
    name = None if match is None else part.quoted.get(match[1], match[1])
    return name if name in part.values else None


def _names(part: Part, expr: str, column: str) -> bool:
    """Whether an expression uses a column."""
    stand_ins = [name for name, one in part.quoted.items() if one == column]
    return any(re.search(rf"\b{re.escape(name)}\b", expr) for name in [column, *stand_ins])


def with_levels(part: Part, frame: pd.DataFrame, columns: Mapping[str, Column]) -> pd.DataFrame:
    """Return numbers in ``C()`` as categoricals of the learned levels, in their order.

    Formulaic would take the levels that occur, and none for the others.
    """
    made = {}
    for name in part.categories:
        if columns[name].kind != "text" and name not in part.values:
            levels = list(map(as_number, columns[name].levels or ()))
            codes = pd.Index(levels).get_indexer(frame[name])
            made[name] = pd.Categorical.from_codes(codes, levels)
    return frame.assign(**made)


def wanted_columns(part: Part, names: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    """Return the columns of a formula, without an intercept that nobody asked for."""
    return tuple(name for name in names if name != _INTERCEPT or part.has_intercept)


def checked_values(part: Part, encoded: Any, *, learning: bool = False) -> pd.DataFrame:
    """Return encoded columns as float32, all finite, without an intercept nobody asked for.

    Args:
        part: The formula.
        encoded: Its columns, from formulaic.
        learning: Whether this is the training table: its values have to differ in float32 if they
            differ. A later one may have a single row.
    """
    names = wanted_columns(part, list(encoded.columns))
    if not names:
        msg = f"The formula {part.text!r} of {part.argument!r} gives no column."
        raise DataError(msg)
    if len(names) > 1 and not part.is_matrix:
        msg = (
            f"The formula {part.text!r} of {part.argument!r} gives {len(names)} columns, and one "
            f"vector was expected. For a matrix, write a list, [{part.text!r}]; for the number of "
            "each row's level, index(...)."
        )
        raise DataError(msg)
    values = np.empty((len(encoded), len(names)), np.float32, order="F")
    with np.errstate(over="ignore"):
        # Column by column, as the check of a whole matrix would need as much memory again.
        ranges = [_filled(values[:, i], encoded[name]) for i, name in enumerate(names)]
    labels = [part.plain_name(name) for name in names]
    if not np.isfinite(ranges).all():
        check_finite(part.argument, labels, values, encoded.index)
    if learning:
        for i, name in enumerate(names):
            check_precision(part.argument, labels[i], values[:, i], ranges[i], encoded[name])
    return pd.DataFrame(values, encoded.index, labels, copy=False)


def _filled(into: np.ndarray, column: pd.Series) -> tuple[float, float]:
    """Copy a column into a matrix; return its least and its greatest value, NaN if one is."""
    into[:] = column
    return into.min(), into.max()


def made_up_rows(columns: Mapping[str, Column], by_order: frozenset[str]) -> pd.DataFrame:
    """Return a few rows that have all levels, and numbers within the range of the training."""
    count = max([3, *(len(c.levels) for c in columns.values() if c.levels is not None)])
    made: dict[str, Any] = {}
    for name, column in columns.items():
        if column.levels is None and column.kind == "boolean":
            ends = (int(column.smallest), int(column.largest))
            made[name] = np.resize(np.asarray(ends, np.int64), count)
        elif column.levels is None:
            made[name] = np.linspace(column.smallest, column.largest, count)
        else:
            levels = np.resize(np.asarray(column.levels, object), count)
            made[name] = (
                pd.Categorical(levels, list(column.levels), ordered=name in by_order)
                if column.kind == "text"
                else np.asarray(
                    levels.tolist(), dtype=np.int64 if column.kind == "boolean" else None
                )
            )
    return pd.DataFrame(made)
