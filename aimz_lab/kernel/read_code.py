"""What the code of a function names, and whether that code belongs to a library."""

from __future__ import annotations

import contextlib
import dis
import functools
import importlib.util
import os
import sys
import sysconfig
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

WHOLE = {"__dict__", "asdict", "astuple", "getattr", "vars"}
"""Names by which code may read an attribute that it does not name."""

_UNPICKLED = "<dynamic-code>"
"""The file that cloudpickle names."""

_PLACES = tuple(
    f"{Path(place).resolve()}{os.sep}"
    for place in {
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        str(Path(__file__).parents[1]),
    }
)


def package_of(function: Callable) -> str | None:
    """The package that a function comes from; ``None`` for other callables."""
    function = getattr(function, "__func__", function)
    if not isinstance(function, types.FunctionType):
        return None
    return str(function.__module__).partition(".")[0]


def functions_of(kernel: Any) -> Iterator[types.FunctionType | types.MethodType]:
    """Yield the functions that a kernel runs: through handlers, partials, methods and decorators.

    Args:
        kernel: A function, or an object that can be called; ``None`` has none.

    Example:
        >>> def kernel(X): ...
        >>> [found is kernel for found in functions_of(functools.partial(kernel, X=1))]
        [True]
    """
    seen: set[int] = set()
    waiting = [kernel]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, functools.partial):
            waiting.append(one.func)
        elif isinstance(one, types.FunctionType | types.MethodType):
            yield one
            waiting.append(getattr(one, "__wrapped__", None))
        elif (inner := getattr(one, "__wrapped__", None) or getattr(one, "fn", None)) is not None:
            waiting.append(inner)
        elif isinstance(call := getattr(one, "__call__", None), types.MethodType):  # noqa: B004
            yield call


@functools.lru_cache(maxsize=4096)
def names_in(
    code: types.CodeType,
) -> tuple[tuple[str, ...], tuple[str, ...], frozenset[str]]:
    """Global names, imported modules, and attributes that code reads, also in inner functions."""
    names, imported, attributes = {}, {}, set()
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            names[instruction.argval] = None
        elif instruction.opname == "IMPORT_NAME":
            imported[instruction.argval] = None
        elif instruction.opname in ("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR", "IMPORT_FROM"):
            attributes.add(instruction.argval)
    texts = {part for part in code.co_consts if isinstance(part, str) and part.isidentifier()}
    attributes |= texts | (WHOLE & names.keys())
    if "globals" in names:
        names |= dict.fromkeys(sorted(texts))
    for part in code.co_consts:
        if isinstance(part, types.CodeType):
            inner = names_in(part)
            names |= dict.fromkeys(inner[0])
            imported |= dict.fromkeys(inner[1])
            attributes |= inner[2]
    return tuple(names), tuple(imported), frozenset(attributes)


@functools.lru_cache(maxsize=4096)
def is_library(filename: str) -> bool:
    """Whether a file belongs to Python, to an installed package, or to this one."""
    if filename.startswith("<frozen"):
        return True
    path = Path(filename)
    if "site-packages" in path.parts or "dist-packages" in path.parts:
        return True
    return path.is_absolute() and str(path.resolve()).startswith(_PLACES)


def is_library_function(function: types.FunctionType) -> bool:
    """Whether a function belongs to Python, to an installed package, or to this one.

    One that was unpickled by value tells of its module alone.
    """
    if function.__code__.co_filename != _UNPICKLED:
        return is_library(function.__code__.co_filename)
    if function.__module__ == "__main__":
        return False
    found = None
    with contextlib.suppress(ImportError, ValueError, AttributeError):
        found = importlib.util.find_spec(function.__module__)
    return found is not None and found.origin is not None and is_library(found.origin)


def is_unpickled(kernel: Any) -> bool:
    """Whether cloudpickle made a kernel's functions, so that they have no source.

    Args:
        kernel: As of :func:`functions_of`.
    """
    return any(each.__code__.co_filename == _UNPICKLED for each in functions_of(kernel))


def is_library_module(name: str) -> bool:
    """Whether a module belongs to Python, to an installed package, or to this one."""
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if file is None:  # built in, or typed at a prompt
        return name in sys.builtin_module_names
    return is_library(file)


def contents_of(cells: Iterable[types.CellType]) -> list[Any]:
    """Return the values in the cells of a closure; ``None`` for those not assigned yet."""
    found = []
    for cell in cells:
        try:
            found.append(cell.cell_contents)
        except ValueError:
            found.append(None)
    return found
