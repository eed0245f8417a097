"""After a run diverged: the state that the model goes back to, and the words that say so."""

from __future__ import annotations

import math

import numpy as np

from aimz_lab.inference.run.records import TrainerState
from aimz_lab.inference.run.run import Run

_NEAR = 64
"""Steps before the best state whose losses tell of its noise."""

_ELSE = "on_nonfinite='skip' leaves such steps out."


class FallBack:
    """Chooses the state of a model whose run diverged.

    That is the best state, if its loss is not above the first one. Else it is the state that
    the model had before the fit, if it was trained then. Else there is no state to go back to.

    Args:
        run: The run.
        trained_before: The state that the run begins with, if the model was trained before it.
    """

    def __init__(self, run: Run, trained_before: TrainerState | None) -> None:
        self._run = run
        self._before = trained_before

    def look(self) -> None:
        """Let go of the state of before once there is a better one: it takes memory."""
        if self._before is not None and self._has_learned():
            self._before = None

    def _has_learned(self) -> bool:
        """Whether the best state is as good as the first one, but for the noise of its loss."""
        run, best = self._run, self._run.best_so_far
        if best is None or best.state is None:
            return False
        losses = run.losses_per_row
        first = float(losses[run.resumed_at])
        noise = 4 * float(np.std(losses[max(best.step - _NEAR, 0) : best.step], dtype=np.float64))
        # The losses of a wrecked state vary a lot.
        return not math.isfinite(first) or best.value <= first + min(noise, abs(first) + 1)

    def take(self, what: str) -> str:
        """Give the model the state; return why the run ended, and what became of the model.

        Args:
            what: What is not finite, and where.
        """
        run, best = self._run, self._run.best_so_far
        if self._has_learned():
            run.end_with(best.state)
            kept = f"went back to its best state, that of step {best.step:,}"
            found = f"and {kept}"
        elif self._before is not None:
            run.end_with(self._before)
            kept = "went back to the state that it had before this fit"
            found = f"and {kept}"
        elif run.step:
            kept = f"has the state after step {run.step:,}, which is not to be used"
            found = "with a state that is not to be used"
        else:
            kept, found = "is as it was before this fit", "at once"
        run.ending = f"diverged after step {run.step:,} {found}"
        changed, advice = self._last_change()
        return f"{what}{changed}; the model {kept}. {advice}"

    def _last_change(self) -> tuple[str, str]:
        """Say what was changed last, and what to do."""
        advice = f"Lower the learning rate, scale the inputs, or check these rows; {_ELSE}"
        if not self._run.rate_changes:
            return "", advice
        last = self._run.rate_changes[-1]
        ago = self._run.step + 1 - last.step
        of = "" if last.before is None else f" from {last.before:g}"
        text = f", {ago:,} step{'' if ago == 1 else 's'} after the learning rate was changed"
        if last.before is None or last.after > last.before:
            advice = f"Train on with a lower rate than {last.after:g}."
        return f"{text}{of} to {last.after:g}", advice
