"""The package's imports point one way, and the core runs without a screen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

UI = {"IPython", "anywidget", "ipywidgets", "matplotlib", "aimz_lab.lab"}


def modules_after(statement: str) -> set[str]:
    """Names of the modules a fresh interpreter holds once it has run ``statement``."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    "statement",
    [
        "import aimz_lab",
        "from aimz_lab import ArrayDataset, ArrayLoader, ImpactModel, errors",
        "from aimz_lab.utils.data import ArrayDataset, ArrayLoader",
    ],
)
def test_importing_the_core_loads_no_user_interface(statement):
    loaded = modules_after(statement)
    assert "aimz_lab" in loaded
    assert not UI & loaded


def test_importing_the_package_prints_and_warns_nothing():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import aimz_lab"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
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
