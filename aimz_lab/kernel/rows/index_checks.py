"""Find indices out of range: in arrays before the call, in a source batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any

from aimz_lab.data import BatchSource
from aimz_lab.kernel.cache_keys import CodeKey, shapes_of
from aimz_lab.kernel.rows.indices import check_indices


class IndexCheck:
    """Checks the arguments of a kernel; remembers the shapes for which no argument is an index.

    Args:
        kernel: The NumPyro model.
    """

    def __init__(self, kernel: Callable) -> None:
        self._kernel = kernel
        self._harmless: set[Hashable] = set()

    def __reduce__(self) -> tuple[type[IndexCheck], tuple[Callable]]:
        return IndexCheck, (self._kernel,)

    def rows(
        self,
        rows: Mapping[str, Any] | BatchSource,
        *,
        fields: tuple[str, ...] | None,
        shared: Mapping[str, Any],
        static: Mapping[str, Any],
        values: Mapping[str, Any],
    ) -> Mapping[str, Any] | BatchSource:
        """Check rows at once, and those of a source as they are read.

        Args:
            rows: The kernel's per-row arrays, or the source that they come from.
            fields: The fields of the source that are its arguments; ``None`` for all.
            shared: Arrays that do not follow the rows.
            static: Values that are not arrays.
            values: Values of sites to substitute.

        Returns:
            The rows, or a source that raises where a batch is wrong.

        Raises:
            DataError: If an argument indexes beyond the end of what it indexes.
        """

        def check(batch: Mapping[str, Any], first_row: int) -> None:
            batch = {name: batch[name] for name in fields or batch if name in batch}
            typed = tuple((name, type(value), value) for name, value in sorted(static.items()))
            kind = CodeKey(self._kernel), shapes_of((batch, dict(shared), dict(values))), typed
            if kind in self._harmless:
                return
            indexes = check_indices(
                self._kernel,
                rows=batch,
                shared=shared,
                static=static,
                values=values,
                first_row=first_row,
            )
            if not indexes:
                self._harmless.add(kind)

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
