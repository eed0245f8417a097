"""Refuse latent sites that are drawn from the kernel although data of the call tells of them."""

from __future__ import annotations

from collections.abc import Callable, Collection

from aimz_lab.errors import OutputWarning, SiteError
from aimz_lab.kernel.site_graph import SiteGraph
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.predictive.request import Request
from aimz_lab.tracebacks import warn


def check_informed(
    spec: KernelSpec,
    wanted: Collection[str],
    given: Collection[str],
    graph_of: Callable[[], SiteGraph],
) -> None:
    """Check that no site is drawn as if an observed site that depends on it had no data.

    Such a site is the class or the true value of a row, of which the posterior has no draws, beside
    an indicator or a measurement of it. A factor may hold such data, or add to the prior of a site.

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
    factors = spec.of_kind("factor")
    if not drawn or not (others or factors):
        return
    graph = graph_of()
    for name in drawn:
        below = graph.reached_from(name, {*given, *others}) | {name}
        if below.isdisjoint(wanted):
            continue
        for other in others:
            if not graph.parents(other).isdisjoint(below):
                _refuse_data(name, other, spec.sites[other].argument)
        for factor in factors:
            if not graph.is_proven or not graph.factors.get(factor, below).isdisjoint(below):
                _refuse_factor(name, factor)


def warn_of_output_data(
    request: Request, spec: KernelSpec, wanted: Collection[str], graph_of: Callable[[], SiteGraph]
) -> None:
    """Warn of an observed site below the output, whose data a prediction of it does not use.

    Args:
        request: The call.
        spec: The kernel's structure.
        wanted: The sites that it returns.
        graph_of: Returns which sites are computed from which.

    Warns:
        OutputWarning: If there is one, and the rows are not those of the training.
    """
    others = [name for name in spec.other_outcomes if name not in request.intervention]
    is_new = request.trained is not None and not request.changed.isdisjoint(request.trained.rows)
    if request.output not in wanted or not others or not is_new or request.draws is None:
        return
    graph = graph_of()
    below = [name for name in others if name in graph.reached_from(request.output)]
    if below and graph.is_proven:
        names = ", ".join(map(repr, below))
        warn(
            f"{request.output!r} is predicted as if {names} had no data: the kernel computes "
            f"{names} from it, and what that data tells of {request.output!r} is not used. Leave "
            "it out of the call, or out of its table, to say so.",
            OutputWarning,
        )


def _refuse_data(name: str, other: str, argument: str | None) -> None:
    data = "that data" if argument is None else repr(argument)
    msg = (
        f"Site {name!r} would be drawn from the kernel as if {other!r} had no data: the posterior "
        f"has no draws of {name!r} for these rows, and the data of {other!r} tells of it. To "
        f"predict without it, leave {data} out (of a table, its column). To predict with it, "
        f"{_with_draws(name)}"
    )
    raise SiteError(msg)


def _refuse_factor(name: str, factor: str) -> None:
    msg = (
        f"Site {name!r} would be drawn from the kernel without the factor {factor!r}, which "
        f"depends on it: the posterior has no draws of {name!r} for these rows. Leave the factor "
        f"out of the kernel where it predicts, if it does not belong there; or "
        f"{_with_draws(name)}"
    )
    raise SiteError(msg)


def _with_draws(name: str) -> str:
    return (
        f"fit the model to these rows, so that there are draws of {name!r}; of a discrete site, "
        "numpyro.infer.Predictive(..., infer_discrete=True) makes them for set_posterior_sample."
    )
