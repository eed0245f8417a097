"""After a run diverged: the state that the model goes back to, and the words that say so."""

from __future__ import annotations

import numpy as np

from aimz_lab.inference.run.loss_words import loss_per_row
from aimz_lab.inference.run.records import TrainerState
from aimz_lab.inference.run.run import Run
from aimz_lab.inference.run.run_words import skipped, skipped_last, skipped_words
from aimz_lab.inference.run.skipped_steps import are_too_many
from aimz_lab.inference.run.soundness import has_learned, is_sound, state_is_sound


class FallBack:
    """Chooses the state of a model whose run diverged.

    That is the best state, if its loss is not above the first one. Else it is the state that the
    run began with, if that was trained: the state of the model before the fit, or the one of a
    checkpoint, if its own loss is not above the first one. Else there is no state to go back to.

    Args:
        run: The run; a resumed one has its history.
        trained_before: The state that the run begins with, if it was trained.
    """

    def __init__(self, run: Run, trained_before: TrainerState | None) -> None:
        self._run = run
        self._before = trained_before

    def look(self) -> None:
        """Let go of the state of before once there is a better one: it takes memory."""
        if self._before is not None and has_learned(self._run):
            self._before = None

    @property
    def is_due(self) -> bool:
        """Whether a run that skips bad steps diverged all the same: its last state is spoiled."""
        run = self._run
        return are_too_many(run.step, run.skipped, skipped_last(run), run.info.steps_per_epoch)

    @property
    def _has_taken_steps(self) -> bool:
        run = self._run
        return bool(np.isfinite(run.losses[run.resumed_at :]).any())

    @property
    def _has_sound_beginning(self) -> bool:
        """Whether there is a trained state of before; that of a checkpoint may be a wreck."""
        at = self._run.resumed_at
        return self._before is not None and (not at or state_is_sound(self._run, at))

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
        run.has_diverged = True
        kept = ""
        if has_learned(run):
            run.end_with(best.state)
            kept = f"went back to its best state, that of step {best.step:,}"
        elif self._has_sound_beginning:
            run.end_with(self._before)
            kept = "went back to the state that it had before this fit"
            if run.resumed_at:
                kept = f"went back to the state of its checkpoint, that of step {run.resumed_at:,}"
        if kept:
            run.ending = f"{ended} and {kept}"
        elif self._has_taken_steps:
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
        is_no_cause = is_lower or self._has_spoiled_beginning
        advice = (
            self._advice() if is_no_cause else f"Train on with a lower rate than {last.after:g}."
        )
        return f"{text}{of} to {last.after:g}", advice

    def _advice(self) -> str:
        run = self._run
        if self._has_spoiled_beginning:
            if run.resumed_at:
                return (
                    "If these rows are in order, the checkpoint holds a state that no step can go "
                    "on from: resume from an earlier one, or fit without resume=."
                )
            return (
                "No step was taken, and the learning rate is not why. If these rows are in order, "
                "the state that the model was trained to before is spoiled: build the model anew."
            )
        if run.skipped:
            return "Lower the learning rate, scale the inputs, or check the rows."
        advice = "Lower the learning rate, scale the inputs, or check these rows."
        # Leaving out a step helps if the state before it is sound. The loss of a first step is that
        # of a state which nothing has moved.
        if run.step < 2 or not is_sound(run, loss_per_row(run), run.step):
            return advice
        return f"{advice} If only a few batches are bad, on_nonfinite='skip' leaves them out."

    @property
    def _has_spoiled_beginning(self) -> bool:
        """Whether no step was taken, as the trained state of before has no finite loss."""
        run = self._run
        is_first = self._before is not None and not self._has_taken_steps
        return is_first and run.losses_after is not None and not np.isfinite(run.losses_after).any()
