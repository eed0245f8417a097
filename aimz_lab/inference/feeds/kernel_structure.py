"""Trace a kernel with a batch of its training data, and check its structure."""

from __future__ import annotations

from aimz_lab.inference.feeds.training_data import TrainingData
from aimz_lab.kernel.check import check_sites
from aimz_lab.kernel.rows.indices import check_indices
from aimz_lab.kernel.shapes import check_shapes
from aimz_lab.kernel.signature import KernelSignature
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.kernel.tracing import trace_spec


def trace_data(signature: KernelSignature, data: TrainingData) -> KernelSpec:
    """Trace a kernel with a batch of its training data, and check its sites and indices.

    Args:
        signature: The kernel.
        data: The training data.

    Raises:
        KernelError: If the output site is missing, or two sites would share a name in results.
        SiteError: If a sampled or observed site has the rows on two axes, or data and distribution
            have different shapes.
        DataError: If an argument holds an index beyond the end of the indexed array.
    """
    kernel, batch = signature.kernel, data.first_batch
    spec = trace_spec(
        kernel,
        rows=batch.rows,
        shared=batch.shared,
        static=batch.static,
        output=signature.output,
    )
    check_sites(spec)
    check_shapes(spec, batch.rows)
    check_indices(kernel, rows=data.rows, shared=batch.shared, static=batch.static)
    return spec
