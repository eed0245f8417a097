"""Refuse indices out of range before anything is computed.

JAX reads the nearest entry for an index that is out of range: a group that was never trained on
would silently get the draws of the last group. Where a kernel's indices come from its arguments,
its traced program says what indexes what. Only the arithmetic between the arguments and the indices
is computed, by NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal, Var
from numpyro import handlers

from aimz_lab.errors import DataError
from aimz_lab.kernel.rows.jaxprs import inner_programs, is_call
from aimz_lab.kernel.samplers import without_sampler
from aimz_lab.kernel.tracing import tracing_lock


class _Known(NamedTuple):
    """A value that follows from the arguments alone.

    Attributes:
        names: The arguments.
        value: Computes it.
    """

    names: frozenset[str]
    value: Callable[[], np.ndarray]


def check_indices(
    kernel: Callable,
    *,
    rows: Mapping[str, Any],
    shared: Mapping[str, Any] | None = None,
    static: Mapping[str, Any] | None = None,
    values: Mapping[str, Any] | None = None,
    first_row: int = 0,
) -> bool:
    """Check that no argument of a kernel indexes beyond the end of what it indexes.

    Followed are arguments that become indices by slicing, casting, and elementwise arithmetic,
    outside of loops and branches. Indexing with an explicit ``mode="clip"`` is taken as it is
    meant.

    Args:
        kernel: A callable with NumPyro primitives.
        rows: Its per-row arrays.
        shared: Arrays that do not follow the rows.
        static: Values that are not arrays.
        values: Values of sites to substitute, such as learned ``param`` sites.
        first_row: Number of the first row, for the message.

    Returns:
        Whether any argument is used as an index; if not, other values need no check.

    Raises:
        DataError: If one does; it names the argument, the row and the length.
    """
    arrays = {**rows, **(shared or {})}

    def run(key: jax.Array, arrays: Any, values: Any) -> None:
        seeded = handlers.seed(handlers.substitute(kernel, data=values), key)
        without_sampler(seeded, "stand_in")(**arrays, **(static or {}))

    shapes = jax.tree.map(_abstract, arrays)
    try:
        with tracing_lock:
            traced = jax.make_jaxpr(run)(jax.random.key(0), shapes, dict(values or {}))
    except Exception:  # noqa: BLE001  a kernel that runs on batches only; its caller sees the error
        return False
    known: list[_Known | None] = [None]
    for path, leaf in jax.tree_util.tree_leaves_with_path(arrays):
        known.append(_Known(frozenset([path[0].key]), partial(np.asarray, leaf)))
    known += [None] * (len(traced.jaxpr.invars) - len(known))
    check = _Check(rows, first_row)
    check.program(traced, known)
    return check.found_indices


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(np.shape(leaf), jax.dtypes.canonicalize_dtype(leaf.dtype))


class _Check:
    """Goes through a program and checks each index that follows from the arguments.

    Args:
        rows: The kernel's per-row arrays, for the message.
        first_row: Number of their first row, for the message.

    Attributes:
        found_indices: Whether any argument is used as an index.
    """

    def __init__(self, rows: Mapping[str, Any], first_row: int) -> None:
        self._rows, self._first_row = rows, first_row
        self.found_indices = False

    def program(
        self, program: ClosedJaxpr, arguments: Sequence[_Known | None]
    ) -> list[_Known | None]:
        """Check a program; return its results that follow from the arguments."""
        jaxpr = program.jaxpr
        found: dict[Var, _Known | None] = dict(zip(jaxpr.invars, arguments, strict=True))
        found.update(zip(jaxpr.constvars, map(_known_constant, program.consts), strict=True))

        def look_up(atom: Var | Literal) -> _Known | None:
            if isinstance(atom, Literal):
                return _Known(frozenset(), partial(np.asarray, atom.val))
            return found.get(atom)

        for equation in jaxpr.eqns:
            inputs = [look_up(atom) for atom in equation.invars]
            name, params = equation.primitive.name, equation.params
            if is_call(equation):
                [inner] = inner_programs(equation)
                found.update(zip(equation.outvars, self.program(inner, inputs), strict=True))
            elif name == "gather" and inputs[1] is not None and inputs[1].names:
                self._gather(inputs[1], equation.invars[0].aval.shape, params)
            elif name in _COMPUTE and None not in inputs:
                names = frozenset[str]().union(*[known.names for known in inputs])
                value = cache(partial(_evaluate, name, params, inputs))
                found[equation.outvars[0]] = _Known(names, value)
        return [look_up(atom) for atom in jaxpr.outvars]

    def _gather(self, indices: _Known, shape: tuple[int, ...], params: Mapping[str, Any]) -> None:
        self.found_indices = True
        if params["mode"] == jax.lax.GatherScatterMode.CLIP:
            return
        index = indices.value()
        for column, axis in enumerate(params["dimension_numbers"].start_index_map):
            last = shape[axis] - params["slice_sizes"][axis]
            along = index[..., column]
            bad = (along < 0) | (along > last)
            if bad.any():
                self._refuse(indices.names, along, bad, shape[axis])

    def _refuse(
        self, names: frozenset[str], index: np.ndarray, bad: np.ndarray, length: int
    ) -> None:
        where = np.argwhere(bad)[0]
        value = int(index[tuple(where)])
        value -= length if value < 0 else 0  # as it was before negative indices were wrapped around
        listed = " and ".join(repr(name) for name in sorted(names))
        n_rows = len(next(iter(self._rows.values())))
        of_rows = names & set(self._rows) and index.ndim and index.shape[0] == n_rows
        place = f" in row {self._first_row + where[0]}" if of_rows else ""
        msg = (
            f"The kernel's {listed} points at entry {value}{place}, but what it indexes has "
            f"{length} (0 to {length - 1}). JAX would silently read another entry. Recode the "
            "argument, train with all the groups there are, or say what is meant: "
            "a.at[i].get(mode='clip')."
        )
        raise DataError(msg)


def _known_constant(value: Any) -> _Known | None:
    """A constant; ``None`` for a random key, which is the one kind without numbers."""
    numeric = isinstance(value, (np.ndarray, np.generic, int, float)) or (
        isinstance(value, jax.Array) and value.dtype.kind in "biuf"
    )
    return _Known(frozenset(), partial(np.asarray, value)) if numeric else None


def _evaluate(name: str, params: Mapping[str, Any], inputs: list[_Known]) -> np.ndarray:
    with np.errstate(all="ignore"):
        return _COMPUTE[name](params, *[known.value() for known in inputs])


def _broadcast(params: Mapping[str, Any], value: np.ndarray, *_: Any) -> np.ndarray:
    shape, axes = params["shape"], params["broadcast_dimensions"]
    sizes = [1] * len(shape)
    for axis, size in zip(axes, value.shape, strict=True):
        sizes[axis] = size
    return np.broadcast_to(value.reshape(sizes), shape)


def _slice(params: Mapping[str, Any], value: np.ndarray) -> np.ndarray:
    starts, stops = params["start_indices"], params["limit_indices"]
    strides = params["strides"] or (1,) * len(starts)
    return value[tuple(slice(*cut) for cut in zip(starts, stops, strides, strict=True))]


def _select(params: Mapping[str, Any], which: np.ndarray, *cases: np.ndarray) -> np.ndarray:
    del params
    return np.choose(which.astype(np.intp), np.broadcast_arrays(*cases))


def _elementwise(function: Callable) -> Callable:
    return lambda params, *values: function(*values)  # noqa: ARG005


_COMPUTE: dict[str, Callable] = {
    "add": _elementwise(np.add),
    "and": _elementwise(np.bitwise_and),
    "broadcast_in_dim": _broadcast,
    "clamp": _elementwise(lambda low, value, high: np.clip(value, low, high)),
    "concatenate": lambda params, *parts: np.concatenate(parts, params["dimension"]),
    "convert_element_type": lambda params, value: value.astype(params["new_dtype"]),
    "copy": _elementwise(np.asarray),
    "eq": _elementwise(np.equal),
    "floor": _elementwise(np.floor),
    "ge": _elementwise(np.greater_equal),
    "gt": _elementwise(np.greater),
    "le": _elementwise(np.less_equal),
    "lt": _elementwise(np.less),
    "max": _elementwise(np.maximum),
    "min": _elementwise(np.minimum),
    "mul": _elementwise(np.multiply),
    "ne": _elementwise(np.not_equal),
    "neg": _elementwise(np.negative),
    "not": _elementwise(np.invert),
    "or": _elementwise(np.bitwise_or),
    "reshape": lambda params, value, *_: value.reshape(params["new_sizes"]),
    "select_n": _select,
    "slice": _slice,
    "squeeze": lambda params, value: value.squeeze(params["dimensions"]),
    "sub": _elementwise(np.subtract),
    "transpose": lambda params, value: value.transpose(params["permutation"]),
}
"""The primitives that may lie between an argument and an index, in NumPy."""
