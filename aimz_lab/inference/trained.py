"""What a model has learned, replaced as a whole: no thread ever sees half of a change."""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
from numpyro.infer.svi import SVIState

from aimz_lab.data import AxisLabels
from aimz_lab.inference.feeds.fingerprint import TrainingFingerprint
from aimz_lab.inference.feeds.schema import InputSchema
from aimz_lab.inference.posterior import Posterior
from aimz_lab.inference.request import FitResult, ViResult
from aimz_lab.inference.run.skipped_steps import StepsByHand
from aimz_lab.inference.svi.loop_result import LoopResult
from aimz_lab.inference.training_call import TrainingCall
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.number_text import count
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
        why_not: How the training ended if the draws are not to be used; else empty.
        row_labels: Labels of the rows of draws by row; ``None`` if they are not known.
        steps_since: Steps of ``train_on_batch`` since the draws.
        result_since: Whether ``vi_result`` was set since the draws.
    """

    posterior: Posterior
    params: Params
    schema: InputSchema | None = None
    fingerprint: TrainingFingerprint | None = None
    is_given: bool = False
    why_not: str = ""
    row_labels: AxisLabels | None = None
    steps_since: int = 0
    result_since: bool = False

    @property
    def since(self) -> str:
        """What changed the state since the draws, for ``before ...``; empty if nothing did."""
        if self.steps_since:
            return f"{count(self.steps_since)} step{'s' * (self.steps_since > 1)} of train_on_batch"
        return "vi_result was set" if self.result_since else ""

    @property
    def is_outdated(self) -> bool:
        """Whether the draws are of another state than the model's; a user's draws are his own."""
        return bool(self.since) and not self.is_given

    @property
    def may_be_used(self) -> bool:
        """Whether numbers may be made of the draws."""
        return not (self.why_not or self.is_outdated)


@dataclass(frozen=True)
class Trained:
    """What a model has learned so far.

    Attributes:
        spec: The kernel's structure as last trained, or ``None``.
        schema: Schema of the last training data, or ``None``.
        state: The SVI state, or ``None``.
        vi_result: Parameters and losses of ``state``, or those that were set; or ``None``.
        epochs_done: Epochs of the loader so far.
        ending: How the last training ended, if it was interrupted or diverged.
        is_wrecked: Whether it left a state that is not to be used. What is trained next begins
            anew.
        fitted: The posterior, or ``None``. A training that has not come to draws leaves it as it
            was, with the parameters that it was drawn with.
        by_hand: Counts of the steps of a hand-written loop that ``state`` comes from, or ``None``.
        trainings: The calls that repeat what the model has been through, in order; ``None`` if
            that is not known.
        row_labels: Labels of the rows, if all fits since the first had the same rows with these
            labels, in this order; else ``None``.
        last_rows: Recognises the rows of the last fit, or ``None``.
    """

    spec: KernelSpec | None = None
    schema: InputSchema | None = None
    state: SVIState | None = None
    vi_result: ViResult | None = None
    epochs_done: int = 0
    ending: str = ""
    is_wrecked: bool = False
    fitted: Fitted | None = None
    by_hand: StepsByHand | None = None
    trainings: tuple[TrainingCall, ...] | None = ()
    row_labels: AxisLabels | None = None
    last_rows: TrainingFingerprint | None = None

    @property
    def posterior(self) -> Posterior | None:
        """The draws, or ``None``."""
        return self.fitted.posterior if self.fitted else None

    @property
    def why_not(self) -> str:
        """How the training of the draws ended if they are not to be used; else empty."""
        return self.fitted.why_not if self.fitted else ""

    @property
    def has_draws(self) -> bool:
        """Whether there are draws that may be used."""
        return self.fitted is not None and self.fitted.may_be_used

    @property
    def settled(self) -> Trained:
        """The same with the ending of a hand-written loop, whose steps are waited for."""
        if self.by_hand is None or not self.by_hand.ending:
            return self
        return replace(self, ending=self.by_hand.ending, is_wrecked=True)

    @property
    def state_to_draw(self) -> SVIState | None:
        """The SVI state, unless it is that of before a fit of which no step was taken."""
        return self.state if self.vi_result is not None or not self.ending else None

    @property
    def to_train_on(self) -> Trained:
        """What a training goes on from: nothing of a state that is not to be used."""
        if not self.is_wrecked:
            return self
        return Trained(fitted=None if self.why_not else self.fitted)

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
        """Return the same without any rows of the data, and without their labels."""
        fitted = self.fitted and replace(self.fitted, row_labels=None)
        if self.fingerprint is not None:
            fitted = replace(fitted, fingerprint=self.fingerprint.without_rows())
        return replace(self, fitted=fitted, row_labels=None, last_rows=None)

    def after(self, result: FitResult) -> Trained:
        """Return what is known after a fit."""
        before = self.to_train_on
        new = replace(
            before,
            spec=result.spec,
            schema=result.schema,
            state=result.state,
            ending=result.ending,
            is_wrecked=result.is_wrecked,
            trainings=before._trainings_after(result.training),
            row_labels=before._row_labels_after(result),
            last_rows=result.fingerprint,
        )
        if result.vi_result is not None:
            done = result.epochs_done
            new = replace(new, vi_result=result.vi_result, epochs_done=done, by_hand=None)
        if result.posterior is None:
            return new
        fingerprint, call = result.fingerprint, result.training
        if fingerprint is not None and not (call is not None and call.begins_anew):
            fingerprint = fingerprint.after(before.fingerprint)
        new = new.with_posterior(result.posterior, fingerprint)
        if not result.is_wrecked:
            return new
        return replace(new, fitted=replace(new.fitted, why_not=result.ending))

    def _trainings_after(self, call: TrainingCall | None) -> tuple[TrainingCall, ...] | None:
        before = self.trainings
        if call is None or (before and before[-1] is call):  # the same fit, now with its draws
            return before
        if call.begins_anew:
            return (call,)
        return None if before is None else (*before, call)

    def _row_labels_after(self, result: FitResult) -> AxisLabels | None:
        begins_anew = result.training is not None and result.training.begins_anew
        labels, rows = result.row_labels, result.fingerprint
        if self.state is None or begins_anew or labels is None:
            return labels
        # Other rows may have the same labels, such as those of a table that counts from 0.
        goes_on = rows is not None and rows.is_same_as(self.last_rows)
        return labels if goes_on and labels.same_as(self.row_labels) else None

    def after_step(
        self, vi_result: LoopResult, spec: KernelSpec, schema: InputSchema, ok: jax.Array | None
    ) -> Trained:
        """Return what is known after a step of a hand-written loop.

        Args:
            vi_result: The state after it.
            spec: The kernel's structure.
            schema: Names, shapes and types of the batch.
            ok: Whether it was taken, on the device; ``None`` if that is known.
        """
        fitted = self.fitted
        return replace(
            self,
            spec=spec,
            schema=schema,
            state=vi_result.state,
            vi_result=vi_result,
            ending="",
            fitted=fitted and replace(fitted, steps_since=fitted.steps_since + 1),
            by_hand=(self.by_hand or StepsByHand()).then(ok),
            trainings=None,
            row_labels=None,
        )

    def with_state(self, state: SVIState | None) -> Trained:
        """Return the same with a state from elsewhere."""
        return replace(
            self,
            state=state,
            ending="",
            is_wrecked=False,
            by_hand=None,
            trainings=None,
            row_labels=None,
        )

    def with_vi_result(self, vi_result: ViResult, state: SVIState | None) -> Trained:
        """Return the same with other parameters; for predictions with a user's draws as well."""
        new = replace(self.with_state(state), vi_result=vi_result)
        if new.fitted is None:
            return new
        return replace(new, fitted=replace(new.fitted, params=new.params, result_since=True))

    def with_posterior(
        self,
        posterior: Posterior,
        fingerprint: TrainingFingerprint | None = None,
        *,
        is_given: bool = False,
    ) -> Trained:
        """Return the same with a posterior that goes with the present parameters and schema."""
        fitted = Fitted(posterior, self.params, self.schema, fingerprint, is_given)
        labels = None if is_given else self.row_labels
        return replace(self, fitted=replace(fitted, row_labels=labels))

    @property
    def fingerprint(self) -> TrainingFingerprint | None:
        """Recognises the training rows of the posterior, or ``None``."""
        return self.fitted.fingerprint if self.fitted else None
