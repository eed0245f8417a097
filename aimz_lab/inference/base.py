"""A kernel, its inference object, its posterior: what training and prediction share."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

import jax
from jax.typing import ArrayLike
from numpyro.infer import MCMC, SVI
from numpyro.infer.svi import SVIState

from aimz_lab.data import as_typed_key, derive_key
from aimz_lab.data.checks import check_positive_int
from aimz_lab.errors import (
    AimzLabWarning,
    CallError,
    InferenceError,
    NotFittedError,
)
from aimz_lab.inference.feeds.fingerprint import TrainingFingerprint
from aimz_lab.inference.feeds.placement import resolve_placement
from aimz_lab.inference.feeds.schema import InputSchema
from aimz_lab.inference.posterior import Posterior, as_posterior
from aimz_lab.inference.run.events import Run
from aimz_lab.inference.run.handle import RunHandle
from aimz_lab.inference.svi.learner import SviSession
from aimz_lab.kernel.check import check_signature
from aimz_lab.kernel.signature import KernelSignature
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.types import Device

Sites = str | Iterable[str] | None


class KernelModel:
    """A kernel with its inference object and its posterior; see :class:`aimz_lab.ImpactModel`."""

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
        self._kernel = KernelSignature(kernel, param_input, param_output)
        self._rng_key = as_typed_key(rng_key)
        self._device = device
        resolve_placement(device)
        self._session = (
            SviSession(kernel, self._inference, param_output)
            if isinstance(self._inference, SVI)
            else None
        )
        self._spec: KernelSpec | None = None
        self._posterior: Posterior | None = None
        self._vi_result: Any = None
        self._last_run: Run | None = None
        self._handle: RunHandle | None = None
        self._n_obs: int | None = None
        self._epochs_done = 0
        self._said_unscaled = False
        self._mcmc_schema: InputSchema | None = None
        self._trained_rows: TrainingFingerprint | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is compiled, the data, and runs with their listeners."""
        left = {"_last_run": None, "_handle": None, "_trained_rows": None}
        return {**self.__dict__, **left}

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
        """What the last ``fit`` or ``fit_on_batch`` reported, or ``None``."""
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

        Set it after a hand-written loop to anything with these two fields; :meth:`sample` then
        draws with these parameters.
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
    def input_schema(self) -> InputSchema | None:
        """Names, shapes and types of what the model was last trained on, or ``None``."""
        return self._session.schema if self._session else self._mcmc_schema

    @property
    def _vi_state(self) -> SVIState | None:
        return self._session.state if self._session else None

    @_vi_state.setter
    def _vi_state(self, state: SVIState | None) -> None:
        self._svi_session("_vi_state").state = state

    def is_fitted(self) -> bool:
        """Whether there are posterior draws to predict with.

        Example:
            >>> im.is_fitted()
            True
        """
        return self._posterior is not None

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

        Example:
            >>> other = type(im)(kernel, jax.random.key(1), svi=svi)
            >>> draws = {"slope": np.array([1.9, 2.0, 2.1])}
            >>> other.set_posterior_sample(draws).predict_on_batch(X).posterior_predictive.y.shape
            (1, 3, 40)
        """
        draws = dict(posterior_sample)
        if draws.pop(self.param_output, None) is not None:
            msg = f"{self.param_output!r} is the output and no part of the posterior; left out."
            warnings.warn(msg, AimzLabWarning, stacklevel=2)
        self._posterior = as_posterior(draws, num_chains)
        return self

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

    def _split(self, rng_key: jax.Array | None, count: int) -> tuple[jax.Array, ...]:
        """Keys for one call; the model's own key only moves on in :meth:`_advance`."""
        key = derive_key(self._rng_key if rng_key is None else as_typed_key(rng_key), 0)
        return tuple(derive_key(key, number) for number in range(count))

    def _advance(self, rng_key: jax.Array | None) -> None:
        """Move the model's key on, once a call that used it has passed its checks."""
        if rng_key is None:
            self._rng_key = derive_key(self._rng_key, 1)

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


def site_names(sites: Sites) -> tuple[str, ...] | None:
    """Names of sites that were given as one name, as several, or not at all."""
    return None if sites is None else (sites,) if isinstance(sites, str) else tuple(sites)
