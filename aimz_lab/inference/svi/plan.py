"""Plan the training of a kernel on given data: checks, scales, padding and feed."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import numpyro
from numpyro.infer import SVI
from numpyro.infer.autoguide import AutoGuide

from aimz_lab.data import canonical, pad_rows
from aimz_lab.errors import GuideError, KernelError
from aimz_lab.inference.autoguides import follows_density, takes_curvature
from aimz_lab.inference.feeds.feed import BEGINNING, Feed, Position
from aimz_lab.inference.feeds.fixed_feed import FixedFeed
from aimz_lab.inference.feeds.index_feed import IndexFeed
from aimz_lab.inference.feeds.placement import Placement
from aimz_lab.inference.feeds.process_stream_feed import ProcessStreamFeed
from aimz_lab.inference.feeds.stream_feed import StreamFeed
from aimz_lab.inference.feeds.training_data import TrainingData
from aimz_lab.inference.feeds.where_to_gather import is_gathered_in_steps
from aimz_lab.inference.request import StepOptions
from aimz_lab.inference.rollback import rollback_always
from aimz_lab.inference.svi.step import StepPlan
from aimz_lab.kernel.arguments import KernelArguments
from aimz_lab.kernel.checks.preflight import check_trainable_on_batches, kept_by_position
from aimz_lab.kernel.checks.row_plates import check_indices_unused, subsampling_plates
from aimz_lab.kernel.scaling import RowScale, plan_row_scale
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.kernel.tracing import trace_spec, tracing_lock
from aimz_lab.types import Shared


@dataclass(frozen=True)
class TrainingPlan:
    """Plan of a training.

    Attributes:
        spec: The kernel's structure at the batch size.
        step: Options of a step.
        placement: Devices of the batches.
    """

    spec: KernelSpec
    step: StepPlan
    placement: Placement

    @property
    def scales_itself(self) -> bool:
        """Whether the kernel scales rows to all of the data, by the rows of the call."""
        scalers = [who for _, who in self.step.model_scale.sites.values()]
        return self.step.model_scale.factor != "none" and "of_call" in scalers

    @property
    def scaled_by(self) -> Literal["us", "kernel", ""]:
        """Who scales rows to all of the data; empty for nobody."""
        if self.scales_itself:
            return "kernel"
        return "us" if self.step.model_scale.factor == "auto" else ""

    @property
    def key(self) -> Hashable:
        """Equal for plans that can use the same compiled steps."""
        step = self.step
        scales = step.model_scale.key, step.guide_scale.key
        return (*scales, step.padded, step.size, step.whole_plates, step.accumulate, step.metrics)


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
    """Decide how to weight, pad and place the batches; an autoguide has been set up.

    Args:
        kernel: The NumPyro model.
        svi: The inference object.
        spec: The kernel's structure at the batch size.
        data: The training data.
        placement: Devices of the batches.
        options: Scale, accumulation and metrics.
        is_mutable: Whether the kernel has mutable sites, such as batch statistics; padding would
            change them.

    Raises:
        KernelError: If a scale of the kernel's own depends on which rows are in the batch.

    Warns:
        FitWarning: If a constant scale of the kernel's own may be meant as the minibatch factor.
    """
    batch = data.first_batch
    make = partial(plan_row_scale, batch=batch, scale=options.scale, n_obs=data.n_obs)
    kernel, guide = data.for_batches(kernel), data.for_batches(svi.guide)
    model_scale = make(kernel, spec)
    guide_spec = _guide_spec(svi.guide, guide, spec, batch)
    empty = RowScale({}, options.scale, spec.n_rows)
    guide_scale = make(guide, guide_spec) if guide_spec is not None else empty
    padded = (
        not is_mutable
        and bool(model_scale.sites)
        and model_scale.can_pad
        and guide_scale.can_pad
        and may_pad(svi, spec)
    )
    step = StepPlan(
        model_scale,
        guide_scale,
        padded=padded,
        size=None if padded or data.size is None else data.size,
        whole_plates=data.is_minibatch,
        accumulate=options.accumulate,
        metrics=options.metrics,
    )
    return TrainingPlan(spec, step, placement if padded else placement.uncut())


def may_pad(svi: SVI, spec: KernelSpec, guide_spec: KernelSpec | None = None) -> bool:
    """Whether the sites of kernel and guide leave room for padded rows, which have weight 0."""
    if _enumerates(svi, spec) or (isinstance(svi.guide, AutoGuide) and _row_latents(spec)):
        return False
    if any(plate.size_follows_rows for plate in subsampling_plates(spec)):
        return False
    sites = [*spec.sites.values(), *(guide_spec.sites.values() if guide_spec else ())]
    return all(
        site.row_batch_axis is not None
        for site in sites
        if site.row_axes and site.kind in ("latent", "observed", "factor")
    )


def check_guide(svi: SVI, spec: KernelSpec, data: TrainingData) -> None:
    """Refuse a guide that cannot be trained on batches.

    Raises:
        GuideError: If it keeps values by position in the batch, or needs all rows at once.
        KernelError: If it uses the indices of a plate, which are not those of the batch's rows.
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
    guide_spec = written_guide_spec(svi, spec, data)
    check_trainable_on_batches(spec, svi.guide, guide_spec)
    if guide_spec is not None:
        with rollback_always(svi.guide):
            check_indices_unused(data.for_batches(svi.guide), guide_spec, data.first_batch)


