"""Read the loss window by window, and keep the best state of a run."""

from __future__ import annotations

import threading
from typing import Literal, Protocol

import numpy as np
from jaxtyping import Float, Int

from aimz_lab.inference.run.records import (
    HELD_OUT,
    TRAINING,
    Best,
    RunInfo,
    TrainerState,
    ValidationLosses,
)
from aimz_lab.inference.run.smoothing import average_at, window_steps

Monitor = Literal["loss", "validation"]
"""``loss``: means over windows of training steps. ``validation``: the held-out loss."""


class ReadRun(Protocol):
    """What is read of a run; see :class:`aimz_lab.inference.run.run.Run`.

    Attributes:
        info: Facts known before the first step.
        validation: Pairs of step and held-out loss in nats per row.
        best: Best states that callbacks keep, by monitor.
    """

    info: RunInfo
    validation: ValidationLosses
    best: dict[str, Best]

    @property
    def step(self) -> int:
        """Steps done so far."""

    @property
    def losses(self) -> Float[np.ndarray, " step"]:
        """Loss of each step in nats."""

    @property
    def state(self) -> TrainerState | None:
        """The trainer's state after the last accepted step."""


def offer_best(run: ReadRun, name: str, value: float) -> bool:
    """Keep the run's present state under ``name`` if it is better than the one kept there.

    Args:
        run: The run; the state goes to :attr:`Run.best`, and from there into checkpoints.
        name: Name of the monitor.
        value: The monitor's value of the present state in nats per row, see
            :meth:`MonitorWindows.last`; lower is better.

    Returns:
        Whether the present state is now the best.
    """
    best = run.best.get(name)
    if np.isfinite(value) and (best is None or value < best.value):
        run.best[name] = Best(float(value), run.step, run.state, name)
    return name in run.best and run.best[name].step == run.step


class MonitorWindows:
    """The readings of one monitor, each returned once and in order.

    They depend only on the run's history, however it was cut into chunks or resumed.

    Args:
        monitor: ``"loss"`` or ``"validation"``.
        window: Steps of a window of losses; ``None`` for :func:`window_steps`.
    """

    def __init__(self, monitor: Monitor, window: int | None = None) -> None:
        self._monitor = monitor
        self._requested = window
        self._window = window or window_steps(None)
        self._taken = 0

    def begin(self, run: ReadRun) -> None:
        """Begin anew with the history of a run."""
        self._window = self._requested or window_steps(run.info.steps_per_epoch)
        self._taken = 0

    @property
    def window(self) -> int:
        """Steps of a window of losses."""
        return self._window

    @property
    def name(self) -> str:
        """Name of the readings; two monitors of the same name read the same values."""
        if self._monitor == "validation":
            return "validation"
        return f"loss over {self._window} steps"

    def ends(self, run: ReadRun, count: int) -> Int[np.ndarray, " reading"]:
        """Return the steps done by the last ``count`` readings that were returned."""
        if self._monitor == "validation":
            return run.validation.steps[self._taken - count : self._taken]
        return self._taken - self._window * np.arange(count - 1, -1, -1)

    def new(self, run: ReadRun) -> Float[np.ndarray, "reading window"]:
        """Return the readings since the last call, in nats per row.

        Returns:
            Shape ``(reading, window)``, or ``(reading, 1)`` for the held-out loss.
        """
        if self._monitor == "validation":
            values = run.validation.losses[self._taken :]
            self._taken += len(values)
            return values.reshape(-1, 1)
        size, first = self._window, self._taken
        count = (run.step - first) // size
        self._taken = first + count * size
        # A window may be longer than any run; NumPy has no rows of that length.
        losses = self._losses(run, first, self._taken)
        return losses.reshape(count, size) if count else np.empty((0, 1))

    def last(self, run: ReadRun) -> float:
        """Return the reading that ends with the last step, wherever the windows begin."""
        if self._monitor == "validation":
            return float(run.validation.losses[-1])
        return float(self._losses(run, run.step - self._window, run.step).mean())

    def _losses(self, run: ReadRun, first: int, last: int) -> Float[np.ndarray, " step"]:
        return run.losses[first:last].astype(np.float64) / (run.info.n_obs or 1)


class BestSoFar:
    """The best state of a run so far: of the lowest held-out loss, or else the lowest loss.

    Whenever steps are recorded, the state after the last one is judged, by the loss of the run at
    this step: see :func:`~aimz_lab.inference.run.smoothing.averaged_steps`. So the best value is
    what was shown at its step, stays so, and no loss that is shown later is below it. The first
    state is judged once a window of steps is done.
    Its memory is that of one more state.
    """

    def __init__(self) -> None:
        self._best: Best | None = None
        self._judged = 0
        self._has_held_out = False
        self._lock = threading.Lock()  # displays may ask from other threads

    def take_over(self, best: Best | None, run: ReadRun) -> None:
        """Begin with the best state of an earlier process, whose history the run has.

        Args:
            best: That state; ``None`` if there is none.
            run: The run. If it has held-out losses, a state that was judged by another loss is left
                out, and the other way round.
        """
        self._has_held_out = self._by_held_out(run)
        is_same = best is not None and best.is_held_out == self._has_held_out
        self._best = best if is_same else None
        self._judged = len(run.validation) if self._has_held_out else run.step

    def look(self, run: ReadRun) -> Best | None:
        """Judge the present state, if it is new, and keep it if it is the best.

        Returns:
            The best state so far, or ``None``.
        """
        if run.info.is_sampling:
            return None
        with self._lock:
            if self._by_held_out(run) != self._has_held_out:
                self._has_held_out, self._best, self._judged = not self._has_held_out, None, 0
            done = len(run.validation) if self._has_held_out else run.step
            if done > self._judged:
                first, self._judged = self._judged, done
                if self._has_held_out:
                    self._offer_held_out(run, first)
                elif run.step >= window_steps(run.info.steps_per_epoch):
                    total = average_at(run.losses, run.step, run.info.steps_per_epoch)
                    value = np.nan if total is None else total / (run.info.n_obs or 1)
                    self._offer(Best(value, run.step, run.state, TRAINING))
            return self._best

    @staticmethod
    def _by_held_out(run: ReadRun) -> bool:
        return run.info.validation_every is not None or bool(run.validation)

    def _offer_held_out(self, run: ReadRun, first: int) -> None:
        """Offer the lowest of the held-out losses that are new: usually there is one."""
        values = run.validation.losses[first:]
        finite = np.where(np.isfinite(values), values, np.inf)
        at = len(values) - 1 - int(finite[::-1].argmin())
        state = run.state if at == len(values) - 1 else None
        self._offer(Best(float(values[at]), int(run.validation.steps[first + at]), state, HELD_OUT))

    def _offer(self, found: Best) -> None:
        if np.isfinite(found.value) and (self._best is None or found.value < self._best.value):
            self._best = found
