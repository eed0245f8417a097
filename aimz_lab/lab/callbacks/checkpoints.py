"""Write checkpoints during a run."""

from __future__ import annotations

import time
from os import PathLike
from pathlib import Path

from aimz_lab.calls import public
from aimz_lab.data.checks import check_positive_int
from aimz_lab.data.options import real_number
from aimz_lab.errors import ArgumentError
from aimz_lab.inference.checkpoint.checkpoint import (
    check_can_save,
    next_path,
    numbered,
    remove_partial,
    save_checkpoint,
)
from aimz_lab.inference.run.best_state import Monitor, offer_best
from aimz_lab.inference.run.events import Callback, Run, Steps
from aimz_lab.lab.callbacks.stopping import Plateau
from aimz_lab.system.paths import local_path, naming
from aimz_lab.types import shown

BEST = "best.npz"
_MOST_PATHS = 1000


@public
class ModelCheckpoint(Callback):
    """Writes checkpoints of a run at intervals, on request, and at the end.

    ``fit(..., resume=directory)`` continues from the newest complete checkpoint, which has the best
    state so far in it. A process that is killed while it writes one leaves the older ones intact.
    Use a directory for one run at a time: new checkpoints replace the oldest ones there, also those
    of a previous run.

    Args:
        directory: Where to write; made if it does not exist. Files are named
            ``000007-step-1200.npz``.
        every_s: Least seconds between two checkpoints.
        every_epochs: Write after every so many epochs instead.
        keep: How many to keep.
        best: Write ``best.npz`` as well, the best state so far by ``"loss"`` or ``"validation"``.
        window: Steps of a window of losses, for ``best="loss"``; as in
            :class:`~aimz_lab.lab.callbacks.EarlyStopping`.

    Attributes:
        directory: Where it writes.

    Raises:
        ArgumentError: If a value is not allowed; when the run begins, if there is no held-out data
            to judge the best state by.
        CheckpointError: When the run begins, if it is a hand-written loop.
        ArtifactWriteError: When the run begins, if the directory cannot be written to; during the
            run, if a checkpoint cannot; the run then ends as failed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = im.fit(X, y, epochs=5, progress=False, callbacks=[ModelCheckpoint(folder)])
        ...     im.fit(X, y, epochs=8, progress=False, resume=folder).last_run.resumed_at
        5
    """

    needs_loss = True
    kind = "checkpoint"

    def __init__(
        self,
        directory: str | PathLike[str],
        *,
        every_s: float = 30.0,
        every_epochs: int | None = None,
        keep: int = 3,
        best: Monitor | None = None,
        window: int | None = None,
    ) -> None:
        if not real_number(every_s) >= 0:
            msg = f"every_s={shown(every_s)} must be a number of seconds, at least 0."
            raise ArgumentError(msg)
        self.directory = local_path("directory", directory)
        self.every_epoch = every_epochs is not None
        self._every_s = real_number(every_s)
        self._every_epochs = (
            None if every_epochs is None else check_positive_int("every_epochs", every_epochs)
        )
        self._keep = check_positive_int("keep", keep)
        if window is not None:
            check_positive_int("window", window)
        self._best = best
        self._judge = None if best is None else Plateau(best, 1, 0.0, window)
        self._written = (0, 0)
        self._written_s = 0.0
        self._failed = False

    def on_fit_begin(self, run: Run) -> None:
        """Make the directory, and remove the partial file of a killed process."""
        check_can_save(run)
        if self._judge:  # before a folder is made: it may refuse the run
            self._judge.begin(run)
            self._judge.readings.new(run)
        with naming(self.directory, "checkpoint"):
            self.directory.mkdir(parents=True, exist_ok=True)
            remove_partial(self.directory)
        self._failed = False
        self._note_written(run)

    def on_steps_end(self, run: Run, steps: Steps) -> None:  # noqa: ARG002
        """Write, if a checkpoint is due."""
        if self._best == "loss":
            self._offer(run)
        if not self.every_epoch and time.monotonic() - self._written_s >= self._every_s:
            self._write(run)

    def on_epoch_end(self, run: Run, epoch: int) -> None:
        """Write, if a checkpoint is due after this epoch."""
        if self.every_epoch and epoch % self._every_epochs == 0:
            self._write(run)

    def on_validation_end(self, run: Run, loss_per_row: float) -> None:  # noqa: ARG002
        """Write the state, if it is the best."""
        if self._best == "validation":
            self._offer(run)

    def on_checkpoint(self, run: Run) -> None:
        """Write, on request."""
        self._write(run)

    def on_fit_end(self, run: Run) -> None:
        """Write the last state, however the run ended."""
        if not self._failed and self._written != (run.step, len(run.validation)):
            self._write(run)

    def _write(self, run: Run) -> None:
        with naming(self.directory, "checkpoint"):
            path = next_path(self.directory, run.step)
            self._save(path, run)
            self._note_written(run)
            for _, old in sorted(numbered(self.directory))[: -self._keep]:
                old.unlink(missing_ok=True)

    def _note_written(self, run: Run) -> None:
        self._written, self._written_s = (run.step, len(run.validation)), time.monotonic()

    def _offer(self, run: Run) -> None:
        readings = self._judge.readings
        if len(readings.new(run)) and offer_best(run, readings.name, readings.last(run)):
            self._save(self.directory / BEST, run)

    def _save(self, path: Path, run: Run) -> None:
        try:
            save_checkpoint(path, run)
        except Exception:
            self._failed = True  # and is not tried again in on_fit_end
            raise
        run.checkpoints.append((run.step, str(path)))
        del run.checkpoints[:-_MOST_PATHS]
