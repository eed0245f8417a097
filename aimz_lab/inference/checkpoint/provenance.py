"""Facts that a resumed run must share: random keys, package versions, checksums of the data."""

from __future__ import annotations

import platform
import zlib
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version

import jax
import numpy as np
from jaxtyping import PyTree

from aimz_lab.data import key_data
from aimz_lab.files import MOST_EPOCHS, Value
from aimz_lab.inference.feeds.training_data import TrainingData
from aimz_lab.kernel.scaling import Scale
from aimz_lab.types import Array, JsonObject, Rows

_CHECKED_ROWS = 4096
_PACKAGES = ("jax", "jaxlib", "numpy", "numpyro", "optax")


@dataclass(frozen=True)
class Origin:
    """Random keys and first epoch of a fit.

    Attributes:
        keys: Three typed keys: of the initial state, the order of the rows, the draws.
        first_epoch: Number, from 0, of the loader's epoch that the fit begins with.
    """

    keys: tuple[jax.Array, ...]
    first_epoch: int = 0

    def as_plain(self) -> JsonObject:
        """Return it as plain values."""
        return {"keys": [plain_key(key) for key in self.keys], "first_epoch": self.first_epoch}

    @classmethod
    def of_plain(cls, plain: Value) -> Origin:
        """Return the origin that :meth:`as_plain` described.

        Raises:
            Malformed: If it is none.
        """
        fields = plain.fields("keys", "first_epoch")
        keys = tuple(typed_key(key) for key in fields["keys"].listed(3))
        return cls(keys, fields["first_epoch"].whole(most=MOST_EPOCHS))


def plain_key(key: jax.Array) -> JsonObject:
    """Return a typed key as plain values: its words and its generator.

    Example:
        >>> plain_key(jax.random.key(7))
        {'impl': 'threefry2x32', 'words': [0, 7]}
    """
    return {"impl": str(jax.random.key_impl(key)), "words": key_data(key).tolist()}


def versions() -> dict[str, str]:
    """Return the versions that the last bits of a loss depend on."""
    return {"python": platform.python_version(), **_packages()}


def typed_key(plain: Value) -> jax.Array:
    """Return the key that :func:`plain_key` described.

    Raises:
        Malformed: If it is no single key of a generator that JAX has.
    """
    fields = plain.fields("impl", "words")
    impl = fields["impl"].text()
    words = [word.whole(most=2**32 - 1) for word in fields["words"].listed()]
    try:
        return jax.random.wrap_key_data(np.asarray(words, np.uint32), impl=impl)
    except (TypeError, ValueError) as error:
        raise plain.refuse("a random key") from error


@cache
def _packages() -> dict[str, str]:
    return {name: version(name) for name in _PACKAGES}


def describe_training(data: TrainingData, scale: Scale, accumulate: int) -> JsonObject:
    """Describe the training data and options, so that a difference can be named.

    Rows in memory are described by a checksum of up to 4,096 of them, and their order by a checksum
    of the first epoch's. A stream has neither.

    Args:
        data: The training data.
        scale: Weight of the rows, as the user passed it.
        accumulate: Batches per update.
    """
    facts = {
        "n_obs": data.n_obs,
        "batch_size": data.batch_size,
        "accumulate": accumulate,
        "scale": str(scale),
        **{f"field {name}": _schema(array) for name, array in data.rows.items()},
        **{f"argument {name}": _shared(value) for name, value in data.shared.items()},
        **{f"argument {name}": _static(value) for name, value in data.static.items()},
    }
    if data.in_memory:
        facts["checksum of the rows"] = _rows_checksum(data.rows)
        facts["order of the rows"] = "as in the data" if data.order is None else _order(data)
    return facts


def _schema(array: Array) -> str:
    return f"{np.dtype(array.dtype)}{list(array.shape[1:])} a row"


def _shared(tree: PyTree) -> str:
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    return ", ".join(f"{leaf.dtype}{list(leaf.shape)} {_checksum(leaf)}" for leaf in leaves)


def _static(value: Hashable) -> str:
    plain = isinstance(value, str | int | float | bool | None)
    return repr(value) if plain else type(value).__name__


def _order(data: TrainingData) -> str:
    return f"shuffled {_checksum(np.asarray(data.order(0), np.int64))}"


def _rows_checksum(rows: Rows) -> str:
    n_rows = next(iter(rows.values())).shape[0]
    picked = np.unique(np.linspace(0, n_rows - 1, min(n_rows, _CHECKED_ROWS)).astype(np.int64))
    checksum = 0
    for name in sorted(rows):  # whatever the order in which they were passed
        array = rows[name]
        some = array[picked] if isinstance(array, np.ndarray) else np.asarray(array)[picked]
        checksum = zlib.crc32(np.ascontiguousarray(some).tobytes(), checksum)
    return f"{checksum:08x}"


def _checksum(array: np.ndarray) -> str:
    return f"{zlib.crc32(np.ascontiguousarray(array).tobytes()):08x}"
