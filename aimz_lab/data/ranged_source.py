"""Rows of Zarr and Dask arrays, read some at a time, from any row on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from aimz_lab.data.sources import BatchSource
from aimz_lab.data.stream import StreamSource
from aimz_lab.data.tables import is_a
from aimz_lab.errors import DataError, DataTypeError

READ_ROWS = 16_384
"""Rows of a batch, where nothing else is asked for."""


class DaskTable:
    """A Dask DataFrame, of which some rows are read as a table of pandas.

    Args:
        frame: The Dask DataFrame. Its partitions are counted, which reads them once.

    Attributes:
        shape: Its rows and columns.

    Raises:
        DataError: If its files are not there.
    """

    def __init__(self, frame: Any) -> None:
        self._frame = frame
        try:
            counts = frame.map_partitions(len).compute()
        except OSError as error:
            msg = f"The Dask table cannot be read: {error}."
            raise DataError(msg) from error
        self._ends = np.cumsum([0, *counts])
        self.shape = int(self._ends[-1]), len(frame.columns)

    def __getitem__(self, rows: slice) -> Any:
        first, last = np.searchsorted(self._ends, [rows.start, rows.stop - 1], side="right") - 1
        start = self._ends[first]
        # Within a task of a cluster, Dask would by default send the work back to its scheduler.
        found = self._frame.partitions[first : last + 1].compute(scheduler="synchronous")
        found = found.iloc[rows.start - start : rows.stop - start].reset_index(drop=True)
        return self._typed(found)

    def _typed(self, found: Any) -> Any:
        """Return floats where the table has floats, and the partitions of these rows integers."""
        if not found.columns.is_unique:
            return found
        kinds = {name: dtype for name, dtype in self._frame.dtypes.items() if dtype.kind == "f"}
        named = kinds.keys() & set(found.columns)
        return found.astype({name: kinds[name] for name in named if found[name].dtype.kind in "iu"})


def is_dask_table(value: object) -> bool:
    """Whether a value is a Dask DataFrame."""
    return is_a(value, "dask.dataframe", "DataFrame")


def is_lazy(value: object) -> bool:
    """Whether a value is an array or a table that is not in memory: of Zarr or of Dask.

    Example:
        >>> is_lazy(np.ones(3))
        False
    """
    kinds = ("zarr", "Array"), ("dask.array", "Array"), ("dask.dataframe", "DataFrame", "Series")
    return any(is_a(value, *kind) for kind in kinds)


class RangedSource(StreamSource):
    """Rows of arrays that are not in memory; any range of them can be read alone.

    Args:
        arrays: Arrays by field: of Zarr, of Dask, Dask's tables, or arrays in memory beside them.
        allow_nonfinite: Do not check what is read for NaN and infinite values.
        first: Number of the first row to read.
        count: Number of rows; ``None`` for all from ``first`` on.

    Attributes:
        can_be_cut: ``True``: any range of its rows can be read alone.

    Raises:
        DataError: If the arrays differ in their number of rows, or have none.
        DataTypeError: If the number of rows of an array is unknown.
    """

    can_be_cut = True

    def __init__(
        self,
        arrays: Mapping[str, Any],
        *,
        allow_nonfinite: bool = False,
        first: int = 0,
        count: int | None = None,
    ) -> None:
        self._arrays = {name: _counted(value) for name, value in arrays.items()}
        lengths = {name: _length(name, value) for name, value in self._arrays.items()}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{name!r} has {rows}" for name, rows in lengths.items())
            msg = f"The arrays differ in their number of rows: {listed}."
            raise DataError(msg)
        total = next(iter(lengths.values()))
        self._range = first, total - first if count is None else count
        self._is_part = count is not None
        batches = 1 if self._is_part else -(-total // READ_ROWS)
        super().__init__(
            self._open,
            names=tuple(arrays),
            n_obs=self._range[1],
            n_batches=batches,
            epoch_rows=self._range[1],
            reiterable=True,
            allow_nonfinite=allow_nonfinite,
        )

    @property
    def fields(self) -> tuple[str, ...]:
        """The field names."""
        return tuple(self._arrays)

    def between(self, first: int, count: int) -> RangedSource:
        """Return ``count`` rows from ``first``, as one batch."""
        return RangedSource(
            self._arrays, allow_nonfinite=self._allow_nonfinite, first=first, count=count
        )

    def check_there(self) -> None:
        """Check that this process sees the arrays of Zarr; one that is not there reads as zeros.

        Raises:
            DataError: If it does not, or sees another array at the same place.
        """
        for name, value in self._arrays.items():
            if is_a(value, "zarr", "Array"):
                check_zarr_there(f"The Zarr array of field {name!r}", value)

    def _where(self, number: int, epoch: int) -> str:
        del epoch
        first, count = self._range
        size = count if self._is_part else READ_ROWS
        start = first + (number - 1) * size
        last = min(start + size, first + count) - 1
        return f"Within rows {start:,} to {last:,}, counted from the first of these"

    def _open(self, epoch: int) -> Iterator[dict[str, Any]]:
        del epoch
        first, count = self._range
        size = count if self._is_part else READ_ROWS
        for start in range(first, first + count, size):
            rows = slice(start, min(start + size, first + count))
            yield {name: _computed(name, value[rows]) for name, value in self._arrays.items()}


def check_zarr_there(what: str, array: Any) -> None:
    """Check that this process sees an array of Zarr, whose missing chunks would read as zeros.

    Args:
        what: Names the array, as the beginning of a sentence.
        array: The array.

    Raises:
        DataError: If it does not, or sees another array at the same place.
    """
    import zarr

    try:
        found = zarr.open_array(array.store, path=array.path, mode="r")
    except (OSError, KeyError, ValueError) as error:
        msg = (
            f"{what} is not at {array.store_path} here. Put it where all workers see it: on a "
            "network file system, or at a URL such as s3://bucket/folder."
        )
        raise DataError(msg) from error
    if (found.shape, found.dtype) != (array.shape, array.dtype):
        msg = (
            f"{what} at {array.store_path} is another one here: its shape is {found.shape}, not "
            f"{array.shape}, or its type {found.dtype}, not {array.dtype}. Pass an array that all "
            "workers see as it is."
        )
        raise DataError(msg)


def rows_between(source: BatchSource, first: int, count: int) -> BatchSource:
    """Return ``count`` rows of a source from ``first``.

    Raises:
        DataTypeError: If the source can only be read from its beginning.
    """
    if not can_be_cut(source):
        msg = f"A {type(source).__name__} can only be read from its first row."
        raise DataTypeError(msg)
    return source.between(first, count)


def can_be_cut(source: object) -> bool:
    """Whether any range of a source's rows can be read alone."""
    return getattr(source, "can_be_cut", False)


