"""Bounds of values that follow from latent draws, through the operations of a traced program.

A draw that is not known yet may be anywhere in its support. An index made of it is in range for
sure only if the bounds of the support, or the kernel's own clip or remainder, say so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn
from jax.typing import ArrayLike

from aimz_lab.kernel.rows.lookups import DRAWN, LATENT, Bounds, Value, is_drawn

_UNKNOWN: Bounds = (None, None)

_INCREASING = frozenset(
    {
        "add",
        "floor",
        "ceil",
        "round",
        "sign",
        "convert_element_type",
        "broadcast_in_dim",
        "reshape",
        "squeeze",
        "transpose",
        "expand_dims",
        "copy",
        "slice",
        "concatenate",
        "rev",
        "reduce_sum",
        "reduce_max",
        "reduce_min",
        "cumsum",
        "cummax",
        "cummin",
        "exp",
        "log",
        "log1p",
        "expm1",
        "sqrt",
        "tanh",
        "stop_gradient",
    }
)
"""The primitives whose result is never less where an operand is greater."""

_TRUE_OR_FALSE = frozenset(
    {"lt", "le", "gt", "ge", "eq", "ne", "not", "and", "or", "xor", "is_finite"}
)


class _At(NamedTuple):
    """An operation whose bounds are wanted.

    Attributes:
        run: Carries it out with other operands; ``None`` if one of them is.
        inputs: Its operands.
        given: Their bounds.
        result: Its result.
    """

    run: Callable[..., Any]
    inputs: list[Value]
    given: list[Bounds]
    result: Any


def bounds_of(value: Value) -> Bounds:
    """The least and the greatest that a value may be; ``None`` where that is not known."""
    if value.bounds is not None:
        return value.bounds
    return _UNKNOWN if is_drawn(value.names) else (value.value, value.value)


def bounds_after(
    equation: JaxprEqn, inputs: list[Value], bind: Callable[..., Any], result: Any
) -> Bounds | None:
    """The bounds of the only result of an operation; ``None`` where latents play no part."""
    names = frozenset[str]().union(*(each.names for each in inputs))
    if LATENT not in names or DRAWN in names:
        return None
    name = equation.primitive.name
    if name in _TRUE_OR_FALSE and result.dtype == np.bool_:
        return jnp.zeros_like(result), jnp.ones_like(result)
    if name in ("argmax", "argmin"):
        [axis] = equation.params["axes"]
        last = np.shape(inputs[0].value)[axis] - 1
        return jnp.zeros_like(result), jnp.full_like(result, last)
    given = [bounds_of(each) for each in inputs]
    lows, highs = [low for low, _ in given], [high for _, high in given]

    def run(*values: ArrayLike | None) -> ArrayLike | None:
        if any(value is None for value in values):
            return None
        [one] = bind(equation, [Value(value) for value in values])
        return one

    if name in _INCREASING:
        return run(*lows), run(*highs)
    if name in _RULES:
        return _RULES[name](_At(run, inputs, given, result))
    return _UNKNOWN


def bounds_of_sorted(name: str, inputs: list[Value], results: list[Any]) -> list[Bounds | None]:
    """The bounds of each result of a ``sort`` or a ``top_k``: each keeps its entries."""
    if not any(LATENT in each.names for each in inputs):
        return [None] * len(results)
    if name == "sort":
        return [_spread(bounds_of(each), each.value) for each in inputs]
    last = max(np.shape(inputs[0].value)) - 1
    places = jnp.zeros_like(results[1]), jnp.full_like(results[1], last)
    return [_spread(bounds_of(inputs[0]), results[0]), places]


def bounds_of_call(name: str, inputs: list[Value]) -> Bounds | None:
    """The bounds of the result of one of JAX's own functions; ``None`` if they follow inside."""
    if name not in ("remainder", "floor_divide") or len(inputs) != 2:
        return None
    if not is_drawn(inputs[0].names) or is_drawn(inputs[1].names):
        return None
    divisor = inputs[1].value
    shape = np.broadcast_shapes(np.shape(inputs[0].value), np.shape(divisor))
    is_integer = jnp.issubdtype(jnp.result_type(inputs[0].value, divisor), jnp.integer)
    if name == "remainder":
        one = 1 if is_integer else 0
        low = jnp.broadcast_to(jnp.where(divisor > 0, 0, divisor + one), shape)
        return low, jnp.broadcast_to(jnp.where(divisor > 0, divisor - one, 0), shape)
    if name == "floor_divide":
        ends = bounds_of(inputs[0])
        if ends[0] is None or ends[1] is None:
            return _UNKNOWN
        quotients = [jnp.broadcast_to(jnp.floor_divide(end, divisor), shape) for end in ends]
        return jnp.minimum(*quotients), jnp.maximum(*quotients)
    return None


