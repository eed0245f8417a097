"""Save a model in MLflow's format, and log it to a tracking server."""

from __future__ import annotations

import inspect
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow.models import Model
from mlflow.models.model import ModelInfo

from aimz_lab.calls import public
from aimz_lab.errors import ArgumentError, ArtifactError, ArtifactWriteError, CallError
from aimz_lab.impact_model import ImpactModel
from aimz_lab.mlflow.call_checks import check_mappings, check_path, check_texts
from aimz_lab.mlflow.consent import trusting_own_model
from aimz_lab.mlflow.contents import Contents
from aimz_lab.mlflow.signatures import Signature
from aimz_lab.spelling import did_you_mean
from aimz_lab.system.paths import remedy_of
from aimz_lab.types import Arguments, JsonObject

_WAIT_S = 300


@public
def save_model(
    model: ImpactModel,
    path: str | os.PathLike[str],
    conda_env: JsonObject | str | None = None,
    code_paths: Sequence[str] | None = None,
    mlflow_model: Model | None = None,
    signature: Signature = None,
    input_example: Any = None,
    pip_requirements: Iterable[str] | str | None = None,
    extra_pip_requirements: Iterable[str] | str | None = None,
    metadata: Mapping[str, Any] | None = None,
    extra_files: Sequence[str] | None = None,
    *,
    kernel_kwargs: Arguments | None = None,
) -> None:
    """Save a model as a directory in MLflow's format, completely or not at all.

    Args:
        model: The model.
        path: A new or empty directory.
        conda_env: Conda's environment for serving, as a dict or the path of a YAML file, in place
            of requirements.
        code_paths: Files and folders of modules that the kernel imports, to be saved with it.
        mlflow_model: MLflow's description to extend; a new one by default.
        signature: Inputs and outputs of the served model; inferred from ``input_example`` by
            default. The params of requests are added to it. ``False`` leaves it out; requests then
            have no params.
        input_example: Some rows as the served model takes them: a table, an array, or arrays by
            kernel argument; or a pair of these and a dict of params, which become the defaults of
            requests. They are saved with the model.
        pip_requirements: What serving needs, as a list or the path of a file; by default the
            versions installed here of this package, JAX, NumPyro, and packages that the kernel
            refers to.
        extra_pip_requirements: Requirements beside the default ones.
        metadata: Further values for the description.
        extra_files: Files to save beside the model: paths or URIs.
        kernel_kwargs: Shared kernel arguments for the served model, such as knots or an adjacency
            matrix.

    Raises:
        CallError: If ``model`` or ``mlflow_model`` is something else, or two arguments say what to
            install.
        ArgumentError: If another argument has a wrong type or value.
        AimzLabError: If the model cannot predict the example.
        ArtifactError: If ``path`` is not empty, or the kernel cannot be pickled.
        ArtifactWriteError: If it cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_model(im, folder, input_example=X[:5])
        ...     sorted(path.name for path in Path(folder).iterdir() if path.suffix == "")
        ['MLmodel', 'model']
    """
    target = Path(check_path("path", path)).expanduser().absolute()
    if not (mlflow_model is None or isinstance(mlflow_model, Model)):
        msg = f"mlflow_model is a mlflow.models.Model; got a {type(mlflow_model).__name__}."
        raise CallError(msg)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        msg = f"{target} is there and not empty; choose another path."
        raise ArtifactError(msg)
    contents = Contents.of(
        model=model,
        conda_env=conda_env,
        code_paths=code_paths,
        signature=signature,
        input_example=input_example,
        pip_requirements=pip_requirements,
        extra_pip_requirements=extra_pip_requirements,
        metadata=metadata,
        extra_files=extra_files,
        kernel_kwargs=kernel_kwargs,
    )
    _write(contents, target, Model() if mlflow_model is None else mlflow_model)


