"""The SVI learner: prepare fits, run single steps, and draw from the guide."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np
from numpyro.infer import SVI
from numpyro.infer.autoguide import AutoGuide
from numpyro.infer.svi import SVIState

from aimz_lab.data import canonical
from aimz_lab.errors import CallError, NonFiniteLossError, NotFittedError
from aimz_lab.inference.autoguides import autoguides_in
from aimz_lab.inference.compiling import FULL, QUICKEST, compiler_options, named
from aimz_lab.inference.feeds.columns import check_columns
from aimz_lab.inference.feeds.feed import FeedKind
from aimz_lab.inference.feeds.inputs import all_rows
from aimz_lab.inference.feeds.kernel_structure import with_checked_indices
from aimz_lab.inference.feeds.placement import Placement
from aimz_lab.inference.feeds.ranges import joined_ranges, ranges_of
from aimz_lab.inference.feeds.schema import InputSchema
from aimz_lab.inference.feeds.training_data import TrainingData
from aimz_lab.inference.posterior import Posterior
from aimz_lab.inference.request import FitRequest, SampleRequest, StepOptions, ViResult
from aimz_lab.inference.rollback import restorer, rollback_on_error
from aimz_lab.inference.run.events import Callbacks, Control, Run, RunInfo
from aimz_lab.inference.shared_programs import SharedJit
from aimz_lab.inference.svi.accepted_steps import describe_bad_batch
from aimz_lab.inference.svi.compiled_steps import StepEngine
from aimz_lab.inference.svi.fit import FitData, SviFit, losses_to_compare, prepare, read_fit_data
from aimz_lab.inference.svi.given_result import (
    check_parameters_allowed,
    check_parameters_fit,
    check_state_fits,
    state_of_result,
)
from aimz_lab.inference.svi.guide_draws import GuideDraws
from aimz_lab.inference.svi.guide_setup import GuideSetup, check_same_parameters
from aimz_lab.inference.svi.optimizer_rate import OptimizerRate
from aimz_lab.inference.svi.plan import (
    TrainingPlan,
    check_kept_rows,
    make_feed,
    plan_training,
)
from aimz_lab.inference.svi.rows_check import RowsCheck
from aimz_lab.inference.svi.run_setup import RunSetup, compiler_effort, make_trainer
from aimz_lab.inference.svi.short_batches import ShortBatches
from aimz_lab.inference.svi.step import Batch
from aimz_lab.kernel.cache_keys import CodeKey
from aimz_lab.kernel.rows.index_checks import IndexCheck
from aimz_lab.kernel.scaling import DataSize
from aimz_lab.kernel.signature import KernelSignature, kernel_parameters
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.preparing import doing
from aimz_lab.spelling import did_you_mean
from aimz_lab.types import OnBadStep, Params, RowDependence, Rows, Shared, callable_name


class StepResult(NamedTuple):
    """Result of one step of a hand-written loop.

    Attributes:
        state: The SVI state after it.
        loss: The loss in nats, a scalar; the step may still be running.
        spec: The kernel's structure.
        schema: Names, shapes and types of the batch.
        ok: Whether it was taken, a scalar on the device; ``None`` if that is known.
    """

    state: SVIState
    loss: jax.Array
    spec: KernelSpec
    schema: InputSchema
    ok: jax.Array | None


class SviLearner:
    """Trains a kernel with an SVI object; it keeps compiled programs and no state.

    Args:
        signature: The kernel.
        svi: The inference object.
    """

    def __init__(self, signature: KernelSignature, svi: SVI) -> None:
        self._kernel = signature
        self._svi = svi
        self._setup = GuideSetup(svi)
        self._indices = IndexCheck(signature.kernel)
        self._forget_compiled()

    def __getstate__(self) -> dict[str, Any]:
        compiled = {"_engines", "_plans", "_constrained", "_draws", "_rows_check", "_code"}
        left = {*compiled, "_rate", "_short_batches", "_summed"}
        return {name: v for name, v in self.__dict__.items() if name not in left}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget_compiled()

    def _forget_compiled(self) -> None:
        self._summed: tuple[dict[str, object], Mapping[str, int]] = ({}, {})
        self._code: tuple[CodeKey, ...] = ()
        self._engines: dict[Hashable, StepEngine] = {}
        self._plans: dict[Hashable, TrainingPlan] = {}
        self._rate = OptimizerRate(self._svi.optim)
        self._short_batches = ShortBatches()
        self._constrained = SharedJit(
            named("parameters", self._svi.get_params), options=compiler_options(QUICKEST)
        )
        self._draws = GuideDraws(self._svi, self._setup, self._constrained)
        self._rows_check = RowsCheck(self._kernel, self._svi)

    @property
    def output(self) -> str:
        """Name of the output."""
        return self._kernel.output

    def params(self, state: SVIState | None) -> dict[str, jax.Array]:
        """Return the constrained parameters of a state; empty without one."""
        if state is None:
            return {}
        return dict(self._constrained(state))

    def state_of(self, result: ViResult, state: SVIState | None) -> SVIState | None:
        """Check a result from elsewhere, and return the state to go on from.

        Args:
            result: What the user sets as ``vi_result``.
            state: The state of the model, or ``None``.

        Returns:
            The state of the result; that of the model if it has none.

        Raises:
            CallError: If a field is missing or of another type.
            ArgumentError: If parameters or state are not finite.
            GuideError: If the result belongs to another optimizer or guide, or a parameter is
                outside its constraint.

        Warns:
            FitWarning: If a loss is not finite.
        """
        found = state_of_result(result, self._svi)
        if found is not None and state is not None:
            check_state_fits(found, state, self._svi)
        if state is not None:
            check_parameters_fit(result.params, self.params(state))
        check_parameters_allowed(result.params, self._svi)
        return state if found is None else found

    def set_up(self, schema: InputSchema) -> SVIState:
        """Set up guide and optimizer without data; the next training repeats it with its data.

        Args:
            schema: Shapes and types of the data.

        Returns:
            A state with the right structure, shapes and types.
        """
        return self._setup.with_stand_ins(schema)

    def start(self, request: FitRequest, state: SVIState | None) -> SviFit:
        """Check and prepare a fit.

        Args:
            request: The user's call.
            state: The state to begin with, or ``None``.

        Raises:
            CallError: If arguments are missing, unknown or doubled.
            DataError: If the data does not fit together, or the loss of the held-out rows cannot be
                computed.
            CheckpointError: If the run cannot go on from the checkpoint.
            KernelError: If the kernel computes across rows that are cut into batches.
            GuideError: If the guide cannot be trained on such batches, or has no values for the
                held-out rows.
            InferenceError: If the learning rate is negative or no number.
            Exception: Any error of the kernel. After an error the learner is as before.

        Warns:
            FitWarning: If batches of a stream of unknown length are not scaled, all rows are
                trained on at once, not in batches of the default size, or the learning rate is
                0 or absurdly high.
        """
        self._rate.check()
        read = read_fit_data(self._kernel, self._svi, request, self._indices, self._rows_check)
        data = read.training
        undo = restorer(*self._changeable)
        with self._rollback():
            names = callable_name(self._kernel.kernel), f"SVI/{callable_name(self._svi.guide)}"
            run = Run(RunInfo(*names), control=Control())
            run.guide = self._svi.guide
            callbacks = Callbacks(request.callbacks, run, leads=read.placement.team.leads)
            metrics = request.step.metrics | callbacks.metrics
            asked = replace(request, step=replace(request.step, metrics=metrics))
            self._read_code()
            was_trained = state is not None
            doing("setting up the guide")
            state = self._ensure_state(state, request.origin.keys[0], data)
            run.constant_losses = losses_to_compare(
                self._kernel, read.spec, data, lambda: self.params(state)
            )
            doing("gathering the first batches")
            setup = self._run_setup(read, asked, is_mutable=state.mutable_state is not None)
            trainer = make_trainer(
                setup,
                self._svi,
                run,
                callbacks,
                state,
                signature=self._kernel,
                params=self.params,
                rate=self._rate,
                was_trained=was_trained,
            )
            key, count = request.origin.keys[2], request.num_samples
            self._draws.compile_ahead(data, key, state, count, read.spec)
        return SviFit(self, request, data, read.spec, run, trainer, undo)

    @property
    def _changeable(self) -> tuple[Any, ...]:
        """Objects that setting up and training change."""
        guide = self._svi.guide
        return (self, self._setup, self._svi, guide, *autoguides_in(guide))

    def _run_setup(self, read: FitData, request: FitRequest, *, is_mutable: bool) -> RunSetup:
        data = read.training
        plan = plan_training(
            self._kernel.kernel,
            self._svi,
            read.spec,
            data,
            read.placement,
            request.step,
            is_mutable=is_mutable,
        )
        feed = make_feed(
            data,
            plan,
            epochs=1 if request.num_steps else request.epochs,
            steps_per_epoch=request.num_steps,
            start=request.start,
        )
        engine = self._engine(plan, data, feed.kind, compiler_effort(data))
        shared = plan.placement.put_everywhere(data.first_batch.shared)
        return RunSetup(request, data, read.held_out, plan, feed, engine, shared)

    def _ensure_state(
        self,
        state: SVIState | None,
        key: jax.Array,
        data: TrainingData,
    ) -> SVIState:
        """Set up guide and optimizer, if that was not done before with the same code."""
        if state is not None and self._setup.schema is None:
            return self._set_up_for(state, key, data)
        if state is not None and self._setup.keeps_other(data):
            self._forget_compiled()
            self._setup.is_outdated = True
        self._setup.see(data)
        if state is None or self._setup.by_stand_ins or self._setup.is_outdated:
            is_outdated = self._setup.is_outdated
            fresh = self._setup.with_data(key, data)
            if state is not None and is_outdated:
                check_same_parameters(state, fresh)
            return fresh if state is None else state
        return state

    def _set_up_for(self, state: SVIState, key: jax.Array, data: TrainingData) -> SVIState:
        """Set up the guide for a state from elsewhere, which a user has set."""
        with self._rollback():
            self._setup.is_outdated = True  # NumPyro may have set it up for other rows
            self._setup.see(data)
            check_state_fits(state, self._setup.with_data(key, data), self._svi)
        return state

    def _read_code(self) -> None:
        """Forget what was compiled if kernel or guide read other values than then."""
        guide = self._svi.guide
        own = [] if isinstance(guide, AutoGuide) else [guide]
        code = tuple(CodeKey(one) for one in (self._kernel.kernel, *own))
        if self._code and code != self._code:
            self._forget_compiled()
            self._setup.is_outdated = True
        self._code = code

    def step(
        self,
        data: TrainingData,
        n_pad: int,
        key: jax.Array,
        state: SVIState | None,
        row_dependence: RowDependence = "auto",
        on_nonfinite: OnBadStep = "raise",
    ) -> StepResult:
        """Run one step on the rows of ``data``, for loops written by hand.

        Args:
            data: The batch.
            n_pad: Rows at its end that are padding.
            key: For the initial state, if there is none yet.
            state: The state before the step, or ``None``.
            row_dependence: ``"independent"`` if the user says that rows may be cut.
            on_nonfinite: Whether to raise after a step that is not finite, or to leave it out.

        Raises:
            DataError: If an index is out of range, or a table has other columns than in the steps
                before.
            KernelError: If the batch is part of the data and the kernel may compute across rows.
            GuideError: Likewise of the guide, or if it cannot be trained on batches.
            NonFiniteLossError: If the loss or the new state is not finite. After any error the
                learner is as before.

        Warns:
            FitWarning: Once, if the same short batch comes again; or if the number of all rows is
                not known, and the kernel computes a statistic of rows.
        """
        with self._rollback():
            with_checked_indices(self._indices, data)
            # Copies: on CPUs a step reads host memory after its dispatch, when the loop may already
            # have put the next batch into the same buffer.
            rows = {name: np.array(canonical(array, name)) for name, array in data.rows.items()}
            shared = jax.tree.map(canonical, dict(data.shared))
            before = None if state is None else self._setup.schema
            if before is not None:
                check_columns(before.columns, data.columns, {})
            self._read_code()
            check_kept_rows(self._svi.guide, data, changes=self._setup.keeps_other(data))
            plan, state = self._plan_of_step(data, n_pad, key, state, rows, shared, row_dependence)
            self._setup.widen(joined_ranges(before.ranges if before else {}, ranges_of(rows)))
            valid = data.batch_size - n_pad
            batch = Batch(rows, valid, shared, DataSize(data.n_obs))
            step = self._engine(plan, data, "fixed").one(state, batch)
            if on_nonfinite == "raise" and not step.ok:
                raise NonFiniteLossError(describe_bad_batch(float(step.computed_loss), rows, n_pad))
            self._short_batches.see(rows, valid, data.n_obs)
            ok = step.ok if on_nonfinite == "skip" else None
            return StepResult(step.state, step.loss, plan.spec, self._schema_with_sums(data), ok)

    def _schema_with_sums(self, data: TrainingData) -> InputSchema:
        """Return the schema of a batch; its checksums are made anew for new arguments only."""
        given = {**data.shared, **data.static}
        known, sums = self._summed
        if given.keys() != known.keys() or any(given[name] is not known[name] for name in given):
            sums = self._setup.schema.with_sums(given).sums
            self._summed = given, sums
        return replace(self._setup.schema, sums=sums)

    def _plan_of_step(
        self,
        data: TrainingData,
        n_pad: int,
        key: jax.Array,
        state: SVIState | None,
        rows: Rows,
        shared: Shared,
        row_dependence: RowDependence,
    ) -> tuple[TrainingPlan, SVIState]:
        """Return the plan for batches of these shapes, and the state, set up if there is none."""
        leaves, tree = jax.tree.flatten((rows, shared))
        shapes = tuple((np.shape(leaf), np.dtype(leaf.dtype)) for leaf in leaves)
        plan_key = (shapes, tree, data.static_key, data.n_obs, n_pad > 0, row_dependence)
        if state is None or plan_key not in self._plans:
            spec = prepare(self._kernel, self._svi, data)
            # Without the number of all rows, a batch counts as all of them.
            if row_dependence == "auto" and data.n_obs is not None:
                crossing = self._rows_check.crossing(spec, data)
                if crossing is not None:
                    raise crossing.error()
            elif row_dependence == "auto":
                self._rows_check.warn_of_statistics(spec, data)
            state = self._ensure_state(state, key, data)
            plan = plan_training(
                self._kernel.kernel,
                self._svi,
                spec,
                data,
                Placement(),
                StepOptions(),
                is_mutable=state.mutable_state is not None,
            )
            # A new dict, so that the rollback of a refused step drops its plan.
            self._plans = {**self._plans, plan_key: plan}
        return self._plans[plan_key], state

    def sample(self, request: SampleRequest) -> Posterior:
        """Draw from the guide.

        Args:
            request: The user's call, and the state of the model.

        Raises:
            NotFittedError: If nothing was trained.
            CallError: If the guide may read data, and a loaded model has seen none yet. If the
                guide was not set up yet, and an argument of the kernel is missing. If an argument
                is neither the kernel's nor the guide's.
            GuideError: If the parameters are not those of the guide.
        """
        if not request.params and request.state is None:
            msg = (
                "Nothing was trained yet; call fit, fit_on_batch or train_on_batch first, or set "
                "vi_result."
            )
            raise NotFittedError(msg)
        _check_known(self._kernel, self._svi.guide, request.arguments)
        spec = self._set_up_to_draw(request) if self._needs_set_up(request) else request.spec
        params = request.params or self.params(request.state)
        return Posterior(
            self._draws.draw(request.key, params, request.num_samples, request.arguments, spec)
        )

    def _needs_set_up(self, request: SampleRequest) -> bool:
        """Whether the guide was never set up, neither here nor by NumPyro, and has to be."""
        is_fresh = self._setup.schema is None and self._svi.constrain_fn is None
        has_data = self._kernel.output in request.arguments
        return is_fresh and (has_data or bool(autoguides_in(self._svi.guide)))

    def _set_up_to_draw(self, request: SampleRequest) -> KernelSpec:
        """Set up a guide whose parameters come from elsewhere; return the kernel's structure."""
        extra, kernel = dict(request.arguments), self._kernel
        missing = [name for name in (kernel.input, kernel.output) if name not in extra]
        if missing:
            listed = ", ".join(f"{name}=..." for name in (kernel.input, kernel.output))
            msg = (
                "The guide of this model has not been set up yet, as vi_result comes from another "
                f"SVI object. Pass the data of that training, sample({listed}): "
                f"{' and '.join(map(repr, missing))} {'is' if len(missing) == 1 else 'are'} "
                "missing."
            )
            raise CallError(msg)
        inputs, outputs = extra.pop(kernel.input), extra.pop(kernel.output)
        data = all_rows(kernel, inputs, outputs, extra, allow_nonfinite=True, roles=request.roles)
        spec = prepare(kernel, self._svi, data)
        with self._rollback():
            self._setup.see(data)
            fresh = self._setup.with_data(request.key, data)
            if request.state is not None:
                check_state_fits(request.state, fresh, self._svi)
            if request.params:
                check_parameters_fit(request.params, self.params(fresh))
                check_parameters_allowed(request.params, self._svi)
        return spec

    def _rollback(self) -> contextlib.AbstractContextManager[None]:
        """Leave learner and guide as they were if the block raises."""
        return rollback_on_error(*self._changeable)

    def draw_for(
        self,
        request: FitRequest,
        data: TrainingData,
        params: Params,
        spec: KernelSpec,
    ) -> Posterior:
        """Draw from the guide after a fit."""
        key, count = request.origin.keys[2], request.num_samples
        return Posterior(self._draws.draw_for(data, key, params, count, spec), count=count)

    def _engine(
        self, plan: TrainingPlan, data: TrainingData, kind: FeedKind, effort: int = FULL
    ) -> StepEngine:
        engine_key = (plan.key, data.static_key, kind, effort)
        if engine_key not in self._engines:
            # A new dict, so that the rollback of a refused run drops its engine.
            engine = StepEngine(self._svi, plan.step, data.static, kind, effort)
            self._engines = {**self._engines, engine_key: engine}
        return self._engines[engine_key]


_SAMPLE_OPTIONS = ("num_samples", "rng_key", "return_sites", "return_datatree")


def _check_known(kernel: KernelSignature, guide: Callable, given: Iterable[str]) -> None:
    """Refuse arguments of ``sample`` that nobody reads: a misspelt option, such as num_draws."""
    known = dict(kernel_parameters(kernel.kernel))
    if not isinstance(guide, AutoGuide):
        known |= kernel_parameters(guide)
    if any(one.kind is one.VAR_KEYWORD for one in known.values()):
        return
    for name in given:
        if name not in known:
            msg = (
                f"sample has no option {name!r}, and neither kernel nor guide has an argument of "
                f"that name. Its options are {', '.join(_SAMPLE_OPTIONS)}; kernel and guide take "
                f"{', '.join(known)}.{did_you_mean(name, [*_SAMPLE_OPTIONS, *known])}"
            )
            raise CallError(msg)
