"""What mybinder.org builds from: files it can read, extras that exist, commands on real files."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.public_api import code_cells


@pytest.fixture(scope="module")
def binder(repository):
    return repository / "binder"


def test_it_holds_what_is_needed_and_nothing_else(binder):
    assert sorted(path.name for path in binder.iterdir()) == [
        "postBuild",
        "requirements.txt",
        "runtime.txt",
    ]


def test_its_python_is_one_that_we_support(binder):
    version = re.fullmatch(r"python-(3\.\d+)", (binder / "runtime.txt").read_text().strip())
    assert version
    supported = metadata.metadata("aimz_lab").get_all("Classifier")
    assert f"Programming Language :: Python :: {version[1]}" in supported


def test_it_installs_the_checkout_with_extras_that_exist(binder):
    (line,) = (binder / "requirements.txt").read_text().splitlines()
    extras = re.fullmatch(r"-e \.\[([a-z,]+)\]", line)
    assert extras
    offered = metadata.metadata("aimz_lab").get_all("Provides-Extra")
    assert set(extras[1].split(",")) <= set(offered)


def _installed_by(name, extras, seen):
    """Names of the packages that a package brings along, itself included."""
    if (name, extras) in seen:
        return
    seen.add((name, extras))
    for line in metadata.requires(name) or ():
        wanted = Requirement(line)
        environments = [{"extra": extra} for extra in extras or ("",)]
        if wanted.marker is None or any(map(wanted.marker.evaluate, environments)):
            _installed_by(canonicalize_name(wanted.name), tuple(wanted.extras), seen)


def _imports(notebook):
    """Packages that a tutorial always imports; what it can do without is imported under an if."""
    for source in code_cells(notebook):
        for node in ast.parse(source).body:
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield node.module.partition(".")[0]


@pytest.mark.slow
def test_it_installs_what_the_tutorials_import(binder, repository):
    extras = re.search(r"\[([a-z,]+)\]", (binder / "requirements.txt").read_text())[1]
    seen = set()
    _installed_by("aimz-lab", tuple(extras.split(",")), seen)
    installed = {name for name, _ in seen}
    assert {"jax", "jupyterlab", "flax"} <= installed
    assert "hypothesis" not in installed
    makers = metadata.packages_distributions()
    imported = {m for path in repository.glob("notebooks/*.ipynb") for m in _imports(path)}
    missing = [
        module
        for module in sorted(imported - sys.stdlib_module_names)
        if not {canonicalize_name(name) for name in makers.get(module, [module])} & installed
    ]
    assert missing == []


def test_its_script_can_be_run_and_names_files_that_exist(binder, repository):
    script = binder / "postBuild"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)
    words = shlex.split(script.read_text(), comments=True)
    paths = [word for word in words if "/" in word and not word.startswith(("/", ">"))]
    assert paths
    assert [path for path in paths if not (repository / path).is_file()] == []


def test_the_readme_opens_a_folder_that_exists(repository):
    text = (repository / "README.md").read_text(encoding="utf-8")
    opened = re.findall(r"lab/tree/([\w/.]+)", text)
    assert opened
    assert [path for path in opened if not (repository / path).exists()] == []