def _counted(value: Any) -> Any:
    if is_dask_table(value):
        return DaskTable(value)
    return value.to_dask_array(lengths=True) if is_a(value, "dask.dataframe", "Series") else value


def _length(name: str, value: Any) -> int:
    shape = np.shape(value)
    if not shape:
        msg = f"Field {name!r} is a single value; an array has its rows along its first axis."
        raise DataError(msg)
    if shape[0] != shape[0]:  # Dask's word for unknown is NaN
        msg = (
            f"The number of rows of field {name!r} is unknown; call its compute_chunk_sizes(), or "
            "make it by to_dask_array(lengths=True)."
        )
        raise DataTypeError(msg)
    if not shape[0]:
        msg = f"Field {name!r} has no rows."
        raise DataError(msg)
    return int(shape[0])


def _computed(name: str, value: Any) -> Any:
    """Read rows; those of a Dask array in its type, since a part of it may have another one.

    Raises:
        DataTypeError: If a part does not fit that type.
        DataError: If there are more or fewer rows than the array says.
    """
    if not is_a(value, "dask.array", "Array"):
        return value if hasattr(value, "columns") else np.asarray(value)
    # Part by part: Dask would cast all of them, unasked, to the type of the first one.
    typed = value.map_blocks(partial(_in_type, name, value.dtype), meta=value._meta)
    # Within a task of a cluster, Dask would by default send the work back to its scheduler.
    found = typed.compute(scheduler="synchronous")
    if found.shape != value.shape:
        msg = (
            f"Field {name!r} of Dask says that these rows have the shape {value.shape}, and what "
            f"is read has {found.shape}; count them anew by its compute_chunk_sizes()."
        )
        raise DataError(msg)
    return found


def _in_type(name: str, dtype: np.dtype, part: Any) -> np.ndarray:
    found = np.asarray(part)
    rule = "same_kind" if np.issubdtype(dtype, np.inexact) else "safe"
    if not np.can_cast(found.dtype, dtype, rule):
        msg = (
            f"Field {name!r} of Dask says that it is {dtype}, and a part of it is {found.dtype}; "
            "bring all of it to one type by its astype(...)."
        )
        raise DataTypeError(msg)
    return found.astype(dtype, copy=False)
