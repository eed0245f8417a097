"""One value for all rows: of a column of a table, or of an argument, without loss."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from aimz_lab.data.options import real_number
from aimz_lab.data.tables import is_a
from aimz_lab.errors import ArgumentError
from aimz_lab.spelling import did_you_mean
from aimz_lab.types import shown

_NUMBERS = "biuf"


def with_column(table: Any, name: str, value: Any) -> Any:
    """Return a table whose column has one value; of a category, the level.

    A column of whole numbers or flags gets a wider type if the value does not fit.

    Args:
        table: A data frame of pandas or Polars.
        name: The column.
        value: The value.

    Raises:
        ArgumentError: If the value is no level of the category, or of another kind.
    """
    if is_a(table, "polars", "DataFrame"):
        return _with_polars_column(table, name, value)
    import pandas as pd

    label = table.columns[list(map(str, table.columns)).index(name)]
    dtype = table[label].dtype
    if isinstance(dtype, pd.CategoricalDtype):
        if value not in dtype.categories:
            levels = ", ".join(map(str, dtype.categories))
            near = did_you_mean(str(value), dtype.categories)
            msg = f"{value!r} is no level of {name!r}; it has {levels}.{near}"
            raise ArgumentError(msg)
        made = pd.Categorical([value] * len(table), dtype=dtype)
    elif pd.api.types.is_numeric_dtype(dtype):
        _check_number("column", name, value)
        wanted = np.dtype(getattr(dtype, "numpy_dtype", dtype))
        made = np.full(len(table), value, dtype=_holding(value, wanted))
    else:
        made = pd.Series(value, index=table.index).astype(dtype)
    changed = table.copy(deep=False)
    changed[label] = made
    return changed


def _with_polars_column(table: Any, name: str, value: Any) -> Any:
    import polars as pl

    dtype = table.schema[name]
    is_number = dtype.is_numeric() or dtype == pl.Boolean
    if is_number:
        _check_number("column", name, value)
    given = pl.Series(name, np.asarray([value]))
    cast = given.cast(dtype, strict=False)
    if is_number and cast[0] != value:
        return table.with_columns(pl.lit(value).alias(name))
    if cast[0] is None:
        msg = f"{value!r} is no value of {name!r}, a column of {dtype}."
        raise ArgumentError(msg)
    return table.with_columns(cast.new_from_index(0, len(table)))


def filled(name: str, given: Any, value: Any) -> np.ndarray | float | int:
    """Return an argument of the same shape with one value.

    Whole numbers and flags stay of their type where the value fits, and are real numbers elsewhere.

    Args:
        name: The argument.
        given: What it was.
        value: The value.

    Raises:
        ArgumentError: If it has several columns, or the value is no number that can be held.
    """
    old = np.asarray(given)
    if old.dtype.kind not in _NUMBERS or (old.ndim > 1 and old.shape[1] != 1):
        msg = (
            f"The argument {name!r} has shape {old.shape}; a sweep sets one number for each row. "
            "Pass a data frame and sweep one of its columns."
        )
        raise ArgumentError(msg)
    _check_number("argument", name, value)
    dtype = _holding(value, old.dtype)
    if dtype != old.dtype:
        dtype = np.dtype(jnp.result_type(float))
    with np.errstate(over="ignore"):
        one = np.asarray(value, dtype=dtype)
    if not np.isfinite(one):
        msg = f"{shown(value)} is beyond the range of {dtype}, which the argument {name!r} has."
        raise ArgumentError(msg)
    return one.item() if old.ndim == 0 else np.full(old.shape, one)


def _check_number(what: str, name: str, value: Any) -> None:
    if not isinstance(value, bool) and np.isnan(real_number(value)):
        msg = f"The {what} {name!r} holds numbers, and {value!r} is none."
        raise ArgumentError(msg)


def _holding(value: Any, dtype: np.dtype) -> np.dtype:
    """Return a type if it holds a value without loss, else the value's own; all real types do."""
    own = np.asarray(value)
    if dtype.kind == "f":
        return dtype
    with np.errstate(invalid="ignore"):
        return dtype if own.astype(dtype) == own else own.dtype
