"""Tables and labelled arrays of other libraries: their values, and the labels of their rows.

None of these libraries is imported here. One that nobody has imported cannot have made the value.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from aimz_lab.data.checks import check_numeric
from aimz_lab.errors import DataError, DataTypeError


class RowCoord(NamedTuple):
    """The labels of the rows, as a coordinate of a result's row dimension.

    Attributes:
        dim: Name of the dimension, or ``None`` if the data gives it none.
        labels: One label per row: numbers, text or dates.
    """

    dim: str | None
    labels: np.ndarray


def is_a(value: Any, module: str, *names: str) -> bool:
    """Tell whether ``value`` is an instance of one of a module's classes, importing nothing.

    Example:
        >>> is_a([1.0], "pandas", "Series", "DataFrame")
        False
    """
    loaded = sys.modules.get(module)
    # A missing name gives (), which has no instances.
    return loaded is not None and isinstance(value, tuple(getattr(loaded, n, ()) for n in names))


def read_table(name: str, value: Any) -> np.ndarray | None:
    """Return the values of a pandas, polars, xarray or PyTorch object as NumPy.

    Tables give a matrix of their columns' common type; missing entries become NaN.

    Args:
        name: The field's name, for messages.
        value: Anything.

    Returns:
        The values, or ``None`` if ``value`` comes from none of these libraries.

    Raises:
        DataTypeError: If a column is not numeric, or the object has to be turned into an array or a
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


def _read_frame(name: str, frame: Any) -> np.ndarray:
    if is_a(frame, "pandas", "DataFrame"):
        read, columns, dtypes = _read_pandas, frame.items(), frame.dtypes
    else:
        read, columns, dtypes = _read_polars, zip(frame.columns, frame, strict=True), ()
    uniform = len({str(dtype) for dtype in dtypes}) == 1 and isinstance(dtypes.iloc[0], np.dtype)
    if uniform and dtypes.iloc[0].kind in "biufc":
        return np.ascontiguousarray(frame.to_numpy())
    parts = [read(f"Column {label!r} of field {name!r}", column) for label, column in columns]
    return np.column_stack(parts) if parts else np.empty(frame.shape)


def _read_pandas(what: str, series: Any) -> np.ndarray:
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


def _read_polars(what: str, series: Any) -> np.ndarray:
    polars = sys.modules["polars"]
    dtype = series.dtype
    if dtype.is_decimal() or (dtype == polars.Boolean and series.null_count()):
        series = series.cast(polars.Float64)
    values = series.to_numpy()
    check_numeric(what, values.dtype, next(iter(values), None))
    return values


def row_coord(value: Any) -> RowCoord | None:
    """Return the row labels that a pandas or xarray object brings.

    The labels come from a pandas index, unless it only counts the rows and has no name, or from the
    coordinate of an xarray object's leading dimension. The levels of a multi-index are joined to
    one text: ``"2021, TX"``. polars has no index, and plain arrays have no labels.

    Args:
        value: Anything.

    Returns:
        The dimension's name and the labels, or ``None`` if there are none.
    """
    if is_a(value, "pandas", "DataFrame", "Series"):
        return _index_coord(value.index)
    if is_a(value, "xarray", "DataArray") and value.ndim and value.dims[0] in value.indexes:
        dim = value.dims[0]
        return RowCoord(str(dim), _index_labels(value.indexes[dim]))
    return None


def column_names(value: Any) -> tuple[str, ...] | None:
    """Return the names of a table's columns, or ``None`` if there are none.

    Args:
        value: Anything; a data frame of pandas or polars has names, unless they only count.
    """
    if is_a(value, "pandas", "DataFrame") or is_a(value, "polars", "DataFrame"):
        names = tuple(value.columns)
        return names if all(isinstance(name, str) for name in names) else None
    return None


def shared_row_coord(fields: Mapping[str, Any]) -> RowCoord | None:
    """Return the row labels of the first field that has some, once the other fields' agree.

    Args:
        fields: What the user passed, by field; all of one number of rows.

    Returns:
        The dimension's name and the labels, or ``None`` if no field has labels.

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
    # Two missing labels (NaN, NaT: unequal to themselves) count as the same one.
    return (a != b) & ((a == a) | (b == b))


def _index_coord(index: Any) -> RowCoord | None:
    labels = _index_labels(index)
    names = [str(name) for name in index.names if name is not None]
    if names:
        return RowCoord("_".join(names), labels)
    counts = labels.dtype.kind in "iu" and np.array_equal(labels, np.arange(len(labels)))
    return None if counts else RowCoord(None, labels)


def _index_labels(index: Any) -> np.ndarray:
    if is_a(index, "pandas", "MultiIndex"):
        return _joined_levels(index)
    labels = np.asarray(index)
    return labels if labels.dtype.kind in "biufmMUS" else labels.astype(str)


def _joined_levels(index: Any) -> np.ndarray:
    """Join the levels' texts; by level, as going through the rows takes a second a million."""
    joined: Any = None
    for level, codes in zip(index.levels, index.codes, strict=True):
        # A missing entry has the code -1, which picks the last text.
        texts = np.append(np.asarray(level).astype(str), "nan").astype(object)[codes]
        joined = texts if joined is None else joined + ", " + texts
    return joined.astype(str)
