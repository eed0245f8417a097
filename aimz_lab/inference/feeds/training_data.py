"""The training data of a fit: rows in memory, or a source of batches."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

import jax
import numpy as np
from jaxtyping import Int, PyTree

from aimz_lab.data import ArrayLoader, AxisLabels, BatchSource, canonical, check_rows, epoch_order
from aimz_lab.data.checks import check_positive_int
from aimz_lab.errors import ArgumentError, DataError
from aimz_lab.inference.feeds.ranges import Ranges, joined_ranges, ranges_of
from aimz_lab.inference.run.team import Team
from aimz_lab.kernel.arguments import KernelArguments
from aimz_lab.kernel.batch_plates import with_whole_plates
from aimz_lab.kernel.scaling import DataSize
from aimz_lab.types import (
    Array,
    Batch,
    Columns,
    HostRows,
    RandomKey,
    Rows,
    Shared,
    Static,
    StaticKey,
)

SMALL = 1024
"""Without a batch size, data with at most this many rows is one batch."""

DEFAULT_BATCH = 256


_MEASURED_BYTES = 1 << 19
"""Bytes of batches to measure at a time. Batches of 256 rows of 20 columns then take 9 us each, and
64 one after the other."""


class HasRanges(Protocol):
    """A source that measures the range of each column of what it reads."""

    ranges: Ranges


class HasTeam(Protocol):
    """The layout of a stream that several processes share."""

    team: Team


@dataclass(frozen=True)
class TrainingData:
    """The training data of a fit: rows in memory, or a source of batches.

    Attributes:
        rows: Per-row arguments, output included; of a source, those of its first batch.
        shared: Shared arguments.
        static: Static arguments.
        n_obs: Rows of the whole data, or ``None`` if unknown.
        batch_size: Rows of a batch.
        order: Returns the row numbers of an epoch in order, given its number; ``None`` keeps the
            order of the rows.
        source: The source of batches, or ``None`` for rows in memory.
        resident: Whether the rows stay on the device.
        columns: Column names of each argument that came as a table.
        row_labels: Labels of the rows, if a field has some.
        measured: The source below ``source`` that measures the range of what it reads.
        layout: How the rows of all processes lie on their devices, where each reads its own share
            of a stream.
    """

    rows: Rows
    shared: Shared
    static: Static
    n_obs: int | None
    batch_size: int
    order: Callable[[int], Int[np.ndarray, " row"]] | None = None
    source: BatchSource | None = None
    resident: bool = False
    columns: Columns = field(default_factory=dict)
    row_labels: AxisLabels | None = None
    measured: HasRanges | None = None
    layout: HasTeam | None = None

    @classmethod
    def of_rows(
        cls,
        rows: HostRows,
        shared: Shared,
        static: Static,
        key: RandomKey,
        batch_size: int | None,
        shuffle: bool,
        n_obs: int | None,
    ) -> TrainingData:
        """Return rows in memory as training data.

        Args:
            rows: Per-row arguments, output included.
            shared: Shared arguments.
            static: Static arguments.
            key: Random key of the row order.
            batch_size: Rows of a batch; ``None`` chooses one.
            shuffle: Whether to shuffle each epoch anew.
            n_obs: Rows of the whole data, if these are only part of it.

        Raises:
            ArgumentError: If a number is not positive.
        """
        n_rows = next(iter(rows.values())).shape[0]
        size = default_batch_size(n_rows) if batch_size is None else batch_size
        order = (lambda epoch: epoch_order(n_rows, key, epoch)) if shuffle else None
        return cls(
            rows=rows,
            shared=shared,
            static=static,
            n_obs=rows_of_all(n_obs, n_rows),
            batch_size=min(check_positive_int("batch_size", size), n_rows),
            order=order,
        )

    @classmethod
    def of_loader(
        cls,
        loader: ArrayLoader,
        shared: Shared,
        static: Static,
        n_obs: int | None,
        first_epoch: int,
    ) -> TrainingData:
        """Return a loader's rows as training data, in its order from ``first_epoch`` on."""
        n_rows = len(loader.dataset)
        return cls(
            rows=dict(loader.dataset.arrays),
            shared=shared,
            static=static,
            n_obs=rows_of_all(n_obs, n_rows),
            batch_size=min(loader.batch_size, n_rows),
            order=loader_order(loader, first_epoch),
            resident=loader.dataset.to_jax,
            columns=loader.dataset.columns,
            row_labels=loader.dataset.row_labels,
        )

    @classmethod
    def of_stream(cls, source: BatchSource, shared: Shared, static: Static) -> TrainingData:
        """Return a source of batches as training data; this reads its first batch.

        Raises:
            DataError: If the source is empty.
            ArgumentError: If it has fewer rows than its first batch.
        """
        peeked = _Peeked(source)
        first = peeked.first
        n_first = check_rows(first, "first batch")
        rows_of_all(source.n_obs, n_first)
        return cls(
            rows=first,
            shared=shared,
            static=static,
            n_obs=source.n_obs,
            batch_size=n_first,
            source=peeked,
            measured=peeked,
            columns=peeked.columns,
        )

    def copied(self) -> TrainingData:
        """Return this data in arrays of its own; the caller may change its arrays meanwhile."""
        return replace(self, rows=own_copies(self.rows), shared=own_copies(self.shared))

    @property
    def n_rows(self) -> int:
        """Rows in memory; of a source, those of its first batch."""
        return next(iter(self.rows.values())).shape[0]

    @property
    def in_memory(self) -> bool:
        """Whether all rows are in memory."""
        return self.source is None

    @property
    def is_minibatch(self) -> bool:
        """Whether a batch is only part of the rows."""
        return self.n_obs is None or self.batch_size < self.n_obs

    @property
    def size(self) -> DataSize | None:
        """How many rows the rows of a batch stand for; ``None`` if nobody knows.

        Rows in a random order weigh N over the rows of their batch. In a fixed order, and in a
        stream, all rows weigh as many times as an epoch has batches. A stream is taken to have
        ``n_obs`` rows in batches as long as the first one, except the last, unless they can be
        counted.
        """
        if self.n_obs is None:
            return None
        n_rows = self.n_obs if self.source is not None else len(next(iter(self.rows.values())))
        batches = math.ceil(n_rows / self.batch_size)
        if self.source is None:
            fixed = self.order is None and n_rows < batches * self.batch_size
            return DataSize(self.n_obs, batches * self.n_obs / n_rows if fixed else None)
        if self.source.n_batches is not None:
            batches = self.source.n_batches
            n_rows = self.source.epoch_rows or min(n_rows, batches * self.batch_size)
        return DataSize(self.n_obs, batches * self.n_obs / n_rows)

    def for_batches(self, kernel: Callable) -> Callable:
        """Return a kernel or a guide as batches of this data run it."""
        if not self.is_minibatch:
            return kernel
        return with_whole_plates(kernel, next(iter(self.rows)))

    @property
    def first_batch(self) -> KernelArguments:
        """The kernel's arguments for the first rows, at the nominal batch size."""
        rows = {
            name: canonical(array[: self.batch_size], name) for name, array in self.rows.items()
        }
        shared = jax.tree.map(canonical, dict(self.shared))
        return KernelArguments(rows, shared, self.static)

    @property
    def ranges(self) -> Ranges:
        """Range of each column, by per-row argument; of a source, of the batches read so far."""
        return self._ranges if self.measured is None else self.measured.ranges

    @cached_property
    def _ranges(self) -> Ranges:
        return ranges_of(self.rows)

    @property
    def static_key(self) -> StaticKey:
        """The static arguments as a hashable key."""
        return KernelArguments({}, {}, self.static).static_key

    @property
    def steps_per_epoch(self) -> int | None:
        """Batches of an epoch, or ``None`` for a stream of unknown length."""
        if self.source is not None and self.source.n_batches is not None:
            return self.source.n_batches
        if self.in_memory or self.n_obs is not None:
            n_obs = self.n_obs or len(next(iter(self.rows.values())))
            return math.ceil(n_obs / self.batch_size)
        return None


