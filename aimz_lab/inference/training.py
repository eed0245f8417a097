"""The training methods of a model."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from os import PathLike
from typing import Any, Literal, Self

import jax
from jax.typing import ArrayLike
from numpyro.infer.svi import SVIRunResult, SVIState

from aimz_lab.data.checks import check_positive_int
from aimz_lab.errors import BusyError, CallError, FitWarning, GuideError
from aimz_lab.inference.base import KernelModel
from aimz_lab.inference.checkpoint import Checkpoint, load_checkpoint
from aimz_lab.inference.compiling import import_behind
from aimz_lab.inference.displays import default_display, standing_listeners
from aimz_lab.inference.events import Callback, Run
from aimz_lab.inference.fit_options import FitOptions
from aimz_lab.inference.inputs import (
    all_rows,
    held_out_rows,
    merge_arguments,
    rows_and_others,
    training_data,
)
from aimz_lab.inference.loop import Loop
from aimz_lab.inference.mcmc import start_mcmc, warn_of_chains
from aimz_lab.inference.placement import resolve_placement
from aimz_lab.inference.plan import PlanOptions, TrainingData
from aimz_lab.inference.posterior import Posterior
from aimz_lab.inference.provenance import Origin
from aimz_lab.inference.run_handle import RunHandle
from aimz_lab.inference.run_info import warn_of_outcome
from aimz_lab.inference.schema import InputSchema
from aimz_lab.inference.train import TrainOptions
from aimz_lab.inference.trained_rows import TrainedRows
from aimz_lab.inference.validation import HeldOut
from aimz_lab.kernel.scaling import Scale, check_scale
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.types import Device, OnNonFinite, Progress, check_choice


class TrainableModel(KernelModel):
    """A model that can be trained; see :class:`aimz_lab.ImpactModel`."""

    def fit(
        self,
        X: Any,
        y: ArrayLike | None = None,
        *,
        num_samples: int = 1000,
        rng_key: jax.Array | None = None,
        progress: Progress = True,
        batch_size: int | None = None,
        epochs: int = 1,
        shuffle: bool = True,
        callbacks: Iterable[Callback] = (),
        validation: Any = None,
        validation_every: int = 1,
        scale: Scale = "auto",
        n_obs: int | None = None,
        steps_per_call: int | Literal["auto"] = "auto",
        accumulate: int = 1,
        on_nonfinite: OnNonFinite = "stop",
        allow_nonfinite: bool = False,
        resume: str | PathLike[str] | None = None,
        blocking: bool = True,
        kernel_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self | RunHandle:
        """Train by SVI on minibatches, then draw from the guide.

        The ELBO of a batch is scaled to the whole data, so that the posterior is as wide as all
        rows make it. Training goes on from the state that the model has. An interrupt, a stop and
        a loss that is not finite all keep the last good state, the losses and a posterior from it.

        Args:
            X: Input array, rows first; or an ``ArrayDataset``, an ``ArrayLoader``, or any source of
                batches.
            y: Output array; comes with the batches otherwise.
            num_samples: Posterior draws to make.
            rng_key: Key of this call; split from the model's by default.
            progress: ``True`` shows what fits the place, ``"live"`` a dashboard, ``"text"`` a line,
                ``False`` nothing.
            batch_size: Rows of a batch; by default all of up to 1,024 rows, else 256. A loader has
                its own.
            epochs: Passes over the data.
            shuffle: Whether each epoch has another order. A loader has its own.
            callbacks: Listeners; see :class:`aimz_lab.Callback`.
            validation: Held-out ``(X, y)``, where the kernel takes no other arrays by row; else all
                of them by name, ``{"X": X, "y": y, "treat": treat}``, or as an ``ArrayDataset``, a
                loader or another source of batches. The loss per row is evaluated on it.
            validation_every: Epochs between two evaluations.
            scale: Weight of a batch's rows: ``"auto"`` for N / B, ``"none"``, or a number.
            n_obs: N, where a stream of batches does not know it. Without it a batch counts as if
                it were all of the data.
            steps_per_call: Steps compiled into one call; ``"auto"`` aims at 50 ms.
            accumulate: Batches whose gradients are averaged into one update, across epochs. What is
                left at the end of the call, of fewer batches, is dropped.
            on_nonfinite: What a loss that is not finite does: ``"stop"``, ``"skip"`` the step, or
                ``"raise"``.
            allow_nonfinite: Accept NaN and infinite values in the data.
            resume: A checkpoint, or a folder of them, to go on from as if the run had never
                stopped: with its state, history, keys and order of rows. All other arguments are
                those of the run that was stopped; ``epochs`` counts from its beginning. A stream
                must give the batches of an epoch in the same order again.
            blocking: Whether to train here and now. ``False`` trains on a thread and returns a
                handle at once; the model is fitted when the run has ended.
            kernel_kwargs: Kernel arguments whose names are taken by this method.
            **kwargs: Further kernel arguments. Arrays with as many rows as ``X`` are batched with
                it, other arrays pass whole, and plain values are part of the compiled program.

        Returns:
            The model; or, with ``blocking=False``, the handle of the run.

        Raises:
            CallError: If arguments are missing, unknown or doubled.
            DataError: If the data does not fit together or is not finite, or the loss of held-out
                rows cannot be computed.
            InferenceError: If the model does MCMC, which :meth:`fit_on_batch` runs.
            GuideError: If the guide cannot be trained on minibatches, or has no values for held-out
                rows.
            CheckpointError: If there is no complete checkpoint, or it is another run's.
            NonFiniteLossError: With ``on_nonfinite="raise"``.
            ArgumentError: If a value is not allowed.

        Warns:
            FitWarning: If the run was interrupted or diverged, or nobody knows the number of rows.

        Example:
            >>> im.fit(X, y, batch_size=20, epochs=10, progress=False).last_run.step
            20
        """
        self._svi_session("fit")
        self._check_idle("fit")
        check_positive_int("num_samples", num_samples)
        checkpoint, origin = self._origin(resume, rng_key)
        make_data = partial(
            training_data,
            self._ports,
            X,
            y,
            merge_arguments(self._ports, kwargs, kernel_kwargs),
            key=origin.keys[1],
            shuffle=shuffle,
            n_obs=n_obs,
            allow_nonfinite=allow_nonfinite,
            first_epoch=origin.first_epoch,
        )
        data, device = make_data(batch_size=batch_size)
        try:
            spec = self._session.prepare(data)
        except GuideError:
            # Without a batch size of the user's, all rows at once are a choice that trains.
            if batch_size is not None or not data.in_memory or data.order is None:
                raise
            data, device = make_data(batch_size=data.n_obs)
            spec = self._session.prepare(data)
        options = FitOptions(
            epochs=check_positive_int("epochs", epochs),
            plan=PlanOptions(check_scale(scale), check_positive_int("accumulate", accumulate)),
            train=_train_options(steps_per_call, on_nonfinite),
            held_out=self._held_out(validation, validation_every, data, allow_nonfinite),
            origin=origin,
            resume=checkpoint,
        )
        return self._train(
            data, spec, device, callbacks, progress, options, num_samples, rng_key, blocking
        )

    def fit_on_batch(
        self,
        X: ArrayLike,
        y: ArrayLike,
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
        kernel_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self | RunHandle:
        """Train on all rows at once: SVI steps, or an MCMC run.

        Chains can be watched, paused and stopped as training can. A stop and an interrupt keep the
        draws so far, as many of each chain; before the first draw they leave the model as it was.

        Args:
            X: Input array, rows first.
            y: Output array.
            num_steps: SVI steps; MCMC has its own number.
            num_samples: Posterior draws to make by SVI; MCMC has its own number.
            rng_key: Key of this call; split from the model's by default.
            progress: As in :meth:`fit`.
            callbacks: Listeners; see :class:`aimz_lab.Callback`. Under MCMC, a step is an iteration
                of every chain, warm-up included.
            steps_per_call: As in :meth:`fit`.
            on_nonfinite: As in :meth:`fit`; SVI only.
            allow_nonfinite: Accept NaN and infinite values in the data.
            resume: As in :meth:`fit`; ``num_steps`` counts from the beginning of the run. SVI
                only.
            blocking: As in :meth:`fit`.
            kernel_kwargs: Kernel arguments whose names are taken by this method.
            **kwargs: Further kernel arguments, as in :meth:`fit`.

        Returns:
            The model; or, with ``blocking=False``, the handle of the run.

        Raises:
            CallError: If arguments are missing, unknown or doubled.
            DataError: If the data does not fit together or is not finite.
            CheckpointError: If there is no complete checkpoint, or it is another run's.
            NonFiniteLossError: With ``on_nonfinite="raise"``.
            ArgumentError: If a value is not allowed.

        Warns:
            FitWarning: If the run was interrupted or diverged, or chains were stopped before their
                first draw.

        Example:
            >>> im.fit_on_batch(X, y, num_steps=50, progress=False).last_run.step
            50
        """
        check_positive_int("num_samples", num_samples)
        self._check_idle("fit_on_batch")
        if resume is not None:
            self._svi_session("resume=")
        checkpoint, origin = self._origin(resume, rng_key)
        data = all_rows(
            self._ports,
            X,
            _needed(y, self.param_output),
            merge_arguments(self._ports, kwargs, kernel_kwargs),
            allow_nonfinite=allow_nonfinite,
        )
        if self._session is None:
            listeners = _listeners(callbacks, progress)
            steps = _train_options(steps_per_call, on_nonfinite).steps_per_call
            return self._run_chains(data, listeners, steps, origin.keys[0], rng_key, blocking)
        spec = self._session.prepare(data)
        options = FitOptions(
            num_steps=check_positive_int("num_steps", num_steps),
            train=_train_options(steps_per_call, on_nonfinite),
            origin=origin,
            resume=checkpoint,
        )
        return self._train(
            data, spec, None, callbacks, progress, options, num_samples, rng_key, blocking
        )

    def train_on_batch(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        rng_key: jax.Array | None = None,
        n_obs: int | None = None,
        n_pad: int = 0,
        kernel_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> tuple[SVIState, jax.Array]:
        """Run one SVI step on a batch, for loops written by hand.

        Args:
            X: Input of the batch, rows first.
            y: Output of the batch.
            rng_key: For the initial state, if there is none yet; split from the model's by default.
            n_obs: Rows of the whole data, which scale the batch; told once, it is remembered.
            n_pad: Rows at the end that are padding and must not count.
            kernel_kwargs: Kernel arguments whose names are taken by this method.
            **kwargs: Further kernel arguments, as in :meth:`fit`.

        Returns:
            The state after the step, and the loss in nats as a scalar array that is not yet waited
            for.

        Raises:
            CallError: If arguments are missing, unknown or doubled.
            DataError: If the rows do not fit together.
            InferenceError: If the model does MCMC.

        Warns:
            FitWarning: Once, if nobody told ``n_obs``: the kernel is then trained as it is written.

        Example:
            >>> state, loss = im.train_on_batch(X[:20], y[:20], n_obs=40)
            >>> loss.shape
            ()
        """
        session = self._svi_session("train_on_batch")
        self._check_idle("train_on_batch")
        if n_obs is not None:
            self.n_obs = n_obs
        rows, whole, static = rows_and_others(
            self._ports,
            X,
            _needed(y, self.param_output),
            merge_arguments(self._ports, kwargs, kernel_kwargs),
            allow_nonfinite=True,
        )
        size = next(iter(rows.values())).shape[0]
        data = TrainingData(rows, whole, static, n_obs=self._n_obs, batch_size=size)
        key = self._split(rng_key, 1)[0]
        if session.state is None:
            self._advance(rng_key)
        state, loss, self._spec = session.step(data, n_pad, key)
        if self._n_obs is None and not self._said_unscaled:
            self._said_unscaled = True
            _warn_unscaled()
        return state, loss

    def _train(
        self,
        data: TrainingData,
        spec: KernelSpec,
        device: Device | None,
        callbacks: Iterable[Callback],
        progress: Progress,
        options: FitOptions,
        num_samples: int,
        rng_key: jax.Array | None,
        blocking: bool,
    ) -> Self | RunHandle:
        listeners = _listeners(callbacks, progress)
        placement = resolve_placement(self._device, device)
        keys = options.origin.keys
        import_behind("dask.array")  # half a second that the first prediction needs not wait for
        run, trainer = self._session.start(data, spec, placement, listeners, options, keys[0])
        self._last_run, self._spec = run, spec
        self._advance(rng_key)
        self._session.compile_draws(data, keys[2], num_samples, spec)

        def work() -> None:
            try:
                self._session.train(run, trainer)
            finally:
                if run.step:
                    self._keep(data, keys[2], num_samples, run)
                    epochs = 0 if options.num_steps else run.epoch
                    self._epochs_done = options.origin.first_epoch + epochs

        if not blocking:
            return self._in_background(run, trainer, work)
        work()
        warn_of_outcome(run)
        return self

    def _run_chains(
        self,
        data: TrainingData,
        listeners: list[Callback],
        steps_per_call: int | Literal["auto"],
        key: jax.Array,
        rng_key: jax.Array | None,
        blocking: bool,
    ) -> Self | RunHandle:
        run, loop, spec = start_mcmc(
            self._ports, self._inference, data, key, listeners, steps_per_call
        )
        self._last_run = run
        self._advance(rng_key)

        def work() -> None:
            loop.run_to_end()
            if (posterior := loop.posterior(spec)) is None:
                return
            self._spec, self._posterior = spec, posterior
            self._mcmc_schema = InputSchema.of(data)
            self._trained_rows = TrainedRows.of(data.rows, self.param_output)

        if not blocking:
            return self._in_background(run, loop, work)
        work()
        warn_of_chains(run)
        return self

    def _check_idle(self, method: str) -> None:
        if self._handle is not None and not self._handle.done:
            msg = (
                f"{method} has to wait while a run of this model is under way; wait() for its "
                "handle, or stop() it first."
            )
            raise BusyError(msg)

    def _in_background(self, run: Run, loop: Loop, work: Callable[[], None]) -> RunHandle:
        """Begin here, where what listeners display has its place; train on a thread."""
        try:
            loop.begin()
        except BaseException as error:
            loop.fail(error)
            raise
        self._handle = RunHandle(self, run, work)
        return self._handle

    def _keep(self, data: TrainingData, key: jax.Array, num_samples: int, run: Run) -> None:
        """Make a run the model's: its parameters, its losses, and draws from its guide."""
        params = self._session.params
        self._vi_result = SVIRunResult(params, self._session.state, run.losses)
        draws = self._session.draw_for(data, key, params, num_samples, self._spec)
        self._posterior = Posterior(draws, count=num_samples)
        rows = data.rows if data.in_memory else {}
        self._trained_rows = TrainedRows.of(rows, self.param_output)

    def _held_out(
        self,
        validation: Any,
        every: int,
        data: TrainingData,
        allow_nonfinite: bool,
    ) -> HeldOut | None:
        if validation is None:
            return None
        check_positive_int("validation_every", every)
        extra = {**data.whole, **data.static}
        rows = held_out_rows(self._ports, validation, extra, allow_nonfinite=allow_nonfinite)
        return HeldOut(rows, every)

    def _origin(
        self, resume: str | PathLike[str] | None, rng_key: jax.Array | None
    ) -> tuple[Checkpoint | None, Origin]:
        """The checkpoint to go on from, if any, and where the randomness of a fit comes from."""
        if resume is None:
            return None, Origin(self._split(rng_key, 3), self._epochs_done)
        checkpoint = load_checkpoint(resume)
        return checkpoint, checkpoint.origin


