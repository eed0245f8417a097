"""The façade: one object that fits a kernel, draws from it, and answers what-if questions."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Shaped
from numpyro.infer import MCMC, SVI
from numpyro.infer.autoguide import AutoGuide
from numpyro.infer.svi import SVIState

from aimz_lab.calls import keyword_names, public
from aimz_lab.data import AxisLabels, as_typed_key
from aimz_lab.data.checks import check_padding, check_positive_int
from aimz_lab.data.groups import GroupBy
from aimz_lab.data.memory import memory_explained
from aimz_lab.data.options import check_flag, check_mapping, check_path, check_text
from aimz_lab.effects.contrasts import contrast_trees, warn_of_observed
from aimz_lab.effects.copies_training import trainings_of_copies
from aimz_lab.effects.decisions import Benefits, Costs, Decision, check_actions, decide
from aimz_lab.effects.effect_kind import EffectKind, arguments_of, effect_kind
from aimz_lab.effects.effect_tree import as_effect, as_group_means, as_rows, as_sweep
from aimz_lab.effects.measures import Contrast, expected_for
from aimz_lab.effects.other_outcomes import tell_other_outcomes
from aimz_lab.effects.outcome_names import called
from aimz_lab.effects.overlap import Overlap, Side, columns_of, overlap
from aimz_lab.effects.placebo import (
    Placebo,
    among_kept_rows,
    check_levels,
    check_outcome,
    check_outcomes,
    check_scenario_options,
    check_site,
    explained_by_scenarios,
    placebo,
    with_options,
    with_treatment,
)
from aimz_lab.effects.row_groups import row_groups
from aimz_lab.effects.scenario_passes import computed_scenarios, effect_in_one_pass, in_turn
from aimz_lab.effects.scenarios import (
    CallArguments,
    can_share_a_pass,
    check_scenarios,
    options_of_the_pass,
    warn_of_unused_columns,
)
from aimz_lab.effects.sweep import Swept, averages_over, check_sweep
from aimz_lab.effects.unmixed_chains import warn_of_unmixed
from aimz_lab.errors import (
    AimzLabError,
    AimzLabWarning,
    ArgumentError,
    ArtifactError,
    CallError,
    FitWarning,
    InferenceError,
    NotFittedError,
    SiteError,
)
from aimz_lab.inference.checkpoint.checkpoint import Checkpoint, load_checkpoint
from aimz_lab.inference.checkpoint.provenance import Origin
from aimz_lab.inference.copies import copied, pickled, unpickled
from aimz_lab.inference.describe import Standing, describe, describe_html, describe_in_a_line
from aimz_lab.inference.feeds.inputs import batch_data, table_columns
from aimz_lab.inference.feeds.placement import resolve_placement
from aimz_lab.inference.feeds.schema import InputSchema
from aimz_lab.inference.feeds.training_data import rows_of_all
from aimz_lab.inference.found_elsewhere import no_attribute
from aimz_lab.inference.key_sequence import CallKeys, KeySequence
from aimz_lab.inference.learners import make_learner, one_inference
from aimz_lab.inference.one_change import Change, OneChange
from aimz_lab.inference.posterior import Posterior, Sites, as_posterior, check_no_tree, site_names
from aimz_lab.inference.posterior_sites import check_posterior
from aimz_lab.inference.request import (
    FitRequest,
    Learner,
    SampleRequest,
    StartedFit,
    StepOptions,
    ViResult,
    undone_on_error,
)
from aimz_lab.inference.run.displays import all_callbacks
from aimz_lab.inference.run.endings import ended_by_interrupt, tell_end
from aimz_lab.inference.run.events import Callback, Run
from aimz_lab.inference.run.getting_ready import Display, getting_ready
from aimz_lab.inference.run.handle import RunHandle
from aimz_lab.inference.running_fit import (
    Moment,
    RunningFit,
    draws_of_before,
    held_moment,
    one_moment,
    way_to_draws,
    why_not_used,
)
from aimz_lab.inference.saved_model import ModelState, SavedModel, save_model
from aimz_lab.inference.svi.learner import SviLearner
from aimz_lab.inference.svi.loop_result import LoopResult
from aimz_lab.inference.svi.short_batches import short_batch_note
from aimz_lab.inference.trained import Trained
from aimz_lab.inference.training_call import TrainingCall
from aimz_lab.kernel.arguments import ArgumentRoles
from aimz_lab.kernel.checks.preflight import check_signature
from aimz_lab.kernel.failures import explained
from aimz_lab.kernel.output_transform import TRANSFORM
from aimz_lab.kernel.own_keywords import OwnKeywords
from aimz_lab.kernel.rows.index_checks import IndexCheck
from aimz_lab.kernel.scaling import Scale
from aimz_lab.kernel.signature import KernelSignature, merge_arguments
from aimz_lab.kernel.spec import KernelSpec, variable_name
from aimz_lab.predictive.call import predict_request, predictive_group
from aimz_lab.predictive.fitted_kernel import FittedKernel
from aimz_lab.predictive.forecast import SUMMARISE
from aimz_lab.predictive.frame_columns import FrameColumns
from aimz_lab.predictive.predictor import Predictor
from aimz_lab.predictive.reducers import (
    Reducer,
    ReduceSpec,
    check_alone,
    check_tree_for_groups,
    means_of_groups,
)
from aimz_lab.predictive.request import Expected, Group, Request
from aimz_lab.predictive.results.datasets import posterior_rows, posterior_tree
from aimz_lab.predictive.results.summary_table import summary_table
from aimz_lab.predictive.results.temporary import TemporaryResults
from aimz_lab.preparing import doing, preparing_line
from aimz_lab.progress import progress_line
from aimz_lab.system.forks import check_can_compute
from aimz_lab.system.lazy_modules import xr
from aimz_lab.system.running_cell import check_cell_goes_on
from aimz_lab.tables.table_call import TableCall, tables_module
from aimz_lab.tracebacks import warn
from aimz_lab.trust.before_fit import PRIOR_DRAWS, CheckReport, check, check_readable_again
from aimz_lab.trust.calibration import CalibrationOptions, CalibrationReport, calibrate
from aimz_lab.trust.columns import column_notes
from aimz_lab.trust.diagnosis import DiagnosisOptions, TrustReport, diagnose
from aimz_lab.trust.examined_model import Examined
from aimz_lab.trust.refinement import Refine
from aimz_lab.trust.rows_to_examine import rows_of
from aimz_lab.trust.trial_fit import Preflight
from aimz_lab.types import (
    Arguments,
    Columns,
    Coords,
    Device,
    Executor,
    Held,
    JsonObject,
    OnBadStep,
    OnInterrupt,
    OnNonFinite,
    OutputScale,
    Progress,
    RowDependence,
    ShardAxis,
    Store,
    callable_name,
    check_choice,
)

if TYPE_CHECKING:
    import pandas as pd

    from aimz_lab.tables.encoder import TableEncoder
    from aimz_lab.tables.model_table import ModelTable
    from aimz_lab.tables.table_spec import TableSpec

Result = TypeVar("Result")


@public
class ImpactModel:
    """A NumPyro model that can be fitted, watched, and asked what-if questions.

    Args:
        kernel: A function with NumPyro primitives, ``kernel(X, ..., y=None)``.
        rng_key: The source of all randomness, such as ``jax.random.key(0)``.
        inference: A ``numpyro.infer.SVI`` or ``numpyro.infer.MCMC``; or use ``svi``.
        svi: A ``numpyro.infer.SVI``; the same as ``inference``.
        param_input: Name of the kernel's parameter for the input.
        param_output: Name of the kernel's parameter, and of its site, for the output.
        device: A ``jax.Device``, or a ``NamedSharding`` of the rows. It overrides a loader's own.
            ``None`` spreads the rows over all local devices, unless ``jax.default_device`` names
            one.
        table: How a data frame becomes the kernel's arguments, a :class:`~aimz_lab.TableSpec`. Then
            ``fit``, ``predict``, ``log_likelihood`` and ``estimate_effect`` take the frame itself.

    Raises:
        InferenceError: If there is no inference object, or more than one; if it is neither an SVI
            nor an MCMC; or if it, or its guide, was made for another kernel.
        ArgumentError: If ``param_input`` or ``param_output`` is no text, or the SVI object has
            static arguments.
        KernelError: If the kernel does not take the input and ``output=None`` by keyword.

    Example:
        The examples of the methods go on from here.

        >>> import jax, numpy as np, numpyro, numpyro.distributions as dist
        >>> from numpyro.infer import SVI, Trace_ELBO
        >>> from numpyro.infer.autoguide import AutoNormal
        >>> def kernel(X, y=None):
        ...     slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
        ...     with numpyro.plate("obs", X.shape[0]):
        ...         numpyro.sample("y", dist.Normal(X * slope, 1.0), obs=y)
        >>> svi = SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(0.1), Trace_ELBO())
        >>> im = ImpactModel(kernel, jax.random.key(0), svi=svi)
        >>> X = np.linspace(-1, 1, 40)
        >>> y = 2 * X
        >>> _ = im.fit(X, y, epochs=300, progress=False)
        >>> im.predict(X, store="memory", progress=False).posterior_predictive.y.shape
        (1, 1000, 40)
    """

    def __init__(
        self,
        kernel: Callable,
        rng_key: jax.Array,
        inference: SVI | MCMC | None = None,
        *,
        svi: SVI | None = None,
        param_input: str = "X",
        param_output: str = "y",
        device: Device | None = None,
        table: TableSpec | None = None,
    ) -> None:
        self._inference = one_inference(inference, svi)
        check_text("param_input", param_input)
        check_text("param_output", param_output)
        check_signature(kernel, param_input, param_output)
        self._kernel = KernelSignature(kernel, param_input, param_output)
        self._learner: Learner = make_learner(self._kernel, self._inference)
        self._predictor = Predictor()
        self._indices = IndexCheck(kernel)
        self._keys = KeySequence(rng_key)
        self._temporary = TemporaryResults()
        self._device = device
        resolve_placement(device)
        self._table = None if table is None else _model_table(self._kernel, table)
        self._frame_columns = FrameColumns(kernel)
        self._own_keywords = OwnKeywords(self._kernel, table.parts if self._table else ())
        self._one_change = OneChange()
        self._trained = Trained()
        self._last_run: Run | None = None
        self._loaded_from = ""
        self._running: RunningFit | None = None
        self._n_obs: int | None = None
        self._warned_of_n_obs = False

    def __reduce__(self) -> tuple[Callable[..., Self], tuple[type[Self], bytes]]:
        """Pickle the model with its code, but without training rows, runs and device."""
        with self._one_change.begin("pickling"):
            parts = {
                **self.__dict__,
                "_last_run": None,
                "_device": None,
                "_trained": self._trained.without_rows(),
            }
            return unpickled, (type(self), pickled(parts))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copy the model; the copy goes on as this one would, and shares nothing that changes."""
        with self._one_change.begin("copying"):
            parts = {**self.__dict__, "_last_run": None}
            return copied(self, parts, memo, [self._device, *self._trained.arrays])

    def __copy__(self) -> Self:
        return copy.deepcopy(self)

    if not TYPE_CHECKING:  # a checker then knows that other names do not exist

        def __getattr__(self, name: str) -> object:
            """Say where a name is found that the model does not have."""
            if isinstance(getattr(type(self), name, None), property):
                # Python drops an AttributeError that the property raised, as NotFittedError is one.
                return object.__getattribute__(self, name)
            raise no_attribute(type(self), name)

    @property
    def kernel(self) -> Callable:
        """The NumPyro model."""
        return self._kernel.kernel

    @property
    def inference(self) -> SVI | MCMC:
        """The inference object."""
        return self._inference

    @property
    def param_input(self) -> str:
        """Name of the kernel's parameter for the input."""
        return self._kernel.input

    @property
    def param_output(self) -> str:
        """Name of the kernel's parameter for the output."""
        return self._kernel.output

    @property
    def rng_key(self) -> jax.Array:
        """The key to split by the next call without ``rng_key``."""
        return self._keys.key

    @property
    def kernel_spec(self) -> KernelSpec | None:
        """The kernel's sites in all calls so far, or ``None`` before the first.

        A kernel may have some sites only with data, or only without (``if y is None:``); their
        shapes are those of the last training, or else of the first prediction.
        """
        predicted = self._predictor.spec
        spec = self._trained.spec
        return spec.joined(predicted) if spec else predicted

    @property
    def posterior(self) -> dict[str, Shaped[Array, "draw ..."]] | None:
        """Posterior draws by site, chain by chain on the leading axis; or ``None``.

        A fit in the background sets them at its end, which is waited for if it was asked to stop;
        until then, :attr:`posterior_tree` has the draws of its present state.

        Raises:
            NotFittedError: If they are of before steps of :meth:`train_on_batch`, or of before
                :attr:`vi_result` was set. Draws that you set stay yours.
        """
        self._one_change.wait_for_stop("posterior")
        fitted = self._trained.fitted
        if fitted is None:
            return None
        if fitted.is_outdated:
            raise NotFittedError(draws_of_before(fitted))
        return dict(fitted.posterior.draws)

    @property
    def posterior_tree(self) -> xr.DataTree:
        """Posterior draws as a labelled tree, as ArviZ reads it.

        The group is ``posterior``, with ``sample_stats`` beside it for chains. With a table, axes
        that run over columns or levels have their names. Draws by row have the labels of the rows
        that the model was trained on, if these are known and each is there once. They are not known
        for a loaded model, for draws set by hand, or if fits of other rows continued each other.

        While a fit goes on in the background, the draws are from its guide at the last report; the
        attribute ``fit_step`` gives the step.

        Raises:
            NotFittedError: If there is no posterior that may be used.
        """
        moment = self._moment()
        posterior = moment.fitted("A tree of draws", self._running).posterior
        return self._labelled(posterior, posterior.draws, moment)

    @property
    def last_run(self) -> Run | None:
        """The record of the last ``fit`` or ``fit_on_batch``, or ``None``.

        A hand-written loop with :func:`aimz_lab.lab.monitor` has its own: ``watch.run``.
        """
        return self._last_run

    @property
    def n_obs(self) -> int | None:
        """Rows of the data set in hand-written loops; ``None`` if unknown."""
        return self._n_obs

    @n_obs.setter
    def n_obs(self, value: int | None) -> None:
        size = None if value is None else check_positive_int("n_obs", value)
        with self._one_change.begin("n_obs="):
            self._n_obs = size

    @property
    def vi_result(self) -> ViResult | None:
        """Result of the last training: ``.params``, ``.state`` and ``.losses``.

        The losses are those of every step, however many; see also :attr:`last_run`. After
        :meth:`train_on_batch`, parameters and state are those after its last step, and there are no
        losses: your loop has them.

        Set it to the result of another run, such as NumPyro's ``SVIRunResult``; :meth:`sample` then
        draws with its parameters. If it has a state, training goes on from there.
        """
        self._one_change.wait_for_stop("vi_result")
        return self._trained.vi_result

    @vi_result.setter
    def vi_result(self, value: ViResult) -> None:
        learner = self._svi("vi_result")
        with self._one_change.begin("vi_result="):
            trained = self._trained
            state = learner.state_of(value, trained.state)
            if trained.is_wrecked and state is trained.state:
                state = None  # the next training begins anew
            self._trained = trained.with_vi_result(value, state)

    @property
    def input_schema(self) -> InputSchema | None:
        """Names, shapes and types of the last training data, or ``None``."""
        return self._trained.schema

    @property
    def _vi_state(self) -> SVIState | None:
        return self._trained.state

    @_vi_state.setter
    def _vi_state(self, state: SVIState | None) -> None:
        self._svi("_vi_state")
        with self._one_change.begin("setting the state"):
            self._trained = self._trained.with_state(state)

    @property
    def temp_dir(self) -> str | None:
        """Directory of the latest temporary result still in use, or ``None``.

        A result written without ``output_dir`` has a directory of its own, removed with the last
        tree that reads it.
        """
        return self._temporary.latest

    def is_fitted(self) -> bool:
        """Whether there are posterior draws to predict with.

        The draws of a fit that goes on count. Those of a fit that diverged count only if it had a
        good state to go back to.

        Example:
            >>> im.is_fitted()
            True
        """
        running = self._running
        has_present_state = running is not None and running.has_draws
        return has_present_state or self._trained.has_draws

    def fit(
        self,
        X: Any,
        y: Shaped[ArrayLike, "row ..."] | None = None,
        *,
        num_samples: int = 1000,
        rng_key: jax.Array | None = None,
        progress: Progress = True,
        batch_size: int | None = None,
        epochs: int = 1,
        shuffle: bool | None = None,
        callbacks: Iterable[Callback] = (),
        validation: Any = None,
        validation_every: int = 1,
        scale: Scale = "auto",
        n_obs: int | None = None,
        rows: RowDependence = "auto",
        steps_per_call: int | Literal["auto"] = "auto",
        accumulate: int = 1,
        on_nonfinite: OnNonFinite = "stop",
        allow_nonfinite: bool = False,
        resume: str | PathLike[str] | None = None,
        blocking: bool = True,
        on_interrupt: OnInterrupt = "stop",
        by_row: Iterable[str] = (),
        shared: Iterable[str] = (),
        kernel_kwargs: Arguments | None = None,
        **kwargs: Any,
    ) -> Self | RunHandle[Self]:
        """Train by SVI on minibatches, then draw from the guide.

        The ELBO of a batch is scaled to all rows, so that the posterior has the right width.
        Training continues from the state of the model. A learning rate that is set during a run
        holds for that run and for one that resumes it; the next run begins with the optimizer's own
        rate, and its notes say so.

        An interrupt and a stop keep the last state, the losses, and posterior draws from that
        state. If the loss becomes NaN or infinite, the model goes back to the best state of the run
        (:attr:`Run.best_so_far`), or else to its state before the fit, if that was trained; without
        a step it stays as it was. If there is no such state, calls that need a posterior are
        refused, except :meth:`diagnose`, and the next training begins anew. :attr:`posterior` still
        has the draws; pass them to :meth:`set_posterior_sample` if you want to use them.

        Only one call at a time may change a model, on whatever thread. You can predict meanwhile,
        and each prediction reads one state. During a fit in the background, predictions draw from
        the guide as of the last report, with the key of the fit; the attributes ``fit_status`` and
        ``fit_step`` of the result say so. In callbacks, and while chains run, they use the
        posterior from before the fit, which is replaced as a whole at the end. A fit that is
        refused leaves everything as it was, also if a callback refuses it before the first step.

        The means, scales and levels of the first table encode later tables too, because training
        continues from its parameters.

        Args:
            X: Input array, rows first; or an ``ArrayDataset``, an ``ArrayLoader``, or any source of
                batches; or, with a ``TableSpec``, a data frame.
            y: Output array; comes with the batches otherwise.
            num_samples: Posterior draws to make.
            rng_key: Key of this call; split from the model's by default.
            progress: ``True`` shows what fits the environment, ``"live"`` a dashboard, ``"text"`` a
                line, ``False`` nothing.
            batch_size: Rows of a batch; by default all rows up to 1,024, else 256. A loader has its
                own.
            epochs: Passes over the data.
            shuffle: Whether each epoch has a new order of rows; by default it has. A loader or
                another source of batches has an order of its own, and a ``shuffle`` that
                contradicts it is refused.
            callbacks: Instances of :class:`aimz_lab.Callback`.
            validation: Held-out data for a loss per row: ``(X, y)``; or, if the kernel takes other
                arrays by row, ``{"X": X, "y": y, "treat": treat}``, an ``ArrayDataset``, a loader
                or another source of batches; or, with a ``TableSpec``, a data frame. A warning says
                how many of these rows are training rows, of this fit or of those that it continues.
                The loss is estimated from as many draws of the guide as the SVI's loss has
                particles, usually one. Its noise is the same at each evaluation of a run, but
                differs between runs with different keys; to compare runs,
                :func:`aimz_lab.lab.compare_runs` uses more draws.
            validation_every: Epochs between two evaluations.
            scale: Weight of a batch's rows. With ``"auto"``, a batch in random order stands for all
                N rows. In a fixed order and in a stream, the weight of each row is the number of
                batches in an epoch, also in a short last batch. ``"none"`` trains the kernel as it
                is written. A number is the weight of each row, except of sites that the kernel
                scales by its rows.
            n_obs: N, for a stream of unknown length. Without it a batch counts as all of the data,
                unless a plate of the kernel says N. In a process that has joined others
                (:func:`aimz_lab.cluster.join`), a stream has this process's share of the rows, and
                N counts the rows of all processes; a stream of unknown length is read once before
                the run, to count its batches.
            rows: Batches must not change what the kernel computes for a row. ``"auto"`` proves
                that, or tests it on all rows; ``"independent"`` declares it.
            steps_per_call: Steps compiled into one call. With ``"auto"`` a call takes about 50 ms,
                and reports come ten times a second; with a number each call is reported.
            accumulate: Batches whose gradients are averaged into one update, across epochs. If
                fewer are left at the end, they are dropped.
            on_nonfinite: At a loss that is NaN or infinite: ``"stop"`` the run, ``"skip"`` the
                step, or ``"raise"``. Skipped steps count as steps, and :attr:`Run.skipped` has
                their number; if they are more than one in a hundred, there is a warning. A run that
                skipped nearly all steps, or those at its end, still counts as diverged.
            allow_nonfinite: Accept NaN and infinite values in the data.
            resume: A checkpoint, or a folder of them. The run continues with its state, history,
                keys and order of rows, as if it had never stopped; its notes say from which step
                and at which learning rate. Pass the same arguments as before, to a model of the
                same code; the code is compared as by :meth:`load`. ``epochs`` counts from the
                beginning of the run. A stream must repeat the batches of an epoch in the same
                order.
            blocking: ``False`` trains on a thread and returns a handle at once; the model is fitted
                when the run has ended. It trains on copies of the arrays in memory, so that you may
                change yours meanwhile; memory-mapped files and streams are read as they are.
            on_interrupt: What an interrupt (the notebook's stop button, Ctrl-C) stops besides the
                fit. ``"stop"``: in a notebook, the rest of the cell and the queued cells, as after
                an error; a script goes on with the fitted model. ``"continue"``: nothing.
                ``"raise"``: the program, by a ``KeyboardInterrupt`` once the model has its result.
                A second interrupt, before the fit has returned, always raises.
            by_row: Names of further arguments with one entry per row, which are cut with the rows;
                only needed where a table for all rows might have as many entries.
            shared: Names of further arguments that every batch gets whole. Predictions remember
                both.
            kernel_kwargs: Kernel arguments whose names this method uses itself.
            **kwargs: Further kernel arguments. Arrays with as many rows as ``X`` are batched with
                it, other arrays are shared by all batches, and plain values are compiled in. An
                array that has as many rows by chance, such as a table that the kernel indexes, is
                noticed and refused, until ``by_row`` or ``shared`` says what it is.

        Returns:
            The model; or, with ``blocking=False``, the handle of the run.

        Raises:
            BusyError: If another call changes the model, such as a fit on another thread. One that
                was asked to stop is waited for, up to a minute.
            CallError: If arguments are missing, unknown or doubled, or ``callbacks`` is no list of
                callbacks.
            DataError: If the data does not fit together or is not finite, or the loss of held-out
                rows cannot be computed.
            InferenceError: If the model does MCMC, which :meth:`fit_on_batch` runs, or the learning
                rate is negative or no number.
            KernelError: If the kernel computes across rows (lags, sums, statistics or numbers of
                rows), and the batches are smaller than the data. If it does not observe its output,
                a plate does not fit the rows, or a scale of its own depends on a batch's rows.
            GuideError: If the guide cannot be trained on minibatches; or if the model has a value
                per row of a site or parameter, and the rows in ``validation`` are others.
            CheckpointError: If there is no complete checkpoint, or it is another run's.
            NonFiniteLossError: With ``on_nonfinite="raise"``.
            KeyboardInterrupt: With ``on_interrupt="raise"``, or at a second interrupt.
            SiteError: If draws of the trained guide are NaN or infinite; the parameters are kept.
            ForkedProcessError: In a process that was forked after JAX had been used.
            ArgumentError: If a value is not allowed.

        Warns:
            FitWarning: If the run was interrupted, diverged or skipped steps. If the number of rows
                is unknown, an epoch of a stream does not have ``n_obs`` rows, a weight or a plate
                of the kernel may be meant otherwise, or all rows are trained on at once because the
                default batches would not do. If rows in ``validation`` are trained on, or
                the kernel computes statistics of them or one draw over them. If a table
                alone would be encoded otherwise than the first. If the learning rate is 0, or
                1,000 or more. If a resumed run has other settings of optimizer or loss than before.
                If a source is not at hand, so that a checkpoint's code cannot be compared.

        Example:
            >>> im.fit(X, y, batch_size=20, epochs=10, progress=False).last_run.step
            20
        """
        self._own_keywords.check(type(self).fit, locals())
        self._svi("fit")
        blocking = check_flag("blocking", blocking)
        check_can_compute("fit")
        begun = self._one_change.begin("fit", tells=progress is not False)
        with begun as change, self._keys.for_call(rng_key, 3) as keys:
            checkpoint, origin = self._origin(resume, keys)
            call = self._of_table(X, y, kwargs, kernel_kwargs, by_row)
            request = FitRequest(
                inputs=call.inputs,
                outputs=call.outputs,
                arguments=merge_arguments(self._kernel, kwargs, call.kernel_kwargs),
                roles=self._roles(call.by_row, shared),
                origin=origin,
                num_samples=num_samples,
                epochs=epochs,
                batch_size=batch_size,
                shuffle=shuffle,
                n_obs=n_obs,
                row_dependence=rows,
                validation=call.validation(validation),
                validation_every=validation_every,
                step=StepOptions(scale, accumulate),
                steps_per_call=steps_per_call,
                on_nonfinite=on_nonfinite,
                allow_nonfinite=allow_nonfinite,
                callbacks=callbacks,
                progress=progress,
                checkpoint=checkpoint,
                on_interrupt=on_interrupt,
                device=self._device,
                in_background=not blocking,
            )
            return self._fit(request, keys, change, call.encoder, blocking=blocking)

    def fit_on_batch(
        self,
        X: Shaped[ArrayLike, "row ..."],
        y: Shaped[ArrayLike, "row ..."] | None = None,
        *,
        num_steps: int = 10_000,
        num_samples: int = 1000,
        rng_key: jax.Array | None = None,
        progress: Progress = True,
        callbacks: Iterable[Callback] = (),
        steps_per_call: int | Literal["auto"] = "auto",
        on_nonfinite: OnNonFinite = "stop",
        allow_nonfinite: bool = False,
        resume: str | PathLike[str] | None = None,
        blocking: bool = True,
        on_interrupt: OnInterrupt = "stop",
        by_row: Iterable[str] = (),
        shared: Iterable[str] = (),
        kernel_kwargs: Arguments | None = None,
        **kwargs: Any,
    ) -> Self | RunHandle[Self]:
        """Train on all rows at once: SVI steps, or an MCMC run.

        Chains can be watched, paused and stopped like training. A stop and an interrupt keep the
        draws so far, equally many of each chain; before the first draw the model stays as it was.
        Predictions meanwhile use the posterior from before the run. Each run of chains starts
        afresh, and learns means, scales and levels from its own table.

        Args:
            X: Input array, rows first.
            y: Output array.
            num_steps: SVI steps, each on all rows; together they are one epoch. MCMC has its own
                number.
            num_samples: Posterior draws to make by SVI; MCMC has its own number.
            rng_key: Key of this call; split from the model's by default.
            progress: As in :meth:`fit`.
            callbacks: Instances of :class:`aimz_lab.Callback`. Under MCMC, a step is an iteration
                of every chain, warm-up included.
            steps_per_call: As in :meth:`fit`.
            on_nonfinite: As in :meth:`fit`; SVI only.
            allow_nonfinite: Accept NaN and infinite values in the data.
            resume: As in :meth:`fit`; ``num_steps`` counts from the beginning. SVI only.
            blocking: As in :meth:`fit`.
            on_interrupt: As in :meth:`fit`.
            by_row: As in :meth:`fit`.
            shared: As in :meth:`fit`.
            kernel_kwargs: Kernel arguments whose names this method uses itself.
            **kwargs: Further kernel arguments, as in :meth:`fit`.

        Returns:
            The model; or, with ``blocking=False``, the handle of the run.

        Raises:
            BusyError: If another call changes the model, as in :meth:`fit`.
            CallError: If arguments are missing, unknown or doubled, or ``callbacks`` is no list of
                callbacks.
            DataError: If the data does not fit together or is not finite.
            CheckpointError: If there is no complete checkpoint, or it is another run's.
            NonFiniteLossError: With ``on_nonfinite="raise"``.
            KeyboardInterrupt: With ``on_interrupt="raise"``, or at a second interrupt.
            SiteError: If draws are NaN or infinite.
            InferenceError: If the learning rate is negative or no number.
            ArgumentError: If a value is not allowed.

        Warns:
            FitWarning: If the run was interrupted, diverged or skipped steps, or chains were
                stopped before their first draw.

        Example:
            >>> im.fit_on_batch(X, y, num_steps=50, progress=False).last_run.step
            50
        """
        self._own_keywords.check(type(self).fit_on_batch, locals())
        if resume is not None:
            self._svi("resume=")
        blocking = check_flag("blocking", blocking)
        check_can_compute("fit_on_batch")
        begun = self._one_change.begin("fit_on_batch", tells=progress is not False)
        with begun as change, self._keys.for_call(rng_key, 3) as keys:
            checkpoint, origin = self._origin(resume, keys)
            call = self._of_table(X, y, kwargs, kernel_kwargs, by_row)
            request = FitRequest(
                inputs=call.inputs,
                outputs=call.outputs,
                arguments=merge_arguments(self._kernel, kwargs, call.kernel_kwargs),
                roles=self._roles(call.by_row, shared),
                origin=origin,
                num_samples=num_samples,
                num_steps=num_steps,
                steps_per_call=steps_per_call,
                on_nonfinite=on_nonfinite,
                allow_nonfinite=allow_nonfinite,
                callbacks=callbacks,
                progress=progress,
                checkpoint=checkpoint,
                on_interrupt=on_interrupt,
                device=self._device,
                in_background=not blocking,
            )
            return self._fit(request, keys, change, call.encoder, blocking=blocking)

    def train_on_batch(
        self,
        X: Shaped[ArrayLike, "row ..."],
        y: Shaped[ArrayLike, "row ..."],
        *,
        rng_key: jax.Array | None = None,
        n_obs: int | None = None,
        n_pad: int = 0,
        by_row: Iterable[str] = (),
        shared: Iterable[str] = (),
        rows: RowDependence = "auto",
        on_nonfinite: OnBadStep = "raise",
        allow_nonfinite: bool = False,
        kernel_kwargs: Arguments | None = None,
        **kwargs: Any,
    ) -> tuple[SVIState, Float[Array, ""]]:
        """Run one SVI step on a batch, for loops written by hand.

        The draws of a fit of before are then no longer those of the model, and calls that need them
        raise ``NotFittedError``; ``im.set_posterior_sample(im.sample(return_datatree=False))``
        draws from the guide after the loop. Draws that you set before it stay, with a warning.

        Args:
            X: Input of the batch, rows first.
            y: Output of the batch.
            rng_key: For the initial state, if there is none yet; split from the model's by default.
            n_obs: Rows of the data set, to scale the batch; the model remembers it. Each batch then
                stands for all rows, as is right for batches in a random order.
            n_pad: Rows of padding at the end, which do not count; fewer than the batch has.
            by_row: As in :meth:`fit`.
            shared: As in :meth:`fit`.
            rows: As in :meth:`fit`. Only the batch is at hand, so nothing can be tested on all
                rows.
            on_nonfinite: At a loss or parameters that are not finite: ``"raise"``, or ``"skip"``
                the step, whose loss is then NaN. Either way the parameters stay as they were.
                ``"raise"`` waits for the end of each step; with ``"skip"`` the loop goes on
                meanwhile.
            allow_nonfinite: Accept NaN and infinite values in the batch.
            kernel_kwargs: Kernel arguments whose names this method uses itself.
            **kwargs: Further kernel arguments, as in :meth:`fit`.

        Returns:
            The state after the step, and the loss in nats as a scalar array.

        Raises:
            ArgumentError: If ``n_obs`` is not a positive int or less than the rows of the batch,
                ``n_pad`` leaves no rows, or ``rows`` or ``on_nonfinite`` is not known.
            BusyError: If another call changes the model, as in :meth:`fit`.
            CallError: If arguments are missing, unknown or doubled.
            DataError: If the rows do not fit together or are not finite.
            NonFiniteLossError: If the loss or the parameters are not finite after the step. The
                model stays as it was.
            KernelError: If the batch is smaller than the data, and nothing proves that the kernel
                treats each row by itself.
            GuideError: If nothing proves the same of the guide, or it cannot be trained on
                minibatches.
            InferenceError: If the model does MCMC.

        Warns:
            FitWarning: Once, if ``n_obs`` is unknown: the batch is then not scaled, and a kernel
                that computes a statistic of rows, such as a mean, takes that of the batch. Once, if
                the same short batch comes again: its rows weigh more than the others.

        Example:
            >>> import copy
            >>> again = copy.deepcopy(im)
            >>> state, loss = again.train_on_batch(X[:20], y[:20], n_obs=40)
            >>> loss.shape
            ()
            >>> again = again.set_posterior_sample(again.sample(return_datatree=False))
        """
        self._own_keywords.check(type(self).train_on_batch, locals())
        learner = self._svi("train_on_batch")
        check_can_compute("train_on_batch")
        check_choice("rows", rows, RowDependence)
        check_choice("on_nonfinite", on_nonfinite, OnBadStep)
        with self._one_change.begin("train_on_batch"):
            trained = self._trained.to_train_on
            size = self._n_obs if n_obs is None else check_positive_int("n_obs", n_obs)
            data = batch_data(
                self._kernel,
                X,
                y,
                merge_arguments(self._kernel, kwargs, kernel_kwargs),
                n_obs=size,
                allow_nonfinite=allow_nonfinite,
                roles=self._roles(by_row, shared),
            )
            rows_of_all(size, data.batch_size - check_padding(n_pad, data.batch_size))
            with self._explained(), self._key_of_step(rng_key) as key:
                step = learner.step(data, n_pad, key, trained.state, rows, on_nonfinite)
                if size is None and not self._warned_of_n_obs:
                    warn(_UNKNOWN_N_OBS, FitWarning)
            self._warned_of_n_obs |= size is None
            self._n_obs = size
            result = LoopResult(step.state, learner.params)
            self._trained = trained.after_step(result, step.spec, step.schema, step.ok)
            return step.state, step.loss

    def sample(
        self,
        *,
        num_samples: int = 1000,
        rng_key: jax.Array | None = None,
        return_sites: Sites = None,
        return_datatree: bool = True,
        **kwargs: Any,
    ) -> xr.DataTree | dict[str, Shaped[np.ndarray, "draw ..."]]:
        """Draw from the guide with the parameters of :attr:`vi_result`, or continue MCMC.

        Under MCMC, the chains continue if the kernel's arguments are passed; otherwise the draws of
        the run are returned. The model's own posterior does not change. A guide that was never set
        up, because ``vi_result`` comes from another SVI object, needs the training data too.

        Args:
            num_samples: Number of draws; when MCMC continues, of each chain and before thinning.
            rng_key: Key of this call; split from the model's by default. Chains have their own.
            return_sites: Sites to return; by default the kernel's latent sites.
            return_datatree: Return a labelled tree, or a dict of arrays ``(num_samples, ...)``.
            **kwargs: Arguments of the guide, if it takes any; all arguments of the kernel, output
                included, to continue MCMC or to set up a guide. Of a model with a table, the table
                of the training as ``X``, or whatever the kernel's input is called, is enough.

        Returns:
            A tree with the group ``posterior``, or the draws by site.

        Raises:
            BusyError: If another call changes the model, as in :meth:`fit`.
            NotFittedError: If nothing was trained, or the state is not to be used, see :meth:`fit`;
                also if hardly any step of a hand-written loop was taken, or none of the last 64.
            ArgumentError: If a value is not allowed, or the draws cannot fit into memory.
            CallError: If data is missing that is needed to set up the guide or to continue MCMC.
            DataError: If chains are to go on with other data than that of their run.
            GuideError: If the parameters of ``vi_result`` are not those of the guide.
            SiteError: If a named site is not among the draws, or draws are NaN or infinite.

        Example:
            >>> im.sample(num_samples=500, return_datatree=False)["slope"].shape
            (500,)
        """
        as_tree = check_flag("return_datatree", return_datatree)
        sites = site_names(return_sites)
        if rng_key is not None:
            as_typed_key(rng_key)
        check_can_compute("sample")
        # Chains have keys of their own.
        given = rng_key if isinstance(self._learner, SviLearner) else self.rng_key
        with self._one_change.begin("sample"), self._keys.for_call(given) as keys:
            trained = self._trained.settled
            if trained.is_wrecked:
                has_draws = trained.fitted is not None and not trained.fitted.is_outdated
                why_not = why_not_used(trained.ending, has_draws=has_draws)
                raise NotFittedError(f"sample needs a guide, and {why_not}")
            request = SampleRequest(
                num_samples=num_samples,
                key=keys.keys[0],
                arguments=kwargs if self._table is None else self._table.data_of(kwargs),
                roles=self._roles((), ()),
                spec=trained.spec,
                state=trained.state_to_draw,
                params=getattr(trained.vi_result, "params", None) or {},
                posterior=trained.posterior,
                fingerprint=trained.fingerprint,
                schema=trained.fitted and trained.fitted.schema,
                way_to_draws=self._way_to_draws,
            )
            with self._explained():
                posterior = self._learner.sample(request)
            draws = posterior.choose(sites)
        if not as_tree:
            return {name: np.asarray(values) for name, values in draws.items()}
        # With arguments, the guide or the chains draw for the rows of these.
        return self._labelled(posterior, draws, rows=None if kwargs else trained.row_labels)

    def set_posterior_sample(
        self, posterior_sample: Mapping[str, Shaped[ArrayLike, "draw ..."]], *, num_chains: int = 1
    ) -> Self:
        """Give the model posterior draws from elsewhere.

        Args:
            posterior_sample: Arrays by site, draws on the leading axis, chain by chain. Sites with
                one value per row may be left out; predictions draw them anew.
            num_chains: Number of stacked chains.

        Returns:
            The model, which is now fitted.

        Raises:
            BusyError: If another call changes the model, as in :meth:`fit`.
            SiteError: If the draws do not fit together, are NaN or infinite, have an axis of
                chains, or have names that the kernel does not know while its own are missing. If no
                call has traced the kernel yet, the first prediction compares the names.
            CallError: If this is no mapping from sites to draws.
            ArgumentError: If ``num_chains`` is not a positive int.
            DataTypeError: If they are not numeric.

        Warns:
            AimzLabWarning: If the output is among them; it is dropped.
            OutputWarning: If the kernel lacks a site of the draws, or if there are no draws of one
                of its sites, which is then drawn from its prior.

        Example:
            >>> other = type(im)(kernel, jax.random.key(1), svi=svi)
            >>> draws = {"slope": np.array([1.9, 2.0, 2.1])}
            >>> other.set_posterior_sample(draws).predict_on_batch(X).posterior_predictive.y.shape
            (1, 3, 40)
        """
        check_no_tree(posterior_sample)
        draws = dict(check_mapping("posterior_sample", posterior_sample, "draws by site"))
        if draws.pop(self.param_output, None) is not None:
            msg = f"{self.param_output!r} is the output and no part of the posterior; left out."
            warn(msg, AimzLabWarning)
        posterior = as_posterior(draws, num_chains)
        with self._one_change.begin("set_posterior_sample"):
            trained, predicted = self._trained, self._predictor.spec
            check_posterior(posterior, trained.spec, predicted)
            given = trained.with_posterior(posterior, trained.fingerprint, is_given=True)
            self._trained = given
        return self

    def predict(
        self,
        X: Any,
        *,
        intervention: Mapping[str, ArrayLike] | None = None,
        condition: Mapping[str, ArrayLike] | None = None,
        held: Held = "refuse",
        rng_key: jax.Array | None = None,
        in_sample: bool | None = None,
        return_sites: Sites = None,
        shard_axis: ShardAxis = "obs",
        rows: RowDependence = "auto",
        batch_size: int | None = None,
        store: Store = "persistent",
        output_dir: str | PathLike[str] | None = None,
        reduce: ReduceSpec | None = None,
        by: GroupBy | None = None,
        dims: Mapping[str, Sequence[str]] | None = None,
        coords: Coords | None = None,
        progress: bool = True,
        executor: Executor | None = None,
        output_scale: OutputScale = "outcome",
        allow_nonfinite: bool = False,
        by_row: Iterable[str] = (),
        shared: Iterable[str] = (),
        kernel_kwargs: Arguments | None = None,
        **kwargs: Any,
    ) -> xr.DataTree:
        """Predict the output; the noise of a row depends only on the key and the row's position.

        What a kernel computes across rows, such as ``X.mean()`` or ``X / X[0]``, it computes of the
        rows of this call; effects, sweeps and decisions refuse scenarios that differ in such an
        ``X``. What goes along rows, such as a lag or a scan, begins with them. An output that is
        one draw over all rows, as of a Gaussian process or a random walk, is drawn given the other
        sites, and not the training outcomes; to predict other rows from these, give the kernel
        arguments for them, which are ``None`` in training, and
        ``numpyro.sample("y", given(X, X_trained, y_trained))`` where they are not.

        Args:
            X: Input array, a dataset, a loader, or any source of batches. A loader that shuffles is
                read in the order of its first epoch.
            intervention: Values by site; the sites are cut from their parents. A computed or
                reparametrised site takes the value in place of its own.
            condition: Values that sites take while sampling. They do not update the posterior.
            held: What to do with posterior draws of sites that depend on a site in ``intervention``
                or ``condition``, as these draws were made without its value: ``"refuse"`` the call,
                ``"redraw"`` these sites from the kernel under the value, or ``"keep"`` the draws.
                Also of sites, by row or of a group, that depend on an argument that is not as in
                training, or in which the scenarios of an effect, a sweep or a decision differ; and
                of draws set by hand without a training, on any argument.
                Under ``"redraw"``, rows that are not those of the training get values of their own
                of each site with one value per row. Under ``"keep"``, a statistic that the kernel
                takes over rows, as among the rows of a choice set, is that of each scenario's own.
            rng_key: Key of this call; split from the model's by default.
            in_sample: Whether the group is ``posterior_predictive`` or ``predictions``. The default
                is ``posterior_predictive``; with a table, only if all of its rows are training
                rows, recognised by their inputs and their outcome. Some of them, or another order,
                are not recognised if the table has no outcome, if many training rows are alike or
                they are more than 64 MiB, or after pickling. A line says so if most rows are
                training rows, but not all.
            return_sites: Sites to return; by default the output and the deterministic sites. An
                empty list returns none.
            shard_axis: ``"obs"`` cuts the rows into blocks, ``"draw"`` keeps them together, with
                other noise for the same key.
            rows: ``"auto"`` proves, or tests on these rows, that the kernel computes each row from
                that row alone; if neither shows it, all rows are computed together.
                ``"independent"`` declares it.
            batch_size: Rows to compute at a time, in blocks of 256 (under ``"draw"``: draws at a
                time). It changes no result.
            store: ``"persistent"`` writes to disk while it computes, ``"memory"`` keeps everything
                in memory.
            output_dir: Directory or URL to write to; by default a temporary one, removed with the
                tree that reads it.
            reduce: Reducers that summarise during the computation; the draws are not kept.
            by: Groups of rows, for the means of each group instead of a value per row: the name of
                a column, one label per row, or several (a list, or a mapping that names them),
                which are crossed.
            dims: Names of a site's dimensions beside chain, draw and rows, by site.
            coords: Labels by dimension.
            progress: Whether to show progress.
            executor: A ``dask.distributed`` client, or an executor of ``concurrent.futures``, whose
                workers compute the blocks, and write them if the store is one that they share. The
                draws are the same. Workers read arrays of Zarr and Dask, and Dask's tables,
                themselves. Meanwhile a notebook's page shows which worker has which part.
            output_scale: With a table, whether the output comes back on the scale of its column
                (``"outcome"``) or on that of the kernel (``"model"``).
            allow_nonfinite: Accept NaN and infinite values in the data.
            by_row: As in :meth:`fit`; names that were given in training are remembered.
            shared: Likewise.
            kernel_kwargs: Kernel arguments whose names this method uses itself.
            **kwargs: Further kernel arguments, as in :meth:`fit`.

        Returns:
            The predictive group, the posterior, and the data: ``constant_data`` of inputs in
            memory, up to 128 MiB, and ``observed_data`` beside ``posterior_predictive`` if the
            output is known: because ``X`` is a dataset, loader or table that has it, or because
            these are all training rows, in their order. With ``by``, the draws of each group's
            mean, ``y_mean``; and in ``group_summary`` their mean, standard deviation and 94%
            highest-density interval. If ``by`` is a column, the dimension has its name.

        Raises:
            NotFittedError: If there is no posterior that may be used.
            ClusterError: If the workers of ``executor`` are lost, or differ from this process.
            CallStoppedError: If it was stopped on the page that shows its workers.
            ForkedProcessError: In a process that was forked after JAX had been used.
            ArgumentError: If a value is not allowed, or the result cannot fit into memory.
            SiteError: If a named site does not exist or does not fit, a value set for it, or an
                argument that is not as in training, changes sites of which the posterior has draws,
                the draws have names that the kernel does not know while its own are missing, a site
                without draws would be drawn as if data that tells of it were not there, or a site
                has the rows on two axes.
            CallError: If arguments are missing, unknown or doubled, or no mappings where these are
                needed.
            DataError: If the data does not fit together or is not finite, or its rows have another
                number of axes than in the training. Labels of rows and
                columns are compared, also those of ``intervention`` and ``condition`` as Series,
                data frames and DataArrays; nothing is reordered.

        Warns:
            OutputWarning: If a column is far outside of its range in training: farther than 5 times
                the width of that range; or if there are no draws of a site without rows, which is
                then drawn from its prior; or if the model has one value per row of a site, and
                these are neither the rows of the training nor such with other inputs; or if these
                are not known to be all rows of the training, and the output is one draw over rows,
                or follows from statistics of them or from the value of one.

        Example:
            >>> tree = im.predict(X, intervention={"slope": 3.0}, reduce="mean", progress=False)
            >>> bool(abs(tree.posterior_predictive.y_mean - 3 * X).max() < 0.2)
            True
        """
        self._own_keywords.check(type(self).predict, locals())
        return self._computed(
            "predict",
            self._predictor.predict,
            X,
            kwargs,
            kernel_kwargs,
            rng_key=rng_key,
            group=self._group(X, in_sample),
            intervention=intervention,
            condition=condition,
            held=held,
            return_sites=return_sites,
            shard_axis=shard_axis,
            rows=rows,
            batch_size=batch_size,
            store=store,
            output_dir=output_dir,
            reduce=reduce,
            by=by,
            dims=dims,
            coords=coords,
            progress=progress,
            executor=executor,
            output_scale=output_scale,
            allow_nonfinite=allow_nonfinite,
            by_row=by_row,
            shared=shared,
        )

    def predict_on_batch(
        self,
        X: Shaped[ArrayLike, "row ..."],
        *,
        intervention: Mapping[str, ArrayLike] | None = None,
        condition: Mapping[str, ArrayLike] | None = None,
        held: Held = "refuse",
        rng_key: jax.Array | None = None,
        in_sample: bool | None = None,
        return_sites: Sites = None,
        rows: RowDependence = "auto",
        return_datatree: bool = True,
        by: GroupBy | None = None,
        dims: Mapping[str, Sequence[str]] | None = None,
        coords: Coords | None = None,
        output_scale: OutputScale = "outcome",
        allow_nonfinite: bool = False,
        by_row: Iterable[str] = (),
        shared: Iterable[str] = (),
        kernel_kwargs: Arguments | None = None,
        **kwargs: Any,
    ) -> xr.DataTree | dict[str, Shaped[np.ndarray, "draw ..."]]:
        """Predict the output for one batch, in memory and without a progress display.

        Args:
            X: Input of the batch, rows first; or a batch of a loader, a mapping of fields.
            intervention: As in :meth:`predict`.
            condition: As in :meth:`predict`.
            held: As in :meth:`predict`.
            rng_key: As in :meth:`predict`.
            in_sample: As in :meth:`predict`.
            return_sites: As in :meth:`predict`.
            rows: As in :meth:`predict`.
            return_datatree: Return a tree, or a dict of arrays ``(num_draws, batch_size, ...)``.
            by: As in :meth:`predict`; the result is a tree.
            dims: As in :meth:`predict`.
            coords: As in :meth:`predict`.
            output_scale: As in :meth:`predict`.
            allow_nonfinite: As in :meth:`predict`.
            by_row: As in :meth:`predict`.
            shared: As in :meth:`predict`.
            kernel_kwargs: As in :meth:`predict`.
            **kwargs: Further kernel arguments, as in :meth:`fit`.

        Returns:
            The same groups as :meth:`predict`, or the draws by site.

        Raises:
            NotFittedError: If there is no posterior that may be used.
            ArgumentError: If a value is not allowed, or the result cannot fit into memory.
            SiteError: If a named site does not exist or does not fit.

        Example:
            >>> im.predict_on_batch(X[:5], return_datatree=False)["y"].shape
            (1000, 5)
        """
        self._own_keywords.check(type(self).predict_on_batch, locals())
        as_tree = check_tree_for_groups(return_datatree, by)
        predictor = self._predictor
        compute = predictor.predict if as_tree else predictor.predict_arrays
        return self._computed(
            "predict_on_batch",
            compute,
            X,
            kwargs,
            kernel_kwargs,
            rng_key=rng_key,
            group=self._group(X, in_sample),
            intervention=intervention,
            condition=condition,
            held=held,
            return_sites=return_sites,
            rows=rows,
            by=by,
            dims=dims,
            coords=coords,
            output_scale=output_scale,
            allow_nonfinite=allow_nonfinite,
            by_row=by_row,
            shared=shared,
        )

    def sample_posterior_predictive(
        self,
        X: Any,
        *,
        intervention: Mapping[str, ArrayLike] | None = None,
        condition: Mapping[str, ArrayLike] | None = None,
        held: Held = "refuse",
        rng_key: jax.Array | None = None,
        return_sites: Sites = None,
        shard_axis: ShardAxis = "obs",
        rows: RowDependence = "auto",
        batch_size: int | None = None,
        store: Store = "persistent",
        output_dir: str | PathLike[str] | None = None,
        reduce: ReduceSpec | None = None,
        by: GroupBy | None = None,
        dims: Mapping[str, Sequence[str]] | None = None,
        coords: Coords | None = None,
        progress: bool = True,
        executor: Executor | None = None,
        output_scale: OutputScale = "outcome",
        allow_nonfinite: bool = False,
        by_row: Iterable[str] = (),
        shared: Iterable[str] = (),
        kernel_kwargs: Arguments | None = None,
        **kwargs: Any,
    ) -> xr.DataTree:
        """Draw from the posterior predictive distribution: another name of :meth:`predict`.

        Args:
            X: As in :meth:`predict`.
            intervention: As in :meth:`predict`.
            condition: As in :meth:`predict`.
            held: As in :meth:`predict`.
            rng_key: As in :meth:`predict`.
            return_sites: As in :meth:`predict`.
            shard_axis: As in :meth:`predict`.
            rows: As in :meth:`predict`.
            batch_size: As in :meth:`predict`.
            store: As in :meth:`predict`.
            output_dir: As in :meth:`predict`.
            reduce: As in :meth:`predict`.
            by: As in :meth:`predict`.
            dims: As in :meth:`predict`.
            coords: As in :meth:`predict`.
            progress: As in :meth:`predict`.
            executor: As in :meth:`predict`.
            output_scale: As in :meth:`predict`.
            allow_nonfinite: As in :meth:`predict`.
            by_row: As in :meth:`predict`.
            shared: As in :meth:`predict`.
            kernel_kwargs: As in :meth:`predict`.
            **kwargs: Further kernel arguments, as in :meth:`fit`.

        Returns:
            The groups of :meth:`predict`, with ``posterior_predictive``.

        Raises:
            NotFittedError: If there is no posterior that may be used.
            SiteError: As :meth:`predict`; its other errors too.

        Example:
            >>> tree = im.sample_posterior_predictive(X, progress=False)
            >>> tree.posterior_predictive.y.dims
            ('chain', 'draw', 'obs')
        """
        return self.predict(
            X,
            in_sample=True,
            intervention=intervention,
            condition=condition,
            held=held,
            rng_key=rng_key,
            return_sites=return_sites,
            shard_axis=shard_axis,
            rows=rows,
            batch_size=batch_size,
            store=store,
            output_dir=output_dir,
            reduce=reduce,
            by=by,
            dims=dims,
            coords=coords,
            progress=progress,
            executor=executor,
            output_scale=output_scale,
            allow_nonfinite=allow_nonfinite,
            by_row=by_row,
            shared=shared,
            kernel_kwargs=kernel_kwargs,
            **_without_in_sample(kwargs),
        )

    def sample_posterior_predictive_on_batch(
        self,
        X: Shaped[ArrayLike, "row ..."],
        *,
        intervention: Mapping[str, ArrayLike] | None = None,
        condition: Mapping[str, ArrayLike] | None = None,
        held: Held = "refuse",
        rng_key: jax.Array | None = None,
        return_sites: Sites = None,
        rows: RowDependence = "auto",
        return_datatree: bool = True,
        by: GroupBy | None = None,
        dims: Mapping[str, Sequence[str]] | None = None,
        coords: Coords | None = None,
        output_scale: OutputScale = "outcome",
        allow_nonfinite: bool = False,
        by_row: Iterable[str] = (),
        shared: Iterable[str] = (),
        kernel_kwargs: Arguments | None = None,
        **kwargs: Any,
    ) -> xr.DataTree | dict[str, Shaped[np.ndarray, "draw ..."]]:
        """Draw from the posterior predictive distribution of one batch: :meth:`predict_on_batch`.

        Args:
            X: As in :meth:`predict_on_batch`.
            intervention: As in :meth:`predict_on_batch`.
            condition: As in :meth:`predict_on_batch`.
            held: As in :meth:`predict_on_batch`.
            rng_key: As in :meth:`predict_on_batch`.
            return_sites: As in :meth:`predict_on_batch`.
            rows: As in :meth:`predict_on_batch`.
            return_datatree: As in :meth:`predict_on_batch`.
            by: As in :meth:`predict`; the result is a tree.
            dims: As in :meth:`predict_on_batch`.
            coords: As in :meth:`predict_on_batch`.
            output_scale: As in :meth:`predict`.
            allow_nonfinite: As in :meth:`predict_on_batch`.
            by_row: As in :meth:`predict_on_batch`.
            shared: As in :meth:`predict_on_batch`.
            kernel_kwargs: As in :meth:`predict_on_batch`.
            **kwargs: Further kernel arguments, as in :meth:`fit`.

        Returns:
            As :meth:`predict_on_batch`.

        Raises:
            NotFittedError: If there is no posterior that may be used.
            SiteError: As :meth:`predict_on_batch`; its other errors too.

        Example:
            >>> tree = im.sample_posterior_predictive_on_batch(X[:5])
            >>> tree.posterior_predictive.y.shape
            (1, 1000, 5)
        """
        return self.predict_on_batch(
            X,
            in_sample=True,
            intervention=intervention,
            condition=condition,
            held=held,
            rng_key=rng_key,
            return_sites=return_sites,
            rows=rows,
            return_datatree=return_datatree,
            by=by,
            dims=dims,
            coords=coords,
            output_scale=output_scale,
            allow_nonfinite=allow_nonfinite,
            by_row=by_row,
            shared=shared,
            kernel_kwargs=kernel_kwargs,
            **_without_in_sample(kwargs),
        )

    def sample_prior_predictive(
        self,
        X: Any,
        *,
        intervention: Mapping[str, ArrayLike] | None = None,
        num_samples: int = 1000,
        rng_key: jax.Array | None = None,
        return_sites: Sites = None,
        shard_axis: ShardAxis = "obs",
        rows: RowDependence = "auto",
        batch_size: int | None = None,
        store: Store = "persistent",
        output_dir: str | PathLike[str] | None = None,
        reduce: ReduceSpec | None = None,
        by: GroupBy | None = None,
        dims: Mapping[str, Sequence[str]] | None = None,
        coords: Coords | None = None,
        progress: bool = True,
        executor: Executor | None = None,
        output_scale: OutputScale = "outcome",
        allow_nonfinite: bool = False,
        by_row: Iterable[str] = (),
        shared: Iterable[str] = (),
        kernel_kwargs: Arguments | None = None,
        **kwargs: Any,
    ) -> xr.DataTree:
        """Draw from the prior predictive distribution; no fit is needed, and none is changed.

        Args:
            X: As in :meth:`predict`.
            intervention: As in :meth:`predict`.
            num_samples: Number of draws.
            rng_key: As in :meth:`predict`.
            return_sites: As in :meth:`predict`.
            shard_axis: As in :meth:`predict`.
            rows: As in :meth:`predict`.
            batch_size: As in :meth:`predict`.
            store: As in :meth:`predict`.
            output_dir: As in :meth:`predict`.
            reduce: As in :meth:`predict`.
            by: As in :meth:`predict`.
            dims: As in :meth:`predict`.
            coords: As in :meth:`predict`.
            progress: As in :meth:`predict`.
            executor: As in :meth:`predict`.
            output_scale: As in :meth:`predict`.
            allow_nonfinite: As in :meth:`predict`.
            by_row: As in :meth:`predict`.
            shared: As in :meth:`predict`.
            kernel_kwargs: As in :meth:`predict`.
            **kwargs: Further kernel arguments, as in :meth:`fit`.

        Returns:
            The group ``prior_predictive``, and the posterior if the model has one.

        Raises:
            SiteError: If a named site does not exist.
            KernelError: If a prior cannot be drawn from, as an ``ImproperUniform``.
            ArgumentError: If a value is not allowed, or the draws cannot fit into memory.

        Example:
            >>> tree = im.sample_prior_predictive(X, num_samples=100, progress=False)
            >>> tree.prior_predictive.y.shape
            (1, 100, 40)
        """
        self._own_keywords.check(type(self).sample_prior_predictive, locals())
        return self._computed(
            "sample_prior_predictive",
            self._predictor.predict,
            X,
            kwargs,
            kernel_kwargs,
            rng_key=rng_key,
            beside=self._trained.posterior,
            num_draws=check_positive_int("num_samples", num_samples),
            group="prior_predictive",
            intervention=intervention,
            return_sites=return_sites,
            shard_axis=shard_axis,
            rows=rows,
            batch_size=batch_size,
            store=store,
            output_dir=output_dir,
            reduce=reduce,
            by=by,
            dims=dims,
            coords=coords,
            progress=progress,
            executor=executor,
            output_scale=output_scale,
            allow_nonfinite=allow_nonfinite,
            by_row=by_row,
            shared=shared,
        )

    def sample_prior_predictive_on_batch(
        self,
        X: Shaped[ArrayLike, "row ..."],
        *,
        intervention: Mapping[str, ArrayLike] | None = None,
        num_samples: int = 1000,
        rng_key: jax.Array | None = None,
        return_sites: Sites = None,
        rows: RowDependence = "auto",
        return_datatree: bool = True,
        by: GroupBy | None = None,
        dims: Mapping[str, Sequence[str]] | None = None,
        coords: Coords | None = None,
        output_scale: OutputScale = "outcome",
        allow_nonfinite: bool = False,
        by_row: Iterable[str] = (),
        shared: Iterable[str] = (),
        kernel_kwargs: Arguments | None = None,
        **kwargs: Any,
    ) -> xr.DataTree | dict[str, Shaped[np.ndarray, "draw ..."]]:
        """Draw from the prior predictive distribution of one batch.

        Args:
            X: As in :meth:`predict_on_batch`.
            intervention: As in :meth:`predict`.
            num_samples: Number of draws.
            rng_key: As in :meth:`predict`.
            return_sites: As in :meth:`predict`.
            rows: As in :meth:`predict`.
            return_datatree: As in :meth:`predict_on_batch`.
            by: As in :meth:`predict`; the result is a tree.
            dims: As in :meth:`predict`.
            coords: As in :meth:`predict`.
            output_scale: As in :meth:`predict`.
            allow_nonfinite: As in :meth:`predict`.
            by_row: As in :meth:`predict`.
            shared: As in :meth:`predict`.
            kernel_kwargs: As in :meth:`predict`.
            **kwargs: Further kernel arguments, as in :meth:`fit`.

        Returns:
            The group ``prior_predictive``, or the draws by site.

        Raises:
            SiteError: If a named site does not exist.
            KernelError: If a prior cannot be drawn from, as an ``ImproperUniform``.
            ArgumentError: If a value is not allowed, or the draws cannot fit into memory.

        Example:
            >>> tree = im.sample_prior_predictive_on_batch(X[:5], num_samples=100)
            >>> tree.prior_predictive.y.shape
            (1, 100, 5)
        """
        self._own_keywords.check(type(self).sample_prior_predictive_on_batch, locals())
        as_tree = check_tree_for_groups(return_datatree, by)
        predictor = self._predictor
        compute = predictor.predict if as_tree else predictor.predict_arrays
        return self._computed(
            "sample_prior_predictive_on_batch",
            compute,
            X,
            kwargs,
            kernel_kwargs,
            rng_key=rng_key,
            beside=self._trained.posterior,
            num_draws=check_positive_int("num_samples", num_samples),
            group="prior_predictive",
            intervention=intervention,
            return_sites=return_sites,
            rows=rows,
            by=by,
            dims=dims,
            coords=coords,
            output_scale=output_scale,
            allow_nonfinite=allow_nonfinite,
            by_row=by_row,
            shared=shared,
        )

    def log_likelihood(
        self,
        X: Any,
        y: Shaped[ArrayLike, "row ..."] | None = None,
        *,
        shard_axis: ShardAxis = "obs",
        rows: RowDependence = "auto",
        batch_size: int | None = None,
        store: Store = "persistent",
        output_dir: str | PathLike[str] | None = None,
        reduce: ReduceSpec | None = None,
        by: GroupBy | None = None,
        dims: Mapping[str, Sequence[str]] | None = None,
        coords: Coords | None = None,
        progress: bool = True,
        executor: Executor | None = None,
        allow_nonfinite: bool = False,
        by_row: Iterable[str] = (),
        shared: Iterable[str] = (),
        kernel_kwargs: Arguments | None = None,
        **kwargs: Any,
    ) -> xr.DataTree:
        """Log-likelihood of the output in nats, for each draw and row.

        If a formula of a table makes the output, such as ``log(sales)``, this is the log-likelihood
        of the formula's values. To compare models with different formulas, use
        :func:`aimz_lab.lab.compare_runs`.

        Discrete latent sites of which the posterior has no draws are summed out, row by row, as by
        NumPyro's enumeration; sites with draws take the values of the draws. A value outside the
        support of its distribution has the log density ``-inf``. Masked entries of the output
        (``obs_mask=``, ``numpyro.handlers.mask``) have 0, as in NumPyro: sums are those of the
        observed entries, and standard errors over rows count the masked ones too.

        An output that is one event over all rows, as of ``MultivariateNormal`` or a Gaussian
        process, has one value for each draw, and no scores of rows.

        Args:
            X: Input array, a dataset, a loader, or any source of batches.
            y: Output array; comes with the batches otherwise.
            shard_axis: As in :meth:`predict`.
            rows: As in :meth:`predict`.
            batch_size: As in :meth:`predict`.
            store: As in :meth:`predict`.
            output_dir: As in :meth:`predict`.
            reduce: As in :meth:`predict`.
            by: As in :meth:`predict`.
            dims: As in :meth:`predict`.
            coords: As in :meth:`predict`.
            progress: As in :meth:`predict`.
            executor: As in :meth:`predict`.
            allow_nonfinite: As in :meth:`predict`.
            by_row: As in :meth:`predict`.
            shared: As in :meth:`predict`.
            kernel_kwargs: As in :meth:`predict`.
            **kwargs: Further kernel arguments, as in :meth:`fit`.

        Returns:
            The groups ``log_likelihood``, ``observed_data`` and ``posterior``.

        Raises:
            NotFittedError: If there is no posterior that may be used.
            ArgumentError: If a value is not allowed, or the result cannot fit into memory; or if
                scores or groups of rows are asked of an output that is one event over all rows; or
                scores where a ``numpyro.factor`` adds to the log density by the data of the rows;
                or leave-one-out (``"loo"``, ``"waic"``) where the kernel weighs its rows by
                ``handlers.scale``.
            CallError: If arguments are missing, unknown or doubled.
            DataError: If the data does not fit together or is not finite.
            SiteError: If the output depends on a continuous latent site without draws.
            KernelError: If it depends on a discrete one that cannot be summed out row by row.

        Warns:
            OutputWarning: If a column is far outside of its range in training, the model has one
                value per row of a site and these seem to be other rows, or the kernel computes
                across rows, as in :meth:`predict`; or if a factor adds to the log density by the
                data of the rows, which this lacks.

        Example:
            >>> im.log_likelihood(X, y, progress=False).log_likelihood.y.shape
            (1, 1000, 40)
        """
        self._own_keywords.check(type(self).log_likelihood, locals())
        return self._computed(
            "log_likelihood",
            self._predictor.log_likelihood,
            X,
            kwargs,
            kernel_kwargs,
            outputs=y,
            rng_key=self.rng_key,  # nothing is drawn, so no key is used up
            group="log_likelihood",
            shard_axis=shard_axis,
            rows=rows,
            batch_size=batch_size,
            store=store,
            output_dir=output_dir,
            reduce=reduce,
            by=by,
            dims=dims,
            coords=coords,
            progress=progress,
            executor=executor,
            allow_nonfinite=allow_nonfinite,
            by_row=by_row,
            shared=shared,
        )

    def estimate_effect(
        self,
        output_baseline: xr.DataTree | None = None,
        output_intervention: xr.DataTree | None = None,
        args_baseline: CallArguments | None = None,
        args_intervention: CallArguments | None = None,
        *,
        on_batch: bool = False,
        reduce: ReduceSpec | None = None,
        contrast: Contrast = "difference",
        by: GroupBy | None = None,
        weights: str | ArrayLike | None = None,
        subset: str | ArrayLike | None = None,
        average: bool | None = None,
        executor: Executor | None = None,
    ) -> xr.DataTree:
        """Effect of an intervention against a baseline, draw by draw, with the same noise.

        Two scenarios given by their arguments are computed side by side in one pass, which keeps
        only their contrast. For an average over rows in memory, they are computed one after the
        other. By default the contrast is the difference on each row.

        An average effect is the contrast of the averages: for each draw, both scenarios are
        averaged over the rows, and these averages are contrasted. ``"ratio"`` is the average under
        the intervention over that under the baseline; ``"percent"`` is ``100 * (ratio - 1)``;
        ``"odds_ratio"`` compares averages of flags or probabilities. The difference of the averages
        is the mean of the rows' differences; the ratio of the averages is not the mean of the rows'
        ratios, which rows with a small baseline dominate. An average keeps no values of single
        rows.

        If one pass computes both scenarios, it averages each row's expected outcome, the mean of
        the outcome's distribution, without the noise of drawn outcomes. So ``by=np.arange(len(X))``
        gives the expected effect of each row. Drawn outcomes are averaged instead if NumPyro does
        not know that mean, if the formula of the outcome's column is not linear, or if you pass
        predictions as ``output_baseline`` and ``output_intervention``.

        The expected outcome is conditional on the other sites of the row, so it keeps the noise of
        a mediator, a latent site or an earlier outcome that is drawn for the row. Deterministic
        sites are computed from drawn outcomes; one that depends on parameters alone has no noise.
        The attribute ``drawn`` names all sites with such noise, and
        :func:`aimz_lab.summarize_effect` says so. An observed site whose values are given comes
        back as given. Scenarios must not hold one that they change: without its argument, or the
        column of its table, it is drawn, and the effect is the whole one. For posterior draws of a
        latent site that they change, ``held=`` of :meth:`predict` says what to do. A mediator
        that the kernel describes by ``numpyro.factor`` is refused where the factor compares an
        argument, which the outcome is computed from too, with what the scenarios change. One whose
        factor has it as a column of the very array that they differ in cannot be seen; nor can, in
        predictions at hand, one that is no site.

        Args:
            output_baseline: Predictions of the baseline; or, with a table, its data frame.
            output_intervention: Predictions under the intervention, or its data frame.
            args_baseline: Arguments of :meth:`predict` for the baseline, instead of its output.
            args_intervention: Arguments of :meth:`predict` for the intervention.
            on_batch: Use :meth:`predict_on_batch`.
            reduce: Reducers of the effect, as in :meth:`predict`; for scenarios given by arguments.
            contrast: ``"difference"``, ``"ratio"``, ``"percent"``, ``"odds_ratio"``, or a function
                of two arrays of averages, of the baseline and of the intervention.
            by: Average within groups: the name of a column or argument, one label per row, or
                several of either, which are crossed.
            weights: Such a name, or one weight per row, for the average.
            subset: Such a name, or one flag per row: the rows to average over. The effect on the
                treated is that with ``subset=df.treated == 1``, with the treatment as observed.
            average: Whether to average over the rows. The default is to do so if ``by``,
                ``weights`` or ``subset`` is given, or if the contrast is not the difference. With
                False, such a contrast is taken row by row, of sites with expected values.
            executor: As in :meth:`predict`, for scenarios given by their arguments.

        Returns:
            The effect by site in the predictive group, and the posterior. An average has the groups
            in place of the rows. For stored outputs, the attributes ``artifact_path_baseline`` and
            ``artifact_path_intervention`` name the stores.

        Raises:
            NotFittedError: If a scenario has to be computed, and no posterior may be used.
            ArgumentError: If a scenario has neither output nor arguments, or both; if an output is
                no tree; if the scenarios differ in ``reduce``, or in the scale of the output; or if
                a column does not exist, or differs between them; or if they hold an observed site
                that they change, so that part of the effect would be missing; or if a ratio would
                be one of a function of the output, which the kernel observes.
            SiteError: If the posterior holds draws of a latent site that they change, or a handler
                of the kernel sets it.
            CallError: If arguments are no mapping, lack ``X``, or do not fit :meth:`predict`.
            DataError: If the scenarios differ in shape, or label their rows differently; if groups
                or weights do not fit the rows; or if the contrast is not defined, such as a ratio
                to 0.

        Warns:
            OutputWarning: If the scenarios are not paired, or a contrast of rows is not defined for
                some of them; if only one of the tables has a column, which the model does not use;
                or if chains disagree about a site that the outcome is computed from.

        Example:
            >>> effect = im.estimate_effect(args_baseline={"X": X}, args_intervention={"X": X + 1})
            >>> effect.posterior_predictive.y.shape
            (1, 1000, 40)
            >>> sides = {"args_baseline": {"X": X}, "args_intervention": {"X": X + 1}}
            >>> im.estimate_effect(**sides, by=np.sign(X)).posterior_predictive.y.dims
            ('chain', 'draw', 'group')
        """
        on_batch = check_flag("on_batch", on_batch)
        if self._table is not None:
            output_baseline, args_baseline = self._table.scenario(output_baseline, args_baseline)
            output_intervention, args_intervention = self._table.scenario(
                output_intervention, args_intervention
            )
        outputs = output_baseline, output_intervention
        check_can_compute("estimate_effect")
        args = args_baseline, args_intervention
        if executor is not None:
            args = tuple(each and {"executor": executor, **each} for each in args)
        moment = self._moment()
        if any(output is None for output in outputs):
            moment.fitted("estimate_effect", self._running)
        check_scenarios(outputs, args, on_batch=on_batch)
        inputs = list(map(arguments_of, outputs, args))
        drops = self._table is not None and self._table.drops_rows
        kind = effect_kind(contrast, by, weights, subset, average, inputs, may_drop=drops)
        which = ("The baseline", "The intervention")
        self._warn_of_unused(dict(zip(which, inputs, strict=True)), by, weights, subset)
        if any(output is None for output in outputs):
            _tell_running(moment, *filter(None, args))
        with self._line("effect", *filter(None, args)):
            doing("computing both scenarios", (0, 1))
            effect = self._effect(moment, outputs, args, reduce, kind, on_batch=on_batch)
        chosen = {"return_sites", "reduce"}
        if reduce is None and all(each is not None and not chosen & each.keys() for each in args):
            tell_other_outcomes(effect, self.kernel_spec)
        return effect

    def _effect(
        self,
        moment: Moment,
        outputs: tuple[xr.DataTree | None, ...],
        args: tuple[CallArguments | None, ...],
        reduce: ReduceSpec | None,
        kind: EffectKind,
        *,
        on_batch: bool,
    ) -> xr.DataTree:
        """Compute an effect, in one pass over the rows where both scenarios can share it."""
        computed = any(output is not None for output in outputs)
        if not (computed or on_batch) and can_share_a_pass(*args):
            with one_moment(self, moment):
                return as_effect(self._effect_in_one_pass(*args, reduce, kind))
        if reduce is not None:
            msg = (
                "reduce= works on two scenarios given by their arguments, with one rng_key and the "
                "same in_sample and options; of outputs at hand, reduce the effect yourself."
            )
            raise ArgumentError(msg)
        kind = kind.among(None, None)  # no rows are left out of results at hand
        predict = partial(self.predict, progress=False)
        requests = [] if computed else self._comparable(args, moment)
        if any(one.anew for one in requests):
            msg = (
                "held='redraw' works in sweep, decide, explore_effect, and in "
                "estimate_effect(args_baseline=, args_intervention=) with the same options and "
                "without on_batch. Elsewhere, scenarios take held='keep'."
            )
            raise ArgumentError(msg)
        for one in requests:
            self._warn_of_chains(moment, one)
        if on_batch:
            args = tuple(each and {**each, "return_datatree": True} for each in args)
            predict = self.predict_on_batch
        with self._keys.on_demand() as new_key, one_moment(self, moment):
            both = computed_scenarios(predict, outputs, args, new_key)
            if computed:
                warn_of_observed(*both)
            return as_effect(contrast_trees(*both, kind))

    def sweep(
        self,
        name: str,
        grid: ArrayLike,
        X: Any,
        *,
        of: Swept | None = None,
        reference: Any = None,
        contrast: Contrast = "difference",
        by: GroupBy | None = None,
        weights: str | ArrayLike | None = None,
        subset: str | ArrayLike | None = None,
        rng_key: jax.Array | None = None,
        **kwargs: Any,
    ) -> xr.DataTree:
        """Average outcome at each value of one input: the dose-response, with common noise.

        For each value of the grid, all rows get that value, and their expected outcomes are
        averaged draw by draw, as in :meth:`estimate_effect`. Values of single rows are not kept.
        :func:`aimz_lab.lab.plot_effect` draws the result with its bands, and
        :func:`aimz_lab.summarize_effect` puts them into numbers.

        Args:
            name: A column of ``X``, an argument of the kernel, or a site.
            grid: Its values: numbers, or levels of a category.
            X: As in :meth:`predict`.
            of: ``"column"``, ``"argument"`` or ``"site"``: what the name means, if it could be more
                than one.
            reference: A value to compare the others with. Without it, the averages themselves are
                returned.
            contrast: The measure of that comparison, as in :meth:`estimate_effect`; it needs a
                ``reference``.
            by: Groups of rows, as in :meth:`estimate_effect`.
            weights: Weights of rows, likewise.
            subset: The rows that count, likewise.
            rng_key: Key of this call; split from the model's by default.
            **kwargs: Further arguments of :meth:`predict` and of the kernel.

        Returns:
            The averages by site, for each draw and value of the grid, and the posterior.

        Raises:
            NotFittedError: If there is no posterior that may be used.
            ArgumentError: If the name is not known or not clear, or a value is not allowed; or if
                an observed site that it changes is held at its data; or if a ratio would be one of
                a function of the output, which the kernel observes.
            SiteError: If the posterior holds draws of a latent site that it changes.
            CallError: If arguments do not fit :meth:`predict`.
            DataError: If the data, groups or weights do not fit together.

        Warns:
            OutputWarning: If a value is far outside of the training data; or if chains disagree
                about a site that the outcome is computed from.

        Example:
            >>> doses = im.sweep("X", [0.0, 0.5, 1.0], X)
            >>> doses.posterior_predictive.y.dims
            ('chain', 'draw', 'X')
        """
        check_can_compute("sweep")
        moment = self._moment()
        moment.fitted("sweep", self._running)
        given = {"X": X, **kwargs}
        sites = None if self.kernel_spec is None else self.kernel_spec.sites
        table, of_table = moment.table, ()
        if table is not None:
            of_table = table.input_columns(), table.levels()
        sweep = check_sweep(
            name, grid, given, sites, of, reference, contrast, self._kernel, *of_table
        )
        drops = table is not None and table.drops_rows
        groups = row_groups(by, weights, subset, [given], may_drop=drops)
        sweep.check_groups(groups)
        contrast = "difference" if reference is None else contrast
        reduce, expected = averages_over(groups, contrast), expected_for(contrast)
        calls = [sweep.arguments(given, value) for value in sweep.values()]
        _tell_running(moment, kwargs)
        with self._line("sweep", kwargs), self._keys.one(rng_key) as key:
            reduces = [reduce] * len(calls)
            parts = self._paired(key, moment, calls, reduces, expected=expected)
            return as_sweep(sweep.tree(parts))

    def decide(
        self,
        actions: Mapping[str, Any],
        *,
        benefits: Benefits = 1.0,
        costs: Costs = 0.0,
        budget: float | None = None,
        site: str | None = None,
        prob: float = 0.94,
        rng_key: jax.Array | None = None,
    ) -> Decision:
        """Decide between actions by expected utility: for all rows alike, and for each row.

        The utility of an action on a row is the benefit of its outcome minus its cost. All actions
        have the same noise. The rows of the data are the population to decide on. Cross-fitting
        finds what the choice for each row is worth: each half of the draws values what the other
        half chooses.

        For each posterior draw, the outcome of a row is the mean of its distribution, without the
        noise of a drawn outcome, so intervals, regret and ``p_best`` are about expected outcomes.
        Outcomes are drawn instead if NumPyro does not know that mean, if it depends on another site
        that is drawn for the row, if ``benefits`` is a function, or if the formula of the outcome's
        column is not linear. Their noise is then in all numbers, and the text says so. ``site=``
        may name a site that the kernel computes from its parameters alone, such as the expected
        outcome.

        Args:
            actions: Two or more actions by name, each a data frame or arguments of :meth:`predict`;
                the first is what is done now.
            benefits: Utility of one unit of the outcome: a number, a column by its name, or one per
                row; or a function from a JAX array of outcomes to their utilities.
            costs: Cost on each row, in the units of utility: a number, a column by its name, or one
                per row. It is that of every action but the first; a mapping gives the cost of each
                action.
            budget: The most that the costs may add up to.
            site: The outcome; by default the kernel's output.
            prob: Share of the draws in the intervals.
            rng_key: Key of this call; split from the model's by default.

        Returns:
            The action of each row, and a table of the policies: the expected utility, what it adds
            to that of the best action for all rows, the probability that an action is the best for
            all rows, and its regret. It prints as a paragraph and the table.

        Raises:
            NotFittedError: If there is no posterior that may be used.
            ArgumentError: If a value is not allowed, or a name is not known; or if an observed site
                that the actions change is held at its data; or if the outcome is the number of one
                of several levels in no order, or the kernel observes a function of it, and
                ``benefits`` is no function that values them.
            SiteError: If the posterior holds draws of a latent site that they change.
            CallError: If there are fewer than two actions, or their arguments do not fit.
            DataError: If costs or benefits do not fit the rows, or the budget is less than the
                cheapest actions cost.

        Warns:
            OutputWarning: If only one action has a column, which the model does not use; or if
                chains disagree about a site that the outcome is computed from.

        Example:
            >>> actions = {"none": {"X": X}, "all": {"X": X + 1}}
            >>> im.decide(actions, costs=1.0, budget=10).choice.to_series().value_counts()["all"]
            np.int64(10)
        """
        check_can_compute("decide")
        moment, calls = self._moment(), check_actions(actions)
        moment.fitted("decide", self._running)
        of_costs = costs.values() if isinstance(costs, Mapping) else [costs]
        which = {f"The action {name!r}": call for name, call in calls.items()}
        self._warn_of_unused(which, benefits, *of_costs)
        _tell_running(moment, *calls.values())
        with self._line("decide", *calls.values()), self._keys.one(rng_key) as key:
            compute = partial(self._paired, key, moment)
            return decide(compute, calls, benefits, costs, budget, site or self.param_output, prob)

    def overlap(
        self,
        trained: Any,
        scenario: Any,
        *,
        treatment: str | None = None,
        limits: tuple[float, float] = (0.1, 0.9),
    ) -> Overlap:
        """Compare the rows of a scenario with the training rows: what is extrapolated.

        Args:
            trained: The training rows: a data frame, an array, or the arguments by name.
            scenario: The rows of the scenario, likewise.
            treatment: A column with the treatment, which has two values in the training rows.
                Propensities, given the other columns, show which rows the data can compare.
            limits: Propensities outside of these are extreme; Crump et al. (2009).

        Returns:
            A report, green, amber or red, with a table of the columns, and which rows are outside.
            If the model has a table, the columns are those of its formulas, without the outcome's.
            Rows that ``TableSpec(missing="drop")`` leaves out are not compared, and count as
            inside.

        Raises:
            ArgumentError: If the treatment is no column of two values, or these are no rows.
            DataError: If columns are missing, or values are not finite.

        Example:
            >>> report = im.overlap(X, X + 10)
            >>> report.ok, bool(report.outside.all())
            (False, True)
        """
        used = None if self._table is None else self._table.input_columns()
        with self._line("overlap"):
            doing("comparing the rows")
            sides = []
            for rows, are_trained in ((trained, True), (scenario, False)):
                kept, left_out = None, ""
                if self._table is not None:
                    rows, kept, left_out = self._table.compared_rows(rows, are_trained=are_trained)
                sides.append(Side(columns_of(rows, self.param_input, used), kept, left_out))
            return overlap(*sides, treatment, limits)

    def placebo(
        self,
        X: Any,
        y: Any = None,
        *,
        treatment: str,
        levels: tuple[float | str, float | str] = (0, 1),
        outcomes: Mapping[str, ArrayLike] | None = None,
        outcome: str | None = None,
        site: str | None = None,
        n: int = 10,
        on_batch: bool | None = None,
        fit: Mapping[str, Any] | None = None,
        scenarios: CallArguments | None = None,
        prob: float = 0.94,
        progress: bool = True,
        rng_key: jax.Array | None = None,
        **kwargs: Any,
    ) -> Placebo:
        """Train copies of the model where there can be no effect, and see what effect they find.

        A placebo treatment is the real one, shuffled among the rows; placebo outcomes are yours to
        give. The model itself stays as it is.

        If the table of the model leaves out rows with missing values, each training and each effect
        leaves out the same ones, and the report says how many.

        Copies are trained from the beginning as the model was: by the same calls, with the same
        settings and as many epochs or steps. Where that is not known (a model that was loaded or
        trained step by step) or cannot be repeated (a learning rate changed by hand), the call is
        refused until ``fit`` says how long to train.

        Args:
            X: Input, as in :meth:`fit`.
            y: Output, as in :meth:`fit`.
            treatment: The column or argument with the treatment.
            levels: Its values in the baseline and in the intervention of the effect.
            outcomes: Outcomes that the treatment cannot change, by name, one value per row; by
                default the treatment is shuffled.
            outcome: With a table, the column that the ``outcomes`` replace.
            site: The site that the effects are on, with one number a row; by default the kernel's
                output. For an outcome of levels in no order, a site that has the probability of one
                of them.
            n: Number of shuffles, each of which trains a copy.
            on_batch: Whether to train by :meth:`fit_on_batch`; by default as the model was, or as
                ``fit`` says.
            fit: Arguments of the training that are to differ, such as ``{"epochs": 50}``.
            scenarios: Further arguments of :meth:`predict` for both scenarios of each effect, such
                as ``{"held": "redraw"}``. ``{"m": None}`` leaves out a column or an argument that
                the copies are trained with, such as the data of a mediator, which is then drawn.
            prob: Share of the draws in the intervals.
            progress: Whether a line says which copy is trained, if that takes long.
            rng_key: Key of this call; split from the model's by default.
            **kwargs: Further kernel arguments.

        Returns:
            A report, green, amber or red, with a table of average effects, real and placebo.

        Raises:
            ArgumentError: If the treatment is not known, or a value is not allowed; or if the
                scenarios hold an observed site that the treatment changes. If the site has no
                rows, several numbers a row, or the numbers of levels in no order.
            SiteError: If there is no such site; or if the posterior holds draws of a latent site
                that the treatment changes.
            CallError: If ``outcomes``, ``fit`` or ``scenarios`` are no mappings, or arguments do
                not fit. If it is not known how long to train.
            DataError: If the data does not fit together.
            KeyboardInterrupt: After an interrupt; the model is as it was.

        Example:
            >>> import numpyro
            >>> from numpyro import distributions as dist
            >>> from numpyro.infer import SVI, Trace_ELBO
            >>> from numpyro.infer.autoguide import AutoNormal
            >>> def of_treatment(X, treated, y=None):
            ...     effect = numpyro.sample("effect", dist.Normal())
            ...     with numpyro.plate("row", len(X)):
            ...         numpyro.sample("y", dist.Normal(effect * treated, 1.0), obs=y)
            >>> guide = AutoNormal(of_treatment)
            >>> svi = SVI(of_treatment, guide, numpyro.optim.Adam(0.1), Trace_ELBO())
            >>> of_effect = ImpactModel(of_treatment, jax.random.key(0), svi=svi)
            >>> treated = (X > 0).astype(float)
            >>> steps = {"num_steps": 50, "num_samples": 50}
            >>> found = of_effect.placebo(
            ...     X, y, treated=treated, treatment="treated", n=2, on_batch=True, fit=steps
            ... )
            >>> found.table.index.tolist()
            ['real', 'placebo 1', 'placebo 2']
        """
        check_can_compute("placebo")
        outcomes, progress = check_outcomes(outcomes), check_flag("progress", progress)
        on_batch = None if on_batch is None else check_flag("on_batch", on_batch)
        options = check_mapping("fit", fit, "arguments of fit by name")
        scenarios = check_mapping("scenarios", scenarios, "arguments of predict by name")
        check_scenario_options(scenarios)
        site = site or self.param_output
        if self._trained.spec is not None:
            self._check_site(site)
        are_chains = isinstance(self._inference, MCMC)
        calls = trainings_of_copies(
            self._trained, options, on_batch=on_batch, are_chains=are_chains
        )
        left_out = ""
        if self._table is not None:  # the same rows in each training and each effect
            X, left_out, kept = self._table.complete_rows(X, kwargs)
            outcomes = among_kept_rows(outcomes, kept)
        given = {"X": X, **({} if y is None else {self.param_output: y}), **kwargs}
        check_outcome(outcome, given)
        levels = check_levels(levels)
        # One copy for all trainings, so that they share its compiled programs.
        effect_of = partial(
            copy.deepcopy(self)._retrained, treatment, levels, site, calls, scenarios
        )
        output = outcome or self.param_output
        line = preparing_line(callable_name(self.kernel), enabled=progress, stage="placebo")
        with ended_by_interrupt("The placebo test"), line, self._keys.one(rng_key) as key:
            return placebo(effect_of, given, treatment, outcomes, n, key, output, prob, left_out)

    def summary(self, sites: Sequence[str] | None = None, *, prob: float = 0.94) -> pd.DataFrame:
        """Summarise the posterior in a table, with a row for each entry of each site.

        Args:
            sites: Names of the sites; by default all.
            prob: Mass of the highest-density interval.

        Returns:
            The mean, the standard deviation and the ends of the interval; for Markov chains the
            effective sample sizes and R-hat of ArviZ as well. Rows are named as in ArviZ; with a
            table by its columns and levels, ``"slopes[scale(age)]"``. While a fit goes on in the
            background, the table is of its guide at the last report: a line says so, and
            ``.attrs["fit_step"]`` has the step.

        Raises:
            NotFittedError: If there is no posterior that may be used.
            SiteError: If a site is not among the draws.
            ArgumentError: If ``prob`` is not in (0, 1).
            OptionalDependencyError: If arviz-stats is missing.

        Example:
            >>> im.summary(["slope"], prob=0.9).round(1).columns.tolist()
            ['mean', 'sd', 'hdi_low', 'hdi_high']
        """
        moment = self._moment()
        posterior = moment.fitted("summary", self._running).posterior
        tree = self._labelled(posterior, posterior.draws, moment)
        table = summary_table(tree, sites, prob, are_chains=posterior.are_chains)
        table.attrs |= moment.attrs
        _tell_running(moment)
        return table

    def diagnose(
        self,
        X: Any,
        y: Shaped[ArrayLike, "row ..."] | None = None,
        *,
        num_draws: int = 1000,
        batch_size: int | None = None,
        refine: Refine | None = None,
        progress: bool = True,
        rng_key: jax.Array | None = None,
        rows: RowDependence = "auto",
        allow_nonfinite: bool = False,
        by_row: Iterable[str] = (),
        shared: Iterable[str] = (),
        kernel_kwargs: Arguments | None = None,
        **kwargs: Any,
    ) -> TrustReport:
        """Judge whether the posterior can be trusted: one verdict, its reasons, what to do next.

        After SVI, it draws from the guide anew and measures how far these draws are from the
        posterior: by k-hat of the ratios of joint density to guide density (Yao et al. 2018), with
        its standard error over other draws; by means and standard deviations reweighted with these
        ratios; and by leave-one-out with the correction for approximate posteriors (Magnusson et
        al. 2019). After MCMC, it judges R-hat, effective sample sizes, divergences and E-BFMI. For
        any posterior it judges predictive p-values and calibration, and for a run whether its loss
        settled. Where the inference is in doubt, it also names columns that may be the cause, as
        :meth:`check` does. If something cannot be judged (of a point estimate, or of draws from
        elsewhere), the report says so, in amber. During a fit in the background, it judges the
        present state.

        The target posterior is that of the kernel with each row counted once, whatever ``scale=``
        it was trained with. The density of all rows is summed in blocks, so memory does not grow
        with the rows. Beyond 1,000 rows, leave-one-out and calibration take a sample of them;
        neither is judged if the output is one event over all rows. Of values that NumPyro's
        ``RightCensoredDistribution`` or ``LeftCensoredDistribution`` takes for bounds, calibration
        counts what lies beyond; predictive p-values are not judged then, as predictions are not
        censored.

        Args:
            X: The rows of the training, as in :meth:`fit`; a stream is read several times.
            y: Their output; comes with the batches otherwise.
            num_draws: Draws to make from the guide, 100 at least.
            batch_size: Rows whose density is summed at a time; by default up to 4,096.
            refine: ``"importance"`` resamples the guide's draws by their importance; ``"nuts"``
                runs four short chains that begin at them, on all rows. The report then has the
                draws, side by side with the guide's.
            progress: Whether a line says what is examined, if that takes long.
            rng_key: Key of this call; ``jax.random.key(0)`` by default, so that each call gives the
                same report, and :func:`aimz_lab.lab.compare_runs` the same numbers. The model's own
                key does not change.
            rows: As in :meth:`fit`.
            allow_nonfinite: Accept NaN and infinite values in the data.
            by_row: As in :meth:`fit`.
            shared: As in :meth:`fit`.
            kernel_kwargs: Kernel arguments whose names this method uses itself.
            **kwargs: Further kernel arguments, as in :meth:`fit`.

        Returns:
            The report, with ``verdict``, ``level``, ``ok``, ``raise_if_bad()`` and ``table``;
            :func:`aimz_lab.lab.plot_trust` draws it. The summary of the last run shows its verdict.

        Raises:
            NotFittedError: If there is no posterior.
            ArgumentError: If a value is not allowed.
            CallError: If arguments are missing, unknown or doubled.
            DataError: If the data does not fit together or is not finite, or the rows are known to
                be others than those of the training, a part of them, or in another order.
            DataTypeError: If the rows come from a generator, which can be read only once.
            SiteError: With ``refine="nuts"``, if the chains have no finite draws.
            OptionalDependencyError: If arviz-stats is missing.

        Example:
            The guide is good, and the kernel is not: it expects noise, and this output has none.

            >>> report = im.diagnose(X, y)
            >>> report["k-hat"].level, report["calibration"].level, report.ok
            ('green', 'red', False)
        """
        self._own_keywords.check(type(self).diagnose, locals())
        check_can_compute("diagnose")
        options = partial(DiagnosisOptions, num_draws, batch_size, rows, refine)
        moment = self._moment()
        moment.fitted("diagnose", self._running, even_wrecked=True)
        progress = check_flag("progress", progress)
        line = preparing_line(callable_name(self.kernel), enabled=progress, stage="diagnose")
        own = jax.random.key(0) if rng_key is None else rng_key
        with line, self._keys.one(own) as key, self._explained():
            model = self._examined(
                moment,
                X,
                y,
                kwargs,
                kernel_kwargs,
                key=key,
                rows=rows,
                batch_size=batch_size,
                allow_nonfinite=allow_nonfinite,
                by_row=by_row,
                shared=shared,
            )
            report = diagnose(model, options(key))
        if model.run is not None:
            model.run.trust = report.verdict
        return report

    def check(
        self,
        X: Any,
        y: Shaped[ArrayLike, "row ..."] | None = None,
        *,
        batch_size: int | None = None,
        epochs: int = 1,
        num_steps: int | None = None,
        num_samples: int = 1000,
        scale: Scale = "auto",
        n_obs: int | None = None,
        progress: bool = True,
        rows: RowDependence = "auto",
        allow_nonfinite: bool = False,
        by_row: Iterable[str] = (),
        shared: Iterable[str] = (),
        kernel_kwargs: Arguments | None = None,
        **kwargs: Any,
    ) -> CheckReport:
        """Check before a fit what would go wrong, and how long it and a prediction would take.

        A copy of the model trains for about a second and predicts some rows. So the report has what
        :meth:`fit` would refuse or warn of: shapes, values that are NaN or infinite, indices out of
        range, rows that depend on one another, guides that cannot learn from batches. It also
        judges the weight of a batch's rows, how it is known that rows may be cut, statistics of
        rows that the kernel computes, columns that are constant, collinear or badly scaled, and the
        range of prior predictive draws. A fit that
        ends within that second has its loss compared with that of one distribution for all rows:
        one of the output's family, if the kernel learns its parameters, and the geometric one with
        the mean of counts, else the normal one. The model does not change.
        :meth:`fit` checks the columns and that loss too, and notes what it finds in
        ``last_run.notes``.

        Args:
            X: As in :meth:`fit`; no generator, which could be read only once.
            y: As in :meth:`fit`.
            batch_size: As in :meth:`fit`.
            epochs: As in :meth:`fit`, for the forecast.
            num_steps: Steps of :meth:`fit_on_batch`, to check that in place of :meth:`fit`; a model
                that does MCMC needs none.
            num_samples: As in :meth:`fit`, for the forecast.
            scale: As in :meth:`fit`.
            n_obs: As in :meth:`fit`.
            progress: Whether a line says what is tried, if that takes long.
            rows: As in :meth:`fit`.
            allow_nonfinite: As in :meth:`fit`.
            by_row: As in :meth:`fit`.
            shared: As in :meth:`fit`.
            kernel_kwargs: Kernel arguments whose names this method uses itself.
            **kwargs: Further kernel arguments, as in :meth:`fit`.

        Returns:
            The report, with ``verdict``, ``level``, ``ok``, ``raise_if_bad()`` and ``forecast``:
            seconds and bytes of the fit, and of a prediction with ``store="memory"``.

        Raises:
            ArgumentError: If ``progress`` is no ``True`` or ``False``.
            DataTypeError: If the rows come from a generator, which can be read only once.
            BusyError: If another call changes the model, as in :meth:`fit`.
            KeyboardInterrupt: After an interrupt; the model is as it was.

        Example:
            >>> report = im.check(X, y, batch_size=20, epochs=100)
            >>> report["scaling"].text
            'in the ELBO, each batch stands for all rows (weight 2)'
        """
        self._own_keywords.check(type(self).check, locals())
        check_can_compute("check")
        check_readable_again(X)
        progress = check_flag("progress", progress)
        data = {"allow_nonfinite": allow_nonfinite, "by_row": by_row, "shared": shared}
        options = {**data, "num_samples": num_samples, "kernel_kwargs": kernel_kwargs, **kwargs}
        trial, left_out = copy.deepcopy(self), ""
        if self._table is not None:
            with contextlib.suppress(AimzLabError):  # the trial of a fit meets it as well
                given = {**kwargs, **(kernel_kwargs or {})}
                X, left_out, _ = self._table.complete_rows(X, given)
        if isinstance(self._inference, MCMC) or num_steps is not None:
            steps = {} if num_steps is None else {"num_steps": num_steps}
            method, options = type(self).fit_on_batch, {**steps, **options}
        else:
            batches = {"batch_size": batch_size, "epochs": epochs, "scale": scale, "n_obs": n_obs}
            method, options = type(self).fit, {"rows": rows, **batches, **options}

        def fit(copied: ImpactModel) -> Callable[[list[Callback]], object]:
            train = partial(method, copied, X, y, progress=False, **options)
            return lambda callbacks: train(callbacks=callbacks)

        line = preparing_line(callable_name(self.kernel), enabled=progress, stage="check")
        with ended_by_interrupt("The check"), line:
            return check(
                Preflight(
                    trial,
                    self._kernel,
                    trial._inference,
                    fit(copy.deepcopy(self)),
                    fit(trial),
                    partial(trial._trial_columns, X, y, kwargs, kernel_kwargs, by_row),
                    partial(trial._trial_request, rows_of(X), y, kwargs, kernel_kwargs, **data),
                    trial._predictor,
                    scale,
                    rows,
                    left_out,
                )
            )

    def calibrate(
        self,
        X: Any,
        n: int = 200,
        *,
        num_steps: int = 2000,
        num_draws: int = 99,
        progress: bool = True,
        rng_key: jax.Array | None = None,
        allow_nonfinite: bool = False,
        by_row: Iterable[str] = (),
        shared: Iterable[str] = (),
        kernel_kwargs: Arguments | None = None,
        **kwargs: Any,
    ) -> CalibrationReport:
        """Test the inference on simulated data: simulation-based calibration.

        For each replication the kernel draws its latent sites and an output from the prior, the
        inference fits that output, and the true values are ranked among its draws. If the inference
        is right, ranks are uniform (Talts et al. 2018); simultaneous bands of Säilynoja et al.
        (2022) judge that. All replications run in one compiled program, many side by side. Latent
        sites with one value per row are not ranked. The model itself is not changed, and needs no
        fit.

        Args:
            X: Input of all rows, as in :meth:`fit_on_batch`; the output is simulated.
            n: Number of replications, 20 at least.
            num_steps: SVI steps of each replication, on all rows and from a start of its own. With
                MCMC, a replication is one chain with the warm-up of the inference object.
            num_draws: Posterior draws among which a true value is ranked, 20 at least. Chains are
                thinned to as many.
            progress: Whether a line says how far the replications are, if that takes long.
            rng_key: Key of this call; split from the model's by default.
            allow_nonfinite: Accept NaN and infinite values in the data.
            by_row: As in :meth:`fit`.
            shared: As in :meth:`fit`.
            kernel_kwargs: Kernel arguments whose names this method uses itself.
            **kwargs: Further kernel arguments, as in :meth:`fit`.

        Returns:
            The report, with ``verdict``, ``level``, ``ok``, ``raise_if_bad()``, and the ranks and
            p-values of each entry in ``ranks`` and ``table``.

        Raises:
            ArgumentError: If a value is not allowed.
            CallError: If arguments are missing, unknown or doubled.
            DataTypeError: If the rows come as a stream.
            KernelError: If no latent site is shared by all rows, or a prior cannot be drawn from;
                or if the kernel observes another site than the output, or has a factor, that
                depends on latent sites: true values from the prior do not go with these; or if some
                of the output is censored, which its distribution does not simulate.
            GuideError: If the guide keeps the data that it was set up with, as
                ``AutoLaplaceApproximation`` does.

        Example:
            >>> im.calibrate(X, 50, num_steps=300).ok
            True
        """
        self._own_keywords.check(type(self).calibrate, locals())
        options = CalibrationOptions(n, num_steps, num_draws)
        check_can_compute("calibrate")
        progress = check_flag("progress", progress)
        line = preparing_line(callable_name(self.kernel), enabled=progress, stage="calibrate")
        with line, self._keys.one(rng_key) as key, self._explained():
            request = self._request(
                rows_of(X),
                kwargs,
                kernel_kwargs,
                key=key,
                moment=self._settled,
                group="prior_predictive",
                allow_nonfinite=allow_nonfinite,
                by_row=by_row,
                shared=shared,
            )
            steps = sum(call.num_steps for call in self._trained.trainings or ())
            labelled = lambda ranks: self._labelled(ranks, ranks.draws)  # noqa: E731
            return calibrate(request, self._inference, key, options, labelled, steps)

    def describe(self) -> JsonObject:
        """Describe the model in plain values: its kernel and sites, its training, its draws.

        Example:
            >>> im.describe()["inference"]
            'SVI'
        """
        known = self._trained
        return describe(
            self._kernel,
            self._inference,
            self.kernel_spec,
            known.posterior,
            known.schema,
            known.ending,
            is_fitted=known.has_draws,
        )

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the model to a directory: arrays and JSON, no code and none of the data.

        It holds the posterior with its chains, the parameters, the optimizer's and the mutable
        state, the losses, the keys, and the names, shapes and types of the training data. A
        checksum of 8 bytes for each training row shows later which held-out rows were trained on.
        The model is written completely or not at all, and replaces one already there.

        Args:
            path: The directory.

        Returns:
            Its absolute path.

        Raises:
            ArgumentError: If ``path`` is no path of this machine, such as a URL.
            ArtifactError: If ``path`` holds something else, or parameters are no tree of dicts; or
                if draws that you set are of before more training.
            ArtifactWriteError: If it cannot be written.
            BusyError: If another call changes the model, as in :meth:`fit`.

        Warns:
            FitWarning: If the source of the kernel, of the guide or of a function that they call is
                not at hand, as of a file that was edited after its import: :meth:`load` then cannot
                compare it.

        Example:
            >>> import tempfile
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     im.save(f"{folder}/slope").name
            'slope'
        """
        with self._one_change.begin("save"):
            trained = self._trained.settled
            fitted = trained.fitted
            if fitted is not None and fitted.is_given and fitted.since:
                msg = (
                    f"A saved model has one state. {draws_of_before(fitted)} "
                    "im.set_posterior_sample(im.posterior) keeps your draws with the present state."
                )
                raise ArtifactError(msg)
            table = None if self._table is None else self._table.as_plain()
            state = ModelState(self.rng_key, self._n_obs, trained, table)
            return save_model(path, self._kernel, self._inference, state)

    @classmethod
    def load(
        cls,
        path: str | PathLike[str],
        kernel: Callable,
        inference: SVI | MCMC | None = None,
        *,
        svi: SVI | None = None,
        device: Device | None = None,
        kernel_kwargs: Arguments | None = None,
    ) -> Self:
        """Read a model from a directory that :meth:`save` wrote.

        Predictions with the same key equal those of the saved model, and training continues as if
        it had never stopped.

        Args:
            path: The directory.
            kernel: The kernel of the saved model. Three things are compared with the saved ones:
                its source, that of the functions it calls, and the values that it reads from
                outside (numbers, text, dates, arrays, tables, distributions, and the parts that it
                reads of dicts, lists, objects and classes). Comments, annotations and layout may
                differ. This finds ordinary changes and does not prove that nothing changed. Not
                compared are objects of your own classes that the code reaches by a second name, in
                a loop, as the argument of a helper, by ``getattr`` or by an operator; what SciPy,
                xarray, ``operator`` and extensions in C hold; what it imports or reads from files
                while it runs; and what it changes itself. If its source is missing, here or at the
                save, then source, dicts, lists and NumPy's arrays are not compared.
            inference: Its inference object, built in the same way; or use ``svi``. The source of a
                guide of your own is compared too, and the class and the options of an autoguide,
                except those that only say where a training begins, such as ``init_scale``. If the
                model has the state of a training, the optimizer has to be the same; other settings
                of it or of the loss, such as the step size, bring a warning.
            svi: The same as ``inference``, for SVI.
            device: As for a new model; not stored.
            kernel_kwargs: Kernel arguments that are code, such as functions, which is not stored.

        Returns:
            The model in its saved state.

        Raises:
            ArtifactGoneError: If there is nothing at ``path``.
            ArgumentError: If ``path`` is no path.
            CallError: If ``kernel_kwargs`` is no mapping.
            ArtifactError: If it is damaged, or the kernel or inference object differs from the
                saved one; the message names the differences.

        Warns:
            FitWarning: If training would go on with other settings of optimizer or loss. If a
                source is not at hand, here or at the save, and was not compared.

        Example:
            >>> import tempfile
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     again = type(im).load(im.save(f"{folder}/slope"), kernel, svi=svi)
            >>> bool((again.posterior["slope"] == im.posterior["slope"]).all())
            True
        """
        check_path("path", path)
        check_can_compute("load")
        saved = SavedModel(path)
        with saved.checking(kernel):
            model = cls(
                kernel,
                saved.rng_key,
                inference,
                svi=svi,
                param_input=saved.param_input,
                param_output=saved.param_output,
                device=device,
            )
        model._table = saved.read_table(partial(_saved_table, model._kernel))
        if model._table is not None:
            model._own_keywords = OwnKeywords(model._kernel, model._table.spec.parts)
        model._loaded_from = str(path)
        given = check_mapping("kernel_kwargs", kernel_kwargs, "kernel arguments by name")
        with model._explained():
            state = saved.restore(model._kernel, model._inference, model._learner, given)
        model._n_obs, model._trained = state.n_obs, state.trained
        return model

    def cleanup(self) -> None:
        """Remove the temporary results of this model from disk now.

        You need not call it: each result is removed with the last tree that reads it. Small trees
        are in memory and stay; a later read of a larger one raises
        :class:`~aimz_lab.errors.ArtifactGoneError`. Results in an ``output_dir`` stay.

        Example:
            >>> tree = im.predict(X, progress=False)
            >>> im.cleanup()
            >>> im.temp_dir is None
            True
        """
        self._temporary.remove()

    @classmethod
    def cleanup_models(cls) -> None:
        """Remove the temporary results of all models from disk now; see :meth:`cleanup`.

        Example:
            >>> im.cleanup_models()
        """
        TemporaryResults.remove_all()

    def __repr__(self) -> str:
        return describe_in_a_line(self.describe(), self._standing)

    def _repr_html_(self) -> str:
        return describe_html(self.describe(), self._standing)

    @property
    def _standing(self) -> Standing:
        fitted = self._trained.fitted
        loaded_from = "" if self._last_run else self._loaded_from
        run, running = self._run_of_state, self._running
        since = "" if fitted is None else fitted.since
        if running is not None and not running.has_draws:
            since = since or "the fit that goes on"
        return Standing(
            run,
            loaded_from,
            draws_of_before=since,
            has_given_draws=fitted is not None and fitted.is_given,
            has_diverged=self._trained.is_wrecked or (run is not None and run.status == "diverged"),
            divergent=0 if fitted is None else fitted.posterior.num_divergent,
            reads_tables=self._table is not None,
            steps_by_hand=self._trained.by_hand.done if self._trained.by_hand else 0,
        )

    @property
    def _run_of_state(self) -> Run | None:
        """The last run, unless a hand-written loop went on from its end."""
        trained, run = self._trained, self._last_run
        is_by_hand = trained.by_hand is not None and not trained.ending
        return None if run is not None and run.finished and is_by_hand else run

    # Shared by the public methods. Only these assign the results of a training.

    def _svi(self, method: str) -> SviLearner:
        """Return the learner for a ``method`` that needs SVI."""
        if not isinstance(self._learner, SviLearner):
            msg = (
                f"{method} works on minibatches or steps of SVI, and this model does MCMC; call "
                "fit_on_batch(X, y)."
            )
            raise InferenceError(msg)
        return self._learner

    def _roles(self, by_row: Iterable[str], shared: Iterable[str]) -> ArgumentRoles:
        """Return the roles of further arguments: named by the user, or known from training."""
        roles = ArgumentRoles.said(self._kernel, by_row, shared)
        schema = self._trained.schema
        return roles if schema is None else roles.after_training(schema.rows, schema.shared)

    def _of_table(
        self,
        inputs: Any,
        outputs: Any,
        kwargs: CallArguments,
        kernel_kwargs: Arguments | None,
        by_row: Iterable[str],
    ) -> TableCall:
        """Return the arguments of a training, made from its table if it has one."""
        if self._table is None:
            return TableCall(inputs, outputs, kernel_kwargs, by_row)
        anew = not isinstance(self._learner, SviLearner) or self._trained.is_wrecked
        return self._table.training_call(inputs, outputs, kwargs, kernel_kwargs, by_row, anew=anew)

    def _labelled(
        self,
        posterior: Posterior,
        draws: Mapping[str, Shaped[Array, "draw ..."]],
        moment: Moment | None = None,
        rows: AxisLabels | None = None,
    ) -> xr.DataTree:
        """Return draws of the posterior as a tree; those of a moment have its training's rows."""
        trained, table = self._trained, self._table
        if moment is not None:
            trained, table = moment.trained, moment.table
            rows = trained.fitted.row_labels
        named = (self._frame_columns if table is None else table).names(trained)._asdict()
        return posterior_tree(
            draws,
            posterior.num_chains,
            stats=posterior.stats,
            spec=trained.spec,
            attrs={} if moment is None else moment.attrs,
            rows=posterior_rows(rows),
            **named,
        )

    def _group(self, inputs: Any, in_sample: bool | None) -> Group | None:
        of_table = self._table is not None and self._table.takes(inputs)
        return predictive_group(in_sample, of_table=of_table)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Explain errors of the kernel's code, and of the guide's if the user wrote it."""
        guide = getattr(self._inference, "guide", None)
        own = None if isinstance(guide, AutoGuide) else guide
        with (
            memory_explained(_LESS_TO_TRAIN),
            explained(self.kernel, own, output=self.param_output),
        ):
            yield

    def _origin(
        self, resume: str | PathLike[str] | None, keys: CallKeys
    ) -> tuple[Checkpoint | None, Origin]:
        """Return the checkpoint to resume, if any, and the random keys of a fit."""
        if resume is None:
            return None, Origin(keys.keys, self._trained.to_train_on.epochs_done)
        checkpoint = load_checkpoint(check_path("resume", resume))
        return checkpoint, checkpoint.origin

    def _fit(
        self,
        request: FitRequest,
        keys: CallKeys,
        change: Change,
        encoder: TableEncoder | None,
        *,
        blocking: bool,
    ) -> Self | RunHandle[Self]:
        """Run a fit to its end, here or on a thread."""
        check_cell_goes_on()
        found = all_callbacks(request.callbacks, request.progress)
        trained, run = self._trained.to_train_on, self._last_run
        request = replace(request, callbacks=found)
        if request.checkpoint is None:
            request = replace(request, earlier=trained.fingerprint)
            goes_on = trained.state is not None and run is not None and not run.has_diverged
            if goes_on and run.rate_changes:
                request = replace(request, rate_before=run.learning_rate)
        with getting_ready(callable_name(self.kernel), found), self._explained():
            fit = self._learner.start(request, trained.state)
            change.is_to_stop = lambda: fit.run.control.stop_request is not None
            if self._table is not None:
                with undone_on_error(fit):
                    self._table.check_dims(fit.spec, fit.schema, encoder)
                    self._table.check_levels(fit.spec, encoder)
        if encoder is not None:
            learned = self._table.learned(encoder)
            fit.run.axis_labels = partial(learned.axis_labels, fit.spec, fit.schema)
            fit.run.info = replace(fit.run.info, outcome=learned.output_formula)
            fit.run.outcome_column = learned.output_column("outcome")
        elif self._table is None:
            fit.run.axis_labels = partial(self._frame_columns.axis_labels, fit.spec, fit.schema)
        if fit.data.in_memory:
            fit.run.notes.extend(column_notes(fit.data.rows, fit.data.columns, self.param_output))
            if fit.data.order is not None and request.step.scale == "auto":
                note = short_batch_note(fit.data.n_rows, fit.data.batch_size)
                fit.run.notes.extend([note] if note else [])
        fit.run.in_background = not blocking
        before, self._last_run = self._last_run, fit.run

        def refuse() -> None:
            fit.undo()
            keys.give_back(used=True)
            self._last_run = before

        keys.use_up()
        if not blocking:
            return self._fit_in_background(fit, refuse, change, encoder, request)
        self._carry_out(fit, refuse, encoder)
        tell_end(fit.run, fit.warning(), request.on_interrupt)
        return self

    def _fit_in_background(
        self,
        fit: StartedFit,
        refuse: Callable[[], None],
        change: Change,
        encoder: TableEncoder | None,
        request: FitRequest,
    ) -> RunHandle[Self]:
        """Begin here, so that displays belong to the calling cell; run on a thread."""

        def carry_out() -> None:
            with change.on_this_thread():
                self._running = RunningFit(fit, encoder)
                try:
                    self._carry_out(fit, refuse, encoder)
                finally:
                    self._running = None

        try:
            fit.loop.begin()
            displays = [each for each in request.callbacks if isinstance(each, Display)]
            is_shown = any(each.shows_facts for each in displays)
            with change.in_background():
                return RunHandle(
                    self,
                    fit.run,
                    carry_out,
                    on_interrupt=request.on_interrupt,
                    is_shown=is_shown,
                )
        except BaseException as error:
            fit.loop.fail(error)
            if fit.run.was_refused:
                refuse()
            raise

    def _carry_out(
        self, fit: StartedFit, refuse: Callable[[], None], encoder: TableEncoder | None
    ) -> None:
        has_result = False
        try:
            with self._explained():
                fit.loop.run_to_end()
        finally:
            if fit.run.was_refused:
                refuse()
            for result in fit.results():
                self._trained = self._trained.after(result)
                has_result = True
                if self._table is not None and encoder is not None:
                    self._table = self._table.learned(encoder)
            self._running = None
        if has_result:
            self._announce(fit)

    def _announce(self, fit: StartedFit) -> None:
        """Tell callbacks that the model has its result; they may use it while others wait."""
        with self._one_change.lent():
            errors = fit.loop.callbacks.conclude("on_model_fitted", self, fit.data)
        if errors:
            raise errors[0]

    @contextlib.contextmanager
    def _key_of_step(self, rng_key: jax.Array | None) -> Iterator[jax.Array]:
        """Provide the key of a step by hand: the first draws initial values, later ones nothing."""
        if self._trained.to_train_on.state is not None:
            yield self.rng_key if rng_key is None else as_typed_key(rng_key)
            return
        with self._keys.for_call(rng_key) as keys:
            yield keys.keys[0]

    @property
    def _way_to_draws(self) -> str:
        trained = self._trained
        return way_to_draws(
            self._last_run,
            are_chains=isinstance(self._inference, MCMC),
            has_guide=trained.by_hand is not None
            or (trained.vi_result is not None and not trained.is_wrecked),
        )

    @property
    def _settled(self) -> Moment:
        """What the model has learned, without a fit in the background."""
        return Moment(self._trained, self._table, way_to_draws=self._way_to_draws)

    def _moment(self) -> Moment:
        """Return what predictions read: of a fit in the background, its present state.

        A fit that was asked to stop is waited for, up to a minute: its result is what is asked for.
        """
        if held := held_moment(self):
            return held
        self._one_change.wait_for_stop("a prediction")
        running = self._running
        now = running and running.moment(self._trained, self._table)
        is_of_before = running is not None and running.is_elsewhere
        return now or replace(self._settled, is_of_before=is_of_before)

    def _computed(
        self,
        method: str,
        compute: Callable[[Request], Result],
        inputs: Any,
        kwargs: CallArguments,
        kernel_kwargs: Arguments | None,
        *,
        rng_key: jax.Array | None,
        group: Group,
        **options: Any,
    ) -> Result:
        """Run a predictive call, which changes nothing if it is refused."""
        check_can_compute(method)
        before = group == "prior_predictive"
        moment = self._settled if before else self._moment()
        if not before:
            moment.fitted(method, self._running)
        with self._keys.one(rng_key) as key:
            request = self._request(
                inputs, kwargs, kernel_kwargs, key=key, moment=moment, group=group, **options
            )
            _tell_running(moment, {"progress": request.progress})
            if request.group_note and request.progress:
                progress_line().close(request.group_note)
            with memory_explained(SUMMARISE):
                result = compute(request)
        self._temporary.remember(result)
        if options.get("by") is not None:
            return as_group_means(result)
        return result if isinstance(result, dict) else as_rows(result)

    def _request(
        self,
        inputs: Any,
        kwargs: CallArguments,
        kernel_kwargs: Arguments | None,
        *,
        key: jax.Array,
        moment: Moment,
        group: Group,
        **options: Any,
    ) -> Request:
        """Return the request of a predictive call; for ``options`` see ``predict_request``."""
        trained, table = moment.trained, moment.table
        by, given, kept = options.pop("by", None), inputs, None
        engine = None
        if (executor := options.pop("executor", None)) is not None:
            engine = _on_workers(executor)
            inputs, kwargs, options = _with_lazy_rows(self._kernel, table, inputs, kwargs, options)
        scale = check_choice("output_scale", options.pop("output_scale", "outcome"), OutputScale)
        attrs = dict(moment.attrs)
        check_alone(by, options.get("reduce"))
        scales = None
        if table is not None:
            scales = table.column_scales(given)
            inputs, kernel_kwargs, kept, options = table.predictive_call(
                inputs, kwargs, kernel_kwargs, options, scale, trained, group
            )
            attrs |= options.pop("output_attrs")
        else:
            options = self._frame_columns.names(trained).in_options(options)
        if trained.spec is not None and trained.spec.output_transform:
            attrs[TRANSFORM] = trained.spec.output_transform
        if by is not None:
            options["reduce"] = means_of_groups(by, given, kept)
        request = predict_request(
            replace(self._fitted_kernel(trained, group), column_scales=scales),
            inputs,
            kwargs,
            kernel_kwargs,
            key=key,
            group=group,
            engine=engine,
            **options,
        )
        return replace(request, attrs={**request.attrs, **attrs}, kept_rows=kept)

    def _fitted_kernel(self, trained: Trained, group: Group) -> FittedKernel:
        """Return the kernel with its draws, unless a call draws from the prior."""
        fitted = None if group == "prior_predictive" else trained.fitted
        return FittedKernel(
            self._kernel,
            fitted.posterior if fitted else None,
            fitted.params if fitted else trained.params,
            fitted.schema if fitted else trained.schema,
            fitted.fingerprint if fitted else None,
            resolve_placement(self._device).local_devices,
            self._indices,
            trained.spec,
            row_labels=fitted.row_labels if fitted else None,
        )

    def _examined(
        self,
        moment: Moment,
        inputs: Any,
        outputs: Any,
        kwargs: CallArguments,
        kernel_kwargs: Arguments | None,
        **options: Any,
    ) -> Examined:
        """Return the parts of the model that a report reads."""
        inputs, fitted, left_out = rows_of(inputs), moment.trained.fitted, ""
        if moment.table is not None:
            given = {**kwargs, **(kernel_kwargs or {})}
            inputs, left_out, _ = moment.table.complete_rows(inputs, given)
        # A fit in the background that has no draws yet says nothing of the posterior of before.
        run = self._run_of_state if self._running is None or moment.attrs else None

        def request(
            posterior: Posterior, group: Group, reduce: Mapping[str, Reducer] | None
        ) -> Request:
            own = {"outputs": outputs} if group == "log_likelihood" else {}
            if group != "log_likelihood":
                own = {"return_sites": self.param_output, "output_scale": "model"}
            drawn = replace(fitted, posterior=posterior)
            return self._request(
                inputs,
                kwargs,
                kernel_kwargs,
                moment=replace(moment, trained=replace(moment.trained, fitted=drawn)),
                group=group,
                reduce=reduce,
                **own,
                **options,
            )

        return Examined(
            self._kernel,
            self._learner,
            self._inference,
            moment.trained,
            fitted,
            run,
            self._predictor,
            request,
            lambda posterior: self._labelled(posterior, posterior.draws, moment),
            moment.table,
            left_out,
        )

    def _trial_columns(
        self,
        inputs: Any,
        outputs: Any,
        kwargs: CallArguments,
        kernel_kwargs: Arguments | None,
        by_row: Iterable[str],
    ) -> Columns:
        """Return the column names of a call's tables, and learn from its table, as its fit does.

        Chains that are stopped in their warm-up leave no result, which would have both.
        """
        call = self._of_table(inputs, outputs, kwargs, kernel_kwargs, by_row)
        if call.encoder is not None:
            self._table = self._table.learned(call.encoder)
        extra = merge_arguments(self._kernel, kwargs, call.kernel_kwargs)
        return table_columns(self._kernel, call.inputs, {**extra, self.param_output: call.outputs})

    def _trial_request(
        self,
        inputs: Any,
        outputs: Any,
        kwargs: CallArguments,
        kernel_kwargs: Arguments | None,
        group: Group,
        **options: Any,
    ) -> Request:
        """Return the request of a call for its rows, or for draws of the output."""
        is_prior = group == "prior_predictive"
        own = {"return_sites": self.param_output, "output_scale": "model"}
        if group == "log_likelihood":
            own = {"outputs": outputs}
        key = self.rng_key
        if is_prior:  # one key, so that one prior and table have one verdict, trained or not
            own |= {"num_draws": PRIOR_DRAWS}
            key = jax.random.key(0, impl=jax.random.key_impl(key))
        return self._request(
            inputs,
            kwargs,
            kernel_kwargs,
            key=key,
            moment=self._settled,
            group=group,
            **own,
            **options,
        )

    def _effect_in_one_pass(
        self,
        baseline: CallArguments,
        intervention: CallArguments,
        reduce: ReduceSpec | None,
        kind: EffectKind,
    ) -> xr.DataTree:
        """Compute both scenarios in one pass, with the key of either, or a new one."""
        named = baseline.get("rng_key"), intervention.get("rng_key")
        given = next((key for key in named if key is not None), None)
        shared = options_of_the_pass(baseline, intervention, reduce)
        moment = self._moment()
        with self._keys.one(given) as key:
            shared |= {"rng_key": key}
            requests = [
                self._scenario({**args, **shared}, moment) for args in (baseline, intervention)
            ]
            self._warn_of_chains(moment, requests[1])
            return effect_in_one_pass(self._predictor, requests, kind, intervention["X"])

    def _line(self, stage: str, *calls: CallArguments) -> contextlib.AbstractContextManager[None]:
        """Show what a call of several predictions does, unless these have a ``progress`` each."""
        enabled = not any("progress" in call for call in calls)
        return preparing_line(callable_name(self.kernel), enabled=enabled, stage=stage)

    def _warn_of_unused(self, inputs: Mapping[str, CallArguments], *named: object) -> None:
        """Warn of a column of one scenario alone that neither model nor call reads."""
        if self._table is not None:
            names = {one for each in named for one in _as_list(each) if isinstance(one, str)}
            warn_of_unused_columns(inputs, names.union(self._table.spec.columns))

    def _retrained(
        self,
        treatment: str,
        levels: tuple[float | str, float | str],
        site: str,
        calls: Sequence[TrainingCall],
        scenarios: CallArguments,
        given: Mapping[str, Any],
        key: jax.Array,
    ) -> xr.DataArray:
        """Train from the beginning, and return draws of the average effect, called as it is."""
        self._trained = Trained()
        if self._table is not None:  # another outcome has means and levels of its own
            self._table = _model_table(self._table.signature, self._table.spec)
        rows = dict(given)
        outputs = rows.pop(self.param_output, None)
        own = {"progress": False, "return_sites": [site]}
        sides = [
            {**with_options(with_treatment(rows, treatment, level), scenarios), **own}
            for level in levels
        ]
        inputs = rows.pop("X")
        for number, call in enumerate(calls):
            train = self.fit_on_batch if call.on_batch else self.fit
            own_key = jax.random.fold_in(key, number) if number else key
            options = {"progress": False, "rng_key": own_key, **call.options}
            train(inputs, outputs, **{**options, **rows})
        self._check_site(site)
        try:
            self._comparable(sides, self._moment())
        except (ArgumentError, SiteError) as error:
            raise explained_by_scenarios(error) from error
        effect = self.estimate_effect(
            args_baseline={**sides[0], "rng_key": key}, args_intervention=sides[1], average=True
        )
        draws, name = effect["posterior_predictive"].to_dataset(), variable_name(site)
        return draws[name].rename(called(draws, name))

    def _check_site(self, site: str) -> None:
        """Check that effects on a site can be averaged to one number."""
        attrs = {} if self._table is None else self._table.output_attrs()
        check_site(site, self._trained.spec, attrs)

    def _paired(
        self,
        key: jax.Array,
        moment: Moment,
        calls: Sequence[CallArguments],
        reduces: Sequence[ReduceSpec],
        combine: Callable | None = None,
        *,
        expected: Expected = None,
        anew: frozenset[str] = frozenset(),
    ) -> list[xr.DataTree]:
        """Compute the summaries of scenarios with one key, one after the other.

        Each draws the sites ``anew`` from the kernel, and those that all of them together ask for.
        """
        requests = [
            self._scenario({**call, "rng_key": key, "reduce": reduce}, moment)
            for call, reduce in zip(calls, reduces, strict=True)
        ]
        requests = self._predictor.comparable(requests)
        self._warn_of_chains(moment, requests[0])
        tables = [call["X"] for call in calls]
        return in_turn(
            self._predictor, requests, reduces, tables, combine, expected=expected, anew=anew
        )

    def _comparable(self, calls: Iterable[CallArguments], moment: Moment) -> list[Request]:
        """Return the requests of scenarios; raise as :meth:`Predictor.comparable` does."""
        key = jax.random.key(0)  # nothing is drawn
        calls = [{**_without_how(call), "rng_key": key} for call in calls]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they come when each is computed
            return self._predictor.comparable([self._scenario(call, moment) for call in calls])

    def _warn_of_chains(self, moment: Moment, request: Request) -> None:
        """Warn of chains that disagree about what a scenario reads."""
        posterior = moment.trained.posterior
        if posterior is not None and request.draws is not None and posterior.unmixed:
            warn_of_unmixed(posterior.unmixed, self._predictor.sites_read(request))

    def _scenario(self, args: CallArguments, moment: Moment) -> Request:
        """Return the request of :meth:`predict` with these arguments."""
        given = {"store": "persistent", "allow_nonfinite": False, "progress": False, **args}
        self._own_keywords.check(type(self).predict, given)
        inputs, in_sample = given.pop("X"), given.pop("in_sample", None)
        key, kernel_kwargs = given.pop("rng_key"), given.pop("kernel_kwargs", None)
        own = keyword_names(type(self).predict)
        kwargs = {name: given.pop(name) for name in list(given) if name not in own}
        return self._request(
            inputs,
            kwargs,
            kernel_kwargs,
            key=key,
            moment=moment,
            group=predictive_group(in_sample),
            **given,
        )


def _tell_running(moment: Moment, *calls: CallArguments) -> None:
    """Say on a line that a fit goes on, unless a call is to show nothing."""
    if all(call.get("progress", True) for call in calls):
        moment.say()


def _model_table(signature: KernelSignature, table: TableSpec) -> ModelTable:
    return tables_module("model_table").ModelTable(signature, table)


def _saved_table(signature: KernelSignature, plain: JsonObject) -> ModelTable:
    return tables_module("model_table").ModelTable.of_plain(signature, plain)


def _on_workers(executor: Executor) -> Callable:
    from aimz_lab.cluster.engine import on_workers

    return on_workers(executor)


def _with_lazy_rows(*call: Any) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    from aimz_lab.cluster.lazy_inputs import with_lazy_rows

    return with_lazy_rows(*call)


_UNKNOWN_N_OBS = (
    "Nobody told how many rows the data has, so the kernel is trained as it is written: unless "
    "it scales its minibatches itself, the posterior will be too wide. Say it once, with "
    "train_on_batch(..., n_obs=N) or by aimz_lab.lab.monitor around an ArrayLoader."
)


_LESS_TO_TRAIN = (
    "Train on smaller batches, batch_size=; ask for fewer draws, num_samples=; or pass the rows as "
    "a stream of batches, which are not all in memory at once."
)


def _without_how(args: CallArguments) -> dict[str, Any]:
    """Return what a scenario is, without options of how it is computed."""
    how = keyword_names(ImpactModel.predict) - _WHAT
    return {name: value for name, value in args.items() if name not in {*how, "return_datatree"}}


_WHAT = {
    "allow_nonfinite", "by_row", "condition", "held", "intervention", "kernel_kwargs",
    "return_sites", "rows", "shard_axis", "shared",
}  # fmt: skip
"""Keywords of ``predict`` that say what is computed."""


def _as_list(by: object) -> Iterable[object]:
    return by if isinstance(by, (list, tuple)) else [by]


def _without_in_sample(options: CallArguments) -> CallArguments:
    if "in_sample" in options:
        msg = "in_sample= is an argument of predict; here the group is posterior_predictive."
        raise CallError(msg)
    return options
