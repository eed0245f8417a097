"""Compare posterior draws with the sites of a kernel."""

from __future__ import annotations

import math
from collections.abc import Collection, Container, Iterable, Mapping

import numpy as np
from jaxtyping import Shaped

from aimz_lab.data.memory import check_memory
from aimz_lab.errors import OutputWarning, SiteError
from aimz_lab.inference.finite_draws import OF_THE_USER, check_finite_draws
from aimz_lab.inference.posterior import Posterior
from aimz_lab.kernel.spec import KernelSpec, Site
from aimz_lab.tracebacks import warn
from aimz_lab.types import Array

Draws = Mapping[str, Shaped[Array, "draw ..."]]


def check_posterior(
    posterior: Posterior, trained: KernelSpec | None, predicted: KernelSpec | None = None
) -> None:
    """Check draws from elsewhere: their values, and their sites if the kernel's are known.

    Args:
        posterior: The draws.
        trained: The kernel's structure as last trained, or ``None``.
        predicted: Its structure in predictions so far, or ``None``.

    Raises:
        SiteError: If draws of latent sites are NaN or infinite, or do not fit the kernel. Sites
            that the kernel computes may be infinite, as a log-probability of zero is.
    """
    spec = trained or predicted
    known = None if spec is None else spec.joined(predicted)
    latent = None if known is None else known.latent_sites
    check_finite_draws(posterior.draws, latent, OF_THE_USER)
    if known is not None:
        check_sites_of_draws(posterior.draws, spec, known=known.sites)
        check_axes_of_draws(posterior.draws, known)


def check_sites_of_draws(
    draws: Draws,
    spec: KernelSpec,
    given: Container[str] = (),
    *,
    warn_of_missing: bool = True,
    known: Container[str] = (),
) -> None:
    """Check that a kernel knows the sites of a posterior, and that there are draws of its sites.

    Latent sites with one value per row need no draws: new rows get new values. Neither does a site
    without values (``Unit``) or one whose value is given. Every other latent site without draws is
    drawn from the kernel, and so from the prior.

    Args:
        draws: Posterior draws by site.
        spec: The kernel's structure.
        given: Sites that get a value in this call.
        warn_of_missing: Whether sites without draws will be drawn, so that a warning is due.
        known: Further sites of the kernel, of calls with other arguments.

    Raises:
        SiteError: If the kernel lacks sites that have draws, and also has sites without draws: a
            name is misspelt, or the draws belong to another kernel. Also if a parameter has draws.

    Warns:
        OutputWarning: With the names of the sites, if only one of the two holds.
    """
    params = [name for name in draws if name in spec.of_kind("param")]
    if params:
        msg = (
            f"The posterior has draws of {_listed(params)}, but numpyro.param has one value and no "
            "draws. Make it a sample site, or leave it out and train it; a value from elsewhere "
            "goes into im.vi_result."
        )
        raise SiteError(msg)
    unknown = [name for name in draws if name not in spec.sites and name not in known]
    missing = [
        name
        for name in spec.latent_sites
        if name not in draws and name not in given and _needs_draws(spec.sites[name])
    ]
    if unknown and missing:
        msg = (
            f"The posterior has draws of {_listed(unknown)}, which the kernel does not have, and "
            f"none of the kernel's {_listed(missing)}. Give the draws the names of the kernel's "
            f"sites: {_listed(spec.latent_sites)}."
        )
        raise SiteError(msg)
    if unknown:
        warn(
            f"The posterior has draws of {_listed(unknown)}, which the kernel does not have; they "
            "are not used.",
            OutputWarning,
        )
    if missing and warn_of_missing:
        warn(
            f"The posterior has no draws of {_listed(missing)}: each draw gets a value from the "
            "kernel, as from its prior. Add draws (set_posterior_sample), set a value "
            "(intervention=, condition=), or, to draw all sites from the prior, call "
            "sample_prior_predictive.",
            OutputWarning,
        )


_IN_A_STEP = 3


def check_draws_fit(spec: KernelSpec, n_draws: int) -> None:
    """Check that draws of a kernel's latent sites can fit into memory, before they are trained for.

    Raises:
        OutOfMemoryError: If they cannot, or a step of training cannot.
    """
    sites = [spec.sites[name] for name in spec.latent_sites]
    draw_bytes = sum(site.dtype.itemsize * math.prod(site.shape) for site in sites)
    largest = max(sites, key=lambda site: math.prod(site.shape), default=None)
    size = "" if largest is None else f"; the largest site, {largest.name!r}, has {largest.shape}"
    advice = f"Ask for fewer draws, num_samples=, or make sites smaller{size}."
    check_memory(n_draws, draw_bytes, "the posterior", advice)
    # A step holds a parameter, its gradient and a draw of each entry, at least.
    what = "the latent sites, with parameters and gradients,"
    check_memory(1, _IN_A_STEP * draw_bytes, what, f"Make sites smaller{size}.")


