"""A checksum of a function's source that layout, comments and Python's version leave as it is."""

from __future__ import annotations

import ast
import functools
import hashlib
import linecache
import types
import warnings
from collections.abc import Iterator

from aimz_lab.system.parsing import parsed

_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

_HEX_DIGITS = 16


def source_checksum(function: types.FunctionType) -> str | None:
    """Return a checksum of what a function's source says.

    Args:
        function: A function or a lambda.

    Returns:
        Hexadecimal digits that the function's name, comments, docstrings, annotations and layout do
        not change; ``None`` where the source that the function was compiled from is not at hand,
        such as that of a file edited since it was imported.

    Example:
        >>> source_checksum(eval("lambda x: x")) is None
        True
    """
    node = source_of(function)
    if node is None:
        return None
    said = ascii(_said(node, named=False)).encode()
    return hashlib.sha256(said).hexdigest()[:_HEX_DIGITS]


def source_of(function: types.FunctionType) -> _Function | None:
    """Return the syntax tree that a function was compiled from, or ``None`` if it is not at hand.

    Args:
        function: A function or a lambda.
    """
    code = function.__code__
    node = _node_of(code, linecache.getlines(code.co_filename, function.__globals__))
    if node is None:  # the lines may be from before an edit and a reload
        linecache.checkcache(code.co_filename)
        node = _node_of(code, linecache.getlines(code.co_filename, function.__globals__))
    return node


def _node_of(code: types.CodeType, lines: list[str]) -> _Function | None:
    """Return the function's definition in a file, if the file compiles to the same code."""
    try:
        tree, compiled = _parsed("".join(lines))
        same = [part for part in _codes_in(compiled) if _essence(part) == _essence(code)]
        if not same:
            return None
        nearest = min(same, key=lambda part: abs(part.co_firstlineno - code.co_firstlineno))
        nodes = [
            node
            for node in ast.walk(tree)
            if isinstance(node, _Function)
            and getattr(node, "name", "<lambda>") == code.co_name
            and _first_line(node) == nearest.co_firstlineno
        ]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return nodes[0] if len(nodes) == 1 else None  # of two lambdas in a line, which?


@functools.lru_cache(maxsize=8)
def _parsed(text: str) -> tuple[ast.Module, types.CodeType]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python gave its warnings at the import
        tree = parsed(text)
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT  # as in a notebook
        return tree, compile(text, "<source>", "exec", flags=flags, dont_inherit=True)


def _codes_in(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for part in code.co_consts:
        if isinstance(part, types.CodeType):
            yield from _codes_in(part)


def _essence(code: types.CodeType) -> tuple:
    """Return what code does, without its place in the file."""
    constants = (
        _essence(part) if isinstance(part, types.CodeType) else repr(part)
        for part in code.co_consts
    )
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    return code.co_name, code.co_code, names, tuple(constants)


def _first_line(node: _Function) -> int:
    return min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])


def _said(node: object, *, named: bool = True) -> object:
    """Return a syntax tree as lists and text, without what changes no number.

    Empty fields are left out: later versions of Python add some.
    """
    if isinstance(node, list):
        return [_said(part) for part in node if not _is_bare_text(part)]
    if not isinstance(node, ast.AST):
        return ascii(node)
    left_out = {"kind", "type_comment", "returns"} | (set() if named else {"name"})
    if isinstance(node, ast.arg):
        left_out.add("annotation")
    fields = [
        (name, _said(value))
        for name, value in ast.iter_fields(node)
        if name not in left_out and value is not None and value != []
    ]
    return [type(node).__name__, fields]


def _is_bare_text(node: object) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
