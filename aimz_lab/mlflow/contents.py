"""What a saved model is to hold: prepared in memory, and written into a folder."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import mlflow.artifacts
import mlflow.pyfunc
from mlflow.models import Model, ModelSignature
from mlflow.models.utils import _save_example

from aimz_lab.errors import ArgumentError
from aimz_lab.impact_model import ImpactModel
from aimz_lab.mlflow.call_checks import checked_arguments
from aimz_lab.mlflow.consent import PickledCode, pickled_code
from aimz_lab.mlflow.flavor import CODE, FLAVOR_NAME, MODULES, STATE
from aimz_lab.mlflow.requirements import environment_files
from aimz_lab.mlflow.signatures import served_signature, split_example
from aimz_lab.types import JsonObject

_EXTRA = "extra_files"


@dataclass(frozen=True)
class Contents:
    """What a saved model is to hold; make it with :meth:`of`.

    Attributes:
        model: The model.
        code: Its pickled code.
        environment: Texts of the files of its environment, by name.
        signature: Its signature, or ``None``.
        example: Input of the example, and its params if there are some; or ``None``.
        metadata: Further values for the description.
        code_paths: Files and folders of modules.
        extra_files: Paths and URIs of further files.
    """

    model: ImpactModel
    code: bytes
    environment: Mapping[str, str]
    signature: ModelSignature | None
    example: Any
    metadata: Mapping[str, Any]
    code_paths: list[str]
    extra_files: list[str]

    @classmethod
    def of(cls, **arguments: Any) -> Self:
        """Check and prepare the arguments of ``save_model``; nothing is written yet.

        Raises:
            CallError: If ``model`` is no model, or two arguments say the same.
            ArgumentError: If another argument has a wrong type or value.
            AimzLabError: If the model cannot predict the example.
            ArtifactError: If its code cannot be pickled.
        """
        given = checked_arguments(arguments)
        model, example = given["model"], given["input_example"]
        schema = model.input_schema
        kwargs = {**(schema.static if schema else {}), **(given["kernel_kwargs"] or {})}
        code, modules = pickled_code(PickledCode(model.kernel, model.inference, kwargs))
        environment = environment_files(
            given["conda_env"], given["pip_requirements"], given["extra_pip_requirements"], modules
        )
        signature = served_signature(model, given["signature"], example, kwargs)
        if example is not None:
            data, params = split_example(example)
            example = (data, params) if params else data
        return cls(
            model,
            code,
            environment,
            signature,
            example,
            given["metadata"] or {},
            given["code_paths"] or [],
            given["extra_files"] or [],
        )

    def write(self, path: Path, described: Model) -> None:
        """Write the model into a folder, and complete MLflow's description of it.

        Raises:
            ArgumentError: If an extra file cannot be fetched.
        """
        self.model.save(path / STATE)
        (path / CODE).write_bytes(self.code)
        for name, text in self.environment.items():
            (path / name).write_text(text, encoding="utf-8")
        for source in self.code_paths:
            _copy(source, path / MODULES)
        extra = self._fetch_extra_files(path)
        if self.example is not None:
            _save_example(described, self.example, str(path))
        if self.signature is not None:
            described.signature = self.signature
        if self.metadata:
            described.metadata = dict(self.metadata)
        self._add_flavors(described, extra)
        files = [file for file in path.rglob("*") if file.is_file()]
        described.model_size_bytes = sum(file.stat().st_size for file in files)
        described.save(str(path / "MLmodel"))

    def _add_flavors(self, described: Model, extra: JsonObject) -> None:
        code = MODULES if self.code_paths else None
        ours = version("aimz_lab")
        described.add_flavor(
            FLAVOR_NAME, state=STATE, pickled=CODE, version=ours, code=code, **extra
        )
        mlflow.pyfunc.add_to_model(
            described,
            loader_module="aimz_lab.mlflow",
            conda_env="conda.yaml",
            python_env="python_env.yaml",
            code=code,
        )

    def _fetch_extra_files(self, path: Path) -> JsonObject:
        if not self.extra_files:
            return {}
        folder = path / _EXTRA
        folder.mkdir()
        for source in self.extra_files:
            try:
                mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=str(folder))
            except Exception as error:
                msg = f"extra_files names {source!r}, which cannot be fetched: {error}"
                raise ArgumentError(msg) from error
        names = [Path(source).name for source in self.extra_files]
        return {_EXTRA: [{"path": f"{_EXTRA}/{name}"} for name in names]}


def _copy(source: str, folder: Path) -> None:
    target = folder / Path(source).resolve().name
    if Path(source).is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        folder.mkdir(exist_ok=True)
        shutil.copy(source, target)
