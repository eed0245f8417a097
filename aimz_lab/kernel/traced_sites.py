"""A kernel as a program of the values of its sites.

The kernel is traced with the value of every site as an input, and the parameters of every
distribution and every computed value as results. Values are never drawn, so that distributions
need no sampler.
"""

from __future__ import annotations

import functools
import inspect
import re
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import Jaxpr
from jaxtyping import PyTree
from numpyro import handlers
from numpyro.distributions import MaskedDistribution, constraints
from numpyro.primitives import Messenger

from aimz_lab.kernel.argument_leaves import leaf_name
from aimz_lab.kernel.arguments import KernelArguments
from aimz_lab.kernel.rows.pinned_plates import pin_plates
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.kernel.tracing import Message, tracing_lock
from aimz_lab.types import HasShape

KEY = "key"
"""Stands for the random key among the inputs of a traced kernel."""

_ROLES = ("site", "argument", "argument", "parameter", KEY)
"""What the inputs of a traced kernel are."""


class TracedSites(NamedTuple):
    """A kernel as a program of the values of its sites.

    Attributes:
        program: The program.
        inputs: For each of its inputs, what it is, and the name of the site, of the array in an
            argument (:mod:`aimz_lab.kernel.argument_leaves`), or of the parameter.
        seen: The sites in the order of the results.
        constants: Arrays that the program holds.
    """

    program: Jaxpr
    inputs: list[tuple[str, str]]
    seen: SitesAsInputs
    constants: list[jax.Array]


def trace_sites(
    kernel: Callable,
    spec: KernelSpec,
    arguments: KernelArguments,
    params: Mapping[str, PyTree[HasShape]],
    *,
    n_rows: int,
) -> TracedSites:
    """Trace a kernel.

    Args:
        kernel: The kernel.
        spec: Its structure for these arguments.
        arguments: Its arguments; of arrays with rows, only types and the shapes behind the rows
            matter.
        params: Values of ``param`` sites and mutable state.
        n_rows: The number of rows to trace it for.

    Raises:
        Exception: What the kernel raises with its sites as inputs.
    """
    names = spec.of_kind("latent", "observed", "deterministic")
    inputs = {
        name: jax.ShapeDtypeStruct(spec.shape_at(name, n_rows), spec.sites[name].dtype)
        for name in names
    }
    abstract = {
        name: jax.ShapeDtypeStruct(
            (n_rows, *value.shape[1:]), jax.dtypes.canonicalize_dtype(value.dtype)
        )
        for name, value in arguments.rows.items()
    }
    seen: list[SitesAsInputs] = []

    def run(
        values: PyTree, rows: PyTree, shared: PyTree, params: PyTree, key: PyTree
    ) -> list[list[jax.Array]]:
        pinned = pin_plates(handlers.substitute(kernel, data=params), n_rows)
        seen[:] = [SitesAsInputs(pinned, values, spec, key[KEY])]
        handlers.seed(seen[0], jax.random.key(0))(**rows, **shared, **arguments.static)
        return [*seen[0].made_of.values(), *seen[0].factors.values(), *seen[0].means.values()]

    given = inputs, abstract, dict(arguments.shared), dict(params), {KEY: jax.random.key(0)}
    with tracing_lock:
        program = jax.make_jaxpr(run)(*given)
    leaves, _ = jax.tree_util.tree_flatten_with_path(given)
    inputs = [_input_at(path) for path, _ in leaves]
    return TracedSites(program.jaxpr, inputs, seen[0], program.consts)


def _input_at(path: tuple[Any, ...]) -> tuple[str, str]:
    """Return what an input is, and its name; a network with several arrays is one parameter."""
    place, first, *others = path
    role = _ROLES[place.idx]
    return role, leaf_name(first.key, tuple(others)) if role == "argument" else first.key