def own_copies(arguments: Mapping[str, PyTree[Array]]) -> dict[str, PyTree[Array]]:
    """Copy the arrays of NumPy in memory; those of JAX do not change, and files are not read.

    Args:
        arguments: The arrays by kernel argument; their order stays.
    """

    def copied(leaf: Array) -> Array:
        return leaf.copy() if isinstance(leaf, np.ndarray) and not _is_of_file(leaf) else leaf

    return {name: jax.tree.map(copied, tree) for name, tree in arguments.items()}


def _is_of_file(array: object) -> bool:
    """Whether an array is memory-mapped, or a view of one that is."""
    while isinstance(array, np.ndarray) and not isinstance(array, np.memmap):
        array = array.base
    return isinstance(array, np.memmap)


def default_batch_size(n_rows: int) -> int:
    """Return the default batch size: all rows up to 1,024, else 256.

    Example:
        >>> default_batch_size(445), default_batch_size(100_000)
        (445, 256)
    """
    return n_rows if n_rows <= SMALL else DEFAULT_BATCH


def loader_order(
    loader: ArrayLoader, first_epoch: int = 0
) -> Callable[[int], Int[np.ndarray, " row"]] | None:
    """Return the row order of a loader, with its ``first_epoch`` as epoch 0; ``None`` if fixed."""
    n_rows = len(loader.dataset)
    if not loader.shuffle:
        return None
    return lambda epoch: epoch_order(n_rows, loader.rng_key, first_epoch + epoch)


