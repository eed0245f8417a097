"""A notebook becomes one HTML page: executed by this Python, described, and without the network."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
import threading
from pathlib import Path

import nbformat
import pytest

from aimz_lab.errors import AimzLabError, ArgumentError
from aimz_lab.lab.tour import tutorial
from aimz_lab.lab.tour.tutorial import check_target, live_command, notebook_path, write_html

PICTURE = """
import matplotlib.pyplot as plt
figure, axes = plt.subplots(figsize=(1, 1))
plt.close(figure)
display(figure, metadata={"image/png": {"alt": "a <small> square"}})
"""

SWALLOWS = """
import time
try:
    time.sleep(60)
except KeyboardInterrupt:
    pass
"""


def write_notebook(path: Path, *sources: str) -> Path:
    cells = [nbformat.v4.new_markdown_cell("# Title: $x$")]
    cells += [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tutorial")
    notebook = write_notebook(
        folder / "story.ipynb", "import sys; print('python:', sys.executable)", PICTURE
    )
    before = notebook.read_bytes()
    reported: list[tuple[int, int]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLBACKEND", "agg")
        write_html(notebook, folder / "story.html", lambda *cell: reported.append(cell))
    assert notebook.read_bytes() == before
    return (folder / "story.html").read_text(encoding="utf-8"), reported


@pytest.mark.slow
def test_the_kernel_is_this_python(executed):
    html, _ = executed
    assert f"python: {sys.executable}" in html


@pytest.mark.slow
def test_each_code_cell_is_announced(executed):
    assert executed[1] == [(1, 2), (2, 2)]


def test_pictures_are_inside_and_described(executed):
    html, _ = executed
    (image,) = re.findall(r"<img [^>]*>", html)
    assert 'src="data:image/png;base64,' in image
    assert 'alt="a &lt;small&gt; square"' in image


def test_the_page_fetches_nothing(executed):
    html, _ = executed
    assert re.findall(r"<script[^>]*\bsrc=", html) == []
    assert re.findall(r"<link[^>]*\bhref=", html) == []
    assert re.findall(r"\bimport\(", html) == []


@pytest.mark.slow
def test_a_cell_that_fails_is_reported_and_nothing_is_written(tmp_path):
    notebook = write_notebook(tmp_path / "bad.ipynb", "1 / 0")
    with pytest.raises(AimzLabError, match=r"bad\.ipynb failed with ZeroDivisionError"):
        write_html(notebook, tmp_path / "bad.html", lambda *_: None)
    assert not (tmp_path / "bad.html").exists()


@pytest.mark.slow
def test_a_kernel_that_dies_is_reported(tmp_path):
    notebook = write_notebook(tmp_path / "dead.ipynb", "import os; os._exit(1)")
    with pytest.raises(AimzLabError, match="kernel stopped before the end"):
        write_html(notebook, tmp_path / "dead.html", lambda *_: None)


@pytest.mark.parametrize(
    ("name", "message"),
    [(".", "is a folder; name a file"), ("nowhere/page.html", "does not exist; make it")],
)
def test_a_place_that_cannot_be_written_is_refused(tmp_path, name, message):
    with pytest.raises(ArgumentError, match=message):
        check_target(tmp_path / name)


def test_a_folder_without_permission_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tutorial.os, "access", lambda path, mode: False)
    with pytest.raises(ArgumentError, match="cannot be written"):
        check_target(tmp_path / "page.html")


def test_the_tutorial_is_found_in_the_checkout(repository):
    assert notebook_path() == repository / "notebooks" / "01_first_model.ipynb"


def test_a_missing_tutorial_is_reported(tmp_path):
    with pytest.raises(AimzLabError, match=r"01_first_model\.ipynb is missing"):
        notebook_path(tmp_path / "a" / "b" / "c")


def test_the_live_command_is_short_in_the_folder_of_the_notebook(tmp_path, monkeypatch):
    notebook = write_notebook(tmp_path / "with space.ipynb")
    monkeypatch.chdir(tmp_path)
    *program, argument = shlex.split(live_command(notebook))
    assert argument == "with space.ipynb"
    assert program[-1] in ("lab", "jupyterlab")
    monkeypatch.chdir("/")
    assert live_command(notebook).endswith(shlex.quote(str(notebook).lstrip("/")))


@pytest.mark.parametrize(
    "source", ["import time; time.sleep(60)", SWALLOWS], ids=["raises", "ends"]
)
@pytest.mark.slow
def test_an_interrupt_ends_kernel_and_tutorial(tmp_path, source):
    notebook = write_notebook(tmp_path / "long.ipynb", source, "raise SystemExit('went on')")
    timer = threading.Timer(2.0, os.kill, [os.getpid(), signal.SIGINT])

    def start_timer(cell, cells):
        timer.start()

    with pytest.raises(KeyboardInterrupt):
        write_html(notebook, tmp_path / "long.html", start_timer)
    assert not (tmp_path / "long.html").exists()
