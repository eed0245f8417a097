"""Write a CSV file with a row for each step."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import IO

import numpy as np

from aimz_lab.data.options import check_flag, check_path
from aimz_lab.inference.run.events import Callback, Run, Steps

_COLUMNS = ("step", "epoch", "loss", "rows", "n_pad", "seconds", "learning_rate")


class CSVLogger(Callback):
    """Writes a row for each step to a CSV file during the run, so that a crash loses nothing.

    The columns are step, epoch, loss, rows, n_pad, seconds, learning_rate and the metrics of the
    first steps.

    Args:
        path: The file.
        append: Whether to append to an existing file, without another header, or to replace it.

    Raises:
        ArgumentError: If an argument has a value that is not allowed.

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
        self.path = check_path("path", path)
        self._append = check_flag("append", append)
        self._file: IO[str] | None = None
        self._metrics: tuple[str, ...] | None = None

    def on_fit_begin(self, run: Run) -> None:  # noqa: ARG002
        """Open the file."""
        self._metrics = None
        self._file = self.path.open("a" if self._append else "w", newline="", encoding="utf-8")

    def on_steps_end(self, run: Run, steps: Steps) -> None:
        """Write the rows of the chunk."""
        writer = csv.writer(self._file)
        if self._metrics is None:
            self._metrics = tuple(steps.metrics)
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
        """Close the file."""
        self._file.close()
