"""Write a CSV file with a row for each step."""

from __future__ import annotations

import csv
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

import numpy as np

from aimz_lab.calls import public
from aimz_lab.data.options import check_flag
from aimz_lab.inference.run.events import Callback, Run, Steps
from aimz_lab.system.paths import local_path, naming

_COLUMNS = ("step", "epoch", "loss", "rows", "n_pad", "seconds", "learning_rate")


@public
class CSVLogger(Callback):
    """Writes a row for each step to a CSV file during the run, so that a crash loses nothing.

    The file has every step, however long the run. The run itself and a
    :class:`~aimz_lab.lab.callbacks.History` join neighbouring steps if there are more than 131,072.

    The columns are step, epoch, loss (of all rows, in nats), rows, n_pad, seconds, learning_rate
    and the metrics of the first steps.

    Args:
        path: The file.
        append: Whether to append to an existing file, without another header, or to replace it.

    Raises:
        ArgumentError: If ``path`` is no path of this machine, or ``append`` neither ``True`` nor
            ``False``.
        ArtifactWriteError: When the run begins, or during it, if the file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     log = CSVLogger(f"{folder}/run.csv")
        ...     _ = im.fit(X, y, epochs=5, progress=False, callbacks=[log])
        ...     log.path.read_text().splitlines()[0]
        'step,epoch,loss,rows,n_pad,seconds,learning_rate'
    """

    every_epoch = False
    writes = True

    def __init__(self, path: str | Path, *, append: bool = False) -> None:
        self.path = local_path("path", path)
        self._append = check_flag("append", append)
        self._file: IO[str] | None = None
        self._is_new = False
        self._metrics: tuple[str, ...] | None = None

    def on_fit_begin(self, run: Run) -> None:  # noqa: ARG002
        """Open the file; what it holds is replaced at the first step, if there will be one."""
        self._metrics, self._is_new = None, not self.path.exists()
        with self._naming():
            self._file = self.path.open("a", newline="", encoding="utf-8")

    def on_steps_end(self, run: Run, steps: Steps) -> None:
        """Write the rows of the chunk."""
        writer = csv.writer(self._file)
        if self._metrics is None:
            self._metrics = tuple(steps.metrics)
            if not self._append:
                with self._naming():
                    self._file.seek(0)
                    self._file.truncate()
            if self._file.tell() == 0:
                writer.writerow([*_COLUMNS, *self._metrics])
        values = [steps.metrics.get(name, np.full(len(steps), np.nan)) for name in self._metrics]
        stepping_s, rate = run.stepping_s, steps.learning_rate
        rows = [
            [info.step, info.epoch, info.loss, info.rows, info.n_pad, stepping_s, rate]
            + [float(column[i]) for column in values]
            for i, info in enumerate(steps)
        ]
        with self._naming():
            writer.writerows(rows)
            self._file.flush()

    def on_fit_end(self, run: Run) -> None:  # noqa: ARG002
        """Close the file, if it could be opened."""
        if self._file is None:
            return
        file, self._file = self._file, None
        with self._naming():
            file.close()
            if self._is_new and self._metrics is None:
                self.path.unlink(missing_ok=True)

    def _naming(self) -> AbstractContextManager[None]:
        return naming(self.path, "CSV file of the run")
