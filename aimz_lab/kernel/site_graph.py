"""Which sites of a kernel are computed from which other sites, by its traced program.

The kernel is traced with the value of every site as an input, and the parameters of every
distribution and every computed value as results. A site depends on those whose inputs its results
need. Values are never drawn, so that distributions need no sampler.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
from jax.extend.core import Jaxpr, Literal, Var
from jax.interpreters.partial_eval import dce_jaxpr
from jaxtyping import PyTree
from numpyro import handlers
from numpyro.distributions import MaskedDistribution, constraints
from numpyro.primitives import Messenger

from aimz_lab.kernel.modelled_arguments import Origin, modelled_arguments
from aimz_lab.kernel.rows.jaxprs import inner_programs
from aimz_lab.kernel.rows.pinned_plates import pin_plates
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.kernel.tracing import Message, tracing_lock
from aimz_lab.types import HasShape, Static


@dataclass(frozen=True)
class SiteGraph:
    """The sites of a kernel, and which are computed from which.

    Attributes:
        children: For each site, the sites that are computed from its value directly.
        looped: Sites in a ``scan`` or a ``cond`` of NumPyro.
        bypassed: Computed sites whose value the kernel also uses beside the site, so that another
            value of the site would not reach everything.
        levels: For discrete sites with known bounds, the least and the greatest value.
        reads: For each site, the arguments of the kernel and the ``param`` sites that it is
            computed from directly.
        factors: For each factor, the sites that it is computed from directly.
        modelled: For each factor, and each observed site, the arguments that it may be the log
            density of beside the site's own data.
        means: For each sampled site with a known mean, the sites that this mean is computed from
            directly: itself too in a loop, where an entry follows from earlier ones.
        noisy: Sites that are computed directly from noise of each row that the kernel draws with
            keys of its own, by ``numpyro.prng_key``: from as many numbers as follow the rows, or
            from any if the kernel runs for this number of rows alone.
        noisy_means: Sampled sites whose mean is.
        is_proven: Whether this was read from the program; else each site is taken to be computed
            from all sites before it.
    """

    children: Mapping[str, frozenset[str]]
    looped: frozenset[str] = frozenset()
    bypassed: frozenset[str] = frozenset()
    levels: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    reads: Mapping[str, frozenset[str]] = field(default_factory=dict)
    factors: Mapping[str, frozenset[str]] = field(default_factory=dict)
    modelled: Mapping[str, frozenset[str]] = field(default_factory=dict)
    means: Mapping[str, frozenset[str]] = field(default_factory=dict)
    noisy: frozenset[str] = frozenset()
    noisy_means: frozenset[str] = frozenset()
    is_proven: bool = True

    def reached_from(self, name: str, cut: Collection[str] = ()) -> set[str]:
        """Sites that change with a site, directly or through others.

        Args:
            name: The site.
            cut: Sites that have values of their own; nothing reaches them.

        Example:
            >>> graph = SiteGraph({"m": frozenset({"t"}), "t": frozenset({"y"}), "y": frozenset()})
            >>> sorted(graph.reached_from("m"))
            ['t', 'y']
            >>> graph.reached_from("m", cut={"t"})
            set()
        """
        found: set[str] = set()
        waiting = [name]
        while waiting:
            new = self.children.get(waiting.pop(), frozenset()) - found - {*cut}
            found |= new
            waiting.extend(new)
        return found

    def parents(self, name: str) -> frozenset[str]:
        """Sites that a site is computed from directly."""
        return frozenset(parent for parent, its in self.children.items() if name in its)


def trace_site_graph(
    kernel: Callable,
    spec: KernelSpec,
    *,
    rows: Mapping[str, HasShape],
    shared: Mapping[str, PyTree[HasShape]],
    static: Static,
    params: Mapping[str, PyTree[HasShape]],
) -> SiteGraph:
    """Trace which sites of a kernel are computed from which.

    Args:
        kernel: The kernel.
        spec: Its structure for these arguments.
        rows: Per-row arguments; only types and the shapes behind the rows matter.
        shared: Shared arguments.
        static: Arguments without arrays.
        params: Values of ``param`` sites and mutable state.

    Returns:
        The graph. Where the kernel cannot be traced in this way, each site is taken to be computed
        from all sites before it.
    """
    given = kernel, spec, rows, shared, static, params
    try:
        traced = _trace(*given, n_rows=spec.n_rows)
    except Exception:  # noqa: BLE001  the kernel runs, but not with its sites as inputs
        names = spec.of_kind("latent", "observed", "deterministic")
        return _each_from_all_before(names, takes_keys=spec.takes_keys)
    graph = _read_graph(traced)
    if not spec.takes_keys:
        return graph
    try:
        more = _own_draws(_trace(*given, n_rows=2 * spec.n_rows))
    except Exception:  # noqa: BLE001  for this number of rows alone, so that any noise may be by row
        more = {}, {}
    noisy, noisy_means = map(_growing, _own_draws(traced), more)
    return replace(graph, noisy=noisy, noisy_means=noisy_means)


class _Traced(NamedTuple):
    """A kernel as a program of the values of its sites.

    Attributes:
        program: The program.
        inputs: For each of its inputs, what it is, and the name of the site, argument or parameter.
        seen: The sites in the order of the results.
    """

    program: Jaxpr
    inputs: list[tuple[str, str]]
    seen: _SitesAsInputs


def _trace(
    kernel: Callable,
    spec: KernelSpec,
    rows: Mapping[str, HasShape],
    shared: Mapping[str, PyTree[HasShape]],
    static: Static,
    params: Mapping[str, PyTree[HasShape]],
    *,
    n_rows: int,
) -> _Traced:
    """Trace a kernel; see :func:`trace_site_graph`."""
    names = spec.of_kind("latent", "observed", "deterministic")
    inputs = {
        name: jax.ShapeDtypeStruct(spec.shape_at(name, n_rows), spec.sites[name].dtype)
        for name in names
    }
    abstract = {
        name: jax.ShapeDtypeStruct(
            (n_rows, *value.shape[1:]), jax.dtypes.canonicalize_dtype(value.dtype)
        )
        for name, value in rows.items()
    }
    seen: list[_SitesAsInputs] = []

    def run(
        values: PyTree, rows: PyTree, shared: PyTree, params: PyTree, key: PyTree
    ) -> list[list[jax.Array]]:
        pinned = pin_plates(handlers.substitute(kernel, data=params), n_rows)
        seen[:] = [_SitesAsInputs(pinned, values, spec, key[_KEY])]
        handlers.seed(seen[0], jax.random.key(0))(**rows, **shared, **static)
        return [*seen[0].made_of.values(), *seen[0].factors.values(), *seen[0].means.values()]

    given = inputs, abstract, dict(shared), dict(params), {_KEY: jax.random.key(0)}
    with tracing_lock:
        program = jax.make_jaxpr(run)(*given).jaxpr
    leaves, _ = jax.tree_util.tree_flatten_with_path(given)
    return _Traced(program, [(_ROLES[path[0].idx], path[1].key) for path, _ in leaves], seen[0])


_KEY = "key"
_ROLES = ("site", "argument", "argument", "parameter", _KEY)
"""What the inputs of a traced kernel are."""


def _each_from_all_before(names: tuple[str, ...], *, takes_keys: bool) -> SiteGraph:
    children = {name: frozenset(names[i + 1 :]) for i, name in enumerate(names)}
    means = {name: frozenset(names[: i + 1]) for i, name in enumerate(names)}
    noisy = frozenset(names if takes_keys else ())
    return SiteGraph(children, means=means, noisy=noisy, noisy_means=noisy, is_proven=False)


class _SitesAsInputs(Messenger):
    """Gives every site a value, and keeps what the kernel made the site of.

    Attributes:
        made_of: The parameters of a site's distribution, or its computed value, by site.
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


