"""Log runs to MLflow."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np

from aimz_lab.calls import public
from aimz_lab.data.options import check_mapping, check_text, real_number
from aimz_lab.errors import ArgumentError, OptionalDependencyError
from aimz_lab.inference.run.events import Callback, Run, Steps
from aimz_lab.lab.panels.chains import ENERGY, judged_at_the_end
from aimz_lab.system.imports import late_import
from aimz_lab.types import shown

_STATUS = {"completed": "FINISHED", "early_stopped": "FINISHED", "stopped": "FINISHED"}
_FITS = "aimz_lab.fits"
_counting = threading.Lock()
_PARAMS = ("model", "method", "n_obs", "batch_size", "epochs", "steps_per_epoch", "scaled")


@public
class MLflowLogger(Callback):
    """Logs a run to MLflow: its parameters, its loss and metrics, and how it ended.

    An entry has the mean loss of the steps since the previous one, in nats per row, and the means
    of further metrics. For chains, it has the means of the values that they report, and at the end
    the numbers of draws and divergences, the worst R-hat and the least effective sample size. If
    the tracking server fails, the run goes on and the callback is switched off. A second fit that
    writes to the same MLflow run puts ``fit_2/`` before the names of its values.

    Args:
        experiment: Name of the experiment; made if it does not exist.
        run_name: Name of the run; MLflow makes one up by default.
        tracking_uri: Where MLflow keeps its runs, such as ``"http://localhost:5000"``; its own
            setting by default.
        tags: Further tags of the run.
        every_s: Least seconds between two entries.

    Attributes:
        run_id: MLflow's id of the last run, or ``None``.

    Raises:
        OptionalDependencyError: If MLflow is not installed.
        ArgumentError: If an argument has a value that is not allowed.
        CallError: If ``tags`` is no mapping.

    Example:
        >>> MLflowLogger(tracking_uri="http://localhost:5000").run_id is None
        True
    """

    every_epoch = False
    writes = True
    may_fail = True

    def __init__(
        self,
        experiment: str = "aimz_lab",
        *,
        run_name: str | None = None,
        tracking_uri: str | None = None,
        tags: Mapping[str, str] | None = None,
        every_s: float = 1.0,
    ) -> None:
        try:
            client = late_import("mlflow").MlflowClient
        except ImportError as error:
            msg = "MLflowLogger needs MLflow: pip install 'aimz_lab[mlflow]'."
            raise OptionalDependencyError(msg) from error
        check_text("experiment", experiment)
        if run_name is not None:
            check_text("run_name", run_name)
        if tracking_uri is not None and not isinstance(tracking_uri, PathLike):
            check_text("tracking_uri", tracking_uri)
        if not real_number(every_s) >= 0:
            msg = f"every_s={shown(every_s)} must be a number of seconds, at least 0."
            raise ArgumentError(msg)
        self._connect = lambda: client(tracking_uri=tracking_uri)
        self._experiment = experiment
        self._run_name = run_name
        self._tags = dict(check_mapping("tags", tags, "texts by name"))
        self._every_s = real_number(every_s)
        self.run_id: str | None = None
        self._given: str | None = None
        self._prefix = ""

    def write_to(self, run_id: str) -> None:
        """Write to a run that is open already, and leave it open at the end.

        Args:
            run_id: MLflow's id of the run.
        """
        self._given = run_id

    def on_fit_begin(self, run: Run) -> None:
        """Open a run and log its parameters."""
        entities = late_import("mlflow.entities")
        self._client = self._connect()
        self.run_id = self._given or self._open()
        taken = self._join_earlier_fits()
        values = {self._prefix + name: v for name, v in _plan(run).items() if v not in (None, "")}
        params = [
            entities.Param(f"aimz_lab/{name}" if name in taken else name, str(value))
            for name, value in values.items()
        ]
        self._client.log_batch(self.run_id, params=params)
        self._logged_step, self._logged_s = run.step, -np.inf
        self._metrics: dict[str, np.ndarray] = {}

    def on_steps_end(self, run: Run, steps: Steps) -> None:
        """Write an entry, if one is due."""
        for name, values in steps.metrics.items():
            finite = values[np.isfinite(values)]
            new = np.array([finite.sum(dtype=np.float64), len(finite)])
            self._metrics[name] = self._metrics.get(name, 0.0) + new
        if time.monotonic() - self._logged_s >= self._every_s:
            self._log(run)

    def on_validation_end(self, run: Run, loss_per_row: float) -> None:
        """Write the held-out loss."""
        self._put(run.step, {"validation": loss_per_row})

    def on_fit_end(self, run: Run) -> None:
        """Write the last entry, and close the run."""
        if run.step > self._logged_step:
            self._log(run)
        if run.chains is not None:
            self._put(run.step, _outcome(run))
        self._client.set_tag(self.run_id, f"{self._prefix}aimz_lab.status", run.status)
        self._client.set_tag(self.run_id, f"{self._prefix}aimz_lab.reason", run.reason)
        if self._given is None:
            self._client.set_terminated(self.run_id, end_status(run))

    def _open(self) -> str:
        found = self._client.get_experiment_by_name(self._experiment)
        experiment_id = (
            found.experiment_id if found else self._client.create_experiment(self._experiment)
        )
        opened = self._client.create_run(experiment_id, run_name=self._run_name, tags=self._tags)
        return opened.info.run_id

    def _join_earlier_fits(self) -> Mapping[str, str]:
        """Choose names that no earlier fit has, and return the parameters that are there.

        MLflow refuses another value of a parameter, and would mix the steps of two losses.
        """
        with _counting:
            data = self._client.get_run(self.run_id).data
            number = int(data.tags.get(_FITS, "0")) + 1
            self._client.set_tag(self.run_id, _FITS, str(number))
        self._prefix = "" if number == 1 else f"fit_{number}/"
        return data.params

    def _log(self, run: Run) -> None:
        losses = run.losses[self._logged_step :]
        finite = losses[np.isfinite(losses)]
        sums = {"loss": np.array([finite.sum(dtype=np.float64), len(finite)])} | self._metrics
        self._logged_step, self._logged_s, self._metrics = run.step, time.monotonic(), {}
        means = {name: total / count for name, (total, count) in sums.items() if count}
        if run.info.is_sampling:
            means = {ENERGY if name == "loss" else name: mean for name, mean in means.items()}
        elif "loss" in means:
            means["loss"] /= run.info.n_obs or 1
        means["learning_rate"] = run.learning_rate
        self._put(run.step, means)

    def _put(self, step: int, values: Mapping[str, Any]) -> None:
        entities = late_import("mlflow.entities")
        now_ms = time.time_ns() // 1_000_000
        metrics = [
            entities.Metric(self._prefix + name, float(value), now_ms, step)
            for name, value in values.items()
            if value is not None and np.isfinite(value)
        ]
        self._client.log_batch(self.run_id, metrics=metrics)


def _plan(run: Run) -> dict[str, Any]:
    if run.chains is None:
        return {name: getattr(run.info, name) for name in _PARAMS}
    plan = run.chains.plan
    return {
        **{name: getattr(run.info, name) for name in ("model", "method", "n_obs")},
        "num_chains": plan.chains,
        "num_warmup": plan.warmup,
        "num_samples": plan.samples,
        "thinning": plan.thinning,
    }


def _outcome(run: Run) -> dict[str, Any]:
    judged = judged_at_the_end(run)
    divergences = run.chains.divergences
    return {
        "draws": run.chains.draws,
        "divergences": None if divergences is None else divergences.sum(),
        "r_hat_max": judged.get("r_hat"),
        "ess_min": judged.get("ess"),
    }


def end_status(run: Run) -> str:
    """Return MLflow's word for how a run ended."""
    return "KILLED" if run.status == "interrupted" else _STATUS.get(run.status, "FAILED")
