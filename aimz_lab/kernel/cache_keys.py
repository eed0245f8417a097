"""Hashable keys for caches of traced and compiled programs."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from aimz_lab.kernel.reads import fingerprint
from aimz_lab.types import HasShape, Static, StaticKey


@dataclass(frozen=True, eq=False)
class ById:
    """Identify an object in a key: it equals only itself, and the key keeps it alive.

    Attributes:
        of: The object.
    """

    of: object

    def __hash__(self) -> int:
        return id(self.of)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ById) and other.of is self.of


class CodeKey:
    """Identify a function or an object together with all that it reads, as it is now.

    Args:
        function: The function, or an object whose methods are compiled; the key keeps it alive.
    """

    __slots__ = ("_function", "_hash", "_reads")

    def __init__(self, function: Callable) -> None:
        self._function, self._reads = function, fingerprint(function)
        self._hash = hash((id(function), self._reads))

    def __reduce__(self) -> tuple[type[CodeKey], tuple[Callable]]:
        """Read the function again where it arrives; some of what was read has no pickle."""
        return CodeKey, (self._function,)

    def __deepcopy__(self, memo: dict[int, Any]) -> CodeKey:
        """Return the key itself: a copy keeps what was read, as do the programs under it."""
        return self

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, CodeKey)
            and other._function is self._function
            and other._hash == self._hash
            and other._reads == self._reads
        )


_PLAIN = (str, bytes, int, float, complex, bool, type(None), np.generic)


def key_of(static: Static) -> StaticKey:
    """Return static arguments as a hashable key, in which ``1``, ``1.0`` and ``True`` differ.

    Functions, and objects that are called or read, count with all that they read, as it is now.

    Args:
        static: The arguments by name.
    """
    return tuple(
        (name, type(value), value if isinstance(value, _PLAIN) else (value, fingerprint(value)))
        for name, value in sorted(static.items())
    )


def shapes_of(tree: PyTree[HasShape]) -> Hashable:
    """Return the structure, shapes and types of a tree of arrays as a hashable key."""
    leaves, structure = jax.tree.flatten(tree)
    types = map(jax.typeof, leaves)
    return structure, tuple((kind.shape, kind.dtype, kind.weak_type) for kind in types)
