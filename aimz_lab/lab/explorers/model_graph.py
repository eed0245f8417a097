"""The sites of a kernel as a graph: what they are, and which are computed from which."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import jax
import numpy as np
from jaxtyping import PyTree

from aimz_lab.kernel.argument_leaves import named_leaves
from aimz_lab.kernel.arguments import KernelArguments
from aimz_lab.kernel.rows.pinned_plates import pin_plates
from aimz_lab.kernel.site_graph import SiteGraph, trace_site_graph
from aimz_lab.kernel.spec import KernelSpec, SiteKind
from aimz_lab.kernel.tracing import trace_spec
from aimz_lab.kernel.written_sites import CodeLine, WrittenSites, trace_written_sites
from aimz_lab.types import HasShape, Params, Static

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class KernelCall:
    """A kernel with the arguments of a call, or with shapes that stand for them.

    Attributes:
        kernel: The kernel.
        output: Name of its output site.
        rows: Per-row arguments, or their shapes.
        shared: Shared arguments, or their shapes.
        static: Arguments without arrays.
        params: Learned values of ``param`` sites, and mutable state.
        has_values: Whether the arguments are arrays, and not shapes alone.
        is_any_size: Whether the number of rows is not known, and that of these is a batch's.
    """

    kernel: Callable
    output: str
    rows: Mapping[str, HasShape]
    shared: Mapping[str, PyTree[HasShape]] = field(default_factory=dict)
    static: Static = field(default_factory=dict)
    params: Params = field(default_factory=dict)
    has_values: bool = True
    is_any_size: bool = False

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return next(iter(self.rows.values())).shape[0]


@dataclass(frozen=True)
class GraphSite:
    """A site of the graph.

    Attributes:
        name: Name of the site.
        kind: ``latent``, ``observed``, ``factor``, ``deterministic`` or ``param``.
        distribution: ``"Normal(0, scale)"``; empty for sites without one.
        shape: Shape of its value for these arguments.
        plates: Names of the plates around it, outermost first.
        parents: Sites that it is computed from directly, in the kernel's order.
        arguments: Arguments of the kernel that it is computed from directly.
        is_discrete: Whether its values are whole numbers or flags.
        is_looped: Whether it is in a ``scan`` or a ``cond``.
        observes: The argument that an observed site observes as it is, or an empty text.
        can_be_drawn: Whether its distribution has a sampler; ``ImproperUniform`` has none.
        code: Where it is written, if that can be had.
        row_axes: Axes of its value that follow a number of rows which is not known.
    """

    name: str
    kind: SiteKind
    distribution: str
    shape: tuple[int, ...]
    plates: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    is_discrete: bool = False
    is_looped: bool = False
    observes: str = ""
    can_be_drawn: bool = True
    code: CodeLine | None = None
    row_axes: tuple[int, ...] = ()

    @property
    def shown_shape(self) -> tuple[int | str, ...]:
        """Its shape, with the word ``rows`` where their number is not known."""
        return tuple("rows" if i in self.row_axes else n for i, n in enumerate(self.shape))


@dataclass(frozen=True)
class ModelGraph:
    """The sites of a kernel, and which are computed from which.

    Attributes:
        sites: The sites by name, in the kernel's order.
        plates: For each plate around a site, its size and the entries that one call takes; ``None``
            for that of rows whose number is not known.
        n_rows: Rows of the arguments.
        is_proven: Whether the parents were read from the program; else there are none.
    """

    sites: Mapping[str, GraphSite]
    plates: Mapping[str, tuple[int, int] | None]
    n_rows: int
    is_proven: bool = True

    def ancestors(self, name: str) -> set[str]:
        """Return the sites that a site is computed from, directly or through others."""
        found: set[str] = set()
        waiting = [name]
        while waiting:
            new = {*self.sites[waiting.pop()].parents} - found
            found |= new
            waiting.extend(new)
        return found

    def read_by(self, name: str) -> set[str]:
        """Return the kernel's arguments that the distribution of a site depends on."""
        names = {name, *self.ancestors(name)}
        return {argument for each in names for argument in self.sites[each].arguments}

    def table(self) -> pd.DataFrame:
        """Return a row for each site: name, kind, distribution, shape, plates, parents, line."""
        import pandas as pd

        columns = ("kind", "distribution", "shape", "plates", "parents", "arguments")
        found = {column: [getattr(s, column) for s in self.sites.values()] for column in columns}
        found["shape"] = [site.shown_shape for site in self.sites.values()]
        found["line"] = [site.code.place if site.code else "" for site in self.sites.values()]
        return pd.DataFrame(found, index=pd.Index(self.sites, name="site"))


