"""Check that the sites named in a request exist, and that their values fit."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np

from aimz_lab.errors import OutputWarning, SiteError
from aimz_lab.inference.posterior_sites import check_shapes_of_draws, check_sites_of_draws
from aimz_lab.kernel.checks.preflight import parameter_names
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.predictive.request import Quantity, Request
from aimz_lab.spelling import near_names
from aimz_lab.tracebacks import warn


def check_named(request: Request, spec: KernelSpec) -> None:
    """Raise :class:`SiteError` if the request names an unknown site."""
    arguments = parameter_names(request.kernel)
    valued = spec.of_kind("latent", "observed", "deterministic")
    for argument, names in (
        ("intervention", request.intervention),
        ("condition", request.condition),
    ):
        for name in names:
            if name in spec.of_kind("param", "factor"):
                msg = (
                    f"{argument} names {name!r}, which is a {spec.sites[name].kind} of the kernel: "
                    "it has no distribution, and no value can be set for it here."
                )
                raise SiteError(msg)
    _check_known("intervention", request.intervention, valued, arguments)
    computed = [name for name in request.condition if name in spec.of_kind("deterministic")]
    if computed:
        msg = (
            f"condition names {', '.join(map(repr, computed))}, which the kernel computes from "
            "other sites and which has no distribution of its own; condition on those, or set it "
            "with intervention=."
        )
        raise SiteError(msg)
    _check_known("condition", request.condition, spec.sample_sites, arguments)
    _check_known("return_sites", request.return_sites or (), valued)


def _check_known(
    argument: str, names: Iterable[str], known: tuple[str, ...], arguments: tuple[str, ...] = ()
) -> None:
    unknown = [name for name in names if name not in known]
    for name in unknown:
        if name in arguments:
            msg = (
                f"{argument} names {name!r}, which is an argument of the kernel and not a site; "
                f"pass other values of it: {name}=..."
            )
            raise SiteError(msg)
    if unknown:
        near = {match: None for name in unknown for match in near_names(name, known, 2)}
        hint = f"did you mean {' or '.join(map(repr, near))}? Its" if near else "its"
        msg = (
            f"{argument} names {', '.join(map(repr, unknown))}, which the kernel does not have; "
            f"{hint} sites are {', '.join(map(repr, known))}."
        )
        raise SiteError(msg)


def wanted_sites(request: Request, spec: KernelSpec, quantity: Quantity) -> tuple[str, ...]:
    """Return the names of the sites that a request returns.

    Raises:
        SiteError: If the kernel has no output site, and other sites are not named.
    """
    is_named = quantity == "values" and request.return_sites is not None
    if request.output not in spec.sites and not is_named:
        msg = (
            f"The kernel has no output site {request.output!r} for these arguments; its sites are "
            f"{', '.join(map(repr, spec.sites)) or 'none'}. Name those to return: return_sites=."
        )
        raise SiteError(msg)
    if quantity == "log_likelihood":
        return (request.output,)
    if request.return_sites is None:
        return spec.return_sites
    return request.return_sites


def check_draws(
    request: Request,
    spec: KernelSpec,
    n_rows: int | None,
    quantity: Quantity,
    below: Collection[str],
    redrawn: Collection[str],
) -> None:
    """Check the posterior's draws against the kernel's sites.

    Args:
        request: The call.
        spec: The kernel's structure for its arguments.
        n_rows: Number of rows of the call; ``None`` if unknown.
        quantity: Values of sites, or their log likelihood.
        below: Sites that an intervention reaches; they may come from the kernel.
        redrawn: Sites that are drawn anew in place of their draws.

    Raises:
        SiteError: If names or shapes are not those of the kernel's sites.

    Warns:
        OutputWarning: If the kernel lacks a site of the draws, a site without rows lacks draws, or
            a parameter was not trained; of a log likelihood, what becomes of a site without draws
            is decided elsewhere.
    """
    if request.draws is None:
        return
    given = {request.output, *request.intervention, *request.condition, *below}
    drawn = quantity == "values"
    check_sites_of_draws(request.draws, spec, given, warn_of_missing=drawn)
    unused = {request.output, *request.intervention, *redrawn}
    check_shapes_of_draws(request.draws, spec, n_rows, unused=unused, can_redraw=drawn)
    untrained = [name for name in spec.of_kind("param") if name not in request.params]
    if untrained:
        names = ", ".join(map(repr, untrained))
        warn(
            f"The kernel's parameters {names} have no trained values, so that each keeps the "
            "one it begins with. Train them by SVI, or set im.vi_result.",
            OutputWarning,
        )


def row_wise_values(request: Request, spec: KernelSpec, n_rows: int | None) -> dict[str, int]:
    """Return the sites whose set value has one entry per row, with its axis of rows.

    Raises:
        SiteError: If a value does not fit the shape of its site.
    """
    found = {}
    for name, value in {**request.condition, **request.intervention}.items():
        site = spec.sites[name]
        shape, expected = np.shape(value), spec.shape_at(name, n_rows)
        axis = site.row_axes[0] - len(site.shape) if site.row_axes else 0
        if axis and len(shape) >= -axis and shape[axis] != 1:
            found[name] = len(shape) + axis
        sizes = zip(reversed(shape), reversed(expected), strict=False)
        if len(shape) > len(expected) or any(got not in (1, size or got) for got, size in sizes):
            msg = (
                f"The value set for site {name!r} has shape {shape}; the site has {expected}. "
                "Pass a value of that shape; for one that differs by row, make it an argument "
                "of the kernel."
            )
            raise SiteError(msg)
    return found
