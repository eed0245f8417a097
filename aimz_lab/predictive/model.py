"""The methods of a model that draw: from its posterior, and what that predicts."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import cached_property
from os import PathLike
from typing import Any
from weakref import WeakValueDictionary

import jax
import numpy as np
import xarray as xr
from jax.typing import ArrayLike

from aimz_lab.data import as_typed_key
from aimz_lab.data.checks import check_positive_int
from aimz_lab.errors import ArgumentError, CallError, NotFittedError, SiteError
from aimz_lab.inference.base import Sites, site_names
from aimz_lab.inference.inputs import all_rows, merge_arguments
from aimz_lab.inference.mcmc import continue_mcmc
from aimz_lab.inference.persistence import StorableModel
from aimz_lab.inference.placement import resolve_placement
from aimz_lab.inference.plan import trace_data
from aimz_lab.inference.posterior import Posterior
from aimz_lab.kernel.check import parameter_names
from aimz_lab.predictive.indices import IndexCheck
from aimz_lab.predictive.inputs import predictive_data
from aimz_lab.predictive.known import known_data
from aimz_lab.predictive.predictor import Predictor
from aimz_lab.predictive.request import Group, Request
from aimz_lab.predictive.store import Owner
from aimz_lab.predictive.tree import posterior_tree, stats_group
from aimz_lab.types import ShardAxis, Store, check_choice


class PredictiveModel(StorableModel):
    """A model that can be drawn from; see :class:`aimz_lab.ImpactModel`."""

    def sample(
        self,
        *,
        num_samples: int = 1000,
        rng_key: jax.Array | None = None,
        return_sites: Sites = None,
        return_datatree: bool = True,
        **kwargs: Any,
    ) -> xr.DataTree | dict[str, jax.Array]:
        """Draw from the guide with the parameters of :attr:`vi_result`, or let MCMC go on.

        Under MCMC, the kernel's arguments let the chains go on from where they are, and without
        any the draws of the run come back. The model's own posterior stays as it is.

        Args:
            num_samples: Number of draws; of each chain, and before thinning, where MCMC goes on.
            rng_key: Key of this call; split from the model's by default. Chains have their own.
            return_sites: Sites to return; by default the kernel's latent sites.
            return_datatree: Return a labelled tree, or a dict of arrays ``(num_samples, ...)``.
            **kwargs: Arguments of the guide, where it takes the kernel's; all those of the kernel,
                where MCMC is to go on.

        Raises:
            NotFittedError: If nothing was trained.
            SiteError: If a site that is named is not among the draws.
        """
        if self._session is None:
            posterior = self._chains(num_samples, kwargs)
        else:
            posterior = Posterior(self._draw(num_samples, self._split(rng_key, 1)[0], kwargs))
            self._advance(rng_key)
        draws = _choose(posterior.draws, return_sites)
        if not return_datatree:
            return draws
        return posterior_tree(draws, posterior.num_chains, stats=posterior.stats, spec=self._spec)

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
        store: Store = "persistent",
        output_dir: str | PathLike[str] | None = None,
        reduce: Any = None,
        dims: Mapping[str, Sequence[str]] | None = None,
        coords: Mapping[str, Any] | None = None,
        progress: bool = True,
        allow_nonfinite: bool = False,
        kernel_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> xr.DataTree:
        """Predict the output; the noise of a row follows from the key and the row's place alone.

        Args:
            X: Input array, a dataset, a loader, or any source of batches. A loader that shuffles is
                read in the order of its first epoch.
            intervention: Values by site; the sites are cut from what they depend on.
            condition: Values that sites take while sampling.
            rng_key: Key of this call; split from the model's by default.
            in_sample: Whether the group is ``posterior_predictive`` or ``predictions``.
            return_sites: Sites to return; by default the output and the deterministic sites.
            shard_axis: ``"obs"`` cuts the rows into blocks, ``"draw"`` keeps them together.
            batch_size: Rows at a time (draws at a time under ``"draw"``); never changes a result.
            store: ``"persistent"`` writes to disk while it computes, ``"memory"`` keeps all.
            output_dir: Directory or URL to write to; by default a temporary one, which lasts as
                long as the tree that reads it.
            reduce: Reducers that summarise on the fly; the draws are then not kept.
            dims: Names of a site's dimensions beside chain, draw and rows, by site.
            coords: Labels by dimension.
            progress: Whether to show progress.
            allow_nonfinite: Accept NaN and infinite values in the data.
            kernel_kwargs: Kernel arguments whose names are taken by this method.
            **kwargs: Further kernel arguments, as in :meth:`fit`.

        Returns:
            The predictive group, the posterior, and the data: ``constant_data`` of inputs in
            memory, up to 128 MiB, and ``observed_data`` where the output is known, because ``X`` is
            a dataset or a loader that has it, or because these are the rows that the model was
            trained on.

        Raises:
            NotFittedError: If there is no posterior.
            SiteError: If a site that is named does not exist or does not fit.
            CallError: If arguments are missing, unknown or doubled.
            DataError: If the data does not fit together or is not finite.
        """
        request = self._request(
            X,
            kwargs,
            kernel_kwargs,
            posterior=self._fitted("predict"),
            rng_key=rng_key,
            group="posterior_predictive" if in_sample else "predictions",
            intervention=intervention,
            condition=condition,
            return_sites=return_sites,
            shard_axis=shard_axis,
            batch_size=batch_size,
            store=store,
            output_dir=output_dir,
            reduce=reduce,
            dims=dims,
            coords=coords,
            progress=progress,
            allow_nonfinite=allow_nonfinite,
        )
        return self._done(self._predictor.predict(request), rng_key)

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
        dims: Mapping[str, Sequence[str]] | None = None,
        coords: Mapping[str, Any] | None = None,
        allow_nonfinite: bool = False,
        kernel_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> xr.DataTree | dict[str, np.ndarray]:
        """Predict the output for one batch: in memory, and without showing progress.

        Args:
            X: Input of the batch, rows first; or the mapping of fields that a loader yields.
            intervention: As in :meth:`predict`.
            condition: As in :meth:`predict`.
            rng_key: As in :meth:`predict`.
            in_sample: As in :meth:`predict`.
            return_sites: As in :meth:`predict`.
            return_datatree: Return a tree, or a dict of arrays ``(num_draws, batch_size, ...)``.
            dims: As in :meth:`predict`.
            coords: As in :meth:`predict`.
            allow_nonfinite: As in :meth:`predict`.
            kernel_kwargs: As in :meth:`predict`.
            **kwargs: Further kernel arguments, as in :meth:`fit`.

        Raises:
            NotFittedError: If there is no posterior.
            SiteError: If a site that is named does not exist or does not fit.
        """
        request = self._request(
            X,
            kwargs,
            kernel_kwargs,
            posterior=self._fitted("predict_on_batch"),
            rng_key=rng_key,
            group="posterior_predictive" if in_sample else "predictions",
            intervention=intervention,
            condition=condition,
            return_sites=return_sites,
            dims=dims,
            coords=coords,
            allow_nonfinite=allow_nonfinite,
        )
        return self._done(self._result(request, return_datatree), rng_key)

    def sample_posterior_predictive(
        self, X: Any, *, store: Store = "persistent", **options: Any
    ) -> xr.DataTree:
        """Draw from the posterior predictive distribution: :meth:`predict` by its other name.

        Args:
            X: As in :meth:`predict`.
            store: As in :meth:`predict`.
            **options: As in :meth:`predict`, but for ``in_sample``.

        Returns:
            The groups ``posterior_predictive`` and ``posterior``.

        Raises:
            NotFittedError: If there is no posterior.
        """
        return self.predict(X, store=store, **_without_in_sample(options))

    def sample_posterior_predictive_on_batch(
        self, X: ArrayLike, *, return_datatree: bool = True, **options: Any
    ) -> xr.DataTree | dict[str, np.ndarray]:
        """Draw from the posterior predictive distribution of one batch.

        Args:
            X: As in :meth:`predict_on_batch`.
            return_datatree: As in :meth:`predict_on_batch`.
            **options: As in :meth:`predict_on_batch`, but for ``in_sample``.

        Raises:
            NotFittedError: If there is no posterior.
        """
        return self.predict_on_batch(
            X, return_datatree=return_datatree, **_without_in_sample(options)
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
        batch_size: int | None = None,
        store: Store = "persistent",
        output_dir: str | PathLike[str] | None = None,
        reduce: Any = None,
        dims: Mapping[str, Sequence[str]] | None = None,
        coords: Mapping[str, Any] | None = None,
        progress: bool = True,
        allow_nonfinite: bool = False,
        kernel_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> xr.DataTree:
        """Draw from the prior predictive distribution; no fit is needed.

        Args:
            X: As in :meth:`predict`.
            intervention: As in :meth:`predict`.
            num_samples: Number of draws.
            rng_key: As in :meth:`predict`.
            return_sites: As in :meth:`predict`.
            shard_axis: As in :meth:`predict`.
            batch_size: As in :meth:`predict`.
            store: As in :meth:`predict`.
            output_dir: As in :meth:`predict`.
            reduce: As in :meth:`predict`.
            dims: As in :meth:`predict`.
            coords: As in :meth:`predict`.
            progress: As in :meth:`predict`.
            allow_nonfinite: As in :meth:`predict`.
            kernel_kwargs: As in :meth:`predict`.
            **kwargs: Further kernel arguments, as in :meth:`fit`.

        Returns:
            The group ``prior_predictive``.

        Raises:
            SiteError: If a site that is named does not exist.
        """
        request = self._request(
            X,
            kwargs,
            kernel_kwargs,
            posterior=None,
            num_draws=check_positive_int("num_samples", num_samples),
            rng_key=rng_key,
            group="prior_predictive",
            intervention=intervention,
            return_sites=return_sites,
            shard_axis=shard_axis,
            batch_size=batch_size,
            store=store,
            output_dir=output_dir,
            reduce=reduce,
            dims=dims,
            coords=coords,
            progress=progress,
            allow_nonfinite=allow_nonfinite,
        )
        return self._done(self._predictor.predict(request), rng_key)

    def sample_prior_predictive_on_batch(
        self,
        X: ArrayLike,
        *,
        intervention: Mapping[str, ArrayLike] | None = None,
        num_samples: int = 1000,
        rng_key: jax.Array | None = None,
        return_sites: Sites = None,
        return_datatree: bool = True,
        dims: Mapping[str, Sequence[str]] | None = None,
        coords: Mapping[str, Any] | None = None,
        allow_nonfinite: bool = False,
        kernel_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> xr.DataTree | dict[str, np.ndarray]:
        """Draw from the prior predictive distribution of one batch.

        Args:
            X: As in :meth:`predict_on_batch`.
            intervention: As in :meth:`predict`.
            num_samples: Number of draws.
            rng_key: As in :meth:`predict`.
            return_sites: As in :meth:`predict`.
            return_datatree: As in :meth:`predict_on_batch`.
            dims: As in :meth:`predict`.
            coords: As in :meth:`predict`.
            allow_nonfinite: As in :meth:`predict`.
            kernel_kwargs: As in :meth:`predict`.
            **kwargs: Further kernel arguments, as in :meth:`fit`.

        Raises:
            SiteError: If a site that is named does not exist.
        """
        request = self._request(
            X,
            kwargs,
            kernel_kwargs,
            posterior=None,
            num_draws=check_positive_int("num_samples", num_samples),
            rng_key=rng_key,
            group="prior_predictive",
            intervention=intervention,
            return_sites=return_sites,
            dims=dims,
            coords=coords,
            allow_nonfinite=allow_nonfinite,
        )
        return self._done(self._result(request, return_datatree), rng_key)

    def log_likelihood(
        self,
        X: Any,
        y: ArrayLike | None = None,
        *,
        shard_axis: ShardAxis = "obs",
        batch_size: int | None = None,
        store: Store = "persistent",
        output_dir: str | PathLike[str] | None = None,
        reduce: Any = None,
        dims: Mapping[str, Sequence[str]] | None = None,
        coords: Mapping[str, Any] | None = None,
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
            output_dir: As in :meth:`predict`.
            reduce: As in :meth:`predict`.
            dims: As in :meth:`predict`.
            coords: As in :meth:`predict`.
            progress: As in :meth:`predict`.
            allow_nonfinite: As in :meth:`predict`.
            kernel_kwargs: As in :meth:`predict`.
            **kwargs: Further kernel arguments, as in :meth:`fit`.

        Returns:
            The groups ``log_likelihood``, ``observed_data`` and ``posterior``.

        Raises:
            NotFittedError: If there is no posterior.
            CallError: If arguments are missing, unknown or doubled.
            DataError: If the data does not fit together or is not finite.
        """
        request = self._request(
            X,
            kwargs,
            kernel_kwargs,
            outputs=y,
            posterior=self._fitted("log_likelihood"),
            rng_key=self._rng_key,
            group="log_likelihood",
            shard_axis=shard_axis,
            batch_size=batch_size,
            store=store,
            output_dir=output_dir,
            reduce=reduce,
            dims=dims,
            coords=coords,
            progress=progress,
            allow_nonfinite=allow_nonfinite,
        )
        return self._done(self._predictor.log_likelihood(request), self._rng_key)

    @cached_property
    def _predictor(self) -> Predictor:
        return Predictor()

    def _done(self, result: Any, rng_key: jax.Array | None) -> Any:
        """Move the model's key on once a call has succeeded; a refused one changes nothing."""
        self._advance(rng_key)
        owner = result.encoding.get("owner") if isinstance(result, xr.DataTree) else None
        if owner is not None:
            self._temporary[1 + max(self._temporary, default=0)] = owner
        return result

    @cached_property
    def _temporary(self) -> WeakValueDictionary[int, Owner]:
        """Owners of the temporary results that are still read, by their number."""
        return WeakValueDictionary()

    def __getstate__(self) -> dict[str, Any]:
        return {name: v for name, v in super().__getstate__().items() if name != "_temporary"}

    @property
    def temp_dir(self) -> str | None:
        """Directory of the latest temporary result that is still read, or ``None``.

        A result that was written without ``output_dir`` has a directory of its own, which goes with
        the last tree that reads it.
        """
        alive = {n: owner for n, owner in self._temporary.items() if owner in Owner.alive}
        return str(alive[max(alive)].path) if alive else None

    def cleanup(self) -> None:
        """Remove the temporary results of this model from disk now.

        There is no need to: each goes with the last tree that reads it. Trees that are in memory,
        as small ones are, stay as they are; a larger one that still reads raises
        :class:`~aimz_lab.errors.ArtifactGoneError`. What was written to an ``output_dir`` stays.
        """
        for owner in list(self._temporary.values()):
            owner.remove()
        self._temporary.clear()

    @classmethod
    def cleanup_models(cls) -> None:
        """Remove the temporary results of all models from disk now; see :meth:`cleanup`."""
        for owner in list(Owner.alive):
            owner.remove()

    @cached_property
    def _indices(self) -> IndexCheck:
        return IndexCheck(self.kernel)

    def _result(
        self, request: Request, return_datatree: bool
    ) -> xr.DataTree | dict[str, np.ndarray]:
        if return_datatree:
            return self._predictor.predict(request)
        return self._predictor.predict_arrays(request)

    def _request(
        self,
        inputs: Any,
        kwargs: Mapping[str, Any],
        kernel_kwargs: Mapping[str, Any] | None,
        *,
        posterior: Posterior | None,
        rng_key: jax.Array | None,
        allow_nonfinite: bool,
        group: Group,
        outputs: Any = None,
        intervention: Mapping[str, Any] | None = None,
        condition: Mapping[str, Any] | None = None,
        return_sites: Sites = None,
        batch_size: int | None = None,
        store: Store = "memory",
        shard_axis: ShardAxis = "obs",
        output_dir: str | PathLike[str] | None = None,
        dims: Mapping[str, Sequence[str]] | None = None,
        **options: Any,
    ) -> Request:
        """Check the arguments of a call and put them into a request."""
        check_choice("store", store, Store)
        check_choice("shard_axis", shard_axis, ShardAxis)
        if batch_size is not None:
            check_positive_int("batch_size", batch_size)
        if output_dir is not None and store == "memory":
            msg = "output_dir= is where a persistent result goes; leave it out, or store= as it is."
            raise ArgumentError(msg)
        data = predictive_data(
            self._ports,
            inputs,
            outputs,
            merge_arguments(self._ports, kwargs, kernel_kwargs),
            with_output=group == "log_likelihood",
            allow_nonfinite=allow_nonfinite,
        )
        params = self._param_sites()
        rows = self._indices.rows(
            data.rows,
            fields=data.fields,
            whole=data.whole,
            static=data.static,
            values=params,
        )
        if posterior is not None:
            options["groups"] = stats_group(posterior.stats, posterior.num_chains)
            options["num_draws"] = posterior.num_draws
        known = known_data(
            inputs, data.rows, self.param_output, parameter_names(self.kernel), self._trained_rows
        )
        # Under an intervention, and out of the sample, nothing was observed.
        in_sample = group in ("posterior_predictive", "log_likelihood")
        factual = in_sample and not intervention and not condition
        return Request(
            observed=known.observed if factual else None,
            constant=known.constant,
            kernel=self.kernel,
            output=self.param_output,
            key=as_typed_key(rng_key) if rng_key is not None else self._split(None, 1)[0],
            rows=rows,
            fields=data.fields,
            whole=data.whole,
            static=data.static,
            draws=posterior.draws if posterior else None,
            num_chains=posterior.num_chains if posterior else 1,
            params=params,
            intervention=_mapping("intervention", intervention),
            condition=_mapping("condition", condition),
            return_sites=site_names(return_sites),
            group=group,
            batch_size=batch_size,
            store=store,
            shard_axis=shard_axis,
            output_dir=output_dir,
            row_coord=data.row_coord,
            dims={name: tuple(names) for name, names in (dims or {}).items()},
            coords=dict(options.pop("coords", None) or {}),
            devices=resolve_placement(self._device).devices,
            **options,
        )

    def _scenario(self, args: Mapping[str, Any], reduce: Any) -> Request:
        """The request that :meth:`predict` would make of these arguments."""
        given = {"store": "persistent", "allow_nonfinite": False, "progress": False, **args}
        if "X" not in given:
            msg = "A scenario needs its input: {'X': X, ...}, whatever the kernel calls it."
            raise CallError(msg)
        inputs, in_sample = given.pop("X"), given.pop("in_sample", True)
        kernel_kwargs = given.pop("kernel_kwargs", None)
        own = inspect.signature(PredictiveModel.predict).parameters
        kwargs = {name: given.pop(name) for name in list(given) if name not in own}
        if reduce is not None:
            given["reduce"] = reduce
        return self._request(
            inputs,
            kwargs,
            kernel_kwargs,
            posterior=self._fitted("estimate_effect"),
            group="posterior_predictive" if in_sample else "predictions",
            **given,
        )

    def _chains(self, num_samples: int, kwargs: Mapping[str, Any]) -> Posterior:
        if not kwargs:
            return self._fitted("sample")
        extra = dict(kwargs)
        missing = [name for name in (self.param_input, self.param_output) if name not in extra]
        if missing:
            msg = f"The chains need the kernel's data to go on; pass {missing[0]}=... too."
            raise CallError(msg)
        data = all_rows(
            self._ports,
            extra.pop(self.param_input),
            extra.pop(self.param_output),
            extra,
            allow_nonfinite=True,
        )
        check_positive_int("num_samples", num_samples)
        spec = self._spec or trace_data(self.kernel, data, self.param_output)
        return continue_mcmc(self.inference, data, num_samples, spec)

    def _param_sites(self) -> dict[str, Any]:
        """Learned values of the kernel's own ``param`` sites, and its mutable state."""
        params = dict(getattr(self._vi_result, "params", None) or {})
        if self._spec is not None:
            params = {name: params[name] for name in self._spec.of_kind("param") if name in params}
        state = self._vi_state
        return {**params, **((state.mutable_state if state else None) or {})}

    def _draw(self, num_samples: int, key: jax.Array, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        check_positive_int("num_samples", num_samples)
        session = self._svi_session("sample")
        params = getattr(self._vi_result, "params", None) or session.params
        if not params and session.state is None:
            msg = "Nothing was trained yet; call fit, fit_on_batch or train_on_batch first."
            raise NotFittedError(msg)
        return session.draw(key, params, num_samples, kwargs, self._spec)


def _mapping(name: str, value: Mapping[str, Any] | None) -> dict[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        msg = (
            f"{name}= takes a mapping from sites to values; got {type(value).__name__}. If the "
            f"kernel has an argument of that name, pass it in kernel_kwargs={{{name!r}: ...}}."
        )
        raise CallError(msg)
    return dict(value or {})


def _choose(draws: Mapping[str, jax.Array], sites: Sites) -> dict[str, jax.Array]:
    names = site_names(sites)
    unknown = [name for name in names or () if name not in draws]
    if unknown:
        msg = f"The draws have no site {unknown[0]!r}; they have {', '.join(draws)}."
        raise SiteError(msg)
    return {name: draws[name] for name in (names or draws)}


def _without_in_sample(options: Mapping[str, Any]) -> Mapping[str, Any]:
    if "in_sample" in options:
        msg = "in_sample= is an argument of predict; here the group is posterior_predictive."
        raise CallError(msg)
    return options
