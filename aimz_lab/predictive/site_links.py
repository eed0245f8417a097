"""What the sites and arguments of a call lead to: which sites change with which."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from aimz_lab.kernel.argument_leaves import named_leaves
from aimz_lab.kernel.argument_reach import sites_by_array
from aimz_lab.kernel.arguments import KernelArguments
from aimz_lab.kernel.site_graph import SiteGraph
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.predictive.blocks import Rows
from aimz_lab.predictive.request import Request


class Compared(NamedTuple):
    """One of several scenarios.

    Attributes:
        request: The call.
        rows: Its rows; of those that are read once, any argument may differ.
        spec: The kernel's structure in this call.
    """

    request: Request
    rows: Rows
    spec: KernelSpec

    @property
    def arguments(self) -> KernelArguments:
        """The kernel's arguments, with the shapes of those with rows."""
        return KernelArguments(self.rows.template, self.request.shared, self.request.static)


class SiteLinks(NamedTuple):
    """What sites and arguments lead to.

    Attributes:
        graph: Which sites are computed from which.
        observers: For each array in an argument, the observed sites whose data follows from it.
        cut: Sites that have values of their own.
    """

    graph: SiteGraph
    observers: Mapping[str, set[str]]
    cut: set[str]

    def arguments_of(self, site: str) -> frozenset[str]:
        """Return the arrays in arguments that the data of an observed site follows from."""
        return frozenset(name for name, sites in self.observers.items() if site in sites)

    def causes(self, site: str, names: Iterable[str], untraced: Collection[str]) -> list[str]:
        """Return those of some arguments and sites that a site depends on.

        Args:
            site: The site.
            names: The arguments and sites.
            untraced: Those of the arguments that it depends on although no program shows it.
        """
        if not self.graph.is_proven:
            return sorted(names)
        return [one for one in sorted(names) if one in untraced or site in self._changed_by(one)]

    def _changed_by(self, name: str) -> set[str]:
        """Sites and factors that change with an argument, or with a site that is set."""
        found = self.read_by(name)
        for site in (name, *self.observers.get(name, ())):
            found |= self._below(site)
        factors = self.graph.factors.items()
        return found.union(one for one, its in factors if not its.isdisjoint({name, *found}))

    def read_by(self, argument: str) -> set[str]:
        """Sites and factors that are computed from an argument, directly or through others."""
        readers = {site for site, its in self.graph.reads.items() if argument in its}
        return readers.union(*map(self._below, readers))

    def changed_with(self, sites: Iterable[str]) -> set[str]:
        """Return the sites that change with some sites, and these."""
        return {*sites}.union(*map(self._below, sites))

    def _below(self, site: str) -> set[str]:
        return self.graph.reached_from(site, self.cut)

    def reached(self, site: str, arguments: Collection[str]) -> set[str]:
        """Sites that change with a site, or read its data beside it."""
        readers = {
            name
            for name, its in self.graph.reads.items()
            if name != site and not its.isdisjoint(arguments)
        }
        return {site, *readers}.union(*map(self._below, (site, *readers)))


def site_links(one: Compared, graph: SiteGraph, set_here: set[str]) -> SiteLinks:
    """Return what the sites and arguments of a scenario lead to.

    Args:
        one: The scenario.
        graph: Which of its sites are computed from which.
        set_here: Sites that have values of their own.
    """
    observers: dict[str, set[str]] = {}
    sites = [one.spec.sites[name] for name in one.spec.of_kind("observed")]
    for site in sites:
        if site.argument is not None:
            observers.setdefault(site.argument, set()).add(site.name)
    unclear = {site.name for site in sites if site.argument is None}
    if unclear:
        for name, follow in _followers(one).items():
            if follow & unclear:
                observers.setdefault(name, set()).update(follow & unclear)
    return SiteLinks(graph, observers, set_here)


def _followers(one: Compared) -> dict[str, frozenset[str]]:
    """Return the sites whose value follows from each array in the arguments."""
    try:
        found = sites_by_array(one.request.kernel, one.spec, one.arguments)
    except Exception:  # noqa: BLE001  it cannot be traced, so that any may follow
        arrays = named_leaves({**one.rows.template, **one.request.shared})
        return dict.fromkeys(arrays, frozenset(one.spec.sites))
    return {name: each.values for name, each in found.items()}
