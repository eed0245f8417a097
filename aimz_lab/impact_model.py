"""The façade: one object that fits a kernel, draws from it, and answers what-if questions."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from os import PathLike
from typing import Any, Literal, Self

import jax
import numpy as np
import xarray as xr
from jax.typing import ArrayLike
from numpyro.infer import MCMC, SVI
from numpyro.infer.svi import SVIRunResult, SVIState

from aimz_lab.data import as_typed_key
from aimz_lab.data.checks import check_positive_int
from aimz_lab.effects import estimate_effect, scenarios
from aimz_lab.errors import (
    AimzLabWarning,
    CallError,
    FitWarning,
    GuideError,
    InferenceError,
    NotFittedError,
    SiteError,
)
from aimz_lab.inference.checkpoint import Checkpoint, load_checkpoint
from aimz_lab.inference.describe import describe, describe_html
from aimz_lab.inference.displays import default_display
from aimz_lab.inference.events import Callback, Run
from aimz_lab.inference.inputs import (
    KernelPorts,
    merge_arguments,
    rows_and_others,
    training_data,
)
from aimz_lab.inference.mcmc import run_mcmc
from aimz_lab.inference.placement import resolve_placement
from aimz_lab.inference.plan import PlanOptions, TrainingData
from aimz_lab.inference.posterior import Posterior, as_posterior
from aimz_lab.inference.provenance import Origin
from aimz_lab.inference.session import FitOptions, HeldOut, SviSession, warn_of_outcome
from aimz_lab.inference.train import TrainOptions
from aimz_lab.kernel.check import check_signature
from aimz_lab.kernel.scaling import Scale, check_scale
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.predictive import Predictor, Request, posterior_tree
from aimz_lab.predictive.inputs import predictive_data
from aimz_lab.types import Device, OnNonFinite, Progress, ShardAxis, Store, check_choice

Sites = str | Iterable[str] | None


class ImpactModel:
    """A NumPyro model that can be fitted, watched, and asked what-if questions.

    Args:
        kernel: A function with NumPyro primitives, ``kernel(X, ..., y=None)``.
        rng_key: Where all randomness comes from: ``jax.random.key(0)``.
        inference: A ``numpyro.infer.SVI`` or ``numpyro.infer.MCMC``; or use ``svi``.
        svi: A ``numpyro.infer.SVI``; the same as ``inference``.
        param_input: Name of the kernel's parameter for the input.
        param_output: Name of the kernel's parameter, and of its site, for the output.
        device: A ``jax.Device``, or a ``NamedSharding`` of the rows. It goes before a loader's own.
            ``None`` spreads the rows over all local devices.

    Raises:
        TypeError: If there is no inference object, or more than one, or of another kind.
        KernelError: If the kernel does not take the input and ``output=None`` by keyword.

    Example:
        >>> import numpyro, numpyro.distributions as dist
        >>> from numpyro.infer import SVI, Trace_ELBO
        >>> from numpyro.infer.autoguide import AutoNormal
        >>> def kernel(X, y=None):
        ...     slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
        ...     with numpyro.plate("obs", X.shape[0]):
        ...         numpyro.sample("y", dist.Normal(X * slope, 1.0), obs=y)
        >>> svi = SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(0.1), Trace_ELBO())
        >>> im = ImpactModel(kernel, jax.random.key(0), svi=svi)
        >>> X = np.linspace(-1, 1, 40)
        >>> _ = im.fit(X, 2 * X, epochs=300, progress=False)
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
    ) -> None:
        self._inference = _one_inference(inference, svi)
        check_signature(kernel, param_input, param_output)
        self._ports = KernelPorts(kernel, param_input, param_output)
        self._rng_key = as_typed_key(rng_key)
        self._device = device
        resolve_placement(device)
        self._session = (
            SviSession(kernel, self._inference, param_output)
            if isinstance(self._inference, SVI)
            else None
        )
        self._predictor = Predictor()
        self._spec: KernelSpec | None = None
        self._posterior: Posterior | None = None
        self._vi_result: Any = None
        self._last_run: Run | None = None
        self._n_obs: int | None = None
        self._epochs_done = 0
        self._said_unscaled = False

    # -- What it is --------------------------------------------------------------------------------

    @property
    def kernel(self) -> Callable:
        """The NumPyro model."""
        return self._ports.kernel

    @property
    def inference(self) -> SVI | MCMC:
        """The inference object."""
        return self._inference

    @property
    def param_input(self) -> str:
        """Name of the kernel's parameter for the input."""
        return self._ports.input

    @property
    def param_output(self) -> str:
        """Name of the kernel's parameter for the output."""
        return self._ports.output

    @property
    def rng_key(self) -> jax.Array:
        """The key that the next call without ``rng_key`` splits."""
        return self._rng_key

    @property
    def kernel_spec(self) -> KernelSpec | None:
        """The kernel's structure as last trained, or ``None`` before that."""
        return self._spec

    @property
    def posterior(self) -> dict[str, jax.Array] | None:
        """Posterior draws by site, chain by chain on the leading axis; or ``None``."""
        return dict(self._posterior.draws) if self._posterior else None

    @property
    def last_run(self) -> Run | None:
        """What the last ``fit`` or ``fit_on_batch`` with SVI reported, or ``None``."""
        return self._last_run

    @property
    def n_obs(self) -> int | None:
        """Rows of the data that hand-written loops train on; ``None`` where nobody told."""
        return self._n_obs

    @n_obs.setter
    def n_obs(self, value: int | None) -> None:
        self._n_obs = None if value is None else check_positive_int("n_obs", value)

    @property
    def vi_result(self) -> Any:
        """Parameters and losses of the last training: ``.params`` and ``.losses``.

        Set it after a hand-written loop to anything with these two fields; :meth:`sample` then draws
        with these parameters.
        """
        return self._vi_result

    @vi_result.setter
    def vi_result(self, value: Any) -> None:
        if not (hasattr(value, "params") and hasattr(value, "losses")):
            msg = (
                "vi_result needs the fields params and losses, such as numpyro's SVIRunResult; got "
                f"{type(value).__name__}."
            )
            raise CallError(msg)
        self._vi_result = value

    @property
    def _vi_state(self) -> SVIState | None:
        return self._session.state if self._session else None

    @_vi_state.setter
    def _vi_state(self, state: SVIState | None) -> None:
        self._svi_session("_vi_state").state = state

    def is_fitted(self) -> bool:
        """Whether there are posterior draws to predict with."""
        return self._posterior is not None

    def describe(self) -> dict[str, Any]:
        """Describe kernel and posterior in plain Python values."""
        return describe(self._ports, self._inference, self._spec, self._posterior)

    def __repr__(self) -> str:
        kernel = getattr(self.kernel, "__name__", type(self.kernel).__name__)
        draws = f"{self._posterior.num_draws:,} draws" if self._posterior else "not fitted"
        return f"<ImpactModel {kernel}, {type(self._inference).__name__}, {draws}>"

    def _repr_html_(self) -> str:
        return describe_html(self.describe())

    # -- Training ----------------------------------------------------------------------------------

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
        validation: tuple[Any, Any] | None = None,
        validation_every: int = 1,
        scale: Scale = "auto",
        n_obs: int | None = None,
        steps_per_call: int | Literal["auto"] = "auto",
        accumulate: int = 1,
        on_nonfinite: OnNonFinite = "stop",
        allow_nonfinite: bool = False,
        resume: str | PathLike[str] | None = None,
        kernel_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Train by SVI on minibatches, then draw from the guide.

        The ELBO of a batch is scaled to the whole data, so that the posterior is as wide as all rows
        make it. Training goes on from the state that the model has. An interrupt, a stop and a loss
        that is not finite all keep the last good state, the losses and a posterior from it.

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
            validation: Held-out ``(X, y)``; the loss per row is evaluated on it.
            validation_every: Epochs between two evaluations.
            scale: Weight of a batch's rows: ``"auto"`` for N / B, ``"none"``, or a number.
            n_obs: N, where a stream of batches does not know it.
            steps_per_call: Steps compiled into one call; ``"auto"`` aims at 50 ms.
            accumulate: Batches whose gradients are averaged into one update.
            on_nonfinite: What a loss that is not finite does: ``"stop"``, ``"skip"`` the step, or
                ``"raise"``.
            allow_nonfinite: Accept NaN and infinite values in the data.
            resume: A checkpoint, or a folder of them, to go on from as if the run had never stopped:
                with its state, history, keys and order of rows. All other arguments are those of the
                run that was stopped; ``epochs`` counts from its beginning.
            kernel_kwargs: Kernel arguments whose names are taken by this method.
            **kwargs: Further kernel arguments. Arrays with as many rows as ``X`` are batched with it,
                other arrays pass whole, and plain values are part of the compiled program.

        Returns:
            The model.

        Raises:
            CallError: If arguments are missing, unknown or doubled.
            DataError: If the data does not fit together or is not finite.
            InferenceError: If the model does MCMC, which :meth:`fit_on_batch` runs.
            GuideError: If the guide cannot be trained on minibatches.
            CheckpointError: If there is no complete checkpoint, or it is another run's.
            NonFiniteLossError: With ``on_nonfinite="raise"``.

        Warns:
            FitWarning: If the run was interrupted or diverged.
        """
        self._svi_session("fit")
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
        self._advance(rng_key)
        self._train(data, spec, device, callbacks, progress, options, num_samples)
        self._epochs_done = origin.first_epoch + self._last_run.epoch
        return self

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
        kernel_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Train on all rows at once: SVI steps, or an MCMC run.

        Args:
            X: Input array, rows first.
            y: Output array.
            num_steps: SVI steps; MCMC has its own number.
            num_samples: Posterior draws to make by SVI; MCMC has its own number.
            rng_key: Key of this call; split from the model's by default.
            progress: As in :meth:`fit`.
            callbacks: Listeners of an SVI run.
            steps_per_call: As in :meth:`fit`.
            on_nonfinite: As in :meth:`fit`.
            allow_nonfinite: Accept NaN and infinite values in the data.
            resume: As in :meth:`fit`; ``num_steps`` counts from the beginning of the run. SVI only.
            kernel_kwargs: Kernel arguments whose names are taken by this method.
            **kwargs: Further kernel arguments, as in :meth:`fit`.

        Returns:
            The model.

        Raises:
            CallError: If arguments are missing, unknown or doubled.
            DataError: If the data does not fit together or is not finite.
            CheckpointError: If there is no complete checkpoint, or it is another run's.
            NonFiniteLossError: With ``on_nonfinite="raise"``.

        Warns:
            FitWarning: If the run was interrupted or diverged.
        """
        check_positive_int("num_samples", num_samples)
        if resume is not None:
            self._svi_session("resume=")
        checkpoint, origin = self._origin(resume, rng_key)
        rows, whole, static = rows_and_others(
            self._ports,
            X,
            _needed(y, self.param_output),
            merge_arguments(self._ports, kwargs, kernel_kwargs),
            allow_nonfinite=allow_nonfinite,
        )
        n_rows = next(iter(rows.values())).shape[0]
        data = TrainingData(rows, whole, static, n_obs=n_rows, batch_size=n_rows)
        if self._session is None:
            posterior, spec = run_mcmc(self._ports, self._inference, data, origin.keys[0], progress)
            self._advance(rng_key)
            self._spec, self._posterior = spec, posterior
            return self
        spec = self._session.prepare(data)
        options = FitOptions(
            num_steps=check_positive_int("num_steps", num_steps),
            train=_train_options(steps_per_call, on_nonfinite),
            origin=origin,
            resume=checkpoint,
        )
        self._advance(rng_key)
        self._train(data, spec, None, callbacks, progress, options, num_samples)
        return self

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
        """
        session = self._svi_session("train_on_batch")
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

    # -- The posterior -----------------------------------------------------------------------------

    def sample(
        self,
        *,
        num_samples: int = 1000,
        rng_key: jax.Array | None = None,
        return_sites: Sites = None,
        return_datatree: bool = True,
        **kwargs: Any,
    ) -> xr.DataTree | dict[str, jax.Array]:
        """Draw from the guide with the parameters of :attr:`vi_result`; or the MCMC's draws.

        Args:
            num_samples: Number of draws; an MCMC run has its own.
            rng_key: Key of this call; split from the model's by default.
            return_sites: Sites to return; by default the kernel's latent sites.
            return_datatree: Return a labelled tree, or a dict of arrays ``(num_samples, ...)``.
            **kwargs: Arguments of the guide, where it takes the kernel's.

        Raises:
            NotFittedError: If nothing was trained.
            SiteError: If a site that is named is not among the draws.
        """
        if self._session is None:
            draws = self._fitted("sample").draws
        else:
            draws = self._draw(num_samples, self._split(rng_key, 1)[0], kwargs)
            self._advance(rng_key)
        draws = _choose(draws, return_sites)
        if not return_datatree:
            return draws
        chains = self._posterior.num_chains if self._session is None else 1
        return posterior_tree(draws, chains, spec=self._spec)

    def set_posterior_sample(
        self, posterior_sample: Mapping[str, ArrayLike], *, num_chains: int = 1
    ) -> Self:
        """Give the model posterior draws that were made elsewhere.

        Args:
            posterior_sample: Arrays by site, draws on the leading axis, chain by chain.
            num_chains: Chains that they are stacked from.

        Returns:
            The model, which is now fitted.

        Raises:
            SiteError: If the draws do not fit together.

        Warns:
            AimzLabWarning: If the output is among them; it is left out.
        """
        draws = dict(posterior_sample)
        if draws.pop(self.param_output, None) is not None:
            msg = f"{self.param_output!r} is the output and no part of the posterior; left out."
            warnings.warn(msg, AimzLabWarning, stacklevel=2)
        self._posterior = as_posterior(draws, num_chains)
        return self

    # -- Predictions -------------------------------------------------------------------------------

    def predict(
        self,
        X: Any,
        *,
        intervention: Mapping[str, ArrayLike] | None = None,
        condition: Mapping[str, ArrayLike] | None = None,
        rng_key: jax.Array | None = None,
        in_sample: bool = True,
        return_sites: Sites = None,
        shard_axis: ShardAxis = "obs",
        batch_size: int | None = None,
        store: Store = "memory",
        progress: bool = True,
        allow_nonfinite: bool = False,
        kernel_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> xr.DataTree:
        """Predict the output, with the noise of each row fixed by the key alone.

        Args:
            X: Input array, a dataset, a loader, or any source of batches.
            intervention: Values by site; the sites are cut from what they depend on.
            condition: Values that sites take while sampling.
            rng_key: Key of this call; split from the model's by default.
            in_sample: Whether the group is ``posterior_predictive`` or ``predictions``.
            return_sites: Sites to return; by default the output and the deterministic sites.
            shard_axis: ``"obs"`` cuts the rows into blocks, ``"draw"`` keeps them together.
            batch_size: Rows at a time; never changes a result.
            store: Where the result lives.
            progress: Whether to show progress.
            allow_nonfinite: Accept NaN and infinite values in the data.
            kernel_kwargs: Kernel arguments whose names are taken by this method.
            **kwargs: Further kernel arguments, as in :meth:`fit`.

        Returns:
            The predictive group and the posterior.

        Raises:
            NotFittedError: If there is no posterior.
            SiteError: If a site that is named does not exist or does not fit.
            CallError: If arguments are missing, unknown or doubled.
            DataError: If the data does not fit together or is not finite.
        """
        return self._predictor.predict(
            self._request(
                X,
                None,
                merge_arguments(self._ports, kwargs, kernel_kwargs),
                posterior=self._fitted("predict"),
                rng_key=rng_key,
                group="posterior_predictive" if in_sample else "predictions",
                intervention=_mapping("intervention", intervention),
                condition=_mapping("condition", condition),
                return_sites=_names(return_sites),
                shard_axis=check_choice("shard_axis", shard_axis, ShardAxis),
                batch_size=batch_size,
                store=check_choice("store", store, Store),
                progress=progress,
                allow_nonfinite=allow_nonfinite,
            )
        )

    def predict_on_batch(
        self,
        X: ArrayLike,
        *,
        intervention: Mapping[str, ArrayLike] | None = None,
        condition: Mapping[str, ArrayLike] | None = None,
        rng_key: jax.Array | None = None,
        in_sample: bool = True,
        return_sites: Sites = None,
        return_datatree: bool = True,
        allow_nonfinite: bool = False,
        kernel_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> xr.DataTree | dict[str, np.ndarray]:
        """Predict the output for one batch, in memory and without progress.

        Args:
            X: Input array; a ``(batch, ...)`` array or a mapping of fields.
            intervention: As in :meth:`predict`.
            condition: As in :meth:`predict`.
            rng_key: As in :meth:`predict`.
            in_sample: As in :meth:`predict`.
            return_sites: As in :meth:`predict`.
            return_datatree: Return a tree, or a dict of arrays ``(num_draws, batch_size, ...)``.
            allow_nonfinite: Accept NaN and infinite values in the data.
            kernel_kwargs: Kernel arguments whose names are taken by this method.
            **kwargs: Further kernel arguments, as in :meth:`fit`.

        Raises:
            NotFittedError: If there is no posterior.
            SiteError: If a site that is named does not exist or does not fit.
        """
        request = self._request(
            X,
            None,
            merge_arguments(self._ports, kwargs, kernel_kwargs),
            posterior=self._fitted("predict_on_batch"),
            rng_key=rng_key,
            group="posterior_predictive" if in_sample else "predictions",
            intervention=_mapping("intervention", intervention),
            condition=_mapping("condition", condition),
            return_sites=_names(return_sites),
            allow_nonfinite=allow_nonfinite,
        )
        if return_datatree:
            return self._predictor.predict(request)
        return self._predictor.predict_arrays(request)

    def log_likelihood(
        self,
        X: Any,
        y: ArrayLike | None = None,
        *,
        shard_axis: ShardAxis = "obs",
        batch_size: int | None = None,
        store: Store = "memory",
        progress: bool = True,
        allow_nonfinite: bool = False,
        kernel_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> xr.DataTree:
        """Log-likelihood of the output in nats, for each draw and row.

        Args:
            X: Input array, a dataset, a loader, or any source of batches.
            y: Output array; comes with the batches otherwise.
            shard_axis: As in :meth:`predict`.
            batch_size: As in :meth:`predict`.
            store: As in :meth:`predict`.
            progress: As in :meth:`predict`.
            allow_nonfinite: Accept NaN and infinite values in the data.
            kernel_kwargs: Kernel arguments whose names are taken by this method.
            **kwargs: Further kernel arguments, as in :meth:`fit`.

        Returns:
            The group ``log_likelihood`` and the posterior.

        Raises:
            NotFittedError: If there is no posterior.
            CallError: If arguments are missing, unknown or doubled.
            DataError: If the data does not fit together or is not finite.
        """
        return self._predictor.log_likelihood(
            self._request(
                X,
                y,
                merge_arguments(self._ports, kwargs, kernel_kwargs),
                posterior=self._fitted("log_likelihood"),
                rng_key=self._rng_key,
                group="log_likelihood",
                with_output=True,
                shard_axis=check_choice("shard_axis", shard_axis, ShardAxis),
                batch_size=batch_size,
                store=check_choice("store", store, Store),
                progress=progress,
                allow_nonfinite=allow_nonfinite,
            )
        )

    def estimate_effect(
        self,
        output_baseline: xr.DataTree | None = None,
        output_intervention: xr.DataTree | None = None,
        args_baseline: Mapping[str, Any] | None = None,
        args_intervention: Mapping[str, Any] | None = None,
        *,
        on_batch: bool = False,
    ) -> xr.DataTree:
        """Effect of an intervention: its draws minus those of the baseline, with the same noise.

        Args:
            output_baseline: Predictions of the baseline.
            output_intervention: Predictions under the intervention.
            args_baseline: Arguments of :meth:`predict` for the baseline, instead of its output.
            args_intervention: Arguments of :meth:`predict` for the intervention.
            on_batch: Use :meth:`predict_on_batch`.

        Returns:
            The effect by site in the predictive group, and the posterior.

        Raises:
            ArgumentError: If a scenario has neither output nor arguments.
            DataError: If the scenarios differ in shape.

        Warns:
            OutputWarning: If the scenarios are not paired.
        """
        predict = self.predict_on_batch if on_batch else partial(self.predict, progress=False)
        baseline, intervention = scenarios(
            predict,
            (output_baseline, output_intervention),
            (args_baseline, args_intervention),
            self._take_key,
        )
        return estimate_effect(baseline, intervention)

    # -- Inside ------------------------------------------------------------------------------------

    def _request(
        self,
        inputs: Any,
        outputs: Any,
        extra: Mapping[str, Any],
        *,
        posterior: Posterior | None,
        rng_key: jax.Array | None,
        allow_nonfinite: bool,
        with_output: bool = False,
        **options: Any,
    ) -> Request:
        data = predictive_data(
            self._ports,
            inputs,
            outputs,
            extra,
            with_output=with_output,
            allow_nonfinite=allow_nonfinite,
        )
        request = Request(
            kernel=self.kernel,
            output=self.param_output,
            key=self._split(rng_key, 1)[0] if rng_key is None else as_typed_key(rng_key),
            rows=data.rows,
            fields=data.fields,
            whole=data.whole,
            static=data.static,
            draws=posterior.draws if posterior else None,
            num_chains=posterior.num_chains if posterior else 1,
            params=self._param_sites(),
            row_coord=data.row_coord,
            devices=resolve_placement(self._device).devices,
            **options,
        )
        self._advance(rng_key)
        return request

    def _param_sites(self) -> dict[str, Any]:
        """Learned values of the kernel's own ``param`` sites, and its mutable state."""
        params = dict(getattr(self._vi_result, "params", None) or {})
        if self._spec is not None:
            params = {name: params[name] for name in self._spec.of_kind("param") if name in params}
        state = self._vi_state
        return {**params, **((state.mutable_state if state else None) or {})}

    def _train(
        self,
        data: TrainingData,
        spec: KernelSpec,
        device: Device | None,
        callbacks: Iterable[Callback],
        progress: Progress,
        options: FitOptions,
        num_samples: int,
    ) -> None:
        listeners = list(callbacks)
        if not any(getattr(callback, "kind", "") == "display" for callback in listeners):
            listeners += default_display(progress)
        placement = resolve_placement(self._device, device)
        self._spec = spec
        keys = options.origin.keys
        runs: list[Run] = []
        try:
            self._session.fit(data, spec, placement, listeners, options, keys[0], runs.append)
        finally:
            if runs:
                self._last_run = runs[0]
            if runs and runs[0].step:
                self._keep(data, keys[2], num_samples, runs[0])
        warn_of_outcome(self._last_run)

    def _keep(self, data: TrainingData, key: jax.Array, num_samples: int, run: Run) -> None:
        """Make a run the model's: its parameters, its losses, and draws from its guide."""
        params = self._session.params
        self._vi_result = SVIRunResult(params, self._session.state, run.losses)
        draws = self._session.draw_for(data, key, params, num_samples, self._spec)
        self._posterior = Posterior(draws)

    def _draw(self, num_samples: int, key: jax.Array, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        check_positive_int("num_samples", num_samples)
        session = self._svi_session("sample")
        params = getattr(self._vi_result, "params", None) or session.params
        if not params and session.state is None:
            msg = "Nothing was trained yet; call fit, fit_on_batch or train_on_batch first."
            raise NotFittedError(msg)
        return session.draw(key, params, num_samples, kwargs, self._spec)

    def _fitted(self, method: str) -> Posterior:
        if self._posterior is None:
            msg = (
                f"{method} needs a posterior; call fit, fit_on_batch or set_posterior_sample first."
            )
            raise NotFittedError(msg)
        return self._posterior

    def _svi_session(self, method: str) -> SviSession:
        if self._session is None:
            msg = (
                f"{method} works on minibatches or steps of SVI, and this model does MCMC; call "
                "fit_on_batch(X, y)."
            )
            raise InferenceError(msg)
        return self._session

    def _held_out(
        self,
        validation: tuple[Any, Any] | None,
        every: int,
        data: TrainingData,
        allow_nonfinite: bool,
    ) -> HeldOut | None:
        if validation is None:
            return None
        check_positive_int("validation_every", every)
        if not (isinstance(validation, tuple) and len(validation) == 2):
            msg = "validation= takes a pair of held-out arrays: validation=(X_val, y_val)."
            raise CallError(msg)
        extra = {**data.whole, **data.static}
        rows, _, _ = rows_and_others(
            self._ports, *validation, extra, allow_nonfinite=allow_nonfinite
        )
        return HeldOut(rows, every)

    def _origin(
        self, resume: str | PathLike[str] | None, rng_key: jax.Array | None
    ) -> tuple[Checkpoint | None, Origin]:
        """The checkpoint to go on from, if any, and where the randomness of a fit comes from."""
        if resume is None:
            return None, Origin(self._split(rng_key, 3), self._epochs_done)
        checkpoint = load_checkpoint(resume)
        return checkpoint, checkpoint.origin

    def _split(self, rng_key: jax.Array | None, count: int) -> jax.Array:
        """Keys for one call; the model's own key only moves on in :meth:`_commit`."""
        key = self._rng_key if rng_key is None else as_typed_key(rng_key)
        return jax.random.split(jax.random.fold_in(key, 0), count)

    def _advance(self, rng_key: jax.Array | None) -> None:
        """Move the model's key on, once a call that used it has passed its checks."""
        if rng_key is None:
            self._rng_key = jax.random.fold_in(self._rng_key, 1)

    def _take_key(self) -> jax.Array:
        key = self._split(None, 1)[0]
        self._advance(None)
        return key


def _one_inference(inference: Any, svi: Any) -> SVI | MCMC:
    if (inference is None) == (svi is None):
        given = "neither" if inference is None else "both"
        msg = (
            f"ImpactModel takes one inference object, as inference= or svi=; got {given}. For "
            "example svi=SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(0.01), Trace_ELBO())."
        )
        raise InferenceError(msg)
    chosen = svi if inference is None else inference
    allowed = (SVI, MCMC) if svi is None else (SVI,)
    if not isinstance(chosen, allowed):
        names = " or ".join(f"numpyro.infer.{kind.__name__}" for kind in allowed)
        msg = f"The inference object must be a {names}; got {type(chosen).__name__}."
        raise InferenceError(msg)
    if isinstance(chosen, SVI) and chosen.static_kwargs:
        listed = ", ".join(chosen.static_kwargs)
        msg = f"SVI was given static arguments ({listed}); pass them to fit and predict instead."
        raise InferenceError(msg)
    return chosen


def _train_options(steps_per_call: int | Literal["auto"], on_nonfinite: str) -> TrainOptions:
    if steps_per_call != "auto":
        check_positive_int("steps_per_call", steps_per_call)
    return TrainOptions(steps_per_call, check_choice("on_nonfinite", on_nonfinite, OnNonFinite))


def _needed(outputs: Any, name: str) -> Any:
    if outputs is None:
        msg = f"Training needs the output {name!r}; got None."
        raise CallError(msg)
    return outputs


def _mapping(name: str, value: Mapping[str, Any] | None) -> dict[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        msg = (
            f"{name}= takes a mapping from sites to values; got {type(value).__name__}. If the kernel "
            f"has an argument of that name, pass it in kernel_kwargs={{{name!r}: ...}}."
        )
        raise CallError(msg)
    return dict(value or {})


def _names(sites: Sites) -> tuple[str, ...] | None:
    return None if sites is None else (sites,) if isinstance(sites, str) else tuple(sites)


def _choose(draws: Mapping[str, jax.Array], sites: Sites) -> dict[str, jax.Array]:
    names = _names(sites)
    unknown = [name for name in names or () if name not in draws]
    if unknown:
        msg = f"The draws have no site {unknown[0]!r}; they have {', '.join(draws)}."
        raise SiteError(msg)
    return {name: draws[name] for name in (names or draws)}


def _warn_unscaled() -> None:
    msg = (
        "Nobody told how many rows the data has, so the kernel is trained as it is written: unless "
        "it scales its minibatches itself, the posterior will be too wide. Say it once, with "
        "train_on_batch(..., n_obs=N) or by aimz_lab.lab.monitor around an ArrayLoader."
    )
    warnings.warn(msg, FitWarning, stacklevel=3)
