"""Names for the doctests: ``im``, ``kernel``, ``X`` and ``y`` of ``ImpactModel``'s example."""

from __future__ import annotations

import doctest
import linecache
import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import aimz_lab

# Before the first import of MLflow: nothing may be sent anywhere.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
_STORED = "aimz_lab.mlflow."
# MLflow's own: its file store is in maintenance mode, and it uses what pydantic deprecates.
_NOT_OURS = ("ignore::FutureWarning:mlflow", "ignore::DeprecationWarning:mlflow")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let MLflow warn where its store is written to."""
    for item in items:
        if item.name.startswith(_STORED):
            for ignored in _NOT_OURS:
                item.add_marker(pytest.mark.filterwarnings(ignored))


@cache
def _fitted() -> Mapping[str, Any]:
    """What the example of the model class defines: its kernel, its data, and the fitted model."""
    names: dict[str, Any] = dict(vars(aimz_lab))
    for example in doctest.DocTestParser().get_examples(aimz_lab.ImpactModel.__doc__):
        file = f"the example of ImpactModel, line {example.lineno}"
        # The source of the kernel is at hand, as that of a cell is.
        linecache.cache[file] = (len(example.source), None, example.source.splitlines(True), file)
        exec(compile(example.source, file, "single"), names)
    return {name: names[name] for name in ("jax", "np", "kernel", "svi", "X", "y", "im")}


@pytest.fixture(autouse=True)
def _names_of_the_model(request: pytest.FixtureRequest, doctest_namespace: dict[str, Any]) -> None:
    """Put them where an example reads the model without having made one."""
    sources = [example.source for example in request.node.dtest.examples]
    reads_it = any("im." in source or "(im" in source for source in sources)
    if reads_it and not any("im = " in source for source in sources):
        doctest_namespace.update(_fitted())


@pytest.fixture(autouse=True)
def _store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Give MLflow's examples a store of their own."""
    if not request.node.name.startswith(_STORED):
        yield
        return
    import mlflow

    from aimz_lab.mlflow import autolog

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    yield
    autolog(disable=True)
    mlflow.set_tracking_uri(None)
