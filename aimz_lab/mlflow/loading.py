"""Load a logged model: as an ``ImpactModel``, or behind MLflow's generic interface."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mlflow.artifacts
from mlflow.models import Model
from mlflow.pyfunc import PyFuncModel
from numpyro.infer import MCMC, SVI

from aimz_lab.calls import public
from aimz_lab.errors import ArtifactError, CallError
from aimz_lab.impact_model import ImpactModel
from aimz_lab.mlflow.call_checks import check_mappings, check_path
from aimz_lab.mlflow.consent import PickledCode, check_consent, read_code
from aimz_lab.mlflow.flavor import FLAVOR_NAME, STATE
from aimz_lab.mlflow.serving import ServedModel
from aimz_lab.types import Arguments

_LARGEST_DESCRIPTION = 10_000_000
"""Bytes of a description, examples of signatures included; read before it is trusted."""


@public
def load_model(
    model_uri: str | os.PathLike[str],
    dst_path: str | os.PathLike[str] | None = None,
    *,
    kernel: Callable | None = None,
    inference: SVI | MCMC | None = None,
    kernel_kwargs: Arguments | None = None,
    allow_pickle: bool = False,
) -> ImpactModel:
    """Load a model.

    Args:
        model_uri: Its location: a path, ``"runs:/<id>/<name>"``, ``"models:/<name>/<version>"``.
        dst_path: A directory to download it to; by default a temporary one.
        kernel: Its kernel; unpickled by default.
        inference: Its inference object; unpickled by default.
        kernel_kwargs: Kernel arguments that are code, with the kernel.
        allow_pickle: Unpickle the saved code. This runs code: use it only with models from sources
            that you trust.

    Returns:
        The model in its saved state.

    Raises:
        CallError: If there are neither kernel and inference object nor consent to unpickle.
        ArgumentError: If ``allow_pickle`` is neither ``True`` nor ``False``.
        ArtifactError: If there is no such model, it is damaged, or the kernel differs.

    Example:
        >>> from aimz_lab.mlflow import log_model
        >>> info = log_model(im, name="slope")
        >>> load_model(info.model_uri, kernel=kernel, inference=svi).is_fitted()
        True
    """
    own = _own_code(kernel, inference, kernel_kwargs, allow_pickle)
    path, _ = _fetch(model_uri, dst_path)
    return _restore(path, own or _stored_code(path, kernel_kwargs))


@public
def load_pyfunc(
    model_uri: str | os.PathLike[str],
    dst_path: str | os.PathLike[str] | None = None,
    *,
    kernel: Callable | None = None,
    inference: SVI | MCMC | None = None,
    kernel_kwargs: Arguments | None = None,
    allow_pickle: bool = False,
) -> PyFuncModel:
    """Load a model behind MLflow's generic interface, as ``mlflow.pyfunc.load_model`` does.

    That one imports any module that a model names, so take this one for models of others.

    Its ``predict(data, params)`` takes a table, an array, or arrays by kernel argument. In
    ``params``, ``output`` asks for the ``"summary"`` of each row (the default), the ``"draws"``, or
    a ``"tree"``; ``prob`` (0.94) is the mass of the summary's interval, ``seed`` (0) that of the
    noise, ``num_draws`` the number of draws to use. ``get_raw_model()`` is the ``ImpactModel``.

    Args:
        model_uri: As for :func:`load_model`.
        dst_path: As for :func:`load_model`.
        kernel: As for :func:`load_model`.
        inference: As for :func:`load_model`.
        kernel_kwargs: Shared kernel arguments of all requests; by default those that the model was
            saved with, if its code is unpickled.
        allow_pickle: As for :func:`load_model`.

    Returns:
        MLflow's model.

    Raises:
        CallError: As for :func:`load_model`.
        ArgumentError: As for :func:`load_model`.
        ArtifactError: As for :func:`load_model`.

    Example:
        >>> from aimz_lab.mlflow import log_model
        >>> info = log_model(im, name="slope")
        >>> served = load_pyfunc(info.model_uri, allow_pickle=True)
        >>> list(served.predict(X[:3]).columns)
        ['mean', 'sd', 'lower', 'upper']
        >>> served.predict(X[:3], params={"output": "draws", "num_draws": 10})["y"].shape
        (10, 3)
    """
    own = _own_code(kernel, inference, kernel_kwargs, allow_pickle)
    path, described = _fetch(model_uri, dst_path)
    code = own or _stored_code(path, kernel_kwargs)
    served = ServedModel(_restore(path, code), code.kernel_kwargs)
    return PyFuncModel(described, served, model_id=described.model_id)


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> ServedModel:  # noqa: ARG001
    """Called by MLflow with the path of the model, and what it made of configurations."""
    check_consent()
    code = read_code(Path(path))
    return ServedModel(_restore(Path(path), code), code.kernel_kwargs)


def _own_code(
    kernel: Callable | None,
    inference: SVI | MCMC | None,
    kernel_kwargs: Arguments | None,
    allow_pickle: bool,
) -> PickledCode | None:
    """Return the caller's code, or ``None`` if the stored one is to be unpickled."""
    check_mappings(kernel_kwargs=kernel_kwargs)
    if kernel is None and inference is None:
        check_consent(allow_pickle)
        return None
    if kernel is None or inference is None:
        given, other = ("inference", "kernel") if kernel is None else ("kernel", "inference")
        msg = f"{given}= goes with {other}=; pass both, or neither of them."
        raise CallError(msg)
    return PickledCode(kernel, inference, dict(kernel_kwargs or {}))


def _stored_code(path: Path, kernel_kwargs: Arguments | None) -> PickledCode:
    code = read_code(path)
    kwargs = {**code.kernel_kwargs, **(kernel_kwargs or {})}
    return PickledCode(code.kernel, code.inference, kwargs)


def _fetch(
    model_uri: str | os.PathLike[str], dst_path: str | os.PathLike[str] | None
) -> tuple[Path, Model]:
    """Return the local folder of a model of this flavor, and MLflow's description."""
    source = check_path("model_uri", model_uri)
    target = None if dst_path is None else check_path("dst_path", dst_path)
    try:
        path = Path(mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=target))
        _check_regular(path / "MLmodel")
        described = Model.load(str(path / "MLmodel"))
        flavors = dict(described.flavors or {})
        described.get_input_schema()  # of a signature that is one
    except Exception as error:
        msg = f"No model of MLflow can be read at {model_uri}: {type(error).__name__}: {error}"
        raise ArtifactError(msg) from error
    if FLAVOR_NAME not in flavors:
        listed = ", ".join(map(str, flavors)) or "none"
        msg = f"{model_uri} is no model of aimz_lab; its flavors are: {listed}."
        raise ArtifactError(msg)
    return path, described


def _check_regular(file: Path) -> None:
    if not file.is_file() or file.stat().st_size > _LARGEST_DESCRIPTION:
        msg = f"{file} is no regular file of at most {_LARGEST_DESCRIPTION:,} bytes."
        raise ArtifactError(msg)


def _restore(path: Path, code: PickledCode) -> ImpactModel:
    return ImpactModel.load(
        path / STATE, code.kernel, code.inference, kernel_kwargs=code.kernel_kwargs
    )