def _read_graph(given: _Traced) -> SiteGraph:
    """Find what each site is made of."""
    traced, inputs, seen = given
    children: dict[str, set[str]] = {name: set() for role, name in inputs if role == "site"}
    reads: dict[str, set[str]] = {}
    bypassed = set()
    factors: dict[str, frozenset[str]] = {}
    means: dict[str, frozenset[str]] = {}
    of_sites = sum(map(len, seen.made_of.values()))
    outputs = range(len(traced.outvars))
    needed, _ = dce_jaxpr(traced, [i < of_sites for i in outputs], instantiate=True)
    first = 0
    for site, made_of in (*seen.made_of.items(), *seen.factors.items()):
        own = range(first, first := first + len(made_of))
        _, used = dce_jaxpr(traced, [i in own for i in outputs])
        both = [one for one, is_used in zip(inputs, used, strict=True) if is_used]
        reads[site] = {name for role, name in both if role in ("argument", "parameter")}
        parents = {name for role, name in both if role == "site" and name != site}
        if site in seen.factors:
            factors[site] = frozenset(parents)
            continue
        for name in parents:
            children[name].add(site)
        others = [atom for i, atom in enumerate(traced.outvars[:of_sites]) if i not in own]
        if site in seen.computed and _is_used_beside(needed, traced, own, others):
            bypassed.add(site)
    for at, site in enumerate(seen.means, first):
        _, used = dce_jaxpr(traced, [i == at for i in outputs])
        both = [one for one, is_used in zip(inputs, used, strict=True) if is_used]
        means[site] = frozenset(name for role, name in both if role == "site")
    graph = SiteGraph(
        {name: frozenset(its) for name, its in children.items()},
        frozenset(seen.looped),
        frozenset(bypassed),
        seen.levels,
        {name: frozenset(its) for name, its in reads.items()},
        factors,
        means=means,
    )
    return replace(graph, modelled=_modelled(given, graph))


