"""Latent sites without draws in a log-likelihood: summed out, or refused."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import jax
from jax.typing import ArrayLike
from jaxtyping import PyTree
from numpyro import handlers

from aimz_lab.errors import KernelError
from aimz_lab.kernel.discrete import SummedSite, sites_to_sum_out
from aimz_lab.kernel.masks import unmasked
from aimz_lab.kernel.prior_draws import seeded
from aimz_lab.kernel.rows.pinned_plates import pin_plates
from aimz_lab.kernel.rows.proof import rows_are_independent
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.kernel.tracing import tracing_lock
from aimz_lab.predictive.blocks import BLOCK_ROWS, Rows
from aimz_lab.predictive.request import Request


def find_summed_sites(
    request: Request, rows: Rows, spec: KernelSpec, missing: Collection[str]
) -> tuple[SummedSite, ...]:
    """Find the discrete sites to sum out of the density of the output.

    Args:
        request: The call.
        rows: Its rows.
        spec: The kernel's structure.
        missing: The latent sites without draws.

    Raises:
        KernelError: If the output depends on a site that cannot be summed out.
        SiteError: If it is continuous.
    """
    if not missing or not spec.output_observed:
        return ()

    def densities(rows: PyTree, shared: PyTree, values: PyTree) -> dict[str, jax.Array]:
        return _densities(request, rows, shared, values)

    with tracing_lock:
        summed = sites_to_sum_out(
            densities, _arguments(request, rows, spec, spec.n_rows), missing, spec
        )
        known = request.row_dependence == "independent"
        if summed and not known and not _are_rows_apart(densities, request, rows, spec):
            raise _crossing_error(summed, spec.output)
    return summed


def _are_rows_apart(densities: Callable, request: Request, rows: Rows, spec: KernelSpec) -> bool:
    """Whether each row's densities provably depend on the values of that row alone."""
    others = {2 * BLOCK_ROWS, rows.n_rows or BLOCK_ROWS}
    block = _arguments(request, rows, spec, BLOCK_ROWS)
    try:
        return all(
            rows_are_independent(densities, block, _arguments(request, rows, spec, count))
            for count in others
            if count not in (1, BLOCK_ROWS)  # an axis of one row looks like none
        )
    except Exception:  # noqa: BLE001  a kernel for this number of rows only
        return False


def _crossing_error(summed: Collection[SummedSite], output: str) -> KernelError:
    names = ", ".join(repr(site.name) for site in summed)
    return KernelError(
        f"There are no draws of the discrete latent {names}, which would be summed out of the "
        f"density of {output!r} row by row; but this kernel's rows cannot be shown to be "
        "independent, as they are not in a Markov chain. Pass draws of it to set_posterior_sample "
        "(numpyro.infer.Predictive(..., infer_discrete=True) makes them), or write the sum (a "
        "MixtureSameFamily, a forward algorithm) into the distribution of the output; or pass "
        "rows='independent' if each row is computed from that row alone."
    )


def _densities(
    request: Request, rows: PyTree, shared: PyTree, values: Mapping[str, ArrayLike]
) -> dict[str, jax.Array]:
    """The log density of each sample site and factor, given all of their values."""
    n_rows = jax.tree.leaves(rows)[0].shape[0]
    arguments, params = shared
    kernel = handlers.substitute(request.kernel, data={**params, **values})
    kernel = seeded(pin_plates(kernel, n_rows), jax.random.key(0))
    trace = handlers.trace(kernel).get_trace(**rows, **arguments, **request.static)
    return {
        name: unmasked(site["fn"]).log_prob(site["value"])
        for name, site in trace.items()
        if site["type"] == "sample"
    }


def _arguments(
    request: Request, rows: Rows, spec: KernelSpec, n_rows: int
) -> tuple[PyTree, PyTree, dict[str, jax.ShapeDtypeStruct]]:
    """Shapes and types of the arguments of :func:`_densities`."""
    by_row = {
        name: jax.ShapeDtypeStruct(
            (n_rows, *array.shape[1:]), jax.dtypes.canonicalize_dtype(array.dtype)
        )
        for name, array in rows.template.items()
    }
    shared = jax.tree.map(jax.typeof, (dict(request.shared), dict(request.params)))
    latents = {
        name: jax.ShapeDtypeStruct(spec.shape_at(name, n_rows), spec.sites[name].dtype)
        for name in spec.of_kind("latent")
    }
    return by_row, shared, latents
