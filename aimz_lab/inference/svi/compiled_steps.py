"""The step engine: many SVI steps in one compiled call.

A call runs up to ``capacity`` steps in a ``while_loop`` whose number of turns is an argument, so
that one compilation serves every chunk size, and the losses of a run do not depend on how it is
cut. The loop ends by itself before a step whose loss or new state is not finite: the state that
comes back is always the last good one.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer import SVI
from numpyro.infer.svi import SVIState

from aimz_lab.inference.compiling import FULL, QUICK, compiler_options, named
from aimz_lab.inference.feeds.feed import FeedKind
from aimz_lab.inference.svi.step import Batch, StepPlan, SviStep, TrainState
from aimz_lab.kernel.tracing import tracing_lock


class ChunkResult(NamedTuple):
    """What a compiled call returns; arrays on the device, not yet waited for.

    Attributes:
        state: State after the last good step.
        losses: Loss of each step in nats, shape ``(capacity,)``.
        metrics: Further values of each step.
        tried: Steps that were run, the bad one included.
        ok: Whether the last of them was good.
    """

    state: TrainState
    losses: jax.Array
    metrics: Mapping[str, jax.Array]
    tried: jax.Array
    ok: jax.Array


class _Carry(NamedTuple):
    i: jax.Array
    state: TrainState
    losses: jax.Array
    metrics: dict[str, jax.Array]
    ok: jax.Array


class StepEngine:
    """Compiled steps of one SVI object under one plan.

    Args:
        svi: The inference object; it is read, never changed.
        plan: How a step is computed.
        static: Values of the kernel's static arguments.
        feed: Where a step finds its batch.
        effort: What the compiler spends on the CPU; :data:`QUICK` is for small data.

    Raises:
        InferenceError: If the optimizer evaluates the loss by itself and a metric or an
            accumulation asks for its gradients.
    """

    def __init__(
        self,
        svi: SVI,
        plan: StepPlan,
        static: Mapping[str, Any],
        feed: FeedKind,
        effort: int = FULL,
    ) -> None:
        self._step = SviStep(svi, plan, static)
        self._metrics = plan.metrics
        self._feed = feed
        # What is done about bad steps is part of the program: deciding it in each step makes the
        # program half as large again, and compile as much longer.
        self._run = jax.jit(
            named("training_steps", self._chunk),
            static_argnums=6,
            compiler_options=compiler_options(effort) if effort == QUICK else None,
        )
        self._one = jax.jit(named("training_step", self._step.update))
        self._loss = jax.jit(named("validation_loss", self._step.evaluate))

    def start(self, state: SVIState) -> TrainState:
        """Return the state that the first chunk begins with."""
        return self._step.start(state)

    def run(
        self,
        state: TrainState,
        feed: Mapping[str, Any],
        valid: np.ndarray,
        steps: int,
        shared: Mapping[str, Any],
        *,
        n_obs: int,
        skip_bad: bool = False,
    ) -> ChunkResult:
        """Dispatch a chunk of steps; returns before it is done.

        Args:
            state: The state to begin with.
            feed: The batches, as the engine's feed says; indices are ``feed["indices"]``.
            valid: Rows without padding of each step, shape ``(capacity,)``.
            steps: Steps to run, at most ``capacity``.
            shared: The kernel's arrays that are the same for all steps.
            n_obs: Rows of the data set.
            skip_bad: Leave bad steps out and go on, instead of ending before the first.
        """
        with tracing_lock:
            return self._run(
                state,
                dict(feed),
                valid,
                np.int32(steps),
                dict(shared),
                np.float32(n_obs),
                skip_bad,
            )

    def one(self, state: SVIState, batch: Batch) -> tuple[SVIState, jax.Array]:
        """Run one step on one batch and return the new state and the loss."""
        with tracing_lock:
            new, loss, _ = self._one(TrainState(state), batch.typed())
        return new.svi, loss

    def loss(self, state: SVIState, key: jax.Array, batch: Batch) -> jax.Array:
        """Loss of one batch at the current parameters, with the noise of ``key``."""
        with tracing_lock:
            return self._loss(state, key, batch.typed())

    def check_loss(self, state: SVIState, key: jax.Array, batch: Batch) -> None:
        """Trace :meth:`loss` without computing it; raises what the kernel or the guide raises."""
        with tracing_lock:
            jax.eval_shape(self._loss, state, key, batch.typed())

    def _chunk(
        self,
        state: TrainState,
        feed: dict[str, Any],
        valid: jax.Array,
        steps: jax.Array,
        shared: dict[str, Any],
        n_obs: jax.Array,
        skip_bad: bool,
    ) -> ChunkResult:
        def body(carry: _Carry) -> _Carry:
            rows = _pick(self._feed, feed, carry.i)
            batch = Batch(rows, valid[carry.i], shared, n_obs)
            new, loss, values = self._step.update(carry.state, batch)
            good = jnp.isfinite(loss) & _all_finite(
                (new.svi.optim_state, new.svi.mutable_state, new.gradients)
            )
            kept = carry.state
            if skip_bad:
                # A step that is left out has no loss, also where only its parameters went wrong.
                loss = jnp.where(good, loss, jnp.nan)
                kept = kept._replace(svi=kept.svi._replace(rng_key=new.svi.rng_key))
            return _Carry(
                carry.i + 1,
                jax.tree.map(partial(jnp.where, good), new, kept),
                carry.losses.at[carry.i].set(loss),
                {name: carry.metrics[name].at[carry.i].set(values[name]) for name in values},
                jnp.ones((), bool) if skip_bad else good,
            )

        # Zeros, since NaN would end every run under jax_debug_nans; who reads knows the steps.
        empty = jnp.zeros(valid.shape, jnp.result_type(float))
        begin = _Carry(
            jnp.zeros((), jnp.int32),
            state,
            empty,
            dict.fromkeys(self._metrics, empty),
            jnp.ones((), bool),
        )
        end = jax.lax.while_loop(lambda carry: (carry.i < steps) & carry.ok, body, begin)
        return ChunkResult(end.state, end.losses, end.metrics, end.i, end.ok)


def _pick(kind: FeedKind, feed: Mapping[str, Any], i: jax.Array) -> dict[str, jax.Array]:
    if kind == "fixed":
        return dict(feed)
    if kind == "stacked":
        return {
            name: jax.lax.dynamic_index_in_dim(array, i, keepdims=False)
            for name, array in feed.items()
        }
    rows = jax.lax.dynamic_index_in_dim(feed["indices"], i, keepdims=False)
    return {name: array[rows] for name, array in feed["arrays"].items()}


def _all_finite(tree: Any) -> jax.Array:
    finite = [
        jnp.isfinite(leaf).all()
        for leaf in jax.tree.leaves(tree)
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
    ]
    return jnp.stack(finite).all() if finite else jnp.ones((), bool)
