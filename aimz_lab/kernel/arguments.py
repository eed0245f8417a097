"""Sort the arguments of a kernel into per-row arrays, shared arrays and static values."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import jax
import numpy as np
from jaxtyping import PyTree

from aimz_lab.data import to_host
from aimz_lab.data.options import check_names
from aimz_lab.errors import ArgumentError, CallError, DataError
from aimz_lab.kernel.cache_keys import key_of
from aimz_lab.kernel.signature import KernelSignature
from aimz_lab.spelling import did_you_mean
from aimz_lab.types import HostRows, Rows, Shared, Static, StaticKey

_STATIC = (bool, int, float, complex, str, bytes, type(None))


@dataclass(frozen=True)
class KernelArguments:
    """The arguments of one kernel call, sorted by use.

    Attributes:
        rows: Per-row arrays, of shape ``(row, ...)``; they are cut into batches together.
        shared: Arrays, or containers of arrays, that every batch gets whole; they are traced.
        static: Hashable values; they are constants of the compiled program.
    """

    rows: Rows
    shared: Shared = field(default_factory=dict)
    static: Static = field(default_factory=dict)

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.rows.values())))

    @property
    def static_key(self) -> StaticKey:
        """The static values as a hashable key; see :func:`aimz_lab.kernel.cache_keys.key_of`."""
        return key_of(self.static)


@dataclass(frozen=True)
class ArgumentRoles:
    """Which further arguments have one entry per row, and which every batch gets whole.

    Attributes:
        by_row: Those with one entry per row, by the user's word.
        shared: Those passed whole, by the user's word.
        trained_by_row: Those that had one entry per row in training.
        trained_shared: Those that were passed whole in training.
    """

    by_row: frozenset[str] = frozenset()
    shared: frozenset[str] = frozenset()
    trained_by_row: frozenset[str] = frozenset()
    trained_shared: frozenset[str] = frozenset()

    @classmethod
    def said(
        cls, signature: KernelSignature, by_row: Iterable[str], shared: Iterable[str]
    ) -> ArgumentRoles:
        """Return the roles that the user names.

        Args:
            signature: The kernel.
            by_row: Names of arguments with one entry per row.
            shared: Names of arguments that are passed whole.

        Raises:
            ArgumentError: If a name is no further argument of the kernel, or has both roles.
        """
        roles = cls(
            frozenset(check_names("by_row", by_row)), frozenset(check_names("shared", shared))
        )
        known = [*inspect.signature(signature.kernel).parameters]
        further = [name for name in known if name not in (signature.input, signature.output)]
        for name in sorted(roles.by_row | roles.shared):
            if name not in further:
                msg = (
                    f"by_row= and shared= name {name!r}, which is no further argument of the "
                    f"kernel; it takes {', '.join(map(repr, further)) or 'none'} beside its input "
                    f"and its output.{did_you_mean(name, further)}"
                )
                raise ArgumentError(msg)
            if name in roles.by_row & roles.shared:
                msg = f"{name!r} cannot be both by row and shared; name it in one of them."
                raise ArgumentError(msg)
        return roles

    def after_training(self, rows: Collection[str], shared: Collection[str]) -> ArgumentRoles:
        """Return the same roles, with those of a training for the arguments that are not named."""
        named = self.by_row | self.shared
        return replace(
            self,
            trained_by_row=frozenset(rows) - named,
            trained_shared=frozenset(shared) - named,
        )

    @property
    def known(self) -> frozenset[str]:
        """The arguments whose role is known."""
        return self.by_row | self.shared | self.trained_by_row | self.trained_shared


UNKNOWN_ROLES = ArgumentRoles()


def split_arguments(
    extra: Mapping[str, object], n_rows: int | None, roles: ArgumentRoles = UNKNOWN_ROLES
) -> KernelArguments:
    """Sort the further arguments of a kernel.

    Args:
        extra: All arguments except input and output, by name.
        n_rows: Number of rows; ``None`` if a loader provides all per-row arrays.
        roles: What is known about them.

    Returns:
        The sorted arguments. An array (or a list, Series, ... of numbers) whose role is unknown is
        per-row if its leading axis has ``n_rows`` entries, otherwise shared. A Python scalar,
        string, function or other hashable is static.

    Raises:
        ArgumentError: If a value is neither an array, a container of arrays, nor hashable; or is no
            array and named as one.
        DataError: If an array that has one entry per row has another number of them.

    Example:
        >>> split = split_arguments({"w": np.ones(3), "knots": np.ones(5), "degree": 2}, n_rows=3)
        >>> list(split.rows), list(split.shared), dict(split.static)
        (['w'], ['knots'], {'degree': 2})
        >>> roles = ArgumentRoles(shared=frozenset({"knots"}))
        >>> list(split_arguments({"w": np.ones(3), "knots": np.ones(3)}, 3, roles).shared)
        ['knots']
    """
    rows: HostRows = {}
    shared: dict[str, PyTree[np.ndarray]] = {}
    static: dict[str, Hashable] = {}
    for name, value in extra.items():
        if isinstance(value, _STATIC):
            static[name] = value
        elif _holds_arrays(value):
            shared[name] = jax.tree.map(lambda leaf: to_host(name, leaf), value)  # noqa: B023
        elif _is_array(value):
            array = to_host(name, value)
            by_row = n_rows is not None and _is_by_row(name, array, n_rows, roles)
            (rows if by_row else shared)[name] = array
        else:
            static[name] = _hashable(name, value)
    _check_named(roles, shared, static, n_rows)
    return KernelArguments(rows, shared, static)


def check_given_once(fields: Iterable[str], extra: Iterable[str]) -> None:
    """Check that no argument comes both with the rows and beside them.

    Args:
        fields: Names of the arguments that come with the rows.
        extra: Names of those passed by keyword.

    Raises:
        CallError: If one does.
    """
    twice = sorted(set(fields) & set(extra))
    if twice:
        name = twice[0]
        msg = (
            f"{name!r} is a field of the data, and is passed beside it as well; pass it once. As a "
            "field it has one entry per row, and is cut and shuffled with the rows; to pass "
            "another value for all rows, leave the field out of the data."
        )
        raise CallError(msg)


def _is_by_row(name: str, array: np.ndarray, n_rows: int, roles: ArgumentRoles) -> bool:
    length = array.shape[0] if array.ndim else None
    if name in roles.shared | roles.trained_shared:
        return False
    if name in roles.by_row | roles.trained_by_row and length != n_rows:
        entries = "is a single number" if length is None else f"has {length} entries"
        why = "it had one entry per row in training" if name in roles.trained_by_row else "by_row"
        msg = (
            f"The argument {name!r} {entries}, and there are {n_rows} rows ({why}). Pass one entry "
            f"per row; or if it is now passed whole to every batch, say shared=[{name!r}]."
        )
        raise DataError(msg)
    return length == n_rows


def _check_named(
    roles: ArgumentRoles,
    shared: Collection[str],
    static: Collection[str],
    n_rows: int | None,
) -> None:
    """Check that arguments named by the user are arrays that can have that role."""
    for name in sorted(roles.by_row | roles.shared):
        if name in static:
            msg = f"by_row= and shared= name arrays, and {name!r} is none; leave it out of them."
            raise ArgumentError(msg)
        if name in roles.by_row and name in shared:
            how = (
                "pass a single array, not a container of arrays"
                if n_rows is not None
                else f"give it to the data: ArrayDataset(..., {name}={name}), or as a field of the "
                "batches"
            )
            msg = f"The argument {name!r} cannot be cut with the rows as it is; {how}."
            raise ArgumentError(msg)


def _is_array(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        try:
            return len(value) > 0 and np.asarray(value).dtype.kind in "biufc"
        except ValueError:  # ragged or endless, which reading it says
            return True
    return hasattr(value, "__array__") or hasattr(value, "to_numpy") or hasattr(value, "__dlpack__")


def _holds_arrays(value: object) -> bool:
    """Whether this is a dict, list or tuple of arrays."""
    if isinstance(value, Mapping):
        return any(isinstance(leaf, (np.ndarray, jax.Array)) for leaf in jax.tree.leaves(value))
    if isinstance(value, (list, tuple)):
        return any(isinstance(leaf, (np.ndarray, jax.Array)) for leaf in value)
    return False


def _hashable(name: str, value: object) -> Hashable:
    try:
        hash(value)
    except TypeError:
        msg = (
            f"The kernel argument {name!r} is a {type(value).__name__}, which is neither an array, "
            "a dict or tuple of arrays, nor hashable; pass arrays or plain Python values."
        )
        raise ArgumentError(msg) from None
    return value
