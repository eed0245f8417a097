"""The curves of a run: loss, learning rate, further metrics, validation."""

from __future__ import annotations

import math

import numpy as np

from aimz_lab.inference.events import Run, Steps
from aimz_lab.lab.panels.base import Frame, Panel
from aimz_lab.lab.traces import Trace, float32, thin

MOST_VALIDATIONS = 400
LEARNING_RATE = "learning_rate"


class LossPanel(Panel):
    """Curves over the steps, each bounded; losses in nats of all rows, validation per row."""

    name = "loss"

    def __init__(self) -> None:
        self.traces: dict[str, Trace] = {}

    def begin(self, run: Run) -> None:
        """Begin with what is there: nothing, or the history of a run that goes on."""
        self.traces = {"loss": Trace()}
        self.traces["loss"].add(run.losses)
        for name in run.metrics:
            self._add(name, run.column(name), before=0)

    def observe(self, run: Run, steps: Steps) -> None:
        """Append the steps to each curve."""
        self._add("loss", steps.loss, before=0)
        before = run.step - len(steps)
        if steps.learning_rate is not None:
            self._add(LEARNING_RATE, np.full(len(steps), steps.learning_rate), before)
        for name, values in steps.metrics.items():
            self._add(name, values, before)

    def _add(self, name: str, values: np.ndarray, before: int) -> None:
        trace = self.traces.get(name)
        if trace is None:
            trace = self.traces[name] = Trace()
        if trace.n_steps < before:  # a value that only some chunks report leaves a gap
            trace.add(np.full(before - trace.n_steps, np.nan))
        trace.add(values)

    def frame(self, run: Run) -> Frame:
        """Describe every curve, where the loss is, and where it was lowest."""
        return {
            "n_obs": run.info.n_obs,
            "traces": {name: trace.frame() for name, trace in self.traces.items()},
            "validation": validation_frame(run.validation),
            **best(self.traces["loss"], run.info.n_obs),
        }


def best(trace: Trace, n_obs: int | None) -> Frame:
    """Say where the smoothed loss is and where it was lowest, per row where the rows are known."""
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


def validation_frame(points: list[tuple[int, float]]) -> Frame | None:
    """Describe the held-out losses, thinned; ``None`` where there are none."""
    if not points:
        return None
    steps, losses = (np.asarray(column, np.float64) for column in zip(*points, strict=True))
    steps, losses = thin(steps, losses, MOST_VALIDATIONS)
    return {"steps": float32(steps), "loss": float32(losses)}