def _modelled(traced: _Traced, graph: SiteGraph) -> dict[str, frozenset[str]]:
    """Find which arguments factors and observed sites may be the log density of."""
    inputs, seen = traced.inputs, traced.seen
    origins = [_origin(role, name, traced, graph) for role, name in inputs]
    found, first = {}, 0
    for site, made_of in (*seen.made_of.items(), *seen.factors.items()):
        own = range(first, first := first + len(made_of))
        if site in seen.factors or site in seen.observed:
            part, used = dce_jaxpr(
                traced.program, [i in own for i in range(len(traced.program.outvars))]
            )
            its = [one for one, is_used in zip(origins, used, strict=True) if is_used]
            found[site] = modelled_arguments(part, its)
    return found


def _origin(role: str, name: str, traced: _Traced, graph: SiteGraph) -> Origin:
    """Return what an input of a traced kernel is computed from, through other sites too."""
    if role != "site":
        return Origin(frozenset({name} if role == "argument" else ()), role == "parameter")
    above = {name, *(one for one in graph.children if name in graph.reached_from(one))}
    read = frozenset().union(*(graph.reads.get(one, ()) for one in above))
    parameters = {name for role, name in traced.inputs if role == "parameter"}
    is_random = bool(above - traced.seen.deterministic or read & parameters)
    return Origin(read - parameters, is_random)


_Draws: TypeAlias = tuple
"""The shapes of the random numbers that a program draws, nested as its programs are."""


def _own_draws(traced: _Traced) -> tuple[dict[str, _Draws], dict[str, _Draws]]:
    """Return what sites, and the means of sites, draw with keys that the kernel asks for."""
    program, inputs, seen = traced
    made_of = {**seen.made_of, **seen.factors}
    results = [(0, name, len(arrays)) for name, arrays in made_of.items()]
    results += [(1, name, 1) for name in seen.means]
    found: tuple[dict[str, _Draws], dict[str, _Draws]] = {}, {}
    first = 0
    for kind, name, count in results:
        own = range(first, first := first + count)
        part, used = dce_jaxpr(program, [i in own for i in range(len(program.outvars))])
        if used[inputs.index((_KEY, _KEY))]:
            found[kind][name] = _draws_of(part)
    return found


def _draws_of(program: Jaxpr) -> _Draws:
    found = []
    for equation in program.eqns:
        if equation.primitive.name.startswith(("random_", "threefry")):
            found.append(tuple(out.aval.shape for out in equation.outvars))
        inner = [_draws_of(each.jaxpr) for each in inner_programs(equation)]
        if any(inner):  # a loop over rows draws numbers of each
            found.append((equation.params.get("length"), *inner))
    return tuple(found)


def _growing(few: Mapping[str, _Draws], more: Mapping[str, _Draws]) -> frozenset[str]:
    """Return what draws other random numbers where there are more rows."""
    return frozenset(name for name, draws in few.items() if draws != more.get(name, ()))


def _is_used_beside(
    needed: Jaxpr, traced: Jaxpr, own: Collection[int], others: Collection[Var | Literal]
) -> bool:
    """Whether a result that the program computes goes elsewhere than into the result."""
    variables = {traced.outvars[i] for i in own if isinstance(traced.outvars[i], Var)}
    variables -= {*traced.invars, *traced.constvars}
    elsewhere = [atom for equation in needed.eqns for atom in equation.invars]
    elsewhere += others
    return any(isinstance(atom, Var) and atom in variables for atom in elsewhere)
