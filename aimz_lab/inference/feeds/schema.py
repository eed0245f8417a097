"""The schema of the training data: names, shapes and types of the kernel's arguments."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import jax
import numpy as np
from jaxtyping import PyTree

from aimz_lab.errors import ArtifactError
from aimz_lab.files import Malformed, Value, machine_bytes, plain_number
from aimz_lab.inference.feeds.ranges import Ranges, plain_ranges, ranges_of_plain
from aimz_lab.inference.feeds.shared_checksum import shared_checksum
from aimz_lab.inference.feeds.training_data import TrainingData
from aimz_lab.kernel.argument_leaves import named_leaves
from aimz_lab.kernel.cache_keys import key_of
from aimz_lab.types import Columns, HasShape, JsonObject, Static, StaticKey, shown

_PLAIN = (str, int, float, bool, type(None))
_LARGEST = 2**63


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
        sums: Checksums of the shared and the static arguments, for each array in them by the names
            of :mod:`aimz_lab.kernel.argument_leaves`; ``None`` if unknown.
    """

    rows: Mapping[str, jax.ShapeDtypeStruct]
    shared: Mapping[str, PyTree[jax.ShapeDtypeStruct]] = field(default_factory=dict)
    static: Static = field(default_factory=dict)
    batch_size: int = 1
    n_obs: int | None = None
    columns: Columns = field(default_factory=dict)
    ranges: Ranges = field(default_factory=dict, compare=False)
    sums: Mapping[str, int] | None = field(default=None, compare=False)

    @classmethod
    def of(cls, data: TrainingData, *, with_sums: bool = False) -> InputSchema:
        """Return the schema of training data.

        Args:
            data: The data.
            with_sums: Whether to keep checksums of the arguments that all rows share.
        """
        batch = data.first_batch
        schema = cls(
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
        return schema.with_sums({**data.shared, **data.static}) if with_sums else schema

    def with_sums(self, shared: Mapping[str, object]) -> InputSchema:
        """Return the schema with checksums of the arguments that all rows share.

        Args:
            shared: The arguments, arrays or not.
        """
        return replace(self, sums=_sums_of(named_leaves(shared)))

    def changed(
        self, given: Mapping[str, object], defaults: Mapping[str, object]
    ) -> frozenset[str]:
        """Return the names of arrays in arguments that do not have the values of the training.

        Args:
            given: The arguments of a call that all rows share.
            defaults: Values of arguments that are not given.

        Returns:
            Their names; none where those of the training are unknown.
        """
        if self.sums is None:
            return frozenset()
        given, defaults = named_leaves(given), named_leaves(defaults)
        names = self.sums.keys() | given.keys()
        now = _sums_of({name: given.get(name, defaults.get(name)) for name in names})
        trained = _sums_of({name: defaults.get(name) for name in names}) | dict(self.sums)
        return frozenset(name for name in names if now[name] != trained[name])

    def difference(self, given: Mapping[str, object], defaults: Mapping[str, object]) -> str:
        """Say which argument that all rows share differs from the training's; empty if none does.

        Args:
            given: As in :meth:`changed`.
            defaults: As in :meth:`changed`.

        Returns:
            A clause for a message.
        """
        changed = sorted(self.changed(given, defaults))
        return f"{changed[0]!r}, which all rows share, has another value here" if changed else ""

    @property
    def static_key(self) -> StaticKey:
        """The static arguments as a hashable key."""
        return key_of(self.static)

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
            "sums": self.sums if self.sums is None else dict(self.sums),
        }

    @classmethod
    def of_plain(cls, plain: Value, given: Static) -> InputSchema:
        """Return the schema from its plain values.

        Args:
            plain: From :meth:`as_plain`.
            given: Static values that JSON cannot hold.

        Raises:
            ArtifactError: If one of these is missing.
            Malformed: If it is no schema.
        """
        fields = plain.fields(
            "rows", "shared", "static", "batch_size", "n_obs", "columns", "ranges", "sums"
        )
        rows = {name: _shape_of_plain(row) for name, row in fields["rows"].named().items()}
        if not rows:
            raise fields["rows"].refuse("at least one field")
        schema = cls(
            rows,
            {name: _tree_of_plain(tree) for name, tree in fields["shared"].named().items()},
            {
                name: _static_of_plain(name, value, given)
                for name, value in fields["static"].named().items()
            },
            fields["batch_size"].whole(1),
            fields["n_obs"].optional(_count),
            {name: _columns(name, each, rows) for name, each in fields["columns"].named().items()},
            ranges_of_plain(fields["ranges"], {name: row.shape for name, row in rows.items()}),
            fields["sums"].optional(_sums_of_plain),
        )
        _check_fits(schema)
        return schema


