"""How the source of a function uses the names from outside of it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

_CHANGING = {
    *("add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem"),
    *("popleft", "remove", "setdefault", "update"),
}
"""Methods by which a container changes."""


class Step(NamedTuple):
    """One step into a value: to an attribute, or to what stands under a key.

    Attributes:
        kind: Which of both.
        name: The attribute or the key.
    """

    kind: Literal["attribute", "key"]
    name: str | int


Path = tuple[Step, ...]
"""Steps into a value, from outside in; empty for all of it."""

WHOLE: frozenset[Path] = frozenset([()])
"""The paths of a value that is used as a whole."""


@dataclass
class NameUses:
    """The names that a function uses.

    Attributes:
        paths: The parts of each name's value that are read. ``CFG["sd"]`` reads a part of ``CFG``;
            ``dict(CFG)`` and ``CFG.items()`` read all of it.
        changed: Names of variables and attributes whose values the function changes in place.
    """

    paths: dict[str, set[Path]] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)

    def within(self, name: str) -> dict[str, set[Path]]:
        """Return the paths of the attributes that are read of a name's value, such as of ``self``.

        Args:
            name: The name.
        """
        found: dict[str, set[Path]] = {}
        for path in self.paths.get(name, ()):
            if path and path[0].kind == "attribute":
                found.setdefault(str(path[0].name), set()).add(path[1:])
        return found


def name_uses(function: ast.AST) -> NameUses:
    """Return how a function uses names.

    Args:
        function: Its syntax tree.

    Example:
        >>> uses = name_uses(ast.parse("def f(): SEEN.append(CFG['prior'].sd)"))
        >>> uses.paths["CFG"], uses.changed
        ({(Step(kind='key', name='prior'), Step(kind='attribute', name='sd'))}, {'SEEN'})
    """
    found = NameUses()
    parents = {child: node for node in ast.walk(function) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(function):
        if isinstance(node, ast.Name):
            found.paths.setdefault(node.id, set()).add(tuple(_steps(node, parents)))
        elif isinstance(node, ast.Subscript | ast.Attribute) and not isinstance(node.ctx, ast.Load):
            found.changed |= _last_name(node.value if isinstance(node, ast.Subscript) else node)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", None) in _CHANGING:
            found.changed |= _last_name(node.func.value)
    return found


def _steps(node: ast.expr, parents: dict[ast.AST, ast.AST]) -> Iterator[Step]:
    while True:
        parent = parents.get(node)
        if isinstance(parent, ast.Attribute):
            yield Step("attribute", parent.attr)
        elif isinstance(parent, ast.Subscript) and parent.value is node:
            key = parent.slice
            if not isinstance(key, ast.Constant) or not isinstance(key.value, str | int):
                return
            yield Step("key", key.value)
        else:
            return
        node = parent


def _last_name(node: ast.expr) -> set[str]:
    """Return the name next to what is changed: ``seen`` of ``self.seen[0]``."""
    while isinstance(node, ast.Subscript):
        node = node.value
    if isinstance(node, ast.Attribute):
        return {node.attr}
    return {node.id} if isinstance(node, ast.Name) else set()


def parts_read(paths: Iterable[Path]) -> dict[Step, set[Path]] | None:
    """Return the paths further in by their first step; ``None`` if the whole value is read.

    Args:
        paths: The paths into a value.
    """
    found: dict[Step, set[Path]] = {}
    for path in paths:
        if not path:
            return None
        found.setdefault(path[0], set()).add(path[1:])
    return found or None
