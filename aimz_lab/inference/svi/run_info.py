"""What is told of a run: to its listeners, to its checkpoints, and in warnings."""

from __future__ import annotations

import contextlib
import warnings
from typing import Any

import jax
from numpyro.infer import SVI
from numpyro.infer.svi import SVIState

from aimz_lab.errors import FitWarning
from aimz_lab.inference.checkpoint.provenance import describe_training
from aimz_lab.inference.feeds.training_data import TrainingData
from aimz_lab.inference.request import FitOptions
from aimz_lab.inference.run.events import Run, RunInfo
from aimz_lab.inference.svi.plan import PlanOptions, TrainingPlan


def run_info(
    model: str, method: str, data: TrainingData, plan: TrainingPlan, options: FitOptions
) -> RunInfo:
    """What the listeners are told of a run before it begins."""
    return RunInfo(
        model=model,
        method=method,
        n_obs=data.n_obs,
        batch_size=data.batch_size,
        epochs=1 if options.num_steps else options.epochs,
        steps_per_epoch=options.num_steps or data.steps_per_epoch,
        row_multiple=plan.placement.row_multiple,
        devices=plan.placement.devices,
        scaled=_scale_in_words(data, plan),
        validation_every=options.held_out.every if options.held_out else None,
    )


def checkpoint_facts(
    svi: SVI, state: SVIState, data: TrainingData, options: PlanOptions
) -> dict[str, Any]:
    """What a checkpoint of a fit is a checkpoint of, beside the names of kernel and guide."""
    params = jax.eval_shape(svi.get_params, state)
    shapes = {f"parameter {name}": f"{p.dtype}{list(p.shape)}" for name, p in params.items()}
    return {"loss": type(svi.loss).__name__, **describe_training(data, options), **shapes}


def _scale_in_words(data: TrainingData, plan: TrainingPlan) -> str:
    scale = plan.step.model_scale
    if data.n_obs is None or not data.is_minibatch or scale.factor == "none":
        return ""
    if scale.factor != "auto":
        return f"rows x {scale.factor:g}"
    if all(who != "ours" for _, who in scale.sites.values()):
        return "scaled by the kernel"
    return f"rows x N / B = {data.n_obs / data.batch_size:.4g}"


def warn_unscaled(plan: TrainingPlan, data: TrainingData, options: FitOptions) -> None:
    """Warn of a stream whose batches would count as if they were all of the data."""
    if data.n_obs is not None or options.plan.scale != "auto":
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
        warnings.warn(msg, FitWarning, stacklevel=5)


def warn_of_outcome(run: Run) -> None:
    """Warn if a run ended early for a reason that its owner should know."""
    if run.status in ("diverged", "interrupted"):
        with contextlib.suppress(KeyboardInterrupt):
            warnings.warn(f"The fit ended early: {run.reason}", FitWarning, stacklevel=5)
