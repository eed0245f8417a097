"""Training step by step, for loops that are written by hand."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import jax
from jax.typing import ArrayLike
from numpyro.infer.svi import SVIState

from aimz_lab.errors import FitWarning
from aimz_lab.inference.feeds.inputs import needed_output, rows_and_others
from aimz_lab.inference.feeds.training_data import TrainingData
from aimz_lab.inference.running import RunningModel
from aimz_lab.kernel.signature import merge_arguments


class HandLoopModel(RunningModel):
    """A model that can be trained a batch at a time; see :class:`aimz_lab.ImpactModel`."""

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
        rows, shared, static = rows_and_others(
            self._kernel,
            X,
            needed_output(y, self.param_output),
            merge_arguments(self._kernel, kwargs, kernel_kwargs),
            allow_nonfinite=True,
        )
        if n_obs is not None:
            self.n_obs = n_obs
        size = next(iter(rows.values())).shape[0]
        data = TrainingData(rows, shared, static, n_obs=self._n_obs, batch_size=size)
        key = self._split(rng_key, 1)[0]
        if session.state is None:
            self._advance(rng_key)
        state, loss, self._spec = session.step(data, n_pad, key)
        if self._n_obs is None and not self._said_unscaled:
            self._said_unscaled = True
            _warn_unscaled()
        return state, loss


def _warn_unscaled() -> None:
    msg = (
        "Nobody told how many rows the data has, so the kernel is trained as it is written: unless "
        "it scales its minibatches itself, the posterior will be too wide. Say it once, with "
        "train_on_batch(..., n_obs=N) or by aimz_lab.lab.monitor around an ArrayLoader."
    )
    warnings.warn(msg, FitWarning, stacklevel=3)
