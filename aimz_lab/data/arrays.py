"""Convert array-likes to NumPy, and NumPy arrays to JAX's types.

An *array* is a NumPy or JAX array; an *array-like* is anything that :func:`to_host` accepts. Values
keep their precision until :func:`canonical` (or ``to_jax=True``) converts them to JAX's types.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import NoReturn

import jax
import numpy as np
from jaxtyping import Shaped
from numpy.typing import ArrayLike

from aimz_lab.data.checks import check_numeric
from aimz_lab.data.tables import is_a, read_table
from aimz_lab.errors import DataError, DataTypeError
from aimz_lab.types import Array, shown


def is_array_like(value: object) -> bool:
    """Return whether ``value`` is an array, a table or a tensor, not a container of them.

    A list is not: it may be data or a list of batches, and only the caller knows which.

    Example:
        >>> is_array_like(np.ones(3)), is_array_like([1.0, 2.0]), is_array_like({"X": np.ones(3)})
        (True, False, False)
    """
    return hasattr(value, "__array__") or is_a(value, "polars", "DataFrame", "LazyFrame", "Series")


def are_zeros_and_ones(values: np.ndarray) -> bool:
    """Whether numbers are all 0 or 1, and both occur: two levels, with nothing between them.

    Args:
        values: The numbers.

    Example:
        >>> are_zeros_and_ones(np.array([1, 0, 1])), are_zeros_and_ones(np.array([0.0, 0.5, 1.0]))
        (True, False)
    """
    return values.dtype.kind in "iuf" and np.unique(values).tolist() == [0, 1]


def to_host(name: str, value: ArrayLike) -> np.ndarray:
    """Return an array-like as a NumPy array, without a copy if its library allows it.

    Accepts nested lists, NumPy, JAX, pandas, polars and xarray objects, PyTorch tensors, and any
    object with ``__array__``. The type is kept, except that missing entries make a table's column
    float64, and bytes are put in the order of this machine; :func:`canonical` converts to JAX's
    types.

    Args:
        name: The field's name, for messages.
        value: The array-like.

    Returns:
        An array of numbers or booleans.

    Raises:
        DataTypeError: If values are not numeric; the message names the field and the column.
        DataError: If nested lists are ragged, or masked entries have no value.

    Example:
        >>> to_host("y", [[1, 2], [3, 4]]).shape
        (2, 2)
    """
    what = f"Field {name!r}"
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        msg = f"{what} has masked entries; drop these rows, or fill them (.filled(value))."
        raise DataError(msg)
    if isinstance(value, jax.Array):
        check_numeric(what, value.dtype)
        return np.asarray(value)
    array = read_table(name, value)
    if array is None:
        array = _read_plain(what, value)
    check_numeric(what, array.dtype, _first(array))
    return _in_native_order(array)


def _in_native_order(array: np.ndarray) -> np.ndarray:
    """Return an array whose bytes are in the order of this machine, as JAX needs them."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _first(array: np.ndarray) -> object:
    """Return the first value, for a message; ``None`` if there is none."""
    return array[(0,) * array.ndim] if array.size else None


def check_holds_rows(name: str, value: object) -> None:
    """Refuse what is no array of rows, but the name of a file or a dict of arrays.

    Args:
        name: The argument's name, for the message.
        value: Anything.

    Raises:
        DataTypeError: With the way to pass it.
    """
    if isinstance(value, str | bytes | PathLike):
        msg = (
            f"{name!r} is {shown(value)}, and no file is read here. Read it first, such as "
            f"{name} = pandas.read_csv({shown(value)}), and pass its columns of numbers."
        )
        raise DataTypeError(msg)
    is_tree = is_a(value, "xarray", "Dataset", "DataTree")  # a mapping too
    if isinstance(value, Mapping) and not is_tree:
        names = ", ".join(map(str, value)) or "nothing"
        msg = (
            f"{name!r} is a dict (of {names}), and not an array. Pass its arrays by their names: "
            "fit(**data) instead of fit(data); or an ArrayDataset(**data)."
        )
        raise DataTypeError(msg)


