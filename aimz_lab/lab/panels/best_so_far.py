"""Keep the best state of a run, so that it can be restored."""

from __future__ import annotations

import numpy as np

from aimz_lab.inference.run.best_state import MonitorWindows
from aimz_lab.inference.run.events import Run
from aimz_lab.inference.run.records import Best


class BestSoFar:
    """Keeps the best state of a run: by the held-out loss, or else by windows of training steps.

    By the training loss it is the state after the chunk of steps in which the lowest window ended.
    A best state that a callback of the run keeps goes first.
    """

    def __init__(self) -> None:
        self._own: Best | None = None
        self._windows: MonitorWindows | None = None

    def begin(self, run: Run, *, keep: bool) -> None:
        """Forget the previous run.

        Args:
            run: The run.
            keep: Whether to keep a state; it is as large as parameters and optimizer together.
        """
        self._own = None
        can_keep = keep and run.state is not None and not run.info.is_sampling
        monitor = "loss" if run.info.validation_every is None else "validation"
        self._windows = MonitorWindows(monitor) if can_keep else None
        if self._windows:
            self._windows.begin(run)
            self._windows.new(run)  # those of a resumed run: their states are gone

    def look(self, run: Run) -> None:
        """Keep the present state, if the newest reading is the best."""
        if self._windows is None:
            return
        readings = self._windows.new(run)
        if len(readings) == 0:
            return
        value = float(np.mean(readings[-1]))
        if np.isfinite(value) and (self._own is None or value < self._own.value):
            self._own = Best(value, run.step, run.state)

    def of(self, run: Run) -> Best | None:
        """Return the best state so far, or ``None``."""
        kept = run.best.get("validation") or next(iter(run.best.values()), None)
        return kept or self._own
