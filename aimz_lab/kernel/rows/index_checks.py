"""Find indices out of range: in arrays before the call, in a source batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace
from typing import Any

from aimz_lab.data import BatchSource
from aimz_lab.data.wrapped_source import WrappedSource
from aimz_lab.kernel.cache_keys import CodeKey, shapes_of
from aimz_lab.kernel.rows.indices import IndexProgram, KernelCall
from aimz_lab.types import Batch, Rows

_KEPT = 64
"""Programs to keep, for as many shapes of the arguments."""


class IndexCheck:
    """Checks the indices of a kernel; remembers for each shape what has to be checked.

    Args:
        kernel: The NumPyro model.
    """

    def __init__(self, kernel: Callable) -> None:
        self._kernel = kernel
        self._programs: dict[Hashable, IndexProgram | None] = {}

    def __reduce__(self) -> tuple[type[IndexCheck], tuple[Callable]]:
        return IndexCheck, (self._kernel,)

    def rows(
        self,
        rows: Rows,
        *,
        first_row: int = 0,
        piece: int = 256,
        code: CodeKey | None = None,
        **others: Any,
    ) -> None:
        """Check the indices of one call.

        Args:
            rows: The kernel's per-row arrays.
            first_row: Number of the first row, for the message.
            piece: Rows at a time, for a kernel that does not run on all of them.
            code: The kernel's code, if it was read already.
            **others: Further fields of :class:`~aimz_lab.kernel.rows.indices.KernelCall`.

        Raises:
            DataError: If an index is out of range; it names the argument, the row and the length.
        """
        code = CodeKey(self._kernel) if code is None else code
        call = KernelCall(self._kernel, rows, **others)
        program = self._program(call, code)
        if program is None and call.draws:  # of other shapes; the call itself refuses them
            call = replace(call, draws={})
            program = self._program(call, code)
        if program is not None:
            program.check(call, first_row)
            return
        for start in range(0, call.n_rows, piece):
            part = call.part(start, piece)
            program = self._program(part, code)
            if program is None or not program.lookups:
                return
            program.check(part, first_row + start)

    def source(
        self, source: BatchSource, *, fields: tuple[str, ...] | None = None, **others: Any
    ) -> BatchSource:
        """Return a source that raises where a batch has an index out of range.

        The kernel's code is read now, as that of the compiled steps is.

        Args:
            source: The batches.
            fields: The fields that are arguments of the kernel; ``None`` for all.
            **others: As in :meth:`rows`.
        """
        code = CodeKey(self._kernel)

        without_lookups: set[Hashable] = set()

        def check(batch: Batch, first_row: int) -> None:
            rows = {name: batch[name] for name in fields or batch if name in batch}
            shapes = tuple([(name, array.shape, array.dtype) for name, array in rows.items()])
            if shapes in without_lookups:  # to find the program takes as long as to read a batch
                return
            program = self._program(KernelCall(self._kernel, rows, **others), code)
            if program is not None and not program.lookups:
                without_lookups.add(shapes)
                return
            self.rows(rows, first_row=first_row, code=code, **others)

        return _CheckedSource(source, check)

    def _program(self, call: KernelCall, code: CodeKey) -> IndexProgram | None:
        """The program for these shapes; ``None`` if the kernel does not run on them."""
        typed = tuple((name, type(value), value) for name, value in sorted(call.static.items()))
        kind = code, shapes_of(call.arrays), typed
        if kind not in self._programs:
            if len(self._programs) >= _KEPT:
                self._programs.pop(next(iter(self._programs)))
            try:
                self._programs[kind] = IndexProgram(call)
            except Exception:  # noqa: BLE001  a kernel for other shapes; its caller sees the error
                self._programs[kind] = None
        return self._programs[kind]


class _CheckedSource(WrappedSource):
    """A source whose batches are checked as they are read."""

    def __init__(self, source: BatchSource, check: Callable[[Batch, int], None]) -> None:
        super().__init__(source)
        self._check = check

    def _wrapping(self, part: BatchSource, first: int) -> _CheckedSource:
        return _CheckedSource(part, lambda batch, first_row: self._check(batch, first + first_row))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Return the batches of one epoch."""
        first_row = 0
        for batch in self._source.epoch(epoch, start):
            self._check(batch, first_row)
            first_row += len(next(iter(batch.values())))
            yield batch
