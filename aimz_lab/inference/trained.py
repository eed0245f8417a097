"""What a model has learned, replaced as a whole: no thread ever sees half of a change."""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
from numpyro.infer.svi import SVIState

from aimz_lab.inference.feeds.fingerprint import TrainingFingerprint
from aimz_lab.inference.feeds.schema import InputSchema
from aimz_lab.inference.posterior import Posterior
from aimz_lab.inference.request import FitResult, ViResult
from aimz_lab.inference.training_call import TrainingCall
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.types import Params


@dataclass(frozen=True)
class Fitted:
    """Draws of a posterior, and what belongs to them in a prediction.

    Attributes:
        posterior: The draws.
        params: Values of the kernel's own ``param`` sites, and its mutable state.
        schema: Schema of the training data, or ``None``.
        fingerprint: Recognises the training rows, or ``None``.
        is_given: Whether the user has set the draws.
    """

    posterior: Posterior
    params: Params
    schema: InputSchema | None = None
    fingerprint: TrainingFingerprint | None = None
    is_given: bool = False


@dataclass(frozen=True)
class Trained:
    """What a model has learned so far.

    Attributes:
        spec: The kernel's structure as last trained, or ``None``.
        schema: Schema of the last training data, or ``None``.
        state: The SVI state, or ``None``.
        vi_result: Parameters and losses of the last training, or ``None``.
        epochs_done: Epochs of the loader so far.
        ending: How the last training ended, if it was interrupted or diverged.
        fitted: The posterior, or ``None``. A training that has not come to draws leaves it as it
            was, with the parameters that it was drawn with.
        trainings: The calls that repeat what the model has been through, in order; ``None`` if
            that is not known.
    """

    spec: KernelSpec | None = None
    schema: InputSchema | None = None
    state: SVIState | None = None
    vi_result: ViResult | None = None
    epochs_done: int = 0
    ending: str = ""
    fitted: Fitted | None = None
    trainings: tuple[TrainingCall, ...] | None = ()

    @property
    def posterior(self) -> Posterior | None:
        """The draws, or ``None``."""
        return self.fitted.posterior if self.fitted else None

    @property
    def params(self) -> Params:
        """Present values of the kernel's own ``param`` sites, and its mutable state."""
        params = dict(getattr(self.vi_result, "params", None) or {})
        if self.spec is not None:
            params = {name: params[name] for name in self.spec.of_kind("param") if name in params}
        return {**params, **((self.state.mutable_state if self.state else None) or {})}

    @property
    def arrays(self) -> list[jax.Array]:
        """All arrays of JAX in it, which are immutable."""
        posterior = self.posterior
        draws = (dict(posterior.draws), dict(posterior.stats)) if posterior else ()
        params = getattr(self.vi_result, "params", None)
        own = dict(self.fitted.params) if self.fitted else {}
        leaves = jax.tree.leaves((self.state, params, own, draws))
        return [leaf for leaf in leaves if isinstance(leaf, jax.Array)]

    def without_rows(self) -> Trained:
        """Return the same without any rows of the data."""
        if self.fingerprint is None:
            return self
        checksums = self.fingerprint.without_rows()
        return replace(self, fitted=replace(self.fitted, fingerprint=checksums))

    def after(self, result: FitResult) -> Trained:
        """Return what is known after a fit."""
        new = replace(self, spec=result.spec, schema=result.schema, state=result.state)
        if result.vi_result is not None:
            new = replace(new, vi_result=result.vi_result, epochs_done=result.epochs_done)
        new = replace(new, ending=result.ending, trainings=self._trainings_after(result.training))
        if result.posterior is None:
            return new
        fingerprint, call = result.fingerprint, result.training
        if fingerprint is not None and not (call is not None and call.begins_anew):
            fingerprint = fingerprint.after(self.fingerprint)
        return new.with_posterior(result.posterior, fingerprint)

    def _trainings_after(self, call: TrainingCall | None) -> tuple[TrainingCall, ...] | None:
        before = self.trainings
        if call is None or (before and before[-1] is call):  # the same fit, now with its draws
            return before
        if call.begins_anew:
            return (call,)
        return None if before is None else (*before, call)

    def with_vi_result(self, vi_result: ViResult) -> Trained:
        """Return the same with other parameters, for predictions as well."""
        new = replace(self, vi_result=vi_result, ending="", trainings=None)
        if new.fitted is None:
            return new
        return replace(new, fitted=replace(new.fitted, params=new.params))

    def with_posterior(
        self,
        posterior: Posterior,
        fingerprint: TrainingFingerprint | None = None,
        *,
        is_given: bool = False,
    ) -> Trained:
        """Return the same with a posterior that goes with the present parameters and schema."""
        fitted = Fitted(posterior, self.params, self.schema, fingerprint, is_given)
        return replace(self, fitted=fitted)

    @property
    def fingerprint(self) -> TrainingFingerprint | None:
        """Recognises the training rows of the posterior, or ``None``."""
        return self.fitted.fingerprint if self.fitted else None
