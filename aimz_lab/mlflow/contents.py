"""What a saved model is to hold: checked as a whole, and written into a folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import mlflow.artifacts
import mlflow.pyfunc
from mlflow.models import Model, ModelSignature
from mlflow.models.utils import _save_example

from aimz_lab.errors import ArgumentError, CallError
from aimz_lab.impact_model import ImpactModel
from aimz_lab.mlflow.consent import PickledCode, write_code
from aimz_lab.mlflow.flavor import CODE, FLAVOR_NAME, MODULES, STATE
from aimz_lab.mlflow.requirements import write_environment
from aimz_lab.mlflow.signatures import Signature, served_signature, split_example
from aimz_lab.types import Arguments, JsonObject

_EXTRA = "extra_files"
_ENVIRONMENTS = ("conda_env", "pip_requirements", "extra_pip_requirements")
_LISTS = ("pip_requirements", "extra_pip_requirements", "code_paths", "extra_files")


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a saved model is to hold; make it with :meth:`of`.

    The attributes are the arguments of :func:`~aimz_lab.mlflow.save_model`.
    """

    model: ImpactModel
    conda_env: JsonObject | str | None = None
    code_paths: list[str] | None = None
    signature: Signature = None
    input_example: Any = None
    pip_requirements: list[str] | str | None = None
    extra_pip_requirements: list[str] | str | None = None
    metadata: Mapping[str, Any] | None = None
    extra_files: list[str] | None = None
    kernel_kwargs: Arguments = field(default_factory=dict)

    @classmethod
    def of(cls, *, kernel_kwargs: Arguments | None, **given: Any) -> Self:
        """Check the arguments of a call; nothing is written yet.

        Raises:
            CallError: If ``model`` is no model, or two arguments say the same.
            ArgumentError: If another argument has a wrong type or value.
            AimzLabError: If the model cannot predict the example.
        """
        for name in _LISTS:
            given[name] = _as_list(name, given.get(name))
        if isinstance(given.get("conda_env"), os.PathLike):
            given["conda_env"] = os.fspath(given["conda_env"])
        _check_values(given, kernel_kwargs)
        model = given["model"]
        schema = model.input_schema
        plain = {**(schema.static if schema else {}), **(kernel_kwargs or {})}
        given["signature"] = served_signature(
            model, given.get("signature"), given.get("input_example"), plain
        )
        return cls(kernel_kwargs=plain, **given)

    def write(self, path: Path, described: Model) -> None:
        """Write the model into a folder, and complete MLflow's description of it.

        Raises:
            ArtifactError: If its code cannot be pickled.
            ArgumentError: If the requirements cannot be read.
        """
        self.model.save(path / STATE)
        code = PickledCode(self.model.kernel, self.model.inference, self.kernel_kwargs)
        modules = write_code(path, code)
        for source in self.code_paths or ():
            _copy(source, path / MODULES)
        write_environment(
            path, self.conda_env, self.pip_requirements, self.extra_pip_requirements, modules
        )
        if self.input_example is not None:
            data, params = split_example(self.input_example)
            _save_example(described, (data, params) if params else data, str(path))
        self._describe(path, described)

    def _describe(self, path: Path, described: Model) -> None:
        if self.signature:
            described.signature = self.signature
        if self.metadata is not None:
            described.metadata = dict(self.metadata)
        modules = MODULES if self.code_paths else None
        described.add_flavor(
            FLAVOR_NAME,
            state=STATE,
            pickled=CODE,
            version=version("aimz_lab"),
            code=modules,
            **self._with_extra_files(path),
        )
        mlflow.pyfunc.add_to_model(
            described,
            loader_module="aimz_lab.mlflow",
            conda_env="conda.yaml",
            python_env="python_env.yaml",
            code=modules,
        )
        files = [file for file in path.rglob("*") if file.is_file()]
        described.model_size_bytes = sum(file.stat().st_size for file in files)
        described.save(str(path / "MLmodel"))

    def _with_extra_files(self, path: Path) -> JsonObject:
        if not self.extra_files:
            return {}
        (path / _EXTRA).mkdir()
        for source in self.extra_files:
            mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=str(path / _EXTRA))
        names = [Path(source).name for source in self.extra_files]
        return {_EXTRA: [{"path": f"{_EXTRA}/{name}"} for name in names]}


def _copy(source: str, folder: Path) -> None:
    target = folder / Path(source).resolve().name
    if Path(source).is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        folder.mkdir(exist_ok=True)
        shutil.copy(source, target)


def _as_list(name: str, value: Any) -> list[str] | str | None:
    if value is None or (isinstance(value, str) and name.endswith("pip_requirements")):
        return value
    if isinstance(value, Iterable) and not isinstance(value, (str, Mapping)):
        listed = [os.fspath(each) if isinstance(each, os.PathLike) else each for each in value]
        if all(isinstance(each, str) for each in listed):
            return listed
    what = "requirements, such as ['flax>=0.12']" if name.endswith("requirements") else "paths"
    msg = f"{name} is a list of {what}; got {value!r}."
    raise ArgumentError(msg)


def _check_values(given: Mapping[str, Any], kernel_kwargs: object) -> None:
    if not isinstance(given["model"], ImpactModel):
        msg = f"model is an aimz_lab.ImpactModel; got {_kind(given['model'])}."
        raise CallError(msg)
    both = [name for name in _ENVIRONMENTS if given.get(name) is not None]
    if len(both) > 1:
        msg = f"{' and '.join(both)} all say what to install; pass only one of them."
        raise CallError(msg)
    conda = given.get("conda_env")
    if not (conda is None or isinstance(conda, (dict, str))):
        msg = f"conda_env is a dict, or the path of a YAML file; got {_kind(conda)}."
        raise ArgumentError(msg)
    _check_there("conda_env", [conda] if isinstance(conda, str) else ())
    _check_there("code_paths", given.get("code_paths") or ())
    _check_there("extra_files", [p for p in given.get("extra_files") or () if "://" not in p])
    for name, value in {"metadata": given.get("metadata"), "kernel_kwargs": kernel_kwargs}.items():
        if not (value is None or isinstance(value, Mapping)):
            msg = f"{name} is a dict; got {_kind(value)}."
            raise ArgumentError(msg)
    signature = given.get("signature")
    if not (signature is None or signature is False or isinstance(signature, ModelSignature)):
        msg = (
            "signature is a ModelSignature, such as mlflow.models.infer_signature makes, or False "
            f"for none; got {_kind(signature)}."
        )
        raise ArgumentError(msg)


def _check_there(name: str, paths: Iterable[str]) -> None:
    for path in paths:
        if not Path(path).exists():
            msg = f"{name} names {path!r}, which does not exist."
            raise ArgumentError(msg)


def _kind(value: object) -> str:
    return f"{value!r}" if isinstance(value, (str, int, float)) else f"a {type(value).__name__}"
