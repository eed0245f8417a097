"""Autologging: every fit of this process leaves its record, data and model in MLflow."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any

import mlflow
import mlflow.data
from mlflow.entities import DatasetInput, InputTag, LoggedModelInput
from mlflow.utils.autologging_utils import MlflowEventsAndWarningsBehaviorGlobally
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from aimz_lab.calls import public
from aimz_lab.errors import ArgumentError, CallbackWarning
from aimz_lab.impact_model import ImpactModel
from aimz_lab.inference.feeds.training_data import TrainingData
from aimz_lab.inference.run.displays import set_default_callback
from aimz_lab.inference.run.events import Callback, Run, Steps
from aimz_lab.lab.callbacks.mlflow_logger import MLflowLogger, end_status
from aimz_lab.mlflow.rows import first_rows, training_set
from aimz_lab.mlflow.saving import log_model
from aimz_lab.mlflow.signatures import served_signature
from aimz_lab.tracebacks import warn


@dataclass(frozen=True)
class AutologOptions:
    """The arguments of :func:`autolog`, checked.

    Raises:
        ArgumentError: If one has a wrong type.
    """

    log_input_examples: bool
    log_model_signatures: bool
    log_models: bool
    log_datasets: bool
    disable: bool
    exclusive: bool
    disable_for_unsupported_versions: bool
    silent: bool
    registered_model_name: str | None
    extra_tags: Mapping[str, str] | None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name == "registered_model_name":
                fits, expected = value is None or (isinstance(value, str) and value), "a text"
            elif name == "extra_tags":
                fits, expected = value is None or isinstance(value, Mapping), "a dict of texts"
            else:
                fits, expected = isinstance(value, bool), "True or False"
            if not fits:
                msg = f"{name} takes {expected}; got {value!r}."
                raise ArgumentError(msg)


@public
def autolog(
    *,
    log_input_examples: bool = False,
    log_model_signatures: bool = True,
    log_models: bool = True,
    log_datasets: bool = True,
    disable: bool = False,
    exclusive: bool = False,
    disable_for_unsupported_versions: bool = False,
    silent: bool = False,
    registered_model_name: str | None = None,
    extra_tags: Mapping[str, str] | None = None,
) -> None:
    """Log every fit to MLflow: settings, losses, how it ended, the data and the fitted model.

    It uses the active run, or a new run in the current experiment. A failing tracking server never
    ends a fit. A second fit in one run has its values under ``fit_2/``.

    Args:
        log_input_examples: Save the first rows with the model.
        log_model_signatures: Describe inputs and outputs of the model, inferred from the first
            rows.
        log_models: Log the fitted model, by the name ``"model"``.
        log_datasets: Log digest and schema of the training data, where all of it is in memory.
        disable: Stop logging.
        exclusive: Log nothing while a run of your own is active.
        disable_for_unsupported_versions: Taken as MLflow's other flavors do; every version that
            installs is supported.
        silent: Show no messages and warnings of logging.
        registered_model_name: Registers each model as a new version of this one.
        extra_tags: Tags of the runs that are opened for a fit.

    Raises:
        ArgumentError: If an argument has a wrong type.

    Example:
        >>> autolog(log_models=False)
        >>> _ = im.fit(X, y, epochs=5, progress=False)
        >>> mlflow.last_active_run().data.tags["aimz_lab.status"]
        'completed'
        >>> autolog(disable=True)
    """
    options = AutologOptions(
        log_input_examples,
        log_model_signatures,
        log_models,
        log_datasets,
        disable,
        exclusive,
        disable_for_unsupported_versions,
        silent,
        registered_model_name,
        extra_tags,
    )

    def make() -> Callback:
        """Make the callback of a fit; called on the thread that starts it."""
        if exclusive and mlflow.active_run() is not None:
            return Callback()
        return _AutoLogger(options)

    set_default_callback("mlflow", None if disable else make)


def _guarded(event: Callable[..., None]) -> Callable[..., None]:
    """Do nothing after an error, and say nothing of it where the user wants silence."""

    @wraps(event)
    def call(self: _AutoLogger, *args: Any) -> None:
        if self.has_failed:
            return
        try:
            with self.as_quiet_as_asked():
                event(self, *args)
        except Exception:
            self.has_failed = True
            if not self.options.silent:
                raise

    return call


class _AutoLogger(MLflowLogger):
    """Writes to MLflow's active run, or to a new one in its current experiment."""

    def __init__(self, options: AutologOptions) -> None:
        super().__init__()
        self.options = options
        self.has_failed = False

    @_guarded
    def on_fit_begin(self, run: Run) -> None:
        active = mlflow.active_run()
        self._is_own = active is None
        if active is None:
            # Opened and left again at once: the fit may end on another thread.
            with mlflow.start_run(tags=dict(self.options.extra_tags or {})) as active:
                pass
            mlflow.MlflowClient().update_run(active.info.run_id, status="RUNNING")
        self.write_to(active.info.run_id)
        super().on_fit_begin(run)

    @_guarded
    def on_steps_end(self, run: Run, steps: Steps) -> None:
        super().on_steps_end(run, steps)

    @_guarded
    def on_validation_end(self, run: Run, loss_per_row: float) -> None:
        super().on_validation_end(run, loss_per_row)

    @_guarded
    def on_fit_end(self, run: Run) -> None:
        super().on_fit_end(run)
        if self._is_own:
            self._client.set_terminated(self.run_id, end_status(run))

    @_guarded
    def on_model_fitted(self, run: Run, model: ImpactModel, data: TrainingData) -> None:
        source = inspect.getsource
        with self._trying("the kernel's source"), contextlib.suppress(OSError, TypeError):
            self._client.log_text(self.run_id, source(model.kernel), f"{self._prefix}kernel.py")
        logged = None
        if self.options.log_models:
            with self._trying("the model"):
                logged = self._log_model(run, model, data)
        if self.options.log_datasets and data.in_memory:
            with self._trying("the data"):
                self._log_data(data, model.param_output, logged)

    def _log_model(self, run: Run, model: ImpactModel, data: TrainingData) -> str:
        example, kwargs = first_rows(data, model), {**data.static, **data.shared}
        signature = False
        if self.options.log_model_signatures:
            with self._trying("the signature"):
                signature = served_signature(model, None, example, kwargs) or False
        info = log_model(
            model,
            name="model",
            run_id=self.run_id,
            step=run.step,
            signature=signature,
            input_example=example if self.options.log_input_examples else None,
            registered_model_name=self.options.registered_model_name,
            params={"num_samples": len(next(iter((model.posterior or {"": ()}).values())))},
            kernel_kwargs=kwargs,
        )
        return info.model_id

    def _log_data(self, data: TrainingData, output: str, model_id: str | None) -> None:
        described = training_set(data, output)._to_mlflow_entity()
        tags = [InputTag(MLFLOW_DATASET_CONTEXT, "train")]
        models = [LoggedModelInput(model_id)] if model_id else None
        self._client.log_inputs(self.run_id, [DatasetInput(described, tags)], models)

    @contextlib.contextmanager
    def _trying(self, what: str) -> Iterator[None]:
        """Go on after an error with a warning: the other records are worth having."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  whatever a server or a model raises
            if not self.options.silent:
                msg = (
                    f"Autologging could not log {what}; the fit is not affected. "
                    f"{type(error).__name__}: {error}"
                )
                warn(msg, CallbackWarning)

    def as_quiet_as_asked(self) -> contextlib.AbstractContextManager:
        """Return MLflow's own mute button: its hints for authors of models help nobody here."""
        return MlflowEventsAndWarningsBehaviorGlobally(
            disable_event_logs=self.options.silent, disable_warnings=True, reroute_warnings=False
        )
