"""Read the values of pandas, polars, xarray and PyTorch objects.

None of these libraries is imported here: a library that is not yet imported cannot have made the
value.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from aimz_lab.data.checks import ENCODE, check_numeric
from aimz_lab.errors import DataTypeError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


def is_a(value: object, module: str, *names: str) -> bool:
    """Return whether ``value`` is an instance of one of a module's classes, importing nothing.

    The module is not NumPy.

    Example:
        >>> is_a([1.0], "pandas", "Series", "DataFrame")
        False
    """
    if type(value) is np.ndarray:  # the batches of streams are asked very often
        return False
    loaded = sys.modules.get(module)
    # A class that the module lacks counts as (), which has no instances.
    return loaded is not None and isinstance(value, tuple(getattr(loaded, n, ()) for n in names))


def is_table(value: object) -> bool:
    """Whether a value is a pandas or polars data frame."""
    return is_a(value, "pandas", "DataFrame") or is_a(value, "polars", "DataFrame")


def native_table(value: Any) -> Any:
    """Return the table inside of narwhals' wrapper; any other value as it is.

    Raises:
        DataTypeError: If this is a table of another kind, which is not read.
    """
    for module, kind, advice in (
        ("polars", "LazyFrame", ".collect()"),
        ("narwhals", "LazyFrame", ".collect()"),
        ("pyarrow", "Table", ".to_pandas()"),
        ("xarray", "Dataset", ".to_dataframe()"),
    ):
        if is_a(value, module, kind):
            msg = f"This is a {module} {kind}; pass a data frame: {advice}."
            raise DataTypeError(msg)
    if is_a(value, "narwhals", "DataFrame") or is_a(value, "narwhals.stable.v1", "DataFrame"):
        return value.to_native()
    return value


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
    if is_table(value):
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
        msg = f"{what} is categorical, and holds no numbers: {ENCODE}."
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
