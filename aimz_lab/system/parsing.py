"""Parse Python's source while other threads do."""

from __future__ import annotations

import ast

_TRIES = 5


def parsed(source: str) -> ast.Module:
    """Return the syntax tree of a module's source.

    CPython 3.11 and 3.12 count the depth of a tree in one number for all threads: where two parse
    at once, as an explorer beside a cell, right source raises a ``SystemError``.

    Args:
        source: The source.

    Raises:
        SyntaxError: If it is no Python.

    Example:
        >>> len(parsed("a = 1").body)
        1
    """
    for _ in range(_TRIES - 1):
        try:
            return ast.parse(source)
        except SystemError:
            continue
    return ast.parse(source)
