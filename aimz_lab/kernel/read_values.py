"""Fingerprints of values of any type: by content where it may change, else by identity.

A function counts as a value too. Its fingerprint holds those of all that its code reads.
"""

from __future__ import annotations

import collections
import enum
import functools
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from numpyro.infer import MCMC, SVI
from numpyro.infer.reparam import LocScaleReparam

from aimz_lab.kernel.read_code import (
    WHOLE,
    contents_of,
    is_library,
    is_library_module,
    names_in,
    package_of,
)
from aimz_lab.kernel.read_parts import Part, Same, content_of

MOST_PARTS = 200_000
"""Most values that are read of a function; where there are more, each fingerprint is a new one."""

_SCALARS = (bool, int, str, bytes, complex, type(None), type(...), range, np.dtype)

_NUMBERS_AND_TEXT = (int, float, complex, str, bytes)

_NEVER_TRACED = {"__repr__", "__str__", "__reduce__", "__del__", "__getstate__", "__setstate__"}

_BY_IDENTITY = ("aimz_lab.", "numpyro.infer.", "jaxlib.")


class Reading:
    """Reads values, and the code among them.

    Args:
        attributes: Names of the attributes that code reads; grows as code is found.
        home: The package of the function; its code is read even if it is installed as a library.

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

    def _choose_reader(self, value: Any, kind: type) -> Callable[[Reading, Any], Part]:
        found = (reader for types_, reader in self._readers if isinstance(value, types_))
        reader = next(found, Reading._other)
        _READER_OF[kind] = reader
        return reader

    def _other(self, value: Any) -> Part:
        kind = type(value)
        wrapped = getattr(value, "__wrapped__", None)
        if callable(wrapped):  # jax.jit, functools.cache, NumPyro's handlers
            return Same(value), self.of(wrapped), self.of(kind), self._named(value)
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
        return "array", value.shape, value.dtype.str, content_of(value)

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
        if is_library(code.co_filename) and package_of(value) != self._home:
            return Same(value)
        names, imported, attributes = names_in(code)
        self._attributes |= attributes
        own = value.__globals__
        part = (
            code,
            self._many([own[name] for name in names if name in own]),
            self._many([sys.modules[name] for name in imported if name in sys.modules]),
            self._many(contents_of(value.__closure__ or ())),
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
        if issubclass(value, enum.Enum) or is_library_module(value.__module__):
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
        plain = not is_library_module(type(value).__module__)
        if plain and not hasattr(value, "__dataclass_fields__") and not WHOLE & self._attributes:
            own = {name: part for name, part in own.items() if name in self._attributes}
        return tuple(own), self._many(own.values())

    _readers = (
        (jax.Array, lambda _, value: Same(value)),
        (types.FunctionType, _function),
        (types.ModuleType, _module),
        ((types.BuiltinFunctionType, np.ufunc, np.random.Generator), lambda _, value: Same(value)),
        (type, _class),
        (types.MethodType, _method),
        (LocScaleReparam, lambda reading, value: reading._object(value, type(value))),
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


_READER_OF: dict[type, Callable[[Reading, Any], Part]] = {}
"""The reader of each type met so far."""


def _plain(labels: Any) -> Any:
    return np.asarray(labels) if hasattr(labels, "__array__") else labels


def _as_names(slots: str | Iterable[str]) -> list[str]:
    names = [slots] if isinstance(slots, str) else list(slots)
    return [name for name in names if name not in ("__dict__", "__weakref__")]


def _module_of(kind: type) -> str:
    return f"{getattr(kind, '__module__', '')}."