@public
def log_model(
    model: ImpactModel,
    artifact_path: str | None = None,
    conda_env: JsonObject | str | None = None,
    code_paths: Sequence[str] | None = None,
    registered_model_name: str | None = None,
    signature: Signature = None,
    input_example: Any = None,
    await_registration_for: int | None = _WAIT_S,
    pip_requirements: Iterable[str] | str | None = None,
    extra_pip_requirements: Iterable[str] | str | None = None,
    metadata: Mapping[str, Any] | None = None,
    extra_files: Sequence[str] | None = None,
    name: str | None = None,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
    model_type: str | None = None,
    step: int = 0,
    model_id: str | None = None,
    *,
    kernel_kwargs: Arguments | None = None,
    **kwargs: Any,
) -> ModelInfo:
    """Log a model to MLflow, to the active run if there is one, and register it if asked.

    Args:
        model: The model.
        artifact_path: The former word of MLflow for ``name``.
        conda_env: As for :func:`save_model`.
        code_paths: As for :func:`save_model`.
        registered_model_name: Registers it as a new version of this model.
        signature: As for :func:`save_model`.
        input_example: As for :func:`save_model`. MLflow also tries it out as a request to a server.
        await_registration_for: Seconds to wait for the registration; 0 or ``None`` for none.
        pip_requirements: As for :func:`save_model`.
        extra_pip_requirements: As for :func:`save_model`.
        metadata: As for :func:`save_model`.
        extra_files: As for :func:`save_model`.
        name: Its name; ``"model"`` by default.
        params: Values to keep with the logged model, such as settings of its training.
        tags: Tags of the logged model.
        model_type: A word for the kind of model.
        step: The step of the run that it belongs to; it gets the metrics of that step.
        model_id: Id of a model that MLflow has already opened, to complete it.
        kernel_kwargs: As for :func:`save_model`.
        **kwargs: Further arguments of ``mlflow.models.Model.log``, such as ``run_id``.

    Returns:
        MLflow's description of it; load it by ``.model_uri``.

    Raises:
        CallError: If ``model`` is something else, or two arguments say the same.
        ArgumentError: If another argument has a wrong type or value.
        AimzLabError: If the model cannot predict the example.
        ArtifactError: If the kernel cannot be pickled.
        MlflowException: If the tracking server refuses it.

    Example:
        >>> info = log_model(im, name="slope")
        >>> info.flavors["aimz_lab"]["state"]
        'model'
    """
    if artifact_path is not None and name is not None:
        msg = "artifact_path is the former word for name; pass only name."
        raise CallError(msg)
    check_texts(
        name=name,
        artifact_path=artifact_path,
        registered_model_name=registered_model_name,
        model_type=model_type,
        model_id=model_id,
        run_id=kwargs.get("run_id"),
    )
    check_mappings(params=params, tags=tags)
    for what, value in {"step": step, "await_registration_for": await_registration_for}.items():
        if not isinstance(value, int) and (what == "step" or value is not None):
            msg = f"{what} is a whole number; got {value!r}."
            raise ArgumentError(msg)
    _check_further(kwargs)
    contents = Contents.of(
        model=model,
        conda_env=conda_env,
        code_paths=code_paths,
        signature=signature,
        input_example=input_example,
        pip_requirements=pip_requirements,
        extra_pip_requirements=extra_pip_requirements,
        metadata=metadata,
        extra_files=extra_files,
        kernel_kwargs=kernel_kwargs,
    )
    with trusting_own_model():
        return Model.log(
            artifact_path=None,
            name=name or artifact_path or "model",
            flavor=_Prepared(contents),
            registered_model_name=registered_model_name,
            await_registration_for=await_registration_for,
            metadata=metadata,
            params=params,
            tags=tags,
            model_type=model_type,
            step=step,
            model_id=model_id,
            **kwargs,
        )


class _Prepared:
    """A flavor, as MLflow sees one, that saves what was prepared and checked before."""

    __name__ = "aimz_lab.mlflow"

    def __init__(self, contents: Contents) -> None:
        self._contents = contents

    def save_model(self, path: str, mlflow_model: Model) -> None:
        """Called by MLflow with a folder of its own."""
        _write(self._contents, Path(path), mlflow_model)


def _write(contents: Contents, target: Path, described: Model) -> None:
    """Write under another name, and rename."""
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        partial.mkdir(parents=True)
        contents.write(partial, described)
        if target.exists():
            target.rmdir()
        partial.rename(target)
    except OSError as error:
        msg = (
            f"The model could not be written to {target}: {error}. Nothing was kept. "
            f"{remedy_of(error)}"
        )
        raise ArtifactWriteError(msg) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check_further(names: Iterable[str]) -> None:
    """Refuse what ``Model.log`` would hand on to a flavor."""
    known = set(inspect.signature(Model.log).parameters) - {"flavor", "kwargs"}
    if unknown := sorted(set(names) - known):
        own = inspect.signature(log_model).parameters
        hint = did_you_mean(unknown[0], [*own, *known])
        msg = f"log_model has no argument {unknown[0]!r}, and neither has MLflow's Model.log.{hint}"
        raise CallError(msg)
