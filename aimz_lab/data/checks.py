"""Check data before any work starts; every message names the field and the remedy."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from aimz_lab.errors import ArgumentError, DataError, DataTypeError
from aimz_lab.types import Array, Arrays, Columns, shown

ENCODE = (
    "pass codes of the same levels in all calls, pandas.Categorical(column, "
    "categories=levels).codes, or indicators by pandas.get_dummies(). Or give the model a "
    "TableSpec, which learns the levels from a training table (the whole data frame, not a stream "
    "of tables)"
)
"""What to do with categories. Codes of each table by itself would differ from table to table."""

NO_COLUMNS: Columns = {}

_BLOCK_BYTES = 1 << 20
"""Rows are scanned in blocks of this size: they fit the cache and need no large temporary."""


def check_numeric(what: str, dtype: np.dtype, first: object = None) -> None:
    """Raise unless ``dtype`` is numeric or boolean.

    Args:
        what: The subject of the message, such as ``"Field 'X'"``.
        dtype: Type of the values.
        first: One of the values, for the message.

    Raises:
        DataTypeError: If they are text, dates, objects or records.
    """
    if getattr(dtype, "char", "") in ("g", "G") and dtype not in (np.float64, np.complex128):
        msg = f"{what} has the dtype {dtype}, which JAX does not know; use .astype(float)."
        raise DataTypeError(msg)
    is_number = jnp.issubdtype(dtype, np.number) or jnp.issubdtype(dtype, np.bool_)
    # NumPy counts durations among the integers.
    if is_number and not jnp.issubdtype(dtype, np.timedelta64):
        return
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        msg = f"{what} holds random keys; pass a model's key as rng_key= instead."
    elif dtype.kind in "mM":
        msg = (
            f"{what} holds dates or durations ({dtype}); turn them into numbers first, such as "
            f"days: (t - t.min()) / numpy.timedelta64(1, 'D')."
        )
    elif dtype.kind in "OSUT":
        first = first.item() if isinstance(first, np.generic) else first
        kind = "text" if dtype.kind != "O" else f"{type(first).__name__} objects"
        msg = (
            f"{what} holds {kind} ({dtype}, such as {shown(first)}), not numbers. If these are "
            f"numbers, pass .astype(float). For text, {ENCODE}."
        )
    else:
        msg = f"{what} has the dtype {dtype}; expected numbers or booleans."
    raise DataTypeError(msg)


def check_rows(arrays: Arrays, what: str = "data") -> int:
    """Return the number of rows that all arrays share.

    Args:
        arrays: Arrays by field.
        what: What the arrays form, for the message: ``"batch"``.

    Returns:
        The size of the leading axes, at least 1.

    Raises:
        DataError: If there are no arrays or no rows, an array is a scalar, or the sizes differ.

    Example:
        >>> check_rows({"X": np.zeros((3, 2)), "y": np.zeros(3)})
        3
    """
    if not arrays:
        msg = f"The {what} has no arrays; pass at least one by its name, such as X=X."
        raise DataError(msg)
    for name, array in arrays.items():
        if array.ndim == 0:
            msg = (
                f"Field {name!r} is a single value, without a leading axis of rows; pass one value "
                f"per row, such as numpy.full(n, value)."
            )
            raise DataError(msg)
    sizes = {name: array.shape[0] for name, array in arrays.items()}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name!r} has {size}" for name, size in sizes.items())
        msg = (
            f"All fields of the {what} must have the same number of rows (leading axis), but "
            f"{listed}."
        )
        raise DataError(msg)
    n_rows = next(iter(sizes.values()))
    if n_rows == 0:
        msg = (
            f"The {what} is empty: {', '.join(map(repr, sizes))} has 0 rows; at least 1 is needed."
        )
        raise DataError(msg)
    return n_rows


def check_finite(
    arrays: Arrays,
    allow_nonfinite: bool = False,
    what: str = "",
    columns: Columns = NO_COLUMNS,
) -> None:
    """Raise if a value is NaN or infinite.

    Args:
        arrays: Arrays by field; integers and booleans are skipped.
        allow_nonfinite: Check nothing.
        what: Where the arrays come from, for the message: ``"Batch 3"``.
        columns: Column names of fields that are tables.

    Raises:
        DataError: If there is one; the message names the field, the first bad row and their number,
            and its column.

    Example:
        >>> check_finite({"y": np.array([0.0, 1.0, np.nan])})
        Traceback (most recent call last):
        ...
        aimz_lab.errors.DataError: Field 'y' has 1 row with NaN or infinite values, the first is row
        2: nan. ...
    """
    if allow_nonfinite:
        return
    for name, array in arrays.items():
        if jnp.issubdtype(array.dtype, np.inexact):
            subject = f"{what}: field {name!r}" if what else f"Field {name!r}"
            _check_field_finite(subject, array, columns.get(name, ()))


def _check_field_finite(what: str, array: Array, columns: tuple[str, ...]) -> None:
    first, count, start = None, 0, 0
    for block in _row_blocks(array):
        finite = np.isfinite(block)
        if not finite.all():
            bad = ~finite.reshape(len(block), -1).all(axis=1)
            count += int(bad.sum())
            if first is None:
                row = int(bad.argmax())
                values = np.ravel(block[row])
                column = int(np.isfinite(values).argmin())
                first = start + row, column, values[column], values.size
        start += len(block)
    if first is None:
        return
    row, column, value, width = first
    place = f"row {row}"
    if len(columns) == width:
        place += f", column {columns[column]!r}" + (f" (position {column})" if width > 1 else "")
    elif width > 1:
        place += f", position {column}"
    msg = (
        f"{what} has {count} row{'s' if count > 1 else ''} with NaN or infinite values, the first "
        f"is {place}: {value}. Drop or impute such rows, or pass allow_nonfinite=True if the "
        f"kernel handles them."
    )
    raise DataError(msg)


def _row_blocks(array: Array) -> Iterator[np.ndarray]:
    """Yield consecutive rows as NumPy arrays, without a second copy of a large array."""
    if isinstance(array, jax.Array) and not _on_one_accelerator(array):
        array = np.asarray(array)  # shares memory on CPUs
    array = array if array.ndim else array[None]
    n_rows = array.shape[0]
    step = max(1, _BLOCK_BYTES * n_rows // max(1, array.nbytes))
    for start in range(0, n_rows, step):
        yield np.asarray(array[start : start + step])


def _on_one_accelerator(array: jax.Array) -> bool:
    one = isinstance(array.sharding, jax.sharding.SingleDeviceSharding)
    return one and all(device.platform != "cpu" for device in array.devices())


def check_padding(n_pad: object, n_rows: int) -> int:
    """Return the number of padded rows of a batch as an ``int``, if it leaves a row.

    Args:
        n_pad: The number passed; NumPy integers are accepted, booleans and floats are not.
        n_rows: Rows of the batch, padding included.

    Raises:
        ArgumentError: If it is no whole number from 0 to ``n_rows - 1``.

    Example:
        >>> check_padding(np.int64(3), 10)
        3
    """
    is_integer = isinstance(n_pad, int | np.integer) and not isinstance(n_pad, bool)
    if is_integer and 0 <= n_pad < n_rows:
        return int(n_pad)
    got = repr(n_pad) if np.ndim(n_pad) == 0 else f"an array of shape {np.shape(n_pad)}"
    msg = (
        f"n_pad must be the number of padded rows at the end of the batch, a whole number (int) "
        f"from 0 to {n_rows - 1:,} for its {n_rows:,} rows; got {got}."
    )
    raise ArgumentError(msg)


def check_positive_int(name: str, value: object) -> int:
    """Return ``value`` as an ``int`` if it is an integer of at least 1.

    Args:
        name: The argument's name, for the message.
        value: The value passed; NumPy integers are accepted, booleans and floats are not.

    Raises:
        ArgumentError: If not.

    Example:
        >>> check_positive_int("batch_size", np.int64(32))
        32
    """
    return check_int_from(1, name, value)


def check_int_from(least: int, name: str, value: object) -> int:
    """Return ``value`` as an ``int`` if it is an integer of at least ``least``.

    Args:
        least: The smallest integer allowed.
        name: The argument's name, for the message.
        value: The value passed.

    Raises:
        ArgumentError: If not.

    Example:
        >>> check_int_from(0, "epoch", 0)
        0
    """
    if not is_integer(value) or value < least:
        msg = f"{name}={shown(value)} is not allowed; use a whole number (int) of at least {least}."
        raise ArgumentError(msg)
    return int(value)


def is_integer(value: object) -> bool:
    """Return whether this is an integer, also of NumPy or as an array without an axis; no ``bool``.

    Example:
        >>> is_integer(np.int8(3)), is_integer(True), is_integer(3.0)
        (True, False, False)
    """
    if isinstance(value, np.ndarray | jax.Array):
        is_one = jnp.issubdtype(value.dtype, np.integer) and value.dtype.kind != "m"  # durations
        return value.ndim == 0 and bool(is_one)
    return isinstance(value, int | np.integer) and not isinstance(value, bool | np.timedelta64)
