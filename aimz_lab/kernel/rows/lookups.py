"""What an operation of a traced program looks up, and with which index.

JAX checks no index: one that is too large reads the nearest entry, one below zero counts from the
end, and one out of the range of a ``segment_sum`` or a ``one_hot`` adds nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn
from jax.lax import GatherScatterMode
from jax.typing import ArrayLike

DRAWN = ""
"""Stands among the names of arguments for random keys and what is drawn with them."""

LATENT = "?"
"""Stands for values of latent sites that are not known yet."""

OWN = "*"
"""Stands for an array in the code of the kernel that has as many entries as there are rows."""

Bounds = tuple[ArrayLike | None, ArrayLike | None]
"""The least and the greatest that a value may be; ``None`` where that is not known."""

Kind = Literal["read", "write", "one_hot", "switch", "loss"]


@dataclass(frozen=True, eq=False)
class Value:
    """An intermediate value of a program.

    Attributes:
        value: The value, or its tracer.
        names: The arguments that it depends on; :data:`DRAWN` for draws and parameters.
        leaf: Number of the program's input that holds these numbers, in whatever shape.
        name: The primitive that made it, if that matters to an index.
        made_of: The operands of that primitive.
        losses: Casts, and sums of narrow integers, that may have changed a number on the way here.
        from_the_end: Whether JAX counts from the end where the value is below zero.
        bounds: What it may be, if it follows from draws.
    """

    value: ArrayLike
    names: frozenset[str] = frozenset()
    leaf: int | None = None
    name: str = ""
    made_of: tuple[Value, ...] = ()
    losses: frozenset[Lookup] = frozenset()
    from_the_end: bool = False
    bounds: Bounds | None = None


@dataclass(frozen=True, eq=False)
class Lookup:
    """One index of one operation.

    Attributes:
        kind: Reads or writes of an array; levels of a one-hot code; branches; or ``"loss"``, whose
            index is 1 where arithmetic changed a number, else 0.
        index: The index, of any shape; ``None`` if it is an input, numbered ``leaf``. Of latent
            sites that are not known, the least and the greatest that it may be, ``(..., 2)``.
        names: The arguments that the index depends on.
        length: Number of entries of what it indexes.
        last: The last index that is in range; less than ``length - 1`` for slices.
        any_high: Whether the kernel says what is meant by an index above ``last``.
        any_low: Whether the kernel says what is meant by an index below zero.
        leaf: Number of the input.
        losses: See :class:`Value`.
        is_open: Whether latent draws may move it out of range without a bound.
    """

    kind: Kind
    index: ArrayLike | None
    names: frozenset[str]
    length: int
    last: int
    any_high: bool = False
    any_low: bool = False
    leaf: int | None = None
    losses: frozenset[Lookup] = frozenset()
    is_open: bool = False


def is_drawn(names: frozenset[str]) -> bool:
    """Whether a value that depends on these is not known before the kernel is run."""
    return not names.isdisjoint((DRAWN, LATENT))


def lookups_of(equation: JaxprEqn, inputs: list[Value]) -> Iterator[Lookup]:
    """Yield the lookups of an operation, without those whose index follows from draws alone."""
    name, params = equation.primitive.name, equation.params
    shape = [getattr(atom.aval, "shape", ()) for atom in equation.invars]
    if name == "gather":
        yield from _of_gather(shape[0], inputs[1], params)
    elif name.startswith("scatter"):
        yield from _of_scatter(shape[0], shape[2], inputs[1], params)
    elif name == "dynamic_slice":
        for start, size, cut in zip(inputs[1:], shape[0], params["slice_sizes"], strict=False):
            yield from _lookup("read", start, size, size - cut)
    elif name == "dynamic_update_slice":
        for start, size, cut in zip(inputs[2:], shape[0], shape[1], strict=True):
            yield from _lookup("write", start, size, size - cut)
    elif name in ("cond", "select_n") and inputs[0].name == "clamp":
        branches = len(params["branches"]) if name == "cond" else len(inputs) - 1
        yield from _lookup("switch", inputs[0].made_of[1], branches, branches - 1)


def _of_gather(
    shape: tuple[int, ...], indices: Value, params: Mapping[str, Any]
) -> Iterator[Lookup]:
    numbers, sizes, mode = params["dimension_numbers"], params["slice_sizes"], params["mode"]
    # A dynamic slice under vmap clips too, but collapses no axis; an explicit mode="clip" does.
    clipped = mode == GatherScatterMode.CLIP and bool(numbers.collapsed_slice_dims)
    fill = params["fill_value"]
    filled = mode == GatherScatterMode.FILL_OR_DROP and fill is not None and not np.isnan(fill)
    for column, axis in enumerate(numbers.start_index_map):
        index = _column(indices, column)
        said = clipped or filled
        low = said and not index.from_the_end
        yield from _lookup("read", index, shape[axis], shape[axis] - sizes[axis], said, low)


def _of_scatter(
    shape: tuple[int, ...],
    updates: tuple[int, ...],
    indices: Value,
    params: Mapping[str, Any],
) -> Iterator[Lookup]:
    numbers = params["dimension_numbers"]
    single = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
    window = dict.fromkeys(single, 1)
    rest = (axis for axis in range(len(shape)) if axis not in single)
    window |= {a: updates[u] for a, u in zip(rest, numbers.update_window_dims, strict=True)}
    clipped = params["mode"] == GatherScatterMode.CLIP and bool(numbers.inserted_window_dims)
    for column, axis in enumerate(numbers.scatter_dims_to_operand_dims):
        index = _column(indices, column)
        if index.name == "cumsum" or not index.names:
            continue  # jnp.nonzero and jnp.tril_indices leave out what is false in this way
        low = clipped and not index.from_the_end
        last = shape[axis] - window[axis]
        yield from _lookup("write", index, shape[axis], last, clipped, low)


def lookups_of_one_hot(codes: Value, shape: tuple[int, ...]) -> Iterator[Lookup]:
    """Yield the lookup of a ``jax.nn.one_hot`` with this result: its codes are its levels."""
    extra = [axis for axis, size in enumerate(shape) if size not in np.shape(codes.value)]
    levels = shape[extra[0] if len(extra) == 1 else -1]
    yield from _lookup("one_hot", codes, levels, levels - 1)


def _lookup(
    kind: Kind,
    index: Value,
    length: int,
    last: int,
    any_high: bool = False,
    any_low: bool = False,
) -> Iterator[Lookup]:
    chance = DRAWN in index.names and index.names <= {DRAWN, LATENT}
    if chance or (any_high and any_low) or not np.size(index.value):
        return
    value, is_open = None if index.leaf is not None else index.value, False
    if value is not None and LATENT in index.names and DRAWN not in index.names:
        low, high = index.bounds or (None, None)
        is_open = (low is None and not any_low) or (high is None and not any_high)
        sides = [jnp.zeros_like(value) if side is None else side for side in (low, high)]
        value = jnp.stack([jnp.broadcast_to(side, np.shape(value)) for side in sides], -1)
    yield Lookup(
        kind, value, index.names, length, last, any_high, any_low, index.leaf, index.losses, is_open
    )


def _column(indices: Value, column: int) -> Value:
    """One column of an array of indices; of a concatenation, the operand that became it."""
    axis = np.ndim(indices.value) - 1
    if indices.name == "concatenate":
        for part in indices.made_of:
            width = np.shape(part.value)[axis]
            if column < width:
                return _column(part, column)
            column -= width
    if np.shape(indices.value)[axis] == 1:
        return indices
    sides = indices.bounds or (None, None)
    low, high = (None if side is None else jnp.asarray(side)[..., column] for side in sides)
    return Value(
        jnp.asarray(indices.value)[..., column],
        indices.names,
        losses=indices.losses,
        bounds=(low, high) if indices.bounds else None,
    )


def losses_of(equation: JaxprEqn, inputs: list[Value], value: ArrayLike) -> Iterator[Lookup]:
    """Yield where an operation on integers, or a cast to them, may have changed a number.

    These are missing values and numbers out of range that become integers, and sums that do not
    fit a narrow or unsigned type.
    """
    kind = np.dtype(value.dtype) if hasattr(value.dtype, "itemsize") else None
    if kind is None or kind.kind not in "iu":
        return
    before = inputs[0].value
    names = frozenset[str]().union(*(each.names for each in inputs))
    if not names - {DRAWN, LATENT}:
        return
    lost = None
    if equation.primitive.name == "convert_element_type":
        given = np.dtype(jnp.result_type(before))
        if given.kind == "f":
            low, high = float(np.iinfo(kind).min), float(np.iinfo(kind).max)
            lost = ~((before > low - 1) & (before < high + 1))
        elif given.kind in "iu" and not np.can_cast(given, kind):
            lost = (value.astype(given) != before) | ((value < 0) != (before < 0))
    elif equation.primitive.name in _EXACT and kind.itemsize < 4:
        wide = [jnp.asarray(each.value).astype(np.int32) for each in inputs]
        lost = _EXACT[equation.primitive.name](*wide) != value.astype(np.int32)
    elif equation.primitive.name == "sub" and kind.kind == "u":
        lost = jnp.less(before, inputs[1].value)
    if lost is not None:
        yield Lookup("loss", lost.astype(np.int32), names, 1, 0)


_EXACT = {"add": jnp.add, "sub": jnp.subtract, "mul": jnp.multiply, "neg": jnp.negative}