def _listeners(callbacks: Iterable[Callback], progress: Progress) -> list[Callback]:
    """The user's listeners, those of every fit, and a display if there is none among them."""
    if isinstance(callbacks, Callback):
        msg = f"callbacks= takes a list of listeners: callbacks=[{type(callbacks).__name__}(...)]."
        raise CallError(msg)
    listeners = [*callbacks, *standing_listeners()]
    if not any(getattr(callback, "kind", "") == "display" for callback in listeners):
        listeners += default_display(progress)
    return listeners


def _train_options(steps_per_call: int | Literal["auto"], on_nonfinite: str) -> TrainOptions:
    if steps_per_call != "auto":
        check_positive_int("steps_per_call", steps_per_call)
    return TrainOptions(steps_per_call, check_choice("on_nonfinite", on_nonfinite, OnNonFinite))


def _needed(outputs: Any, name: str) -> Any:
    if outputs is None:
        msg = f"Training needs the output {name!r}; got None."
        raise CallError(msg)
    return outputs


def _warn_unscaled() -> None:
    msg = (
        "Nobody told how many rows the data has, so the kernel is trained as it is written: unless "
        "it scales its minibatches itself, the posterior will be too wide. Say it once, with "
        "train_on_batch(..., n_obs=N) or by aimz_lab.lab.monitor around an ArrayLoader."
    )
    warnings.warn(msg, FitWarning, stacklevel=3)
