"""Rows of a prediction, cut into pieces and folded into blocks of 256."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from aimz_lab.data import BatchSource, check_fits, pad_rows
from aimz_lab.data.ranged_source import can_be_cut
from aimz_lab.errors import DataError

BLOCK_ROWS = 256
"""Rows of a block. Changing it changes the draws of a key."""


class Rows:
    """The rows of a call, from host memory or from a source, as pieces of a fixed length.

    Args:
        rows: Arrays by argument name, or a source of batches, read once.
        fields: The fields of the source's batches to read; ``None`` for all.
        first: Number of the first row, for the rows of a part of a call; a multiple of 256.

    Attributes:
        template: Arrays by name, of any length, that show shapes and dtypes.
        n_rows: Number of rows; ``None`` for a source.
        expected: Number of rows for the plan: ``n_rows``, or the number that a source declares.
        counted: Number of rows, also of a source that has counted them; else ``None``.
        streams: Whether the rows come from a source.

    Raises:
        DataError: If there is no row, or a value does not fit into JAX's type.
    """

    def __init__(
        self,
        rows: Mapping[str, ArrayLike] | BatchSource,
        fields: tuple[str, ...] | None = None,
        *,
        first: int = 0,
    ) -> None:
        self.streams = not isinstance(rows, Mapping)
        self._fields, self._first = fields, first
        self._n_read = 0
        if self.streams:
            batches = map(self._read, rows.epoch(0))
            first = next(batches, None)
            self._batches = itertools.chain([first], batches)
            self.template, self.n_rows, self.expected = first, None, rows.n_obs
            self.counted = rows.epoch_rows if can_be_cut(rows) else None
        else:
            self.template = {name: _fitting(name, value) for name, value in rows.items()}
            self.n_rows = self.expected = self.counted = _length(self.template)
        if not self.template or not _length(self.template):
            msg = "There are no rows to compute; pass arrays, or a loader, with at least one row."
            raise DataError(msg)

    def _read(self, batch: Mapping[str, ArrayLike]) -> dict[str, np.ndarray]:
        names = batch if self._fields is None else self._fields
        return {name: _fitting(name, batch[name]) for name in names if name in batch}

    @property
    def count(self) -> int:
        """Number of rows; of a source that does not know, of those read so far."""
        return self._n_read if self.counted is None else self.counted

    @property
    def n_shown(self) -> int:
        """Number of rows of the template."""
        return _length(self.template)

    @property
    def row_bytes(self) -> int:
        """Bytes of the arrays per row."""
        return sum(array[:1].nbytes for array in self.template.values())

    def pieces(self, size: int, aligned: Mapping[Hashable, np.ndarray]) -> Iterator[Piece]:
        """Yield the rows in pieces of ``size``, the last one shorter.

        Args:
            size: Rows of a piece.
            aligned: Further arrays with one entry for each row of the input, cut with it.

        Raises:
            DataError: If ``aligned`` has another number of rows.
        """
        first = 0
        for rows in self._chunks(size):
            count = _length(rows)
            extra = {name: array[first : first + count] for name, array in aligned.items()}
            short = [name for name, array in extra.items() if len(array) < count]
            if short:
                site = short[0][-1] if isinstance(short[0], tuple) else short[0]
                msg = f"The value set for {site!r} has fewer rows than the data."
                raise DataError(msg)
            yield Piece(self._first + first, count, rows, extra)
            first += count
            self._n_read = first
        check_aligned(aligned, first)

    def _chunks(self, size: int) -> Iterator[dict[str, np.ndarray]]:
        if not self.streams:
            for first in range(0, self.n_rows, size):
                yield {name: array[first : first + size] for name, array in self.template.items()}
            return
        pending: list[dict[str, np.ndarray]] = []
        count = 0
        for batch in self._batches:
            pending.append(batch)
            count += _length(batch)
            while count >= size:
                joined = _joined(pending)
                yield {name: array[:size] for name, array in joined.items()}
                pending = [{name: array[size:] for name, array in joined.items()}]
                count -= size
        if count:
            yield _joined(pending)


def check_aligned(aligned: Mapping[Hashable, np.ndarray], n_rows: int) -> None:
    """Raise :class:`DataError` if values set by hand have another number of rows than the data."""
    for name, array in aligned.items():
        if len(array) != n_rows:
            than = "more" if len(array) > n_rows else "fewer"
            site = name[-1] if isinstance(name, tuple) else name
            msg = f"The value set for {site!r} has {than} rows than the data, which has {n_rows}."
            raise DataError(msg)


def check_same_length(several: Sequence[Rows]) -> None:
    """Raise :class:`DataError` if scenarios have different known numbers of rows."""
    lengths = {rows.n_rows for rows in several if rows.n_rows is not None}
    if len(lengths) > 1:
        listed = " and ".join(str(rows.n_rows) for rows in several)
        msg = f"The scenarios have {listed} rows; an effect compares row by row."
        raise DataError(msg)


def _fitting(name: str, value: ArrayLike) -> np.ndarray:
    array = np.asarray(value)
    check_fits(array, name)
    return array


def _length(rows: Mapping[str, np.ndarray]) -> int:
    return len(next(iter(rows.values()))) if rows else 0


def _joined(batches: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    if len(batches) == 1:
        return batches[0]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


class Piece(NamedTuple):
    """The rows of one compiled call.

    Attributes:
        first: Number of its first row in the whole input.
        n_rows: Number of rows.
        rows: Kernel arguments, ``(n_rows, ...)``.
        aligned: Further arrays, cut in the same way.
    """

    first: int
    n_rows: int
    rows: dict[str, np.ndarray]
    aligned: dict[Hashable, np.ndarray]


def fold(array: np.ndarray, blocks: int) -> np.ndarray:
    """Pad rows by repeating the last one, and fold them into blocks, ``(G, B, ...)``."""
    padded, _ = pad_rows({"rows": array}, blocks * BLOCK_ROWS)
    return padded["rows"].reshape(blocks, BLOCK_ROWS, *array.shape[1:])


def split_by_rows(
    values: Mapping[str, ArrayLike], row_wise: Mapping[str, int]
) -> tuple[dict, dict]:
    """Split set values into those with one entry per row, rows first, and the others."""
    rows = {
        name: np.moveaxis(np.asarray(value), row_wise[name], 0)
        for name, value in values.items()
        if name in row_wise
    }
    return rows, {name: value for name, value in values.items() if name not in row_wise}
