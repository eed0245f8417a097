"""Read columns of pandas and polars tables: numbers, yes or no, or levels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from aimz_lab.data.tables import is_a
from aimz_lab.errors import DataError, DataTypeError
from aimz_lab.spelling import did_you_mean
from aimz_lab.system.lazy_modules import pd

if TYPE_CHECKING:
    import polars as pl

ColumnKind: TypeAlias = Literal["number", "boolean", "text"]
Level: TypeAlias = str | int | float | bool

_FEWEST_STEPS = 100
"""A column has at least as many steps of single precision between its ends, or is exact."""

_SHOWN = 5
"""A message lists at most this many rows or levels."""


@dataclass(frozen=True)
class Column:
    """What a column of the training table was.

    Attributes:
        kind: Numbers, booleans or text.
        levels: Its levels in order, if it is used as a category; ``None`` otherwise.
        is_ordered: Whether it was a category whose levels have an order, from the lowest to the
            highest.
        smallest: Its smallest number, if it is used as numbers.
        largest: Its largest.
    """

    kind: ColumnKind
    levels: tuple[Level, ...] | None = None
    smallest: float = 0.0
    largest: float = 0.0
    is_ordered: bool = False


def row_index(table: pd.DataFrame | pl.DataFrame) -> pd.Index:
    """Return the labels of a table's rows; polars tables count from 0."""
    return table.index if is_a(table, "pandas", "DataFrame") else pd.RangeIndex(len(table))


def rows_of(table: pd.DataFrame | pl.DataFrame, kept: np.ndarray) -> pd.DataFrame | pl.DataFrame:
    """Return some rows of a table, by their positions."""
    return table.iloc[kept] if is_a(table, "pandas", "DataFrame") else table[kept]


def read_columns(table: pd.DataFrame | pl.DataFrame, names: Sequence[str]) -> dict[str, pd.Series]:
    """Return columns of a table as pandas columns with the table's labels.

    Args:
        table: A pandas or polars table.
        names: Names of the columns.

    Raises:
        DataError: If one is missing, or there twice.
    """
    have = [str(name) for name in table.columns]
    missing = [name for name in names if name not in have]
    if missing:
        known = f": {', '.join(have[:20])}{', ...' if len(have) > 20 else ''}" if have else " none"
        hint = did_you_mean(missing[0], have)
        if missing[0].partition(".")[0] in have:  # day.dt.hour
            hint = (
                f" A formula reads no attributes of {missing[0].partition('.')[0]!r}: compute it "
                "as a column of the table, and name that."
            )
        msg = f"The table has no column {_quoted(missing)}.{hint} It has{known}."
        raise DataError(msg)
    doubled = sorted({name for name in names if have.count(name) > 1})
    if doubled:
        msg = f"The table has several columns named {_quoted(doubled)}; rename them."
        raise DataError(msg)
    if is_a(table, "pandas", "DataFrame"):
        position = {name: i for i, name in enumerate(have)}
        return {name: table.iloc[:, position[name]] for name in names}
    return {name: _of_polars(table[name]) for name in names}


def _of_polars(column: pl.Series) -> pd.Series:
    dtype = column.dtype
    if dtype.is_numeric() and not column.null_count():
        return pd.Series(column.to_numpy())
    values = column.to_list()
    if hasattr(dtype, "categories") and "Enum" in str(dtype):
        return pd.Series(pd.Categorical(values, dtype.categories.to_list(), ordered=True))
    if dtype.is_numeric():
        is_single = str(dtype) == "Float32"
        return pd.Series(values, dtype=np.float32 if is_single else np.float64)
    return pd.Series(values, dtype=object)


def kind_of(name: str, column: pd.Series) -> ColumnKind:
    """Return what a column holds.

    Raises:
        DataTypeError: If it is neither numbers, booleans nor text, such as dates or lists.
    """
    if isinstance(column.dtype, pd.CategoricalDtype):
        return kind_of(name, column.cat.categories.to_series())
    if pd.api.types.is_bool_dtype(column.dtype):
        return "boolean"
    if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_complex_dtype(
        column.dtype
    ):
        return "number"
    if isinstance(column.dtype, pd.StringDtype):
        return "text"
    found = pd.api.types.infer_dtype(column, skipna=True)  # of all rows, the last one too
    if found == "boolean":
        return "boolean"
    if found in ("string", "empty"):
        return "text"
    raise DataTypeError(_why_unreadable(name, column, found))


