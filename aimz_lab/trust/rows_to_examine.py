"""The rows that a report examines, block by block and as often as it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Shaped

from aimz_lab.data import ArrayLoader, BatchSource, canonical, pad_rows
from aimz_lab.errors import DataError, DataTypeError
from aimz_lab.inference.feeds.training_data import TrainingData
from aimz_lab.kernel.arguments import KernelArguments
from aimz_lab.kernel.output_transform import observed_values
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.predictive.request import Request
from aimz_lab.types import Params, Rows

WHOLE = 4096
"""Without a batch size, data with at most this many rows is one block; else a block has as many."""


@dataclass(frozen=True)
class ExaminedRows:
    """All rows of a call, with the observed output.

    Attributes:
        data: The rows as training data, in blocks of its ``batch_size``.
        outputs: The output of all rows.
        source: The source of the rows, or ``None`` if they are in memory.
        fields: The fields of its batches that are arguments of the kernel; ``None`` for all.
    """

    data: TrainingData
    outputs: Shaped[np.ndarray, "row ..."]
    source: BatchSource | None = None
    fields: tuple[str, ...] | None = None

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return len(self.outputs)

    @property
    def is_whole(self) -> bool:
        """Whether one block has all rows."""
        return self.data.batch_size >= self.n_rows

    def as_observed(
        self, kernel: Callable, spec: KernelSpec | None, params: Params
    ) -> ExaminedRows:
        """Return the same with the outputs as the kernel observes them: such as their logs.

        They are NaN if they depend on what the kernel draws, and stay as they are if it observes
        more or fewer of them, of which none belongs to a row.

        Args:
            kernel: The kernel.
            spec: Its structure in training, or ``None``.
            params: Values of its ``param`` sites.
        """
        if spec is None or not spec.output_transform:
            return self
        blocks = [self.data.rows]
        if self.source is not None:
            blocks = [rows for rows, _ in self.blocks(padded=False)]
        shared, static = self.data.shared, self.data.static
        found = [
            observed_values(kernel, spec, params, KernelArguments(rows, shared, static))
            for rows in blocks
        ]
        if any(values is None for values in found):
            return replace(self, outputs=np.full(self.outputs.shape, np.nan))
        outputs = np.concatenate(found)
        return replace(self, outputs=outputs) if len(outputs) == self.n_rows else self

    def blocks(self, *, padded: bool) -> Iterator[tuple[Rows, int]]:
        """Yield the rows of each block, and how many of them are no padding.

        Args:
            padded: Whether a short block is filled up, so that one program serves all.
        """
        size = self.data.batch_size
        batches = [self.data.rows] if self.source is None else self.source.epoch(0)
        for batch in batches:
            rows = _of_kernel(batch, self.fields)
            count = len(next(iter(rows.values())))
            for start in range(0, count, size):
                block = {
                    name: canonical(array[start : start + size], name)
                    for name, array in rows.items()
                }
                valid = len(next(iter(block.values())))
                if padded and valid < size:
                    block, _ = pad_rows(block, size)
                yield block, valid


def rows_of(inputs: object) -> object:
    """Return the dataset of a loader, whose order does not matter here; anything else as it is."""
    return inputs.dataset if isinstance(inputs, ArrayLoader) else inputs


def examined_rows(request: Request, batch_size: int | None, output: str) -> ExaminedRows:
    """Return the rows of a call to ``log_likelihood``.

    Args:
        request: The call, its arguments checked.
        batch_size: Rows of a block; ``None`` for all rows up to 4,096, else 4,096.
        output: Name of the output.

    Raises:
        DataTypeError: If they come from a source that can be read only once.
        DataError: If a source has no rows.
    """
    rows, source = request.rows, None
    if not isinstance(rows, Mapping):
        if not rows.reiterable:
            msg = (
                "A report reads the data several times, and a generator can be read only once; "
                "pass the function that makes it, a list of batches, or an ArrayLoader."
            )
            raise DataTypeError(msg)
        source = rows
        outputs, rows = _outputs_of(source, request.fields, output)
    else:
        outputs = np.asarray(rows[output])
    n_rows = len(outputs)
    default = n_rows if n_rows <= WHOLE else WHOLE
    if source is not None:
        default = len(next(iter(rows.values())))
    data = TrainingData(
        rows=rows,
        shared=request.shared,
        static=request.static,
        n_obs=n_rows,
        batch_size=min(batch_size or default, n_rows, default if source is not None else n_rows),
        source=source,
    )
    return ExaminedRows(data, outputs, source, request.fields)


def _outputs_of(
    source: BatchSource, fields: tuple[str, ...] | None, output: str
) -> tuple[np.ndarray, Rows]:
    """Read the outputs of all batches, and the rows of the first."""
    first, outputs = None, []
    for batch in source.epoch(0):
        first = _of_kernel(batch, fields) if first is None else first
        outputs.append(np.asarray(batch[output]))
    if first is None:
        msg = "The source of batches is empty; a report needs at least one batch."
        raise DataError(msg)
    return np.concatenate(outputs), first


def _of_kernel(batch: Rows, fields: tuple[str, ...] | None) -> dict[str, np.ndarray]:
    # A batch may lack arguments that have a default.
    names = batch if fields is None else [name for name in fields if name in batch]
    return {name: batch[name] for name in names}
