"""Whether a traced program draws with random keys that the kernel makes itself."""

from __future__ import annotations

import jax
from jax import random
from jax.extend.core import ClosedJaxpr, Jaxpr
from jaxtyping import PyTree, UInt32

from aimz_lab.data.keys import THREEFRY
from aimz_lab.types import Array

_SCOPE = "keys_of_draws"


def wrapped_keys(key_data: UInt32[Array, "draw words"]) -> jax.Array:
    """Return the keys of a call's draws; :func:`has_own_keys` does not take them for a kernel's."""
    with jax.named_scope(_SCOPE):
        return random.wrap_key_data(key_data, impl=THREEFRY)


def has_own_keys(program: ClosedJaxpr, arguments: PyTree) -> bool:
    """Return whether a program draws with keys that do not follow from those of the draws.

    Args:
        program: The traced program.
        arguments: Its arguments.

    Example:
        >>> def run(key_data):
        ...     return random.normal(wrapped_keys(key_data)[0]) + random.normal(random.key(7))
        >>> data = random.key_data(random.split(random.key(0), 2))
        >>> has_own_keys(jax.make_jaxpr(run)(data), data)
        True
    """
    leaves = [*jax.tree.leaves(arguments), *program.consts]
    return any(map(_is_key, leaves)) or _makes_keys(program.jaxpr)


def _is_key(value: object) -> bool:
    dtype = getattr(value, "dtype", None)
    return dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key)


def _makes_keys(program: Jaxpr) -> bool:
    for equation in program.eqns:
        name = equation.primitive.name
        if name == "random_seed":
            return True
        if name == "random_wrap" and _SCOPE not in str(equation.source_info.name_stack):
            return True
        for inner in jax.tree.leaves(equation.params, is_leaf=_is_program):
            if isinstance(inner, ClosedJaxpr):
                if any(map(_is_key, inner.consts)) or _makes_keys(inner.jaxpr):
                    return True
            elif isinstance(inner, Jaxpr) and _makes_keys(inner):
                return True
    return False


def _is_program(value: object) -> bool:
    return isinstance(value, (ClosedJaxpr, Jaxpr))