class SitesAsInputs(Messenger):
    """Gives every site a value, and keeps what the kernel made the site of.

    Attributes:
        made_of: The parameters of a site's distribution, or its computed value, by site.
        forms: The same with all that is not an array, such as the family and plain numbers.
        factors: The terms that factors add to the log density, by factor.
        means: The means of distributions, by site.
        computed: The computed sites outside of loops.
        levels: Bounds of discrete sites.
        looped: Sites in a ``scan`` or a ``cond``.
        deterministic: All computed sites.
        observed: Sites with data.
    """

    def __init__(
        self, fn: Callable, values: Mapping[str, jax.Array], spec: KernelSpec, key: jax.Array
    ) -> None:
        self.made_of: dict[str, list[jax.Array]] = {}
        self.forms: dict[str, str] = {}
        self.factors: dict[str, list[jax.Array]] = {}
        self.means: dict[str, jax.Array] = {}
        self.computed: set[str] = set()
        self.levels: dict[str, tuple[int, int]] = {}
        self.looped: set[str] = set()
        self._values, self._key = values, key
        self._samples = {name: values[name] for name in spec.sample_sites}
        self._factors = spec.of_kind("factor")
        self.deterministic = frozenset(spec.of_kind("deterministic"))
        self.observed = frozenset(spec.of_kind("observed"))
        self._drawn_output = None if spec.output_observed else spec.output
        self._with_mean = {name for name, site in spec.sites.items() if site.mean_kind is not None}
        super().__init__(fn)

    def process_message(self, msg: Message) -> None:
        """Keep what a site is made of, and give it its value."""
        if msg["type"] == "control_flow":
            msg["kwargs"]["substitute_stack"].append(("substitute", self._samples))
        if msg["type"] == "prng_key":
            msg["value"] = self._key
        name = msg.get("name")
        if name in self._factors and msg["type"] == "sample":
            self.factors[name] = list(_arrays_in(msg["fn"], set()))
        if name not in self._values or msg["type"] not in ("sample", "deterministic"):
            return
        computed = msg["type"] == "deterministic"
        origin = msg["value"] if computed else msg["fn"]
        if name == self._drawn_output:
            origin = _without_mask(origin)
        self.made_of[name] = list(_arrays_in(origin, set()))
        self.forms[name] = _form_of(origin)
        if name in self._with_mean:
            self.means[name] = msg["fn"].mean
        # Inside of a loop the value is in its place, or cannot be set, by the time it comes here.
        if msg.get("_control_flow_done"):
            self.looped.add(name)
            return
        if computed:
            self.computed.add(name)
        else:
            self._add_levels(name, msg["fn"].support)
        msg["value"] = self._values[name]

    def _add_levels(self, name: str, support: constraints.Constraint) -> None:
        while hasattr(support, "base_constraint"):
            support = support.base_constraint
        if not isinstance(support, type(constraints.integer_interval(0, 1))):
            return
        bounds = support.lower_bound, support.upper_bound
        if not any(isinstance(bound, jax.core.Tracer) for bound in bounds):
            self.levels[name] = int(np.min(bounds[0])), int(np.max(bounds[1]))


def _without_mask(fn: Any) -> Any:
    """Leave out a mask: it is of the density, and changes no value that is drawn."""
    while isinstance(fn, MaskedDistribution):
        fn = fn.base_dist
    return fn


def _arrays_in(value: object, seen: set[int]) -> Iterator[jax.Array]:
    """Yield the arrays in a distribution, also those that it does not declare as parameters."""
    if isinstance(value, jax.Array):
        yield value
        return
    if id(value) in seen or isinstance(value, (type, types.ModuleType)):
        return
    seen.add(id(value))
    if isinstance(value, Mapping):
        parts = value.values()
    elif isinstance(value, (list, tuple, set)):
        parts = value
    elif isinstance(value, functools.partial):
        parts = (value.func, value.args, value.keywords)
    elif isinstance(value, types.FunctionType):
        parts = inspect.getclosurevars(value).nonlocals.values()
    elif isinstance(value, types.MethodType):
        parts = (value.__self__,)
    else:
        parts = getattr(value, "__dict__", {}).values()
    for part in list(parts):
        yield from _arrays_in(part, seen)


def _form_of(value: PyTree) -> str:
    """Return all of a distribution or a value that is not an array, as a text to compare."""
    leaves, structure = jax.tree.flatten(value)
    plain = [type(leaf) if isinstance(leaf, jax.Array) else leaf for leaf in leaves]
    return without_addresses(f"{structure} {plain}")


def without_addresses(text: str) -> str:
    """Return a text of a program or an object that is the same in every trace.

    Args:
        text: Its text.
    """
    return re.sub(r" at 0x[0-9a-f]+", "", text)
