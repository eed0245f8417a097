"""Which results of a call are expected values, and which hold the noise of values drawn by row.

The mean of a site's distribution is that of one row given the other sites. Where the call draws one
of these for each row, as the purchase behind an amount, an average of such means holds its noise.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from aimz_lab.kernel.site_graph import SiteGraph
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.predictive.request import Request

DRAWN = "drawn"
"""Attribute of results: the sites that hold the noise of values drawn for each row."""


def drawn_by_row(request: Request, spec: KernelSpec, given: Collection[str]) -> frozenset[str]:
    """Return the sites that a call draws for each row.

    Args:
        request: The call.
        spec: The kernel's structure.
        given: Sites whose value is set, or comes from the posterior.
    """
    return frozenset(
        name
        for name, site in spec.sites.items()
        # A site without rows is a parameter, unless it is the outcome.
        if site.is_drawn and name not in given and (site.row_axes or name == request.output)
    )


def expected_sites(
    request: Request, spec: KernelSpec, wanted: Collection[str], drawn: Collection[str]
) -> frozenset[str]:
    """Return the sites to return as the mean of their distribution, given the other sites.

    Args:
        request: The call.
        spec: The kernel's structure.
        wanted: The sites to return.
        drawn: The sites that the call draws for each row.
    """
    if request.expected is None:
        return frozenset()
    kinds = ("share",) if request.expected == "probabilities" else ("share", "mean")
    scale = request.output_scale
    keeps_means = {
        name for name in wanted if scale is None or scale.is_linear or name != request.output
    }
    return frozenset(
        name
        for name in keeps_means.intersection(drawn)
        if spec.sites[name].mean_kind in kinds and spec.row_axis(name) is not None
    )


def noisy_sites(
    request: Request,
    spec: KernelSpec,
    wanted: Collection[str],
    drawn: Collection[str],
    expected: Collection[str],
    given: Collection[str],
    graph: Callable[[], SiteGraph],
) -> frozenset[str]:
    """Return the sites to return that hold the noise of values that the call draws for each row.

    Args:
        request: The call.
        spec: The kernel's structure.
        wanted: The sites to return.
        drawn: The sites that the call draws for each row.
        expected: Those that it returns as the mean of their distribution.
        given: Sites whose value is set, or comes from the posterior.
        graph: Returns which sites are computed from which.
    """
    found = {name for name in wanted if name in drawn and name not in expected}
    rest = {name for name in wanted if name not in found and name not in given}
    # The kernel may also draw with keys of its own, at any site.
    if rest := rest.intersection(spec.sites if spec.takes_keys else _after_drawn(spec, drawn)):
        sites = graph()
        # What is computed from a site that is intervened on takes the value set.
        cut = {*given, *request.intervention}
        sources = {*drawn}.difference(request.intervention) | (sites.noisy - cut)
        for name in rest:
            parents = sites.means[name] if name in expected else sites.parents(name)
            own = sites.noisy_means if name in expected else sites.noisy
            if name in own or _reaches_up(sites, parents, sources, cut):
                found.add(name)
    return frozenset(found)


def _after_drawn(spec: KernelSpec, drawn: Collection[str]) -> list[str]:
    """Return the sites that may be computed from drawn ones: those after one, or all of loops."""
    names = list(spec.sites)
    if any(spec.sites[name].is_looped for name in drawn):
        return names
    first = min((names.index(name) for name in drawn), default=len(names))
    return names[first + 1 :]


def _reaches_up(
    graph: SiteGraph, parents: Collection[str], sources: Collection[str], cut: Collection[str]
) -> bool:
    """Whether something is computed from a source, past sites that have values of their own."""
    waiting, seen = [*parents], {*cut}
    while waiting:
        name = waiting.pop()
        if name in sources:
            return True
        if name not in seen:
            seen.add(name)
            waiting.extend(graph.parents(name))
    return False


def named_as_drawn(*attrs: Mapping[str, Any]) -> list[str]:
    """Return the sites that hold the noise of values drawn for each row in any of some results.

    Args:
        *attrs: The attributes of each result.
    """
    return sorted({str(name) for each in attrs for name in np.atleast_1d(each.get(DRAWN, []))})
