"""One SVI object at work on one kernel: its state, its compiled steps, its runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, wait
from functools import cache
from typing import Any

import jax
import numpy as np
from numpyro.infer import SVI
from numpyro.infer.autoguide import AutoDAIS, AutoGuide, AutoLaplaceApproximation
from numpyro.infer.svi import SVIState

from aimz_lab.data import canonical
from aimz_lab.errors import CallError
from aimz_lab.inference.compiling import QUICKEST, compile_behind, compiler_options, named
from aimz_lab.inference.events import Callback, Callbacks, Control, Run, RunInfo
from aimz_lab.inference.fit_options import FitOptions
from aimz_lab.inference.placement import Placement
from aimz_lab.inference.plan import (
    PlanOptions,
    TrainingData,
    TrainingPlan,
    check_guide,
    make_feed,
    plan_training,
    setup_arguments,
    trace_data,
)
from aimz_lab.inference.posterior import GuideSampler
from aimz_lab.inference.rates import WHY_FIXED, learning_rate
from aimz_lab.inference.run_info import checkpoint_facts, run_info, warn_unscaled
from aimz_lab.inference.schema import InputSchema
from aimz_lab.inference.setup import initial_state
from aimz_lab.inference.svi import FeedKind, StepEngine
from aimz_lab.inference.train import Trainer, TrainOptions, Validation
from aimz_lab.inference.validation import check_held_out, held_out_loss
from aimz_lab.kernel.arguments import split_arguments
from aimz_lab.kernel.spec import KernelSpec, tracing_lock

KEEPS_DATA = (AutoDAIS, AutoLaplaceApproximation)
"""Autoguides whose draws depend on the data that they were set up with."""


class SviSession:
    """Training with one SVI object.

    Args:
        kernel: The NumPyro model.
        svi: The inference object.
        output: Name of the output site.

    Attributes:
        state: NumPyro's state after the last accepted step; ``None`` before the first.
    """

    def __init__(self, kernel: Callable, svi: SVI, output: str) -> None:
        self.state: SVIState | None = None
        self._kernel = kernel
        self._svi = svi
        self._output = output
        self.schema: InputSchema | None = None
        self._example: dict[str, Any] = {}
        self._by_stand_ins = False
        self._forget_compiled()

    def __getstate__(self) -> dict[str, Any]:
        left = {"_engines", "_samplers", "_plans", "_constrained", "_compiling", "_example"}
        return {name: v for name, v in self.__dict__.items() if name not in left}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _example={})
        self._forget_compiled()

    def _forget_compiled(self) -> None:
        self._engines: dict[Any, StepEngine] = {}
        self._samplers: dict[Any, GuideSampler] = {}
        self._plans: dict[Any, TrainingPlan] = {}
        self._constrained = jax.jit(
            named("parameters", self._svi.get_params), compiler_options=compiler_options(QUICKEST)
        )
        self._compiling: Future[None] | None = None

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

    def ensure_state(self, key: jax.Array, data: TrainingData) -> SVIState:
        """Set guide and optimizer up, unless that was done before."""
        batch = data.first_batch
        self._example = {**batch.rows, **batch.whole, **batch.static}
        self.schema = InputSchema.of(data)
        if self.state is None or self._by_stand_ins:
            self._forget_stand_ins()
            state = initial_state(self._svi, key, setup_arguments(self._svi, data), data.static)
            self.state = state if self.state is None else self.state
        return self.state

    def set_up(self, schema: InputSchema) -> SVIState:
        """Set guide and optimizer up without data; the next training does it again, with its data.

        Args:
            schema: What the data was like.

        Returns:
            A state with the structure, shapes and types of theirs.
        """
        self.schema, self._example, self._by_stand_ins = schema, {}, True
        return initial_state(self._svi, jax.random.key(0), schema.stand_ins(), schema.static)

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
        with self._undone_if_refused():
            return self._start(data, spec, placement, callbacks, options, key)

    def _start(
        self,
        data: TrainingData,
        spec: KernelSpec,
        placement: Placement,
        callbacks: Iterable[Callback],
        options: FitOptions,
        key: jax.Array,
    ) -> tuple[Run, Trainer]:
        state = self.ensure_state(key, data)
        control = Control(
            can_set_learning_rate=learning_rate(state.optim_state) is not None, why_not=WHY_FIXED
        )
        run = Run(RunInfo(self._name, self._method), control=control)
        listeners = Callbacks(callbacks, run)
        plan_options = PlanOptions(
            options.plan.scale, options.plan.accumulate, options.plan.metrics | listeners.metrics
        )
        plan = self._plan(spec, data, placement, plan_options)
        warn_unscaled(plan, data, options)
        facts = cache(lambda: self._facts(data, options.plan, state))
        if options.resume is not None:
            options.resume.check(facts())
        feed = make_feed(
            data,
            plan,
            epochs=1 if options.num_steps else options.epochs,
            steps_per_epoch=options.num_steps,
            start=options.start,
        )
        engine = self._engine(plan, data, feed.kind)
        whole = plan.placement.put_everywhere(data.first_batch.whole)
        run.info = run_info(self._name, self._method, data, plan, options)
        begin = engine.start(state)
        if options.resume is not None:
            begin = options.resume.restore(run, begin)
        train = options.train
        if options.held_out is not None:
            loss = held_out_loss(engine, plan, options.held_out, whole, data, key, begin.svi)
            train = TrainOptions(
                train.steps_per_call,
                train.on_nonfinite,
                Validation(loss, options.held_out.every),
            )
        trainer = Trainer(
            engine,
            feed,
            plan.placement.put_everywhere(begin),
            run,
            listeners,
            whole=whole,
            n_obs=data.n_obs or data.batch_size,
            options=train,
            start=options.start,
        )
        run.bind(
            params=lambda: self._params_of(run.final_state.svi),
            state=lambda: trainer.state,
            position=lambda: trainer.position,
            provenance=lambda: {"facts": facts(), "origin": options.origin.as_plain()},
        )
        return run, trainer

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
        whole = jax.tree.map(canonical, dict(data.whole))
        leaves, tree = jax.tree.flatten((rows, whole))
        shapes = tuple((np.shape(leaf), np.dtype(leaf.dtype)) for leaf in leaves)
        plan_key = (shapes, tree, data.static_key, data.n_obs, n_pad > 0)
        if plan_key not in self._plans:
            spec = self.prepare(data)
            self.ensure_state(key, data)
            self._plans[plan_key] = self._plan(spec, data, Placement(), PlanOptions())
        plan = self._plans[plan_key]
        engine = self._engine(plan, data, "fixed")
        valid = data.batch_size - n_pad
        n_obs = data.n_obs or valid
        self.state, loss = engine.one(self.state, rows, valid, whole, n_obs)
        return self.state, loss, plan.spec

    def draw(
        self,
        key: jax.Array,
        params: Mapping[str, Any],
        num_samples: int,
        arguments: Mapping[str, Any],
        spec: KernelSpec | None,
    ) -> dict[str, jax.Array]:
        """Draw from the guide.

        Args:
            key: A typed random key.
            params: Constrained parameters.
            num_samples: Number of draws.
            arguments: Arguments of the guide; empty for the last batch that it was trained on.
            spec: The kernel's structure, whose latent sites are returned; ``None`` for all sites.

        Raises:
            CallError: If the guide may read data, and there is none yet since the model was loaded.
        """
        sampler, arrays, static = self._sampler(arguments, spec)
        if self._by_stand_ins and isinstance(self._svi.guide, KEEPS_DATA):
            self._forget_stand_ins()
            initial_state(self._svi, key, arrays, static)
        if self._compiling is not None:
            wait([self._compiling])
            self._compiling = None
        return sampler.draw(key, params, num_samples, arrays)

    def _sampler(
        self, arguments: Mapping[str, Any], spec: KernelSpec | None
    ) -> tuple[GuideSampler, dict[str, Any], dict[str, Any]]:
        """What draws from the guide, and the guide's arguments: arrays, and all others."""
        split = split_arguments(arguments or self._example or self._stand_ins(), None)
        latents = spec.latent_sites if spec else None
        sampler_key = (split.static_key, latents)
        if sampler_key not in self._samplers:
            self._samplers[sampler_key] = GuideSampler(self._svi, latents, split.static)
        arrays = jax.tree.map(canonical, dict(split.whole))
        return self._samplers[sampler_key], arrays, dict(split.static)

    def compile_draws(
        self, data: TrainingData, key: jax.Array, num_samples: int, spec: KernelSpec
    ) -> None:
        """Compile what :meth:`draw_for` will run while the first steps compile.

        Only what one device runs: where the state of several will lie is not known before.
        """
        sampler, arrays, _ = self._sampler(self._guide_arguments(data), spec)
        if len(jax.local_devices()) > 1 or sampler.has_drawn(num_samples):
            return
        params = jax.eval_shape(self._constrained, self.state)
        self._compiling = compile_behind(
            self._constrained.lower(self.state), sampler.lower(key, params, num_samples, arrays)
        )

    def draw_for(
        self,
        data: TrainingData,
        key: jax.Array,
        params: Mapping[str, Any],
        num_samples: int,
        spec: KernelSpec,
    ) -> dict[str, jax.Array]:
        """Draw from the guide after a fit; a guide that reads the data gets all rows, in order."""
        return self.draw(key, params, num_samples, self._guide_arguments(data), spec)

    def _guide_arguments(self, data: TrainingData) -> dict[str, Any]:
        rows = data.rows
        if isinstance(self._svi.guide, AutoGuide):
            # It may run the kernel, but only for structure: a batch will do.
            rows = data.first_batch.rows
        return {**rows, **data.whole, **data.static}

    def _forget_stand_ins(self) -> None:
        """Let an autoguide that was set up without data set itself up once more."""
        if self._by_stand_ins and isinstance(self._svi.guide, AutoGuide):
            self._svi.guide.prototype_trace = None
        self._by_stand_ins = False

    def _stand_ins(self) -> dict[str, Any]:
        """Arguments for a guide that reads nothing of them but their shapes."""
        guide = self._svi.guide
        if not isinstance(guide, AutoGuide) or isinstance(guide, KEEPS_DATA):
            msg = (
                f"The guide {self._method.removeprefix('SVI/')} may read the data, which is not "
                "stored with a model; pass it: sample(X=..., y=..., ...)."
            )
            raise CallError(msg)
        return {**self.schema.stand_ins(), **self.schema.static} if self.schema else {}

    @contextlib.contextmanager
    def _undone_if_refused(self) -> Iterator[None]:
        """Leave session, inference object and guide as they were if a run is refused."""
        holders = [one for one in (self, self._svi, self._svi.guide) if hasattr(one, "__dict__")]
        before = [dict(vars(holder)) for holder in holders]
        engines = dict(self._engines)
        try:
            yield
        except BaseException:
            for holder, attributes in zip(holders, before, strict=True):
                vars(holder).clear()
                vars(holder).update(attributes)
            self._engines = engines
            raise

    def _facts(self, data: TrainingData, options: PlanOptions, state: SVIState) -> dict[str, Any]:
        """What a checkpoint of this fit is a checkpoint of."""
        names = {"kernel": self._name, "inference": self._method, "output": self._output}
        return names | checkpoint_facts(self._svi, state, data, options)

    def _plan(
        self, spec: KernelSpec, data: TrainingData, placement: Placement, options: PlanOptions
    ) -> TrainingPlan:
        mutable = self.state.mutable_state is not None
        return plan_training(
            self._kernel, self._svi, spec, data, placement, options, is_mutable=mutable
        )

    def _engine(self, plan: TrainingPlan, data: TrainingData, kind: FeedKind) -> StepEngine:
        engine_key = (plan.key, data.static_key, kind)
        if engine_key not in self._engines:
            self._engines[engine_key] = StepEngine(self._svi, plan.step, data.static, kind)
        return self._engines[engine_key]

    @property
    def _name(self) -> str:
        return getattr(self._kernel, "__name__", type(self._kernel).__name__)

    @property
    def _method(self) -> str:
        guide = self._svi.guide
        return f"SVI/{getattr(guide, '__name__', type(guide).__name__)}"
