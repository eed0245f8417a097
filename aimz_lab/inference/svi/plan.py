"""Plan the training of a kernel on given data: checks, scales, padding and feed."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpyro
from numpyro.infer import SVI
from numpyro.infer.autoguide import AutoGuide

from aimz_lab.data import canonical, pad_rows
from aimz_lab.errors import GuideError
from aimz_lab.inference.autoguides import follows_density, takes_curvature
from aimz_lab.inference.feeds.feed import BEGINNING, Feed, Position
from aimz_lab.inference.feeds.fixed_feed import FixedFeed
from aimz_lab.inference.feeds.index_feed import IndexFeed
from aimz_lab.inference.feeds.placement import Placement
from aimz_lab.inference.feeds.stream_feed import StreamFeed
from aimz_lab.inference.feeds.training_data import TrainingData
from aimz_lab.inference.request import StepOptions
from aimz_lab.inference.rollback import rollback_always
from aimz_lab.inference.svi.step import StepPlan
from aimz_lab.kernel.arguments import KernelArguments
from aimz_lab.kernel.check import check_trainable_on_batches, kept_by_position
from aimz_lab.kernel.scaling import RowScale, Scale, plan_row_scale
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.kernel.tracing import trace_spec, tracing_lock
from aimz_lab.types import Shared


@dataclass(frozen=True)
class TrainingPlan:
    """How data is trained on.

    Attributes:
        spec: The kernel's structure at the batch size.
        step: How a step is computed.
        placement: Where batches go.
    """

    spec: KernelSpec
    step: StepPlan
    placement: Placement

    @property
    def key(self) -> Hashable:
        """What two plans share that can use the same compiled steps."""
        step = self.step
        scales = step.model_scale.key, step.guide_scale.key
        return (*scales, step.padded, step.n_obs, step.accumulate, step.metrics)


def plan_training(
    kernel: Callable,
    svi: SVI,
    spec: KernelSpec,
    data: TrainingData,
    placement: Placement,
    options: StepOptions,
    *,
    is_mutable: bool,
) -> TrainingPlan:
    """Decide how to weight, pad and place the batches. The guide has been set up or is a function.

    Args:
        kernel: The NumPyro model.
        svi: The inference object.
        spec: The kernel's structure at the batch size.
        data: What to train on.
        placement: Where batches should go.
        options: What the user asked for.
        is_mutable: Whether the kernel has mutable sites, such as batch statistics, which padding
            would change.

    Warns:
        FitWarning: If a plate of rows says another size than the data has.
    """
    batch = data.first_batch
    scale = options.scale if data.n_obs is not None else _without_size(options.scale)
    make = partial(plan_row_scale, batch=batch, scale=scale, n_obs=data.n_obs)
    model_scale = make(kernel, spec)
    guide_spec = _guide_spec(svi.guide, spec, batch)
    empty = RowScale({}, scale, spec.n_rows)
    guide_scale = make(svi.guide, guide_spec) if guide_spec is not None else empty
    padded = (
        not is_mutable
        and not _enumerates(svi, spec)
        and bool(model_scale.sites)
        and model_scale.can_pad
        and guide_scale.can_pad
        and not (isinstance(svi.guide, AutoGuide) and _row_latents(spec))
    )
    step = StepPlan(
        model_scale,
        guide_scale,
        padded=padded,
        n_obs=None if padded else data.n_obs,
        accumulate=options.accumulate,
        metrics=options.metrics,
    )
    return TrainingPlan(spec, step, placement if padded else placement.uncut())


def check_guide(svi: SVI, spec: KernelSpec, data: TrainingData) -> None:
    """Refuse a guide that cannot be trained on the batches; before anything is set up.

    Raises:
        GuideError: If it keeps values by position in the batch, or needs all rows at once.
    """
    if not data.is_minibatch:
        return
    if follows_density(svi.guide):
        msg = (
            "AutoDAIS follows the density of all rows and cannot be trained on minibatches; use "
            "fit_on_batch, or another autoguide."
        )
        raise GuideError(msg)
    if takes_curvature(svi.guide) and not data.in_memory:
        msg = (
            "AutoLaplaceApproximation takes its curvature from all rows at once, which a stream "
            "does not have; pass arrays or an ArrayLoader, or use another autoguide."
        )
        raise GuideError(msg)
    check_trainable_on_batches(spec, svi.guide, _written_guide_spec(svi, spec, data))


def values_by_position(svi: SVI, spec: KernelSpec, data: TrainingData) -> list[str]:
    """Names of what kernel and guide keep one value per row for."""
    return kept_by_position(spec, svi.guide, _written_guide_spec(svi, spec, data))


def setup_arguments(svi: SVI, data: TrainingData) -> Shared:
    """Arrays to set the guide up with: a batch, or all rows for a guide that keeps them."""
    arguments = data.first_batch
    if takes_curvature(svi.guide) and data.in_memory:
        rows = {name: canonical(array, name) for name, array in data.rows.items()}
        return {**rows, **arguments.shared}
    return {**arguments.rows, **arguments.shared}


def make_feed(
    data: TrainingData,
    plan: TrainingPlan,
    *,
    epochs: int,
    steps_per_epoch: int | None = None,
    start: Position = BEGINNING,
) -> Feed:
    """Make the feed for a plan.

    Args:
        data: What to train on.
        plan: How.
        epochs: Epochs to run.
        steps_per_epoch: Steps of an epoch that takes all rows in every step; ``None`` for 1.
        start: Position to begin at.
    """
    placement, padded = plan.placement, plan.step.padded
    if data.source is not None:
        return StreamFeed(
            data.source,
            batch_size=data.batch_size,
            epochs=epochs,
            placement=placement,
            padded=padded,
            start=start,
        )
    n_rows = next(iter(data.rows.values())).shape[0]
    if data.batch_size >= n_rows:
        rows, _ = pad_rows(data.rows, placement.row_multiple if padded else 1)
        return FixedFeed(
            rows,
            n_rows,
            epochs=epochs,
            steps_per_epoch=steps_per_epoch or 1,
            placement=placement,
            start=start,
        )
    return IndexFeed(
        data.rows,
        data.order or (lambda _: np.arange(n_rows)),
        batch_size=data.batch_size,
        epochs=epochs,
        placement=placement,
        padded=padded,
        resident=data.resident,
        start=start,
    )


def _without_size(scale: Scale) -> Scale:
    return "none" if scale == "auto" else scale


def _row_latents(spec: KernelSpec) -> list[str]:
    return [name for name in spec.latent_sites if spec.sites[name].row_axes]


def _enumerates(svi: SVI, spec: KernelSpec) -> bool:
    discrete = any(spec.sites[name].is_discrete for name in spec.latent_sites)
    return discrete and getattr(svi.loss, "can_infer_discrete", False)


def _written_guide_spec(svi: SVI, spec: KernelSpec, data: TrainingData) -> KernelSpec | None:
    """The structure of a guide that somebody wrote, or ``None`` for an autoguide."""
    if isinstance(svi.guide, AutoGuide):
        return None
    return _guide_spec(svi.guide, spec, data.first_batch)


def _guide_spec(guide: Callable, spec: KernelSpec, batch: KernelArguments) -> KernelSpec | None:
    """The guide's structure, or ``None`` for an autoguide of global latents, which has no rows."""
    trace = partial(trace_spec, rows=batch.rows, shared=batch.shared, static=batch.static)
    if not isinstance(guide, AutoGuide):
        # It may keep what it makes in its first call, and here there are no values.
        with tracing_lock, rollback_always(guide):
            return trace(guide, output=spec.output)
    if not _row_latents(spec):
        return None
    # Once it is set up its values are there, and to validate them is to compile and to compute.
    with tracing_lock, numpyro.validation_enabled(False):
        return trace(guide, output=spec.output)
