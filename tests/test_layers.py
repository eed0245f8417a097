"""The package's imports point one way, and the core runs without a screen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

UI = {"IPython", "anywidget", "ipywidgets", "matplotlib", "aimz_lab.lab"}
OPTIONAL = {"formulaic", "polars", "torch", "grain", "mlflow"}
LATE = {"dask", "pandas", "xarray", "zarr"}
"""Half a second of imports, which only results need."""

STATEMENTS = [
    "import aimz_lab",
    "from aimz_lab import ArrayDataset, ArrayLoader, ImpactModel, errors",
    "from aimz_lab.utils.data import ArrayDataset, ArrayLoader",
    "ArrayDataset(X=[[1.0], [2.0]]); from aimz_lab.data import row_coord; row_coord([1.0])",
]
WITHOUT_FORMULAIC = """
sys.modules["formulaic"] = None
try:
    from aimz_lab import TableSpec
except errors.OptionalDependencyError as error:
    assert "pip install 'aimz_lab[tables]'" in str(error)
else:
    raise AssertionError
import aimz_lab.lab
"""
# One statement after the other: what one of them loads is there after the next ones as well.
FRESH = """
import json, sys
loaded = []
for statement in json.loads(sys.argv[1]):
    exec(statement)
    loaded.append(sorted(sys.modules))
with open(sys.argv[2], "w") as file:
    json.dump(loaded, file)
"""


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A fresh interpreter that ran the statements, and the modules that it held after each."""
    file = tmp_path_factory.mktemp("fresh") / "modules.json"
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-c",
            FRESH,
            json.dumps([*STATEMENTS, WITHOUT_FORMULAIC]),
            file,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    loaded = json.loads(file.read_text()) if file.exists() else []
    return done, [set(modules) for modules in loaded]


@pytest.mark.slow
@pytest.mark.parametrize("i", range(3), ids=STATEMENTS[:3])
def test_importing_the_core_loads_no_user_interface(fresh, i):
    _, loaded = fresh
    assert "aimz_lab" in loaded[i]
    assert not UI & loaded[i]
    assert not LATE & loaded[i]


@pytest.mark.slow
def test_converting_data_loads_no_optional_library(fresh):
    _, loaded = fresh
    assert not OPTIONAL & loaded[len(STATEMENTS) - 1]


def test_importing_prints_and_warns_nothing_and_names_the_extra_for_tables(fresh):
    done, _ = fresh
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_import_points_down_the_layers(repository, tmp_path):
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--cache-dir", tmp_path],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_folder_with_code_is_a_package(repository):
    """The import contracts do not see a folder that has no ``__init__.py``."""
    folders = {module.parent for module in Path(repository, "aimz_lab").rglob("*.py")}
    assert not [folder for folder in folders if not (folder / "__init__.py").is_file()]