def _read_plain(what: str, value: ArrayLike) -> np.ndarray:
    if value is None or isinstance(value, Mapping | set | frozenset):
        msg = f"{what} is a {type(value).__name__}; expected an array, a table or nested lists."
        raise DataTypeError(msg)
    if hasattr(value, "toarray"):
        msg = f"{what} is a sparse {type(value).__name__}; pass a dense array (.toarray())."
        raise DataTypeError(msg)
    try:
        return np.asarray(value)
    except ValueError as error:
        msg = f"{what} cannot become an array, its parts differ in length or kind: {error}"
        raise DataError(msg) from error


def as_stored(name: str, value: ArrayLike) -> Array:
    """Return NumPy and JAX arrays as they are, other array-likes as NumPy arrays.

    Only bytes in the order of another machine are put in that of this one.

    Args:
        name: The field's name, for messages.
        value: The array-like.

    Raises:
        DataTypeError: As :func:`to_host`.
        DataError: As :func:`to_host`.
    """
    check_holds_rows(name, value)
    if isinstance(value, jax.Array) or type(value) in (np.ndarray, np.memmap):
        first = _first(value) if isinstance(value, np.ndarray) else None
        check_numeric(f"Field {name!r}", value.dtype, first)
        return _in_native_order(value) if isinstance(value, np.ndarray) else value
    return to_host(name, value)


def canonical(value: Shaped[Array, "*shape"], name: str = "array") -> Shaped[Array, "*shape"]:
    """Return an array in JAX's canonical type and C-contiguous layout.

    Precision changes only here: float64 becomes float32 and int64 becomes int32, unless
    ``jax_enable_x64`` is on. JAX arrays, and NumPy arrays that already fit, are returned as they
    are.

    Args:
        value: The array; a JAX array is always canonical.
        name: The field's name, for messages.

    Returns:
        The array, of any shape, in the type that the device computes in.

    Raises:
        DataError: If a value does not fit the narrower type; none wraps or overflows silently.

    Example:
        >>> canonical(np.array([0.5, 1.5])).dtype
        dtype('float32')
    """
    if isinstance(value, jax.Array):
        return value
    native = value.dtype if value.dtype.isnative else value.dtype.newbyteorder("=")
    target = np.dtype(jax.dtypes.canonicalize_dtype(native))
    if target == value.dtype and value.flags.c_contiguous:
        return value
    check_fits(value, name)
    with np.errstate(over="ignore"):
        return np.asarray(value, dtype=target, order="C")


def check_fits(value: Shaped[Array, "*shape"], name: str = "array") -> None:
    """Check that JAX's canonical type can hold the values of an array.

    Args:
        value: The array; a JAX array is always canonical.
        name: The field's name, for messages.

    Raises:
        DataError: If an integer would wrap, or a number become infinite.

    Example:
        >>> check_fits(np.array([2**31]), "id")
        Traceback (most recent call last):
        ...
        aimz_lab.errors.DataError: Field 'id' holds 2147483648, which int32 cannot represent; ...
    """
    if isinstance(value, jax.Array) or not value.size:
        return
    native = value.dtype if value.dtype.isnative else value.dtype.newbyteorder("=")
    target = np.dtype(jax.dtypes.canonicalize_dtype(native))
    if target.kind == "c":
        check_fits(value.real, name)
        check_fits(value.imag, name)
    if target.itemsize >= native.itemsize or target.kind not in "iuf":
        return
    limits = np.finfo(target) if target.kind == "f" else np.iinfo(target)
    low, high = np.fmin.reduce(value, axis=None), np.fmax.reduce(value, axis=None)
    if target.kind == "f" and (np.isinf(low) or np.isinf(high)):
        finite = value[np.isfinite(value)]
        if not finite.size:
            return
        low, high = finite.min(), finite.max()
    if low < limits.min or high > limits.max:
        _raise_too_large(name, high if high > limits.max else low, target)


def _raise_too_large(name: str, value: np.generic, target: np.dtype) -> NoReturn:
    advice = "recode identifiers (numpy.unique)" if target.kind in "iu" else "rescale the field"
    msg = (
        f"Field {name!r} holds {value}, which {target} cannot represent; {advice}, or switch on "
        f"64-bit numbers with jax.config.update('jax_enable_x64', True)."
    )
    raise DataError(msg)
