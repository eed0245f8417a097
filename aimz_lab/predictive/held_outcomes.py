"""Refuse scenarios that hold an observed site at its data although they change it.

An outcome that comes before another one, a mediator, carries part of an effect. Where its data is
passed with both scenarios it is the same in both, and their contrast lacks that part.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from aimz_lab.errors import ArgumentError
from aimz_lab.kernel.site_graph import SiteGraph
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.predictive.blocks import Rows
from aimz_lab.predictive.request import Request


def check_held_outcomes(
    requests: Sequence[Request],
    rows: Sequence[Rows],
    specs: Sequence[KernelSpec],
    wanted: Collection[str],
    graph: SiteGraph,
) -> None:
    """Check that scenarios to be compared do not hold an outcome that they change.

    Args:
        requests: The scenarios.
        rows: The rows of each; of those that are read once, any argument may differ.
        specs: The kernel's structure in each.
        wanted: The sites to return.
        graph: Which sites are computed from which.

    Raises:
        ArgumentError: If an observed site depends on what the scenarios differ in, and a wanted
            site on it.
    """
    streamed = {name for each in rows if each.streams for name in each.template}
    changed = _changed_arguments(requests) | streamed
    in_all = set.intersection(
        *({*each.template, *one.shared} for each, one in zip(rows, requests, strict=True))
    )
    chosen = (changed & in_all) - streamed
    set_here = {name for one in requests for name in one.intervention}
    moved = {
        name for name in set_here if not _same([one.intervention.get(name) for one in requests])
    }
    for name, argument in _held(specs).items():
        if name in set_here or argument in chosen:
            continue
        causes = _causes(name, changed - {argument}, moved, graph)
        others = {site for site, its in graph.reads.items() if argument in its and site != name}
        reached = {name}.union(others, *(graph.reached_from(site) for site in (name, *others)))
        if causes and not reached.isdisjoint(wanted):
            _refuse(name, argument, causes)


def _held(specs: Sequence[KernelSpec]) -> dict[str, str | None]:
    """Return the observed sites beside the output, each with the argument that it observes."""
    return {name: spec.sites[name].argument for spec in specs for name in spec.other_outcomes}


def _changed_arguments(requests: Sequence[Request]) -> set[str]:
    """Return the arguments in memory that differ."""
    found: set[str] = set()
    for role in ("rows", "shared", "static"):
        each = [getattr(one, role) for one in requests]
        if all(isinstance(one, Mapping) for one in each):
            names = {name for one in each for name in one}
            found |= {name for name in names if not _same([one.get(name) for one in each])}
    return found


def _same(values: Sequence[Any]) -> bool:
    """Whether trees of arrays are equal, entry by entry."""
    (first, structure), *others = map(jax.tree.flatten, values)
    return all(its == structure and all(map(_are_equal, one, first)) for one, its in others)


def _are_equal(one: Any, two: Any) -> bool:
    return one is two or np.array_equal(one, two)


def _causes(
    site: str, changed: Collection[str], moved: Collection[str], graph: SiteGraph
) -> list[str]:
    """Return the changed arguments, and the sites with changed values, that a site depends on."""
    if not graph.is_proven:
        return sorted({*changed, *moved})
    found = [name for name in sorted(moved) if site in graph.reached_from(name)]
    for argument in sorted(changed):
        first = [name for name, its in graph.reads.items() if argument in its]
        if any(name == site or site in graph.reached_from(name) for name in first):
            found.append(argument)
    return found


def _refuse(site: str, argument: str | None, causes: Sequence[str]) -> None:
    data = "" if argument is None else f", {argument!r}"
    out = "the data of that site" if argument is None else repr(argument)
    verbs = ("differs", "changes") if len(causes) == 1 else ("differ", "change")
    msg = (
        f"{', '.join(map(repr, causes))} {verbs[0]} between the scenarios and {verbs[1]} site "
        f"{site!r}, which they hold at its data{data}: the effect that goes through {site!r} would "
        f"be missing. For the whole effect, leave {out} out of all scenarios (of a table, its "
        f"column); {site!r} is then drawn. For the part that does not go through {site!r}, pass "
        f"intervention={{{site!r}: ...}} in all of them."
    )
    raise ArgumentError(msg)