def check_shapes_of_draws(
    draws: Draws,
    spec: KernelSpec,
    n_rows: int | None,
    *,
    unused: Container[str] = (),
    can_redraw: bool = False,
) -> None:
    """Check that draws have the shapes of their sites for the arguments of a call.

    Args:
        draws: Posterior draws by site.
        spec: The kernel's structure.
        n_rows: Number of rows of the call; ``None`` if unknown.
        unused: Sites whose draws the call does not use.
        can_redraw: Whether the call has ``held="redraw"``.

    Raises:
        SiteError: With both shapes.
    """
    for name, values in draws.items():
        if name in unused or not _is_latent(spec, name):
            continue
        shape, expected = np.shape(values)[1:], spec.shape_at(name, n_rows)
        if len(shape) != len(expected) or any(
            size not in (None, got) for got, size in zip(shape, expected, strict=True)
        ):
            msg = (
                f"A posterior draw of site {name!r} has shape {shape}, but for these arguments "
                f"the kernel gives it shape {expected}. A site with one value a row fits the "
                f"fitted rows only, and a site sized by a count fits that count only."
                f"{_advice(shape, expected)}"
            )
            if spec.sites[name].row_axes and not _advice(shape, expected):
                by_row = [name for name in spec.learned_by_row if name in draws]
                msg += to_draw_anew(by_row, can_redraw=can_redraw)
            raise SiteError(msg)


def check_axes_of_draws(draws: Draws, spec: KernelSpec) -> None:
    """Check that draws have as many axes as their sites, whose sizes a call decides.

    Raises:
        SiteError: With both numbers.
    """
    for name, values in draws.items():
        shape = np.shape(values)[1:]
        if _is_latent(spec, name) and len(shape) != len(spec.sites[name].shape):
            expected = spec.shape_at(name, None)
            msg = (
                f"A posterior draw of site {name!r} has shape {shape}, and the site has "
                f"{len(expected)} {'axis' if len(expected) == 1 else 'axes'}."
                f"{_advice(shape, expected)}"
            )
            raise SiteError(msg)


def as_values_of(site: Site, draws: Shaped[Array, "draw ..."]) -> Shaped[np.ndarray, "draw ..."]:
    """Return draws as the kind of number that their site has: real or whole.

    Raises:
        SiteError: If the site has whole numbers, and a draw is not whole.
    """
    values = np.asarray(draws)
    whole = site.dtype.kind in "iu"
    if whole and values.dtype.kind == "f":
        if not (values == np.round(values)).all():
            msg = f"The site {site.name!r} takes whole numbers, and its posterior draws are not."
            raise SiteError(msg)
        return values.astype(site.dtype)
    if not whole and site.dtype.kind != "b" and values.dtype.kind in "iub":
        return values.astype(site.dtype)
    return values


def to_draw_anew(by_row: Collection[str], *, can_redraw: bool) -> str:
    """Say how sites with one value per row are drawn anew; empty for none.

    Args:
        by_row: Their names.
        can_redraw: Whether the call has ``held="redraw"``.
    """
    if not by_row:
        return ""
    if can_redraw:
        return f" For new rows, draw {_listed(by_row)} anew: held='redraw'."
    one = f"!= {next(iter(by_row))!r}" if len(by_row) == 1 else f"not in {(*by_row,)!r}"
    return (
        f" For new rows, draw {_listed(by_row)} anew, from a copy without these draws: "
        "copy.copy(im).set_posterior_sample({site: draws for site, draws in im.posterior.items() "
        f"if site {one}}})."
    )


def _needs_draws(site: Site) -> bool:
    return not site.row_axes and 0 not in site.shape


def _is_latent(spec: KernelSpec, name: str) -> bool:
    return name in spec.sites and name != spec.output and spec.sites[name].kind == "latent"


def _advice(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> str:
    if len(shape) != len(expected) + 1:
        return ""
    return (
        " Chains are stacked along the axis of draws: values.reshape(-1, *values.shape[2:]), with "
        "num_chains=."
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))
