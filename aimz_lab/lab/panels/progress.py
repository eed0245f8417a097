"""Progress of a run: status, epoch, step, rates, its time by activity, time left, notes."""

from __future__ import annotations

import time
from collections.abc import Callable

from aimz_lab.inference.run.events import Run
from aimz_lab.inference.run.run_words import notes, skipped_words
from aimz_lab.lab import formatting
from aimz_lab.lab.panels.base import Frame, Panel

MOST_NOTES = 5


class ProgressPanel(Panel):
    """Status, position, rates, times and notes of the run.

    Args:
        display_s: Returns the seconds that the display itself took so far.
    """

    name = "progress"

    def __init__(self, display_s: Callable[[], float] = lambda: 0.0) -> None:
        self._display_s = display_s
        self._checkpoint: tuple[int, str] | None = None
        self._checkpoint_at = 0.0

    def begin(self, run: Run) -> None:  # noqa: ARG002
        """Forget the checkpoint of the previous run."""
        self._checkpoint = None

    def frame(self, run: Run) -> Frame:
        """Describe the progress of the run."""
        place = run.place
        steps_per_s, rows_per_s = run.steps_per_s, run.rows_per_s
        if run.finished:  # the whole run's, as its summary has it
            steps_per_s, rows_per_s = formatting.mean_rates(run)
        return {
            "status": run.status,
            "words": formatting.status(run),
            "reason": run.reason,
            "asked": _asked(run),
            "epoch": place.epoch,
            "step": place.step,
            "steps_per_s": steps_per_s,
            "rows_per_s": rows_per_s,
            "trained_s": run.trained_s,
            "prepared_s": run.prepared_s,
            "compiling_s": run.compiling_s,
            "waited_s": run.waited_s,
            "paused_s": run.paused_s,
            "elapsed_s": run.elapsed_s,
            "seconds_in": self._seconds_in(run),
            "eta_s": place.eta_s,
            "total_steps": place.planned_steps,
            "learning_rate": run.learning_rate,
            "asked_rate": None if run.finished else run.control.requested_learning_rate,
            "can_set_learning_rate": run.control.can_set_learning_rate,
            "why_fixed": "" if run.info.is_sampling else run.control.why_fixed,
            "best_state": _restorable(run),
            "can_checkpoint": run.control.can_checkpoint,
            "checkpoint": self._newest(run),
            "notes": [*_switched_off(run), *_skipped(run), *notes(run, MOST_NOTES)],
        }

    def _seconds_in(self, run: Run) -> dict[str, float]:
        """Seconds by activity; those of the display are not counted as the callbacks'.

        Dispatch and steps are one activity: some devices compute during the dispatch of a call.
        """
        spent = {**run.seconds_so_far, "display": self._display_s(), "paused": run.paused_s}
        spent["steps"] = spent.pop("dispatch", 0.0) + spent.get("steps", 0.0)
        if "callbacks" in spent:
            spent["callbacks"] = max(spent["callbacks"] - spent["display"], 0.0)
        return spent

    def _newest(self, run: Run) -> Frame | None:
        if not run.checkpoints:
            return None
        if run.checkpoints[-1] is not self._checkpoint:
            self._checkpoint, self._checkpoint_at = run.checkpoints[-1], time.monotonic()
        step, path = run.checkpoints[-1]
        return {"step": step, "path": str(path), "age_s": time.monotonic() - self._checkpoint_at}


def _asked(run: Run) -> str:
    """The request that the run has not carried out yet."""
    if run.finished:
        return ""
    if run.control.stop_request:
        return "stop"
    if run.control.paused and run.status != "paused":
        return "pause"
    return "checkpoint" if run.control.wants_checkpoint else ""


def _restorable(run: Run) -> int | None:
    """The step of the best state, if there is one that the model can have."""
    best = run.best_so_far
    return None if best is None or best.state is None else best.step


def _skipped(run: Run) -> list[str]:
    words = "" if run.status == "diverged" else skipped_words(run)  # its reason says so
    return [f"{words}."] if words else []


def _switched_off(run: Run) -> list[str]:
    return [
        f"{type(callback).__name__} failed and was switched off: {type(error).__name__}: {error}"
        for callback, error in run.disabled
    ]
