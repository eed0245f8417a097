"""Names of the arrays in a kernel's arguments, such as ``D['t']`` in a dictionary ``D``.

A container is one argument, and its arrays mean different things: a treatment, a mediator, the
groups of rows. What changes, and what changes with it, is therefore asked about each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
from jaxtyping import PyTree


def leaf_name(argument: str, path: tuple[Any, ...]) -> str:
    """Return the name of an array in an argument.

    Args:
        argument: The argument.
        path: Where the array is in it, as JAX's functions of trees say; empty for the argument.

    Example:
        >>> leaf_name("D", jax.tree.leaves_with_path({"t": 1})[0][0])
        "D['t']"
    """
    return argument + jax.tree_util.keystr(path)


def named_leaves(arguments: Mapping[str, PyTree]) -> dict[str, Any]:
    """Return the arrays in some arguments by name; what holds none, by the argument's name.

    Args:
        arguments: The arguments by name: arrays, containers of arrays, and any other values.

    Example:
        >>> named_leaves({"D": {"t": 1, "m": None}, "link": "log", "w": None})
        {"D['t']": 1, 'link': 'log', 'w': None}
    """
    found = {}
    for name, value in arguments.items():
        leaves = jax.tree.leaves_with_path(value)
        found |= {leaf_name(name, path): leaf for path, leaf in leaves} or {name: value}
    return found


def with_leaves(arguments: Mapping[str, PyTree], leaves: Mapping[str, Any]) -> dict[str, PyTree]:
    """Return some arguments with other values of arrays in them.

    Args:
        arguments: The arguments by name.
        leaves: The other values, by the names of :func:`named_leaves`; ``None`` takes an array out
            of its container. Those of arrays that the arguments lack are ignored.
    """

    def replaced(name: str, value: PyTree) -> PyTree:
        def other(path: tuple[Any, ...], leaf: Any) -> Any:
            return leaves.get(leaf_name(name, path), leaf)

        return jax.tree_util.tree_map_with_path(other, value)

    return {name: replaced(name, value) for name, value in arguments.items()}