def check_kept_rows(guide: Callable, data: TrainingData, *, changes: bool) -> None:
    """Refuse the step of a guide whose draws depend on all rows, if these are not all of them.

    Args:
        guide: The guide.
        data: The rows of the step.
        changes: Whether they are others than those of the guide's set-up.

    Raises:
        GuideError: If they change from step to step, or are part of ``n_obs`` rows.
    """
    if not (takes_curvature(guide) or follows_density(guide)):
        return
    if changes or (data.n_obs is not None and data.batch_size < data.n_obs):
        msg = (
            f"{type(guide).__name__} draws by the density of all rows, and this step has others "
            "than the first, or a part of them; train it by fit or fit_on_batch, or use another "
            "autoguide."
        )
        raise GuideError(msg)


def written_guide_spec(svi: SVI, spec: KernelSpec, data: TrainingData) -> KernelSpec | None:
    """Return the structure of a hand-written guide, or ``None`` for an autoguide."""
    if isinstance(svi.guide, AutoGuide):
        return None
    return _guide_spec(svi.guide, data.for_batches(svi.guide), spec, data.first_batch)


def values_by_position(svi: SVI, spec: KernelSpec, data: TrainingData) -> list[str]:
    """Names of the sites and parameters with one value per row."""
    return kept_by_position(spec, svi.guide, written_guide_spec(svi, spec, data))


def setup_arguments(svi: SVI, data: TrainingData) -> Shared:
    """Return arrays to set up the guide: a batch, or all rows for a guide that keeps them."""
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
        data: The training data.
        plan: The plan.
        epochs: Epochs to run.
        steps_per_epoch: Steps of an epoch where each step takes all rows; ``None`` for 1.
        start: Position to begin at.

    Raises:
        KernelError: If several processes read a stream, and the kernel leaves no room for padding.
    """
    placement, padded = plan.placement, plan.step.padded
    if data.layout is not None:
        _check_can_share(padded)
        return ProcessStreamFeed(
            data.source,
            data.measured,
            data.layout,
            placement=placement,
            padding=data.rows,
            epochs=epochs,
            start=start,
        )
    if data.source is not None:
        return StreamFeed(
            data.source,
            batch_size=data.batch_size,
            epochs=epochs,
            placement=placement,
            padded=padded,
            start=start,
            expects_equal=plan.scales_itself and data.size is None,
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
        resident=data.resident or is_gathered_in_steps(data.rows, data.batch_size, placement),
        start=start,
    )


def _check_can_share(padded: bool) -> None:
    """Refuse processes that read a stream each, if rows of padding would count."""
    if not padded:
        msg = (
            "Processes that read a stream each fill up shorter batches by rows of padding, and "
            "with this kernel and guide such rows would count: it has latent sites by row in an "
            "autoguide, sites whose rows are one event, mutable sites or enumerated ones. Pass "
            "ArrayLoader(dataset, ..., process_shard=True); the dataset may be memory-mapped "
            '(np.load(path, mmap_mode="r")).'
        )
        raise KernelError(msg)


def _row_latents(spec: KernelSpec) -> list[str]:
    return [name for name in spec.latent_sites if spec.sites[name].row_axes]


def _enumerates(svi: SVI, spec: KernelSpec) -> bool:
    discrete = any(spec.sites[name].is_discrete for name in spec.latent_sites)
    return discrete and getattr(svi.loss, "can_infer_discrete", False)


def _guide_spec(
    written: Callable, guide: Callable, spec: KernelSpec, batch: KernelArguments
) -> KernelSpec | None:
    """The structure of a guide, as batches run it; ``None`` for an autoguide without row sites."""
    trace = partial(trace_spec, rows=batch.rows, shared=batch.shared, static=batch.static)
    if not isinstance(written, AutoGuide):
        # It may keep values of its first call, and these would be tracers.
        with tracing_lock, rollback_always(written):
            return trace(guide, output=spec.output)
    if not _row_latents(spec):
        return None
    # Validation would compile and compute on the values of a guide that is set up.
    with tracing_lock, numpyro.validation_enabled(False):
        return trace(guide, output=spec.output)
