"""Batches of a dataset, epoch by epoch, in an order that can be resumed anywhere."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from aimz_lab.data.arrays import canonical
from aimz_lab.data.checks import check_positive_int
from aimz_lab.data.dataset import ArrayDataset
from aimz_lab.data.html import html_table
from aimz_lab.data.keys import as_typed_key, key_words
from aimz_lab.data.order import epoch_order
from aimz_lab.data.padding import (
    check_sharding,
    pad_rows,
    padding_advice,
    padding_waste,
    row_multiple,
)
from aimz_lab.errors import ArgumentError, CheckpointError, DataTypeError
from aimz_lab.types import Device

_STATE_VERSION = 1


class ArrayLoader:
    """Iterable over the batches of an :class:`ArrayDataset`, as ``(batch, n_pad)`` pairs.

    Each ``iter()`` is one epoch, and the next one has the next number; iterators that run at the
    same time have an epoch each. With ``shuffle`` the order is a function of the key and the
    epoch's number alone, see :func:`~aimz_lab.data.order.epoch_order`.

    ``batch`` maps each field to its rows, at most ``batch_size`` of them. With ``device=None`` they
    are what the dataset holds: new arrays when shuffled, otherwise views, which are read-only. With
    a device or a sharding the last row is repeated until the rows divide among the local devices,
    or among the shards of the leading axis, and the batch moves there, in JAX's precision;
    ``n_pad`` counts the rows added.

    Args:
        dataset: What to read.
        rng_key: Random key of the order, typed or legacy.
        batch_size: Rows of data per batch, at least 1.
        shuffle: Whether each epoch has an order of its own.
        device: Where batches go: ``None``, a ``jax.Device`` or a ``Sharding``.

    Raises:
        ArgumentError: If ``batch_size`` is not a positive int.
        DataError: If the sharding does not fit a field.
        DataTypeError: If an argument is of the wrong kind.

    Example:
        >>> dataset = ArrayDataset(y=[10.0, 20.0, 30.0])
        >>> for batch, n_pad in ArrayLoader(dataset, jax.random.key(0), batch_size=2):
        ...     print(batch["y"], n_pad)
        [10. 20.] 0
        [30.] 0
    """

    def __init__(
        self,
        dataset: ArrayDataset,
        rng_key: jax.Array,
        *,
        batch_size: int = 32,
        shuffle: bool = False,
        device: Device | None = None,
    ) -> None:
        if not isinstance(dataset, ArrayDataset):
            msg = (
                f"ArrayLoader reads an ArrayDataset, got {type(dataset).__name__}; wrap the "
                f"arrays: ArrayLoader(ArrayDataset(X=X, y=y), rng_key)."
            )
            raise DataTypeError(msg)
        if not isinstance(shuffle, bool | np.bool_):
            msg = f"shuffle must be True or False, got {shuffle!r}."
            raise DataTypeError(msg)
        self._dataset = dataset
        self._rng_key = as_typed_key(rng_key)
        self._batch_size = check_positive_int("batch_size", batch_size)
        self._shuffle = bool(shuffle)
        self._device = device
        self._multiple = row_multiple(device)
        if isinstance(device, jax.sharding.Sharding):
            check_sharding(device, {name: row.shape for name, row in dataset.schema.items()})
        self._upcoming = (0, 0)  # epoch and batch that the next iter() begins at
        self._position = (0, 0)  # epoch and batch that the latest iterator gives next
        self._latest = 0  # number of that iterator

    @property
    def dataset(self) -> ArrayDataset:
        """What is read."""
        return self._dataset

    @property
    def rng_key(self) -> jax.Array:
        """The typed key of the order."""
        return self._rng_key

    @property
    def batch_size(self) -> int:
        """Rows of data per batch; the last one of an epoch may have fewer."""
        return self._batch_size

    @property
    def shuffle(self) -> bool:
        """Whether each epoch has an order of its own."""
        return self._shuffle

    @property
    def device(self) -> Device | None:
        """Where batches go."""
        return self._device

    @property
    def epoch(self) -> int:
        """Number, from 0, of the epoch under way, or of the next one if none is."""
        return self._position[0]

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return math.ceil(len(self._dataset) / self._batch_size)

    def __iter__(self) -> Iterator[tuple[dict[str, np.ndarray | jax.Array], int]]:
        epoch, start = self._position = self._upcoming
        self._upcoming = (epoch + 1, 0)
        self._latest += 1
        return self._handed_out(epoch, start, self._latest)

    def index_batches(self, epoch: int, start: int = 0) -> Iterator[Int[np.ndarray, " row"]]:
        """Return an iterator over the row numbers of each batch of one epoch.

        It neither reads nor moves the loader's own position.

        Args:
            epoch: Number of the epoch, from 0.
            start: Number, from 0, of the batch to begin at.

        Returns:
            Arrays of row numbers, a batch each.

        Raises:
            ArgumentError: If ``epoch`` is negative, or ``start`` is not within the epoch.

        Example:
            >>> dataset = ArrayDataset(y=[10.0, 20.0, 30.0])
            >>> loader = ArrayLoader(dataset, jax.random.key(0), batch_size=2)
            >>> list(loader.index_batches(epoch=0))
            [array([0, 1]), array([2])]
        """
        return (
            np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
            for rows in self._rows(epoch, start)
        )

    def batches(self, epoch: int, start: int = 0) -> Iterator[dict[str, np.ndarray | jax.Array]]:
        """Return an iterator over the batches of one epoch, neither padded nor moved.

        It neither reads nor moves the loader's own position.

        Args:
            epoch: Number of the epoch, from 0.
            start: Number, from 0, of the batch to begin at.

        Returns:
            The rows of each batch, by field.

        Raises:
            ArgumentError: If ``epoch`` is negative, or ``start`` is not within the epoch.

        Example:
            >>> loader = ArrayLoader(ArrayDataset(y=[10, 20, 30]), jax.random.key(0), batch_size=2)
            >>> list(loader.batches(epoch=0))
            [{'y': array([10, 20])}, {'y': array([30])}]
        """
        return map(self._dataset.take, self._rows(epoch, start))

    def state_dict(self) -> dict[str, Any]:
        """Return the position of the latest iterator, and what the order depends on.

        The state can be written as JSON. It counts each batch that was handed out as used.

        Returns:
            A new dictionary for :meth:`load_state_dict`.

        Example:
            >>> loader = ArrayLoader(ArrayDataset(y=[10, 20, 30]), jax.random.key(0), batch_size=2)
            >>> batch, n_pad = next(iter(loader))
            >>> loader.state_dict()["batch"]
            1
        """
        epoch, batch = self._position
        return {"version": _STATE_VERSION, "epoch": epoch, "batch": batch, **self._settings()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to a saved position: the next ``iter()`` begins there, inside that epoch.

        Args:
            state: From :meth:`state_dict`, of a loader with the same settings and number of rows.

        Raises:
            CheckpointError: If it is no such state, or the loader differs; the message says in
                what. The loader then stays as it was.

        Example:
            >>> loader = ArrayLoader(ArrayDataset(y=[10, 20, 30]), jax.random.key(0), batch_size=2)
            >>> state = {**loader.state_dict(), "batch": 1}
            >>> loader.load_state_dict(state)
            >>> [batch["y"].tolist() for batch, n_pad in loader]
            [[30]]
        """
        required = {"version", "epoch", "batch", *self._settings()}
        if not isinstance(state, Mapping) or not required <= state.keys():
            msg = f"This is no loader state; expected a mapping with {', '.join(sorted(required))}."
            raise CheckpointError(msg)
        if state["version"] != _STATE_VERSION:
            msg = (
                f"The loader state has version {state['version']!r}, and version {_STATE_VERSION} "
                f"is understood; read it with the release that saved it."
            )
            raise CheckpointError(msg)
        self._check_same_settings(state)
        epoch, batch = state["epoch"], state["batch"]
        if not (
            type(epoch) is int and type(batch) is int and epoch >= 0 and 0 <= batch < len(self)
        ):
            msg = (
                f"The loader state is at epoch {epoch!r}, batch {batch!r}; expected an epoch from "
                f"0 and a batch from 0 to {len(self) - 1}."
            )
            raise CheckpointError(msg)
        self._upcoming = self._position = (epoch, batch)
        self._latest += 1  # iterators that still run no longer move the position

    def _settings(self) -> dict[str, Any]:
        # The order depends on the key only if there is one.
        impl = str(jax.random.key_impl(self._rng_key))
        key = {"impl": impl, "words": key_words(self._rng_key).tolist()} if self._shuffle else None
        return {
            "n": len(self._dataset),
            "batch_size": self._batch_size,
            "shuffle": self._shuffle,
            "key": key,
        }

    def _check_same_settings(self, state: Mapping[str, Any]) -> None:
        differ = [
            f"{name} is {state[name]!r} there and {value!r} here"
            for name, value in self._settings().items()
            if state[name] != value
        ]
        if differ:
            msg = (
                f"The state was saved by another loader: {'; '.join(differ)}. Build the loader "
                f"with the same data and settings, or begin anew without the state."
            )
            raise CheckpointError(msg)

    def _rows(self, epoch: int, start: int) -> Iterator[slice | np.ndarray]:
        """Return which rows each batch has: slices of the data, or parts of the epoch's order."""
        if epoch < 0 or not 0 <= start <= len(self):
            msg = f"epoch={epoch}, start={start}: there are epochs from 0, of {len(self)} batches."
            raise ArgumentError(msg)
        n_rows, size = len(self._dataset), self._batch_size
        rows = (slice(i, min(i + size, n_rows)) for i in range(start * size, n_rows, size))
        if not self._shuffle:
            return rows
        order = epoch_order(n_rows, self._rng_key, epoch)
        return (order[batch] for batch in rows)

    def _handed_out(
        self, epoch: int, start: int, number: int
    ) -> Iterator[tuple[dict[str, np.ndarray | jax.Array], int]]:
        for i, batch in enumerate(self.batches(epoch, start), start + 1):
            placed = self._placed(batch)
            if number == self._latest:
                self._position = (epoch, i) if i < len(self) else (epoch + 1, 0)
            yield placed

    def _placed(
        self, batch: dict[str, np.ndarray | jax.Array]
    ) -> tuple[dict[str, np.ndarray | jax.Array], int]:
        if self._device is None:
            return batch, 0
        batch = {name: canonical(array, name) for name, array in batch.items()}
        batch, n_pad = pad_rows(batch, self._multiple)
        owned = {name: _owned(array) for name, array in batch.items()}
        return jax.device_put(owned, self._device), n_pad

    def __repr__(self) -> str:
        return (
            f"ArrayLoader(n={len(self._dataset)}, batch_size={self._batch_size}, "
            f"shuffle={self._shuffle}, device={self._device}, batches={len(self)}, "
            f"epoch={self.epoch})"
        )

    def _repr_html_(self) -> str:
        n_rows = len(self._dataset)
        n_pad, share = padding_waste(n_rows, self._batch_size, self._multiple)
        per_batch = -min(self._batch_size, n_rows) % self._multiple
        padding = f"{per_batch} rows a batch, {n_pad:,} an epoch: {share:.1%} of the rows computed"
        rows = [
            ("rows", f"{n_rows:,}"),
            ("fields", ", ".join(self._dataset.fields)),
            ("batch size", self._batch_size),
            ("batches per epoch", f"{len(self):,}"),
            ("order", "shuffled anew each epoch" if self._shuffle else "as in the data"),
            ("device", "where the data is" if self._device is None else self._device),
            ("padding", padding if n_pad else "none"),
            ("epoch", self.epoch),
        ]
        advice = padding_advice(n_rows, self._batch_size, self._multiple)
        rows += [("advice", advice)] if advice else []
        return html_table("ArrayLoader", ["property", "value"], rows)


def _owned(array: np.ndarray | jax.Array) -> np.ndarray | jax.Array:
    """Copy a view: device_put shares memory on CPUs, where a write to the data would change it."""
    return array.copy() if isinstance(array, np.ndarray) and array.base is not None else array
