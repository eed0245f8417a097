"""What a run of SVI reports of itself: to callbacks, to checkpoints, and in warnings."""

from __future__ import annotations

import warnings

import jax
from numpyro.infer import SVI
from numpyro.infer.svi import SVIState

from aimz_lab.errors import FitWarning
from aimz_lab.inference.checkpoint.provenance import describe_training
from aimz_lab.inference.feeds.training_data import TrainingData
from aimz_lab.inference.request import FitRequest, StepOptions
from aimz_lab.inference.run.events import RunInfo
from aimz_lab.inference.svi.plan import TrainingPlan
from aimz_lab.inference.svi.run_setup import RunSetup
from aimz_lab.types import JsonObject


def run_info(model: str, method: str, setup: RunSetup) -> RunInfo:
    """Describe a run before its first step."""
    request, data, placement = setup.request, setup.data, setup.plan.placement
    return RunInfo(
        model=model,
        method=method,
        n_obs=data.n_obs,
        batch_size=data.batch_size,
        epochs=1 if request.num_steps else request.epochs,
        steps_per_epoch=request.num_steps or data.steps_per_epoch,
        row_multiple=placement.row_multiple,
        devices=placement.devices,
        scaled=_describe_scale(data, setup.plan),
        validation_every=setup.held_out.every if setup.held_out else None,
    )


def checkpoint_facts(
    svi: SVI, state: SVIState, data: TrainingData, options: StepOptions
) -> JsonObject:
    """Describe what a checkpoint belongs to, beside the names of kernel and guide."""
    params = jax.eval_shape(svi.get_params, state)
    shapes = {f"parameter {name}": f"{p.dtype}{list(p.shape)}" for name, p in params.items()}
    training = describe_training(data, options.scale, options.accumulate)
    return {"loss": type(svi.loss).__name__, **training, **shapes}


def _describe_scale(data: TrainingData, plan: TrainingPlan) -> str:
    scale = plan.step.model_scale
    if data.n_obs is None or not data.is_minibatch or scale.factor == "none":
        return ""
    if scale.factor != "auto":
        return f"rows x {scale.factor:g}"
    if all(who != "ours" for _, who in scale.sites.values()):
        return "scaled by the kernel"
    return f"rows x N / B = {data.n_obs / data.batch_size:.4g}"


def warn_unscaled(plan: TrainingPlan, data: TrainingData, request: FitRequest) -> None:
    """Warn that the batches of a stream of unknown length count as if they were all of the data.

    Warns:
        FitWarning: If they do.
    """
    if data.n_obs is not None or request.step.scale != "auto":
        return
    sites = plan.step.model_scale.sites
    if any(
        who == "ours" and plan.spec.sites[name].scale is None for name, (_, who) in sites.items()
    ):
        msg = (
            "Nobody told how many rows the stream has, so each batch is trained on as if it were "
            "all of the data: the posterior will be too wide. Say it: fit(..., n_obs=N). If one "
            'batch is all there is, or the kernel as it is written is what you want, scale="none" '
            "says so."
        )
        warnings.warn(msg, FitWarning, stacklevel=6)
