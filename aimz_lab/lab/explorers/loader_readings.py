"""What an explorer reads of a source of rows: its plan and some rows; nothing of it is used up."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import numpy as np
from jaxtyping import Int, Shaped

from aimz_lab.data import ArrayDataset, ArrayLoader, as_source, row_multiple
from aimz_lab.data.epoch_plan import EpochPlan
from aimz_lab.data.ranged_source import READ_ROWS, RangedSource, is_lazy
from aimz_lab.data.sources import StreamSource, is_batches
from aimz_lab.data.stream import count_rows
from aimz_lab.data.tables import is_a, is_table, native_table
from aimz_lab.errors import DataTypeError
from aimz_lab.inference.feeds.training_data import default_batch_size
from aimz_lab.types import Columns, shown

Rows = Mapping[str, Shaped[np.ndarray, "row ..."]]


@dataclass(frozen=True)
class Settings:
    """What the controls say.

    Attributes:
        batch_size: Rows of data per batch.
        shuffle: Whether each epoch is shuffled anew.
        devices: Devices that share a batch; 0 leaves batches where the data lies.
        epoch: Number of the epoch, from 0.
    """

    batch_size: int = 1
    shuffle: bool = False
    devices: int = 0
    epoch: int = 0

    @property
    def row_multiple(self) -> int:
        """Batches are padded to a multiple of this."""
        return max(self.devices, 1)


class Reading(Protocol):
    """A source of rows, as an explorer reads it."""

    @property
    def first(self) -> Settings:
        """Its own settings."""

    @property
    def n_rows(self) -> int | None:
        """Its rows, if they are known."""

    @property
    def can_be_set(self) -> bool:
        """Whether its batch size and its order can be chosen."""

    @property
    def columns(self) -> Columns:
        """Column names of each field that is a table."""

    @property
    def host_bytes(self) -> int | None:
        """Bytes of its rows in memory, if known."""

    @property
    def row_bytes(self) -> int | None:
        """Bytes of one row of a batch as the data lies, if known."""

    @property
    def notes(self) -> list[str]:
        """What there is to say of it."""

    def plan(self, settings: Settings) -> EpochPlan | None:
        """Return the plan of an epoch; ``None`` if its length is unknown."""

    def numbers(self, settings: Settings, batch: int) -> Int[np.ndarray, " row"]:
        """Return the numbers of the rows of a batch."""

    def rows(self, numbers: Int[np.ndarray, " row"], batch: int, places: list[int]) -> Rows | None:
        """Return some rows of a batch; ``None`` if they cannot be read without being used up."""


class OfLoader:
    """An :class:`~aimz_lab.ArrayLoader`; its position does not change.

    Args:
        loader: The loader.
        is_dataset: Whether it was made here, of a dataset.
    """

    can_be_set = True

    def __init__(self, loader: ArrayLoader, *, is_dataset: bool = False) -> None:
        self.loader, self.is_dataset = loader, is_dataset
        devices = 0 if loader.device is None else row_multiple(loader.device)
        self.first = Settings(loader.batch_size, loader.shuffle, devices, loader.epoch)
        self.n_rows = len(loader.dataset)
        self.columns = loader.dataset.columns
        self.host_bytes = loader.dataset.nbytes
        self.row_bytes = _bytes_of(loader.dataset.schema.values())
        self.notes: list[str] = []

    def plan(self, settings: Settings) -> EpochPlan:
        """Return the plan of the loader with these settings."""
        own = None if settings.devices == self.first.devices else settings.row_multiple
        return self._with(settings).plan(own)

    def _with(self, settings: Settings) -> ArrayLoader:
        loader = self.loader
        device = loader.device if settings.devices == self.first.devices else None
        if device is not None and (settings.batch_size, settings.shuffle) == (
            loader.batch_size,
            loader.shuffle,
        ):
            return loader
        return ArrayLoader(
            loader.dataset,
            loader.rng_key,
            batch_size=settings.batch_size,
            shuffle=settings.shuffle,
            device=device,
        )

    def numbers(self, settings: Settings, batch: int) -> Int[np.ndarray, " row"]:
        """Return the numbers of the rows of a batch."""
        return next(self._with(settings).index_batches(settings.epoch, batch))

    def rows(self, numbers: Int[np.ndarray, " row"], batch: int, places: list[int]) -> Rows:
        """Return some rows of a batch."""
        del batch
        taken = self.loader.dataset.take(numbers[places])
        return {name: np.asarray(array) for name, array in taken.items()}

    def sharded_bytes(self, n_rows: int) -> tuple[int, int] | None:
        """Return bytes of a batch on each device, and on all, as the loader's own sharding has it.

        Args:
            n_rows: Rows of the batch with its padding.

        Returns:
            The two; ``None`` if the loader has no sharding.
        """
        sharding = self.loader.device
        if not isinstance(sharding, jax.sharding.Sharding):
            return None
        each = sum(
            math.prod(sharding.shard_shape((n_rows, *row.shape)))
            * jax.dtypes.canonicalize_dtype(row.dtype).itemsize
            for row in self.loader.dataset.schema.values()
        )
        return each, each * sharding.num_devices


class OfTable:
    """A data frame, as ``fit`` takes it; its bytes on the device are the table's encoding.

    Args:
        frame: The data frame.
    """

    can_be_set = True
    row_bytes = None

    def __init__(self, frame: Any) -> None:
        self._frame = frame
        self.n_rows = len(frame)
        places = ArrayDataset(row=np.arange(self.n_rows))
        self._places = OfLoader(
            ArrayLoader(places, jax.random.key(0), batch_size=default_batch_size(self.n_rows))
        )
        self.first = Settings(self._places.first.batch_size, shuffle=True)
        self.columns: Columns = {}
        polars = is_a(frame, "polars", "DataFrame")
        size = frame.estimated_size() if polars else frame.memory_usage().sum()
        self.host_bytes = int(size)
        self.notes = [
            "A TableSpec says which columns become arrays, so the bytes of a batch are not known "
            "here; rows that it leaves out for missing values are counted. The order of a shuffled "
            "epoch is drawn from the key of the fit; here it is that of jax.random.key(0)."
        ]

    def plan(self, settings: Settings) -> EpochPlan:
        """Return the plan of the table's rows."""
        plan = self._places.plan(settings)
        return EpochPlan(plan.starts, plan.rows, plan.row_multiple)

    def numbers(self, settings: Settings, batch: int) -> Int[np.ndarray, " row"]:
        """Return the numbers of the rows of a batch."""
        return self._places.numbers(settings, batch)

    def rows(self, numbers: Int[np.ndarray, " row"], batch: int, places: list[int]) -> Rows:
        """Return some rows of a batch, by column."""
        del batch
        at = numbers[places]
        frame = self._frame[at] if not hasattr(self._frame, "iloc") else self._frame.iloc[at]
        return {str(name): np.asarray(frame[name]) for name in frame.columns}


