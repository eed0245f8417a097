"""The saved position of a loader, and the check that it belongs to this loader."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
from jaxtyping import Key

from aimz_lab.data.keys import key_data
from aimz_lab.errors import CheckpointError
from aimz_lab.types import JsonObject, shown

_VERSION = 1


class LoaderSettings(NamedTuple):
    """The settings that fix the batches of a loader.

    Attributes:
        n: Rows of the dataset.
        batch_size: Rows of data per batch.
        shuffle: Whether each epoch is shuffled anew.
        key: Key of the order, or ``None`` if the loader does not shuffle.
    """

    n: int
    batch_size: int
    shuffle: bool
    key: Key[jax.Array, ""] | None

    def as_json(self) -> JsonObject:
        """Return the settings as values that JSON can hold."""
        key = self.key
        if key is not None:
            key = {"impl": str(jax.random.key_impl(key)), "words": key_data(key).tolist()}
        return {**self._asdict(), "key": key}


def saved_state(epoch: int, batch: int, settings: LoaderSettings) -> JsonObject:
    """Return a position and the settings as values that JSON can hold.

    Args:
        epoch: Number of the epoch, from 0.
        batch: Number of the next batch, from 0.
        settings: Settings of the loader.
    """
    return {"version": _VERSION, "epoch": epoch, "batch": batch, **settings.as_json()}


def position_in(
    state: Mapping[str, object], settings: LoaderSettings, *, n_batches: int
) -> tuple[int, int]:
    """Return the epoch and the batch of a saved state.

    Args:
        state: From :func:`saved_state`.
        settings: Settings of the loader that continues.
        n_batches: Batches of an epoch.

    Raises:
        CheckpointError: If it is no such state, or was saved with other settings.
    """
    required = {"version", "epoch", "batch", *LoaderSettings._fields}
    if not isinstance(state, Mapping) or not required <= state.keys():
        msg = f"This is no loader state; expected a mapping with {', '.join(sorted(required))}."
        raise CheckpointError(msg)
    if not _is_same(state["version"], _VERSION):
        msg = (
            f"The loader state has version {shown(state['version'])}, and version {_VERSION} "
            f"is understood; read it with the release that saved it."
        )
        raise CheckpointError(msg)
    _check_same_settings(state, settings)
    epoch, batch = state["epoch"], state["batch"]
    # A key is derived for each epoch from a number of 32 bits.
    in_range = type(epoch) is int and 0 <= epoch < 2**32
    if not (in_range and type(batch) is int and 0 <= batch < n_batches):
        msg = (
            f"The loader state is at epoch {shown(epoch)}, batch {shown(batch)}; expected an epoch "
            f"from 0 to 2**32 - 1 and a batch from 0 to {n_batches - 1}."
        )
        raise CheckpointError(msg)
    return epoch, batch


def _check_same_settings(state: Mapping[str, object], settings: LoaderSettings) -> None:
    differ = [
        f"{name} is {shown(state[name])} there and {value!r} here"
        for name, value in settings.as_json().items()
        if not _is_same(state[name], value)
    ]
    if differ:
        msg = (
            f"The state was saved by another loader: {'; '.join(differ)}. Build the loader "
            f"with the same data and settings, or begin anew without the state."
        )
        raise CheckpointError(msg)


def _is_same(saved: object, expected: object) -> bool:
    """Whether a saved value is of the same type, and equal to the last entry; arrays are not."""
    if type(saved) is not type(expected):
        return False
    if isinstance(expected, dict):
        return saved.keys() == expected.keys() and all(
            _is_same(saved[name], expected[name]) for name in expected
        )
    if isinstance(expected, list):
        return len(saved) == len(expected) and all(map(_is_same, saved, expected))
    return bool(saved == expected)
