"""Curves of a run: loss, learning rate, metrics and held-out loss."""

from __future__ import annotations

from aimz_lab.inference.run.events import Run
from aimz_lab.inference.run.loss_words import best_not_kept, loss_per_row, shown_best
from aimz_lab.inference.run.records import ValidationLosses
from aimz_lab.lab.panels.base import Frame, Panel
from aimz_lab.lab.panels.rate_curve import LEARNING_RATE, rate_frame
from aimz_lab.lab.record import keep_loss_trace
from aimz_lab.lab.traces import Trace, float32, thin

MOST_VALIDATIONS = 400
MOST_CHANGES = 40


class LossPanel(Panel):
    """Curves over the steps, each bounded; losses in nats of all rows, held-out per row."""

    name = "loss"

    def __init__(self) -> None:
        self._traces: dict[str, Trace] = {}
        self._has_rate = False

    def begin(self, run: Run) -> None:  # noqa: ARG002
        """Begin empty curves; the first frame adds the steps of a resumed run."""
        self._traces, self._has_rate = {"loss": Trace()}, False

    def frame(self, run: Run) -> Frame:
        """Describe every curve, the present loss, the best state and the changes of the rate."""
        names = ["loss", *run.metrics]
        loss = self._traces["loss"]
        loss.add(run.losses[loss.n_steps :])
        for name in names[1:]:
            self._traces.setdefault(name, Trace()).follow(run.buckets(name))
        frames = {name: self._traces[name].frame() for name in names}
        self._has_rate |= run.learning_rate is not None
        if self._has_rate:
            first, *others = frames.items()
            frames = dict([first, (LEARNING_RATE, rate_frame(run)), *others])
        if run.finished:
            keep_loss_trace(run, loss)
        return {
            "n_obs": run.info.n_obs,
            "averaged_epoch": run.info.averaged_epoch,
            "traces": frames,
            "validation": validation_frame(run.validation),
            "rate_changes": [
                [change.step, change.after] for change in run.rate_changes[-MOST_CHANGES:]
            ],
            **present(run),
        }


def present(run: Run) -> Frame:
    """Return the present loss and the best state's, per row if the rows are known."""
    best = shown_best(run)
    return {
        "now": loss_per_row(run),
        "best": best.value if best else None,
        "best_step": best.step if best else None,
        "best_name": best.name if best else None,
        "best_held_out": bool(best and best.is_held_out),
        "not_kept": best_not_kept(run),
    }


def validation_frame(points: ValidationLosses) -> Frame | None:
    """Describe the held-out losses, thinned; ``None`` without any."""
    if not points:
        return None
    steps, losses = thin(points.steps, points.losses, MOST_VALIDATIONS)
    return {"steps": float32(steps), "loss": float32(losses)}
