"""Training data, plan, feed and compiled steps of an SVI run, and its trainer."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import jax
import numpy as np
import numpyro
from jaxtyping import PyTree
from numpyro.infer import SVI
from numpyro.infer.svi import SVIState

from aimz_lab.errors import FitWarning
from aimz_lab.inference.checkpoint.checkpoint import Checkpoint
from aimz_lab.inference.checkpoint.provenance import describe_training
from aimz_lab.inference.compiling import FULL, QUICK
from aimz_lab.inference.feeds.alike import rows_checksum
from aimz_lab.inference.feeds.feed import Feed
from aimz_lab.inference.feeds.training_data import TrainingData
from aimz_lab.inference.model_code import ModelCode
from aimz_lab.inference.request import FitRequest, StepOptions
from aimz_lab.inference.run.events import Callbacks, Run, RunInfo
from aimz_lab.inference.svi.compiled_steps import StepEngine
from aimz_lab.inference.svi.optimizer_rate import OptimizerRate
from aimz_lab.inference.svi.plan import TrainingPlan
from aimz_lab.inference.svi.step import TrainState
from aimz_lab.inference.svi.trainer import Trainer, TrainOptions, Validation
from aimz_lab.inference.svi.validation import HeldOut, held_out_loss
from aimz_lab.kernel.scaling import DataSize
from aimz_lab.kernel.signature import KernelSignature
from aimz_lab.number_text import number
from aimz_lab.tracebacks import warn
from aimz_lab.types import Array, JsonObject, Params, Shared
from aimz_lab.version import __version__

_SHARES = "number of processes that share the stream"

SMALL_VALUES = 2**20
"""Values of a data set up to which optimised steps are no faster."""


def compiler_effort(data: TrainingData) -> int:
    """Choose the compiler's effort for steps.

    It depends on the data alone. So runs on the same data share compiled programs, and a resumed
    run computes the same bits.

    Args:
        data: The training data.
    """
    if data.n_obs is None:
        return FULL
    of_batch = sum(array.size for array in data.first_batch.rows.values())
    return QUICK if of_batch * data.n_obs <= SMALL_VALUES * data.batch_size else FULL


class RunSetup(NamedTuple):
    """All parts of a run except its state.

    Attributes:
        request: The user's call.
        data: The training data.
        held_out: Data to validate on, or ``None``.
        plan: Scales, padding and placement.
        feed: The batches.
        engine: The compiled steps.
        shared: The kernel's shared arguments, on the devices.
    """

    request: FitRequest
    data: TrainingData
    held_out: HeldOut | None
    plan: TrainingPlan
    feed: Feed
    engine: StepEngine
    shared: Shared

    @property
    def size(self) -> DataSize:
        """How many rows a batch stands for."""
        return self.data.size or DataSize(None)

    def train_options(self, key: jax.Array, state: SVIState) -> TrainOptions:
        """Return the options of the trainer, with the held-out loss.

        Args:
            key: For the noise of that loss.
            state: The state to begin with.
        """
        held_out, validation = self.held_out, None
        if held_out is not None:
            loss = held_out_loss(
                self.engine, self.plan, held_out, self.shared, self.data, key, state
            )
            validation = Validation(loss, held_out.every)
        return TrainOptions(
            self.request.steps_per_call,
            self.request.on_nonfinite,
            validation,
            self.plan.scaled_by,
        )


def make_trainer(
    setup: RunSetup,
    svi: SVI,
    run: Run,
    callbacks: Callbacks,
    state: SVIState,
    *,
    signature: KernelSignature,
    params: Callable[[SVIState], Params],
    rate: OptimizerRate,
    was_trained: bool = False,
) -> Trainer:
    """Return the trainer of a run, ready to begin or to go on from a checkpoint.

    Args:
        setup: Data, plan, feed and compiled steps.
        svi: The inference object.
        run: The run; it gets its facts, and the history of a checkpoint.
        callbacks: The callbacks of the run.
        state: The state to begin with, unless there is a checkpoint.
        signature: The kernel.
        params: Returns the constrained parameters of a state.
        rate: The learning rate of the optimizer.
        was_trained: Whether the state is that of an earlier training.

    Raises:
        CheckpointError: If the run cannot go on from the checkpoint.
        ArgumentError: If it would end before it.
        DataError: If the held-out loss cannot be computed.

    Warns:
        FitWarning: If batches of a stream of unknown length are not scaled. If the optimizer has
            other settings than at the checkpoint, or a source was not compared with it.
    """
    request, data, placement = setup.request, setup.data, setup.plan.placement
    run.control.can_set_learning_rate = rate.is_settable(TrainState(state))
    run.control.why_not = rate.why_fixed(TrainState(state))
    _warn_unscaled(setup)
    # The run keeps these functions; they must not keep the feed, which holds the batches.
    facts = cache(lambda: _checkpoint_facts(request.step, data, svi, run, state, signature.output))
    code = cache(lambda: ModelCode.of(signature, svi))
    code_to_keep = cache(lambda: _code_to_keep(code()))
    if request.checkpoint is not None:
        counted = data.in_memory and request.num_steps is None
        per_epoch = math.ceil(data.n_rows / data.batch_size) if counted else None
        request.checkpoint.check(_facts_to_share(facts(), request.checkpoint), code(), per_epoch)
        request.check_length(request.checkpoint)
    run.info = _complete_info(run.info, setup)
    begin = setup.engine.start(state)
    if request.checkpoint is not None:
        begin = request.checkpoint.restore(run, begin)
        run.notes.append(_where_it_goes_on(run, request.checkpoint, rate.of_next_step(begin)))
        was_trained = run.step > 0
    if not placement.team.is_alone:
        _check_alike(setup, begin, facts())
    trainer = Trainer(
        setup.engine,
        setup.feed,
        begin,
        run,
        callbacks,
        shared=setup.shared,
        size=setup.size,
        options=setup.train_options(request.origin.keys[0], begin.svi),
        start=request.start,
        put=placement.put_everywhere,
        team=placement.team,
        was_trained=was_trained,
        rate_before=request.rate_before,
        rate=rate,
    )
    run.bind(
        params=lambda: params(run.final_state.svi),
        state=lambda: trainer.state,
        position=lambda: trainer.position,
        provenance=lambda: {
            "facts": facts(),
            "code": code_to_keep(),
            "origin": request.origin.as_plain(),
        },
        with_rate=rate.set,
    )
    return trainer


def _code_to_keep(code: ModelCode) -> JsonObject:
    """Return the code for a checkpoint.

    Warns:
        FitWarning: If a source is not at hand.
    """
    code.warn_if_unread("fit(resume=)")
    return code.as_plain()


def _where_it_goes_on(run: Run, checkpoint: Checkpoint, rate: float | None) -> str:
    """Write where a resumed run goes on, and at which rate.

    Args:
        run: The run, with the history of the checkpoint.
        checkpoint: The checkpoint.
        rate: Learning rate of the next step; ``None`` if it is not known.
    """
    at, of_step = f"Goes on from step {run.step:,} ({checkpoint.path.name})", ""
    has_diverged = checkpoint.content.state_of_step < run.step
    if rate is not None:
        changes = [np.float32(change.after) for change in run.rate_changes[-1:]]
        is_set = np.float32(rate) in changes and not has_diverged
        at += f" at the learning rate {number(rate)}{', as it was set there' if is_set else ''}"
    if has_diverged:
        step = checkpoint.content.state_of_step
        state = f"that of step {step:,}" if step else "the one that it had begun with"
        of_step = f" It had diverged there: the state is {state}."
    return f"{at}.{of_step}"


def _facts_to_share(facts: JsonObject, checkpoint: Checkpoint) -> JsonObject:
    """Return the facts that a run has to share with its checkpoint.

    At the end of an epoch, other processes may go on with other shares of a stream; within it,
    rows would come twice.
    """
    if checkpoint.position.batch:
        return facts
    there = {name: v for name, v in checkpoint.content.facts.items() if name == _SHARES}
    return {name: v for name, v in facts.items() if name != _SHARES} | there


def _check_alike(setup: RunSetup, begin: TrainState, facts: JsonObject) -> None:
    """Check that all processes of a team have the same data, state and options.

    Raises:
        ClusterError: If one differs from the first.
    """
    data, request = setup.data, setup.request
    held_out = {} if setup.held_out is None else setup.held_out.rows
    setup.plan.placement.team.check_alike(
        **{"versions of packages": [jax.__version__, numpyro.__version__, __version__]},
        **facts,
        data={name: [len(array), rows_checksum(array)] for name, array in data.rows.items()},
        arguments=_checksum(data.shared),
        epochs=request.epochs,
        num_steps=request.num_steps,
        steps_per_call=request.steps_per_call,
        on_nonfinite=request.on_nonfinite,
        validation={name: [len(array), rows_checksum(array)] for name, array in held_out.items()},
        validation_every=request.validation_every,
        **{"metrics of callbacks": ", ".join(sorted(request.step.metrics))},
        **{"random keys": _checksum(request.origin.keys)},
        state=_checksum(begin),
    )


def _checksum(tree: PyTree[Array]) -> int:
    found = 0
    for leaf in jax.tree.leaves(tree):
        is_key = jax.dtypes.issubdtype(jax.typeof(leaf).dtype, jax.dtypes.prng_key)
        values = np.asarray(jax.random.key_data(leaf) if is_key else leaf)
        found = zlib.crc32(np.ascontiguousarray(values).data, found)
    return found


def _complete_info(info: RunInfo, setup: RunSetup) -> RunInfo:
    request, data, placement = setup.request, setup.data, setup.plan.placement
    return replace(
        info,
        n_obs=data.n_obs,
        batch_size=data.batch_size,
        epochs=1 if request.num_steps else request.epochs,
        steps_per_epoch=request.num_steps or data.steps_per_epoch,
        row_multiple=placement.row_multiple,
        devices=placement.devices,
        scaled=_describe_scale(data, setup.plan),
        validation_every=setup.held_out.every if setup.held_out else None,
    )


def _checkpoint_facts(
    options: StepOptions,
    data: TrainingData,
    svi: SVI,
    run: Run,
    state: SVIState,
    output: str,
) -> JsonObject:
    """Describe the fit that a checkpoint belongs to."""
    params = jax.eval_shape(svi.get_params, state)
    return {
        "kernel": run.info.model,
        "inference": run.info.method,
        "output": output,
        "loss": type(svi.loss).__name__,
        **describe_training(data, options.scale, options.accumulate),
        **({} if data.layout is None else {_SHARES: data.layout.team.size}),
        **{f"parameter {name}": f"{p.dtype}{list(p.shape)}" for name, p in params.items()},
    }


def _describe_scale(data: TrainingData, plan: TrainingPlan) -> str:
    scale = plan.step.model_scale
    if data.n_obs is None or not data.is_minibatch or scale.factor == "none":
        return ""
    if scale.factor != "auto":
        return f"each row weighs {scale.factor:g}"
    if all(who != "ours" for _, who in scale.sites.values()):
        return "the model itself weighs its batches"
    weight = data.size.row_weight
    weight = data.n_obs / data.batch_size if weight is None else weight
    return f"each batch stands for all rows (weight {weight:.4g})"


def _warn_unscaled(setup: RunSetup) -> None:
    """Warn where each batch of a stream of unknown length counts as all of the data."""
    plan = setup.plan
    if setup.data.n_obs is not None or setup.request.step.scale != "auto":
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
        warn(msg, FitWarning)