class OfSource:
    """Batches that are cut elsewhere: a stream, a list, or arrays that are not in memory.

    Args:
        data: The source.
    """

    can_be_set = False
    host_bytes = None

    def __init__(self, data: Any) -> None:
        self._data = data
        self._sizes, self.notes = _sizes(data)
        self.n_rows = None if self._sizes is None else int(self._sizes.sum())
        self.first = Settings(int(self._sizes.max()) if self._sizes is not None else 1)
        self.columns: Columns = {}
        self.row_bytes, self._device_row_bytes = None, 0
        if self._sizes is not None and (one := self._one_row()) is not None:
            rows = [array[0] for array in one.values()]
            self.row_bytes = _bytes_of(rows)
            self._device_row_bytes = _bytes_of(rows, on_device=True)

    def _one_row(self) -> Rows | None:
        return self.rows(np.arange(1), 0, [0])

    def plan(self, settings: Settings) -> EpochPlan | None:
        """Return the plan of the source; ``None`` if its length is unknown."""
        if self._sizes is None:
            return None
        starts = np.concatenate([[0], np.cumsum(self._sizes)[:-1]])
        return EpochPlan(starts, self._sizes, settings.row_multiple, self._device_row_bytes)

    def numbers(self, settings: Settings, batch: int) -> Int[np.ndarray, " row"]:
        """Return the numbers of the rows of a batch."""
        plan = self.plan(settings)
        return np.arange(plan.starts[batch], plan.starts[batch] + plan.rows[batch])

    def rows(self, numbers: Int[np.ndarray, " row"], batch: int, places: list[int]) -> Rows | None:
        """Return some rows of a batch; none of a stream, which reading may use up."""
        if isinstance(self._data, RangedSource):
            parts = [next(self._data.between(int(numbers[place]), 1).epoch(0)) for place in places]
            return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        if isinstance(self._data, list | tuple):
            read = next(as_source([self._data[batch]], allow_nonfinite=True).epoch(0))
            return {name: array[places] for name, array in read.items()}
        return None


