"""After a run diverged: the state that the model goes back to, and the words that say so."""

from __future__ import annotations

import numpy as np

from aimz_lab.inference.run.records import TrainerState
from aimz_lab.inference.run.run import Run
from aimz_lab.inference.run.run_words import (
    loss_per_row,
    skipped,
    skipped_last,
    skipped_words,
)
from aimz_lab.inference.run.skipped_steps import are_too_many

_NEAR = 64
"""Steps before the best state whose losses tell of its noise."""


class FallBack:
    """Chooses the state of a model whose run diverged.

    That is the best state, if its loss is not above the first one. Else it is the state that
    the model had before the fit, if it was trained then. Else there is no state to go back to.

    Args:
        run: The run; a resumed one has its history.
        trained_before: The state that the run begins with, if the model was trained before it. That
            of a checkpoint is no state to go back to if its loss is above the first one.
    """

    def __init__(self, run: Run, trained_before: TrainerState | None) -> None:
        self._run = run
        is_resumed = run.step > 0
        is_sound = not is_resumed or self._is_sound(loss_per_row(run), run.step)
        self._before = trained_before if is_sound else None

    def look(self) -> None:
        """Let go of the state of before once there is a better one: it takes memory."""
        if self._before is not None and self._has_learned():
            self._before = None

    @property
    def is_due(self) -> bool:
        """Whether a run that skips bad steps diverged all the same: its last state is spoiled."""
        run = self._run
        return are_too_many(run.step, run.skipped, skipped_last(run), run.info.steps_per_epoch)

    def _has_learned(self) -> bool:
        """Whether the best state is as good as the first one, but for the noise of its loss."""
        best = self._run.best_so_far
        return best is not None and best.state is not None and self._is_sound(best.value, best.step)

    def _is_sound(self, loss: float | None, step: int) -> bool:
        """Whether a loss is not above the first one by more than noise.

        Args:
            loss: Loss per row of the state after a step; ``None`` if it is not finite.
            step: The step.
        """
        losses = self._run.losses_per_row[:step]
        finite = np.isfinite(losses)
        if loss is None or not finite.any():
            return False
        first, near = float(losses[finite.argmax()]), losses[-_NEAR:][finite[-_NEAR:]]
        noise = 4 * float(np.std(near, dtype=np.float64)) if len(near) else 0.0
        # The losses of a wrecked state vary a lot.
        return loss <= first + min(noise, abs(first) + 1)

    def take(self, what: str) -> str:
        """Give the model the state; return why the run ended, and what became of the model.

        Args:
            what: What is not finite, and where.
        """
        step = self._run.step
        when = f"after step {step:,}" if step else "at its first step"
        return self._take(what, f"diverged {when}")

    def take_after_skips(self) -> str:
        """The same for a run that skipped the steps that were not finite."""
        return self._take(skipped_words(self._run), f"skipped {skipped(self._run)}")

    def _take(self, what: str, ended: str) -> str:
        run, best = self._run, self._run.best_so_far
        if self._has_learned():
            run.end_with(best.state)
            kept = f"went back to its best state, that of step {best.step:,}"
            run.ending = f"{ended} and {kept}"
        elif self._before is not None:
            run.end_with(self._before)
            kept = "went back to the state that it had before this fit"
            run.ending = f"{ended} and {kept}"
        elif run.step > run.skipped:
            kept = f"has the state after step {run.step:,}, which is not to be used"
            run.ending = f"{ended} and left a state that is not to be used"
            run.is_wrecked = True
        else:
            kept, run.ending = "is as it was before this fit", ended
        changed, advice = self._last_change()
        return f"{what}{changed}; the model {kept}. {advice}"

    def _last_change(self) -> tuple[str, str]:
        """Say what was changed last, and what to do."""
        run = self._run
        bad = run.step + 1 - skipped_last(run)
        if not run.rate_changes or (last := run.rate_changes[-1]).step >= bad:
            return "", self._advice()
        ago = bad - last.step
        of = "" if last.before is None else f" from {last.before:g}"
        text = f", {ago:,} step{'' if ago == 1 else 's'} after the learning rate was changed"
        is_lower = last.before is not None and last.after <= last.before
        advice = self._advice() if is_lower else f"Train on with a lower rate than {last.after:g}."
        return f"{text}{of} to {last.after:g}", advice

    def _advice(self) -> str:
        run = self._run
        if run.skipped:
            return "Lower the learning rate, scale the inputs, or check the rows."
        advice = "Lower the learning rate, scale the inputs, or check these rows."
        # Leaving out a step helps if the state before it is sound. The loss of a first step is that
        # of a state which nothing has moved.
        if run.step < 2 or not self._is_sound(loss_per_row(run), run.step):
            return advice
        return f"{advice} If only a few batches are bad, on_nonfinite='skip' leaves them out."
