"""Check and copy the batches of a stream as they arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from aimz_lab.data.arrays import canonical, is_array_like, to_host
from aimz_lab.data.checks import check_finite, check_rows
from aimz_lab.data.dataset import FieldSchema
from aimz_lab.data.labels import column_names, same_columns, shared_row_labels
from aimz_lab.errors import DataError, DataTypeError
from aimz_lab.types import Columns, HostRows

OpenEpoch: TypeAlias = Callable[[int], Iterable[object]]
"""Returns the batches of an epoch, given its number from 0."""


class StreamSource:
    """The batches of any iterable, each checked and copied as it arrives.

    Each batch must have the fields, row shapes, types and columns of the first one, and its arrays
    the same rows. It is copied, since a stream may reuse its buffers, and converted to JAX's
    types. Errors count batches and epochs from 1.

    Args:
        open_epoch: Returns the batches of an epoch, given its number from 0.
        names: Names of the parts of a batch that is a tuple, a list or a single array.
        n_obs: Rows of the whole data, if known.
        n_batches: Batches of an epoch, if known.
        epoch_rows: Rows of an epoch, if they were counted.
        reiterable: Whether ``open_epoch`` can be called more than once.
        allow_nonfinite: Do not check batches for NaN and infinite values.

    Attributes:
        may_be_empty: Whether an epoch without batches is no error: one of several processes may
            have no rows.
    """

    may_be_empty = False

    def __init__(
        self,
        open_epoch: OpenEpoch,
        *,
        names: Sequence[str],
        n_obs: int | None,
        n_batches: int | None = None,
        epoch_rows: int | None = None,
        reiterable: bool,
        allow_nonfinite: bool,
    ) -> None:
        self._open_epoch = open_epoch
        self._names = tuple(names)
        self._allow_nonfinite = allow_nonfinite
        self._schema: dict[str, FieldSchema] | None = None
        self._columns: dict[str, tuple[str, ...]] = {}
        self.n_obs = n_obs
        self.n_batches, self.epoch_rows = n_batches, epoch_rows
        self.reiterable = reiterable

    @property
    def fields(self) -> tuple[str, ...] | None:
        """The field names, or ``None`` before the first batch is read."""
        return None if self._schema is None else tuple(self._schema)

    @property
    def columns(self) -> Columns:
        """Column names of each field that is a table; empty before the first batch is read."""
        return dict(self._columns)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[HostRows]:
        """Return the batches of one epoch; those before ``start`` are read and dropped."""
        return self._checked(self._open_epoch(epoch), epoch, start)

    def _checked(self, batches: Iterable[object], epoch: int, start: int) -> Iterator[HostRows]:
        n_batches = 0
        for n_batches, raw in enumerate(batches, 1):
            if n_batches > start:
                yield self._read(raw, self._where(n_batches, epoch))
        if n_batches == 0 and not self.may_be_empty:
            msg = (
                f"Epoch {epoch + 1} has no batches: the source yielded nothing. If it is an object "
                f"that can be read once, pass a function that makes a new one."
            )
            raise DataError(msg)

    def _where(self, number: int, epoch: int) -> str:
        """Name a batch, counted from 1, in the message of an error."""
        return f"Batch {number} of epoch {epoch + 1}"

    def _read(self, raw: object, where: str) -> HostRows:
        try:
            named, n_pad = _named(raw, self._names)
            batch = None if n_pad else self._copy_of_alike(named)
            if batch is None:
                batch = self._read_any(named, n_pad)
        except (DataError, DataTypeError) as error:
            msg = f"{where}: {error}"
            raise type(error)(msg) from error
        check_finite(batch, self._allow_nonfinite, where, self._columns)
        return batch

    def _copy_of_alike(self, named: Mapping[str, object]) -> HostRows | None:
        """Copy plain arrays with the fields, types and row shapes of the first batch.

        Nothing else about them is to be checked. Small batches come fast: this takes a third of
        the time of :meth:`_read_any`.

        Returns:
            The copy; ``None`` for any other batch.
        """
        schema = self._schema
        if schema is None or named.keys() != schema.keys():
            return None
        lengths = set()
        for name, (shape, dtype) in schema.items():
            array = named[name]
            is_alike = type(array) is np.ndarray and array.ndim and array.dtype == dtype
            if not is_alike or array.shape[1:] != shape:
                return None
            lengths.add(len(array))
        if len(lengths) != 1 or 0 in lengths:
            return None
        return {name: named[name].copy() for name in schema}

    def _read_any(self, named: Mapping[str, ArrayLike], n_pad: int) -> HostRows:
        """Copy and check the arrays of a batch of any kind.

        Raises:
            DataError: If arrays do not fit together, or to the first batch.
            DataTypeError: If a type cannot be converted.
        """
        batch = {name: _own_copy(name, value) for name, value in named.items()}
        n_rows = check_rows(batch, "batch")
        if not 0 <= n_pad < n_rows:
            msg = f"{n_pad} of its {n_rows} rows are said to be padding; at least 1 must be data."
            raise DataError(msg)
        shared_row_labels(named)
        self._check_columns(named)
        batch = {name: array[: n_rows - n_pad] for name, array in batch.items()}
        return self._as_first(batch)

    def _check_columns(self, named: Mapping[str, object]) -> None:
        """Raise :class:`DataError` if a table has other columns than in the first batch."""
        for name, value in named.items():
            columns = column_names(value)
            if columns is None:
                continue
            first = self._columns.setdefault(name, columns)
            if not same_columns(columns, first):
                msg = (
                    f"field {name!r} has the columns {', '.join(columns)}, and "
                    f"{', '.join(first)} in the first batch; give all batches these columns in "
                    "this order."
                )
                raise DataError(msg)

    def _as_first(self, batch: HostRows) -> HostRows:
        """Return the batch in the field order and the types of the first one.

        Raises:
            DataError: If its fields or row shapes differ.
            DataTypeError: If a type cannot be converted.
        """
        if self._schema is None:
            self._schema = {k: FieldSchema(v.shape[1:], v.dtype) for k, v in batch.items()}
        if batch.keys() != self._schema.keys():
            msg = (
                f"it has the fields {', '.join(batch)}, and the first batch "
                f"{', '.join(self._schema)}."
            )
            raise DataError(msg)
        for name, (shape, dtype) in self._schema.items():
            array = batch[name]
            if array.shape[1:] != shape:
                msg = (
                    f"rows of field {name!r} have the shape {array.shape[1:]}, and {shape} in the "
                    f"first batch."
                )
                raise DataError(msg)
            # Integers may become floats, but must not wrap.
            rule = "same_kind" if np.issubdtype(dtype, np.inexact) else "safe"
            if not np.can_cast(array.dtype, dtype, rule):
                msg = (
                    f"field {name!r} is {array.dtype}, and {dtype} in the first batch; give all "
                    f"batches one type."
                )
                raise DataTypeError(msg)
        return {k: batch[k].astype(dtype, copy=False) for k, (_, dtype) in self._schema.items()}


def _named(raw: object, names: tuple[str, ...]) -> tuple[dict[str, ArrayLike], int]:
    """Return the arrays of a batch by field, and how many of their rows are padding."""
    is_pair = isinstance(raw, tuple) and len(raw) == 2 and isinstance(raw[0], Mapping)
    if is_pair and isinstance(raw[1], int | np.integer):
        return _named(raw[0], names)[0], int(raw[1])
    if isinstance(raw, Mapping):
        arrays = dict(raw)
    elif isinstance(raw, tuple) and hasattr(raw, "_asdict"):
        arrays = raw._asdict()
    elif is_array_like(raw):
        arrays = {names[0]: raw}
    elif isinstance(raw, tuple | list) and len(raw) <= len(names):
        arrays = dict(zip(names, raw, strict=False))
    elif isinstance(raw, tuple | list):
        msg = (
            f"it has {len(raw)} parts, and only {len(names)} have a name ({', '.join(names)}); "
            f"yield a mapping of field to array."
        )
        raise DataError(msg)
    else:
        msg = (
            f"a batch is a mapping of field to array, or a tuple of arrays ({', '.join(names)}), "
            f"not {type(raw).__name__}."
        )
        raise DataTypeError(msg)
    if unfit := [name for name in arrays if not isinstance(name, str)]:
        msg = f"fields are named by text, not by {unfit[0]!r}."
        raise DataTypeError(msg)
    return {name: value for name, value in arrays.items() if value is not None}, 0


def count_rows(batches: Sequence[object], names: Sequence[str]) -> int | None:
    """Count the rows of batches in memory; ``None`` if one of them is no batch.

    Args:
        batches: The batches.
        names: Names of the parts of a batch that is a tuple, a list or a single array.
    """
    count = 0
    for raw in batches:
        try:
            named, n_pad = _named(raw, tuple(names))
            count += len(next(iter(named.values()))) - n_pad
        except (DataError, DataTypeError, TypeError, StopIteration):
            return None  # reading it raises the better error
    return count


def _own_copy(name: str, value: ArrayLike) -> np.ndarray:
    """Return an array of our own: what a wrapper holds is seen in no other way.

    A JAX array is copied too, since ``jax.device_put`` may share memory with NumPy.
    """
    host = to_host(name, value)
    array = canonical(host, name)
    return array.copy() if array is host and not isinstance(value, list | tuple) else array
