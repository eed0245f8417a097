"""What a loader yields: a batch and the number of its padded rows."""

from __future__ import annotations

from typing import Any, NamedTuple, NoReturn

from aimz_lab.errors import CallError
from aimz_lab.types import Batch


class LoadedBatch(NamedTuple):
    """A batch of a loader.

    Attributes:
        batch: Its rows by field.
        n_pad: Rows of padding at its end.

    Example:
        >>> batch, n_pad = LoadedBatch({"y": [1.0, 2.0]}, 0)
        >>> batch["y"]
        [1.0, 2.0]
    """

    batch: Batch
    n_pad: int

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, str):
            self._refuse()
        return tuple.__getitem__(self, place)

    def _refuse(self, *_: object) -> NoReturn:
        """Say where the fields are, to code for loaders that yield the fields alone."""
        msg = (
            "A loader yields pairs of the fields of a batch and the number of its padded rows: for "
            "batch, n_pad in loader: train_on_batch(**batch, n_pad=n_pad). Take the fields from "
            "the first of the two."
        )
        raise CallError(msg)

    keys = values = items = get = pop = _refuse
