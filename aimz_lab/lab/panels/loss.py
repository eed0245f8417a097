"""Curves of a run: loss, learning rate, metrics and validation."""

from __future__ import annotations

import math

import numpy as np

from aimz_lab.inference.run.events import Run
from aimz_lab.inference.run.records import ValidationLosses
from aimz_lab.inference.run.run_words import loss_per_row
from aimz_lab.lab.panels.base import Frame, Panel
from aimz_lab.lab.record import keep_loss_trace
from aimz_lab.lab.traces import Trace, float32, thin

MOST_VALIDATIONS = 400
LEARNING_RATE = "learning_rate"


class LossPanel(Panel):
    """Curves over the steps, each bounded; losses in nats of all rows, validation per row."""

    name = "loss"

    def __init__(self) -> None:
        self._traces: dict[str, Trace] = {}

    def begin(self, run: Run) -> None:  # noqa: ARG002
        """Begin empty curves; the first frame adds the steps of a resumed run."""
        self._traces = {"loss": Trace()}

    def frame(self, run: Run) -> Frame:
        """Describe every curve, the present loss and the lowest one."""
        names = ["loss", *run.metrics]
        if run.learning_rate is not None or LEARNING_RATE in self._traces:
            names.insert(1, LEARNING_RATE)
        loss = self._traces["loss"]
        loss.add(run.losses[loss.n_steps :])
        for name in names[1:]:
            self._traces.setdefault(name, Trace()).follow(run.buckets(name))
        shown = best(loss, run.info.n_obs)
        if run.finished:
            keep_loss_trace(run, loss)
            shown["now"] = loss_per_row(run)
        return {
            "n_obs": run.info.n_obs,
            "traces": {name: self._traces[name].frame() for name in names},
            "validation": validation_frame(run.validation),
            **shown,
        }


def best(trace: Trace, n_obs: int | None) -> Frame:
    """Return the present smoothed loss and the lowest one, per row if ``n_obs`` is known."""
    smoothed = trace.smooth()
    if not np.isfinite(smoothed).any():
        return {"now": None, "best": None, "best_step": None}
    lowest = int(np.nanargmin(smoothed))
    rows = n_obs or 1
    now = float(smoothed[-1]) / rows
    return {
        "now": now if math.isfinite(now) else None,
        "best": float(smoothed[lowest]) / rows,
        "best_step": int(trace.steps[lowest]),
    }


def validation_frame(points: ValidationLosses) -> Frame | None:
    """Describe the held-out losses, thinned; ``None`` without any."""
    if not points:
        return None
    steps, losses = thin(points.steps, points.losses, MOST_VALIDATIONS)
    return {"steps": float32(steps), "loss": float32(losses)}
