"""The method of a model that scores what was observed: its log-likelihood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import xarray as xr
from jax.typing import ArrayLike

from aimz_lab.predictive.calls import CallingModel
from aimz_lab.types import ShardAxis, Store


class ScoringModel(CallingModel):
    """A model that scores what was observed; see :class:`aimz_lab.ImpactModel`."""

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

        Example:
            >>> im.log_likelihood(X, y, progress=False).log_likelihood.y.shape
            (1, 1000, 40)
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
