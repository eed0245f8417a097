"""MLflow flavor: save, log, load and serve models, and autolog their fits.

A logged model holds two things. Its state is arrays and plain text, see
:meth:`aimz_lab.ImpactModel.save`. Its code, the kernel and the inference object, is pickled, as in
MLflow's own flavors; an autoguide contains the batch of its set-up. Unpickling runs code, so it
needs your consent: pass kernel and inference object yourself, or ``allow_pickle=True``.

Example:
    Log a model, and predict with it through MLflow's generic interface::

        info = aimz_lab.mlflow.log_model(im, name="model")
        served = mlflow.pyfunc.load_model(info.model_uri, model_config={"allow_pickle": True})
        served.predict(frame)
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
from jax.typing import ArrayLike
from numpyro.infer import MCMC, SVI

from aimz_lab.errors import ArtifactError, CallError, OptionalDependencyError
from aimz_lab.impact_model import ImpactModel
from aimz_lab.inference.feeds.schema import InputSchema
from aimz_lab.inference.run.displays import set_default_callback
from aimz_lab.inference.run.events import Run
from aimz_lab.lab.callbacks.mlflow_logger import MLflowLogger, end_status
from aimz_lab.types import Arguments

try:
    import cloudpickle
    import mlflow

    with warnings.catch_warnings():
        # MLflow warns about its own type hints.
        warnings.simplefilter("ignore")
        import mlflow.pyfunc
        from mlflow.models import Model, ModelSignature
        from mlflow.models.model import ModelInfo
        from mlflow.utils.environment import _mlflow_conda_env, _PythonEnv
except ImportError as error:
    _msg = "aimz_lab.mlflow needs MLflow: pip install 'aimz_lab[mlflow]'."
    raise OptionalDependencyError(_msg) from error

FLAVOR_NAME = "aimz_lab"
_STATE, _CODE = "model", "code.pkl"
_ALLOW = "AIMZ_LAB_ALLOW_PICKLE"
_PACKAGES = ("aimz_lab", "cloudpickle", "jax", "mlflow-skinny", "numpyro", "optax")


def save_model(
    im: ImpactModel,
    path: str | os.PathLike[str],
    *,
    kernel_kwargs: Arguments | None = None,
    mlflow_model: Model | None = None,
    signature: ModelSignature | None = None,
    pip_requirements: Sequence[str] | None = None,
    metadata: Mapping[str, object] | None = None,
) -> None:
    """Save a model as a directory in MLflow's format.

    Args:
        im: The model.
        path: A new or empty directory.
        kernel_kwargs: Shared kernel arguments for the served model, such as knots or an adjacency
            matrix.
        mlflow_model: MLflow's description to extend; a new one by default.
        signature: Inputs and outputs of the served model.
        pip_requirements: Packages for serving; by default the versions installed here.
        metadata: Further values for the description.

    Raises:
        ArtifactError: If ``path`` is not empty.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_model(im, folder)
        ...     sorted(path.name for path in Path(folder).iterdir() if path.suffix != ".yaml")
        ['MLmodel', 'code.pkl', 'model', 'requirements.txt']
    """
    path = Path(path)
    if path.exists() and any(path.iterdir()):
        msg = f"{path} is there and not empty; choose another path."
        raise ArtifactError(msg)
    path.mkdir(parents=True, exist_ok=True)
    im.save(path / _STATE)
    schema = im.input_schema
    static = {} if schema is None else dict(schema.static)
    code = {
        "kernel": im.kernel,
        "inference": im.inference,
        "kernel_kwargs": {**static, **(kernel_kwargs or {})},
    }
    (path / _CODE).write_bytes(cloudpickle.dumps(code))
    described = mlflow_model or Model()
    if signature is not None:
        described.signature = signature
    if metadata is not None:
        described.metadata = dict(metadata)
    described.add_flavor(FLAVOR_NAME, state=_STATE, code=_CODE, version=version("aimz_lab"))
    mlflow.pyfunc.add_to_model(
        described,
        loader_module="aimz_lab.mlflow",
        conda_env="conda.yaml",
        python_env="python_env.yaml",
        model_config={"allow_pickle": False},
    )
    requirements = list(pip_requirements or [f"{name}=={version(name)}" for name in _PACKAGES])
    (path / "requirements.txt").write_text("\n".join(requirements) + "\n", encoding="utf-8")
    _mlflow_conda_env(path=str(path / "conda.yaml"), additional_pip_deps=requirements)
    _PythonEnv.current().to_yaml(str(path / "python_env.yaml"))
    described.save(str(path / "MLmodel"))


def log_model(im: ImpactModel, name: str = "model", **options: object) -> ModelInfo:
    """Log a model to the active run, or to a new one.

    Args:
        im: The model.
        name: Its name.
        **options: Options of :func:`save_model`, and of MLflow, such as
            ``registered_model_name``.

    Returns:
        MLflow's description of it; load it by ``.model_uri``.

    Example:
        >>> info = log_model(im, name="slope")
        >>> info.flavors["aimz_lab"]["state"]
        'model'
    """
    import aimz_lab.mlflow as flavor

    return Model.log(artifact_path=None, name=name, flavor=flavor, im=im, **options)


def load_model(
    model_uri: str,
    kernel: Callable | None = None,
    inference: SVI | MCMC | None = None,
    *,
    kernel_kwargs: Arguments | None = None,
    allow_pickle: bool = False,
) -> ImpactModel:
    """Load a model.

    Args:
        model_uri: Its location, such as ``"runs:/<id>/model"`` or a path.
        kernel: Its kernel; unpickled by default.
        inference: Its inference object; unpickled by default.
        kernel_kwargs: Kernel arguments that are code, with the kernel.
        allow_pickle: Unpickle the saved code. This runs code: use it only with models from sources
            that you trust.

    Returns:
        The model in its saved state.

    Raises:
        CallError: If there are neither kernel and inference object nor ``allow_pickle``.
        ArtifactError: If the model is damaged, or the kernel differs.

    Example:
        >>> info = log_model(im, name="slope")
        >>> load_model(info.model_uri, kernel, svi).is_fitted()
        True
    """
    path = Path(mlflow.artifacts.download_artifacts(artifact_uri=model_uri))
    if kernel is None or inference is None:
        code = _code(path, allow_pickle)
        kernel, inference = code["kernel"], code["inference"]
        kernel_kwargs = {**code["kernel_kwargs"], **(kernel_kwargs or {})}
    return ImpactModel.load(path / _STATE, kernel, inference, kernel_kwargs=kernel_kwargs)


def autolog(*, disable: bool = False) -> None:
    """Log every fit to MLflow: its settings, its losses, and how it ended.

    It uses the active run, or a new run in the current experiment. A failing tracking server never
    ends a fit. Models are logged by :func:`log_model`.

    Args:
        disable: Stop logging.

    Example:
        >>> autolog()
        >>> _ = im.fit(X, y, epochs=5, progress=False)
        >>> mlflow.last_active_run().data.tags["aimz_lab.status"]
        'completed'
        >>> autolog(disable=True)
    """
    set_default_callback("mlflow", None if disable else _FluentLogger)


class _FluentLogger(MLflowLogger):
    """Writes to MLflow's active run, or to a new one in its current experiment."""

    def on_fit_begin(self, run: Run) -> None:
        active = mlflow.active_run()
        self._is_own = active is None
        if active is None:
            # Opened and left again at once: the fit may end on another thread.
            with mlflow.start_run() as active:
                pass
        self.write_to(active.info.run_id)
        super().on_fit_begin(run)

    def on_fit_end(self, run: Run) -> None:
        super().on_fit_end(run)
        if self._is_own:
            self._client.set_terminated(self.run_id, end_status(run))


