"""Turn any source of batches into a ``BatchSource``: epochs of checked, named arrays.

A source is an :class:`ArrayLoader`, a PyTorch ``DataLoader``, a Grain loader or dataset, any other
iterable of batches, or a function that returns one (a generator function). A batch is a mapping of
field to array, a tuple or list of arrays in a known order, a single array, or the ``(batch,
n_pad)`` pair of an :class:`ArrayLoader`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from aimz_lab.data.arrays import canonical, is_array_like
from aimz_lab.data.checks import check_finite, check_positive_int
from aimz_lab.data.dataset import ArrayDataset
from aimz_lab.data.loader import ArrayLoader
from aimz_lab.data.stream import OpenEpoch, StreamSource, count_rows
from aimz_lab.errors import DataError, DataTypeError
from aimz_lab.types import Batch, Columns, callable_name


class BatchSource(Protocol):
    """Where training and prediction read their batches, in JAX's types."""

    @property
    def n_obs(self) -> int | None:
        """Rows of the whole data, or ``None`` if unknown."""

    @property
    def n_batches(self) -> int | None:
        """Batches of an epoch, or ``None`` if unknown."""

    @property
    def epoch_rows(self) -> int | None:
        """Rows of an epoch where they were counted; otherwise ``None``."""

    @property
    def fields(self) -> tuple[str, ...] | None:
        """The field names, or ``None`` before the first batch is read."""

    @property
    def columns(self) -> Columns:
        """Column names of each field that is a table; of a stream, once a batch was read."""

    @property
    def reiterable(self) -> bool:
        """Whether more than one epoch can be read."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Return the batches of one epoch, without padding.

        Args:
            epoch: Number of the epoch, from 0.
            start: Number, from 0, of the batch to begin at.
        """


