"""Write checkpoints during a run."""

from __future__ import annotations

import math
import re
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
from aimz_lab.inference.run.best_state import offer_best
from aimz_lab.inference.run.events import Callback, Run, Steps
from aimz_lab.inference.run.monitor_windows import Monitor
from aimz_lab.inference.run.records import Best
from aimz_lab.inference.run.soundness import state_is_sound
from aimz_lab.lab.callbacks.stopping import Plateau
from aimz_lab.system.paths import local_path, naming
from aimz_lab.types import shown

BEST = "best.npz"
_CANDIDATE = re.compile(r"candidate-(\d+)\.npz")
_MOST_PATHS = 1000


@public
class ModelCheckpoint(Callback):
    """Writes checkpoints of a run at intervals, on request, and at the end.

    ``fit(..., resume=directory)`` continues from the newest complete checkpoint, which also has the
    best state so far. If a process is killed while it writes a checkpoint, the older ones stay
    intact. Use a directory for one run at a time: new checkpoints replace the oldest ones there,
    also those of a previous run.

    At the end of a run that diverged, the checkpoint has the state that the model went back to, and
    the learning rate of then; without such a state none is written. Those that the run had written
    of wrecked states, or since a change of the rate after that state, are removed. As long as no
    later loss shows one of the newest to be sound, one more is kept: the newest that is.

    Args:
        directory: Where to write; made if it does not exist. Files are named
            ``000007-step-1200.npz``.
        every_s: Least seconds between two checkpoints.
        every_epochs: Epochs between two checkpoints, instead of ``every_s``.
        keep: How many to keep.
        best: Write ``best.npz`` as well, the best state so far by ``"loss"`` or ``"validation"``.
            With ``"loss"``, a state that may be the best is written as ``candidate-1200.npz`` until
            the losses of the steps after it have judged it.
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
        self._judge = None if best is None else Plateau(best, 1, 0.0, window, "best")
        self._written = (0, 0)
        self._written_s = 0.0
        self._failed = False
        self._candidate: tuple[int, Path] | None = None
        self._own: dict[Path, int] = {}  # numbered ones of this run, with their steps

    def on_fit_begin(self, run: Run) -> None:
        """Make the directory, and remove the partial file of a killed process."""
        check_can_save(run)
        if self._judge:  # before a folder is made: it may refuse the run
            self._judge.begin(run)
            self._judge.readings.new(run)
        with naming(self.directory, "checkpoint"):
            self.directory.mkdir(parents=True, exist_ok=True)
            remove_partial(self.directory)
            self._find_candidate(run)
        self._failed, self._own = False, {}
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
        """Write the last state, or the one that a diverged run went back to."""
        if self._failed:
            return
        if run.has_diverged:
            self._remove_spoiled(run)
            if run.step and not run.has_last_state:
                self._write(run)
        elif self._written != (run.step, len(run.validation)):
            self._write(run)
        with naming(self.directory, "checkpoint"):
            self._remove_old(run)

    def _write(self, run: Run) -> None:
        with naming(self.directory, "checkpoint"):
            path = next_path(self.directory, run.step)
            self._save(path, run)
            self._own[path] = run.step
            self._note_path(run, run.step, path)
            self._note_written(run)
            self._remove_old(run)

    def _remove_old(self, run: Run) -> None:
        """Remove all but the newest, and never the last one whose state is known to be sound."""
        newest_first = [path for _, path in sorted(numbered(self.directory), reverse=True)]
        kept, old = newest_first[: self._keep], newest_first[self._keep :]
        if not (run.finished or any(self._is_sound(run, path) for path in kept)):
            kept += [path for path in old if self._is_sound(run, path)][:1]
        for path in old:
            if path not in kept:
                path.unlink(missing_ok=True)

    def _is_sound(self, run: Run, path: Path) -> bool:
        """Whether a checkpoint is of an earlier run, or known to hold a sound state and rate."""
        if path not in self._own:
            return True
        step = self._own[path]
        # One of the step of a change may hold the new rate, which no later loss has judged yet.
        has_rate_of_before = all(change.step != step for change in run.rate_changes)
        return has_rate_of_before and state_is_sound(run, step)

    def _remove_spoiled(self, run: Run) -> None:
        """Remove what a diverged run wrote of wrecked states, and since a rate that wrecked it."""
        changes = [change.step for change in run.rate_changes]
        if run.has_last_state:  # there is no good one, to tell which change was to blame
            since = changes[-1] if changes else math.inf
        else:
            since = min((step for step in changes if step >= run.step_of_model), default=math.inf)
        own = self._own.items()
        spoiled = [p for p, step in own if step >= since or not self._is_sound(run, p)]
        with naming(self.directory, "checkpoint"):
            for path in spoiled:
                path.unlink(missing_ok=True)
                del self._own[path]
            if self._candidate:
                self._settle(run, None)
        gone = set(map(str, spoiled))
        run.checkpoints[:] = [noted for noted in run.checkpoints if noted[1] not in gone]

    def _note_written(self, run: Run) -> None:
        self._written, self._written_s = (run.step, len(run.validation)), time.monotonic()

    def _offer(self, run: Run) -> None:
        readings = self._judge.readings
        is_due = len(readings.new(run)) > 0
        offer_best(run, readings, is_due=is_due)
        best, candidate = (kept.get(readings.name) for kept in (run.best, run.candidates))
        if self._candidate and (candidate is None or candidate.step != self._candidate[0]):
            self._settle(run, best)
        if is_due and candidate is not None and candidate.step == run.step:
            # Written now, since a checkpoint has the history and the position of its step.
            self._candidate = run.step, self.directory / f"candidate-{run.step}.npz"
            self._save(self._candidate[1], run)
        elif is_due and best is not None and best.step == run.step:
            self._save(self.directory / BEST, run)
            self._note_path(run, run.step, self.directory / BEST)

    def _settle(self, run: Run, best: Best | None) -> None:
        """Name the file of the candidate as the best one, or remove it."""
        (step, path), self._candidate = self._candidate, None
        with naming(self.directory, "checkpoint"):
            if best is not None and best.step == step:
                path.replace(self.directory / BEST)
                self._note_path(run, step, self.directory / BEST)
            else:
                path.unlink(missing_ok=True)

    def _find_candidate(self, run: Run) -> None:
        """Find the file of a resumed run's candidate, and remove others."""
        candidate = self._judge and run.candidates.get(self._judge.readings.name)
        self._candidate = None
        for path in self.directory.glob("candidate-*.npz"):
            if match := _CANDIDATE.fullmatch(path.name):
                if candidate and int(match[1]) == candidate.step:
                    self._candidate = candidate.step, path
                else:
                    path.unlink(missing_ok=True)

    def _save(self, path: Path, run: Run) -> None:
        try:
            save_checkpoint(path, run)
        except Exception:
            self._failed = True  # and is not tried again in on_fit_end
            raise

    @staticmethod
    def _note_path(run: Run, step: int, path: Path) -> None:
        run.checkpoints.append((step, str(path)))
        del run.checkpoints[:-_MOST_PATHS]
