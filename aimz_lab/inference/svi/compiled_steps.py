"""Chunks: many SVI steps in one compiled call.

A call runs steps in a ``while_loop``, at most as many as its feed has slots. The number of steps is
an argument, so that one compilation serves every chunk size, and the losses of a run do not depend
on where it is cut. The loop ends before a step whose loss or new state is not finite: it always
returns the last good state.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int32, PyTree
from numpyro.infer import SVI
from numpyro.infer.svi import SVIState

from aimz_lab.inference.compiling import FULL, QUICK, compiler_options, named
from aimz_lab.inference.feeds.feed import FeedKind
from aimz_lab.inference.shared_programs import SharedJit
from aimz_lab.inference.svi.step import Batch, StepPlan, SviStep, TrainState
from aimz_lab.kernel.scaling import DataSize
from aimz_lab.kernel.tracing import tracing_lock
from aimz_lab.types import Array, RandomKey, Shared, Static


class ChunkResult(NamedTuple):
    """The result of a chunk: arrays on the device, not yet waited for.

    Attributes:
        state: State after the last good step.
        losses: Loss of each step in nats.
        metrics: Values of each step that the plan asked for.
        tried: Number of steps that ran, including a bad one.
        ok: Whether the last of them was good.
    """

    state: TrainState
    losses: Float[jax.Array, " slot"]
    metrics: Mapping[str, Float[jax.Array, " slot"]]
    tried: Int32[jax.Array, ""]
    ok: Bool[jax.Array, ""]


class SingleStep(NamedTuple):
    """The result of one step: arrays on the device, not yet waited for.

    Attributes:
        state: The state after it; of a bad step, the one before it with the next random key.
        computed_loss: The loss in nats as it was computed.
        loss: The same, or NaN after a bad step.
        ok: Whether the loss and the new state are finite.
    """

    state: SVIState
    computed_loss: Float[jax.Array, ""]
    loss: Float[jax.Array, ""]
    ok: Bool[jax.Array, ""]


class _Carry(NamedTuple):
    i: jax.Array
    state: TrainState
    losses: jax.Array
    metrics: dict[str, jax.Array]
    ok: jax.Array


class StepEngine:
    """The compiled steps of an SVI object.

    Args:
        svi: The inference object; it is read, never changed.
        plan: Options of a step.
        static: Values of the kernel's static arguments.
        feed: Where a step finds its batch.
        effort: The compiler's effort on the CPU; :data:`QUICK` is for small data.

    Raises:
        InferenceError: If the optimizer evaluates the loss itself, and a metric or an accumulation
            needs its gradients.
    """

    def __init__(
        self,
        svi: SVI,
        plan: StepPlan,
        static: Static,
        feed: FeedKind,
        effort: int = FULL,
    ) -> None:
        self._step = SviStep(svi, plan, static)
        self._metrics = plan.metrics
        self._feed = feed
        # skip_bad is static: deciding it in each step makes the program, and its compilation, half
        # as large again.
        self._run = SharedJit(
            named("training_steps", self._chunk),
            static=["skip_bad"],
            options=compiler_options(effort) if effort == QUICK else None,
        )
        self._one = jax.jit(named("training_step", self._single))
        self._loss = SharedJit(named("validation_loss", self._step.evaluate))

    def start(self, state: SVIState) -> TrainState:
        """Return the state before the first chunk."""
        return self._step.start(state)

    def run(
        self,
        state: TrainState,
        feed: Mapping[str, PyTree[Array]],
        valid: Int32[np.ndarray, "slot ..."],
        steps: int,
        shared: Shared,
        *,
        size: DataSize,
        skip_bad: bool = False,
    ) -> ChunkResult:
        """Dispatch a chunk of steps, without waiting for its end.

        Args:
            state: The state before the first step.
            feed: The batches, laid out as the engine's feed says; see ``FeedKind``.
            valid: Rows without padding of each slot, or of each part of it.
            steps: Number of steps to run, at most one for each slot.
            shared: The kernel's shared arguments.
            size: How many rows a batch stands for.
            skip_bad: Leave bad steps out and go on, instead of ending before the first.
        """
        chunk = state, dict(feed), valid, np.int32(steps), dict(shared), size.typed()
        return self._run(*chunk, skip_bad=skip_bad)

    def compile(
        self,
        state: TrainState,
        feed: Mapping[str, PyTree[Array]],
        valid: Int32[np.ndarray, "slot ..."],
        steps: int,
        shared: Shared,
        *,
        size: DataSize,
        skip_bad: bool = False,
    ) -> None:
        """Compile what :meth:`run` runs with these arguments, without running it."""
        chunk = state, dict(feed), valid, np.int32(steps), dict(shared), size.typed()
        self._run.compile("the training steps", *chunk, skip_bad=skip_bad)

    def one(self, state: SVIState, batch: Batch) -> SingleStep:
        """Dispatch one step on one batch, without waiting for its end."""
        with tracing_lock:
            return self._one(state, batch.typed())

    def loss(self, state: SVIState, key: RandomKey, batch: Batch) -> Float[jax.Array, ""]:
        """Return the loss of one batch in nats, with the noise of ``key``."""
        return self._loss(state, key, batch.typed())

    def compile_loss(self, state: SVIState, key: RandomKey, batch: Batch) -> None:
        """Compile :meth:`loss` without computing it; raise what the kernel or the guide raises."""
        self._loss.compile("the held-out loss", state, key, batch.typed())

    def _single(self, state: SVIState, batch: Batch) -> SingleStep:
        new, loss, _ = self._step.update(TrainState(state), batch)
        good = _is_good(new, loss)
        kept = state._replace(rng_key=new.svi.rng_key)
        svi = jax.tree.map(partial(jnp.where, good), new.svi, kept)
        return SingleStep(svi, loss, jnp.where(good, loss, jnp.nan), good)

    def _chunk(
        self,
        state: TrainState,
        feed: dict[str, Any],
        valid: jax.Array,
        steps: jax.Array,
        shared: dict[str, Any],
        size: DataSize,
        *,
        skip_bad: bool,
    ) -> ChunkResult:
        def body(carry: _Carry) -> _Carry:
            rows = _rows_of_step(self._feed, feed, carry.i)
            batch = Batch(rows, valid[carry.i], shared, size)
            new, loss, values = self._step.update(carry.state, batch)
            good = _is_good(new, loss)
            kept = carry.state
            if skip_bad:
                # A step that is left out has no loss, even if only its parameters are not finite.
                loss = jnp.where(good, loss, jnp.nan)
                kept = kept._replace(svi=kept.svi._replace(rng_key=new.svi.rng_key))
            return _Carry(
                carry.i + 1,
                jax.tree.map(partial(jnp.where, good), new, kept),
                carry.losses.at[carry.i].set(loss),
                {name: carry.metrics[name].at[carry.i].set(values[name]) for name in values},
                jnp.ones((), bool) if skip_bad else good,
            )

        # Zeros, since NaN would end every run under jax_debug_nans.
        empty = jnp.zeros(valid.shape[:1], jnp.result_type(float))
        begin = _Carry(
            jnp.zeros((), jnp.int32),
            state,
            empty,
            dict.fromkeys(self._metrics, empty),
            jnp.ones((), bool),
        )
        end = jax.lax.while_loop(lambda carry: (carry.i < steps) & carry.ok, body, begin)
        return ChunkResult(end.state, end.losses, end.metrics, end.i, end.ok)


def _rows_of_step(
    kind: FeedKind, feed: Mapping[str, PyTree[Array]], i: jax.Array
) -> dict[str, jax.Array]:
    if kind == "fixed":
        return dict(feed)
    if kind == "stacked":
        return {
            name: jax.lax.dynamic_index_in_dim(array, i, keepdims=False)
            for name, array in feed.items()
        }
    rows = jax.lax.dynamic_index_in_dim(feed["indices"], i, keepdims=False)
    # The feed's numbers are rows; a check of each would make the gathering slower.
    bare = {"mode": "promise_in_bounds", "wrap_negative_indices": False}
    return {name: array.at[rows].get(**bare) for name, array in feed["arrays"].items()}


def _is_good(new: TrainState, loss: jax.Array) -> jax.Array:
    """Whether a step has a finite loss, and all of its new state is finite."""
    state = new.svi.optim_state, new.svi.mutable_state, new.gradients
    return jnp.isfinite(loss) & _all_finite(state)


def _all_finite(tree: PyTree[jax.Array]) -> jax.Array:
    finite = [
        jnp.isfinite(leaf).all()
        for leaf in jax.tree.leaves(tree)
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
    ]
    return jnp.stack(finite).all() if finite else jnp.ones((), bool)
