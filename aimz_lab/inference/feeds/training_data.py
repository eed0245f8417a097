"""What a fit trains on: rows in memory, or a source of batches."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from aimz_lab.data import ArrayLoader, BatchSource, canonical, check_rows, epoch_order
from aimz_lab.data.checks import check_positive_int
from aimz_lab.errors import DataError
from aimz_lab.kernel.arguments import KernelArguments

SMALL = 1024
"""Data with at most this many rows is trained on whole, if no batch size is given."""

DEFAULT_BATCH = 256


@dataclass(frozen=True)
class TrainingData:
    """What a fit trains on: rows in memory, or a source of batches.

    Attributes:
        rows: Arrays by kernel argument, output included; for a source, those of its first batch.
        shared: Arrays that every batch gets as they are.
        static: Arguments that are not arrays.
        n_obs: Rows of the whole data, or ``None`` where nobody knows.
        batch_size: Rows of a batch.
        order: Row numbers of an epoch by its number, for rows in memory.
        source: Where batches come from, if not from rows in memory.
        resident: Whether the rows stay on the device.
        columns: Names of the columns of each argument that came as a data frame.
    """

    rows: Mapping[str, Any]
    shared: Mapping[str, Any]
    static: Mapping[str, Any]
    n_obs: int | None
    batch_size: int
    order: Callable[[int], np.ndarray] | None = None
    source: BatchSource | None = None
    resident: bool = False
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of_rows(
        cls,
        rows: Mapping[str, np.ndarray],
        shared: Mapping[str, Any],
        static: Mapping[str, Any],
        key: jax.Array,
        batch_size: int | None,
        shuffle: bool,
        n_obs: int | None,
    ) -> TrainingData:
        """Return arrays as training data.

        Args:
            rows: Arrays by kernel argument, output included.
            shared: Arrays that every batch gets as they are.
            static: Arguments that are not arrays.
            key: For the order of the rows.
            batch_size: Rows of a batch; ``None`` chooses.
            shuffle: Whether each epoch has another order.
            n_obs: Rows of the whole data, where these are not all.

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
            n_obs=n_rows if n_obs is None else check_positive_int("n_obs", n_obs),
            batch_size=min(check_positive_int("batch_size", size), n_rows),
            order=order,
        )

    @classmethod
    def of_loader(
        cls,
        loader: ArrayLoader,
        shared: Mapping[str, Any],
        static: Mapping[str, Any],
        n_obs: int | None,
        first_epoch: int,
    ) -> TrainingData:
        """Return what a loader has in memory, in its order from ``first_epoch`` on."""
        n_rows = len(loader.dataset)
        return cls(
            rows=dict(loader.dataset.arrays),
            shared=shared,
            static=static,
            n_obs=n_rows if n_obs is None else n_obs,
            batch_size=min(loader.batch_size, n_rows),
            order=loader_order(loader, first_epoch),
            resident=loader.dataset.to_jax,
            columns=loader.dataset.columns,
        )

    @classmethod
    def of_stream(
        cls, source: BatchSource, shared: Mapping[str, Any], static: Mapping[str, Any]
    ) -> TrainingData:
        """Return a source of batches, whose first is read here and now.

        Raises:
            DataError: If there is none.
        """
        peeked = _Peeked(source)
        first = peeked.first
        return cls(
            rows=first,
            shared=shared,
            static=static,
            n_obs=source.n_obs,
            batch_size=check_rows(first, "first batch"),
            source=peeked,
        )

    @property
    def in_memory(self) -> bool:
        """Whether all rows are at hand."""
        return self.source is None

    @property
    def is_minibatch(self) -> bool:
        """Whether a step sees only a part of the rows."""
        return self.n_obs is None or self.batch_size < self.n_obs

    @property
    def first_batch(self) -> KernelArguments:
        """Arguments of one batch at its nominal size, in the order of the input."""
        rows = {
            name: canonical(array[: self.batch_size], name) for name, array in self.rows.items()
        }
        shared = jax.tree.map(canonical, dict(self.shared))
        return KernelArguments(rows, shared, self.static)

    @property
    def static_key(self) -> tuple[tuple[str, Any], ...]:
        """The static arguments as a hashable key."""
        return KernelArguments({}, {}, self.static).static_key

    @property
    def steps_per_epoch(self) -> int | None:
        """Batches of an epoch, or ``None`` for a stream of unknown length."""
        if self.in_memory or self.n_obs is not None:
            n_obs = self.n_obs or len(next(iter(self.rows.values())))
            return math.ceil(n_obs / self.batch_size)
        return None


def default_batch_size(n_rows: int) -> int:
    """Rows of a batch where the user names none: all of them, up to 1,024; else 256.

    Example:
        >>> default_batch_size(445), default_batch_size(100_000)
        (445, 256)
    """
    return n_rows if n_rows <= SMALL else DEFAULT_BATCH


def loader_order(loader: ArrayLoader, first_epoch: int = 0) -> Callable[[int], np.ndarray]:
    """Row order of a loader by epoch, counted on from ``first_epoch``."""
    n_rows = len(loader.dataset)
    if not loader.shuffle:
        return lambda _: np.arange(n_rows)
    return lambda epoch: epoch_order(n_rows, loader.rng_key, first_epoch + epoch)


class _Peeked:
    """A source whose first batch has been looked at, without reading its first epoch twice."""

    def __init__(self, source: BatchSource) -> None:
        self._source = source
        self._opened: Iterator[dict[str, Any]] | None = source.epoch(0)
        try:
            self.first = next(self._opened)
        except StopIteration:
            msg = "The source of batches is empty; training needs at least one batch."
            raise DataError(msg) from None
        self.n_obs = source.n_obs
        self.fields = source.fields
        self.reiterable = source.reiterable

    def epoch(self, epoch: int, start: int = 0) -> Iterator[dict[str, Any]]:
        """Return the batches of one epoch."""
        if epoch == 0 and self._opened is not None:
            opened, self._opened = self._opened, None
            return itertools.islice(itertools.chain([self.first], opened), start, None)
        return self._source.epoch(epoch, start)
