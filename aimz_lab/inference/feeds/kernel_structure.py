"""Trace a kernel with a batch of its training data, and check its structure."""

from __future__ import annotations

from aimz_lab.inference.feeds.training_data import TrainingData
from aimz_lab.kernel.check import check_sites
from aimz_lab.kernel.rows.indices import check_indices
from aimz_lab.kernel.signature import KernelSignature
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.kernel.tracing import trace_spec


def trace_data(signature: KernelSignature, data: TrainingData) -> KernelSpec:
    """Trace a kernel with a batch of its training data, and check its sites and indices.

    Args:
        signature: The kernel.
        data: What to train on.

    Raises:
        KernelError: If it lacks its output site, or a site cannot be stored.
        SiteError: If a site has the rows on two axes.
        DataError: If an argument indexes beyond the end of what it indexes.
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
    check_indices(kernel, rows=data.rows, shared=batch.shared, static=batch.static)
    return spec
