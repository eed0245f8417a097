"""The training methods of a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from os import PathLike
from typing import Any, Literal, Self

import jax
from jax.typing import ArrayLike

from aimz_lab.data.checks import check_positive_int
from aimz_lab.inference.chain_training import ChainModel
from aimz_lab.inference.feeds.inputs import all_rows, needed_output, training_data
from aimz_lab.inference.hand_loop import HandLoopModel
from aimz_lab.inference.request import FitOptions, train_options
from aimz_lab.inference.run.events import Callback
from aimz_lab.inference.run.handle import RunHandle
from aimz_lab.inference.running import RunCall
from aimz_lab.inference.svi.plan import PlanOptions
from aimz_lab.inference.svi_training import SviModel
from aimz_lab.kernel.scaling import Scale, check_scale
from aimz_lab.kernel.signature import merge_arguments
from aimz_lab.types import OnNonFinite, Progress


class TrainableModel(SviModel, ChainModel, HandLoopModel):
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
            steps_per_call: Steps compiled into one call. With ``"auto"`` a call takes about 50 ms,
                and listeners hear of some calls together, ten times a second; with a number they
                hear of each call.
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
            self._kernel,
            X,
            y,
            merge_arguments(self._kernel, kwargs, kernel_kwargs),
            key=origin.keys[1],
            shuffle=shuffle,
            n_obs=n_obs,
            allow_nonfinite=allow_nonfinite,
            first_epoch=origin.first_epoch,
        )
        data, device, spec = self._prepared(make_data, batch_size)
        options = FitOptions(
            epochs=check_positive_int("epochs", epochs),
            plan=PlanOptions(check_scale(scale), check_positive_int("accumulate", accumulate)),
            train=train_options(steps_per_call, on_nonfinite),
            held_out=self._held_out(validation, validation_every, data, allow_nonfinite),
            origin=origin,
            resume=checkpoint,
        )
        call = RunCall(callbacks, progress, rng_key, blocking)
        return self._train(data, spec, device, options, num_samples, call)

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
            self._kernel,
            X,
            needed_output(y, self.param_output),
            merge_arguments(self._kernel, kwargs, kernel_kwargs),
            allow_nonfinite=allow_nonfinite,
        )
        train = train_options(steps_per_call, on_nonfinite)
        call = RunCall(callbacks, progress, rng_key, blocking)
        if self._session is None:
            return self._run_chains(data, train.steps_per_call, origin.keys[0], call)
        spec = self._session.prepare(data)
        options = FitOptions(
            num_steps=check_positive_int("num_steps", num_steps),
            train=train,
            origin=origin,
            resume=checkpoint,
        )
        return self._train(data, spec, None, options, num_samples, call)
