"""Trace a kernel with a batch of its training data, and check its structure and its indices."""

from __future__ import annotations

from dataclasses import replace

from aimz_lab.inference.feeds.training_data import TrainingData
from aimz_lab.kernel.bounds import check_observed
from aimz_lab.kernel.check import check_sites
from aimz_lab.kernel.output_check import check_output_observed
from aimz_lab.kernel.plate_checks import check_row_plates
from aimz_lab.kernel.rows.index_checks import IndexCheck
from aimz_lab.kernel.shapes import check_shapes
from aimz_lab.kernel.signature import KernelSignature
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.kernel.tracing import trace_spec


def trace_data(signature: KernelSignature, data: TrainingData) -> KernelSpec:
    """Trace a kernel with a batch of its training data, and check its sites.

    Args:
        signature: The kernel.
        data: The training data.

    Raises:
        KernelError: If the output site is missing or not observed, if two sites would share a name
            in results, or if a plate of the rows does not fit them.
        SiteError: If a sampled or observed site has the rows on two axes, or data and distribution
            have different shapes.
        DataError: If an observed value lies outside the support of its site.

    Warns:
        FitWarning: If a plate of the rows is larger than the data.
    """
    kernel, batch = data.for_batches(signature.kernel), data.first_batch
    spec = trace_spec(
        kernel,
        rows=batch.rows,
        shared=batch.shared,
        static=batch.static,
        output=signature.output,
    )
    check_sites(spec)
    check_shapes(spec, batch.rows)
    check_output_observed(kernel, spec, batch)
    check_row_plates(kernel, spec, batch, data.n_obs)
    check_observed(kernel, rows=data.rows, shared=batch.shared, static=batch.static)
    return spec


def with_checked_indices(indices: IndexCheck, data: TrainingData) -> TrainingData:
    """Check the indices that the kernel makes of its training data.

    Args:
        indices: Checks the kernel's indices.
        data: The training data.

    Returns:
        The same data; if it is a source, then one that raises where a batch is wrong.

    Raises:
        DataError: If an index is out of range in the rows at hand.
    """
    others = {"shared": data.shared, "static": data.static}
    indices.rows(data.rows, piece=data.batch_size, **others)
    if data.source is None:
        return data
    return replace(data, source=indices.source(data.source, fields=tuple(data.rows), **others))
