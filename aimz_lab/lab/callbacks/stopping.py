"""Callbacks that end a run: without progress, or after too many steps without a finite loss."""

from __future__ import annotations

from aimz_lab.calls import public
from aimz_lab.data.checks import check_positive_int
from aimz_lab.data.options import check_flag, real_number
from aimz_lab.errors import ArgumentError
from aimz_lab.inference.run.best_state import offer_best, offer_last
from aimz_lab.inference.run.events import Callback, Run, Steps
from aimz_lab.inference.run.monitor_windows import Monitor, MonitorWindows
from aimz_lab.inference.run.plateau import PlateauTest
from aimz_lab.types import check_choice, shown


class Plateau:
    """Plateau test of a monitored loss, with a patience; shared by several callbacks.

    Args:
        monitor: ``"loss"`` or ``"validation"``.
        patience: Windows without progress to wait for.
        min_delta: Least progress that counts, in nats per row.
        window: Steps of a window of losses; ``None`` for whole epochs, see
            :func:`~aimz_lab.inference.run.smoothing.window_steps`.
        argument: What the callback calls ``monitor``, for messages.

    Raises:
        ArgumentError: If a value is not allowed.
    """

    def __init__(
        self,
        monitor: Monitor,
        patience: int,
        min_delta: float,
        window: int | None,
        argument: str = "monitor",
    ) -> None:
        self.monitor = check_choice(argument, monitor, Monitor)
        self._argument = argument
        self.patience = check_positive_int("patience", patience)
        if not real_number(min_delta) >= 0:
            msg = f"min_delta={shown(min_delta)} must be a number of nats per row, at least 0."
            raise ArgumentError(msg)
        self.min_delta = real_number(min_delta)
        self.readings = MonitorWindows(
            monitor, None if window is None else check_positive_int("window", window)
        )
        self.test = PlateauTest(min_delta)

    def begin(self, run: Run) -> None:
        """Begin a run, and judge the history of a resumed one.

        Raises:
            ArgumentError: If the held-out loss is monitored and there is none.
        """
        if self.monitor == "validation" and run.info.validation_every is None:
            msg = (
                f'{self._argument}="validation" needs held-out data: fit(..., validation=(X_val, '
                f'y_val)). Or watch the training loss: {self._argument}="loss".'
            )
            raise ArgumentError(msg)
        self.test = PlateauTest(self.min_delta)
        self.readings.begin(run)

    def reason(self, waited: int) -> str:
        """Say how long there was no progress."""
        if self.monitor == "validation":
            return f"no progress of the held-out loss in its last {waited:,} values"
        return f"no progress of the loss in the last {waited * self.readings.window:,} steps"


@public
class EarlyStopping(Callback):
    """Ends a run once its loss no longer falls by more than its noise.

    Losses of minibatches are noisy; a single lower one means nothing. The mean of each window of
    steps is compared with that of the last window that made progress, against the standard error of
    their difference; see :class:`~aimz_lab.inference.run.plateau.PlateauTest`. The held-out loss
    has the same noise at each evaluation, so each of its values is a window of its own.

    Args:
        monitor: ``"loss"``, of the training steps, or ``"validation"``.
        patience: Windows without progress after which the run ends.
        min_delta: Least progress that counts, in nats per row.
        restore_best: Whether the model ends with the best state instead of the last one, however
            the run ends. With ``"loss"``, a state is judged at the end of a chunk that completed a
            window, by the mean loss of the window of steps before it. It counts once the 16 to 64
            steps after it confirm this mean up to noise. A chunk has the steps of about a tenth of
            a second; pass ``steps_per_call`` to ``fit`` if every run is to judge the same states.
        window: Steps of a window; whole epochs of at least 64 steps by default, or 256 steps where
            an epoch is longer.

    Raises:
        ArgumentError: If a value is not allowed; when the run begins, if there is no held-out data,
            or no state to restore, as in a hand-written loop.

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
        self.restore_best = check_flag("restore_best", restore_best)

    def on_fit_begin(self, run: Run) -> None:
        """Judge the history of a resumed run."""
        if self.restore_best and run.state is None:
            msg = (
                "restore_best=True needs to know the state, which a loop of your own keeps to "
                "itself; it works in fit and fit_on_batch."
            )
            raise ArgumentError(msg)
        self._plateau.begin(run)
        self._plateau.test.add(self._plateau.readings.new(run))

    def on_steps_end(self, run: Run, steps: Steps) -> None:  # noqa: ARG002
        """Judge the windows that the chunk completes."""
        if self.monitor == "loss":
            self._judge(run)

    def on_validation_end(self, run: Run, loss_per_row: float) -> None:  # noqa: ARG002
        """Judge the held-out loss."""
        if self.monitor == "validation":
            self._judge(run)

    def on_fit_end(self, run: Run) -> None:
        """Give the model the best state, with ``restore_best=True``."""
        if not self.restore_best:
            return
        best = offer_last(run, self._plateau.readings)
        if best is None:
            if run.has_last_state and run.step >= self._plateau.readings.window:
                run.notes.append("No best state was kept; the model has the last one.")
            return
        if best.step == run.step and run.has_last_state:
            run.notes.append("The model has the best state, the last one.")
        else:
            run.end_with(best.state)
            run.notes.append(f"The model has the best state, that of step {best.step:,}.")

    def _judge(self, run: Run) -> None:
        readings = self._plateau.readings.new(run)
        for waited in self._plateau.test.add(readings):
            if waited >= self._plateau.patience:
                run.control.stop(self._plateau.reason(waited), status="early_stopped")
        if self.restore_best:
            offer_best(run, self._plateau.readings, is_due=len(readings) > 0)


@public
class TerminateOnNaN(Callback):
    """Ends a run with ``on_nonfinite="skip"`` after too many steps without a finite loss.

    Any other run ends by itself at the first such step.

    Args:
        after: Skipped steps after which the run ends.

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
        """End the run, if too many steps were skipped."""
        if run.skipped >= self.after:
            reason = f"{run.skipped} steps without a finite loss, {self.after} are allowed"
            run.control.stop(reason, status="diverged")
