"""Which sites of a kernel are computed from which other sites, by its traced program.

The kernel is traced with the value of every site as an input, and the parameters of every
distribution and every computed value as results. A site depends on those whose inputs its results
need. Values are never drawn, so that distributions need no sampler.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import jax
import numpy as np
from jax.extend.core import Jaxpr, JaxprEqn, Literal, Var
from jax.interpreters.partial_eval import dce_jaxpr
from jaxtyping import PyTree
from numpyro import handlers
from numpyro.distributions import constraints
from numpyro.primitives import Messenger

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
        means: For each sampled site with a known mean, the sites that this mean is computed from
            directly: itself too in a loop, where an entry follows from earlier ones.
        noisy: Sites that are computed directly from noise of each row that the kernel draws with
            keys of its own, by ``numpyro.prng_key``.
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
    names = spec.of_kind("latent", "observed", "deterministic")
    inputs = {
        name: jax.ShapeDtypeStruct(spec.sites[name].shape, spec.sites[name].dtype) for name in names
    }
    abstract = {
        name: jax.ShapeDtypeStruct(
            (spec.n_rows, *value.shape[1:]), jax.dtypes.canonicalize_dtype(value.dtype)
        )
        for name, value in rows.items()
    }
    seen: list[_SitesAsInputs] = []

    def run(
        values: PyTree, rows: PyTree, shared: PyTree, params: PyTree, key: PyTree
    ) -> list[list[jax.Array]]:
        pinned = pin_plates(handlers.substitute(kernel, data=params), spec.n_rows)
        seen[:] = [_SitesAsInputs(pinned, values, spec, key[_KEY])]
        handlers.seed(seen[0], jax.random.key(0))(**rows, **shared, **static)
        return [*seen[0].made_of.values(), *seen[0].factors.values(), *seen[0].means.values()]

    given = inputs, abstract, dict(shared), dict(params), {_KEY: jax.random.key(0)}
    try:
        with tracing_lock:
            traced = jax.make_jaxpr(run)(*given).jaxpr
    except Exception:  # noqa: BLE001  the kernel runs, but not with its sites as inputs
        return _each_from_all_before(names, takes_keys=spec.takes_keys)
    leaves, _ = jax.tree_util.tree_flatten_with_path(given)
    inputs = [(_ROLES[path[0].idx], path[1].key) for path, _ in leaves]
    return _read_graph(traced, inputs, seen[0], spec.n_rows)


_KEY = "key"
_ROLES = ("site", "argument", "argument", "argument", _KEY)
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
        self.made_of[name] = list(_arrays_in(msg["value" if computed else "fn"], set()))
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


def _read_graph(
    traced: Jaxpr, inputs: Sequence[tuple[str, str]], seen: _SitesAsInputs, n_rows: int
) -> SiteGraph:
    """Find what each site is made of.

    Args:
        traced: The program.
        inputs: For each of its inputs, what it is, and the name of the site, argument or parameter.
        seen: The sites in the order of the results.
        n_rows: Rows in the trace.
    """
    children: dict[str, set[str]] = {name: set() for role, name in inputs if role == "site"}
    reads: dict[str, set[str]] = {}
    bypassed, noisy, noisy_means = set(), set(), set()
    factors: dict[str, frozenset[str]] = {}
    means: dict[str, frozenset[str]] = {}
    of_sites = sum(map(len, seen.made_of.values()))
    outputs = range(len(traced.outvars))
    needed, _ = dce_jaxpr(traced, [i < of_sites for i in outputs], instantiate=True)
    first = 0
    for site, made_of in (*seen.made_of.items(), *seen.factors.items()):
        own = range(first, first := first + len(made_of))
        program, used = dce_jaxpr(traced, [i in own for i in outputs])
        both = [one for one, is_used in zip(inputs, used, strict=True) if is_used]
        reads[site] = {name for role, name in both if role == "argument"}
        parents = {name for role, name in both if role == "site" and name != site}
        if (_KEY, _KEY) in both and _draws_by_row(program, n_rows):
            noisy.add(site)
        if site in seen.factors:
            factors[site] = frozenset(parents)
            continue
        for name in parents:
            children[name].add(site)
        others = [atom for i, atom in enumerate(traced.outvars[:of_sites]) if i not in own]
        if site in seen.computed and _is_used_beside(needed, traced, own, others):
            bypassed.add(site)
    for at, site in enumerate(seen.means, first):
        program, used = dce_jaxpr(traced, [i == at for i in outputs])
        both = [one for one, is_used in zip(inputs, used, strict=True) if is_used]
        means[site] = frozenset(name for role, name in both if role == "site")
        if (_KEY, _KEY) in both and _draws_by_row(program, n_rows):
            noisy_means.add(site)
    return SiteGraph(
        {name: frozenset(its) for name, its in children.items()},
        frozenset(seen.looped),
        frozenset(bypassed),
        seen.levels,
        {name: frozenset(its) for name, its in reads.items()},
        factors,
        means,
        frozenset(noisy),
        frozenset(noisy_means),
    )


def _draws_by_row(program: Jaxpr, n_rows: int) -> bool:
    """Whether a program draws as many random numbers as there are rows, or keys for them."""
    return any(
        _draws_rows_in(equation, n_rows)
        or any(_draws_by_row(inner.jaxpr, n_rows) for inner in inner_programs(equation))
        for equation in program.eqns
    )


def _draws_rows_in(equation: JaxprEqn, n_rows: int) -> bool:
    is_random = equation.primitive.name.startswith(("random_", "threefry"))
    return is_random and any(n_rows in out.aval.shape for out in equation.outvars)


def _is_used_beside(
    needed: Jaxpr, traced: Jaxpr, own: Collection[int], others: Collection[Var | Literal]
) -> bool:
    """Whether a result that the program computes goes elsewhere than into the result."""
    variables = {traced.outvars[i] for i in own if isinstance(traced.outvars[i], Var)}
    variables -= {*traced.invars, *traced.constvars}
    elsewhere = [atom for equation in needed.eqns for atom in equation.invars]
    elsewhere += others
    return any(isinstance(atom, Var) and atom in variables for atom in elsewhere)
