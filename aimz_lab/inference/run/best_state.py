"""Read the loss window by window, and keep the state with the lowest reading: the best one."""

from __future__ import annotations

import threading
from typing import Literal, Protocol

import numpy as np
from jaxtyping import Float, Int

from aimz_lab.inference.run.records import Best, RunInfo, TrainerState, ValidationLosses

Monitor = Literal["loss", "validation"]
"""``loss``: means over windows of training steps. ``validation``: the held-out loss."""

_LONGEST = 256
_SHORTEST = 64


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


def window_steps(steps_per_epoch: int | None) -> int:
    """Steps of a window by default: whole epochs if they are short, else 256.

    Windows of whole epochs see the same rows: their means differ by noise and progress alone.

    Example:
        >>> window_steps(6), window_steps(100), window_steps(3_000), window_steps(None)
        (66, 100, 256, 256)
    """
    if steps_per_epoch is None or steps_per_epoch > _LONGEST:
        return _LONGEST
    return -(-_SHORTEST // steps_per_epoch) * steps_per_epoch


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
        self._window = window or _LONGEST
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
    """The best state of a run so far: by the held-out loss, or else by windows of training steps.

    By the training loss, states are judged after each chunk of steps in which a window ended: by
    the mean of a window that ends with the state.
    Its memory is that of one more state.
    """

    def __init__(self) -> None:
        self._best: Best | None = None
        self._windows: MonitorWindows | None = None
        self._has_held_out = False
        self._lock = threading.Lock()  # displays may ask from other threads

    def leave_out_restored(self, run: ReadRun) -> None:
        """Leave out the steps of an earlier process, whose states are gone."""
        if run.step:
            self._windows_of(run).new(run)

    def look(self, run: ReadRun) -> Best | None:
        """Take the readings that are new; keep the present state if the newest is the best.

        Returns:
            The best state so far, or ``None``.
        """
        if run.info.is_sampling:
            return None
        with self._lock:
            windows = self._windows_of(run)
            values = windows.new(run).mean(axis=1)
            if len(values):
                self._offer(run, windows, values)
            return self._best

    def _windows_of(self, run: ReadRun) -> MonitorWindows:
        has_held_out = run.info.validation_every is not None or bool(run.validation)
        if self._windows is None or has_held_out != self._has_held_out:
            self._has_held_out, self._best = has_held_out, None
            self._windows = MonitorWindows("validation" if has_held_out else "loss")
            self._windows.begin(run)
        return self._windows

    def _offer(
        self,
        run: ReadRun,
        windows: MonitorWindows,
        values: Float[np.ndarray, " reading"],
    ) -> None:
        state, ends = run.state, windows.ends(run, len(values))
        if state is not None:  # the present one, whose reading ends now
            values, ends = np.array([windows.last(run)]), [run.step]
        if np.isfinite(values).any():
            at = int(np.nanargmin(np.where(np.isfinite(values), values, np.nan)))
            if self._best is None or values[at] < self._best.value:
                self._best = Best(float(values[at]), int(ends[at]), state, windows.name)
