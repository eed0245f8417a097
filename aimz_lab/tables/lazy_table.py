"""Rows of a Dask table, encoded where they are read, for predictions from parquet and the like."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aimz_lab.data.ranged_source import DaskTable, RangedSource
from aimz_lab.errors import DataError, DataTypeError
from aimz_lab.tables.encoder import TableEncoder


class EncodedRows(RangedSource):
    """Rows of a Dask table as arguments of the kernel; any range can be read and encoded alone.

    Args:
        table: The table.
        encoder: What the training table taught.
        leave_out: Arguments that are not needed, such as the output of a prediction.
        first: Number of the first row to read.
        count: Number of rows; ``None`` for all from ``first`` on.

    Raises:
        DataError: If it has no rows.
    """

    def __init__(
        self,
        table: DaskTable,
        encoder: TableEncoder,
        leave_out: frozenset[str],
        *,
        first: int = 0,
        count: int | None = None,
    ) -> None:
        super().__init__({"table": table}, first=first, count=count)
        self._table, self._encoder, self._leave_out = table, encoder, leave_out

    @property
    def fields(self) -> tuple[str, ...]:
        """The kernel arguments that have rows."""
        parts = self._encoder.spec.parts.items()
        return tuple(
            name for name, part in parts if part.kind != "levels" and name not in self._leave_out
        )

    @property
    def numbers(self) -> dict[str, int]:
        """The kernel arguments that are a number of levels."""
        encoder = self._encoder
        parts = {name: part for name, part in encoder.spec.parts.items() if part.kind == "levels"}
        return {
            name: len(encoder.columns[part.columns[0]].levels or ()) for name, part in parts.items()
        }

    def between(self, first: int, count: int) -> EncodedRows:
        """Return ``count`` rows from ``first``, as one batch."""
        return EncodedRows(self._table, self._encoder, self._leave_out, first=first, count=count)

    def _open(self, epoch: int) -> Iterator[Mapping[str, Any]]:
        for number, batch in enumerate(super()._open(epoch), 1):
            try:
                made, _ = self._encoder.encode(
                    batch["table"], leave_out=self._leave_out, quietly=True, by_pieces=True
                )
            except (DataError, DataTypeError) as error:
                raise type(error)(f"{self._where(number, epoch)}: {error}") from error
            yield {name: made[name] for name in self.fields}