def reading_of(data: Any) -> Reading:
    """Return a source of rows as an explorer reads it.

    Args:
        data: A loader, a dataset, a data frame, arrays by name that are not in memory, or any
            source of batches.

    Raises:
        DataTypeError: If it is none of these.
    """
    data = native_table(data)
    if isinstance(data, ArrayDataset):
        size = default_batch_size(len(data))
        loader = ArrayLoader(data, jax.random.key(0), batch_size=size, shuffle=True)
        return OfLoader(loader, is_dataset=True)
    if isinstance(data, ArrayLoader):
        return OfLoader(data)
    if is_table(data):
        return OfTable(data)
    if isinstance(data, Mapping) and any(map(is_lazy, data.values())):
        data = RangedSource(data, allow_nonfinite=True)
    elif is_lazy(data):
        data = RangedSource({"X": data}, allow_nonfinite=True)
    if not is_batches(data):
        msg = (
            f"explore_loader shows an ArrayLoader, a dataset, a data frame or a source of batches; "
            f"got {shown(data)}. Wrap arrays: ArrayLoader(ArrayDataset(X=X, y=y), rng_key)."
        )
        raise DataTypeError(msg)
    return OfSource(data)


def _sizes(data: Any) -> tuple[Int[np.ndarray, " batch"] | None, list[str]]:
    """Return the rows of each batch, as far as the source tells them, and what to say of it."""
    if isinstance(data, RangedSource):
        size = READ_ROWS if data.n_batches > 1 else data.n_obs
        return EpochPlan.of(data.n_obs, size).rows, [
            f"Rows that are not in memory are read {size:,} at a time."
        ]
    if isinstance(data, list | tuple):
        found = [count_rows([batch], ("X", "y")) for batch in data]
        if found and None not in found:
            return np.array(found), ["The batches are cut where they come from."]
    elif not isinstance(data, StreamSource):
        return _of_torch(data)
    return None, [_UNKNOWN]


_UNKNOWN = (
    "This source does not tell how many rows and batches an epoch has, and reading it could use it "
    "up; so there is no plan. An ArrayLoader, a list of batches, and arrays of Zarr and Dask tell."
)


def _of_torch(loader: Any) -> tuple[Int[np.ndarray, " batch"] | None, list[str]]:
    """Return the rows of each batch of a PyTorch ``DataLoader`` whose batches are alike."""
    size = getattr(loader, "batch_size", None)
    counted = getattr(loader, "sampler", None)
    if not isinstance(size, int) or not hasattr(loader, "dataset") or counted is None:
        return None, [_UNKNOWN]
    try:
        n_rows, n_batches = len(counted), len(loader)
    except (TypeError, NotImplementedError):
        return None, [_UNKNOWN]
    rows = EpochPlan.of(n_rows, size).rows if n_rows and size > 0 else np.zeros(0, int)
    note = "The batches are cut by the DataLoader; its rows are not read here."
    if len(rows) == n_batches and n_batches:
        return rows, [note]
    if n_rows // max(size, 1) == n_batches and n_batches:
        left = n_rows - n_batches * size
        return rows[:n_batches], [note, f"It drops {left:,} of {n_rows:,} rows (drop_last)."]
    return None, [_UNKNOWN]


def _bytes_of(rows: Iterable[Any], *, on_device: bool = False) -> int:
    """Return the bytes of a row by its fields, which have a shape and a type each."""
    held = jax.dtypes.canonicalize_dtype if on_device else np.dtype
    return sum(math.prod(row.shape) * held(row.dtype).itemsize for row in rows)


def fields_of(rows: Rows, columns: Columns, most: int) -> dict[str, Sequence[Any]]:
    """Return rows of fields as columns of a table, of wide fields the first ones.

    Args:
        rows: Rows by field.
        columns: Column names of fields that came as tables.
        most: Columns of each field.
    """
    found: dict[str, Sequence[Any]] = {}
    for name, array in rows.items():
        if array.ndim == 1:
            found[name] = array.tolist()
        elif array.ndim == 2:
            named = columns.get(name, ())
            labels = named if len(named) == array.shape[1] else range(array.shape[1])
            for label, column in zip(list(labels)[:most], array.T, strict=False):
                found[f"{name}[{label}]"] = column.tolist()
        else:
            found[name] = [f"{array.dtype}{list(array.shape[1:])}"] * len(array)
    return found
