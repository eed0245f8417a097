"""Views that write: the line, and the output of a notebook that becomes a picture."""

from __future__ import annotations

import base64
import io
import re

import pytest

from aimz_lab.lab.dashboard.views import LineView, NotebookView, PictureView
from aimz_lab.preparing import Preparing
from aimz_lab.progress import StatusLine
from tests.lab.runs import begun, feed
from tests.terminal import Terminal


class TestLineView:
    def test_it_keeps_the_last_loss_when_a_frame_brings_none(self):
        out = Terminal()
        view = LineView(StatusLine(out))
        run = begun(n_obs=10)
        view.open(run, {}, lambda message: None)
        feed(run, [20.0])
        view.show(run, {"loss": {"now": 2.0}})
        view.show(run, {})
        assert out.getvalue().count("loss 2 per row") == 2
        assert "compiling the first step" in out.getvalue()

    def test_in_a_pipe_nothing_is_written_before_the_first_steps(self):
        out = io.StringIO()
        LineView(StatusLine(out)).open(begun(), {}, lambda message: None)
        assert out.getvalue() == ""

    def test_the_end_says_why_unless_all_went_as_planned(self):
        out = io.StringIO()
        run = begun()
        feed(run, [1.0])
        run.finish("diverged", "the loss was nan at step 2")
        LineView(StatusLine(out)).close(run, {"loss": {"now": 1.0}})
        assert out.getvalue().startswith("kernel: diverged · epoch 1 · step 1 · loss 1 · in ")
        assert out.getvalue().endswith(" · the loss was nan at step 2\n")


class Outputs(list):
    """What a notebook shows: outputs that can be replaced."""

    def display(self, bundle, *, raw, metadata=None, display_id=False):
        assert raw
        self.append(dict(bundle))
        return Handle(self, len(self) - 1)


class Handle:
    def __init__(self, outputs, i):
        self.outputs, self.i = outputs, i

    def update(self, bundle, *, raw, metadata):
        assert raw
        self.outputs[self.i] = dict(bundle)


@pytest.fixture
def outputs(monkeypatch):
    shown = Outputs()
    monkeypatch.setattr("IPython.display.display", shown.display)
    return shown


def finished():
    run = begun(n_obs=10)
    feed(run, [30.0, 20.0, 10.0])
    run.finish("completed", "all 3 steps done")
    return run


class TestNotebookView:
    def test_it_says_that_it_began_and_leaves_a_picture(self, outputs):
        view = NotebookView()
        run = begun()
        view.open(run, {}, lambda message: None)
        [begun_at] = outputs  # now: a cell of a fit in the background takes no output later
        assert re.fullmatch(
            r"kernel: was preparing at [-\d]{10} \d\d:\d\d:\d\d · .*", begun_at["text/plain"]
        )
        view.show(run, {})
        assert outputs == [begun_at]
        view.close(finished(), {})
        [bundle] = outputs
        assert set(bundle) == {"image/png", "text/html", "text/plain"}
        # Base64 text: bytes would make the saved notebook invalid.
        assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")
        assert 'alt="Loss of kernel over 3 steps' in bundle["text/html"]

    def test_shown_again_after_the_end_it_is_the_picture_again(self, outputs):
        view = NotebookView()
        run = finished()
        view.close(run, {})
        view.display(run)
        assert outputs[0] == outputs[1]

    def test_without_a_run_there_is_nothing_to_show(self, outputs):
        NotebookView().display(None)
        assert outputs == []

    def test_without_matplotlib_text_is_left(self, outputs, monkeypatch):
        monkeypatch.setattr("aimz_lab.lab.environment.has_matplotlib", lambda: False)
        NotebookView().close(finished(), {})
        assert set(outputs[0]) == {"text/html", "text/plain"}


class TestPictureView:
    def test_one_output_is_text_then_pictures_then_the_last_picture(self, outputs):
        view = PictureView()
        run = begun()
        view.open(run, {}, lambda message: None)
        assert [each["text/plain"] for each in outputs] == [
            "kernel: preparing · compiling the first step"
        ]
        feed(run, [3.0, 2.0])
        view.show(run, {})
        assert "image/png" in outputs[0]
        assert "running" in outputs[0]["text/plain"]
        assert "as of" in outputs[0]["text/html"]
        assert "<table" not in outputs[0]["text/html"]  # it would be of another moment
        assert view.apart_s > 0
        run.finish("stopped", "Stop was clicked")
        view.close(run, {})
        assert len(outputs) == 1
        assert "Stop was clicked" in outputs[0]["text/plain"]

    def test_a_picture_stays_while_steps_compile_anew(self, outputs):
        view, run = PictureView(), begun()
        told = Preparing("kernel", "compiling the steps for the new learning rate", 2.0)
        view.prepare(told)
        assert outputs[0]["text/plain"].startswith("kernel: preparing · compiling")
        view.open(run, {}, lambda message: None)
        feed(run, [3.0, 2.0])
        view.show(run, {})
        view.prepare(told)
        assert "image/png" in outputs[0]
        run.finish("completed", "done")
        view.close(run, {})
        view.prepare(told)  # of the next call
        assert len(outputs) == 2

    def test_a_line_moves_while_the_next_picture_is_not_due(self, outputs, monkeypatch):
        for name in ("PATIENCE_S", "INTERVAL_S"):
            monkeypatch.setattr(f"aimz_lab.lab.dashboard.moving_text.{name}", -1.0)
        view, run, pictures, lines = PictureView(), begun(), set(), []
        view.open(run, {}, lambda message: None)
        for loss in (3.0, 2.0, 1.0):
            feed(run, [loss])
            view.show(run, {})
            pictures.add(outputs[0]["image/png"])
            lines.append(outputs[1]["text/plain"])
        assert len(pictures) == 1
        assert view.apart_s == 0
        assert [f"step {n}" in line for n, line in enumerate(lines, start=1)] == [True] * 3
        run.finish("completed", "done")
        view.close(run, {})
        assert [outputs[0]["image/png"] in pictures, outputs[1]["text/plain"]] == [False, ""]

    def test_shown_twice_both_outputs_become_the_picture(self, outputs):
        view = PictureView()
        run = begun()
        feed(run, [3.0, 2.0])
        view.open(run, {}, lambda message: None)
        view.display(run)
        run.finish("completed", "done")
        view.close(run, {})
        assert len(outputs) == 2
        assert all("completed" in bundle["text/plain"] for bundle in outputs)
