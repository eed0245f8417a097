"""Callbacks that change the learning rate during a run."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from aimz_lab.calls import public
from aimz_lab.data.options import check_callable, real_number
from aimz_lab.errors import ArgumentError
from aimz_lab.inference.run.events import Callback, Run, Steps
from aimz_lab.inference.run.monitor_windows import Monitor
from aimz_lab.lab.callbacks.stopping import Plateau
from aimz_lab.types import shown


@public
class ReduceLROnPlateau(Callback):
    """Lowers the learning rate each time the loss no longer falls by more than its noise.

    The test is that of :class:`~aimz_lab.lab.callbacks.EarlyStopping`. A new rate holds from the
    chunk of steps after the one that decided it.

    Args:
        monitor: ``"loss"``, of the training steps, or ``"validation"``.
        factor: Factor of the rate, between 0 and 1.
        patience: Windows without progress after which the rate falls.
        min_rate: Lowest rate.
        min_delta: Least progress that counts, in nats per row.
        window: Steps of a window of losses; as in :class:`~aimz_lab.lab.callbacks.EarlyStopping`.

    Attributes:
        changes: Pairs of a step after which the rate was lowered, and the new rate.

    Raises:
        ArgumentError: If a value is not allowed; when the run begins, if the optimizer's rate is
            fixed or there is no held-out data.

    Example:
        >>> ReduceLROnPlateau(factor=0.1, patience=2).changes
        []
    """

    needs_loss = True
    every_epoch = False

    def __init__(
        self,
        monitor: Monitor = "loss",
        *,
        factor: float = 0.5,
        patience: int = 3,
        min_rate: float = 0.0,
        min_delta: float = 0.0,
        window: int | None = None,
    ) -> None:
        if not 0 < real_number(factor) < 1:
            msg = f"factor={shown(factor)} must be between 0 and 1, such as 0.5."
            raise ArgumentError(msg)
        if not 0 <= real_number(min_rate) < math.inf:
            msg = f"min_rate={shown(min_rate)} must be a number of at least 0, such as 1e-5."
            raise ArgumentError(msg)
        self._plateau = Plateau(monitor, patience, min_delta, window)
        self._factor = real_number(factor)
        self._min_rate = real_number(min_rate)
        self.monitor = monitor
        self.changes: list[tuple[int, float]] = []
        self._waited = 0  # since the last progress, or the last change

    def on_fit_begin(self, run: Run) -> None:
        """Refuse an optimizer whose rate is fixed; judge the history of a resumed run."""
        if run.state is not None:  # a hand-written loop makes its optimizer later
            run.control.check_learning_rate()
        self._plateau.begin(run)
        self.changes, self._waited = [], 0
        self._is_due(run)

    def on_steps_end(self, run: Run, steps: Steps) -> None:  # noqa: ARG002
        """Judge the windows that the chunk completes."""
        if self.monitor == "loss" and self._is_due(run):
            self._lower(run)

    def on_validation_end(self, run: Run, loss_per_row: float) -> None:  # noqa: ARG002
        """Judge the held-out loss."""
        if self.monitor == "validation" and self._is_due(run):
            self._lower(run)

    def _is_due(self, run: Run) -> bool:
        due = False
        for waited in self._plateau.test.add(self._plateau.readings.new(run)):
            self._waited = self._waited + 1 if waited else 0
            if self._waited >= self._plateau.patience:
                due, self._waited = True, 0
        return due

    def _lower(self, run: Run) -> None:
        if run.learning_rate is None:
            run.control.check_learning_rate()
            msg = (
                "Nobody tells the present learning rate, which cannot be lowered then; tell the "
                "loop of its ImpactModel: monitor(..., model=im)."
            )
            raise ArgumentError(msg)
        rate = max(run.learning_rate * self._factor, self._min_rate)
        # The optimizer keeps its rate in 32 bits.
        if np.float32(rate) < np.float32(run.learning_rate):
            run.control.set_learning_rate(rate)
            self.changes.append((run.step, rate))


@public
class LearningRateScheduler(Callback):
    """Sets the learning rate of each epoch.

    Give a schedule by step to the optimizer itself, as a schedule of optax.

    Args:
        schedule: Returns the rate of an epoch from its number, which begins at 1.

    Raises:
        ArgumentError: If ``schedule`` is no function; when the run begins, if the optimizer's rate
            is fixed; later, if the schedule returns anything but a positive finite number.

    Example:
        >>> scheduler = LearningRateScheduler(lambda epoch: 0.01 * 0.9**epoch)
    """

    needs_loss = True

    def __init__(self, schedule: Callable[[int], float]) -> None:
        self._schedule = check_callable("schedule", schedule, "from an epoch to its rate")

    def on_fit_begin(self, run: Run) -> None:
        """Refuse an optimizer whose rate is fixed."""
        run.control.check_learning_rate()

    def on_epoch_begin(self, run: Run, epoch: int) -> None:
        """Ask for the epoch's rate, unless it is the present one."""
        rate = self._schedule(epoch)
        if not 0 < real_number(rate) < math.inf:
            msg = (
                f"A learning rate is a positive finite number; the schedule returned {shown(rate)} "
                f"for epoch {epoch}."
            )
            raise ArgumentError(msg)
        if run.learning_rate is None or np.float32(rate) != np.float32(run.learning_rate):
            run.control.set_learning_rate(rate)