def _why_unreadable(name: str, column: pd.Series, found: str) -> str:
    """Return a sentence about a column of dates, lists, or objects of several kinds."""
    what = str(column.dtype)
    if column.dtype == object:
        what = " and ".join(sorted({type(value).__name__ for value in column.dropna()}))
    if "date" in what.lower() or "time" in what.lower():
        advice = "make numbers of the dates first, such as days since the first"
    elif found in ("integer", "floating", "mixed-integer-float", "decimal"):
        what = f"{what} as Python objects"
        advice = f"make it numbers first: df.assign({name}=df[{name!r}].astype(float))"
    else:
        advice = "make it numbers or text first"
    return f"Column {name!r} holds {what}; {advice}."


def as_category(name: str, column: pd.Series) -> pd.Series:
    """Return text as a category of the texts that it has, sorted: it is then read only once."""
    if isinstance(column.dtype, pd.CategoricalDtype) or kind_of(name, column) != "text":
        return column
    codes, texts = pd.factorize(column, sort=True)
    return pd.Series(pd.Categorical.from_codes(codes, texts), column.index, copy=False)


def check_kind(name: str, column: pd.Series, learned: Column) -> None:
    """Refuse a column that holds something else than in training; 0 and 1 are fine for booleans.

    Raises:
        DataTypeError: If it does.
    """
    kind = kind_of(name, column)
    fits = kind == learned.kind or (learned.kind == "number" and kind == "boolean")
    if learned.kind == "boolean" and kind == "number":
        fits = bool(column.dropna().isin([0, 1]).all())
    if not fits:
        msg = (
            f"Column {name!r} holds {_PLURAL[kind]}, and held {_PLURAL[learned.kind]} in the table "
            "that the model was trained on. Convert it."
        )
        raise DataTypeError(msg)


def refuse_codes(name: str, column: pd.Series, part: str) -> None:
    """Refuse a category whose levels are numbers where it would be taken as these numbers.

    Raises:
        DataTypeError: If it is one.
    """
    if isinstance(column.dtype, pd.CategoricalDtype) and kind_of(name, column) == "number":
        msg = (
            f"Column {name!r} is a category with numbers as its levels, and {part!r} would be "
            f"computed with these numbers. Write C({name}) for a column of each level, "
            f"index({name}) for the number of each row's level, or make it numbers: "
            f"df.assign({name}=df[{name!r}].astype(float))."
        )
        raise DataTypeError(msg)


def refuse_other_texts(formula: str, name: str, column: pd.Series, text: str) -> None:
    """Refuse the comparison of a column with a text that no row has: it is False in each.

    Args:
        formula: The formula, as the beginning of a sentence.
        name: Name of the column.
        column: Its values in the training table; text is a category here.
        text: The text.

    Raises:
        DataError: If no row has it.
        DataTypeError: If the column holds no text.
    """
    what = f"{formula} compares {name!r} with the text {text!r}"
    kind = kind_of(name, column)
    if kind != "text":
        raise DataTypeError(f"{what}, and it holds {_PLURAL[kind]}. Leave out the quotes.")
    declared = list(column.cat.categories)
    texts = list(column.cat.remove_unused_categories().cat.categories)
    if text not in texts:
        why = "which is a category that no row has" if text in declared else "which no row has"
        msg = f"{what}, {why}.{did_you_mean(text, texts)} It has: {_quoted(texts)}."
        raise DataError(msg)


def refuse_no_order(formula: str, name: str, column: pd.Series) -> None:
    """Refuse the use of a column by order if its levels have none.

    Args:
        formula: The formula, as the beginning of a sentence.
        name: Name of the column.
        column: Its values in the training table; text is a category here.

    Raises:
        DataError: If they have none.
    """
    if column.cat.ordered:
        return
    msg = (
        f"{formula} uses {name!r} by order, and its levels {_quoted(column.cat.categories)} "
        "have none. List them from the lowest to the highest: "
        f"df[{name!r}] = pd.Categorical(df[{name!r}], [...], ordered=True); in polars, cast it to "
        "pl.Enum([...])."
    )
    raise DataError(msg)