class LoaderSource:
    """The batches of an :class:`ArrayLoader`; the loader's own position does not change.

    A batch holds NumPy arrays, or JAX arrays if the dataset does.

    Args:
        loader: The loader to read.
        n_obs: Rows of the whole data, if the dataset is only part of it.
        allow_nonfinite: Do not check the dataset for NaN and infinite values.

    Raises:
        DataError: If the dataset has NaN or infinite values.
        ArgumentError: If ``n_obs`` is not a positive int.
    """

    reiterable = True

    def __init__(
        self, loader: ArrayLoader, *, n_obs: int | None = None, allow_nonfinite: bool = False
    ) -> None:
        check_finite(loader.dataset.arrays, allow_nonfinite)
        self.loader = loader
        self.n_obs = len(loader.dataset) if n_obs is None else check_positive_int("n_obs", n_obs)
        self.n_batches, self.epoch_rows = len(loader), len(loader.dataset)
        self.fields = loader.dataset.fields
        self.columns = loader.dataset.columns

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Return the batches of one epoch; those before ``start`` are not read."""
        return map(_canonical_batch, self.loader.batches(epoch, start))


def _canonical_batch(batch: Batch) -> Batch:
    return {name: canonical(array, name) for name, array in batch.items()}


def is_batches(data: object) -> bool:
    """Return whether ``data`` is a source of batches, not the rows themselves.

    A list or tuple is a source if its first item is a mapping or a tuple of arrays.

    Example:
        >>> import numpy as np
        >>> is_batches([{"X": np.ones(3)}]), is_batches([[1.0, 2.0], [3.0, 4.0]])
        (True, False)
    """
    if isinstance(data, ArrayLoader | StreamSource):
        return True
    if isinstance(data, str | bytes | Mapping | ArrayDataset) or is_array_like(data):
        return False
    if isinstance(data, list | tuple):
        first = data[0] if data else None
        is_tuple = isinstance(first, list | tuple) and any(
            isinstance(part, Mapping) or is_array_like(part) for part in first
        )
        return isinstance(first, Mapping) or is_tuple
    return isinstance(data, Iterable) or callable(data)


def as_source(
    data: object,
    names: Sequence[str] = ("X", "y"),
    n_obs: int | None = None,
    *,
    allow_nonfinite: bool = False,
) -> LoaderSource | StreamSource:
    """Return any source of batches as a :class:`BatchSource`.

    The sampler or dataset of a PyTorch ``DataLoader`` counts its rows; for other streams, pass
    ``n_obs``. The source decides the order of the rows within an epoch.

    Args:
        data: An :class:`ArrayLoader`; any iterable of batches; or a function that returns one,
            called once per epoch, with ``epoch=`` if it has that parameter. An iterator, which one
            pass uses up, has one epoch.
        names: Names of the parts of a batch that is a tuple, a list or a single array.
        n_obs: Rows of the whole data; overrides the source's own count.
        allow_nonfinite: Accept NaN and infinite values. Otherwise an :class:`ArrayLoader` is
            checked now, other sources batch by batch.

    Raises:
        DataTypeError: If ``data`` is no source of batches, or the function needs other arguments.
        DataError: If the loader's data has NaN or infinite values.
        ArgumentError: If ``n_obs`` is not a positive int.

    Example:
        >>> import numpy as np
        >>> def batches():
        ...     for start in (0.0, 10.0):
        ...         yield {"X": start + np.arange(2.0), "y": np.zeros(2)}
        >>> source = as_source(batches, n_obs=4)
        >>> [batch["X"].tolist() for batch in source.epoch(0)]
        [[0.0, 1.0], [10.0, 11.0]]
    """
    if n_obs is not None:
        n_obs = check_positive_int("n_obs", n_obs)
    if isinstance(data, LoaderSource | StreamSource):
        return data
    if isinstance(data, ArrayLoader):
        return LoaderSource(data, n_obs=n_obs, allow_nonfinite=allow_nonfinite)
    if not is_batches(data):
        msg = (
            f"{type(data).__name__} is no source of batches; pass arrays by field (X=..., y=...), "
            f"an ArrayLoader, an iterable of mappings or tuples, or a function that returns one."
        )
        raise DataTypeError(msg)
    if isinstance(data, Iterator):
        open_epoch: OpenEpoch = _OneShot(data)
    elif isinstance(data, Iterable):
        open_epoch = _Again(data)
    else:
        open_epoch = _PerEpoch(data)
    return StreamSource(
        open_epoch,
        names=names,
        n_obs=_rows_known(data) if n_obs is None else n_obs,
        n_batches=_batches_known(data),
        epoch_rows=count_rows(data, names) if isinstance(data, list | tuple) else None,
        reiterable=not isinstance(data, Iterator),
        allow_nonfinite=allow_nonfinite,
    )


class _OneShot:
    """Return an iterator for the first epoch, and refuse a second."""

    def __init__(self, batches: Iterator[object]) -> None:
        self._batches: Iterator[object] | None = batches

    def __call__(self, epoch: int) -> Iterator[object]:
        if self._batches is None:
            msg = (
                f"Epoch {epoch + 1} cannot be read: the data is an iterator, used up by one pass. "
                f"Pass the generator function itself (batches, not batches()), or an object that "
                f"can be iterated again."
            )
            raise DataError(msg)
        batches, self._batches = self._batches, None
        return batches


class _Again:
    """Iterate over the same iterable in each epoch."""

    def __init__(self, batches: Iterable[object]) -> None:
        self._batches = batches

    def __call__(self, epoch: int) -> Iterator[object]:
        del epoch
        return iter(self._batches)


class _PerEpoch:
    """Call a function for the batches of each epoch, with ``epoch=`` if it has that parameter."""

    def __init__(self, function: Callable[..., Iterable[object]]) -> None:
        self._function = function
        self._name = callable_name(function)
        try:
            signature = inspect.signature(function)
            self._takes_epoch = "epoch" in signature.parameters
            signature.bind(**({"epoch": 0} if self._takes_epoch else {}))
        except (TypeError, ValueError) as error:
            msg = (
                f"The function {self._name} must be callable without arguments, or with epoch= "
                f"alone: {error}. Bind the others (functools.partial)."
            )
            raise DataTypeError(msg) from error

    def __call__(self, epoch: int) -> Iterable[object]:
        batches = self._function(epoch=epoch) if self._takes_epoch else self._function()
        if (
            not isinstance(batches, Iterable)
            or isinstance(batches, Mapping)
            or is_array_like(batches)
        ):
            msg = (
                f"The function {self._name} returned {type(batches).__name__}; it must yield "
                f"batches, or return an iterable of them."
            )
            raise DataTypeError(msg)
        return batches


def _rows_known(data: object) -> int | None:
    """Count the rows of a PyTorch ``DataLoader``; the rows of other sources are unknown."""
    if not (hasattr(data, "dataset") and hasattr(data, "sampler")):
        return None
    for counted in (data.sampler, data.dataset):
        try:
            return len(counted)
        except (TypeError, NotImplementedError):
            continue
    return None


def _batches_known(data: object) -> int | None:
    """Count the batches of a list or a PyTorch ``DataLoader``; those of others are unknown."""
    if not isinstance(data, list | tuple) and not (
        hasattr(data, "dataset") and hasattr(data, "sampler")
    ):
        return None
    try:
        return len(data)
    except (TypeError, NotImplementedError):
        return None
