"""Hashable keys for caches of traced and compiled programs."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import jax
from jaxtyping import PyTree

from aimz_lab.types import HasShape


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


def shapes_of(tree: PyTree[HasShape]) -> Hashable:
    """Return the structure, shapes and types of a tree of arrays as a hashable key."""
    leaves, structure = jax.tree.flatten(tree)
    types = map(jax.typeof, leaves)
    return structure, tuple((kind.shape, kind.dtype, kind.weak_type) for kind in types)
