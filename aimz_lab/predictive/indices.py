"""Arguments that index beyond what the posterior knows are found before anything is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from aimz_lab.data import BatchSource
from aimz_lab.kernel.indices import check_indices


def with_checked_indices(
    kernel: Callable,
    rows: Mapping[str, Any] | BatchSource,
    *,
    fields: tuple[str, ...] | None,
    whole: Mapping[str, Any],
    static: Mapping[str, Any],
    values: Mapping[str, Any],
) -> Mapping[str, Any] | BatchSource:
    """Check rows at once, and those of a source as they are read.

    Args:
        kernel: The NumPyro model.
        rows: Its per-row arrays, or the source that they come from.
        fields: The fields of the source that are its arguments; ``None`` for all.
        whole: Arrays that do not follow the rows.
        static: Values that are not arrays.
        values: Values of sites to substitute.

    Returns:
        The rows, or a source that raises where a batch is wrong.

    Raises:
        DataError: If an argument indexes beyond the end of what it indexes.
    """

    def check(rows: Mapping[str, Any], first_row: int) -> None:
        rows = {name: rows[name] for name in fields or rows if name in rows}
        check_indices(
            kernel, rows=rows, whole=whole, static=static, values=values, first_row=first_row
        )

    if not isinstance(rows, Mapping):
        return _CheckedSource(rows, check)
    check(rows, 0)
    return rows


class _CheckedSource:
    """A source whose batches are checked as they are read."""

    def __init__(
        self, source: BatchSource, check: Callable[[Mapping[str, Any], int], None]
    ) -> None:
        self._source, self._check = source, check
        self.reiterable = source.reiterable

    @property
    def n_obs(self) -> int | None:
        """Rows of the whole data, if the source knows."""
        return self._source.n_obs

    @property
    def fields(self) -> tuple[str, ...] | None:
        """The fields' names, if they are known."""
        return self._source.fields

    def epoch(self, epoch: int, start: int = 0) -> Iterator[dict[str, Any]]:
        """Return the batches of one epoch."""
        first_row = 0
        for batch in self._source.epoch(epoch, start):
            self._check(batch, first_row)
            first_row += len(next(iter(batch.values())))
            yield batch
