"""Follow a traced program and collect its lookups, each with what its index is made of.

The program runs under another trace, so that nothing is computed here. Lookups within loops and
branches are collected too: a loop gives them back for all of its steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal, Var
from jax.typing import ArrayLike

from aimz_lab.kernel.rows.index_bounds import bounds_after, bounds_of_call, bounds_of_sorted
from aimz_lab.kernel.rows.jaxprs import inner_programs, is_call
from aimz_lab.kernel.rows.latents import LATENT_CALLS
from aimz_lab.kernel.rows.lookups import (
    DRAWN,
    LATENT,
    OWN,
    Lookup,
    Value,
    is_drawn,
    lookups_of,
    lookups_of_one_hot,
    losses_of,
)
from aimz_lab.kernel.rows.loops import LOOPS, bind, looks_up, losses_through, names_of

_REMEMBERED = ("add", "clamp", "concatenate", "lt")
"""The primitives whose operands say something about an index."""

_MOVES = ("broadcast_in_dim", "copy", "expand_dims", "reshape", "squeeze", "transpose")
"""The primitives that keep all numbers of their only operand."""

_IN_RANGE = frozenset(
    {
        "_interp",
        "_roll_dynamic",
        "_unique_sorted_mask",
        "diagonal",
        "nanquantile",
        "quantile",
        "searchsorted",
    }
)
"""Functions of JAX that look up with indices which they made themselves."""


class Follower:
    """Runs programs and collects their lookups.

    Args:
        n_rows: Number of rows: an array in the code of the kernel that has as many entries is taken
            for data.

    Attributes:
        lookups: The lookups so far.
    """

    def __init__(self, n_rows: int) -> None:
        self.lookups: list[Lookup] = []
        self._n_rows = n_rows
        self._within: list[str] = []
        self._is_trusted = False

    def run(self, program: ClosedJaxpr, inputs: Sequence[Value]) -> list[Value]:
        """Run a program; return its results."""
        jaxpr = program.jaxpr
        constants = map(self._constant, program.consts)
        found: dict[Var, Value] = dict(zip(jaxpr.invars, inputs, strict=True))
        found.update(zip(jaxpr.constvars, constants, strict=True))

        def look_up(atom: Var | Literal) -> Value:
            if isinstance(atom, Literal):
                return Value(atom.val, name="literal")
            return found[atom]

        for equation in jaxpr.eqns:
            if equation.effects and not equation.outvars:
                continue  # prints and the like
            results = self._equation(equation, [look_up(atom) for atom in equation.invars])
            found.update(zip(equation.outvars, results, strict=True))
        return [look_up(atom) for atom in jaxpr.outvars]

    def _constant(self, value: ArrayLike) -> Value:
        """An array in the code of the kernel, such as a global one."""
        is_data = np.ndim(value) > 0 and np.shape(value)[0] == self._n_rows > 1
        return Value(value, frozenset([OWN]) if is_data else frozenset())

    def _equation(self, equation: JaxprEqn, inputs: list[Value]) -> list[Value]:
        name = equation.primitive.name
        if is_call(equation):
            return self._call(equation, inputs)
        if not self._is_trusted:
            self.lookups += lookups_of(equation, inputs)
            if name in LOOPS and any(map(looks_up, inner_programs(equation))):
                return LOOPS[name](self, equation, inputs)
        if name == "select_n" and (raw := self._before_wrapping(inputs)) is not None:
            return [raw]
        values = bind(equation, inputs)
        results = [
            Value(value, names_of(inputs), losses=losses_through(inputs)) for value in values
        ]
        if name in ("sort", "top_k"):
            pairs = zip(results, bounds_of_sorted(name, inputs, values), strict=True)
            return [replace(result, bounds=bounds) for result, bounds in pairs]
        if len(results) == 1:
            bounds = bounds_after(equation, inputs, bind, results[0].value)
            results[0] = self._described(equation, inputs, replace(results[0], bounds=bounds))
        return results

    def _described(self, equation: JaxprEqn, inputs: list[Value], result: Value) -> Value:
        """Add to a value what matters if it becomes an index."""
        name = equation.primitive.name
        if name in _REMEMBERED:
            result = replace(result, name=name, made_of=tuple(inputs))
        moved = name in _MOVES or (name == "convert_element_type" and _is_exact(*inputs, result))
        if moved and len(inputs) == 1:
            [same] = inputs
            counts = "cumsum" if same.name == "cumsum" else ""
            ends = same.from_the_end
            return replace(result, leaf=same.leaf, from_the_end=ends, name=counts)
        if name in ("gather", "dynamic_slice") and _is_by_chance(names_of(inputs[1:])):
            return replace(result, leaf=inputs[0].leaf)  # any entry of a table may be drawn
        if name == "convert_element_type" and inputs[0].from_the_end:
            result = replace(result, from_the_end=True)
        if name in ("convert_element_type", "add", "sub", "mul", "neg"):
            lost = list(losses_of(equation, inputs, result.value))
            self.lookups += lost
            result = replace(result, losses=result.losses.union(lost))
        return result

    def _before_wrapping(self, inputs: list[Value]) -> Value | None:
        """An index before JAX counts it from the end: the ``i`` of ``where(i < 0, i + n, i)``.

        A kernel that writes this itself, or whose index is a constant, means it.
        """
        if len(inputs) != 3 or not inputs[1].names:
            return None
        negative, index, wrapped = inputs
        if wrapped.name != "add" or wrapped.made_of[0] is not index:
            return None
        if negative.name == "lt":
            is_sign = negative.made_of[0] is index
        else:  # JAX computes the sign of an array in the kernel's code at once
            sign = negative.value, index.value
            is_sign = not any(isinstance(value, jax.core.Tracer) for value in sign)
            is_sign = is_sign and np.array_equal(np.asarray(sign[0]), np.asarray(sign[1]) < 0)
        said = self._within[-1:] == ["_where"] and self._within[-2:-1] != ["_take"]
        return replace(index, from_the_end=True) if is_sign and not said else None

    def _call(self, equation: JaxprEqn, inputs: list[Value]) -> list[Value]:
        name = equation.params.get("name", "")
        if name in LATENT_CALLS:
            return [_latent(name, inputs)]
        if name == "_one_hot":
            self.lookups += lookups_of_one_hot(inputs[0], equation.outvars[0].aval.shape)
        [inner] = inner_programs(equation)
        trusted, self._is_trusted = self._is_trusted, self._is_trusted or _is_in_range(name, inner)
        self._within.append(name)
        results = self.run(inner, inputs)
        self._within.pop()
        self._is_trusted = trusted
        own = _is_of_jax(inner)
        if own and (bounds := bounds_of_call(name, inputs)) is not None:
            return [replace(results[0], bounds=bounds)]
        if own and name == "searchsorted" and is_drawn(results[0].names):
            entries, found = np.shape(inputs[0].value)[-1], results[0].value
            return [
                replace(results[0], bounds=(jnp.zeros_like(found), jnp.full_like(found, entries)))
            ]
        # The number of true entries so far, perhaps clipped: the index of jnp.nonzero.
        if name == "cumsum" or (name == "clip" and inputs[0].name == "cumsum"):
            return [replace(result, name="cumsum") for result in results]
        return results

    @contextmanager
    def apart(self) -> Iterator[list[Lookup]]:
        """Collect the lookups of a part of the program apart from the others."""
        before, self.lookups = self.lookups, []
        try:
            yield self.lookups
        finally:
            self.lookups = before


def _latent(name: str, inputs: list[Value]) -> Value:
    """A latent value that is marked with the bounds of its support."""
    value, *sides = inputs
    known = zip(LATENT_CALLS[name], sides, strict=True)
    low, high = (side.value if is_known else None for is_known, side in known)
    return Value(value.value, frozenset([LATENT]), bounds=(low, high))


def _is_by_chance(names: frozenset[str]) -> bool:
    """Whether a value follows from draws alone that are not known."""
    return bool(names) and names <= {DRAWN, LATENT}


def _is_in_range(name: str, program: ClosedJaxpr) -> bool:
    """Whether a program is a function of JAX that makes its own indices."""
    return name in _IN_RANGE and _is_of_jax(program)


def _is_of_jax(program: ClosedJaxpr) -> bool:
    """Whether a program is a function of JAX itself."""
    return "_src" in str(getattr(program.jaxpr.debug_info, "func_src_info", ""))


def _is_exact(before: Value, after: Value) -> bool:
    """Whether a cast keeps every number."""
    kinds = jnp.result_type(before.value), jnp.result_type(after.value)
    return np.can_cast(*kinds) and kinds[1] != np.bool_
