"""What a function reads beside its arguments, as a value that is another one once it changes.

JAX traces a function once and keeps the program. Global names, closures, defaults, attributes and
helper functions are read while it is traced, so that a program is right only as long as all of
these are what they were. In doubt a value counts as another one: a program that is compiled again
costs time, one that is out of date gives wrong numbers.
"""

from __future__ import annotations

import collections
import dis
import enum
import functools
import os
import sys
import sysconfig
import types
import weakref
import zlib
from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpyro.infer import MCMC, SVI

SMALL_BYTES = 2**14
"""Arrays up to this size are compared by content, larger ones by a checksum."""

MOST_PARTS = 200_000
"""Parts of the values that a function reads, at most; with more, every reading is a new one."""

_SCALARS = (bool, int, str, bytes, complex, type(None), type(...), range, np.dtype)

_NUMBERS_AND_TEXT = (int, float, complex, str, bytes)

_WHOLE = {"__dict__", "asdict", "astuple", "getattr", "vars"}
"""Names by which code may read an attribute that it does not name."""

_NEVER_TRACED = {"__repr__", "__str__", "__reduce__", "__del__", "__getstate__", "__setstate__"}

_PLACES = tuple(
    f"{Path(place).resolve()}{os.sep}"
    for place in {
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        str(Path(__file__).parents[1]),
    }
)
_BY_IDENTITY = ("aimz_lab.", "numpyro.infer.", "jaxlib.")

Part = Hashable
"""The fingerprint of one value."""


class Same:
    """Stands for an object that is compared by its identity; it keeps the object alive.

    Attributes:
        of: The object.
    """

    __slots__ = ("of",)

    def __init__(self, of: object) -> None:
        self.of = of

    def __hash__(self) -> int:
        return id(self.of)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.of is self.of


def fingerprint(function: Callable) -> Part:
    """Return a fingerprint of a function and of all that it reads.

    Where a helper function reads another value than at the last call, JAX's own traces of it (of
    ``jax.jit`` and of the bodies of ``lax.scan`` and ``lax.cond``) are dropped too.

    Args:
        function: A function, a method, a ``partial``, or an object that can be called.

    Returns:
        A hashable value, equal to that of another call as long as nothing read has changed: numbers
        and text by value, containers and objects by content, arrays by content or checksum, JAX's
        arrays and other immutable objects by identity. Functions outside of installed libraries
        are read in turn.

    Example:
        >>> size = 1
        >>> def kernel(X): return X * size
        >>> before = fingerprint(kernel)
        >>> before == fingerprint(kernel)
        True
        >>> size = 2
        >>> before == fingerprint(kernel)
        False
    """
    code = getattr(function, "__code__", None)
    attributes = _ATTRIBUTES.get(code, set())
    known = -1
    while known < len(attributes):  # code that is found late may name more attributes
        known = len(attributes)
        reading = _Reading(attributes, _package_of(function))
        found = reading.of(function)
    if code is not None:
        _ATTRIBUTES[code] = attributes
    own = getattr(function, "__func__", function)
    helpers = [(helper, part) for helper, part in reading.helpers if helper is not own]
    if any(_LAST_READ.get(helper, part) != part for helper, part in helpers):
        jax.clear_caches()
    _LAST_READ.update(helpers)
    return object() if reading.parts > MOST_PARTS else found


def forget_outdated_traces(function: Callable) -> None:
    """Let JAX trace helpers of a function again if they read other values than the last time."""
    fingerprint(function)


_LAST_READ: weakref.WeakKeyDictionary[types.FunctionType, Part] = weakref.WeakKeyDictionary()
"""The last fingerprint of each helper function: JAX's traces of it are of that."""


_ATTRIBUTES: dict[types.CodeType, set[str]] = {}
"""Names of the attributes that were found the last time, by the code of a function."""


