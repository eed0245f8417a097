"""Sort the arguments of a kernel into per-row arrays, shared arrays and static values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from aimz_lab.data import to_host
from aimz_lab.errors import ArgumentError

_STATIC = (bool, int, float, complex, str, bytes, type(None))


@dataclass(frozen=True)
class KernelArguments:
    """The arguments of one kernel call, by what happens to them.

    Attributes:
        rows: Arrays whose leading axis is the rows; they are cut into batches together.
        shared: Arrays, or containers of arrays, that every batch gets as they are; traced.
        static: Hashable values that are part of the compiled program.
    """

    rows: Mapping[str, Any]
    shared: Mapping[str, Any] = field(default_factory=dict)
    static: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n_rows(self) -> int:
        """Length of the rows' axis."""
        return len(next(iter(self.rows.values())))

    @property
    def static_key(self) -> tuple[tuple[str, Any], ...]:
        """The static values as a hashable key; ``1``, ``1.0`` and ``True`` differ in it."""
        return tuple((name, type(v), v) for name, v in sorted(self.static.items()))


def split_arguments(extra: Mapping[str, Any], n_rows: int | None) -> KernelArguments:
    """Tell the kernel's further arguments apart.

    Args:
        extra: Arguments by name, beside input and output.
        n_rows: Length of the rows' axis; ``None`` where the rows come from a loader, whose batches
            hold all per-row arrays.

    Returns:
        The arguments; an array (or a list, Series, ... of numbers) whose leading axis has
        ``n_rows`` entries is per row, another array is shared, a Python scalar, string, function or
        other hashable is static.

    Raises:
        ArgumentError: If a value is neither an array, a container of arrays, nor hashable.

    Example:
        >>> split = split_arguments({"w": np.ones(3), "knots": np.ones(5), "degree": 2}, n_rows=3)
        >>> list(split.rows), list(split.shared), dict(split.static)
        (['w'], ['knots'], {'degree': 2})
    """
    rows: dict[str, Any] = {}
    shared: dict[str, Any] = {}
    static: dict[str, Any] = {}
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


def _is_array(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return len(value) > 0 and np.asarray(value).dtype.kind in "biufc"
    return hasattr(value, "__array__") or hasattr(value, "to_numpy") or hasattr(value, "__dlpack__")


def _holds_arrays(value: Any) -> bool:
    """Whether this is a dict, or a list or tuple that is no array itself, of arrays."""
    if isinstance(value, Mapping):
        return any(isinstance(leaf, (np.ndarray, jax.Array)) for leaf in jax.tree.leaves(value))
    if isinstance(value, (list, tuple)):
        return any(isinstance(leaf, (np.ndarray, jax.Array)) for leaf in value)
    return False


def _hashable(name: str, value: Any) -> Any:
    try:
        hash(value)
    except TypeError:
        msg = (
            f"The kernel argument {name!r} is a {type(value).__name__}, which is neither an array, "
            "a dict or tuple of arrays, nor hashable; pass arrays or plain Python values."
        )
        raise ArgumentError(msg) from None
    return value
