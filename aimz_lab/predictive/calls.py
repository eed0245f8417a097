"""What stands behind the predictive methods: their arguments, checked and put into requests."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import cached_property
from os import PathLike
from typing import Any

import jax
import numpy as np
import xarray as xr

from aimz_lab.data import BatchSource, as_typed_key
from aimz_lab.data.checks import check_positive_int
from aimz_lab.errors import ArgumentError, CallError
from aimz_lab.inference.base import Sites, site_names
from aimz_lab.inference.feeds.inputs import table_columns
from aimz_lab.inference.feeds.placement import resolve_placement
from aimz_lab.inference.posterior import Posterior
from aimz_lab.kernel.check import parameter_names
from aimz_lab.kernel.rows.index_checks import IndexCheck
from aimz_lab.kernel.signature import merge_arguments
from aimz_lab.predictive.inputs import PredictiveData, predictive_data
from aimz_lab.predictive.predictor import Predictor
from aimz_lab.predictive.request import Group, Request
from aimz_lab.predictive.results.datasets import stats_group
from aimz_lab.predictive.results.observed_data import find_observed_data
from aimz_lab.predictive.results.temporary import CleanableModel
from aimz_lab.types import ShardAxis, Store, check_choice


class CallingModel(CleanableModel):
    """A model that can put a predictive call into a request; see :class:`aimz_lab.ImpactModel`."""

    @cached_property
    def _predictor(self) -> Predictor:
        return Predictor()

    def _done(self, result: Any, rng_key: jax.Array | None) -> Any:
        """Move the model's key on once a call has succeeded; a refused one changes nothing."""
        self._advance(rng_key)
        self._remember(result)
        return result

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
        _check_options(store, shard_axis, batch_size, output_dir, options.get("reduce"))
        extra = merge_arguments(self._kernel, kwargs, kernel_kwargs)
        data, rows, params = self._read(inputs, outputs, extra, group, allow_nonfinite)
        if posterior is not None:
            options["groups"] = stats_group(posterior.stats, posterior.num_chains)
            options["num_draws"] = posterior.num_draws
        known = find_observed_data(
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
            shared=data.shared,
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

    def _read(
        self,
        inputs: Any,
        outputs: Any,
        extra: Mapping[str, Any],
        group: Group,
        allow_nonfinite: bool,
    ) -> tuple[PredictiveData, Mapping[str, Any] | BatchSource, dict[str, Any]]:
        """What a call runs on, its rows with their indices checked, and learned parameters."""
        if self.input_schema is not None:
            columns = table_columns(self._kernel, inputs, extra)
            self.input_schema.check_columns(columns, {self.param_input: inputs, **extra})
        data = predictive_data(
            self._kernel,
            inputs,
            outputs,
            extra,
            with_output=group == "log_likelihood",
            allow_nonfinite=allow_nonfinite,
        )
        params = self._param_sites()
        rows = self._indices.rows(
            data.rows, fields=data.fields, shared=data.shared, static=data.static, values=params
        )
        return data, rows, params

    def _scenario(self, args: Mapping[str, Any]) -> Request:
        """The request that :meth:`predict` would make of these arguments."""
        given = {"store": "persistent", "allow_nonfinite": False, "progress": False, **args}
        if "X" not in given:
            msg = "A scenario needs its input: {'X': X, ...}, whatever the kernel calls it."
            raise CallError(msg)
        inputs, in_sample = given.pop("X"), given.pop("in_sample", True)
        kernel_kwargs = given.pop("kernel_kwargs", None)
        own = inspect.signature(type(self).predict).parameters
        kwargs = {name: given.pop(name) for name in list(given) if name not in own}
        return self._request(
            inputs,
            kwargs,
            kernel_kwargs,
            posterior=self._fitted("estimate_effect"),
            group="posterior_predictive" if in_sample else "predictions",
            **given,
        )

    def _param_sites(self) -> dict[str, Any]:
        """Learned values of the kernel's own ``param`` sites, and its mutable state."""
        params = dict(getattr(self._vi_result, "params", None) or {})
        if self._spec is not None:
            params = {name: params[name] for name in self._spec.of_kind("param") if name in params}
        state = self._vi_state
        return {**params, **((state.mutable_state if state else None) or {})}


def _mapping(name: str, value: Mapping[str, Any] | None) -> dict[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        msg = (
            f"{name}= takes a mapping from sites to values; got {type(value).__name__}. If the "
            f"kernel has an argument of that name, pass it in kernel_kwargs={{{name!r}: ...}}."
        )
        raise CallError(msg)
    return dict(value or {})


def _check_options(
    store: Store,
    shard_axis: ShardAxis,
    batch_size: int | None,
    output_dir: str | PathLike[str] | None,
    reduce: Any,
) -> None:
    check_choice("store", store, Store)
    check_choice("shard_axis", shard_axis, ShardAxis)
    if batch_size is not None:
        check_positive_int("batch_size", batch_size)
    if output_dir is not None and store == "memory":
        msg = "output_dir= is where a persistent result goes; leave it out, or store= as it is."
        raise ArgumentError(msg)
    if output_dir is not None and reduce is not None:
        msg = (
            "output_dir= is where draws go, and reduce= keeps none; leave one of them out. "
            "The summaries are a tree in memory: tree.to_zarr(path) writes it."
        )
        raise ArgumentError(msg)
