"""Check the plates of a kernel against the rows that it is trained on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from numpyro import handlers

from aimz_lab.errors import FitWarning, KernelError
from aimz_lab.kernel.argument_reach import depends_on
from aimz_lab.kernel.arguments import KernelArguments
from aimz_lab.kernel.batch_plates import too_small
from aimz_lab.kernel.prior_draws import seeded
from aimz_lab.kernel.spec import KernelSpec, Plate
from aimz_lab.tracebacks import warn
from aimz_lab.types import Arguments


def subsampling_plates(spec: KernelSpec) -> list[Plate]:
    """Return the plates of a kernel that take only some of their entries."""
    plates = {plate.name: plate for site in spec.sites.values() for plate in site.plates}
    return [plate for plate in plates.values() if plate.size != plate.subsample_size]


def check_row_plates(
    kernel: Callable, spec: KernelSpec, batch: KernelArguments, n_obs: int | None
) -> None:
    """Check that the plates of the rows are large enough, and that nothing uses their indices.

    Args:
        kernel: A kernel.
        spec: Its structure at the batch size.
        batch: Arguments of one batch.
        n_obs: Rows of the data set, or ``None`` if unknown.

    Raises:
        KernelError: If a plate of fixed size has fewer entries than there are rows; if it takes
            another number of rows than a batch has; or if its indices are used, which are
            random and not those of the batch's rows.

    Warns:
        FitWarning: If a plate is larger than the data.
    """
    n_rows = spec.n_rows if n_obs is None else n_obs
    plates = {plate.name: plate for site in spec.sites.values() for plate in site.plates}
    for plate in plates.values():
        if not plate.is_rows or plate.size_follows_rows:
            continue
        if plate.size < n_rows:
            raise KernelError(too_small(plate.name, plate.size, n_rows))
        if plate.size == plate.subsample_size:
            continue
        if plate.size > n_rows and n_obs is not None:
            msg = (
                f"The plate {plate.name!r} has size={plate.size:,}, but the data has {n_obs:,} "
                f"rows; the posterior will be as certain as {plate.size:,} rows would make it. "
                f"Give the plate size={n_obs:,}, or leave its subsampling out: batches are scaled "
                "for you."
            )
            warn(msg, FitWarning)
    check_indices_unused(kernel, spec, batch)
    _check_rows_fit(spec)


def check_indices_unused(kernel: Callable, spec: KernelSpec, batch: KernelArguments) -> None:
    """Check that the indices of the rows' plates are not used where they are random.

    Args:
        kernel: A kernel or a guide.
        spec: Its structure at the batch size.
        batch: Arguments of one batch.

    Raises:
        KernelError: If the kernel uses such indices, which are not those of the batch's rows.
    """
    for plate in subsampling_plates(spec):
        if plate.is_rows and not plate.size_follows_rows:
            _check_plate_indices_unused(kernel, plate, batch)


def _check_rows_fit(spec: KernelSpec) -> None:
    """Check that a plate with a fixed subsample takes as many rows as a batch has."""
    for name, site in spec.sites.items():
        for plate in site.plates:
            axis = site.batch_ndim + plate.dim
            misfit = plate.subsample_size not in (1, spec.n_rows) and axis in site.row_axes
            if site.kind == "observed" and misfit and not plate.is_rows:
                taken = plate.subsample_size
                or_else = f", or train with batch_size={taken}" if plate.size > taken else ""
                msg = (
                    f"The plate {plate.name!r} of the site {name!r} takes {taken:,} rows, but the "
                    f"kernel is given {spec.n_rows:,}. Give it the rows of the call, "
                    f"plate({plate.name!r}, X.shape[0]){or_else}."
                )
                raise KernelError(msg)


def _check_plate_indices_unused(kernel: Callable, plate: Plate, batch: KernelArguments) -> None:
    def run(indices: jax.Array, rows: Arguments, shared: Arguments, key: jax.Array) -> Any:
        placed = handlers.substitute(kernel, data={plate.name: indices})
        trace = handlers.trace(seeded(placed, key)).get_trace(**rows, **shared, **batch.static)
        sampled = [site for site in trace.values() if site["type"] == "sample"]
        computed = [site["value"] for site in trace.values() if site["type"] == "deterministic"]
        return computed, [site["fn"].log_prob(site["value"]) for site in sampled]

    indices = jax.ShapeDtypeStruct((plate.subsample_size,), jnp.int32)
    if depends_on(run, indices, dict(batch.rows), dict(batch.shared), jax.random.key(0)):
        msg = (
            f"The plate {plate.name!r} takes {plate.subsample_size:,} random entries of "
            f"{plate.size:,}, and the kernel or the guide uses their indices; but these are not "
            "those of the batch's rows, which it cannot know. Pass what is indexed as an array by "
            "row, or give the kernel all rows at once, by fit_on_batch, and let it index its "
            "arguments: "
            f"with plate({plate.name!r}, X.shape[0], subsample_size=...) as i: ... obs=y[i]."
        )
        raise KernelError(msg)


def check_not_subsampled(spec: KernelSpec) -> None:
    """Check that a kernel uses all rows, as chains need.

    Raises:
        KernelError: If a plate takes only some of its entries.
    """
    for plate in subsampling_plates(spec):
        msg = (
            f"The plate {plate.name!r} takes {plate.subsample_size:,} of {plate.size:,} entries; "
            "chains need all of them. Leave subsample_size out, or use the sampler HMCECS, or SVI."
        )
        raise KernelError(msg)
