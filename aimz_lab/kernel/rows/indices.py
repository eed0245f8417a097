"""Refuse indices out of range before anything is computed.

JAX reads the nearest entry for an index that is too large, and counts from the end for one below
zero: a group that was never trained on would silently get the draws of another group. The kernel's
traced program says what indexes what; each index that depends on its arguments is computed on the
real rows and compared with the length of what it indexes. Where an index depends on latent sites
too, it is computed with each of their draws; where those are not known yet, with the bounds of
their support.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.interpreters.partial_eval import dce_jaxpr
from jax.typing import ArrayLike
from jaxtyping import PyTree
from numpyro import handlers
from numpyro.distributions import MaskedDistribution

from aimz_lab.data import canonical
from aimz_lab.errors import DataError
from aimz_lab.kernel.prior_draws import seeded
from aimz_lab.kernel.rows.latents import mark_latents, with_draws
from aimz_lab.kernel.rows.lookup_follower import Follower
from aimz_lab.kernel.rows.lookups import DRAWN, LATENT, OWN, Lookup, Value
from aimz_lab.kernel.rows.pinned_plates import pin_plates
from aimz_lab.kernel.tracing import Message, tracing_lock
from aimz_lab.types import Array, Static


@dataclass(frozen=True)
class KernelCall:
    """A kernel with the arguments of one call.

    Attributes:
        kernel: The kernel.
        rows: Its per-row arrays.
        shared: Arrays that do not follow the rows.
        static: Values that are not arrays.
        values: Values of sites to substitute, such as learned ``param`` sites.
        intervention: Values by site, as in ``do``.
        condition: Values by site that they take while sampling.
        draws: Draws of latent sites, each ``(draw, ...)``.
    """

    kernel: Callable
    rows: Mapping[str, Array]
    shared: Mapping[str, PyTree[Array]] = field(default_factory=dict)
    static: Static = field(default_factory=dict)
    values: Mapping[str, PyTree[Array]] = field(default_factory=dict)
    intervention: Mapping[str, Array] = field(default_factory=dict)
    condition: Mapping[str, Array] = field(default_factory=dict)
    draws: Mapping[str, Array] = field(default_factory=dict)

    @property
    def arrays(self) -> dict[str, dict[str, Any]]:
        """All arrays, by their role and name."""
        roles = "rows", "shared", "values", "intervention", "condition", "draws"
        return {role: dict(getattr(self, role)) for role in roles}

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.rows.values())))

    def part(self, start: int, size: int) -> KernelCall:
        """The call with ``size`` of its rows; the last row fills up missing ones."""
        chosen = np.minimum(np.arange(start, start + size), self.n_rows - 1)
        return replace(self, rows={name: rows[chosen] for name, rows in self.rows.items()})


class IndexProgram:
    """The indices of a kernel that is called with arrays of certain shapes.

    Args:
        call: A call with such arrays.

    Attributes:
        lookups: The lookups to check; the index of each is the number of a result of the program.

    Raises:
        Exception: What the kernel raises.
    """

    def __init__(self, call: KernelCall) -> None:
        shapes = jax.tree.map(_abstract, call.arrays)
        shapes["draws"] = jax.tree.map(_one_draw, shapes["draws"])
        paths = jax.tree_util.tree_leaves_with_path(shapes)
        names = [path[1].key for path, _ in paths]
        self._by_draw = [path[0].key == "draws" for path, _ in paths]
        with tracing_lock:
            kernel = jax.make_jaxpr(_run(call))(jax.random.key(0), shapes)
        lookups: list[Lookup] = []

        def indices(key: jax.Array, *leaves: jax.Array) -> list[jax.Array]:
            inputs = [Value(leaf, frozenset([names[n]]), n) for n, leaf in enumerate(leaves)]
            follower = Follower(call.n_rows)
            follower.run(kernel, [Value(key, frozenset([DRAWN])), *inputs])
            lookups[:] = _to_check(follower.lookups)
            return [jnp.asarray(each.index) for each in lookups if each.index is not None]

        program = jax.make_jaxpr(indices)(jax.random.key(0), *[leaf for _, leaf in paths])
        self.lookups = _numbered(lookups)
        computed = [
            bool(each.names & set(call.draws)) for each in lookups if each.index is not None
        ]
        self._drawn = _Indices(program, computed, [False, *self._by_draw])
        self._plain = _Indices(program, [not drawn for drawn in computed], [])

    def check(self, call: KernelCall, first_row: int = 0) -> None:
        """Check the indices of a call.

        Args:
            call: The call, with arrays of these shapes.
            first_row: Number of its first row, for the message.

        Raises:
            DataError: If an index is out of range; it names the argument, the row and the length.
        """
        if not self.lookups:
            return
        leaves = jax.tree.leaves(call.arrays)
        inputs = [jax.random.key(0), *leaves]
        ranges: dict[int, np.ndarray] | None = None
        for lookup in self.lookups:
            if lookup.is_open:
                _refuse_open(lookup)
            if lookup.leaf is not None:
                index = np.asarray(leaves[lookup.leaf])
                if not index.size:
                    continue
                low, high = index.min(), index.max()
            else:
                if ranges is None:
                    ranges = self._plain.ranges(inputs) | self._drawn.ranges(inputs)
                low, high = ranges[lookup.index][..., 0].min(), ranges[lookup.index][..., 1].max()
            if not _is_out(lookup, low, high):
                continue
            draw = None
            if lookup.leaf is not None:
                if self._by_draw[lookup.leaf]:
                    by_draw = index.reshape(len(index), -1)
                    draw = _first_out(lookup, by_draw.min(1), by_draw.max(1))
                    index = index[draw]
            elif lookup.index in self._drawn.numbers:
                draw = _first_out(lookup, *ranges[lookup.index].T)
                index = self._drawn.index(lookup.index, inputs, draw)
            else:
                index = self._plain.index(lookup.index, inputs)
            _refuse(lookup, index, call, first_row, draw)


class _Indices:
    """Computes some of the indices of a program, with each draw of what they depend on.

    Args:
        program: Computes all of them.
        wanted: Which ones.
        by_draw: Which inputs have an axis of draws; none if it is empty.
    """

    def __init__(self, program: ClosedJaxpr, wanted: list[bool], by_draw: list[bool]) -> None:
        self.numbers = [number for number, is_wanted in enumerate(wanted) if is_wanted]
        needed, self._used = dce_jaxpr(program.jaxpr, wanted)
        self._compute = jaxpr_as_fun(ClosedJaxpr(needed, program.consts))
        used = zip(by_draw, self._used, strict=True) if by_draw else ()
        self._by_draw = [drawn for drawn, is_used in used if is_used]
        self._ranges = jax.jit(self._all_ranges)
        self._one = jax.jit(lambda place, *given: self._compute(*given)[place], static_argnums=0)

    def ranges(self, inputs: list[Array]) -> dict[int, np.ndarray]:
        """The least and the greatest of each index, by its number, ``(2,)`` or ``(draw, 2)``."""
        if not self.numbers:
            return {}
        found = jax.device_get(self._ranges(*self._needed(inputs)))
        return dict(zip(self.numbers, np.moveaxis(found, -2, 0), strict=True))

    def index(self, number: int, inputs: list[Array], draw: int | None = None) -> np.ndarray:
        """One index, with one draw."""
        given = self._needed(inputs)
        if draw is not None:
            pairs = zip(given, self._by_draw, strict=True)
            given = [each[draw] if drawn else each for each, drawn in pairs]
        return np.asarray(self._one(self.numbers.index(number), *given))

    def _all_ranges(self, *given: jax.Array) -> jax.Array:
        if not any(self._by_draw):
            return _ranges(self._compute(*given))
        draws = [each for each, drawn in zip(given, self._by_draw, strict=True) if drawn]

        def of_draw(draw: list[jax.Array]) -> jax.Array:
            rest = iter(draw)
            pairs = zip(given, self._by_draw, strict=True)
            return _ranges(self._compute(*(next(rest) if drawn else each for each, drawn in pairs)))

        return jax.lax.map(of_draw, draws)

    def _needed(self, inputs: list[Array]) -> list[Array]:
        """The inputs that the indices follow from: the key of the draws, and some arrays."""
        pairs = zip(inputs, self._used, strict=True)
        return [canonical(each) for each, used in pairs if used]


def _run(call: KernelCall) -> Callable[[jax.Array, dict[str, dict[str, Any]]], None]:
    """The kernel, with the densities of what it observes, as a function of its arrays."""

    def run(key: jax.Array, arrays: dict[str, dict[str, Any]]) -> None:
        set_values = arrays["intervention"]
        kernel = handlers.do(call.kernel, data=set_values) if set_values else call.kernel
        given = {**arrays["values"], **arrays["condition"]}
        draws = {name: one for name, one in arrays["draws"].items() if name not in given}
        kernel = handlers.substitute(with_draws(kernel, draws), data=given)
        marked = mark_latents(pin_plates(kernel, call.n_rows), {*given, *draws, *set_values})
        drawn = seeded(marked, key)
        given = {**arrays["rows"], **arrays["shared"], **call.static}
        sites = handlers.trace(drawn).get_trace(**given)
        for site in sites.values():
            if site["type"] == "sample" and site["is_observed"]:
                with contextlib.suppress(Exception):  # a density that training will refuse
                    _density(site)

    return run


def _density(site: Message) -> jax.Array:
    """The log density of an observed site, which may look up its value; masked values are not."""
    base, value, mask = site["fn"], jnp.asarray(site["value"]), site.get("mask")
    while isinstance(base, MaskedDistribution):
        base, mask = base.base_dist, base._mask if mask is None else mask & base._mask
    if mask is not None and not base.event_dim:
        value = jnp.where(mask, value, jnp.zeros_like(value))
    return base.log_prob(value)


def _abstract(leaf: Array) -> jax.ShapeDtypeStruct:
    if isinstance(leaf, jax.Array):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
    return jax.ShapeDtypeStruct(np.shape(leaf), jax.dtypes.canonicalize_dtype(leaf.dtype))


def _one_draw(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype)


def _to_check(lookups: list[Lookup]) -> list[Lookup]:
    """The lookups, each once, after the losses that matter to them."""
    indices = {
        lookup if lookup.leaf is None else replace(lookup, losses=frozenset()): None
        for lookup in lookups
        if lookup.kind != "loss"
    }
    losses = dict.fromkeys(loss for lookup in indices for loss in lookup.losses)
    computed = [each for each in indices if each.leaf is None]
    given = [each for each in indices if each.leaf is not None]
    by_input = {(each.leaf, each.kind, each.last, each.any_low): each for each in given}
    return [*losses, *computed, *by_input.values()]


def _numbered(lookups: list[Lookup]) -> list[Lookup]:
    """The lookups, with the number of its result in place of each index that is computed."""
    numbers = itertools.count()
    return [each if each.index is None else replace(each, index=next(numbers)) for each in lookups]


def _ranges(indices: list[jax.Array]) -> jax.Array:
    """The least and the greatest of each index, ``(index, 2)``."""
    return jnp.stack([jnp.stack([each.min(), each.max()]) for each in indices])


def _is_out(lookup: Lookup, low: ArrayLike, high: ArrayLike) -> ArrayLike:
    below = np.less(low, 0) & (not lookup.any_low)
    return below | (np.greater(high, lookup.last) & (not lookup.any_high))


def _first_out(lookup: Lookup, low: np.ndarray, high: np.ndarray) -> int:
    """Number of the first draw with which an index is out of range."""
    return int(np.argmax(_is_out(lookup, low, high)))


_CONSEQUENCE = {
    "read": "JAX would silently read another entry.",
    "write": "JAX would silently leave it out.",
    "one_hot": "one_hot would silently make it a row of zeros.",
    "switch": "JAX would silently take another branch.",
}


def _refuse_open(lookup: Lookup) -> NoReturn:
    names = sorted(lookup.names - {DRAWN, OWN, LATENT})
    whose = " and ".join(["latent draws", *map(repr, names)])
    msg = (
        f"The kernel makes an index of {whose}, which nothing keeps within the {lookup.length} "
        f"entries of what it indexes (0 to {lookup.last}). {_CONSEQUENCE.get(lookup.kind, '')} "
        f"Say in the kernel what is meant: jnp.clip(index, 0, {lookup.last})."
    )
    raise DataError(msg)


def _refuse(
    lookup: Lookup, index: np.ndarray, call: KernelCall, first_row: int, draw: int | None
) -> NoReturn:
    high = np.inf if lookup.any_high else lookup.last
    low = -np.inf if lookup.any_low else 0
    where = np.argwhere((index < low) | (index > high))[0]
    value = int(index[tuple(where)])
    names = sorted(lookup.names - {DRAWN, OWN, LATENT})
    of_rows = lookup.names & {OWN, *call.rows, *call.intervention, *call.condition}
    has_rows = of_rows and index.ndim and len(index) == call.n_rows
    place = f" in row {first_row + where[0]}" if has_rows else ""
    place += "" if draw is None else f" with draw {draw}"
    whose = " and ".join(map(repr, names)) or "own array of indices"
    if LATENT in lookup.names:  # the index holds what is possible
        place += " for a possible draw of a latent site"
        whose = " and ".join(map(repr, names)) or "index of latent draws"
    if lookup.kind == "loss":
        msg = (
            f"The kernel's {whose} becomes an index{place}, but its number is lost on the way: "
            "a missing value (NaN) has no index, and arithmetic beyond the range of its integer "
            "type wraps around. Fill missing values with a code of their own, and pass codes as "
            "int32."
        )
        raise DataError(msg)
    counted = value < 0 and lookup.kind == "read"
    consequence = "JAX would silently count from the end." if counted else _CONSEQUENCE[lookup.kind]
    last = lookup.last
    msg = (
        f"The kernel's {whose} points at entry {value}{place}, but what it indexes has "
        f"{lookup.length} (0 to {last}). {consequence} Recode the argument, train with all the "
        "groups there are, or say in the kernel what is meant: "
        + (
            "jnp.where(i >= 0, a[jnp.maximum(i, 0)], 0.0) for a missing code."
            if value < 0
            else f"a[jnp.clip(i, 0, {last})] for the nearest entry."
        )
    )
    raise DataError(msg)
