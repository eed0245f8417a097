"""The run of a hand-written loop, from its batches and the losses given for them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from aimz_lab.errors import CallError, FitWarning
from aimz_lab.inference.run.control import Control
from aimz_lab.inference.run.events import Callback, Callbacks
from aimz_lab.inference.run.getting_ready import preparation_for
from aimz_lab.inference.run.loop import Lifecycle
from aimz_lab.inference.run.records import RunInfo
from aimz_lab.inference.run.run import Run
from aimz_lab.inference.run.steps import Steps
from aimz_lab.lab.monitor.batches import Batches, bytes_of, rows_of
from aimz_lab.lab.monitor.model_link import ModelLink
from aimz_lab.lab.monitor.pending_losses import PendingLosses
from aimz_lab.tracebacks import warn
from aimz_lab.types import RunStatus

FLUSH_S = 0.05
"""Seconds between two fetches of losses, each of which waits for the device."""

_FORGOTTEN = "{} of {} batches had no loss: call watch.step(loss) once for each."


class WatchedRun(Lifecycle):
    """The run of a loop whose steps the user computes.

    Args:
        batches: The source of batches.
        epochs: Passes over it.
        model: The ``ImpactModel`` that the loop trains, or a name for it.
        callbacks: The callbacks of the run.
        set_learning_rate: Called with a requested rate; or ``None``.
    """

    def __init__(
        self,
        batches: Batches,
        epochs: int,
        model: Any,
        callbacks: list[Callback],
        set_learning_rate: Callable[[float], None] | None,
    ) -> None:
        self._link = ModelLink(model)
        self._set_rate = set_learning_rate or self._link.set_learning_rate
        self._pending = PendingLosses()
        self._told_of_bad_steps = False
        control = Control(
            can_set_learning_rate=set_learning_rate is not None, why_not=self._link.why_fixed
        )
        info = RunInfo(
            model=self._link.name,
            method=self._link.method,
            n_obs=self._link.share_n_obs(batches.n_obs),
            batch_size=batches.batch_size,
            epochs=epochs,
            steps_per_epoch=batches.per_epoch,
            row_multiple=batches.row_multiple,
            devices=batches.devices,
        )
        run = Run(info, control=control, get_params=self._link.params)
        run.guide, run.axis_labels = self._link.guide, self._link.axis_labels
        super().__init__(run, Callbacks(callbacks, run))
        self.preparation = preparation_for(info.model, callbacks)
        self.preparation.activity = "computing the first step"

    def begin(self) -> None:
        """Start the clock and call ``on_fit_begin``, whose time is not part of the first step."""
        self.run.learning_rate = self._learning_rate()
        self.preparation.begin()
        super().begin()
        self.begin_steps()

    @property
    def n_steps(self) -> int:
        """Steps so far, reported or not."""
        return self.run.step + len(self._pending)

    @property
    def where(self) -> str:
        """How far the loop has come, as a phrase for the run's reason."""
        return f"after step {self.n_steps:,}"

    @property
    def no_stepping_s(self) -> float:
        """Seconds so far that went to callbacks, compiling and waiting for other calls."""
        callbacks_s = self.run.seconds_in.get("callbacks", 0.0)
        return callbacks_s + self.run.compiling_s + self.run.waited_s

    def hand_out(self, epoch: int, item: Any) -> None:
        """Note that a batch of ``epoch`` is handed out."""
        self.run.transferred_bytes += bytes_of(item)
        self._pending.hand_out(epoch, *rows_of(item))

    def take(self, loss: Any, metrics: dict[str, Any]) -> bool:
        """Take the loss of the batch at hand, without waiting for it.

        Returns:
            Whether a report is due.

        Raises:
            CallError: If there is no batch at hand, or its loss was given already.
            DataError: If a value is not a scalar.
        """
        self._pending.give(loss, metrics)
        return time.monotonic() - self.lap_began >= FLUSH_S

    def end_epoch(self, epoch: int) -> None:
        """Note that ``epoch`` has no more batches.

        Raises:
            CallError: If none of the batches so far had a loss.
        """
        n_batches = self._pending.n_batches
        if self.n_steps == 0 and n_batches:
            raise CallError(_FORGOTTEN.format(n_batches, n_batches))
        if self.run.info.steps_per_epoch is None:
            self.run.info = dataclasses.replace(self.run.info, steps_per_epoch=n_batches)
        self._pending.end_epoch(epoch)
        if self.callbacks.aligned_to_epochs or not self._pending:
            self.flush()

    def flush_ready(self) -> None:
        """Report all but the newest loss, which is likely still being computed."""
        self._fetch(keep=1 if len(self._pending) > 1 else 0)

    def flush(self) -> None:
        """Report all losses that were taken."""
        self._fetch(keep=0)

    def _fetch(self, keep: int) -> None:
        columns, epoch_ends = self._pending.fetch(keep)
        steps = Steps(
            first=self.run.step + 1,
            seconds=self.lap(time.monotonic()),
            learning_rate=self._learning_rate(),
            **columns,
        )
        self._tell_of_bad_steps(steps)
        self.report(steps, epoch_ends)

    def _tell_of_bad_steps(self, steps: Steps) -> None:
        """Warn once of a loss that is not finite; only the loop knows what became of the step."""
        bad = np.flatnonzero(~np.isfinite(steps.loss))
        if len(bad) == 0 or self._told_of_bad_steps:
            return
        self._told_of_bad_steps = True
        at = int(bad[0])
        note = (
            f"The loss was {steps.loss[at]} at step {steps.first + at:,}. A loop should leave such "
            "steps out, with the parameters of before, as train_on_batch of an ImpactModel does."
        )
        self.run.notes.append(note)
        warn(note, FitWarning)

    def _learning_rate(self) -> float | None:
        rate = self._link.learning_rate()
        if rate is not None:
            self.run.control.can_set_learning_rate = True
        return rate

    def set_learning_rate(self, rate: float) -> str:
        """Pass a requested rate to the user's function, or to the model."""
        self._set_rate(rate)
        return ""

    def _close(self, status: RunStatus, reason: str) -> None:
        # A loop that ends early may do so before the loss of its last batch.
        n_batches = self._pending.n_batches
        forgotten = n_batches - self.run.step - (status != "completed")
        if forgotten > 0:
            self.run.notes.append(_FORGOTTEN.format(forgotten, n_batches))
        super()._close(status, reason)
