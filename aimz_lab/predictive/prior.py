"""The methods of a model that draw from its prior predictive distribution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import jax
import numpy as np
import xarray as xr
from jax.typing import ArrayLike

from aimz_lab.data.checks import check_positive_int
from aimz_lab.inference.base import Sites
from aimz_lab.predictive.calls import CallingModel
from aimz_lab.types import ShardAxis, Store


class PriorModel(CallingModel):
    """A model whose prior predicts, before any fit; see :class:`aimz_lab.ImpactModel`."""

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
            ArgumentError: If ``num_samples`` is not a positive int.

        Example:
            >>> tree = im.sample_prior_predictive(X, num_samples=100, progress=False)
            >>> tree.prior_predictive.y.shape
            (1, 100, 40)
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

        Returns:
            The group ``prior_predictive``, or the draws by site.

        Raises:
            SiteError: If a site that is named does not exist.
            ArgumentError: If ``num_samples`` is not a positive int.

        Example:
            >>> tree = im.sample_prior_predictive_on_batch(X[:5], num_samples=100)
            >>> tree.prior_predictive.y.shape
            (1, 100, 5)
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
