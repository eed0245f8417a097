"""The trial of a fit: the model and the call to try, and what they would take on this machine."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import jax
import numpy as np
from numpyro.infer import MCMC, SVI

from aimz_lab.data.html import format_bytes
from aimz_lab.data.memory import memory_bytes
from aimz_lab.errors import PerformanceWarning
from aimz_lab.inference.run.events import Callback, Run, Steps
from aimz_lab.kernel.scaling import Scale
from aimz_lab.kernel.signature import KernelSignature
from aimz_lab.predictive.call_labels import CallLabels
from aimz_lab.predictive.predictor import Predictor
from aimz_lab.predictive.request import Group, Request
from aimz_lab.preparing import doing
from aimz_lab.trust.report import Finding
from aimz_lab.types import Columns, RowDependence, Rows

PROBE_S = 1.0
"""Seconds that the trial of a fit goes on for, after it was compiled."""

PROBE_ROWS = 2048
"""Rows that the trial of a prediction has."""

_NOTICED_S = 1.0

ENOUGH = "the trial has seen enough"
"""Why a trial's run ends: the check's own doing, and no news of the fit."""


@dataclass(frozen=True)
class Forecast:
    """What a fit and a prediction would take on this machine.

    Attributes:
        fit_seconds: Time of the fit; ``None`` if it was not tried.
        predict_seconds: Time of a prediction of these rows.
        fit_bytes: Memory of the rows and the posterior draws of the fit.
        predict_bytes: Memory of the predictive draws with ``store="memory"``; less with ``reduce=``
            or a store on disk.
        compile_seconds: Time that it took to trace and compile the programs of the fit. It is not
            part of the others: this process has them now.
    """

    fit_seconds: float | None = None
    predict_seconds: float | None = None
    fit_bytes: int | None = None
    predict_bytes: int | None = None
    compile_seconds: float = 0.0


class Trial(Protocol):
    """A copy of the model to try things on."""

    @property
    def posterior(self) -> dict[str, jax.Array] | None:
        """Its draws."""

    @property
    def last_run(self) -> Run | None:
        """Its last run."""


@dataclass(frozen=True)
class Preflight:
    """The parts of a model and a call that a check reads.

    Attributes:
        trial: A copy of the model.
        signature: Its kernel.
        inference: Its inference object.
        first_fit: Trains another copy, with these callbacks; what it compiles, ``fit`` has.
        fit: Trains the copy, with these callbacks.
        columns: After the fit, returns the column names of the tables among the arguments.
        request: After that, makes the request of a call for a group.
        predictor: Computes predictions.
        scale: How a batch's rows are to weigh.
        rows: ``"independent"`` if the user says that rows may be cut.
        left_out: Which rows of a table are left out, as a phrase; empty for none.
    """

    trial: Trial
    signature: KernelSignature
    inference: SVI | MCMC
    first_fit: Callable[[list[Callback]], object]
    fit: Callable[[list[Callback]], object]
    columns: Callable[[], Columns]
    request: Callable[[Group], Request]
    predictor: Predictor
    scale: Scale
    rows: RowDependence
    left_out: str = ""

    @property
    def data(self) -> tuple[Rows, int | None]:
        """The per-row arguments with the output, and their number; of a stream its first batch."""
        request = self.request("log_likelihood")
        rows = request.rows
        if isinstance(rows, Mapping):
            return rows, len(next(iter(rows.values())))
        return next(iter(rows.epoch(0))), None

    def first_rows(self, group: Group, count: int) -> np.ndarray | None:
        """Return draws of the output for the first rows; ``None`` for a stream."""
        request = self.request(group)
        rows = request.rows
        if not isinstance(rows, Mapping):
            return None
        cut = replace(
            request,
            rows={name: array[:count] for name, array in rows.items()},
            fields=None,
            observed=None,
            constant={},
            row_coord=None,
            labels=CallLabels(),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PerformanceWarning)  # nobody chose how this call is cut
            return self.predictor.predict_arrays(cut)[self.signature.output]


class Probe(Callback):
    """Ends a run after a moment, and measures how fast its steps are.

    Args:
        lasts_s: Seconds that the run goes on for, after its first report.
    """

    every_epoch = False

    def __init__(self, lasts_s: float) -> None:
        self._lasts_s = lasts_s
        self.began = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._last: tuple[float, int] | None = None

    def on_steps_end(self, run: Run, steps: Steps) -> None:  # noqa: ARG002
        """Stop once there was enough to measure."""
        now = time.monotonic(), run.step
        self._first = self._first or now
        self._last = now
        if now[0] - self._first[0] >= self._lasts_s:
            run.control.stop(ENOUGH)

    @property
    def ended(self) -> float:
        """When the last report came."""
        return self._last[0]

    @property
    def set_up_s(self) -> float:
        """Seconds up to the first report."""
        return self._first[0] - self.began

    def seconds(self, total: int | None) -> float | None:
        """Seconds of ``total`` steps, set-up included."""
        if self._first is None or total is None:
            return None
        (at, done), (end, steps) = self._first, self._last
        start = self.set_up_s
        if steps == done:
            return start * max(total / done, 1)
        return start + max(total - done, 0) * (end - at) / (steps - done)


def forecast_finding(forecast: Forecast) -> Finding:
    """Say what a fit and a prediction would take.

    Args:
        forecast: The forecast.
    """
    text = f"the fit takes about {_duration(forecast.fit_seconds)}"
    if forecast.predict_bytes is None:
        text = f"{text}; a prediction was not tried"
    else:
        text = (
            f"{text} and a prediction of its rows about {_duration(forecast.predict_seconds)}, "
            f"with {format_bytes(forecast.predict_bytes)} of draws"
        )
    if forecast.compile_seconds >= _NOTICED_S:
        text = f"{text}; compiling took {_duration(forecast.compile_seconds)} more, and is done"
    return Finding("forecast", "green", text)


def with_prediction(
    preflight: Preflight,
    fit_seconds: float | None,
    rows: Rows,
    n_rows: int | None,
) -> Forecast:
    """Try a prediction, and say what it would take beside a fit.

    Args:
        preflight: The model and the call.
        fit_seconds: Time of the fit, if it is known.
        rows: Its per-row arguments with the output.
        n_rows: Their number; ``None`` of a stream.
    """
    draws = preflight.trial.posterior
    own = sum(np.asarray(one).nbytes for one in (draws or {}).values())
    fit_bytes = sum(array.nbytes for array in rows.values()) + own
    if draws is None or n_rows is None:
        return Forecast(fit_seconds, None, fit_bytes, None)
    doing("trying a prediction")
    few = min(n_rows, PROBE_ROWS)
    nbytes = preflight.first_rows("posterior_predictive", few).nbytes
    began = time.monotonic()
    preflight.first_rows("posterior_predictive", few)
    predict_seconds = (time.monotonic() - began) * n_rows / few
    return Forecast(fit_seconds, predict_seconds, fit_bytes, int(nbytes * n_rows / few))


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "an unknown time"
    if seconds < 120:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def memory_finding(forecast: Forecast) -> Finding:
    """Say whether rows and draws fit into memory.

    Args:
        forecast: The forecast, of a fit that was tried.
    """
    needed = forecast.fit_bytes
    have = memory_bytes()
    if needed > 0.8 * have:
        text = f"rows and draws take {format_bytes(needed)}, and there are {format_bytes(have)}"
        return Finding("memory", "red", text, "Stream the rows from disk: fit takes generators.")
    drawn = forecast.predict_bytes or 0
    if drawn > 0.5 * have:
        text = f"predictive draws of all rows take {format_bytes(drawn)} in memory"
        return Finding("memory", "amber", text, "predict with reduce=, or to a store on disk.")
    text = f"rows and posterior draws take {format_bytes(needed)} of {format_bytes(have)}"
    return Finding("memory", "green", text)