class _Peeked:
    """A source whose first batch was read, without reading the first epoch twice."""

    def __init__(self, source: BatchSource) -> None:
        self._source = source
        self._opened: Iterator[Batch] | None = source.epoch(0)
        try:
            self.first = next(self._opened)
        except StopIteration:
            msg = "The source of batches is empty; training needs at least one batch."
            raise DataError(msg) from None
        self._ranges, self._waiting, self._waiting_bytes = ranges_of(self.first), [], 0
        self.n_obs = source.n_obs
        self.n_batches, self.epoch_rows = source.n_batches, source.epoch_rows
        self.fields = source.fields
        self.columns = source.columns
        self.reiterable = source.reiterable

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Return the batches of one epoch."""
        if epoch == 0 and self._opened is not None:
            opened, self._opened = self._opened, None
            batches = itertools.islice(itertools.chain([self.first], opened), start, None)
        else:
            batches = self._source.epoch(epoch, start)
        return map(self._measured, batches)

    @property
    def ranges(self) -> Ranges:
        """The ranges of the batches that were read."""
        if self._waiting:
            self._measure()
        return self._ranges

    @ranges.setter
    def ranges(self, ranges: Ranges) -> None:
        self._ranges = ranges

    def _measured(self, batch: Batch) -> Batch:
        """Measure a batch, or let it wait: small ones are measured many at a time."""
        if not all(isinstance(array, np.ndarray) for array in batch.values()):
            self._ranges = joined_ranges(self._ranges, ranges_of(batch))
            return batch
        self._waiting.append(batch)
        self._waiting_bytes += sum(array.nbytes for array in batch.values())
        if self._waiting_bytes >= _MEASURED_BYTES:
            self._measure()
        return batch

    def _measure(self) -> None:
        batches, self._waiting, self._waiting_bytes = self._waiting, [], 0
        rows = {name: np.concatenate([one[name] for one in batches]) for name in batches[0]}
        self._ranges = joined_ranges(self._ranges, ranges_of(rows))


def rows_of_all(n_obs: int | None, n_rows: int) -> int:
    """Return the number of rows of the whole data, of which some are at hand.

    Args:
        n_obs: The number that the user gives, or ``None`` if these are all.
        n_rows: Rows at hand.

    Raises:
        ArgumentError: If it is less than the rows at hand.
    """
    if n_obs is not None and check_positive_int("n_obs", n_obs) < n_rows:
        msg = (
            f"n_obs={n_obs:,} is less than the {n_rows:,} rows that are passed. It is the number "
            "of rows of the whole data, of which these may be a part; leave it out if they are all."
        )
        raise ArgumentError(msg)
    return n_rows if n_obs is None else int(n_obs)