class _Served:
    """Model object of MLflow's generic interface."""

    def __init__(self, im: ImpactModel, kernel_kwargs: Arguments) -> None:
        self._im = im
        self._arguments = dict(kernel_kwargs)

    def predict(self, model_input: Any, params: Mapping[str, float] | None = None) -> pd.DataFrame:
        """Predict each row by mean, standard deviation and interval of the output's draws.

        Args:
            model_input: A table, an array, or arrays by kernel argument. Columns of a table named
                like per-row arguments of the kernel become these; the others are its input.
            params: ``prob``, the mass of the interval (0.94), and ``seed`` of the noise (0).
        """
        options = {"prob": 0.94, "seed": 0, **(params or {})}
        inputs, arguments = _arguments(model_input, self._im)
        draws = self._im.predict_on_batch(
            inputs,
            rng_key=jax.random.key(int(options["seed"])),
            return_sites=[self._im.param_output],
            return_datatree=False,
            kernel_kwargs={**self._arguments, **arguments},
        )[self._im.param_output]
        tail = (1 - float(options["prob"])) / 2
        lower, upper = np.quantile(draws, [tail, 1 - tail], axis=0)
        summary = {"mean": draws.mean(0), "sd": draws.std(0), "lower": lower, "upper": upper}
        index = getattr(model_input, "index", None)
        return pd.DataFrame({name: list(values) for name, values in summary.items()}, index=index)


def _load_pyfunc(path: str, model_config: Mapping[str, object] | None = None) -> _Served:
    """Called by MLflow, with the path of the model."""
    allowed = bool((model_config or {}).get("allow_pickle")) or os.environ.get(_ALLOW) == "1"
    code = _code(Path(path), allowed)
    im = ImpactModel.load(
        Path(path) / _STATE, code["kernel"], code["inference"], kernel_kwargs=code["kernel_kwargs"]
    )
    return _Served(im, code["kernel_kwargs"])


def _code(path: Path, allow_pickle: bool) -> dict[str, Any]:
    if not allow_pickle:
        msg = (
            "The kernel of this model is pickled, and unpickling runs code. Pass kernel and "
            "inference to aimz_lab.mlflow.load_model; or, for a model that you trust, "
            "allow_pickle=True there, model_config={'allow_pickle': True} to "
            f"mlflow.pyfunc.load_model, or {_ALLOW}=1 where it is served."
        )
        raise CallError(msg)
    return cloudpickle.loads((path / _CODE).read_bytes())


def _arguments(model_input: Any, im: ImpactModel) -> tuple[ArrayLike, dict[str, ArrayLike]]:
    """The kernel's input and its other per-row arguments."""
    schema: InputSchema | None = im.input_schema
    others = [
        n for n in (schema.rows if schema else ()) if n not in (im.param_input, im.param_output)
    ]
    if isinstance(model_input, Mapping):
        arrays = dict(model_input)
        return arrays.pop(im.param_input), arrays
    if not hasattr(model_input, "columns"):
        return model_input, {}
    named = {name: model_input[name].to_numpy() for name in others if name in model_input.columns}
    table = model_input.drop(columns=list(named))
    trained = list(schema.columns.get(im.param_input, ())) if schema else []
    if trained and set(trained) == set(table.columns):
        table = table[trained]  # a request may have any order
    table = table.to_numpy()
    is_vector = schema is not None and schema.rows[im.param_input].shape == ()
    return (table[:, 0] if is_vector and table.shape[1] == 1 else table), named
