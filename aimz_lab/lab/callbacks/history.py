"""Record a run as a table, save and load it, and compare runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from jaxtyping import Float

from aimz_lab.calls import public
from aimz_lab.errors import DataError
from aimz_lab.files import (
    Limits,
    Malformed,
    Value,
    plain_number,
    read_sealed,
    refusing,
    sealed_text,
)
from aimz_lab.inference.run.events import Callback, Run
from aimz_lab.inference.run.spent_rate import is_spent
from aimz_lab.lab.callbacks.recorded import recorded_run
from aimz_lab.lab.pictures.summary import summary_html, summary_text
from aimz_lab.lab.record import run_of
from aimz_lab.system.imports import late_import
from aimz_lab.system.paths import local_path, naming, write_whole
from aimz_lab.types import shown

if TYPE_CHECKING:
    import pandas as pd

_VERSION = 9
_LIMITS = Limits(size=512 << 20, values=32_000_000)
_FIRST = ("bucket_steps", "epoch", "loss", "rows", "n_pad", "seconds", "learning_rate")
_INFO = (
    "model",
    "method",
    "n_obs",
    "batch_size",
    "epochs",
    "steps_per_epoch",
    "row_multiple",
    "scaled",
    "is_sampling",
    "outcome",
)


@public
class History(Callback):
    """Records a run as a table with a row for each step, and its validation losses.

    In a run of more than 131,072 steps, a row stands for several neighbouring steps; see
    :meth:`to_frame`. :attr:`losses` still has every step.

    Args:
        run: A run that has ended, or ``None`` to record the runs to come.

    Attributes:
        run: The last run, or ``None``.

    Raises:
        DataTypeError: If ``run`` is no run.

    Example:
        >>> from aimz_lab.lab.monitor import monitor
        >>> history = History()
        >>> for batch in (watch := monitor([1.0, 2.0], model="demo", callbacks=[history])):
        ...     watch.step(batch)
        >>> history.to_frame()["loss"].tolist()
        [1.0, 2.0]
    """

    every_epoch = False

    def __init__(self, run: Run | None = None) -> None:
        self.run = None if run is None else run_of(run)

    def on_fit_begin(self, run: Run) -> None:
        """Keep the run; its columns grow by themselves."""
        self.run = run

    @property
    def losses(self) -> Float[np.ndarray, " step"]:
        """Loss of each step in nats."""
        return run_of(self).losses

    def to_frame(self) -> pd.DataFrame:
        """Return a table with a row for each step, or for neighbouring steps of a long run.

        Returns:
            A data frame indexed by ``step``, from 1, with bucket_steps, epoch, loss (of all rows,
            in nats), loss_per_row if the number of rows is known, rows, n_pad, seconds,
            learning_rate, metrics and, if there is any, validation; NaN at steps without one.
            ``bucket_steps`` is 1 in a run of at most 131,072 steps. In a longer one it is the
            number of steps that end with ``step``: loss and metrics are then means, with
            ``loss_low`` and ``loss_high`` beside them, rows and n_pad are sums, and the others are
            those of the last step; validation is the last one within these steps.
        """
        pd = late_import("pandas")
        run = run_of(self)
        columns = run.table()
        ordered = {name: columns.pop(name).copy() for name in _FIRST} | columns
        index = pd.Index(np.cumsum(ordered["bucket_steps"]), name="step")
        frame = pd.DataFrame(ordered, index=index, copy=True)
        if run.info.n_obs and not run.info.is_sampling:
            frame.insert(3, "loss_per_row", frame["loss"] / run.info.n_obs)
        if run.validation:
            made = run.validation.steps
            inside = (made > 0) & (made <= run.step)
            found = np.full(len(index), np.nan)
            found[np.searchsorted(index, made[inside])] = run.validation.losses[inside]
            frame["validation"] = found
        return frame

    def to_csv(self, path: str | Path) -> None:
        """Write :meth:`to_frame` as a CSV file.

        Args:
            path: The file; replaced if it exists.

        Raises:
            ArgumentError: If it is no path of this machine.
            ArtifactWriteError: If the file cannot be written.
        """
        path = local_path("path", path)
        with naming(path, "history"):
            self.to_frame().to_csv(path)

    def to_json(self, path: str | Path) -> None:
        """Write the whole history as JSON; :meth:`from_json` reads it back.

        Args:
            path: The file; replaced if it exists.

        Raises:
            ArgumentError: If it is no path of this machine.
            DataError: If it is longer than :meth:`from_json` reads: 512 MiB.
            ArtifactWriteError: If the file cannot be written; an earlier one stays.
        """
        path = local_path("path", path)
        run = run_of(self)
        columns, metrics = run.kept()
        best = run.restored or run.best_so_far
        content = {
            "version": _VERSION,
            "info": {name: getattr(run.info, name) for name in _INFO},
            "status": run.status,
            "reason": run.reason,
            "elapsed_s": run.elapsed_s,
            "trained_s": run.trained_s,
            "prepared_s": run.prepared_s,
            "compiling_s": run.compiling_s,
            "waited_s": run.waited_s,
            "paused_s": run.paused_s,
            "skipped": run.skipped,
            "unmoved_steps": run.unmoved_steps,
            "has_spent_rate": is_spent(run),
            "notes": run.notes,
            "checkpoints": [[step, str(where)] for step, where in run.checkpoints],
            "validation": [[step, plain_number(loss)] for step, loss in run.validation],
            "best": best and [best.monitor, best.value, best.step],
            "columns": {name: _plain(kept) for name, kept in {**metrics, **columns}.items()},
        }
        with refusing(f"The history cannot be written to {path}", DataError):
            text = sealed_text(content, limits=_LIMITS)
        with naming(path, "history"):
            write_whole(path, text)

    @classmethod
    def from_json(cls, path: str | Path) -> Self:
        """Load a history that :meth:`to_json` wrote.

        Args:
            path: The file.

        Returns:
            The history, without the parameters of the run.

        Raises:
            DataError: If the file is not such a history, is damaged, or of another version; the
                message names the field.
            ArgumentError: If ``path`` is no path of this machine.
        """
        path = local_path("path", path)
        with refusing(f"{path} is no history written by History.to_json", DataError):
            return cls(recorded_run(_content(path)))

    def __repr__(self) -> str:
        return "History(no run yet)" if self.run is None else summary_text(self.run)

    def _repr_html_(self) -> str:
        return "History: no run yet" if self.run is None else summary_html(self.run)


def _content(path: str | Path) -> Value:
    """Read a history of this version."""
    content = read_sealed(path, _LIMITS)
    version = content.get("version")
    if type(version) is not int or version != _VERSION:
        msg = f"it is of version {shown(version)}, and this package reads {_VERSION}"
        raise Malformed(msg)
    return Value(content)


def _plain(values: np.ndarray) -> list[Any]:
    """Values as JSON can hold them."""
    if np.isfinite(values).all():
        return values.tolist()
    if values.ndim > 1:
        return [_plain(part) for part in values]
    return list(map(plain_number, values.tolist()))
