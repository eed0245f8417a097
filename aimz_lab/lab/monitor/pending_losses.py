"""Losses of a hand-written loop, until they are fetched from the device."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aimz_lab.errors import CallError, DataError
from aimz_lab.types import shown


class _Given(NamedTuple):
    epoch: int
    rows: int
    n_pad: int
    loss: Any
    metrics: dict[str, Any]


class PendingLosses:
    """Losses of the batches that were handed out, until they are fetched.

    Attributes:
        n_batches: Batches handed out so far.
    """

    def __init__(self) -> None:
        self.n_batches = 0
        self._open: tuple[int, int, int] | None = None
        self._given: list[_Given] = []
        self._epoch_ends: list[int] = []

    def __len__(self) -> int:
        return len(self._given)

    def hand_out(self, epoch: int, rows: int, n_pad: int) -> None:
        """Note that a batch of ``epoch`` was handed out and waits for its loss."""
        self._open = (epoch, rows, n_pad)
        self.n_batches += 1

    def give(self, loss: Any, metrics: dict[str, Any]) -> None:
        """Take the loss of the batch at hand, without waiting for it.

        Raises:
            CallError: If there is no batch at hand, or its loss was given already.
            DataError: If a value is not a scalar.
        """
        if self._open is None:
            msg = (
                "step() takes the loss of the batch at hand, once for each batch, inside the loop "
                "over monitor(...); no batch is waiting for a loss."
            )
            raise CallError(msg)
        for name, value in {"loss": loss, **metrics}.items():
            _check_scalar(name, value)
        self._given.append(_Given(*self._open, loss, metrics))
        self._open = None

    def end_epoch(self, epoch: int) -> None:
        """Note that ``epoch`` has no more batches."""
        self._epoch_ends.append(epoch)

    def fetch(self, keep: int = 0) -> tuple[dict[str, Any], list[int]]:
        """Fetch all but the newest ``keep``.

        Returns:
            The columns of :class:`~aimz_lab.inference.run.steps.Steps`, and the epochs whose last
            losses are among them.
        """
        cut = len(self._given) - keep
        taken, self._given = self._given[:cut], self._given[cut:]
        columns = _columns(taken)
        still_open = {given.epoch for given in self._given}
        ended = [epoch for epoch in self._epoch_ends if epoch not in still_open]
        self._epoch_ends = [epoch for epoch in self._epoch_ends if epoch in still_open]
        return columns, ended


def _check_scalar(name: str, value: Any) -> None:
    if isinstance(value, tuple | list) or len(getattr(value, "shape", ())) > 0:
        what = f"shape {tuple(value.shape)}" if hasattr(value, "shape") else type(value).__name__
        msg = (
            f"step() takes scalars, and {name} is {what}. A loss per row is summed first; "
            "train_on_batch returns a pair: `_, loss = im.train_on_batch(**batch)`."
        )
        raise DataError(msg)

    if not _is_number(value):
        msg = f"step() takes scalars, and {name} is {shown(value)}; pass a number: float(loss)."
        raise DataError(msg)


def _is_number(value: Any) -> bool:
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        real = jnp.issubdtype(value.dtype, np.floating) or jnp.issubdtype(value.dtype, np.integer)
        return real or value.dtype == bool
    return hasattr(type(value), "__float__")  # also of a tensor of another library


def _columns(taken: list[_Given]) -> dict[str, Any]:
    fetched = jax.device_get([(given.loss, given.metrics) for given in taken])
    names = {name for _, metrics in fetched for name in metrics}
    counts = np.array([given[:3] for given in taken], np.int32).reshape(-1, 3)
    return {
        "epoch": counts[:, 0],
        "rows": counts[:, 1],
        "n_pad": counts[:, 2],
        "loss": np.array([float(loss) for loss, _ in fetched], np.float32),
        "metrics": {
            name: np.array([float(m.get(name, np.nan)) for _, m in fetched], np.float32)
            for name in sorted(names)
        },
    }
