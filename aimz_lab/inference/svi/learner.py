"""One SVI object at work on one kernel: its state, its compiled steps, its runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache, partial
from typing import Any

import jax
import numpy as np
from numpyro.infer import SVI
from numpyro.infer.svi import SVIState

from aimz_lab.data import canonical
from aimz_lab.inference.autoguides import autoguides_in
from aimz_lab.inference.compiling import FULL, QUICKEST, compiler_options, named
from aimz_lab.inference.feeds.placement import Placement
from aimz_lab.inference.feeds.schema import InputSchema
from aimz_lab.inference.feeds.training_data import TrainingData
from aimz_lab.inference.request import FitOptions
from aimz_lab.inference.rollback import rollback_on_error
from aimz_lab.inference.run.events import Callback, Callbacks, Control, Run, RunInfo
from aimz_lab.inference.run.rates import WHY_FIXED, learning_rate
from aimz_lab.inference.svi.compiled_steps import FeedKind, StepEngine
from aimz_lab.inference.svi.guide_draws import GuideDraws
from aimz_lab.inference.svi.guide_setup import GuideSetup
from aimz_lab.inference.svi.plan import (
    PlanOptions,
    TrainingPlan,
    check_guide,
    make_feed,
    plan_training,
    trace_data,
)
from aimz_lab.inference.svi.prepared import Prepared, compiler_effort
from aimz_lab.inference.svi.run_info import checkpoint_facts, run_info, warn_unscaled
from aimz_lab.inference.svi.step import Batch
from aimz_lab.inference.svi.trainer import Trainer
from aimz_lab.inference.svi.validation import check_held_out
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.kernel.tracing import tracing_lock
from aimz_lab.types import callable_name


class SviSession:
    """Training with one SVI object.

    Args:
        kernel: The NumPyro model.
        svi: The inference object.
        output: Name of the output site.

    Attributes:
        state: NumPyro's state after the last accepted step; ``None`` before the first.
        draws: Draws from its guide.
    """

    def __init__(self, kernel: Callable, svi: SVI, output: str) -> None:
        self.state: SVIState | None = None
        self._kernel = kernel
        self._svi = svi
        self._output = output
        self._setup = GuideSetup(svi)
        self._forget_compiled()

    def __getstate__(self) -> dict[str, Any]:
        left = {"_engines", "_plans", "_constrained", "draws"}
        return {name: v for name, v in self.__dict__.items() if name not in left}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget_compiled()

    def _forget_compiled(self) -> None:
        self._engines: dict[Any, StepEngine] = {}
        self._plans: dict[Any, TrainingPlan] = {}
        self._constrained = jax.jit(
            named("parameters", self._svi.get_params), compiler_options=compiler_options(QUICKEST)
        )
        self.draws = GuideDraws(self._svi, self._setup, self._constrained)

    @property
    def schema(self) -> InputSchema | None:
        """What the last data was like; ``None`` before there was any."""
        return self._setup.schema

    @property
    def params(self) -> dict[str, jax.Array]:
        """The constrained parameters of the current state."""
        return {} if self.state is None else self._params_of(self.state)

    def _params_of(self, state: SVIState) -> dict[str, jax.Array]:
        with tracing_lock:
            return dict(self._constrained(state))

    def prepare(self, data: TrainingData) -> KernelSpec:
        """Check kernel, data and guide against each other; nothing is changed by a refusal.

        Raises:
            KernelError: If the kernel's structure is not usable.
            SiteError: If a site has the rows on two axes.
            GuideError: If the guide cannot be trained on such batches.
        """
        spec = trace_data(self._kernel, data, self._output)
        check_guide(self._svi, spec, data)
        return spec

    def ensure_state(
        self,
        key: jax.Array,
        data: TrainingData,
        meanwhile: Callable[[SVIState], object] = lambda _: None,
    ) -> SVIState:
        """Set guide and optimizer up, unless that was done before."""
        self._setup.see(data)
        if self.state is None or self._setup.by_stand_ins:
            state = self._setup.with_data(key, data, meanwhile)
            self.state = state if self.state is None else self.state
        return self.state

    def set_up(self, schema: InputSchema) -> SVIState:
        """Set guide and optimizer up without data; the next training does it again, with its data.

        Args:
            schema: What the data was like.

        Returns:
            A state with the structure, shapes and types of theirs.
        """
        return self._setup.with_stand_ins(schema)

    def start(
        self,
        data: TrainingData,
        spec: KernelSpec,
        placement: Placement,
        callbacks: Iterable[Callback],
        options: FitOptions,
        key: jax.Array,
    ) -> tuple[Run, Trainer]:
        """Prepare a run: all that can be refused is refused here.

        Args:
            data: What to train on.
            spec: The kernel's structure, from :meth:`prepare`.
            placement: Where batches should go.
            callbacks: The listeners.
            options: What the user asked for.
            key: A typed random key, for the initial state and the validation's noise.

        Returns:
            The run, and what :meth:`train` trains it with.

        Raises:
            CheckpointError: If the run cannot go on from the checkpoint.
            GuideError: If the guide has no values for the held-out rows.
            DataError: If the loss of the held-out rows cannot be computed.
            Exception: What the kernel raised. Nothing has changed, whatever is raised.

        Warns:
            FitWarning: If nobody knows how many rows a stream has, and so what a batch stands for.
        """
        if options.held_out is not None:
            check_held_out(self._svi, spec, data, options.held_out)
        guides = (self._svi.guide, *autoguides_in(self._svi.guide))
        with rollback_on_error(self, self._setup, self._svi, *guides):
            run = Run(RunInfo(self._name, self._method), control=Control(why_not=WHY_FIXED))
            listeners = Callbacks(callbacks, run)
            metrics = options.plan.metrics | listeners.metrics
            asked = replace(options, plan=replace(options.plan, metrics=metrics))
            prepare = cache(partial(self._prepared, spec, data, placement, asked))

            def meanwhile(state: SVIState) -> None:
                # Where the state of several devices will lie is not known yet, and a stream must
                # not be opened twice.
                if data.in_memory and placement.sharding is None:
                    self._compile_ahead(prepare, state)

            state = self.ensure_state(key, data, meanwhile)
            run.control.can_set_learning_rate = learning_rate(state.optim_state) is not None
            prepared = prepare(is_mutable=state.mutable_state is not None)
            warn_unscaled(prepared.plan, data, options)
            facts = cache(lambda: self._facts(data, options.plan, state))
            if options.resume is not None:
                options.resume.check(facts())
            trainer = self._trainer(run, listeners, prepared, state, key)
            run.bind(
                params=lambda: self._params_of(run.final_state.svi),
                state=lambda: trainer.state,
                position=lambda: trainer.position,
                provenance=lambda: {"facts": facts(), "origin": options.origin.as_plain()},
            )
        return run, trainer

    def _prepared(
        self,
        spec: KernelSpec,
        data: TrainingData,
        placement: Placement,
        options: FitOptions,
        *,
        is_mutable: bool,
    ) -> Prepared:
        plan = plan_training(
            self._kernel, self._svi, spec, data, placement, options.plan, is_mutable=is_mutable
        )
        feed = make_feed(
            data,
            plan,
            epochs=1 if options.num_steps else options.epochs,
            steps_per_epoch=options.num_steps,
            start=options.start,
        )
        engine = self._engine(plan, data, feed.kind, compiler_effort(data))
        shared = plan.placement.put_everywhere(data.first_batch.shared)
        return Prepared(options, data, plan, feed, engine, shared)

    def _compile_ahead(self, prepare: Callable[..., Prepared], state: SVIState) -> None:
        """Compile the steps while the state to begin with is compiled, where that works.

        Args:
            prepare: Prepares the run, and keeps what it made.
            state: Shapes and types of the state.
        """
        engines = self._engines
        try:
            prepare(is_mutable=state.mutable_state is not None).compile_in_background(state)
        except Exception:  # noqa: BLE001  a value that the guide lacks yet; else, it will be raised again
            prepare.cache_clear()
            self._engines = engines

    def _trainer(
        self, run: Run, listeners: Callbacks, prepared: Prepared, state: SVIState, key: jax.Array
    ) -> Trainer:
        """What trains, from a state to begin with, which a checkpoint may change."""
        options, plan = prepared.options, prepared.plan
        run.info = run_info(self._name, self._method, prepared.data, plan, options)
        begin = prepared.engine.start(state)
        if options.resume is not None:
            begin = options.resume.restore(run, begin)
        return Trainer(
            prepared.engine,
            prepared.feed,
            plan.placement.put_everywhere(begin),
            run,
            listeners,
            shared=prepared.shared,
            n_obs=prepared.n_obs,
            options=prepared.train_options(key, begin.svi),
            start=options.start,
        )

    def train(self, run: Run, trainer: Trainer) -> None:
        """Train what was prepared.

        Raises:
            NonFiniteLossError: With ``on_nonfinite="raise"``.
            Exception: What the kernel or a callback raised; :attr:`state` is then the last good
                one.
        """
        try:
            trainer.train()
        finally:
            self.state = run.final_state.svi

    def step(
        self, data: TrainingData, n_pad: int, key: jax.Array
    ) -> tuple[SVIState, jax.Array, KernelSpec]:
        """Run one step on the rows of ``data``, for loops written by hand.

        Args:
            data: The batch.
            n_pad: Rows at its end that are padding.
            key: For the initial state, if there is none yet.

        Returns:
            The new state, the loss in nats, and the kernel's structure.
        """
        # Copies: on CPUs a step reads host memory after it was dispatched, and whoever wrote the
        # loop may by then have put the next batch into the same buffer.
        rows = {name: np.array(canonical(array, name)) for name, array in data.rows.items()}
        shared = jax.tree.map(canonical, dict(data.shared))
        leaves, tree = jax.tree.flatten((rows, shared))
        shapes = tuple((np.shape(leaf), np.dtype(leaf.dtype)) for leaf in leaves)
        plan_key = (shapes, tree, data.static_key, data.n_obs, n_pad > 0)
        if plan_key not in self._plans:
            spec = self.prepare(data)
            self.ensure_state(key, data)
            mutable = self.state.mutable_state is not None
            self._plans[plan_key] = plan_training(
                self._kernel, self._svi, spec, data, Placement(), PlanOptions(), is_mutable=mutable
            )
        plan = self._plans[plan_key]
        engine = self._engine(plan, data, "fixed")
        valid = data.batch_size - n_pad
        batch = Batch(rows, valid, shared, data.n_obs or valid)
        self.state, loss = engine.one(self.state, batch)
        return self.state, loss, plan.spec

    def _facts(self, data: TrainingData, options: PlanOptions, state: SVIState) -> dict[str, Any]:
        """What a checkpoint of this fit is a checkpoint of."""
        names = {"kernel": self._name, "inference": self._method, "output": self._output}
        return names | checkpoint_facts(self._svi, state, data, options)

    def _engine(
        self, plan: TrainingPlan, data: TrainingData, kind: FeedKind, effort: int = FULL
    ) -> StepEngine:
        engine_key = (plan.key, data.static_key, kind, effort)
        if engine_key not in self._engines:
            # Another dict, so that what a refused run made is forgotten with it.
            engine = StepEngine(self._svi, plan.step, data.static, kind, effort)
            self._engines = {**self._engines, engine_key: engine}
        return self._engines[engine_key]

    @property
    def _name(self) -> str:
        return callable_name(self._kernel)

    @property
    def _method(self) -> str:
        return f"SVI/{callable_name(self._svi.guide)}"
