"""A kernel, with the parts of its model that a prediction reads."""

from __future__ import annotations

from dataclasses import dataclass

import jax

from aimz_lab.data import AxisLabels
from aimz_lab.inference.feeds.fingerprint import TrainingFingerprint
from aimz_lab.inference.feeds.ranges import ColumnScales
from aimz_lab.inference.feeds.schema import InputSchema
from aimz_lab.inference.posterior import Posterior
from aimz_lab.kernel.rows.index_checks import IndexCheck
from aimz_lab.kernel.signature import KernelSignature
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.types import Params


@dataclass(frozen=True)
class FittedKernel:
    """A kernel, with the parts of its model that a prediction reads.

    Attributes:
        signature: The kernel.
        posterior: The draws; ``None`` for the prior.
        params: Learned values of the kernel's own ``param`` sites, and its mutable state.
        schema: Schema of the training data, or ``None``.
        fingerprint: Recognises the training rows, or ``None``.
        devices: The devices to use; ``None`` for all local ones.
        indices: Checks the indices among the arguments.
        spec: The kernel's structure in training, or ``None``.
        column_scales: The way back from each column of an argument to the call's table, by
            argument; ``None`` if it has no table.
        row_labels: Labels of the rows of the draws, if they are known.
    """

    signature: KernelSignature
    posterior: Posterior | None
    params: Params
    schema: InputSchema | None
    fingerprint: TrainingFingerprint | None
    devices: tuple[jax.Device, ...] | None
    indices: IndexCheck
    spec: KernelSpec | None = None
    column_scales: ColumnScales | None = None
    row_labels: AxisLabels | None = None
