"""What an installed copy promises: one version, types, and the commands of the README."""

from __future__ import annotations

import subprocess
from importlib import metadata
from importlib.resources import files

import aimz_lab


def test_the_version_is_written_once():
    assert metadata.version("aimz_lab") == aimz_lab.__version__


def test_type_checkers_are_told_of_the_annotations():
    assert files("aimz_lab").joinpath("py.typed").is_file()


def test_the_command_line_is_installed():
    (script,) = metadata.entry_points(group="console_scripts", name="aimz-lab")
    assert callable(script.load())


def test_every_extra_the_readme_installs_exists(repository):
    offered = set(metadata.metadata("aimz_lab").get_all("Provides-Extra"))
    for command in ("first-run", "tests"):
        line = subprocess.run(
            [repository / ".ci" / "readme_command", command],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        wanted = line.partition("'.[")[2].partition("]'")[0].split(",")
        assert wanted != [""]
        assert set(wanted) <= offered
