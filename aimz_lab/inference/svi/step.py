"""One SVI step: the loss of a batch, scaled to all rows, and the update of the parameters.

Nothing compiles here; :mod:`aimz_lab.inference.svi.compiled_steps` runs many steps in one call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Float, Int32, PyTree
from numpyro.infer import SVI
from numpyro.infer.svi import SVIState
from numpyro.optim import _NumPyroOptim

from aimz_lab.errors import InferenceError
from aimz_lab.inference.numpyro_patches import sites_in_order
from aimz_lab.inference.svi.optimizer_rate import OptimizerRate
from aimz_lab.kernel.batch_plates import with_whole_plates
from aimz_lab.kernel.scaling import DataSize, RowScale, scale_rows
from aimz_lab.types import Array, RandomKey, Rows, Shared, Static


class TrainState(NamedTuple):
    """The state between two steps.

    Attributes:
        svi: NumPyro's state: optimizer, mutable sites, random key.
        gradients: Sum of the gradients since the last update; ``None`` without accumulation.
        pending: Number of gradients in that sum; ``None`` without accumulation.
        rate: The learning rate that was set, or the factor of a schedule; ``None`` if nobody has
            set one, or it is part of the optimizer's state.
    """

    svi: SVIState
    gradients: PyTree[jax.Array] | None = None
    pending: Int32[jax.Array, ""] | None = None
    rate: Float[jax.Array, ""] | None = None


class Batch(NamedTuple):
    """The arguments of a loss.

    Attributes:
        rows: Arrays by kernel argument, rows on the leading axis, padding at its end.
        valid: Number of rows without padding; of each part, if these are parts of equal length
            with padding at the end of each.
        shared: The kernel's shared arguments.
        size: How many rows these stand for.
    """

    rows: Rows
    valid: int | Int32[Array, ...]
    shared: Shared
    size: DataSize

    def typed(self) -> Batch:
        """Return the batch with numbers of fixed types, so that one program serves all batches."""
        return Batch(dict(self.rows), np.int32(self.valid), dict(self.shared), self.size.typed())


@dataclass(frozen=True)
class StepPlan:
    """Options of a step, the same for all steps of a run.

    Attributes:
        model_scale: Weights of the rows in the model.
        guide_scale: Weights of the rows in the guide.
        padded: Whether batches may hold padding.
        size: How many rows a batch stands for, as a constant of the program; ``None`` where each
            batch passes it.
        whole_plates: Whether plates of the batch's rows take all of them.
        accumulate: Batches per update.
        metrics: Values to report beside the loss; only ``"grad_norm"`` is known.
    """

    model_scale: RowScale
    guide_scale: RowScale
    padded: bool = True
    size: DataSize | None = None
    whole_plates: bool = False
    accumulate: int = 1
    metrics: frozenset[str] = frozenset()


class SviStep:
    """The step of an SVI object.

    Args:
        svi: The inference object; it is read, never changed.
        plan: Options of the step.
        static: Values of the kernel's static arguments.

    Raises:
        InferenceError: If the optimizer evaluates the loss itself, and a metric or an accumulation
            needs its gradients.
    """

    def __init__(self, svi: SVI, plan: StepPlan, static: Static) -> None:
        self._svi = svi
        self._plan = plan
        self._static = dict(static)
        self._rate = OptimizerRate(svi.optim)
        self._optimizer_evaluates = (
            type(svi.optim).eval_and_update is not _NumPyroOptim.eval_and_update
        )
        if self._optimizer_evaluates and (plan.accumulate > 1 or plan.metrics):
            msg = (
                f"The optimizer {type(svi.optim).__name__} evaluates the loss itself, so that its "
                "gradients cannot be accumulated or reported; use another optimizer, or leave "
                "accumulate= and gradient callbacks out."
            )
            raise InferenceError(msg)

    def start(self, state: SVIState) -> TrainState:
        """Return the state before the first step."""
        if self._plan.accumulate == 1:
            return TrainState(state)
        zeros = jax.tree.map(jnp.zeros_like, self._svi.optim.get_params(state.optim_state))
        return TrainState(state, zeros, jnp.zeros((), jnp.int32))

    def update(
        self, state: TrainState, batch: Batch
    ) -> tuple[TrainState, Float[jax.Array, ""], dict[str, Float[jax.Array, ""]]]:
        """Return the state after one step on ``batch``, its loss in nats, and its metrics."""
        # The order of key splits and of the update is NumPyro's own (SVI.update).
        svi, optim = state.svi, self._rate.optimizer(state.rate)
        next_key, step_key = jax.random.split(svi.rng_key)
        loss_of = self._loss_function(step_key, svi.mutable_state, batch)
        if self._optimizer_evaluates:
            (loss, mutable), optim_state = optim.eval_and_update(loss_of, svi.optim_state)
            return state._replace(svi=SVIState(optim_state, mutable, next_key)), loss, {}
        params = optim.get_params(svi.optim_state)
        (loss, mutable), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        values = {}
        if "grad_norm" in self._plan.metrics:
            values["grad_norm"] = jnp.linalg.norm(ravel_pytree(gradients)[0])
        if self._plan.accumulate == 1:
            optim_state = optim.update(gradients, svi.optim_state, value=loss)
            return state._replace(svi=SVIState(optim_state, mutable, next_key)), loss, values
        total = jax.tree.map(jnp.add, state.gradients, gradients)
        optim_state, total, pending = self._accumulate(state, total, loss)
        new = SVIState(optim_state, mutable, next_key)
        return state._replace(svi=new, gradients=total, pending=pending), loss, values

    def _accumulate(
        self, state: TrainState, total: PyTree[jax.Array], loss: jax.Array
    ) -> tuple[Any, PyTree[jax.Array], jax.Array]:
        """Update once enough gradients are in ``total``; return optimizer state, sum, and count."""
        k, pending = self._plan.accumulate, state.pending + 1

        def update() -> tuple[Any, PyTree[jax.Array], jax.Array]:
            mean = jax.tree.map(lambda g: g / k, total)
            optim = self._rate.optimizer(state.rate)
            new = optim.update(mean, state.svi.optim_state, value=loss)
            return new, jax.tree.map(jnp.zeros_like, total), jnp.zeros_like(pending)

        return jax.lax.cond(pending == k, update, lambda: (state.svi.optim_state, total, pending))

    def evaluate(self, state: SVIState, key: RandomKey, batch: Batch) -> Float[jax.Array, ""]:
        """Return the loss of held-out rows in nats, with the noise of ``key``."""
        loss_of = self._loss_function(key, state.mutable_state, batch, held_out=True)
        return loss_of(self._svi.optim.get_params(state.optim_state))[0]

    def _loss_function(
        self, key: jax.Array, mutable: PyTree | None, batch: Batch, *, held_out: bool = False
    ) -> Callable[[PyTree], tuple[jax.Array, PyTree | None]]:
        """Return a function from unconstrained parameters to the loss and the mutable state."""
        svi, plan = self._svi, self._plan
        row_argument, array = next(iter(batch.rows.items()))
        rows, valid, size = array.shape[0], batch.valid, batch.size
        if not plan.padded:
            valid, size = rows, plan.size or DataSize(None)
        if held_out:
            size = DataSize(size.n_obs)

        def scaled(fn: Callable, scale: RowScale) -> scale_rows:
            fn = with_whole_plates(fn, row_argument) if plan.whole_plates else fn
            weights = scale.weights(rows, valid, size, padded=plan.padded, held_out=held_out)
            return scale_rows(fn, scale.sites, weights)

        model, guide = scaled(svi.model, plan.model_scale), scaled(svi.guide, plan.guide_scale)
        arguments = {**batch.rows, **batch.shared, **self._static}

        def loss_of(unconstrained: PyTree) -> tuple[jax.Array, PyTree | None]:
            params = svi.constrain_fn(unconstrained)
            with sites_in_order():
                if mutable is None:
                    return svi.loss.loss(key, params, model, guide, **arguments), None
                params = {**params, **mutable}
                result = svi.loss.loss_with_mutable_state(key, params, model, guide, **arguments)
                return result["loss"], result["mutable_state"]

        return loss_of
