"""A notebook that a program executes: quiet while it runs, with a picture at the end."""

from __future__ import annotations

import pytest

pytest.importorskip("nbclient", reason="needs the lab extra: pip install 'aimz_lab[lab]'")

import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter

from tests.lab.cells import GATED

LOOP = """
from aimz_lab import lab
for epochs in (2, 3):
    watch = lab.monitor([3.0, 2.0, 1.0], epochs=epochs, model="executed")
    for batch in watch:
        watch.step(batch)
print(watch.run.status)
"""


@pytest.mark.slow
def test_each_run_leaves_a_picture_and_nothing_else(tmp_path, repository, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(repository))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(LOOP)])
    NotebookClient(notebook, timeout=100, resources={"metadata": {"path": tmp_path}}).execute()
    nbformat.validate(notebook)
    *pictures, text = notebook.cells[0].outputs
    assert text["text"] == "completed\n"
    assert [output["output_type"] for output in pictures] == ["display_data"] * 2
    for output, steps in zip(pictures, (6, 9), strict=True):
        assert set(output["data"]) == {"image/png", "text/html", "text/plain"}
        assert f"all {steps} steps done" in output["data"]["text/plain"]
    assert "widgets" not in notebook.metadata
    page, _ = HTMLExporter().from_notebook_node(notebook)
    assert page.count('src="data:image/png') == 2
    assert "widget-view" not in page


BEHIND = f"""
{GATED}
handle = im.fit(X, X, batch_size=20, epochs=4, callbacks=[Gate()], blocking=False)
handle
"""


@pytest.mark.slow
def test_a_run_in_the_background_leaves_its_record_and_no_live_view(
    tmp_path, repository, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", str(repository))
    end = "opened.append(1); handle.wait()\nhandle"
    cells = [BEHIND, "lab.show(handle)", "lab.running()", end]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
    NotebookClient(notebook, timeout=100, resources={"metadata": {"path": tmp_path}}).execute()
    began, shown, listed, ended = ([o["data"] for o in cell.outputs] for cell in notebook.cells)
    for outputs in (began, shown):
        assert "image/png" in outputs[0]
        assert "completed: all 8 steps done" in outputs[0]["text/plain"]
    assert "handle.result() is the model" in began[1]["text/html"]
    assert "completed" in listed[0]["text/html"]
    assert len(ended) == 1  # the handle; no line says once more how the run ended
    assert "completed" in ended[0]["text/html"]
    assert "widgets" not in notebook.metadata  # the page of a saved one would take it for live


PREPARED = """
import time
from aimz_lab.preparing import doing, preparing_line
with preparing_line("kernel", enabled=True, stage="diagnose"):
    doing("scoring the rows")
    time.sleep(1.4)  # the line is replaced once
"the report"
"""


@pytest.mark.slow
def test_what_a_call_does_before_its_result_is_gone_with_the_result(
    tmp_path, repository, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", str(repository))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(PREPARED)])
    NotebookClient(notebook, timeout=100, resources={"metadata": {"path": tmp_path}}).execute()
    line, report = notebook.cells[0].outputs
    assert line["data"] == {"text/plain": ""}
    assert report["data"] == {"text/plain": "'the report'"}
