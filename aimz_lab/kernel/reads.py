"""A fingerprint of all that a function reads beside its arguments; it changes when that does.

JAX traces a function once and keeps the program. Global names, closures, defaults, attributes and
helper functions are read while it is traced, so that a program is right only as long as all of
these are what they were. In doubt a value counts as changed: to compile a program again costs
time, and an outdated one gives wrong numbers.
"""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable

import jax
from numpyro import primitives

from aimz_lab.kernel.read_code import package_of
from aimz_lab.kernel.read_parts import Part
from aimz_lab.kernel.read_values import MOST_PARTS, Reading

Sight = tuple[frozenset[str], str | None]
"""What of a value is read: the attributes that code names, and the package read as the user's."""

_LAST_READ: weakref.WeakKeyDictionary[types.FunctionType, dict[Sight, Part]] = (
    weakref.WeakKeyDictionary()
)
"""The last fingerprints of each helper function: JAX traced it under these.

Kernels that share a helper name different attributes, of NumPyro's modules for example, so that
each of them has another fingerprint of it.
"""

_MOST_SIGHTS = 8
"""Most fingerprints that are kept of a helper function."""

_CONFIG = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_numpy_dtype_promotion",
    "jax_threefry_partitionable",
)
"""Settings of JAX under which the same code computes other numbers."""

_ATTRIBUTES: dict[types.CodeType, set[str]] = {}
"""Names of the attributes that were found the last time, by the code of a function."""


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
        are read in turn, and so are NumPyro's handlers around the call, and JAX's settings.

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
    home = package_of(function)
    known = -1
    while known < len(attributes):  # code that is found late may name more attributes
        known = len(attributes)
        reading = Reading(attributes, home)
        found = reading.of(function), reading.of(list(primitives._PYRO_STACK)), _config()
    if code is not None:
        _ATTRIBUTES[code] = attributes
    own = getattr(function, "__func__", function)
    helpers = [(helper, part) for helper, part in reading.helpers if helper is not own]
    _drop_outdated_traces(helpers, (frozenset(attributes), home))
    return object() if reading.parts > MOST_PARTS else found


def _config() -> tuple[Part, ...]:
    return tuple(getattr(jax.config, name, None) for name in _CONFIG)


def _drop_outdated_traces(helpers: list[tuple[types.FunctionType, Part]], sight: Sight) -> None:
    outdated = False
    for helper, part in helpers:
        known = _LAST_READ.setdefault(helper, {})
        if sight in known:
            changed = known[sight] != part
        else:  # another kernel's: has anything changed of what the kernels before it saw?
            changed = len(known) >= _MOST_SIGHTS or any(
                Reading(set(names), home).of(helper) != before
                for (names, home), before in known.items()
            )
        if changed:
            known.clear()
            outdated = True
        known[sight] = part
    if outdated:
        jax.clear_caches()


def forget_outdated_traces(function: Callable) -> None:
    """Let JAX trace helpers of a function again if they read other values than the last time."""
    fingerprint(function)