class _Reading:
    """Reads values, and the code among them.

    Args:
        attributes: Names of the attributes that code reads; grows as code is found.
        home: The package of the function; it is read also where it is installed.

    Attributes:
        helpers: The functions found, with their fingerprints.
        parts: Number of values read.
    """

    def __init__(self, attributes: set[str], home: str | None) -> None:
        self.helpers: list[tuple[types.FunctionType, Part]] = []
        self.parts = 0
        self._attributes = attributes
        self._home = home
        # With the values: an id is an object's own only as long as the object lives.
        self._done: dict[int, tuple[Any, Part]] = {}
        self._open: dict[int, int] = {}

    def of(self, value: Any) -> Part:
        """The fingerprint of a value."""
        kind = type(value)
        if kind is float:
            return kind, value.hex()
        if kind in _SCALARS:
            return kind, value
        at = id(value)
        if at in self._done:
            return self._done[at][1]
        if at in self._open:
            return "cycle", self._open[at]
        self.parts += 1
        if self.parts > MOST_PARTS:
            return None
        self._open[at] = len(self._open)
        read = _READER_OF.get(kind) or self._choose_reader(value, kind)
        try:
            part = read(self, value)
        except Exception:  # noqa: BLE001  an object of anyone's making: it may have changed
            part = object()
        del self._open[at]
        self._done[at] = value, part
        return part

    def _choose_reader(self, value: Any, kind: type) -> Callable[[_Reading, Any], Part]:
        found = (reader for types_, reader in self._readers if isinstance(value, types_))
        reader = next(found, _Reading._other)
        _READER_OF[kind] = reader
        return reader

    def _other(self, value: Any) -> Part:
        kind = type(value)
        wrapped = getattr(value, "__wrapped__", None)
        if callable(wrapped):  # jax.jit, functools.cache
            return Same(value), self.of(wrapped)
        if hasattr(value, "__array__"):
            return self._table(value)
        if _module_of(kind).startswith(_BY_IDENTITY):
            return Same(value)
        return self._object(value, kind)

    def _many(self, values: Iterable[Any]) -> Part:
        return tuple([self.of(value) for value in values])

    def _mapping(self, value: Mapping) -> Part:
        return type(value), self._many(value), self._many(value.values()), self._named(value)

    def _sequence(self, value: Iterable[Any]) -> Part:
        return type(value), self._many(value), self._named(value)

    def _set(self, value: Iterable[Any]) -> Part:
        return type(value), frozenset(self.of(one) for one in value)

    def _scalar(self, value: Any) -> Part:
        base = next(base for base in _NUMBERS_AND_TEXT if isinstance(value, base))
        return type(value), base.__repr__(value), self._named(value)

    def _array(self, value: np.ndarray) -> Part:
        if value.dtype.hasobject:
            return "array", value.shape, self._many(value.ravel().tolist())
        content = value.tobytes() if value.nbytes <= SMALL_BYTES else _checksum(value)
        return "array", value.shape, value.dtype.str, content

    def _table(self, value: Any) -> Part:
        """A data frame, a series or a labelled array: its values and its labels."""
        columns = getattr(value, "columns", None)
        if columns is None or not hasattr(value, "dtypes"):
            parts = [np.asarray(value)]
        else:
            parts = [np.asarray(column) for _, column in value.items()]
        labels = [getattr(value, name, None) for name in ("columns", "name", "index")]
        labels += [np.asarray(one) for one in getattr(value, "coords", {}).values()]
        return type(value), self._many([*parts, *map(_plain, labels)])

    def _module(self, value: types.ModuleType) -> Part:
        """The attributes of a module that code names."""
        own = vars(value)
        names = [name for name in self._attributes if name in own and name != "__dict__"]
        return frozenset([(name, self.of(own[name])) for name in names])

    def _function(self, value: types.FunctionType) -> Part:
        code = value.__code__
        if _is_library(code.co_filename) and _package_of(value) != self._home:
            return Same(value)
        names, imported, attributes = _names_in(code)
        self._attributes |= attributes
        own = value.__globals__
        part = (
            code,
            self._many([own[name] for name in names if name in own]),
            self._many([sys.modules[name] for name in imported if name in sys.modules]),
            self._many(_contents(value.__closure__ or ())),
            self.of(value.__defaults__),
            self.of(value.__kwdefaults__),
            self._many(value.__dict__.values()),
        )
        self.helpers.append((value, part))
        return part

    def _method(self, value: types.MethodType) -> Part:
        return self.of(value.__func__), self.of(value.__self__)

    def _partial(self, value: functools.partial) -> Part:
        return self._many((value.func, value.args, value.keywords))

    def _descriptor(self, value: Any) -> Part:
        names = ("fget", "__func__", "func")
        return self._many([getattr(value, name, None) for name in names])

    def _class(self, value: type) -> Part:
        """The attributes of a user's class that code names, and what Python calls by itself."""
        if issubclass(value, enum.Enum) or _is_library_module(value.__module__):
            return Same(value)
        own = [(name, part) for name, part in vars(value).items() if self._may_read(name, part)]
        bases = self._many(base for base in value.__bases__ if base is not object)
        return value.__qualname__, tuple([(name, self.of(part)) for name, part in own]), bases

    def _may_read(self, name: str, part: Any) -> bool:
        if name.startswith("__"):
            return isinstance(part, types.FunctionType) and name not in _NEVER_TRACED
        return name in self._attributes

    def _object(self, value: Any, kind: type) -> Part:
        """Another object: its attributes, or its identity if it has none."""
        names = [
            name for base in kind.__mro__ for name in _as_names(base.__dict__.get("__slots__", ()))
        ]
        own = {name: getattr(value, name) for name in names if hasattr(value, name)}
        own |= getattr(value, "__dict__", {})
        if not own and not names and not hasattr(value, "__dict__"):
            try:
                return kind, memoryview(value).tobytes()
            except TypeError:
                return Same(value)
        return self.of(kind), self._named(value, own)

    def _named(self, value: Any, own: Mapping[str, Any] | None = None) -> Part:
        """Attributes of an object. Of a user's class only those that code names."""
        own = getattr(value, "__dict__", None) if own is None else own
        if not own:
            return ()
        plain = not _is_library_module(type(value).__module__)
        if plain and not hasattr(value, "__dataclass_fields__") and not _WHOLE & self._attributes:
            own = {name: part for name, part in own.items() if name in self._attributes}
        return tuple(own), self._many(own.values())

    _readers = (
        (jax.Array, lambda _, value: Same(value)),
        (types.FunctionType, _function),
        (types.ModuleType, _module),
        ((types.BuiltinFunctionType, np.ufunc, np.random.Generator), lambda _, value: Same(value)),
        (type, _class),
        (types.MethodType, _method),
        ((enum.Enum, SVI, MCMC), lambda _, value: Same(value)),
        (functools.partial, _partial),
        ((property, staticmethod, classmethod, functools.cached_property), _descriptor),
        (np.ndarray, _array),
        (np.generic, lambda _, value: (value.dtype.str, value.tobytes())),
        (Mapping, _mapping),
        (_NUMBERS_AND_TEXT, _scalar),
        ((list, tuple, collections.deque), _sequence),
        ((set, frozenset), _set),
        (bytearray, lambda _, value: bytes(value)),
    )


