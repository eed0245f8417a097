"""Read values and row labels of pandas, polars, xarray and PyTorch objects.

None of these libraries is imported here: a library that is not yet imported cannot have made the
value.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from aimz_lab.data.checks import check_numeric
from aimz_lab.errors import DataError, DataTypeError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


class RowCoord(NamedTuple):
    """Row labels, for the coordinate of a result's row dimension.

    Attributes:
        dim: Name of the dimension, or ``None`` if the data does not name it.
        labels: One label per row: numbers, text or dates.
    """

    dim: str | None
    labels: Shaped[np.ndarray, " row"]


def is_a(value: object, module: str, *names: str) -> bool:
    """Return whether ``value`` is an instance of one of a module's classes, importing nothing.

    Example:
        >>> is_a([1.0], "pandas", "Series", "DataFrame")
        False
    """
    loaded = sys.modules.get(module)
    # A class that the module lacks counts as (), which has no instances.
    return loaded is not None and isinstance(value, tuple(getattr(loaded, n, ()) for n in names))


def read_table(name: str, value: Any) -> np.ndarray | None:
    """Return the values of a pandas, polars, xarray or PyTorch object as NumPy.

    A table becomes a matrix of its columns' common type; missing entries become NaN.

    Args:
        name: The field's name, for messages.
        value: Anything.

    Returns:
        The values, or ``None`` if ``value`` comes from none of these libraries.

    Raises:
        DataTypeError: If a column is not numeric, or the object must be converted to an array or a
            table first.
    """
    for module, kind, advice in (
        ("polars", "LazyFrame", "call .collect() first"),
        ("xarray", "Dataset", "pass one of its variables"),
        ("xarray", "DataTree", "pass one of its variables"),
    ):
        if is_a(value, module, kind):
            msg = f"Field {name!r} is a {module} {kind}; {advice}."
            raise DataTypeError(msg)
    if is_a(value, "pandas", "DataFrame") or is_a(value, "polars", "DataFrame"):
        return _read_frame(name, value)
    if is_a(value, "pandas", "Series", "Index"):
        return _read_pandas(f"Field {name!r}", value)
    if is_a(value, "polars", "Series"):
        return _read_polars(f"Field {name!r}", value)
    if is_a(value, "xarray", "DataArray", "Variable"):
        return np.asarray(value.values)
    if is_a(value, "torch", "Tensor"):
        # NumPy has no bfloat16; float32 holds each of its values.
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
        return value.numpy(force=True)
    return None


def _read_frame(name: str, frame: pd.DataFrame | pl.DataFrame) -> np.ndarray:
    if is_a(frame, "pandas", "DataFrame"):
        read, columns, dtypes = _read_pandas, frame.items(), frame.dtypes
    else:
        read, columns, dtypes = _read_polars, zip(frame.columns, frame, strict=True), ()
    uniform = len({str(dtype) for dtype in dtypes}) == 1 and isinstance(dtypes.iloc[0], np.dtype)
    if uniform and dtypes.iloc[0].kind in "biufc":
        return np.ascontiguousarray(frame.to_numpy())
    parts = [read(f"Column {label!r} of field {name!r}", column) for label, column in columns]
    return np.column_stack(parts) if parts else np.empty(frame.shape)


def _read_pandas(what: str, series: pd.Series | pd.Index) -> np.ndarray:
    dtype = series.dtype
    if isinstance(dtype, np.dtype):
        values = series.to_numpy()
        check_numeric(what, values.dtype, next(iter(values), None))
        return values
    if is_a(dtype, "pandas", "CategoricalDtype"):
        msg = (
            f"{what} is categorical; pass its codes (.cat.codes) or indicators "
            f"(pandas.get_dummies)."
        )
        raise DataTypeError(msg)
    if getattr(dtype, "kind", "O") not in "biufc":
        values = np.asarray(series)
        check_numeric(what, np.dtype(object), next(iter(values), None))
    if series.hasnans:
        return series.to_numpy(dtype=np.float64, na_value=np.nan)
    # Nullable and Arrow types name the plain type; sparse ones call it the subtype.
    plain = getattr(dtype, "numpy_dtype", None) or getattr(dtype, "subtype", None)
    return series.to_numpy(dtype=plain)


def _read_polars(what: str, series: pl.Series) -> np.ndarray:
    polars = sys.modules["polars"]
    dtype = series.dtype
    if dtype.is_decimal() or (dtype == polars.Boolean and series.null_count()):
        series = series.cast(polars.Float64)
    values = series.to_numpy()
    check_numeric(what, values.dtype, next(iter(values), None))
    return values


def row_coord(value: Any) -> RowCoord | None:
    """Return the row labels of a pandas or xarray object.

    They come from a pandas index, or from the coordinate of an xarray object's leading dimension.
    An unnamed pandas index that only counts the rows gives none. The levels of a multi-index are
    joined to one text: ``"2021, TX"``. polars objects and plain arrays have no labels.

    Args:
        value: Anything.

    Returns:
        The labels and their dimension, or ``None`` if there are none.
    """
    if is_a(value, "pandas", "DataFrame", "Series"):
        return _index_coord(value.index)
    if is_a(value, "xarray", "DataArray") and value.ndim and value.dims[0] in value.indexes:
        dim = value.dims[0]
        return RowCoord(str(dim), _index_labels(value.indexes[dim]))
    return None


def column_names(value: Any) -> tuple[str, ...] | None:
    """Return the column names of a table, or ``None`` if there are none.

    Args:
        value: Anything; only data frames of pandas and polars with text labels have names.
    """
    if is_a(value, "pandas", "DataFrame") or is_a(value, "polars", "DataFrame"):
        names = tuple(value.columns)
        return names if all(isinstance(name, str) for name in names) else None
    return None


def shared_row_coord(fields: Mapping[str, object]) -> RowCoord | None:
    """Return the row labels of the first labelled field, after checking those of the others.

    Args:
        fields: The objects that the user passed, by field; all with the same number of rows.

    Returns:
        The labels and their dimension, or ``None`` if no field has labels.

    Raises:
        DataError: If two fields label the same row differently: their rows do not belong together.
    """
    first_name, first = "", None
    for name, value in fields.items():
        coord = row_coord(value)
        if coord is None:
            continue
        if first is None:
            first_name, first = name, coord
        elif (differ := _differ(coord.labels, first.labels)).any():
            row = int(np.argmax(differ))
            msg = (
                f"Fields {first_name!r} and {name!r} label their rows differently: row {row} is "
                f"{first.labels[row]} in {first_name!r} and {coord.labels[row]} in {name!r}. Align "
                f"them ({name} = {name}.loc[{first_name}.index]), or drop the labels (.to_numpy())."
            )
            raise DataError(msg)
    return first


def _differ(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    # Two missing labels (NaN and NaT are unequal to themselves) count as equal.
    return (a != b) & ((a == a) | (b == b))


def _index_coord(index: pd.Index) -> RowCoord | None:
    labels = _index_labels(index)
    names = [str(name) for name in index.names if name is not None]
    if names:
        return RowCoord("_".join(names), labels)
    counts = labels.dtype.kind in "iu" and np.array_equal(labels, np.arange(len(labels)))
    return None if counts else RowCoord(None, labels)


def _index_labels(index: pd.Index) -> np.ndarray:
    if is_a(index, "pandas", "MultiIndex"):
        return _joined_levels(index)
    labels = np.asarray(index)
    return labels if labels.dtype.kind in "biufmMUS" else labels.astype(str)


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
