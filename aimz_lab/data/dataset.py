"""A dataset: named arrays with the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding
from jaxtyping import Bool, Int
from numpy.typing import ArrayLike

from aimz_lab.calls import public
from aimz_lab.data.arrays import as_stored, canonical
from aimz_lab.data.checks import check_rows
from aimz_lab.data.html import format_bytes, html_table
from aimz_lab.data.labels import (
    AxisLabels,
    RowCoord,
    as_coord,
    column_names,
    shared_row_labels,
)
from aimz_lab.errors import DataTypeError
from aimz_lab.system.forks import check_can_compute
from aimz_lab.types import Array, Batch, Columns, Rows, shown

RowSelection: TypeAlias = (
    slice | Sequence[int] | Sequence[bool] | Int[Array, " row"] | Bool[Array, " all_rows"]
)
"""Some rows of a dataset: a slice, row numbers, or a mask."""

_READING = "Reading rows of a JAX array, unlike those of a NumPy array,"


class FieldSchema(NamedTuple):
    """Shape and type of one row of a field.

    Attributes:
        shape: Shape of the array without its leading axis.
        dtype: Type of the values.
    """

    shape: tuple[int, ...]
    dtype: np.dtype


@public
class ArrayDataset:
    """Named arrays whose leading axes are the same rows.

    NumPy and JAX arrays are stored as they are, without a copy. Other array-likes (lists, pandas,
    polars, xarray, CPU tensors) become NumPy arrays once. NaN is allowed here; the model refuses
    it, unless you pass ``allow_nonfinite=True``.

    Args:
        *unnamed: Not allowed; each array needs a name.
        to_jax: Copy all arrays to the device now, in JAX's precision (float32 unless
            ``jax_enable_x64`` is on), and keep them there.
        **arrays: One array-like per field, of shape ``(row, ...)``. A field that is ``None`` is
            left out: a dataset for prediction has no ``y``.

    Raises:
        DataError: If there are no arrays or no rows, one array is a scalar, the numbers of rows
            differ, or two indexes label the same row differently.
        DataTypeError: If values are not numeric, or an array has no name.

    Example:
        >>> dataset = ArrayDataset(X=[[1.0, 2.0], [3.0, 4.0]], y=[0, 1])
        >>> len(dataset)
        2
        >>> dataset[1]
        {'X': array([3., 4.]), 'y': np.int64(1)}
    """

    def __init__(
        self, /, *unnamed: object, to_jax: bool = False, **arrays: ArrayLike | None
    ) -> None:
        if unnamed:
            msg = (
                f"ArrayDataset takes its arrays by name, got {len(unnamed)} without; write "
                f"ArrayDataset(X=X, y=y), or ArrayDataset(**arrays) for a mapping."
            )
            raise DataTypeError(msg)
        if not isinstance(to_jax, bool | np.bool_):
            msg = (
                f"to_jax is an option, True or False, got {type(to_jax).__name__}; a field of that "
                f"name has to be renamed."
            )
            raise DataTypeError(msg)
        given = {name: value for name, value in arrays.items() if value is not None}
        stored = {name: as_stored(name, value) for name, value in given.items()}
        self._n_rows = check_rows(stored, "dataset")
        self._row_labels = shared_row_labels(given)
        named = {name: column_names(value) for name, value in given.items()}
        self._columns = {name: names for name, names in named.items() if names is not None}
        self._to_jax = bool(to_jax)
        if to_jax:
            stored = {name: _to_device(name, array) for name, array in stored.items()}
        self._arrays = stored

    @property
    def arrays(self) -> Rows:
        """The arrays by field, of shape ``(row, ...)``; a read-only mapping."""
        return MappingProxyType(self._arrays)

    @property
    def fields(self) -> tuple[str, ...]:
        """The field names, in the order given."""
        return tuple(self._arrays)

    @property
    def nbytes(self) -> int:
        """Size of all arrays in bytes."""
        return sum(array.nbytes for array in self._arrays.values())

    @property
    def to_jax(self) -> bool:
        """Whether all arrays were converted to JAX arrays."""
        return self._to_jax

    @property
    def row_coord(self) -> RowCoord | None:
        """Row labels: the first pandas index or xarray coordinate among the fields."""
        return as_coord(self._row_labels)

    @property
    def row_labels(self) -> AxisLabels | None:
        """Row labels to compare with others: those of ``row_coord``, or an index that counts."""
        return self._row_labels

    @property
    def columns(self) -> Columns:
        """Column names of each field that came as a data frame."""
        return MappingProxyType(self._columns)

    @property
    def schema(self) -> dict[str, FieldSchema]:
        """Shape and type of one row, by field."""
        return {
            name: FieldSchema(array.shape[1:], np.dtype(array.dtype))
            for name, array in self._arrays.items()
        }

    def __len__(self) -> int:
        return self._n_rows

    def __getitem__(self, index: int | np.integer | RowSelection) -> dict[str, Array | np.generic]:
        """Return the rows at ``index``, by field.

        Args:
            index: A row number (negative: from the end), a slice, an array of row numbers, or a
                boolean mask of the rows.

        Raises:
            IndexError: If a row does not exist.
            DataTypeError: If the index is none of these.
            ForkedProcessError: If a field is a JAX array, in a process that was forked after JAX
                had been used.
        """
        if isinstance(index, int | np.integer) and not isinstance(index, bool):
            if not -self._n_rows <= index < self._n_rows:
                msg = f"Row {index} does not exist; the dataset has {self._n_rows} rows."
                raise IndexError(msg)
            if any(isinstance(array, jax.Array) for array in self._arrays.values()):
                check_can_compute(_READING)
            return {name: _pickable(array)[index] for name, array in self._arrays.items()}
        return self.take(index)

    def take(self, rows: RowSelection) -> Batch:
        """Return the selected rows by field, gathered where the arrays are.

        A JAX array on several devices is read through the host.

        Args:
            rows: A slice gives read-only views of NumPy arrays, because the memory is yours. Row
                numbers or a mask give new arrays.

        Returns:
            The rows of each field, in the order asked for.

        Raises:
            IndexError: If a row does not exist.
            DataTypeError: If ``rows`` is neither a slice, row numbers nor a mask.
            ForkedProcessError: If a field is a JAX array, in a process that was forked after JAX
                had been used.

        Example:
            >>> ArrayDataset(y=[10, 20, 30]).take(np.array([2, 0]))
            {'y': array([30, 10])}
        """
        if not isinstance(rows, slice):
            rows = self._row_numbers(rows)
        arrays = {name: _pickable(array) for name, array in self._arrays.items()}
        picked = {
            name: _view(array, rows) if isinstance(rows, slice) else array.take(rows, axis=0)
            for name, array in arrays.items()
            if isinstance(array, np.ndarray)
        }
        device = {name: array for name, array in arrays.items() if isinstance(array, jax.Array)}
        if device:
            picked |= _pick_on_device(device, rows, self._n_rows)
        return {name: picked[name] for name in arrays}

    def _row_numbers(self, index: ArrayLike) -> np.ndarray:
        """Return an index as row numbers from 0; JAX would silently clip invalid ones."""
        try:
            rows = np.asarray(index)
        except (TypeError, ValueError):  # no array
            rows = np.array(None)
        if rows.dtype == np.bool_ and rows.ndim == 1:
            if len(rows) != self._n_rows:
                msg = f"The mask has {len(rows)} entries; the dataset has {self._n_rows} rows."
                raise IndexError(msg)
            return np.flatnonzero(rows)
        if rows.size == 0 and rows.ndim == 1:
            return np.empty(0, np.intp)
        if rows.dtype.kind not in "iu" or rows.ndim != 1:
            msg = (
                f"Rows are picked by an int, a slice, or a 1-d array of ints or booleans, not by "
                f"{shown(index)}; a field is dataset.arrays['X']."
            )
            raise DataTypeError(msg)
        low, high = rows.min(), rows.max()
        if low < -self._n_rows or high >= self._n_rows:
            bad = low if low < -self._n_rows else high
            msg = f"Row {bad} does not exist; the dataset has {self._n_rows} rows."
            raise IndexError(msg)
        return np.where(rows < 0, rows + self._n_rows, rows) if low < 0 else rows

    def __repr__(self) -> str:
        fields = ", ".join(
            f"{name}={array.dtype}{list(array.shape)}" for name, array in self._arrays.items()
        )
        return f"ArrayDataset({fields}, to_jax={self._to_jax})"

    def _repr_html_(self) -> str:
        rows = [
            (name, array.shape, array.dtype, format_bytes(array.nbytes), _place(array))
            for name, array in self._arrays.items()
        ]
        caption = f"ArrayDataset: {self._n_rows:,} rows, {format_bytes(self.nbytes)}"
        return html_table(caption, ["field", "shape", "dtype", "bytes", "lives in"], rows)


def _pickable(array: Array) -> Array:
    """Return an array that can be indexed by rows; JAX cannot index explicitly sharded rows."""
    if isinstance(array, np.ndarray) or isinstance(array.sharding, SingleDeviceSharding):
        return array
    if len(array.devices()) > 1:
        return np.asarray(array)  # JAX caches this copy
    return jax.device_put(array, SingleDeviceSharding(*array.devices()))


def _pick_on_device(
    arrays: dict[str, jax.Array], rows: slice | np.ndarray, n_rows: int
) -> dict[str, jax.Array]:
    check_can_compute(_READING)
    if not isinstance(rows, slice):
        return _gather(arrays, rows)
    numbers = range(n_rows)[rows]
    if numbers.step == 1:
        return _slice_rows(arrays, numbers.start, len(numbers))
    return _gather(arrays, np.array(numbers, np.intp))


@jax.jit
def _gather(arrays: dict[str, jax.Array], rows: jax.Array) -> dict[str, jax.Array]:
    return {name: jnp.take(array, rows, axis=0, mode="clip") for name, array in arrays.items()}


@jax.jit(static_argnums=2)
def _slice_rows(
    arrays: dict[str, jax.Array], start: int | jax.Array, size: int
) -> dict[str, jax.Array]:
    # The start is traced, so one compilation serves all batches of an epoch.
    return {
        name: jax.lax.dynamic_slice_in_dim(array, start, size) for name, array in arrays.items()
    }


def _to_device(name: str, array: Array) -> jax.Array:
    # Copy: on CPUs device_put shares NumPy's memory, so a later write would change the JAX array.
    return array if isinstance(array, jax.Array) else jnp.array(canonical(array, name))


def _view(array: np.ndarray, rows: slice) -> np.ndarray:
    view = array[rows]
    view.flags.writeable = False
    return view


def _place(array: Array) -> str:
    if isinstance(array, np.memmap):
        return "file (memory-mapped)"
    if isinstance(array, np.ndarray):
        return "host memory"
    devices = sorted(array.devices(), key=lambda device: device.id)
    names = ", ".join(f"{device.platform}:{device.id}" for device in devices[:4])
    return f"device {names}" if len(devices) <= 4 else f"devices {names}, ... ({len(devices)})"
