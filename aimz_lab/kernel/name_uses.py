"""How the source of a function uses the names from outside of it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Set
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

_CHANGING = {
    *("add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem"),
    *("popleft", "remove", "setdefault", "update"),
}
"""Methods by which a container changes."""


class Step(NamedTuple):
    """One step into a value: to an attribute, or to what stands under a key.

    Attributes:
        kind: Which of both; ``content`` for what is in a container, under whatever key.
        name: The attribute or the key.
    """

    kind: Literal["attribute", "key", "content"]
    name: str | int


CONTENT = Step("content", "")

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
        changed: The parts of each name's value that the function changes in place, under ``""``
            those of values without a name.
    """

    paths: dict[str, set[Path]] = field(default_factory=dict)
    changed: dict[str, set[Path]] = field(default_factory=dict)


def name_uses(function: ast.AST) -> NameUses:
    """Return how a function uses names.

    Args:
        function: Its syntax tree.

    Example:
        >>> uses = name_uses(ast.parse("def f(): SEEN.append(CFG['prior'].sd)"))
        >>> uses.paths["CFG"]
        {(Step(kind='key', name='prior'), Step(kind='attribute', name='sd'))}
        >>> uses.changed
        {'SEEN': {(Step(kind='content', name=''),)}}
    """
    found = NameUses()
    nodes = list(ast.walk(function))
    inner = {node.value for node in nodes if isinstance(node, ast.Attribute | ast.Subscript)}
    for node in nodes:
        if isinstance(node, ast.Name | ast.Attribute | ast.Subscript) and node not in inner:
            name, path = _path_of(node)
            known = path[: path.index(CONTENT)] if CONTENT in path else path
            found.paths.setdefault(name, set()).add(known)
            if path and not isinstance(node.ctx, ast.Load):
                _add_change(found, name, path)
        if isinstance(node, ast.Call) and getattr(node.func, "attr", None) in _CHANGING:
            name, path = _path_of(node.func.value)
            _add_change(found, name, (*path, CONTENT))
    return found


def _path_of(node: ast.expr) -> tuple[str, Path]:
    """Return the name that an expression begins with, ``""`` if none, and the steps from there."""
    path: list[Step] = []
    while isinstance(node, ast.Attribute | ast.Subscript):
        if isinstance(node, ast.Attribute):
            path.append(Step("attribute", node.attr))
        else:
            key = node.slice.value if isinstance(node.slice, ast.Constant) else None
            path.append(Step("key", key) if isinstance(key, str | int) else CONTENT)
        node = node.value
    return node.id if isinstance(node, ast.Name) else "", tuple(reversed(path))


def _add_change(uses: NameUses, name: str, path: Path) -> None:
    """Add a change; of ``parts[i].n`` it is any ``n``, as which part is not known."""
    if CONTENT in path:
        known, rest = path[: path.index(CONTENT) + 1], path[path.index(CONTENT) + 1 :]
        is_inside = any(step.kind == "attribute" for step in rest)
        name, path = ("", rest) if is_inside else (name, known)
    uses.changed.setdefault(name, set()).add(path)


def steps_into(paths: Iterable[Path], step: Step) -> set[Path]:
    """Return the paths that go on after a step.

    Args:
        paths: The paths into a value.
        step: A step into it.
    """
    return {path[1:] for path in paths if path and path[0] == step}


def parts_read(paths: Iterable[Path]) -> dict[Step, set[Path]] | None:
    """Return the paths further in by their first step; ``None`` if the whole value is read.

    Args:
        paths: The paths into a value.
    """
    paths = set(paths)
    if () in paths or not paths:
        return None
    firsts = sorted({path[0] for path in paths}, key=repr)  # in each process the same order
    return {step: steps_into(paths, step) for step in firsts}


@dataclass(frozen=True)
class Use:
    """How a function uses a value.

    Attributes:
        read: The parts that it reads.
        changed: The parts that it changes.
        stored: Attributes that it sets on objects that it has by no name from outside.
        named: All attributes that it names.
    """

    read: Set[Path] = WHOLE
    changed: Set[Path] = frozenset()
    stored: Set[str] = frozenset()
    named: Set[str] = frozenset()

    def into(self, step: Step) -> Use:
        """Return how it uses a part of the value."""
        read = WHOLE if () in self.read else steps_into(self.read, step) or WHOLE
        changed = steps_into(self.changed, step)
        if step.kind == "attribute" and step.name in self.stored:
            changed.add(())
        return replace(self, read=read, changed=changed)


AS_A_WHOLE = Use()