def refuse_other_order(name: str, column: pd.Series, levels: tuple[Level, ...]) -> None:
    """Refuse an ordered category whose order is another than that of the training table.

    Args:
        name: Name of the column, which is used by order.
        column: Its values; without an order they have that of the training.
        levels: The levels of the training table, lowest first.

    Raises:
        DataError: If two levels are in another order.
    """
    if not (isinstance(column.dtype, pd.CategoricalDtype) and column.cat.ordered):
        return
    order = [level for level in column.cat.categories if level in levels]
    if order != sorted(order, key=levels.index):
        msg = (
            f"Column {name!r} has the order {_in_order(order)}, and had {_in_order(levels)} in the "
            "table that the model was trained on. Its formula goes by that order: give the column "
            "the same."
        )
        raise DataError(msg)


def _in_order(levels: Sequence[Level]) -> str:
    more = " < ..." if len(levels) > _SHOWN * 2 else ""
    return " < ".join(map(repr, levels[: _SHOWN * 2])) + more


_PLURAL = {"number": "numbers", "boolean": "True and False", "text": "text"}


def learn_levels(name: str, column: pd.Series) -> tuple[Level, ...]:
    """Return the levels of a category: those of a categorical in its order, else sorted.

    Raises:
        DataError: If there are none.
    """
    if isinstance(column.dtype, pd.CategoricalDtype):
        levels = list(column.cat.categories)
    else:
        levels = sorted(column.dropna().unique().tolist())
    if not levels:
        msg = f"Column {name!r} is a category without a level: it has no values."
        raise DataError(msg)
    return tuple(level.item() if isinstance(level, np.generic) else level for level in levels)


def codes_of(name: str, column: pd.Series, levels: tuple[Level, ...]) -> np.ndarray:
    """Return the position of each row's level, and refuse unseen levels.

    Args:
        name: Name of the column.
        column: Its values, none missing.
        levels: The levels of the training table.

    Raises:
        DataError: If a row has another level; it names levels and rows.
    """
    if levels and not isinstance(levels[0], str):
        # True and 1 are one level; pandas would tell them apart.
        codes = pd.Index(list(map(as_number, levels))).get_indexer(numbers_of(column))
    elif isinstance(column.dtype, pd.CategoricalDtype):
        # Looking up the few categories is quicker than looking up the rows.
        of_category = pd.Index(levels).get_indexer(column.cat.categories)
        codes = of_category[column.cat.codes]
    else:
        codes = pd.Index(levels).get_indexer(column)
    unseen = np.flatnonzero(codes < 0)
    if len(unseen):
        new = list(dict.fromkeys(map(str, column.iloc[unseen[:1000]])))
        msg = (
            f"Column {name!r} has a level that the training table had not: {_quoted(new)}, first "
            f"in {row_words(column.index, unseen[0])}; {len(unseen)} of {len(codes)} rows in all. "
            f"Known are {_quoted(levels)}. Leave these rows out, or train on a table that has them."
        )
        raise DataError(msg)
    return codes.astype(np.int32)


def as_number(level: Level) -> Level:
    """Return a level as a number if it is True or False."""
    return int(level) if isinstance(level, bool) else level


def numbers_of(column: pd.Series) -> pd.Series:
    """Return numbers in double precision and booleans as 0 and 1, whatever pandas kept them in.

    Small integers would wrap around in arithmetic, ``100 * 100`` is 16 in eight bits, and single
    precision has too few digits for the mean of many rows.
    """
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return numbers_of(column.astype(dtype.categories.dtype))
    is_boolean = pd.api.types.is_object_dtype(dtype) or pd.api.types.is_bool_dtype(dtype)
    return column.astype(np.int64 if is_boolean else np.float64)


