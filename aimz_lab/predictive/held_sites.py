"""Which posterior draws and which returned sites the values set in a call can change.

A value that is set for a site changes the sites below it. Where the posterior holds draws of one of
these, the draws would win and the value would change nothing. So the caller has to decide.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from jax.typing import ArrayLike

from aimz_lab.errors import OutputWarning, SiteError
from aimz_lab.kernel.site_graph import SiteGraph
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.predictive.request import Request
from aimz_lab.tracebacks import warn


def sites_to_redraw(
    request: Request, wanted: Collection[str], latents: Collection[str], graph: SiteGraph
) -> set[str]:
    """Return the sites whose draws give way to the values set in a call.

    Args:
        request: The call.
        wanted: The sites that it returns.
        latents: The latent sites whose draws the posterior holds.
        graph: Which sites are computed from which.

    Returns:
        Under ``held="redraw"``, the posterior's sites that are conditioned on, and those below a
        site that is set; otherwise none.

    Raises:
        SiteError: If ``held="refuse"``, and a site with draws is conditioned on, or one below a set
            site changes a wanted one.
    """
    set_here = {*request.intervention, *request.condition}
    conditioned = [name for name in request.condition if name in latents]
    below = {
        name: [site for site in latents if site in graph.reached_from(name, set_here)]
        for name in set_here
    }
    if request.held == "redraw":
        return {*conditioned, *(site for its in below.values() for site in its)}
    if request.held == "refuse":
        for name in conditioned:
            _refuse_conditioned(name, below[name])
        for name in {**request.intervention, **request.condition}:
            held = [s for s in below[name] if _changes(s, wanted, graph, set_here)]
            if held:
                argument = "intervention" if name in request.intervention else "condition"
                _refuse_below(name, held, argument)
    return set()


def check_reach(
    request: Request, spec: KernelSpec, wanted: Collection[str], graph: SiteGraph
) -> None:
    """Check that each value that is set for a site can change a result.

    Raises:
        SiteError: If a computed site is set whose value the kernel does not take from the site, or
            a discrete site to a value that it cannot have.

    Warns:
        OutputWarning: If a site is set that changes no wanted one, or a wanted one is intervened
            on that is drawn beside the value set.
    """
    for name in request.intervention:
        if spec.sites[name].kind == "deterministic":
            _check_computed(name, graph)
    for name, value in [*request.intervention.items(), *request.condition.items()]:
        _check_levels(name, value, graph)
    own = [
        name
        for name in request.intervention
        if name in wanted and name not in graph.looped and spec.sites[name].kind != "deterministic"
    ]
    if own:
        warn(
            f"The sites {', '.join(map(repr, own))} are intervened on; they come back with the "
            "values that they would have had, not with those set. Read the effect at the sites "
            "downstream.",
            OutputWarning,
        )
    idle = [
        name
        for name in {**request.intervention, **request.condition}
        if not (graph.reached_from(name) | {name}) & {*wanted}
    ]
    if idle:
        one = len(idle) == 1
        warn(
            f"The value set for {_listed(idle)} changes none of the sites returned, "
            f"{', '.join(map(repr, wanted))}: the kernel computes them without "
            f"{'it' if one else 'them'}. A kernel has to go on with what numpyro.sample returns, "
            "not with the data of an observed site.",
            OutputWarning,
        )


def _changes(
    site: str, wanted: Collection[str], graph: SiteGraph, set_here: Collection[str]
) -> bool:
    return site in wanted or not graph.reached_from(site, set_here).isdisjoint(wanted)


def _check_computed(name: str, graph: SiteGraph) -> None:
    if name in graph.looped:
        msg = (
            f"{name!r} is computed in a loop, step by step, where no value can be set for it; set "
            "the sample sites that it is computed from."
        )
        raise SiteError(msg)
    if name in graph.bypassed or not graph.children[name]:
        msg = (
            f"A value set for {name!r} would not reach what the kernel computes from it: the "
            "kernel goes on without what numpyro.deterministic returns. Write "
            f"value = numpyro.deterministic({name!r}, value) and use that value from there on."
        )
        raise SiteError(msg)


def _check_levels(name: str, value: ArrayLike, graph: SiteGraph) -> None:
    """A kernel may index by a discrete site, and an index beyond the end reads another entry."""
    least, greatest = graph.levels.get(name, (-np.inf, np.inf))
    wrong = np.asarray(value)[(np.asarray(value) < least) | (np.asarray(value) > greatest)]
    if wrong.size:
        msg = (
            f"The value set for site {name!r} contains {wrong.flat[0]}; its distribution has the "
            f"values from {least} to {greatest}."
        )
        raise SiteError(msg)


def _refuse_conditioned(name: str, below: Collection[str]) -> None:
    others = f", and draws {_listed(below)} from the kernel" if below else ""
    msg = (
        f"condition sets {name!r}, of which the posterior holds draws. A condition updates no "
        f"draws of the posterior. held='redraw' puts the value in place of the draws of {name!r}"
        f"{others}, and leaves all other draws as they are; held='keep' keeps the draws, so that "
        "the value is not used. For draws given that value, fit the kernel with it as data."
    )
    raise SiteError(msg)


def _refuse_below(name: str, held: Collection[str], argument: str) -> None:
    it = "it" if len(held) == 1 else "them"
    msg = (
        f"The {argument} on {name!r} changes {_listed(held)}, of which the posterior holds draws "
        f"that do not know of it. held='redraw' draws {it} from the kernel under the {argument}; "
        f"held='keep' keeps the draws, so that {name!r} has no effect through {it}."
    )
    raise SiteError(msg)


def _listed(names: Collection[str]) -> str:
    return f"site{'s' * (len(names) > 1)} {', '.join(map(repr, names))}"
