"""Run the loops and branches of a traced program, and return their lookups too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal, Var
from jax.typing import ArrayLike

from aimz_lab.kernel.rows.jaxprs import inner_programs, is_call
from aimz_lab.kernel.rows.lookups import Bounds, Lookup, Value

_LOOKS_UP = ("gather", "scatter", "dynamic_slice", "dynamic_update_slice", "clamp")
"""The primitives that look up, or begin a choice among branches."""


class Follows(Protocol):
    """What runs the programs of a loop; see ``lookup_follower.Follower``.

    Attributes:
        lookups: The lookups so far.
    """

    lookups: list[Lookup]

    def run(self, program: ClosedJaxpr, inputs: Sequence[Value]) -> list[Value]:
        """Run a program; return its results."""

    def apart(self) -> AbstractContextManager[list[Lookup]]:
        """Collect the lookups of a part of the program apart from the others."""


def _scan(follower: Follows, equation: JaxprEqn, inputs: list[Value]) -> list[Value]:
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
        each = [_step_of(value, *one) for value, one in zip(scanned, row, strict=True)]
        with follower.apart() as lookups:
            values = [result.value for result in follower.run(body, [*fixed, *state, *each])]
        collected[:] = lookups
        return values[:n_carry], (values[n_carry:], _indices(lookups))

    carry, (rows, indices) = jax.lax.scan(
        step,
        _as_in(body, n_fixed, inputs[n_fixed : n_fixed + n_carry]),
        [(value.value, value.bounds) for value in scanned],
        length=equation.params["length"],
        reverse=equation.params["reverse"],
    )
    follower.lookups += _replaced(collected, indices)
    return list(map(Value, [*carry, *rows], results_names))


def _while(follower: Follows, equation: JaxprEqn, inputs: list[Value]) -> list[Value]:
    """Run a loop, with the least and the greatest of each index in its state."""
    test, body = inner_programs(equation)
    n_test, n_fixed = equation.params["cond_nconsts"], equation.params["body_nconsts"]
    tested, inputs = inputs[:n_test], [replace(value, leaf=None) for value in inputs[n_test:]]
    fixed, n_carry = inputs[:n_fixed], len(inputs) - n_fixed
    names, _ = _names_in_loop(body, inputs, n_fixed, n_carry)
    collected: list[Lookup] = []

    def goes_on(state: tuple[list, list]) -> ArrayLike:
        with follower.apart():
            return follower.run(test, [*tested, *map(Value, state[0], names)])[0].value

    def step(state: tuple[list, list]) -> tuple[list, list]:
        carry, ranges = state
        with follower.apart() as lookups:
            results = follower.run(body, [*fixed, *map(Value, carry, names)])
        collected[:] = lookups
        now = [jnp.stack([index.min(), index.max()]) for index in _indices(lookups)]
        if not ranges:  # the first trace, which finds the lookups
            return carry, now
        both = zip(ranges, now, strict=True)
        wider = [jnp.where(_LOW_HIGH, jnp.minimum(a, b), jnp.maximum(a, b)) for a, b in both]
        return [result.value for result in results], wider

    carry = _as_in(body, n_fixed, inputs[n_fixed:])
    shapes = jax.eval_shape(lambda carry: step((carry, []))[1], carry)
    ranges = [jnp.zeros(each.shape, each.dtype) for each in shapes]
    carry, ranges = jax.lax.while_loop(goes_on, step, (carry, ranges))
    follower.lookups += _replaced(collected, ranges)
    return list(map(Value, carry, names))


def _branches(follower: Follows, equation: JaxprEqn, inputs: list[Value]) -> list[Value]:
    """Run all branches; indices of those not taken become 0."""
    which = jnp.asarray(inputs[0].value).astype(np.int32)
    given = [replace(value, leaf=None) for value in inputs[1:]]
    for number, branch in enumerate(inner_programs(equation)):
        with follower.apart() as lookups:
            follower.run(branch, given)
        taken = [jnp.where(which == number, index, 0) for index in _indices(lookups)]
        follower.lookups += _replaced(lookups, taken)
    names, losses = names_of(inputs), losses_through(inputs)
    return [Value(value, names, losses=losses) for value in bind(equation, inputs)]


LOOPS = {"scan": _scan, "while": _while, "cond": _branches}
"""What runs each of these primitives."""

_LOW_HIGH = np.array([True, False])


def bind(equation: JaxprEqn, inputs: list[Value]) -> list[ArrayLike]:
    """Carry out an operation; return its results."""
    params = equation.primitive.get_bind_params(equation.params)
    result = equation.primitive.bind(*(each.value for each in inputs), **params)
    return list(result) if equation.primitive.multiple_results else [result]


def names_of(inputs: Iterable[Value]) -> frozenset[str]:
    """The arguments that any of these values depends on."""
    return frozenset[str]().union(*(each.names for each in inputs))


def losses_through(inputs: Iterable[Value]) -> frozenset[Lookup]:
    """The losses on the way to any of these values."""
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


def looks_up(program: ClosedJaxpr) -> bool:
    """Whether anything in a program may be a lookup."""
    return any(
        equation.primitive.name.startswith(_LOOKS_UP)
        or equation.params.get("name") == "_one_hot"
        or any(map(looks_up, inner_programs(equation)))
        for equation in program.jaxpr.eqns
    )


def _as_in(body: ClosedJaxpr, first: int, values: list[Value]) -> list[ArrayLike]:
    """The first state of a loop, in the types that its body takes."""
    inner = body.jaxpr.invars[first : first + len(values)]
    return [
        value.value
        if jax.dtypes.issubdtype(var.aval.dtype, jax.dtypes.extended)
        else jnp.asarray(value.value, var.aval.dtype)
        for value, var in zip(values, inner, strict=True)
    ]


def _step_of(scanned: Value, one: ArrayLike, bounds: Bounds | None) -> Value:
    """The part of a value that one step of a scan is given."""
    return replace(scanned, value=one, name="", made_of=(), bounds=bounds)


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