def missing_rows(columns: Mapping[str, pd.Series]) -> dict[str, np.ndarray]:
    """Return which rows miss a value, for each column with any."""
    found = {name: column.isna().to_numpy() for name, column in columns.items()}
    return {name: rows for name, rows in found.items() if rows.any()}


def refuse_missing(
    missing: Mapping[str, np.ndarray], index: pd.Index, *, by_pieces: bool = False
) -> None:
    """Refuse missing values, by column and row.

    Args:
        missing: Which rows miss a value, by column.
        index: Labels of the rows.
        by_pieces: Whether these are some rows of a table that is read piece by piece.

    Raises:
        DataError: If there are any.
    """
    if not missing:
        return
    parts = [
        f"{name!r} in {rows.sum()} of {len(rows)} rows, first "
        f"{row_words(index, int(rows.argmax()))}"
        for name, rows in missing.items()
    ]
    advice = (
        "A table that is read piece by piece keeps all its rows, and its numbers of rows: fill "
        "them in beforehand, or leave these rows out of it: frame.dropna(subset=[...])."
        if by_pieces
        else "Fill them in, or leave these rows out: TableSpec(..., missing='drop')."
    )
    raise DataError(f"Values are missing: {'; '.join(parts[:_SHOWN])}. {advice}")


def check_finite(argument: str, names: Sequence[str], values: np.ndarray, index: pd.Index) -> None:
    """Refuse encoded values that are not finite, such as the logarithm of zero.

    Raises:
        DataError: If there are any.
    """
    bad = ~np.isfinite(values.reshape(len(values), -1))
    if not bad.any():
        return
    row, column = map(int, np.argwhere(bad)[0])
    value = values.reshape(len(values), -1)[row, column]
    where = f"{names[column]!r} of {argument!r} is {value} in {row_words(index, row)}, and"
    if bad[:, column].all():
        msg = (
            f"{where} finite in no row. Either each row is at fault, as by the logarithm of 0; or "
            "the formula has the mean or the scale of a column that is constant, or where a single "
            "row is at fault. Look at the least and the largest value of its columns; correct "
            "them, or change the formula."
        )
    else:
        msg = (
            f"{where} not finite in {bad[:, column].sum():,} rows. Correct these values, or change "
            "the formula; the logarithm of 0 is not finite."
        )
    raise DataError(msg)


def check_precision(
    argument: str,
    name: str,
    values: np.ndarray,
    value_range: tuple[float, float],
    exact: pd.Series,
) -> None:
    """Refuse values that differ, and hardly in the single precision of kernels.

    Args:
        argument: Name of the kernel's argument.
        name: Name of the encoded column.
        values: Its values in single precision.
        value_range: The least and the greatest of them.
        exact: Its values as they were computed.

    Raises:
        DataError: If these are numbers like seconds since 1970 within a minute, or like 1e-40.
    """
    low, high = value_range
    step = np.spacing(max(abs(low), abs(high)))
    is_tiny = max(abs(low), abs(high)) < np.finfo(np.float32).tiny
    if not is_tiny and high - low >= _FEWEST_STEPS * step:
        return
    lowest, highest = float(exact.min()), float(exact.max())
    if lowest == highest and not (is_tiny and lowest):
        return
    # Whole numbers that are all there, such as 0 and 1, lose nothing.
    if not is_tiny and np.array_equal(values, exact):
        return
    why = "these are zero" if is_tiny else f"these differ in steps of {step:.2g}"
    msg = (
        f"{name!r} of {argument!r} has values from {lowest!r} to {highest!r}; kernels compute in "
        f"single precision, where {why}. Write scale({name}), or take another unit or origin."
    )
    raise DataError(msg)


def row_words(index: pd.Index, position: int) -> str:
    """Name a row by its position, and by its label where that is another.

    Args:
        index: Labels of the rows.
        position: The row's position.
    """
    label = index[position]
    return f"row {position}" if label == position else f"row {position} ({label})"


def _quoted(names: Iterable[object]) -> str:
    names = list(names)
    more = f", ... ({len(names)} in all)" if len(names) > _SHOWN * 2 else ""
    return ", ".join(repr(name) for name in names[: _SHOWN * 2]) + more
