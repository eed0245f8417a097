"""What a kernel's code says, in plain values that another process can compare."""

from __future__ import annotations

import contextlib
import dis
import functools
import inspect
import types
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from aimz_lab.kernel.read_code import (
    contents_of,
    functions_of,
    is_library,
    is_library_module,
    names_in,
)
from aimz_lab.kernel.source_checksum import source_checksum
from aimz_lab.types import JsonObject

_LONGEST = 80
"""Longer text, of a constant that code reads, is not compared."""


def code_facts(kernel: Callable | None) -> JsonObject:
    """Describe a kernel's code and the user's functions and constants that it reads by name.

    Args:
        kernel: A kernel or a guide: a function, a method, a ``partial``, or an object that can be
            called. What belongs to an installed library is left out.

    Returns:
        ``functions``, a checksum of the source by name, ``None`` where the source is not at hand,
        the kernel's own under ``""``; and ``constants``, the numbers and text in global names,
        closures, attributes and defaults, written out.

    Example:
        >>> sd = 0.5
        >>> def prior(X): return X * sd
        >>> code_facts(prior)["constants"]
        {'sd': '0.5'}
    """
    found = _Facts()
    found.read_kernel(kernel)
    return {"functions": found.functions, "constants": found.constants}


def code_differences(there: Mapping, here: Mapping, what: str) -> list[str]:
    """Return the differences of two results of :func:`code_facts`, as far as both are known.

    Args:
        there: That of a saved model.
        here: That of the one at hand.
        what: What they describe, for the message.

    Example:
        >>> one, other = ({"functions": {"": x, "f": None}, "constants": {"sd": x}} for x in "12")
        >>> code_differences(one, other, "kernel")
        ['the source of the kernel', 'sd, which the kernel reads (1 there and 2 here)']
    """
    found = []
    for name, checksum in there["functions"].items():
        own = here["functions"].get(name)
        if None not in (checksum, own) and checksum != own:
            helper = f"{_plain_name(name)}, which the {what} calls"
            found.append(f"the source of {helper if name else f'the {what}'}")
    for name, value in there["constants"].items():
        if (own := here["constants"].get(name, value)) != value:
            values = f"{str(value)[:_LONGEST]} there and {own[:_LONGEST]} here"
            found.append(f"{_plain_name(name)}, which the {what} reads ({values})")
    return list(dict.fromkeys(found))


class _Facts:
    """Follows the names that code reads, each function once."""

    def __init__(self) -> None:
        self.functions: dict[str, str | None] = {}
        self.constants: dict[str, str] = {}
        self._seen: set[types.FunctionType] = set()

    def read_kernel(self, kernel: Callable | None) -> None:
        *decorators, own = [*functions_of(kernel)] or [None]
        if own is not None:  # the innermost
            self._read_function("", own)
        for decorator in decorators:
            self._read_function(decorator.__code__.co_name, decorator)
        while isinstance(kernel, functools.partial):
            for name, value in kernel.keywords.items():
                self._read(name, value)
            kernel = kernel.func

    def _read_function(self, name: str, function: types.FunctionType | types.MethodType) -> None:
        owner = getattr(function, "__self__", None)
        function = getattr(function, "__func__", function)
        if function in self._seen or is_library(function.__code__.co_filename):
            return
        self._seen.add(function)
        self.functions[_free(name, self.functions)] = source_checksum(function)
        attributes, written = _attributes_and_written(function.__code__)
        inside = _names_read(function)
        if owner is not None:
            members = {each: inspect.getattr_static(owner, each, _ABSENT) for each in attributes}
            for each, value in members.items():
                if isinstance(value, types.FunctionType):
                    inside[each] = types.MethodType(value, owner)
                elif value is not _ABSENT:
                    inside[each] = value
        for each, value in inside.items():
            if each not in written and not each.startswith("__"):
                self._read(each, value, attributes)

    def _read(self, name: str, value: object, attributes: Iterable[str] = ()) -> None:
        if (text := _plain_text(value)) is not None:
            self.constants[_free(name, self.constants)] = text
        elif isinstance(value, types.ModuleType):
            if not is_library_module(value.__name__):
                for each in attributes:
                    if each in vars(value) and not isinstance(vars(value)[each], types.ModuleType):
                        self._read(each, vars(value)[each])
        elif isinstance(value, type):
            if not is_library_module(value.__module__):  # such as a module of Flax
                for each, part in vars(value).items():
                    self._read_functions(each, part)
        else:
            self._read_functions(name, value)

    def _read_functions(self, name: str, value: object) -> None:
        with contextlib.suppress(Exception):  # whatever an object of the user raises
            for function in functions_of(value):
                self._read_function(name, function)


_ABSENT = object()


def _names_read(function: types.FunctionType) -> dict[str, object]:
    """Return the closure, the global names and the defaults that a function reads."""
    code = function.__code__
    found = dict(zip(code.co_freevars, contents_of(function.__closure__ or ()), strict=True))
    space = function.__globals__
    found |= {name: space[name] for name in names_in(code)[0] if name in space}
    defaults = function.__defaults__ or ()
    first = code.co_argcount - len(defaults)
    found |= zip(code.co_varnames[first : code.co_argcount], defaults, strict=True)
    return found | (function.__kwdefaults__ or {})


def _attributes_and_written(code: types.CodeType) -> tuple[list[str], set[str]]:
    """Return the attributes that code reads, and the names outside of it that it writes.

    What a kernel writes, such as the count of its calls, differs from one process to the next.
    """
    attributes: dict[str, None] = {}
    written = set()
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"):
            attributes[instruction.argval] = None
        elif instruction.opname in ("STORE_GLOBAL", "STORE_DEREF", "STORE_ATTR"):
            written.add(instruction.argval)
    for part in code.co_consts:
        if isinstance(part, types.CodeType):
            inner = _attributes_and_written(part)
            attributes |= dict.fromkeys(inner[0])
            written |= inner[1]
    return list(attributes), written


def _plain_text(value: object) -> str | None:
    """Write out a number, short text, or a tuple of these; ``None`` for other values."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, int | float):
        return f"{value:.9g}"  # what data computed it from may differ in its last bits
    if isinstance(value, str):
        return ascii(value) if len(value) <= _LONGEST else None
    if type(value) is tuple:
        parts = [_plain_text(part) for part in value]
        text = None if None in parts else f"({', '.join(parts)})"
        return text if text and len(text) <= _LONGEST else None
    return None


def _free(name: str, taken: Iterable[str]) -> str:
    """Return a name for another thing of the same name: in a module of a helper, for example."""
    while name in taken:
        name += "'"
    return name


def _plain_name(name: str) -> str:
    return name.rstrip("'")
