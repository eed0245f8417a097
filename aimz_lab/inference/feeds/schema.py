"""The schema of the training data: names, shapes and types of the kernel's arguments."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

import jax
import numpy as np
from jaxtyping import PyTree

from aimz_lab.errors import ArtifactError
from aimz_lab.inference.feeds.ranges import Ranges, plain_ranges, ranges_of_plain
from aimz_lab.inference.feeds.training_data import TrainingData
from aimz_lab.types import Columns, HasShape, JsonObject, Static

_PLAIN = (str, int, float, bool, type(None))


@dataclass(frozen=True)
class InputSchema:
    """Names, shapes and types of the kernel's arguments for one batch.

    Attributes:
        rows: Shape and type of one row, by per-row argument.
        shared: Trees of shapes and types, by shared argument.
        static: Values of the static arguments.
        batch_size: Rows of the batch.
        n_obs: Rows of the whole data, or ``None`` if unknown.
        columns: Column names of each argument that came as a table; by ``name.index``, labels of
            shared arguments.
        ranges: Smallest and largest value of each column, by per-row argument.
    """

    rows: Mapping[str, jax.ShapeDtypeStruct]
    shared: Mapping[str, PyTree[jax.ShapeDtypeStruct]] = field(default_factory=dict)
    static: Static = field(default_factory=dict)
    batch_size: int = 1
    n_obs: int | None = None
    columns: Columns = field(default_factory=dict)
    ranges: Ranges = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, data: TrainingData) -> InputSchema:
        """Return the schema of training data."""
        batch = data.first_batch
        return cls(
            {
                name: jax.ShapeDtypeStruct(array.shape[1:], array.dtype)
                for name, array in batch.rows.items()
            },
            jax.tree.map(_shape_of, dict(batch.shared)),
            dict(batch.static),
            data.batch_size,
            data.n_obs,
            dict(data.columns),
            dict(data.ranges),
        )

    @property
    def batch(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and types of the per-row arguments of a batch."""
        return {
            name: jax.ShapeDtypeStruct((self.batch_size, *row.shape), row.dtype)
            for name, row in self.rows.items()
        }

    def stand_ins(self) -> dict[str, PyTree[np.ndarray]]:
        """Return arrays of ones in the shapes of a batch and of the shared arguments."""
        return jax.tree.map(
            lambda leaf: np.ones(leaf.shape, leaf.dtype), {**self.batch, **self.shared}
        )

    def as_plain(self) -> JsonObject:
        """Return the schema as JSON values; other static values become the name of their type."""
        return {
            "rows": {name: _plain_shape(row) for name, row in self.rows.items()},
            "shared": {name: _plain_tree(tree) for name, tree in self.shared.items()},
            "static": {name: _plain_static(value) for name, value in self.static.items()},
            "batch_size": self.batch_size,
            "n_obs": self.n_obs,
            "columns": {name: list(names) for name, names in self.columns.items()},
            "ranges": plain_ranges(self.ranges),
        }

    @classmethod
    def of_plain(cls, plain: JsonObject, given: Static) -> InputSchema:
        """Return the schema from its plain values.

        Args:
            plain: From :meth:`as_plain`.
            given: Static values that JSON cannot hold.

        Raises:
            ArtifactError: If one of these is missing.
        """
        static = {}
        for name, value in plain["static"].items():
            if "value" not in value and name not in given:
                msg = (
                    f"The kernel's argument {name!r} was a {value['type']}, which is code and not "
                    f"stored; pass it again: load(..., kernel_kwargs={{{name!r}: ...}})."
                )
                raise ArtifactError(msg)
            static[name] = given.get(name, value.get("value"))
        return cls(
            {name: _shape_of_plain(row) for name, row in plain["rows"].items()},
            {name: _tree_of_plain(tree) for name, tree in plain["shared"].items()},
            static,
            plain["batch_size"],
            plain["n_obs"],
            {name: tuple(names) for name, names in plain.get("columns", {}).items()},
            ranges_of_plain(plain.get("ranges", {})),
        )


def _shape_of(leaf: HasShape) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(np.shape(leaf), np.dtype(leaf.dtype))


def _plain_shape(leaf: jax.ShapeDtypeStruct) -> JsonObject:
    return {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}


def _shape_of_plain(plain: JsonObject) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(tuple(plain["shape"]), np.dtype(plain["dtype"]))


def _plain_static(value: Hashable) -> JsonObject:
    return {"value": value} if isinstance(value, _PLAIN) else {"type": type(value).__name__}


def _plain_tree(tree: PyTree[jax.ShapeDtypeStruct]) -> JsonObject:
    if isinstance(tree, Mapping):
        return {"dict": {name: _plain_tree(part) for name, part in tree.items()}}
    if isinstance(tree, (list, tuple)):
        return {type(tree).__name__: [_plain_tree(part) for part in tree]}
    return _plain_shape(tree)


def _tree_of_plain(plain: JsonObject) -> PyTree[jax.ShapeDtypeStruct]:
    if "dict" in plain:
        return {name: _tree_of_plain(part) for name, part in plain["dict"].items()}
    for name, kind in (("list", list), ("tuple", tuple)):
        if name in plain:
            return kind(_tree_of_plain(part) for part in plain[name])
    return _shape_of_plain(plain)
