"""Which sites of a kernel are computed from which other sites, by its traced program.

A site depends on those whose values its results need, in the program of
:mod:`aimz_lab.kernel.traced_sites`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from jax.extend.core import Jaxpr, Literal, Var
from jax.interpreters.partial_eval import dce_jaxpr
from jaxtyping import PyTree

from aimz_lab.kernel.arguments import KernelArguments
from aimz_lab.kernel.modelled_arguments import Origin, modelled_arguments
from aimz_lab.kernel.rows.jaxprs import inner_programs
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.kernel.traced_sites import KEY, TracedSites, trace_sites
from aimz_lab.types import HasShape


@dataclass(frozen=True)
class SiteGraph:
    """The sites of a kernel, and which are computed from which.

    Attributes:
        children: For each site, the sites that are computed from its value directly.
        looped: Sites in a ``scan`` or a ``cond`` of NumPyro.
        bypassed: Computed sites whose value the kernel also uses beside the site, so that another
            value of the site would not reach everything.
        levels: For discrete sites with known bounds, the least and the greatest value.
        reads: For each site, the arrays in arguments of the kernel, by the names of
            :mod:`aimz_lab.kernel.argument_leaves`, and the ``param`` sites that it is computed
            from directly.
        factors: For each factor, the sites that it is computed from directly.
        modelled: For each factor, and each observed site, the arrays that it may be the log
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
    arguments: KernelArguments,
    params: Mapping[str, PyTree[HasShape]],
) -> SiteGraph:
    """Trace which sites of a kernel are computed from which.

    Args:
        kernel: The kernel.
        spec: Its structure for these arguments.
        arguments: Its arguments; of arrays with rows, only types and the shapes behind the rows
            matter.
        params: Values of ``param`` sites and mutable state.

    Returns:
        The graph. Where the kernel cannot be traced in this way, each site is taken to be computed
        from all sites before it.
    """
    given = kernel, spec, arguments, params
    try:
        traced = trace_sites(*given, n_rows=spec.n_rows)
    except Exception:  # noqa: BLE001  the kernel runs, but not with its sites as inputs
        names = spec.of_kind("latent", "observed", "deterministic")
        return _each_from_all_before(names, takes_keys=spec.takes_keys)
    graph = _read_graph(traced)
    if not spec.takes_keys:
        return graph
    try:
        more = _own_draws(trace_sites(*given, n_rows=2 * spec.n_rows))
    except Exception:  # noqa: BLE001  for this number of rows alone, so that any noise may be by row
        more = {}, {}
    noisy, noisy_means = map(_growing, _own_draws(traced), more)
    return replace(graph, noisy=noisy, noisy_means=noisy_means)


def _each_from_all_before(names: tuple[str, ...], *, takes_keys: bool) -> SiteGraph:
    children = {name: frozenset(names[i + 1 :]) for i, name in enumerate(names)}
    means = {name: frozenset(names[: i + 1]) for i, name in enumerate(names)}
    noisy = frozenset(names if takes_keys else ())
    return SiteGraph(children, means=means, noisy=noisy, noisy_means=noisy, is_proven=False)


def _read_graph(given: TracedSites) -> SiteGraph:
    """Find what each site is made of."""
    traced, inputs, seen = given.program, given.inputs, given.seen
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


def _modelled(traced: TracedSites, graph: SiteGraph) -> dict[str, frozenset[str]]:
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


def _origin(role: str, name: str, traced: TracedSites, graph: SiteGraph) -> Origin:
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


def _own_draws(traced: TracedSites) -> tuple[dict[str, _Draws], dict[str, _Draws]]:
    """Return what sites, and the means of sites, draw with keys that the kernel asks for."""
    program, inputs, seen = traced.program, traced.inputs, traced.seen
    made_of = {**seen.made_of, **seen.factors}
    results = [(0, name, len(arrays)) for name, arrays in made_of.items()]
    results += [(1, name, 1) for name in seen.means]
    found: tuple[dict[str, _Draws], dict[str, _Draws]] = {}, {}
    first = 0
    for kind, name, count in results:
        own = range(first, first := first + count)
        part, used = dce_jaxpr(program, [i in own for i in range(len(program.outvars))])
        if used[inputs.index((KEY, KEY))]:
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