def _max(at: _At) -> Bounds:
    lows = [low for low, _ in at.given if low is not None]
    low = _reduced(jnp.maximum, lows, at.result)
    return low, at.run(*(high for _, high in at.given))


def _min(at: _At) -> Bounds:
    highs = [high for _, high in at.given if high is not None]
    return at.run(*(low for low, _ in at.given)), _reduced(jnp.minimum, highs, at.result)


def _reduced(how: Callable, sides: list, result: Any) -> ArrayLike | None:
    if not sides:
        return None
    one = sides[0] if len(sides) == 1 else how(*sides)
    return jnp.broadcast_to(one, np.shape(result))


def _clamp(at: _At) -> Bounds:
    (least, least_high), (low, high), (most_low, most) = at.given
    shape = np.shape(at.result)
    floor = at.run(least, low, most_low) if low is not None else least
    ceiling = at.run(least_high, high, most) if high is not None else most
    return tuple(
        None if side is None else jnp.broadcast_to(side, shape) for side in (floor, ceiling)
    )


def _sub(at: _At) -> Bounds:
    (low, high), (less_low, less_high) = at.given
    return at.run(low, less_high), at.run(high, less_low)


def _neg(at: _At) -> Bounds:
    return at.run(at.given[0][1]), at.run(at.given[0][0])


def _abs(at: _At) -> Bounds:
    low, high = at.given[0]
    if low is None or high is None:
        return jnp.zeros_like(at.result), None
    least = jnp.where((low <= 0) & (high >= 0), 0, jnp.minimum(jnp.abs(low), jnp.abs(high)))
    return least.astype(at.result.dtype), jnp.maximum(jnp.abs(low), jnp.abs(high))


def _logistic(at: _At) -> Bounds:
    low, high = (at.run(side) for side in at.given[0])
    return (
        jnp.zeros_like(at.result) if low is None else low,
        jnp.ones_like(at.result) if high is None else high,
    )


def _mul(at: _At) -> Bounds:
    return _of_corners([at.run(a, b) for a in at.given[0] for b in at.given[1]])


def _div(at: _At) -> Bounds:
    if is_drawn(at.inputs[1].names):
        return _UNKNOWN
    return _of_corners([at.run(a, at.inputs[1].value) for a in at.given[0]])


def _rem(at: _At) -> Bounds:
    if is_drawn(at.inputs[1].names):
        return _UNKNOWN
    integer = jnp.issubdtype(jnp.result_type(at.inputs[1].value), jnp.integer)
    most = jnp.broadcast_to(
        jnp.abs(at.inputs[1].value) - (1 if integer else 0), np.shape(at.result)
    )
    return -most, most


def _of_corners(corners: list) -> Bounds:
    if any(corner is None for corner in corners):
        return _UNKNOWN
    both = jnp.stack([jnp.asarray(corner) for corner in corners])
    return both.min(0), both.max(0)


def _select(at: _At) -> Bounds:
    which, cases = at.inputs[0], at.given[1:]
    if not is_drawn(which.names):
        sides = zip(*cases, strict=True)
        low, high = (at.run(which.value, *side) for side in sides)
        return low, high
    low, high = ([case[side] for case in cases] for side in (0, 1))
    return (
        None if any(each is None for each in low) else jnp.stack(low).min(0),
        None if any(each is None for each in high) else jnp.stack(high).max(0),
    )


def _gather(at: _At) -> Bounds:
    """What is looked up lies among the entries of the table."""
    return _spread(at.given[0], at.result) if np.size(at.inputs[0].value) else _UNKNOWN


def _spread(bounds: Bounds, result: Any) -> Bounds:
    """The bounds of a value that holds any of these entries."""
    low, high = bounds
    return (
        None if low is None else jnp.full_like(result, jnp.min(low)),
        None if high is None else jnp.full_like(result, jnp.max(high)),
    )


_RULES: dict[str, Callable[..., Bounds]] = {
    "max": _max,
    "min": _min,
    "clamp": _clamp,
    "sub": _sub,
    "neg": _neg,
    "abs": _abs,
    "logistic": _logistic,
    "mul": _mul,
    "div": _div,
    "rem": _rem,
    "select_n": _select,
    "gather": _gather,
    "dynamic_slice": _gather,
}
