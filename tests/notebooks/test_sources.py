"""The tutorials are kept as sources: valid notebooks that hold nothing a run left behind."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=nbformat.NO_CONVERT)


def test_there_is_a_first_tutorial():
    assert [path for path in NOTEBOOKS if path.name.startswith("01_")]


def test_it_is_a_valid_notebook(notebook):
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"


def test_it_holds_no_outputs(notebook):
    ran = [cell for cell in notebook.cells if cell.get("outputs") or cell.get("execution_count")]
    assert ran == []


def test_it_holds_no_widget_state(notebook):
    assert "widgets" not in notebook.metadata


def test_it_starts_with_its_title(notebook):
    first = notebook.cells[0]
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")


def test_no_amount_of_money_is_read_as_mathematics(notebook):
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    assert [text for text in texts if re.search(r"\$\d", text)] == []
