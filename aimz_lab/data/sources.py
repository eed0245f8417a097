"""Any source of batches as one kind of thing: epochs of named arrays that were checked.

Understood are an :class:`ArrayLoader`, a PyTorch ``DataLoader``, a Grain loader or dataset, any
other iterable of batches, and a function that returns one (a generator function). A batch is a
mapping of arrays by field, a tuple or list of them in a known order, a single array, or the
``(batch, n_pad)`` pair of an :class:`ArrayLoader`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from aimz_lab.data.arrays import canonical, is_array_like
from aimz_lab.data.checks import check_finite, check_positive_int
from aimz_lab.data.dataset import ArrayDataset
from aimz_lab.data.loader import ArrayLoader
from aimz_lab.data.stream import StreamSource
from aimz_lab.errors import DataError, DataTypeError
from aimz_lab.types import callable_name


class BatchSource(Protocol):
    """What training and prediction read from: batches in the types that JAX computes in."""

    @property
    def n_obs(self) -> int | None:
        """Rows of the whole data, or ``None`` if the source does not know and was not told."""

    @property
    def fields(self) -> tuple[str, ...] | None:
        """The fields' names, or ``None`` as long as no batch was read."""

    @property
    def reiterable(self) -> bool:
        """Whether more than one epoch can be read."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[dict[str, np.ndarray | jax.Array]]:
        """Return the batches of one epoch, without padding.

        Args:
            epoch: Number of the epoch, from 0.
            start: Number, from 0, of the batch to begin at.
        """


class LoaderSource:
    """The batches of an :class:`ArrayLoader`; the loader's own position stays where it is.

    A batch holds NumPy arrays, and JAX arrays where the dataset keeps such.

    Args:
        loader: What to read.
        n_obs: Rows of the whole data, if the dataset is only a part of it.
        allow_nonfinite: Do not check the dataset for NaN and infinite values.

    Raises:
        DataError: If the dataset has such values.
        ArgumentError: If ``n_obs`` is not a positive int.
    """

    reiterable = True

    def __init__(
        self, loader: ArrayLoader, *, n_obs: int | None = None, allow_nonfinite: bool = False
    ) -> None:
        check_finite(loader.dataset.arrays, allow_nonfinite)
        self.loader = loader
        self.n_obs = len(loader.dataset) if n_obs is None else check_positive_int("n_obs", n_obs)
        self.fields = loader.dataset.fields

    def epoch(self, epoch: int, start: int = 0) -> Iterator[dict[str, np.ndarray | jax.Array]]:
        """Return the batches of one epoch; those before ``start`` are not even read."""
        return map(_canonical_batch, self.loader.batches(epoch, start))


def _canonical_batch(
    batch: Mapping[str, np.ndarray | jax.Array],
) -> dict[str, np.ndarray | jax.Array]:
    return {name: canonical(array, name) for name, array in batch.items()}


def is_batches(data: Any) -> bool:
    """Tell whether ``data`` is a source of batches rather than the rows themselves.

    A list or tuple is one if its first item is a mapping, or a tuple of arrays.

    Example:
        >>> is_batches([{"X": np.ones(3)}]), is_batches([[1.0, 2.0], [3.0, 4.0]])
        (True, False)
    """
    if isinstance(data, ArrayLoader):
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
    data: Any,
    names: Sequence[str] = ("X", "y"),
    n_obs: int | None = None,
    *,
    allow_nonfinite: bool = False,
) -> LoaderSource | StreamSource:
    """Return any source of batches as a :class:`BatchSource`.

    The rows of a PyTorch ``DataLoader`` are counted by its sampler or dataset, those of other
    streams only known if told. The order of the rows within an epoch is the source's own business.

    Args:
        data: An :class:`ArrayLoader`; any iterable of batches; a function that returns an iterable
            of batches, called once an epoch, with ``epoch=`` if it has such a parameter. An
            iterator that is used up by one pass has one epoch.
        names: Names of the parts of a batch that is a tuple, a list or a single array.
        n_obs: Rows of the whole data; it wins over what the source knows.
        allow_nonfinite: Accept NaN and infinite values. They are looked for at once in an
            :class:`ArrayLoader`, and batch by batch elsewhere.

    Raises:
        DataTypeError: If ``data`` is no source of batches, or the function needs other arguments.
        DataError: If the loader's data has values that are not finite.
        ArgumentError: If ``n_obs`` is not a positive int.

    Example:
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
        open_epoch: Callable[[int], Iterable[Any]] = _OneShot(data)
    elif isinstance(data, Iterable):
        open_epoch = _Again(data)
    else:
        open_epoch = _PerEpoch(data)
    return StreamSource(
        open_epoch,
        names=names,
        n_obs=_rows_known(data) if n_obs is None else n_obs,
        reiterable=not isinstance(data, Iterator),
        allow_nonfinite=allow_nonfinite,
    )


class _OneShot:
    """Opens an iterator, once."""

    def __init__(self, batches: Iterator[Any]) -> None:
        self._batches: Iterator[Any] | None = batches

    def __call__(self, epoch: int) -> Iterator[Any]:
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
    """Opens an iterable, the same each epoch."""

    def __init__(self, batches: Iterable[Any]) -> None:
        self._batches = batches

    def __call__(self, epoch: int) -> Iterator[Any]:
        del epoch
        return iter(self._batches)


class _PerEpoch:
    """Calls a function for the batches of each epoch, with the epoch's number if it asks for it."""

    def __init__(self, function: Callable[..., Iterable[Any]]) -> None:
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

    def __call__(self, epoch: int) -> Iterable[Any]:
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


def _rows_known(data: Any) -> int | None:
    """Count the rows that a PyTorch ``DataLoader`` draws from; others cannot say."""
    if not (hasattr(data, "dataset") and hasattr(data, "sampler")):
        return None
    for counted in (data.sampler, data.dataset):
        try:
            return len(counted)
        except (TypeError, NotImplementedError):
            continue
    return None
