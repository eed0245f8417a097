"""Listeners that end a run: when it gets nowhere any more, or when too many steps went wrong."""

from __future__ import annotations

from aimz_lab.data.checks import check_positive_int
from aimz_lab.errors import ArgumentError
from aimz_lab.inference.run.best_state import Monitor, MonitorWindows, offer_best
from aimz_lab.inference.run.events import Callback, Run, Steps
from aimz_lab.inference.run.plateau import PlateauTest
from aimz_lab.types import check_choice


class Plateau:
    """What the listeners that wait for a plateau share: a monitor, a test, a patience.

    Args:
        monitor: ``"loss"`` or ``"validation"``.
        patience: MonitorWindows without progress that are waited for.
        min_delta: Least progress that counts, in nats per row.
        window: Steps of a window of losses; ``None`` for whole epochs, see
            :func:`~aimz_lab.inference.run.best_state.window_steps`.

    Raises:
        ArgumentError: If a value is not allowed.
    """

    def __init__(
        self, monitor: Monitor, patience: int, min_delta: float, window: int | None
    ) -> None:
        self.monitor = check_choice("monitor", monitor, Monitor)
        self.patience = check_positive_int("patience", patience)
        if not min_delta >= 0:
            msg = f"min_delta={min_delta!r} must be a number of nats per row, at least 0."
            raise ArgumentError(msg)
        self.min_delta = min_delta
        self.readings = MonitorWindows(
            monitor, None if window is None else check_positive_int("window", window)
        )
        self.test = PlateauTest(min_delta)

    def begin(self, run: Run) -> None:
        """Begin with a run, and judge what an earlier process has left of it.

        Raises:
            ArgumentError: If the held-out loss is watched and there is none.
        """
        if self.monitor == "validation" and run.info.validation_every is None:
            msg = (
                'monitor="validation" needs held-out data: fit(..., validation=(X_val, y_val)). Or '
                'watch the training loss: monitor="loss".'
            )
            raise ArgumentError(msg)
        self.test = PlateauTest(self.min_delta)
        self.readings.begin(run)

    def in_words(self, waited: int) -> str:
        """Say what has been waited for in vain."""
        return f"no progress of the {self.readings.name} in {waited} readings"


class EarlyStopping(Callback):
    """Ends a run once its loss no longer falls by more than its noise.

    Losses of minibatches are noisy, so that a single lower one means nothing. The mean of each
    window of steps is compared with that of the last window that made progress, against the
    standard error of their difference; see
    :class:`~aimz_lab.inference.run.plateau.PlateauTest`. Of the held-out loss, whose noise is
    fixed, each single value is a reading.

    Args:
        monitor: ``"loss"``, of the training steps, or ``"validation"``.
        patience: MonitorWindows without progress after which the run ends.
        min_delta: Least progress that counts, in nats per row.
        restore_best: Whether the model ends with the best state instead of the last one, however
            the run ends. By ``"loss"`` that is the state after the chunk of steps in which the
            lowest window ended.
        window: Steps of a window; whole epochs of at least 64 steps by default, or 256 steps where
            an epoch is longer.

    Raises:
        ArgumentError: If a value is not allowed; when the run begins, if there is no held-out data,
            or no state to restore in a loop that is written by hand.

    Example:
        >>> EarlyStopping(patience=3, restore_best=True).monitor
        'loss'
    """

    needs_loss = True
    every_epoch = False

    def __init__(
        self,
        monitor: Monitor = "loss",
        *,
        patience: int = 5,
        min_delta: float = 0.0,
        restore_best: bool = False,
        window: int | None = None,
    ) -> None:
        self._plateau = Plateau(monitor, patience, min_delta, window)
        self.monitor = monitor
        self.restore_best = restore_best

    def on_fit_begin(self, run: Run) -> None:
        """Take in the history of a run that goes on."""
        if self.restore_best and run.state is None:
            msg = (
                "restore_best=True needs to know the state, which a loop of your own keeps to "
                "itself; it works in fit and fit_on_batch."
            )
            raise ArgumentError(msg)
        self._plateau.begin(run)
        self._plateau.test.add(self._plateau.readings.new(run))

    def on_steps_end(self, run: Run, steps: Steps) -> None:  # noqa: ARG002
        """Judge the windows that the chunk has filled."""
        if self.monitor == "loss":
            self._judge(run)

    def on_validation_end(self, run: Run, loss_per_row: float) -> None:  # noqa: ARG002
        """Judge the held-out loss."""
        if self.monitor == "validation":
            self._judge(run)

    def on_fit_end(self, run: Run) -> None:
        """Give the model the best state, if that was asked for."""
        best = run.best.get(self._plateau.readings.name)
        if self.restore_best and best is not None:
            run.end_with(best.state)
            run.notes.append(f"The model has the best state, that of step {best.step:,}.")

    def _judge(self, run: Run) -> None:
        readings = self._plateau.readings.new(run)
        for waited in self._plateau.test.add(readings):
            if waited >= self._plateau.patience:
                run.control.stop(self._plateau.in_words(waited), status="early_stopped")
        if len(readings) and self.restore_best:
            offer_best(run, self._plateau.readings.name, float(readings[-1].mean()))


class TerminateOnNaN(Callback):
    """Ends a run with ``on_nonfinite="skip"`` once too many steps had to be left out.

    Any other run ends by itself at the first such step.

    Args:
        after: Steps left out after which the run ends.

    Raises:
        ArgumentError: If ``after`` is not a positive int.

    Example:
        >>> TerminateOnNaN(after=10).after
        10
    """

    needs_loss = True
    every_epoch = False

    def __init__(self, after: int = 1) -> None:
        self.after = check_positive_int("after", after)

    def on_steps_end(self, run: Run, steps: Steps) -> None:  # noqa: ARG002
        """Count."""
        if run.skipped >= self.after:
            reason = f"{run.skipped} steps without a finite loss, {self.after} are allowed"
            run.control.stop(reason, status="diverged")
