"""Indices that point beyond what they index, found before anything is computed.

JAX reads the nearest entry for an index that is out of range: a group that was never trained on
would silently be given the last group's draws. A kernel whose indices come from its arguments can
be checked beforehand: its traced program says what indexes what, and only the little arithmetic
between the arguments and the indices is done, on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import Literal
from numpyro import handlers

from aimz_lab.errors import DataError
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
    outside of loops. Indexing with an explicit ``mode="clip"`` is taken as it is meant.

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
        handlers.trace(seeded).get_trace(**arrays, **(static or {}))

    shapes = jax.tree.map(_abstract, arrays)
    try:
        with tracing_lock:
            traced = jax.make_jaxpr(run)(jax.random.key(0), shapes, dict(values or {}))
    except Exception:  # noqa: BLE001  a kernel that runs on batches only; whoever runs it will tell
        return False
    known: list[_Known | None] = [None]
    for path, leaf in jax.tree_util.tree_leaves_with_path(arrays):
        known.append(_Known(frozenset([path[0].key]), partial(np.asarray, leaf)))
    known += [None] * (len(traced.jaxpr.invars) - len(known))
    checked: list[_Known] = []
    refuse = partial(_refuse, rows, first_row)
    _walk(traced.jaxpr, traced.consts, known, partial(_check_gather, checked, refuse))
    return bool(checked)


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(np.shape(leaf), jax.dtypes.canonicalize_dtype(leaf.dtype))


def _walk(
    jaxpr: Any, consts: list[Any], arguments: list[_Known | None], check: Callable
) -> list[_Known | None]:
    """Go through a program; return what is known of its results."""
    nothing = frozenset[str]()
    found: dict[Any, _Known | None] = dict(zip(jaxpr.invars, arguments, strict=True))
    for var, const in zip(jaxpr.constvars, consts, strict=True):
        # A constant of another type than numbers is a random key.
        numeric = isinstance(const, (np.ndarray, np.generic, int, float)) or (
            isinstance(const, jax.Array) and const.dtype.kind in "biuf"
        )
        found[var] = _Known(nothing, partial(np.asarray, const)) if numeric else None

    def look(atom: Any) -> _Known | None:
        if isinstance(atom, Literal):
            return _Known(nothing, partial(np.asarray, atom.val))
        return found.get(atom)

    for eqn in jaxpr.eqns:
        inputs = [look(atom) for atom in eqn.invars]
        name, params = eqn.primitive.name, eqn.params
        if name in ("jit", "pjit", "closed_call"):
            inner = params["jaxpr"]
            results = _walk(inner.jaxpr, inner.consts, inputs, check)
            found.update(zip(eqn.outvars, results, strict=True))
            continue
        if name == "gather" and inputs[1] is not None and inputs[1].names:
            check(inputs[1], eqn.invars[0].aval.shape, params)
        if name in _COMPUTE and all(known is not None for known in inputs):
            names = nothing.union(*[known.names for known in inputs])
            found[eqn.outvars[0]] = _Known(names, _once(partial(_evaluate, name, params, inputs)))
    return [look(atom) for atom in jaxpr.outvars]


def _check_gather(
    checked: list[_Known],
    refuse: Callable,
    indices: _Known,
    shape: tuple[int, ...],
    params: Mapping[str, Any],
) -> None:
    checked.append(indices)
    if params["mode"] == jax.lax.GatherScatterMode.CLIP:
        return
    index = indices.value()
    for column, axis in enumerate(params["dimension_numbers"].start_index_map):
        last = shape[axis] - params["slice_sizes"][axis]
        along = index[..., column]
        bad = (along < 0) | (along > last)
        if bad.any():
            refuse(indices.names, along, bad, shape[axis])


def _refuse(
    rows: Mapping[str, Any],
    first_row: int,
    names: frozenset[str],
    index: np.ndarray,
    bad: np.ndarray,
    length: int,
) -> None:
    where = np.argwhere(bad)[0]
    value = int(index[tuple(where)])
    value -= length if value < 0 else 0  # as it was before negative indices were wrapped around
    listed = " and ".join(repr(name) for name in sorted(names))
    n_rows = len(next(iter(rows.values())))
    of_rows = names & set(rows) and index.ndim and index.shape[0] == n_rows
    place = f" in row {first_row + where[0]}" if of_rows else ""
    msg = (
        f"The kernel's {listed} points at entry {value}{place}, but what it indexes has {length} "
        f"(0 to {length - 1}). JAX would silently read another entry. Recode the argument, train "
        "with all the groups there are, or say what is meant: a.at[i].get(mode='clip')."
    )
    raise DataError(msg)


def _once(compute: Callable[[], np.ndarray]) -> Callable[[], np.ndarray]:
    kept: list[np.ndarray] = []

    def value() -> np.ndarray:
        if not kept:
            kept.append(compute())
        return kept[0]

    return value


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
"""How NumPy computes what may lie between an argument and an index."""
