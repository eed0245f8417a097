"""The parts of values that code can read: of collections, objects, classes, partials, handlers."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import inspect
import types
from collections.abc import Iterator, Mapping

import jax
import numpy as np
from numpyro.primitives import Messenger

from aimz_lab.kernel.name_uses import Path, Step
from aimz_lab.kernel.read_code import is_library_module

ABSENT = object()
"""Stands for an attribute that an object does not have."""

_LEAF = jax.tree.structure(0)


def parts_of(value: object, parts: Mapping[Step, set[Path]] | None) -> dict[Step, object] | None:
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
    elif parts and not isinstance(value, enum.Enum) and own_classes(type(value)):
        named = {step: member(value, str(step.name)) for step in parts}
        return {step: part for step, part in named.items() if part is not ABSENT} or None
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


def may_change(value: object) -> bool:
    """Whether a value has parts that code can change in place, such as a count of its calls."""
    parts = parts_of(value, None) or {}
    return (bool(parts) and not isinstance(value, tuple)) or isinstance(value, np.ndarray)


def made_with(value: object) -> Iterator[tuple[str | int, object]]:
    """Yield what partials and handlers hold beside their function, also below ``jit``, by name."""
    seen: set[int] = set()
    while value is not None and id(value) not in seen:
        seen.add(id(value))
        if isinstance(value, functools.partial):
            yield from enumerate(value.args)
            yield from value.keywords.items()
            value = value.func
            continue
        if isinstance(value, Messenger):
            names = vars(value).keys() - {"fn", "trace", "rng_key"}  # the last two change in a run
            for name in sorted(name for name in names if not name.startswith("_")):
                yield name, vars(value)[name]
        value = getattr(value, "__wrapped__", None) or getattr(value, "fn", None)


def own_classes(kind: type) -> list[type]:
    """Return a class and those that it inherits from, without those of libraries."""
    return [base for base in kind.__mro__ if not is_library_module(base.__module__)]


def member(owner: object, name: str) -> object:
    """Return an attribute of an object or a class, without running code."""
    value = inspect.getattr_static(owner, name, ABSENT)
    if isinstance(value, types.MemberDescriptorType) and not isinstance(owner, type):
        return getattr(owner, name, ABSENT)  # a slot
    is_own = not isinstance(owner, type) and name in getattr(owner, "__dict__", ())
    return value if is_own else bound(value, owner)


def bound(value: object, owner: object) -> object:
    """Return a part of a class as its object has it; of a property its function."""
    if isinstance(value, property):
        value = value.fget
    elif isinstance(value, functools.cached_property):
        value = value.func
    elif isinstance(value, staticmethod):
        return value.__func__
    elif isinstance(value, classmethod):
        value, owner = value.__func__, owner if isinstance(owner, type) else type(owner)
    return types.MethodType(value, owner) if isinstance(value, types.FunctionType) else value
