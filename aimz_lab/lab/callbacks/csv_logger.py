"""Write a CSV file with a row for each step."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import IO

import numpy as np

from aimz_lab.inference.run.events import Callback, Run, Steps

_COLUMNS = ("step", "epoch", "loss", "rows", "n_pad", "seconds", "learning_rate")


class CSVLogger(Callback):
    """Writes a row for each step to a CSV file during the run, so that a crash loses nothing.

    The columns are step, epoch, loss, rows, n_pad, seconds, learning_rate and the metrics of the
    first steps.

    Args:
        path: The file.
        append: Whether to append to an existing file, without another header, or to replace it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     log = CSVLogger(f"{folder}/run.csv")
        ...     _ = im.fit(X, y, epochs=5, progress=False, callbacks=[log])
        ...     log.path.read_text().splitlines()[0]
        'step,epoch,loss,rows,n_pad,seconds,learning_rate'
    """

    every_epoch = False

    def __init__(self, path: str | Path, *, append: bool = False) -> None:
        self.path = Path(path)
        self._append = append
        self._file: IO[str] | None = None
        self._is_new = False
        self._metrics: tuple[str, ...] | None = None

    def on_fit_begin(self, run: Run) -> None:  # noqa: ARG002
        """Open the file; what it holds is replaced at the first step, if there will be one."""
        self._metrics, self._is_new = None, not self.path.exists()
        self._file = self.path.open("a", newline="", encoding="utf-8")

    def on_steps_end(self, run: Run, steps: Steps) -> None:
        """Write the rows of the chunk."""
        writer = csv.writer(self._file)
        if self._metrics is None:
            self._metrics = tuple(steps.metrics)
            if not self._append:
                self._file.seek(0)
                self._file.truncate()
            if self._file.tell() == 0:
                writer.writerow([*_COLUMNS, *self._metrics])
        values = [steps.metrics.get(name, np.full(len(steps), np.nan)) for name in self._metrics]
        seconds = float(run.column("seconds")[-1])
        writer.writerows(
            [info.step, info.epoch, info.loss, info.rows, info.n_pad, seconds, steps.learning_rate]
            + [float(column[i]) for column in values]
            for i, info in enumerate(steps)
        )
        self._file.flush()

    def on_fit_end(self, run: Run) -> None:  # noqa: ARG002
        """Close the file, if it could be opened."""
        if self._file is None:
            return
        self._file.close()
        self._file = None
        if self._is_new and self._metrics is None:
            self.path.unlink(missing_ok=True)
