"""Refuse latent sites that are drawn from the kernel although data of the call tells of them."""

from __future__ import annotations

from collections.abc import Callable, Collection

from aimz_lab.errors import SiteError
from aimz_lab.kernel.site_graph import SiteGraph
from aimz_lab.kernel.spec import KernelSpec


def check_informed(
    spec: KernelSpec,
    wanted: Collection[str],
    given: Collection[str],
    graph_of: Callable[[], SiteGraph],
) -> None:
    """Check that no site is drawn as if an observed site that depends on it had no data.

    Such a site is the class or the true value of a row, of which the posterior has no draws, beside
    an indicator or a measurement of it.

    Args:
        spec: The kernel's structure.
        wanted: The sites that a call returns.
        given: The sites that have draws or values.
        graph_of: Returns which sites are computed from which.

    Raises:
        SiteError: If there is one that changes a wanted site.
    """
    drawn = [name for name in spec.latent_sites if name not in given]
    others = [name for name in spec.other_outcomes if name not in given]
    if not drawn or not others:
        return
    graph = graph_of()
    for name in drawn:
        below = graph.reached_from(name, {*given, *others}) | {name}
        for other in others:
            if graph.parents(other).isdisjoint(below) or below.isdisjoint(wanted):
                continue
            argument = spec.sites[other].argument
            data = "that data" if argument is None else repr(argument)
            msg = (
                f"Site {name!r} would be drawn from the kernel as if {other!r} had no data: the "
                f"posterior has no draws of {name!r} for these rows, and the data of {other!r} "
                f"tells of it. To predict without it, leave {data} out (of a table, its column). "
                f"To predict with it, fit the model to these rows, so that there are draws of "
                f"{name!r}; of a discrete site, numpyro.infer.Predictive(..., infer_discrete=True) "
                "makes them for set_posterior_sample."
            )
            raise SiteError(msg)
