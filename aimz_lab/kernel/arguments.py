"""Sort the arguments of a kernel into per-row arrays, shared arrays and static values."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

import jax
import numpy as np
from jaxtyping import PyTree

from aimz_lab.data import to_host
from aimz_lab.errors import ArgumentError
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
        """The static values as a hashable key, in which ``1``, ``1.0`` and ``True`` differ."""
        return tuple((name, type(v), v) for name, v in sorted(self.static.items()))


def split_arguments(extra: Mapping[str, object], n_rows: int | None) -> KernelArguments:
    """Sort the further arguments of a kernel.

    Args:
        extra: All arguments except input and output, by name.
        n_rows: Number of rows; ``None`` if a loader provides all per-row arrays.

    Returns:
        The sorted arguments. An array (or a list, Series, ... of numbers) is per-row if its leading
        axis has ``n_rows`` entries, otherwise shared. A Python scalar, string, function or other
        hashable is static.

    Raises:
        ArgumentError: If a value is neither an array, a container of arrays, nor hashable.

    Example:
        >>> split = split_arguments({"w": np.ones(3), "knots": np.ones(5), "degree": 2}, n_rows=3)
        >>> list(split.rows), list(split.shared), dict(split.static)
        (['w'], ['knots'], {'degree': 2})
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
            per_row = array.ndim > 0 and n_rows is not None and array.shape[0] == n_rows
            (rows if per_row else shared)[name] = array
        else:
            static[name] = _hashable(name, value)
    return KernelArguments(rows, shared, static)


def _is_array(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return len(value) > 0 and np.asarray(value).dtype.kind in "biufc"
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