def model_graph(call: KernelCall) -> ModelGraph:
    """Trace the graph of a kernel.

    Args:
        call: The kernel and its arguments; only their shapes matter.

    Raises:
        Exception: Whatever the kernel raises.
    """
    arguments = {"rows": call.rows, "shared": call.shared, "static": call.static}
    written = trace_written_sites(call.kernel, **arguments)
    params = {**written.params, **call.params}
    pinned = pin_plates(call.kernel, call.n_rows)
    spec = trace_spec(pinned, output=call.output, values=call.params, **arguments)
    graph = trace_site_graph(call.kernel, spec, KernelArguments(**arguments), params)
    plates = _nested(spec)
    sites = {name: _site(name, call, spec, graph, written, plates) for name in spec.sites}
    sizes = {name: _size_of_plate(name, call, spec, written) for name in plates}
    return ModelGraph(sites, sizes, call.n_rows, graph.is_proven)


def _site(
    name: str,
    call: KernelCall,
    spec: KernelSpec,
    graph: SiteGraph,
    written: WrittenSites,
    plates: Iterable[str],
) -> GraphSite:
    site = spec.sites[name]
    reads = graph.reads.get(name, frozenset())
    parents = {one for one, its in graph.children.items() if name in its}
    parents |= graph.factors.get(name, frozenset())
    # An argument that an earlier site observes is that site's value; a later site's is data alone.
    earlier = itertools.takewhile(lambda one: one != name, spec.sites)
    parents = parents & spec.sites.keys() | reads.intersection(earlier)
    parents = parents if graph.is_proven else set()
    own = {plate.name for plate in site.plates}
    is_output = name == call.output and site.kind == "latent"
    return GraphSite(
        name=name,
        kind="observed" if is_output else site.kind,
        distribution=written.distributions.get(name, ""),
        shape=site.shape,
        plates=tuple(plate for plate in plates if plate in own),
        parents=tuple(one for one in spec.sites if one in parents and one != name),
        arguments=tuple(
            one
            for one, value in {**call.rows, **call.shared}.items()
            if not reads.isdisjoint(named_leaves({one: value}))
        ),
        is_discrete=site.dtype.kind in "biu",
        is_looped=name in graph.looped,
        observes=site.argument or "",
        can_be_drawn=name not in written.unsampled,
        code=written.lines.get(name),
        row_axes=site.row_axes if call.is_any_size else (),
    )


def _nested(spec: KernelSpec) -> list[str]:
    """Return the plates around sites, those around more sites first."""
    count: dict[str, int] = {}
    for site in spec.sites.values():
        for plate in site.plates:
            count[plate.name] = count.get(plate.name, 0) + 1
    return sorted(count, key=lambda name: -count[name])


def _size_of_plate(
    name: str, call: KernelCall, spec: KernelSpec, written: WrittenSites
) -> tuple[int, int] | None:
    found = (plate for site in spec.sites.values() for plate in site.plates if plate.name == name)
    plate = next(found)
    if call.is_any_size and plate.is_rows:
        return None
    return written.plates.get(name, (plate.size, plate.subsample_size))


def shapes_of(arrays: PyTree[HasShape]) -> PyTree[jax.ShapeDtypeStruct]:
    """Return the shapes and JAX types of arrays."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            np.shape(leaf), jax.dtypes.canonicalize_dtype(np.dtype(leaf.dtype))
        ),
        arrays,
    )