_READER_OF: dict[type, Callable[[_Reading, Any], Part]] = {}
"""The reader of each type met so far."""


def _checksum(array: np.ndarray) -> Part:
    """A checksum that a change of a single entry, or of the order, changes."""
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    whole = data.size - data.size % 8192
    lanes = data[:whole].view(np.uint64).reshape(-1, 1024).sum(axis=0, dtype=np.uint64)
    return zlib.crc32(data[whole:].tobytes(), zlib.crc32(lanes.tobytes()))


def _plain(labels: Any) -> Any:
    return np.asarray(labels) if hasattr(labels, "__array__") else labels


def _contents(cells: Iterable[types.CellType]) -> list[Any]:
    found = []
    for cell in cells:
        try:
            found.append(cell.cell_contents)
        except ValueError:  # not assigned yet
            found.append(None)
    return found


def _as_names(slots: str | Iterable[str]) -> list[str]:
    names = [slots] if isinstance(slots, str) else list(slots)
    return [name for name in names if name not in ("__dict__", "__weakref__")]


def _module_of(kind: type) -> str:
    return f"{getattr(kind, '__module__', '')}."


def _package_of(function: Callable) -> str | None:
    """The package that a function comes from; ``None`` for other callables."""
    function = getattr(function, "__func__", function)
    if not isinstance(function, types.FunctionType):
        return None
    return str(function.__module__).partition(".")[0]


@functools.lru_cache(maxsize=4096)
def _names_in(
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
    attributes |= texts | (_WHOLE & names.keys())
    if "globals" in names:
        names |= dict.fromkeys(sorted(texts))
    for part in code.co_consts:
        if isinstance(part, types.CodeType):
            inner = _names_in(part)
            names |= dict.fromkeys(inner[0])
            imported |= dict.fromkeys(inner[1])
            attributes |= inner[2]
    return tuple(names), tuple(imported), frozenset(attributes)


@functools.lru_cache(maxsize=4096)
def _is_library(filename: str) -> bool:
    """Whether a file belongs to Python, to an installed package, or to this one."""
    if filename.startswith("<frozen"):
        return True
    path = Path(filename)
    if "site-packages" in path.parts or "dist-packages" in path.parts:
        return True
    return path.is_absolute() and str(path.resolve()).startswith(_PLACES)


def _is_library_module(name: str) -> bool:
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if file is None:  # built in, or typed at a prompt
        return name in sys.builtin_module_names
    return _is_library(file)
