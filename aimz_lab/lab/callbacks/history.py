"""Record a run as a table, save and load it, and compare runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from jaxtyping import Float

from aimz_lab.data.options import check_path
from aimz_lab.errors import ArgumentError, DataError
from aimz_lab.inference.run.events import Callback, Run, RunInfo, Steps
from aimz_lab.lab import formatting
from aimz_lab.lab.pictures.summary import summary_html, summary_text
from aimz_lab.lab.record import RecordedRun, RunSource, loss_trace, padded_share, run_of

if TYPE_CHECKING:
    import pandas as pd

_VERSION = 1
_COLUMNS = ("epoch", "loss", "rows", "n_pad", "seconds", "learning_rate")
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
)


class History(Callback):
    """Records a run as a table with a row for each step, and its validation losses.

    Args:
        run: A run that has ended, or ``None`` to record those to come.

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
        """Return a table with a row for each step.

        Returns:
            A data frame indexed by ``step``, from 1, with epoch, loss, rows, n_pad, seconds,
            learning_rate, metrics and, if there is any, validation; NaN at steps without one.
        """
        import pandas as pd

        run = run_of(self)
        columns = {name: run.column(name).copy() for name in (*_COLUMNS, *run.metrics)}
        index = pd.RangeIndex(1, run.step + 1, name="step")
        frame = pd.DataFrame(columns, index=index)
        if run.validation:
            steps, losses = zip(*run.validation, strict=True)
            made = pd.Series(losses, steps, dtype=float)
            frame["validation"] = made[~made.index.duplicated(keep="last")].reindex(index)
        return frame

    def to_csv(self, path: str | Path) -> None:
        """Write :meth:`to_frame` as a CSV file.

        Args:
            path: The file; replaced if it exists.

        Raises:
            ArgumentError: If ``path`` is no path.
        """
        self.to_frame().to_csv(check_path("path", path))

    def to_json(self, path: str | Path) -> None:
        """Write the whole history as JSON; :meth:`from_json` reads it back.

        Args:
            path: The file; replaced if it exists.

        Raises:
            ArgumentError: If ``path`` is no path.
        """
        run, where = run_of(self), check_path("path", path)
        # JSON has no NaN and no infinities: they are written as text.
        columns = {
            name: [v if np.isfinite(v) else str(v) for v in run.column(name).tolist()]
            for name in (*_COLUMNS, *run.metrics)
        }
        content = {
            "version": _VERSION,
            "info": {name: getattr(run.info, name) for name in _INFO},
            "status": run.status,
            "reason": run.reason,
            "elapsed_s": run.elapsed_s,
            "notes": run.notes,
            "checkpoints": [[step, str(where)] for step, where in run.checkpoints],
            "validation": run.validation,
            "columns": columns,
        }
        where.write_text(json.dumps(content), encoding="utf-8")

    @classmethod
    def from_json(cls, path: str | Path) -> Self:
        """Load a history that :meth:`to_json` wrote.

        Args:
            path: The file.

        Returns:
            The history, without the parameters of the run.

        Raises:
            DataError: If the file is not such a history, or of a newer version.
            ArgumentError: If ``path`` is no path.
        """
        path = check_path("path", path)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["version"] > _VERSION:
                msg = f"{path} is of version {content['version']}; this package reads {_VERSION}."
                raise DataError(msg)
            return cls(_restore(content))
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            msg = f"{path} is no history written by History.to_json: {error!r}."
            raise DataError(msg) from error

    def __repr__(self) -> str:
        return "History(no run yet)" if self.run is None else summary_text(self.run)

    def _repr_html_(self) -> str:
        return "History: no run yet" if self.run is None else summary_html(self.run)


def _restore(content: Mapping[str, Any]) -> RecordedRun:
    columns = {name: np.array(values, float) for name, values in content["columns"].items()}
    run = RecordedRun(
        RunInfo(**{name: v for name, v in content["info"].items() if name in _INFO}),
        _chunks(columns),
        status=content["status"],
        reason=content["reason"],
        elapsed_s=content["elapsed_s"],
    )
    run.validation = [(int(step), float(loss)) for step, loss in content["validation"]]
    run.checkpoints = [(int(step), where) for step, where in content["checkpoints"]]
    run.notes = list(content["notes"])
    return run


def _chunks(columns: Mapping[str, np.ndarray]) -> Iterator[Steps]:
    """Cut columns where the time of the chunk changes: steps of one chunk ended together."""
    ends, firsts = np.unique(columns["seconds"], return_index=True)
    for first, last, seconds in zip(
        firsts, [*firsts[1:], len(columns["seconds"])], np.diff(ends, prepend=0.0), strict=True
    ):
        part = {name: values[first:last] for name, values in columns.items()}
        yield Steps(
            first=int(first) + 1,
            epoch=part["epoch"].astype(np.int32),
            loss=part["loss"].astype(np.float32),
            rows=part["rows"].astype(np.int32),
            n_pad=part["n_pad"].astype(np.int32),
            seconds=float(seconds),
            learning_rate=rate if np.isfinite(rate := part["learning_rate"][-1]) else None,
            metrics={name: values for name, values in part.items() if name not in _COLUMNS},
        )


def compare(*histories: RunSource) -> pd.DataFrame:
    """Put runs side by side.

    Args:
        *histories: At least one history, run, dashboard or watched loop.

    Returns:
        A column a run, in the order given: how it ended, steps, time, rates, and losses, per row
        where the rows are known. ``loss`` and ``best`` are smoothed.

    Raises:
        ArgumentError: If none is given.

    Example:
        >>> runs = [im.fit(X, y, epochs=n, progress=False).last_run for n in (5, 10)]
        >>> compare(*runs).loc["steps"].tolist()
        [5, 10]
    """
    if not histories:
        msg = "compare() puts histories side by side; pass at least one."
        raise ArgumentError(msg)
    import pandas as pd

    runs = [run_of(history) for history in histories]
    names = [f"{run.info.model} {i}" for i, run in enumerate(runs, start=1)]
    return pd.DataFrame({name: _facts(run) for name, run in zip(names, runs, strict=True)})


def _facts(run: Run) -> dict[str, Any]:
    rows = run.info.n_obs or 1
    trace = loss_trace(run)
    smoothed = trace.smooth() / rows
    finite = np.isfinite(smoothed).any()
    seconds = run.column("seconds")
    stepping_s = float(seconds[-1]) if len(seconds) else 0.0
    return {
        "method": run.info.method,
        "status": formatting.STATUS_WORDS[run.status],
        "epochs": run.epoch,
        "steps": run.step,
        "batch_size": run.info.batch_size,
        "elapsed_s": run.elapsed_s,
        "steps_per_s": run.step / stepping_s if stepping_s else np.nan,
        "padded_share": padded_share(run),
        "loss": float(smoothed[-1]) if finite else np.nan,
        "best": float(np.nanmin(smoothed)) if finite else np.nan,
        "best_step": int(trace.steps[np.nanargmin(smoothed)]) if finite else None,
        "validation": run.validation[-1][1] if run.validation else np.nan,
    }
