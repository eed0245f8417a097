"""Run a traced program again, following which arguments each value depends on.

The program runs under another trace, so that nothing is computed here. Lookups within loops and
branches are collected too: a loop gives them back for all of its steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal, Var
from jax.typing import ArrayLike

from aimz_lab.kernel.rows.jaxprs import inner_programs, is_call
from aimz_lab.kernel.rows.lookups import (
    Lookup,
    Value,
    losses_of,
    lookups_of,
    lookups_of_one_hot,
)

_REMEMBERED = ("add", "clamp", "concatenate", "lt")
"""The primitives whose operands say something about an index."""

_MOVES = ("broadcast_in_dim", "copy", "expand_dims", "reshape", "squeeze", "transpose")
"""The primitives that keep all numbers of their only operand."""

_LOOKS_UP = ("gather", "scatter", "dynamic_slice", "dynamic_update_slice", "clamp")
"""The primitives that look up, or begin a choice among branches."""

_IN_RANGE = frozenset({"searchsorted", "_searchsorted", "nonzero", "bincount", "_bincount"})
"""Functions of JAX that look up on their own account, with indices that they made."""


class Follower:
    """Runs programs and collects their lookups.

    Attributes:
        lookups: The lookups so far.
    """

    def __init__(self) -> None:
        self.lookups: list[Lookup] = []
        self._within: list[str] = []

    def run(self, program: ClosedJaxpr, inputs: Sequence[Value]) -> list[Value]:
        """Run a program; return its results."""
        jaxpr = program.jaxpr
        found: dict[Var, Value] = dict(zip(jaxpr.invars, inputs, strict=True))
        found |= {var: Value(value) for var, value in zip(jaxpr.constvars, program.consts, strict=True)}

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

    def _equation(self, equation: JaxprEqn, inputs: list[Value]) -> list[Value]:
        name = equation.primitive.name
        if is_call(equation):
            return self._call(equation, inputs)
        if not _IN_RANGE.intersection(self._within):
            self.lookups += lookups_of(equation, inputs)
            if name in _LOOPS and any(map(_looks_up, inner_programs(equation))):
                return _LOOPS[name](self, equation, inputs)
        if name == "select_n" and (raw := self._before_wrapping(inputs)) is not None:
            return [raw]
        values = _bind(equation, inputs)
        results = [Value(value, _names(inputs), losses=_losses(inputs)) for value in values]
        if len(results) == 1:
            results[0] = self._described(equation, inputs, results[0])
        return results

    def _described(self, equation: JaxprEqn, inputs: list[Value], result: Value) -> Value:
        """Add to a value what matters if it becomes an index."""
        name = equation.primitive.name
        if name in _REMEMBERED:
            result = replace(result, name=name, made_of=tuple(inputs))
        moved = name in _MOVES or (name == "convert_element_type" and _is_exact(*inputs, result))
        if moved and len(inputs) == 1:
            result = replace(result, leaf=inputs[0].leaf, from_the_end=inputs[0].from_the_end)
            return result
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
        if len(inputs) != 3:
            return None
        negative, index, wrapped = inputs
        if not index.names or negative.name != "lt" or wrapped.name != "add":
            return None
        if negative.made_of[0] is not index or wrapped.made_of[0] is not index:
            return None
        if self._within[-1:] == ["_where"] and self._within[-2:-1] != ["_take"]:
            return None
        return replace(index, from_the_end=True)

    def _call(self, equation: JaxprEqn, inputs: list[Value]) -> list[Value]:
        name = equation.params.get("name", "")
        if name == "_one_hot":
            self.lookups += lookups_of_one_hot(inputs[0], equation.outvars[0].aval.shape)
        [inner] = inner_programs(equation)
        self._within.append(name)
        try:
            return self.run(inner, inputs)
        finally:
            self._within.pop()

    @contextmanager
    def _apart(self) -> Iterator[list[Lookup]]:
        """Collect the lookups of a part of the program apart from the others."""
        before, self.lookups = self.lookups, []
        try:
            yield self.lookups
        finally:
            self.lookups = before

    def _scan(self, equation: JaxprEqn, inputs: list[Value]) -> list[Value]:
        """Run a scan, with the indices of its steps as further results."""
        [body] = inner_programs(equation)
        into = zip(equation.invars, body.jaxpr.invars, strict=True)
        out = zip(equation.outvars, body.jaxpr.outvars, strict=True)
        n_scanned = sum(outer.aval.ndim > inner.aval.ndim for outer, inner in into)
        n_carry = sum(outer.aval.ndim == inner.aval.ndim for outer, inner in out)
        n_fixed = len(inputs) - n_carry - n_scanned
        fixed, scanned = inputs[:n_fixed], inputs[n_fixed + n_carry :]
        names, results_names = _names_in_loop(body, inputs, n_fixed, n_carry)
        collected: list[Lookup] = []

        def step(carry: list, row: list) -> tuple[list, tuple[list, list]]:
            state = map(Value, carry, names)
            each = [replace(value, value=one) for value, one in zip(scanned, row, strict=True)]
            with self._apart() as lookups:
                values = [result.value for result in self.run(body, [*fixed, *state, *each])]
            collected[:] = lookups
            return values[:n_carry], (values[n_carry:], _indices(lookups))

        carry, (rows, indices) = jax.lax.scan(
            step,
            _as_in(body, n_fixed, inputs[n_fixed : n_fixed + n_carry]),
            [value.value for value in scanned],
            length=equation.params["length"],
            reverse=equation.params["reverse"],
        )
        self.lookups += _replaced(collected, indices)
        return list(map(Value, [*carry, *rows], results_names))

    def _while(self, equation: JaxprEqn, inputs: list[Value]) -> list[Value]:
        """Run a loop, with the least and the greatest of each index in its state."""
        test, body = inner_programs(equation)
        n_test, n_fixed = equation.params["cond_nconsts"], equation.params["body_nconsts"]
        tested, inputs = inputs[:n_test], [replace(value, leaf=None) for value in inputs[n_test:]]
        fixed, n_carry = inputs[:n_fixed], len(inputs) - n_fixed
        names, _ = _names_in_loop(body, inputs, n_fixed, n_carry)
        collected: list[Lookup] = []

        def goes_on(state: tuple[list, list]) -> ArrayLike:
            with self._apart():
                return self.run(test, [*tested, *map(Value, state[0], names)])[0].value

        def step(state: tuple[list, list]) -> tuple[list, list]:
            carry, ranges = state
            with self._apart() as lookups:
                results = self.run(body, [*fixed, *map(Value, carry, names)])
            collected[:] = lookups
            now = [jnp.stack([index.min(), index.max()]) for index in _indices(lookups)]
            if not ranges:  # the first trace, which finds out what there is
                return carry, now
            both = zip(ranges, now, strict=True)
            wider = [jnp.where(_LOW_HIGH, jnp.minimum(a, b), jnp.maximum(a, b)) for a, b in both]
            return [result.value for result in results], wider

        carry = _as_in(body, n_fixed, inputs[n_fixed:])
        shapes = jax.eval_shape(lambda carry: step((carry, []))[1], carry)
        ranges = [jnp.zeros(each.shape, each.dtype) for each in shapes]
        carry, ranges = jax.lax.while_loop(goes_on, step, (carry, ranges))
        self.lookups += _replaced(collected, ranges)
        return list(map(Value, carry, names))

    def _branches(self, equation: JaxprEqn, inputs: list[Value]) -> list[Value]:
        """Run all branches; indices of those not taken become 0."""
        which = jnp.asarray(inputs[0].value).astype(np.int32)
        given = [replace(value, leaf=None) for value in inputs[1:]]
        for number, branch in enumerate(inner_programs(equation)):
            with self._apart() as lookups:
                self.run(branch, given)
            taken = [jnp.where(which == number, index, 0) for index in _indices(lookups)]
            self.lookups += _replaced(lookups, taken)
        names, losses = _names(inputs), _losses(inputs)
        return [Value(value, names, losses=losses) for value in _bind(equation, inputs)]


_LOOPS = {"scan": Follower._scan, "while": Follower._while, "cond": Follower._branches}

_LOW_HIGH = np.array([True, False])


def _bind(equation: JaxprEqn, inputs: list[Value]) -> list[ArrayLike]:
    params = equation.primitive.get_bind_params(equation.params)
    result = equation.primitive.bind(*(each.value for each in inputs), **params)
    return list(result) if equation.primitive.multiple_results else [result]


def _names(inputs: Iterable[Value]) -> frozenset[str]:
    return frozenset[str]().union(*(each.names for each in inputs))


def _losses(inputs: Iterable[Value]) -> frozenset[Lookup]:
    return frozenset[Lookup]().union(*(each.losses for each in inputs))


def _names_in_loop(
    body: ClosedJaxpr, inputs: list[Value], n_fixed: int, n_carry: int
) -> tuple[list[frozenset[str]], list[frozenset[str]]]:
    """The arguments that the state of a loop depends on, and those of its results."""
    names = [value.names for value in inputs]
    state = slice(n_fixed, n_fixed + n_carry)
    for _ in range(n_carry + 1):
        results = _names_through(body, names)
        wider = [a | b for a, b in zip(names[state], results[:n_carry], strict=True)]
        if wider == names[state]:
            break
        names[state] = wider
    return names[state], [*names[state], *results[n_carry:]]


def _names_through(program: ClosedJaxpr, names: Sequence[frozenset[str]]) -> list[frozenset[str]]:
    """The arguments that each result of a program depends on."""
    nothing = frozenset[str]()
    found = dict(zip(program.jaxpr.invars, names, strict=True))

    def look_up(atom: Var | Literal) -> frozenset[str]:
        return nothing if isinstance(atom, Literal) else found.get(atom, nothing)

    for equation in program.jaxpr.eqns:
        into = [look_up(atom) for atom in equation.invars]
        if is_call(equation):
            out = _names_through(inner_programs(equation)[0], into)
        else:
            out = [nothing.union(*into)] * len(equation.outvars)
        found.update(zip(equation.outvars, out, strict=True))
    return [look_up(atom) for atom in program.jaxpr.outvars]


def _looks_up(program: ClosedJaxpr) -> bool:
    """Whether anything in a program may be a lookup."""
    return any(
        equation.primitive.name.startswith(_LOOKS_UP)
        or equation.params.get("name") == "_one_hot"
        or any(map(_looks_up, inner_programs(equation)))
        for equation in program.jaxpr.eqns
    )


def _is_exact(before: Value, after: Value) -> bool:
    """Whether a cast keeps every number."""
    kinds = jnp.result_type(before.value), jnp.result_type(after.value)
    return np.can_cast(*kinds) and kinds[1] != np.bool_


def _as_in(body: ClosedJaxpr, first: int, values: list[Value]) -> list[ArrayLike]:
    """The first state of a loop, in the types that its body takes."""
    inner = body.jaxpr.invars[first : first + len(values)]
    return [
        value.value
        if jax.dtypes.issubdtype(var.aval.dtype, jax.dtypes.extended)
        else jnp.asarray(value.value, var.aval.dtype)
        for value, var in zip(values, inner, strict=True)
    ]


def _indices(lookups: Iterable[Lookup]) -> list[ArrayLike]:
    return [lookup.index for lookup in lookups if lookup.index is not None]


def _replaced(lookups: list[Lookup], indices: Iterable[ArrayLike]) -> list[Lookup]:
    """The same lookups with other indices."""
    rest = iter(indices)
    found: dict[Lookup, Lookup] = {}
    for lookup in lookups:  # a loss comes before the index that it matters to
        index = None if lookup.index is None else next(rest)
        losses = frozenset(found.get(loss, loss) for loss in lookup.losses)
        found[lookup] = replace(lookup, index=index, losses=losses)
    return list(found.values())
