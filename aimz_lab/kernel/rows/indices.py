"""Refuse indices out of range before anything is computed.

JAX reads the nearest entry for an index that is too large, and counts from the end for one below
zero: a group that was never trained on would silently get the draws of another group. The kernel's
traced program says what indexes what; each index that depends on its arguments is computed on the
real rows and compared with the length of what it indexes. Where an index depends on draws too, it
is computed with one draw from the prior.
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
from jaxtyping import PyTree
from numpyro import handlers
from numpyro.distributions import MaskedDistribution

from aimz_lab.data import canonical
from aimz_lab.errors import DataError
from aimz_lab.kernel.prior_draws import seeded
from aimz_lab.kernel.rows.lookup_follower import Follower
from aimz_lab.kernel.rows.lookups import DRAWN, OWN, Lookup, Value
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
    """

    kernel: Callable
    rows: Mapping[str, Array]
    shared: Mapping[str, PyTree[Array]] = field(default_factory=dict)
    static: Static = field(default_factory=dict)
    values: Mapping[str, PyTree[Array]] = field(default_factory=dict)
    intervention: Mapping[str, Array] = field(default_factory=dict)
    condition: Mapping[str, Array] = field(default_factory=dict)

    @property
    def arrays(self) -> dict[str, dict[str, Any]]:
        """All arrays, by their role and name."""
        roles = "rows", "shared", "values", "intervention", "condition"
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
        paths = jax.tree_util.tree_leaves_with_path(shapes)
        names = [DRAWN if path[0].key == "values" else path[1].key for path, _ in paths]
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
        needed, self._used = dce_jaxpr(program.jaxpr, [True] * len(program.jaxpr.outvars))
        self._compute = jaxpr_as_fun(ClosedJaxpr(needed, program.consts))
        self._ranges = jax.jit(lambda *leaves: _ranges(self._compute(*leaves)))

    def check(self, call: KernelCall, first_row: int = 0) -> None:
        """Check the indices of a call.

        Args:
            call: The call, with arrays of these shapes.
            first_row: Number of its first row, for the message.

        Raises:
            DataError: If an index is out of range; it names the argument, the row and the length.
        """
        leaves = jax.tree.leaves(call.arrays)
        computed: np.ndarray | None = None
        for lookup in self.lookups:
            if lookup.leaf is not None:
                index = np.asarray(leaves[lookup.leaf])
                low, high = index.min(), index.max()
            else:
                if computed is None:
                    computed = jax.device_get(self._ranges(*self._needed(leaves)))
                low, high = computed[lookup.index]
            if (low < 0 and not lookup.any_low) or (high > lookup.last and not lookup.any_high):
                index = self._index(lookup, leaves)
                _refuse(lookup, index, call, first_row)

    def _index(self, lookup: Lookup, leaves: list[Array]) -> np.ndarray:
        if lookup.leaf is not None:
            return np.asarray(leaves[lookup.leaf])
        one = jax.jit(lambda *given: self._compute(*given)[lookup.index])
        return np.asarray(one(*self._needed(leaves)))

    def _needed(self, leaves: list[Array]) -> list[Array]:
        """The inputs that the indices follow from: the key of the draws, and some arrays."""
        inputs = zip([jax.random.key(0), *leaves], self._used, strict=True)
        return [canonical(leaf) for leaf, used in inputs if used]


def _run(call: KernelCall) -> Callable[[jax.Array, dict[str, dict[str, Any]]], None]:
    """The kernel, with the densities of what it observes, as a function of its arrays."""

    def run(key: jax.Array, arrays: dict[str, dict[str, Any]]) -> None:
        set_values = arrays["intervention"]
        kernel = handlers.do(call.kernel, data=set_values) if set_values else call.kernel
        kernel = handlers.substitute(kernel, data={**arrays["values"], **arrays["condition"]})
        drawn = seeded(pin_plates(kernel, call.n_rows), key)
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


_CONSEQUENCE = {
    "read": "JAX would silently read another entry.",
    "write": "JAX would silently leave it out.",
    "one_hot": "one_hot would silently make it a row of zeros.",
    "switch": "JAX would silently take another branch.",
}


def _refuse(lookup: Lookup, index: np.ndarray, call: KernelCall, first_row: int) -> NoReturn:
    high = np.inf if lookup.any_high else lookup.last
    low = -np.inf if lookup.any_low else 0
    where = np.argwhere((index < low) | (index > high))[0]
    value = int(index[tuple(where)])
    names = sorted(lookup.names - {DRAWN, OWN})
    of_rows = lookup.names & {OWN, *call.rows, *call.intervention, *call.condition}
    has_rows = of_rows and index.ndim and len(index) == call.n_rows
    place = f" in row {first_row + where[0]}" if has_rows else ""
    whose = " and ".join(map(repr, names)) or "own array of indices"
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
