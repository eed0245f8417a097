"""Read what a fit trains and validates on, and check it against kernel and guide."""

from __future__ import annotations

from typing import NamedTuple

from numpyro.infer import SVI

from aimz_lab.errors import GuideError
from aimz_lab.inference.feeds.inputs import all_rows, held_out_rows, needed_output, training_data
from aimz_lab.inference.feeds.kernel_structure import trace_data
from aimz_lab.inference.feeds.placement import Placement, resolve_placement
from aimz_lab.inference.feeds.training_data import TrainingData
from aimz_lab.inference.request import FitRequest
from aimz_lab.inference.svi.plan import check_guide
from aimz_lab.inference.svi.validation import HeldOut, check_held_out
from aimz_lab.kernel.signature import KernelSignature
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.types import Device


class FitData(NamedTuple):
    """What a fit works on.

    Attributes:
        training: What to train on.
        held_out: What to validate on, or ``None``.
        spec: The kernel's structure.
        placement: Where batches should go.
    """

    training: TrainingData
    held_out: HeldOut | None
    spec: KernelSpec
    placement: Placement


def read_fit_data(signature: KernelSignature, svi: SVI, request: FitRequest) -> FitData:
    """Read the data of a fit; nothing is changed by a refusal.

    Args:
        signature: The kernel.
        svi: The inference object.
        request: What the user asked for.

    Raises:
        CallError: If arguments are missing, unknown or doubled.
        DataError: If the data does not fit together.
        KernelError: If the kernel's structure is not usable.
        SiteError: If a site has the rows on two axes.
        GuideError: If the guide cannot be trained on such batches, or has no values for the
            held-out rows.
    """
    data, device, spec = _training(signature, svi, request)
    held_out = None
    if request.validation is not None:
        extra = {**data.shared, **data.static}
        rows = held_out_rows(
            signature, request.validation, extra, allow_nonfinite=request.allow_nonfinite
        )
        held_out = HeldOut(rows, request.validation_every)
        check_held_out(svi, spec, data, held_out)
    return FitData(data, held_out, spec, resolve_placement(request.device, device))


def prepare(signature: KernelSignature, svi: SVI, data: TrainingData) -> KernelSpec:
    """Check kernel, data and guide against each other; return the kernel's structure."""
    spec = trace_data(signature, data)
    check_guide(svi, spec, data)
    return spec


def _training(
    signature: KernelSignature, svi: SVI, request: FitRequest
) -> tuple[TrainingData, Device | None, KernelSpec]:
    """Read the training data, with its loader's device, and the kernel's structure."""
    if request.num_steps is not None:
        data = all_rows(
            signature,
            request.inputs,
            needed_output(request.outputs, signature.output),
            request.arguments,
            allow_nonfinite=request.allow_nonfinite,
        )
        return data, None, prepare(signature, svi, data)
    data, device = _batches(signature, request, request.batch_size)
    try:
        return data, device, prepare(signature, svi, data)
    except GuideError:
        # Without a batch size of the user's, all rows at once are a choice that trains.
        if request.batch_size is not None or not data.in_memory or data.order is None:
            raise
    data, device = _batches(signature, request, data.n_obs)
    return data, device, prepare(signature, svi, data)


def _batches(
    signature: KernelSignature, request: FitRequest, batch_size: int | None
) -> tuple[TrainingData, Device | None]:
    return training_data(
        signature,
        request.inputs,
        request.outputs,
        request.arguments,
        key=request.origin.keys[1],
        batch_size=batch_size,
        shuffle=request.shuffle,
        n_obs=request.n_obs,
        allow_nonfinite=request.allow_nonfinite,
        first_epoch=request.origin.first_epoch,
    )
