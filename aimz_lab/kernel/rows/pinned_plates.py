"""Pin subsampling plates to the rows that a kernel is given, in their order, to predict or test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from numpyro.primitives import Messenger

from aimz_lab.errors import DataError, KernelError


def pin_plates(kernel: Callable, n_rows: int, *, all_rows: bool = False) -> Callable:
    """Let the subsampling plates of a kernel take all rows that it is given, in their order.

    Args:
        kernel: A kernel that may subsample: ``plate("data", 100, subsample_size=X.shape[0])``, or
            ``plate("data", X.shape[0], subsample_size=10)`` of which all rows are taken.
        n_rows: Number of rows that it is given.
        all_rows: Whether these are all rows of a call, so that each must have its entry in a plate
            that subsamples; a block may have more rows than there are.

    Returns:
        The kernel, under a handler. With ``all_rows`` it raises :class:`DataError` for more rows
        than a plate has entries, and :class:`KernelError` for a plate that takes others than the
        rows at random.
    """
    return _PinnedPlates(kernel, n_rows, all_rows)


class _PinnedPlates(Messenger):
    """Replaces the random indices of a plate by the numbers of the rows."""

    def __init__(self, fn: Callable, n_rows: int, all_rows: bool) -> None:
        self._n_rows, self._all_rows = n_rows, all_rows
        super().__init__(fn)

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] != "plate" or msg["value"] is not None:
            return
        size, subsample_size = msg["args"]
        if self._n_rows not in (size, subsample_size):
            if self._all_rows:
                raise KernelError(_takes_at_random(msg["name"], size, subsample_size))
            return
        if self._all_rows and self._n_rows > size:
            raise DataError(_too_many(msg["name"], size, self._n_rows))
        msg["args"] = (size, self._n_rows)
        msg["value"] = jnp.arange(self._n_rows)


def _too_many(name: str, size: int, n_rows: int) -> str:
    return (
        f"The plate {name!r} has {size} entries, but there are {n_rows} rows; the rows beyond it "
        f"have no entry of their own. Pass at most {size} rows, or let its size follow the rows: "
        f"plate({name!r}, max({size}, X.shape[0]), subsample_size=X.shape[0])."
    )


def _takes_at_random(name: str, size: int, subsample_size: int) -> str:
    return (
        f"The plate {name!r} takes {subsample_size} of {size} entries at random, and neither is "
        "the number of rows; a prediction needs each row once, in its order. Let one of them be "
        f"X.shape[0]; or let the plate take all of its entries where there is no output: "
        f"subsample_size=None if y is None else {subsample_size}."
    )
