"""What a kernel's code says, in plain values that another process can compare."""

from __future__ import annotations

import contextlib
import dataclasses
import dis
import functools
import inspect
import types
from collections.abc import Callable, Iterable, Mapping, Set, Sized

import jax
import numpy as np

from aimz_lab.kernel.name_uses import WHOLE, NameUses, Path, Step, name_uses, parts_read
from aimz_lab.kernel.read_code import (
    contents_of,
    functions_of,
    is_library_function,
    is_library_module,
    names_in,
)
from aimz_lab.kernel.source_checksum import source_checksum, source_of
from aimz_lab.kernel.value_text import LONGEST, is_checksum, plain_text
from aimz_lab.types import JsonObject

_MOST = 2_000
"""Most constants that are compared."""


def code_facts(kernel: Callable | None, read: Iterable[tuple[str, object]] = ()) -> JsonObject:
    """Describe a kernel's code and the user's functions and constants that it reads by name.

    Not described are objects of classes that are neither data classes nor trees of JAX, beyond the
    attributes that the code names; tables with several types of columns, and arrays of other
    libraries than NumPy, JAX and pandas; what the code changes itself, such as a list that it
    appends to; where the source is not at hand, all that could be changed; and what the code reads
    while it runs, such as files and random numbers.

    Args:
        kernel: A kernel or a guide: a function, a method, a ``partial``, or an object that can be
            called. Of installed libraries, only names of functions and classes are described.
        read: Further values with their names.

    Returns:
        ``functions``, a checksum of the source by name, ``None`` where the source is not at hand,
        the kernel's own under ``""``; and ``constants``, the values of global names, closures,
        attributes and defaults as text: numbers written out, arrays and long collections as
        checksums, those of configurations part by part, as far as the code reads them.

    Example:
        >>> sd = 0.5
        >>> def prior(X): return X * sd
        >>> code_facts(prior)["constants"]
        {'sd': '0.5'}
    """
    found = _Facts()
    found.read_kernel(kernel)
    for name, value in read:
        found.read(name, value)
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
            values = f"{str(value)[:LONGEST]} there and {own[:LONGEST]} here"
            found.append(f"{_plain_name(name)}, which the {what} reads ({values})")
    return list(dict.fromkeys(found))


class _Facts:
    """Follows the names that code reads, each function once."""

    def __init__(self) -> None:
        self.functions: dict[str, str | None] = {}
        self.constants: dict[str, str] = {}
        self._seen: set[types.FunctionType] = set()
        self._open: set[int] = set()

    def read_kernel(self, kernel: Callable | None) -> None:
        *decorators, own = [*functions_of(kernel)] or [None]
        if own is not None:  # the innermost
            self._read_function("", own)
        for decorator in decorators:
            self._read_function(decorator.__code__.co_name, decorator)
        while isinstance(kernel, functools.partial):
            for name, value in kernel.keywords.items():
                self.read(name, value)
            kernel = kernel.func

    def _read_function(self, name: str, function: types.FunctionType | types.MethodType) -> None:
        owner = getattr(function, "__self__", None)
        function = getattr(function, "__func__", function)
        if is_library_function(function):
            for base in type(owner).__mro__:  # such as a user's kind of AutoGuide
                self._read_class(base)
            return
        if function in self._seen:
            return
        self._seen.add(function)
        self.functions[_free(name, self.functions)] = source_checksum(function)
        tree = source_of(function)
        uses = None if tree is None else name_uses(tree)
        changed = _written(function.__code__) | (set() if uses is None else uses.changed)
        paths = {} if uses is None else dict(uses.paths)
        inside = _names_read(function)
        if owner is not None:
            members, within = self._members(owner, function.__code__, uses)
            inside |= members
            paths |= within
        for each, value in inside.items():
            if each in changed or each.startswith("__"):
                continue
            if uses is not None or not _may_change(value):
                self.read(each, value, paths.get(each, WHOLE), changed)

    def _members(
        self, owner: object, code: types.CodeType, uses: NameUses | None
    ) -> tuple[dict[str, object], dict[str, set[Path]]]:
        """Return what a method reads of its object, by name, and the paths into it."""
        members = {each: _member(owner, each) for each in names_in(code)[2]}
        found = {each: value for each, value in members.items() if value is not _ABSENT}
        return found, uses.within(code.co_varnames[0]) if uses and code.co_argcount else {}

    def read(
        self,
        name: str,
        value: object,
        paths: Iterable[Path] = WHOLE,
        changed: Set[str] = frozenset(),
    ) -> None:
        """Read a value: as text if it can be written out, else its parts or its code.

        Args:
            name: Its name.
            value: The value.
            paths: The parts of it that are read.
            changed: Names of attributes that the code changes.
        """
        if id(value) in self._open or len(self.constants) >= _MOST:
            return
        self._open.add(id(value))
        with contextlib.suppress(Exception):  # whatever an object of the user raises
            self._read(name, value, parts_read(paths), changed)
        self._open.discard(id(value))

    def _read(
        self, name: str, value: object, parts: Mapping[Step, set[Path]] | None, changed: Set[str]
    ) -> None:
        if isinstance(value, types.ModuleType):
            self._read_module(value, parts or {}, changed)
            return
        inside = _parts_of(value, parts)
        if inside is not None and parts is not None and not parts.keys() <= inside.keys():
            parts = None  # a method, such as ``items``, may read all of it
        text = plain_text(value) if parts is None or inside is None else None
        if text is not None and not (is_checksum(text) and _has_names(inside)):
            self._keep(name, text)
        elif inside is not None:
            if parts is None:
                size = f" of {len(value)}" if isinstance(value, Sized) else ""
                self._keep(name, f"{type(value).__name__}{size}")
            for step, part in inside.items():
                if step.name not in changed:
                    further = (parts or {}).get(step, WHOLE)
                    self.read(f"{name}{_as_code(step)}", part, further, changed)
            self._read_functions(name, value)
        elif isinstance(value, type):
            self._keep(name, value.__name__)
            self._read_class(value)
        else:
            self._read_callable(name, value)

    def _keep(self, name: str, text: str) -> None:
        self.constants[_free(name, self.constants)] = text

    def _read_module(
        self, module: types.ModuleType, parts: Mapping[Step, set[Path]], changed: Set[str]
    ) -> None:
        if is_library_module(module.__name__):
            return
        for step, paths in parts.items():
            value = vars(module).get(str(step.name), _ABSENT)
            if value is not _ABSENT:
                self.read(str(step.name), value, paths, changed)

    def _read_class(self, kind: type) -> None:
        if not is_library_module(kind.__module__):  # such as a module of Flax
            for each, part in vars(kind).items():
                with contextlib.suppress(Exception):
                    self._read_functions(each, part)

    def _read_callable(self, name: str, value: object) -> None:
        if isinstance(value, functools.partial):
            for i, part in enumerate(value.args):
                self.read(f"{name}({i})", part)
            for keyword, part in value.keywords.items():
                self.read(f"{name}({keyword})", part)
            self.read(name, value.func)
            return
        functions = [*functions_of(value)]
        own = getattr(value, "__name__", None)
        if isinstance(own, str) and all(map(is_library_function, functions)):
            self._keep(name, own)
        self._read_functions(name, value)

    def _read_functions(self, name: str, value: object) -> None:
        for function in functions_of(value):
            self._read_function(name, function)


