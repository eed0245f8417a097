"""The methods of a model that draw from its posterior predictive distribution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import jax
import numpy as np
import xarray as xr
from jax.typing import ArrayLike

from aimz_lab.errors import CallError
from aimz_lab.inference.base import Sites
from aimz_lab.predictive.prior import PriorModel
from aimz_lab.predictive.sampling import SamplingModel
from aimz_lab.predictive.scoring import ScoringModel
from aimz_lab.types import ShardAxis, Store


class PredictiveModel(SamplingModel, ScoringModel, PriorModel):
    """A model that can be drawn from; see :class:`aimz_lab.ImpactModel`."""

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
            condition: Values that sites take while sampling; a site that the posterior holds keeps
                its draws.
            rng_key: Key of this call; split from the model's by default.
            in_sample: Whether the group is ``posterior_predictive`` or ``predictions``.
            return_sites: Sites to return; by default the output and the deterministic sites.
            shard_axis: ``"obs"`` cuts the rows into blocks, ``"draw"`` keeps them together.
            batch_size: Rows at a time, in whole blocks of 256 (under ``"draw"``: draws at a time);
                it changes no result.
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

        Example:
            >>> tree = im.predict(X, intervention={"slope": 3.0}, reduce="mean", progress=False)
            >>> bool(abs(tree.posterior_predictive.y_mean - 3 * X).max() < 0.2)
            True
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

        Returns:
            The same groups as :meth:`predict`, or the draws by site.

        Raises:
            NotFittedError: If there is no posterior.
            SiteError: If a site that is named does not exist or does not fit.

        Example:
            >>> im.predict_on_batch(X[:5], return_datatree=False)["y"].shape
            (1000, 5)
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

        Example:
            >>> tree = im.sample_posterior_predictive(X, progress=False)
            >>> tree.posterior_predictive.y.dims
            ('chain', 'draw', 'obs')
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

        Returns:
            As :meth:`predict_on_batch`.

        Raises:
            NotFittedError: If there is no posterior.

        Example:
            >>> tree = im.sample_posterior_predictive_on_batch(X[:5])
            >>> tree.posterior_predictive.y.shape
            (1, 1000, 5)
        """
        return self.predict_on_batch(
            X, return_datatree=return_datatree, **_without_in_sample(options)
        )


def _without_in_sample(options: Mapping[str, Any]) -> Mapping[str, Any]:
    if "in_sample" in options:
        msg = "in_sample= is an argument of predict; here the group is posterior_predictive."
        raise CallError(msg)
    return options