def _sums_of(arguments: Mapping[str, object]) -> dict[str, int]:
    return {name: shared_checksum({name: value}) for name, value in arguments.items()}


def _sums_of_plain(plain: Value) -> dict[str, int]:
    return {name: each.whole(most=2**32 - 1) for name, each in plain.named().items()}


def _shape_of(leaf: HasShape) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(np.shape(leaf), np.dtype(leaf.dtype))


def _plain_shape(leaf: jax.ShapeDtypeStruct) -> JsonObject:
    return {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}


def _shape_of_plain(plain: Value) -> jax.ShapeDtypeStruct:
    fields = plain.fields("shape", "dtype")
    return jax.ShapeDtypeStruct(fields["shape"].shape(), fields["dtype"].dtype())


def _count(plain: Value) -> int:
    return plain.whole(1)


def _columns(name: str, plain: Value, rows: Mapping[str, jax.ShapeDtypeStruct]) -> tuple[str, ...]:
    found = plain.texts()
    if name in rows and len(rows[name].shape) == 1 and rows[name].shape != (len(found),):
        raise plain.refuse(f"a name for each of {rows[name].shape[0]} columns")
    return found


def _check_fits(schema: InputSchema) -> None:
    """Refuse what would not fit into memory: arrays in these shapes are made to set up a guide."""
    leaves = jax.tree.leaves({**schema.batch, **schema.shared})
    check_fits("schema", leaves)


def check_fits(what: str, leaves: Iterable[HasShape]) -> None:
    """Refuse shapes of arrays that would not fit into memory together.

    Args:
        what: The field that describes them.
        leaves: Shapes and types.

    Raises:
        Malformed: If they would not.
    """
    needed = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)
    memory = machine_bytes()
    if memory is not None and needed > memory:
        msg = f"{what} describes arrays of {needed:,} bytes, more than the memory of this machine"
        raise Malformed(msg)


def _plain_static(value: Hashable) -> JsonObject:
    """Return a static value as JSON, if it comes back as it is."""
    is_plain = isinstance(value, _PLAIN) and not isinstance(value, int | float)
    if is_plain or isinstance(value, bool):
        return {"value": value}
    if isinstance(value, int) and abs(value) < _LARGEST:
        return {"value": value}
    if isinstance(value, float):
        return {"value": value} if math.isfinite(value) else {"number": plain_number(value)}
    return {"type": type(value).__name__}


def _static_of_plain(name: str, plain: Value, given: Static) -> Hashable:
    """Return a given static value, or the stored one."""
    found = plain.named()
    if len(found) != 1 or not found.keys() <= {"value", "number", "type"}:
        raise plain.refuse("a value, or the name of a type")
    (kind, stored), *_ = found.items()
    if kind == "type":
        stored.text()
    elif kind == "number":
        stored.number(finite=False)
    elif not isinstance(stored.value, _PLAIN):
        raise stored.refuse("text, a number, true, false or null")
    if name in given:
        return given[name]
    if kind == "type":
        msg = (
            f"The kernel's argument {shown(name)} was a {stored.value}, which is code and not "
            f"stored; pass it again: load(..., kernel_kwargs={{{shown(name)}: ...}})."
        )
        raise ArtifactError(msg)
    return stored.number(finite=False) if kind == "number" else stored.value


def _plain_tree(tree: PyTree[jax.ShapeDtypeStruct]) -> JsonObject:
    if tree is None:
        return {"none": True}
    if isinstance(tree, Mapping) and all(isinstance(name, str) for name in tree):
        return {"dict": {name: _plain_tree(part) for name, part in tree.items()}}
    if type(tree) in (list, tuple):
        return {type(tree).__name__: [_plain_tree(part) for part in tree]}
    if not hasattr(tree, "dtype"):
        msg = (
            f"A kernel argument holds a {type(tree).__name__}, which cannot be saved; make it a "
            "dict by name, a list or a tuple."
        )
        raise ArtifactError(msg)
    return _plain_shape(tree)


def _tree_of_plain(plain: Value) -> PyTree[jax.ShapeDtypeStruct]:
    found = plain.named()
    if "none" in found:
        plain.fields("none")
        return None
    if "dict" in found:
        parts = plain.fields("dict")["dict"].named()
        return {name: _tree_of_plain(part) for name, part in parts.items()}
    for name, kind in (("list", list), ("tuple", tuple)):
        if name in found:
            return kind(_tree_of_plain(part) for part in plain.fields(name)[name].listed())
    return _shape_of_plain(plain)