_ABSENT = object()
_LEAF = jax.tree.structure(0)


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


def _written(code: types.CodeType) -> set[str]:
    """Return the names outside of code that it writes.

    What a kernel writes, such as the count of its calls, differs from one process to the next.
    """
    kinds = ("STORE_GLOBAL", "STORE_DEREF", "STORE_ATTR")
    found = {each.argval for each in dis.get_instructions(code) if each.opname in kinds}
    inner = (part for part in code.co_consts if isinstance(part, types.CodeType))
    return found.union(*map(_written, inner))


def _may_change(value: object) -> bool:
    """Whether a value has parts that code can change in place, such as a count of its calls."""
    parts = _parts_of(value, None) or {}
    return (bool(parts) and not isinstance(value, tuple)) or isinstance(value, np.ndarray)


def _parts_of(value: object, parts: Mapping[Step, set[Path]] | None) -> dict[Step, object] | None:
    """Return the parts that are read of a collection or an object; ``None`` if it has none.

    Args:
        value: The value.
        parts: The steps by which code reads it; ``None`` if it reads all of it.
    """
    if isinstance(value, Mapping):
        found = {Step("key", key): part for key, part in value.items()}
    elif isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        found = {Step("key", i): part for i, part in enumerate(value)}
    elif hasattr(value, "_fields") and isinstance(value, tuple):
        found = {Step("attribute", name): getattr(value, name) for name in value._fields}
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [each.name for each in dataclasses.fields(value)]
        found = {Step("attribute", name): getattr(value, name) for name in names}
    elif isinstance(value, types.SimpleNamespace) or _is_tree(value):
        public = {name: part for name, part in vars(value).items() if not name.startswith("_")}
        found = {Step("attribute", name): part for name, part in public.items()}
    elif parts and not isinstance(value, type) and not is_library_module(type(value).__module__):
        named = {step: _member(value, str(step.name)) for step in parts}
        return {step: part for step, part in named.items() if part is not _ABSENT} or None
    else:
        return None
    if parts is None or not parts.keys() <= found.keys():
        return found
    return {step: found[step] for step in parts}


def _is_tree(value: object) -> bool:
    """Whether JAX sees parts in an object with attributes, such as a distribution of NumPyro."""
    with contextlib.suppress(Exception):  # as of any code of the user
        return hasattr(value, "__dict__") and jax.tree.structure(value) != _LEAF
    return False


def _has_names(inside: Mapping[Step, object] | None) -> bool:
    return any(isinstance(step.name, str) for step in inside or ())


def _member(owner: object, name: str) -> object:
    """Return an attribute of an object, without running code; of a property its function."""
    value = inspect.getattr_static(owner, name, _ABSENT)
    if isinstance(value, property):
        value = value.fget
    elif isinstance(value, functools.cached_property):
        value = value.func
    elif isinstance(value, staticmethod | classmethod):
        return value.__func__
    is_own = isinstance(value, types.FunctionType) and name not in getattr(owner, "__dict__", ())
    return types.MethodType(value, owner) if is_own else value


def _as_code(step: Step) -> str:
    return f".{step.name}" if step.kind == "attribute" else f"[{step.name!r}]"


def _free(name: str, taken: Iterable[str]) -> str:
    """Return a name for another thing of the same name: in a module of a helper, for example."""
    while name in taken:
        name += "'"
    return name


def _plain_name(name: str) -> str:
    return name.rstrip("'")
