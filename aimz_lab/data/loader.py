"""The loader: batches of a dataset, epoch by epoch, resumable at any batch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import jax
import numpy as np
from jaxtyping import Int, Key

from aimz_lab.calls import public
from aimz_lab.data.arrays import canonical
from aimz_lab.data.checks import check_positive_int, is_integer
from aimz_lab.data.dataset import ArrayDataset
from aimz_lab.data.epoch_plan import EpochPlan
from aimz_lab.data.html import html_table
from aimz_lab.data.keys import as_typed_key
from aimz_lab.data.loaded_batch import LoadedBatch
from aimz_lab.data.loader_state import LoaderSettings, position_in, saved_state
from aimz_lab.data.options import check_flag
from aimz_lab.data.order import epoch_order
from aimz_lab.data.padding import (
    check_sharding,
    pad_rows,
    padding_advice,
    padding_waste,
    row_multiple,
)
from aimz_lab.data.process_rows import all_devices, joined_rows, own_rows, spans_processes
from aimz_lab.errors import ArgumentError, DataTypeError
from aimz_lab.types import Array, Batch, Device, JsonObject, RandomKey, shown


@public
class ArrayLoader:
    """Iterate over the batches of an :class:`ArrayDataset` as ``(batch, n_pad)`` pairs.

    Each ``iter()`` is one epoch, and the next epoch each time, also if several iterators are in use
    at once. With ``shuffle`` the order depends only on the key and the epoch number, see
    :func:`~aimz_lab.data.order.epoch_order`.

    ``batch`` maps each field to at most ``batch_size`` rows. With ``device=None`` these are new
    arrays when shuffled, otherwise read-only views of the dataset. With a device or a sharding, the
    last row is repeated until the rows divide evenly among the local devices, or the shards of the
    leading axis; the batch then moves there in JAX's precision. ``n_pad`` is the number of rows
    added.

    Args:
        dataset: The dataset to read.
        rng_key: Random key of the order, typed or legacy.
        batch_size: Rows of data per batch, at least 1.
        shuffle: Whether to shuffle each epoch anew.
        device: Where batches go: ``None``, a ``jax.Device`` or a ``Sharding``.
        process_shard: Spread batches over the devices of all processes of ``jax.distributed``. Each
            process has the same dataset, in memory or memory-mapped, and brings its share of each
            batch.

    Raises:
        ArgumentError: If ``batch_size`` is not a positive int, or ``device`` is given beside
            ``process_shard``.
        DataError: If the sharding does not fit a field.
        DataTypeError: If an argument is of the wrong type.

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
        rng_key: RandomKey,
        *,
        batch_size: int = 32,
        shuffle: bool = False,
        device: Device | None = None,
        process_shard: bool = False,
    ) -> None:
        if not isinstance(dataset, ArrayDataset):
            msg = (
                f"ArrayLoader reads an ArrayDataset, got {type(dataset).__name__}; wrap the "
                f"arrays: ArrayLoader(ArrayDataset(X=X, y=y), rng_key)."
            )
            raise DataTypeError(msg)
        if not isinstance(shuffle, bool | np.bool_):
            msg = f"shuffle must be True or False, got {shown(shuffle)}."
            raise DataTypeError(msg)
        self._dataset = dataset
        self._rng_key = as_typed_key(rng_key)
        self._batch_size = check_positive_int("batch_size", batch_size)
        self._shuffle = bool(shuffle)
        if check_flag("process_shard", process_shard):
            if device is not None:
                msg = "process_shard=True chooses the devices; leave device= out."
                raise ArgumentError(msg)
            device = all_devices()
        self._device = device
        self._multiple = row_multiple(device)
        if isinstance(device, jax.sharding.Sharding):
            check_sharding(device, {name: row.shape for name, row in dataset.schema.items()})
        self._upcoming = (0, 0)  # epoch and batch where the next iter() begins
        self._position = (0, 0)  # epoch and batch that the latest iterator yields next
        self._latest = 0  # number of the latest iterator

    @property
    def dataset(self) -> ArrayDataset:
        """The dataset to read."""
        return self._dataset

    @property
    def rng_key(self) -> Key[jax.Array, ""]:
        """The typed key of the order."""
        return self._rng_key

    @property
    def batch_size(self) -> int:
        """Rows of data per batch; the last batch of an epoch may have fewer."""
        return self._batch_size

    @property
    def shuffle(self) -> bool:
        """Whether each epoch is shuffled anew."""
        return self._shuffle

    @property
    def device(self) -> Device | None:
        """Where batches go."""
        return self._device

    @property
    def epoch(self) -> int:
        """Number, from 0, of the current epoch; between epochs, of the next one."""
        return self._position[0]

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return math.ceil(len(self._dataset) / self._batch_size)

    def __iter__(self) -> Iterator[LoadedBatch]:
        epoch, start = self._position = self._upcoming
        self._upcoming = (epoch + 1, 0)
        self._latest += 1
        return self._handed_out(epoch, start, self._latest)

    def index_batches(self, epoch: int, start: int = 0) -> Iterator[Int[np.ndarray, " row"]]:
        """Return an iterator over the row numbers of the batches of one epoch.

        The loader's own position is neither used nor changed.

        Args:
            epoch: Number of the epoch, from 0.
            start: Number, from 0, of the batch to begin at.

        Returns:
            One array of row numbers per batch.

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

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Return an iterator over the batches of one epoch, neither padded nor moved to a device.

        The loader's own position is neither used nor changed.

        Args:
            epoch: Number of the epoch, from 0.
            start: Number, from 0, of the batch to begin at.

        Returns:
            One mapping of field to rows per batch.

        Raises:
            ArgumentError: If ``epoch`` is negative, or ``start`` is not within the epoch.

        Example:
            >>> loader = ArrayLoader(ArrayDataset(y=[10, 20, 30]), jax.random.key(0), batch_size=2)
            >>> list(loader.batches(epoch=0))
            [{'y': array([10, 20])}, {'y': array([30])}]
        """
        return map(self._dataset.take, self._rows(epoch, start))

    def plan(self, row_multiple: int | None = None) -> EpochPlan:
        """Return which rows each batch of an epoch has, and how many it is padded by.

        Nothing is read. The order of the rows is that of :meth:`index_batches`.

        Args:
            row_multiple: Pad to a multiple of this number of rows, as for so many devices; by
                default, as this loader's device or sharding needs.

        Returns:
            The plan, with ``rows`` and ``n_pad`` of each batch, ``rows_computed``, the share
            ``wasted`` on padding, ``batch_bytes`` and ``bytes_moved``.

        Raises:
            ArgumentError: If ``row_multiple`` is not a positive int.

        Example:
            >>> loader = ArrayLoader(ArrayDataset(y=[10, 20, 30]), jax.random.key(0), batch_size=2)
            >>> loader.plan(row_multiple=8).n_pad
            array([6, 7])
        """
        multiple = self._multiple if row_multiple is None else row_multiple
        row_bytes = sum(
            math.prod(row.shape) * jax.dtypes.canonicalize_dtype(row.dtype).itemsize
            for row in self._dataset.schema.values()
        )
        return EpochPlan.of(len(self._dataset), self._batch_size, multiple, row_bytes)

    def state_dict(self) -> JsonObject:
        """Return the position of the latest iterator and the settings that fix the order.

        Each batch that the iterator has yielded counts as used.

        Returns:
            A dictionary for :meth:`load_state_dict`, which JSON can hold.

        Example:
            >>> loader = ArrayLoader(ArrayDataset(y=[10, 20, 30]), jax.random.key(0), batch_size=2)
            >>> batch, n_pad = next(iter(loader))
            >>> loader.state_dict()["batch"]
            1
        """
        epoch, batch = self._position
        return saved_state(epoch, batch, self._settings())

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Go to a saved position; the next ``iter()`` begins there, inside that epoch.

        Args:
            state: From :meth:`state_dict` of a loader with the same settings and number of rows.

        Raises:
            CheckpointError: If ``state`` is no such state, or the loader differs from that one; the
                message names the difference. This loader then stays as it was.

        Example:
            >>> loader = ArrayLoader(ArrayDataset(y=[10, 20, 30]), jax.random.key(0), batch_size=2)
            >>> state = {**loader.state_dict(), "batch": 1}
            >>> loader.load_state_dict(state)
            >>> [batch["y"].tolist() for batch, n_pad in loader]
            [[30]]
        """
        epoch, batch = position_in(state, self._settings(), n_batches=len(self))
        self._upcoming = self._position = (epoch, batch)
        self._latest += 1  # running iterators no longer change the position

    def _settings(self) -> LoaderSettings:
        # The order depends on the key only when the loader shuffles.
        key = self._rng_key if self._shuffle else None
        return LoaderSettings(len(self._dataset), self._batch_size, self._shuffle, key)

    def _rows(self, epoch: int, start: int) -> Iterator[slice | np.ndarray]:
        """Return the rows of each batch: slices of the data, or parts of the epoch's order."""
        ints = is_integer(epoch) and is_integer(start)
        if not ints or epoch < 0 or not 0 <= start <= len(self):
            msg = (
                f"epoch={shown(epoch)}, start={shown(start)}: there are epochs from 0, of "
                f"{len(self)} batches."
            )
            raise ArgumentError(msg)
        plan = self.plan()
        bounds = zip(plan.starts[start:].tolist(), plan.rows[start:].tolist(), strict=True)
        rows = (slice(first, first + count) for first, count in bounds)
        if not self._shuffle:
            return rows
        order = epoch_order(len(self._dataset), self._rng_key, epoch)
        return (order[batch] for batch in rows)

    def _handed_out(self, epoch: int, start: int, number: int) -> Iterator[LoadedBatch]:
        for i, batch in enumerate(self.batches(epoch, start), start + 1):
            placed = self._placed(batch)
            if number == self._latest:
                self._position = (epoch, i) if i < len(self) else (epoch + 1, 0)
            yield placed

    def _placed(self, batch: Batch) -> LoadedBatch:
        if self._device is None:
            return LoadedBatch(batch, 0)
        batch = {name: canonical(array, name) for name, array in batch.items()}
        batch, n_pad = pad_rows(batch, self._multiple)
        owned = {name: _owned(array) for name, array in batch.items()}
        if not spans_processes(self._device):
            return LoadedBatch(jax.device_put(owned, self._device), n_pad)
        n_rows = len(next(iter(owned.values())))
        part = own_rows(self._device, n_rows)
        own = {name: array[part] for name, array in owned.items()}
        return LoadedBatch(joined_rows(own, self._device, n_rows), n_pad)

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


def _owned(array: Array) -> Array:
    """Copy a view; on CPUs device_put shares memory, and a later write would change the batch."""
    return array.copy() if isinstance(array, np.ndarray) and array.base is not None else array
