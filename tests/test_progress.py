"""The line that is kept up to date, and what it says of a call."""

from __future__ import annotations

import io
import re
import sys
import time
from types import SimpleNamespace

import pytest

from aimz_lab.predictive.pipeline import in_order
from aimz_lab.predictive.programs.parts import Span
from aimz_lab.progress import NEW_LINE_S, QUIET_S, CallProgress, StatusLine
from tests.terminal import Terminal


class TestStatusLine:
    def test_on_a_terminal_it_is_written_over_itself(self):
        out = Terminal()
        line = StatusLine(out)
        line.write("a long text")
        line.write("short")
        line.close("the end")
        assert out.getvalue() == "\ra long text\rshort      \r     \rthe end\n"

    def test_in_the_background_a_terminal_is_left_to_others_until_the_end(self, monkeypatch):
        monkeypatch.setattr(sys, "stderr", out := Terminal())
        line = StatusLine()
        line.write("preparing")
        line.begin("running", "in the background")
        line.write("step 1")
        line.clear()
        monkeypatch.setattr(sys, "stderr", above_prompt := Terminal())
        line.close("the end")
        assert out.getvalue() == "\rpreparing\r         \rin the background\n"
        assert above_prompt.getvalue() == "the end\n"

    def test_in_the_background_a_redirected_stream_may_be_closed(self, monkeypatch):
        monkeypatch.setattr(sys, "stderr", of_a_cell := io.StringIO())  # as in marimo
        line = StatusLine()
        line.begin("running", "in the background")
        assert of_a_cell.getvalue() == "in the background\n"
        of_a_cell.close()
        monkeypatch.setattr(sys, "stderr", now := io.StringIO())
        line.write("step 1")
        line.close("the end")
        assert now.getvalue() == "the end\n"

    def test_in_the_background_a_log_gets_its_lines(self):
        out = io.StringIO()
        line = StatusLine(out)
        line.begin("running", "in the background")
        line.write("step 1")
        line.close("the end")
        assert out.getvalue() == "step 1\nthe end\n"

    def test_elsewhere_it_is_line_after_line_without_control_characters(self):
        out = io.StringIO()
        line = StatusLine(out)
        line.write("one")
        line.close("two")
        assert out.getvalue() == "one\ntwo\n"

    def test_it_never_wraps_on_a_narrow_terminal(self, monkeypatch):
        monkeypatch.setenv("COLUMNS", "20")
        out = Terminal()
        StatusLine(out).write("x" * 50)
        assert out.getvalue() == "\r" + "x" * 19

    def test_the_last_line_is_whole(self, monkeypatch):
        monkeypatch.setenv("COLUMNS", "20")
        out = Terminal()
        StatusLine(out).close("x" * 50)
        assert out.getvalue().endswith("x" * 50 + "\n")

    def test_a_stream_that_knows_only_ascii_gets_ascii(self):
        raw = io.BytesIO()
        out = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
        StatusLine(out).close("epoch 1 · loss 2 é")
        assert raw.getvalue() == b"epoch 1 | loss 2 ?\n"


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Notebook(list):
    """The bundles that a kernel sends, and in ``messages`` whether each is a replacement."""

    def __init__(self):
        self.messages = []

    def display(self, bundle, **_):
        self._send("display", bundle)
        update = lambda bundle, **_: self._send("update", bundle)  # noqa: E731
        return SimpleNamespace(update=update, display_id="line")

    def _send(self, how, bundle):
        self.append(bundle)
        self.messages.append((how, bundle))


def notebook(monkeypatch, msg_id):
    """Stand in for a kernel that runs the cell of this message."""
    sent = Notebook()
    parent = {"header": {"msg_id": msg_id}, "content": {"allow_stdin": False}}
    kernel = SimpleNamespace(shell=SimpleNamespace(parent_header=parent))
    get_ipython = lambda: SimpleNamespace(kernel=kernel)  # noqa: E731
    display = SimpleNamespace(display=sent.display)
    ipython = SimpleNamespace(get_ipython=get_ipython, display=display)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return sent


class TestCallProgress:
    @pytest.fixture
    def clock(self):
        return Clock()

    def test_on_a_terminal_it_counts_and_tells_rate_and_time_left(self, clock):
        out = Terminal()
        with CallProgress("row", 4000, stream=out, clock=clock) as line:
            for second in (2.0, 4.0):
                clock.now = second
                line.advance(1000)
        assert out.getvalue().split("\r") == [
            "",
            "row 1,000 of 4,000 · 500 rows/s",
            "row 2,000 of 4,000 · 500 rows/s · 4.0 s left",
            " " * 44,
            "row 2,000 of 4,000 · 500 rows/s · in 4.0 s\n",
        ]

    def test_without_a_total_it_promises_nothing(self, clock):
        out = Terminal()
        with CallProgress("draw", stream=out, clock=clock) as line:
            clock.now = 4.0
            line.advance(10)
        assert "\rdraw 10 · 2.5 draws/s\r" in out.getvalue()

    @pytest.mark.parametrize(("stream", "wait_s"), [(Terminal, QUIET_S), (io.StringIO, NEW_LINE_S)])
    def test_a_call_that_is_soon_over_writes_nothing(self, clock, stream, wait_s):
        out = stream()
        with CallProgress("row", 10, stream=out, clock=clock) as line:
            clock.now = 0.99 * wait_s
            line.advance(10)
        assert out.getvalue() == ""

    def test_many_steps_in_a_moment_write_once(self, clock):
        out = Terminal()
        with CallProgress("row", 100, stream=out, clock=clock) as line:
            clock.now = 1.0
            for _ in range(50):
                line.advance(1)
        assert out.getvalue().count(" rows/s") == 2  # with the last line
        assert out.getvalue().endswith("row 50 of 100 · 50 rows/s · in 1.0 s\n")

    def test_the_time_left_is_without_the_compilation_that_the_first_rows_wait_for(self, clock):
        out = Terminal()
        with CallProgress("row", 1000, stream=out, clock=clock) as line:
            for second, rows in ((20.0, 10), (20.5, 50), (21.1, 50), (30.0, 390)):
                clock.now = second
                line.advance(rows)
        told = [text.rpartition(" · ")[2].rstrip() for text in out.getvalue().split("\r")[1:5]]
        assert told == ["0.5 rows/s", "2.9 rows/s", "9.8 s left", "10 s left"]

    def test_a_long_call_tells_the_time_left_after_some_seconds(self, clock):
        out = Terminal()
        with CallProgress("row", 10**6, stream=out, clock=clock) as line:
            for second in (20.0, 22.0, 25.0):
                clock.now = second
                line.advance(1000)
        told = [text.rpartition(" · ")[2].rstrip() for text in out.getvalue().split("\r")[1:4]]
        assert told == ["50 rows/s", "91 rows/s", "41:33 left"]

    def test_elsewhere_there_is_a_new_line_now_and_then(self, clock):
        out = io.StringIO()
        with CallProgress("row", 100, stream=out, clock=clock) as line:
            for second in range(1, 26):
                clock.now = float(second)
                line.advance(1)
        assert out.getvalue().splitlines() == [
            "row 10 of 100 · 1.0 rows/s · 1:30 left",
            "row 20 of 100 · 1.0 rows/s · 1:20 left",
            "row 25 of 100 · 1.0 rows/s · in 25 s",
        ]

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit])
    def test_what_breaks_a_call_off_leaves_a_whole_line(self, clock, error):
        out = Terminal()

        def broken_off():
            with CallProgress("row", 100, stream=out, clock=clock) as line:
                clock.now = 2.0
                line.advance(1)
                raise error

        with pytest.raises(error):
            broken_off()
        assert out.getvalue().endswith("\rrow 1 of 100 · 0.5 rows/s · stopped after 2.0 s\n")

    def test_a_notebooks_stream_is_written_over_too(self, clock):
        out = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})()
        with CallProgress("row", 2, stream=out, clock=clock) as line:
            clock.now = 2.0
            line.advance(1)
        assert out.getvalue().startswith("\rrow 1 of 2")

    def test_in_a_notebook_it_is_an_output_with_a_bar_and_not_standard_error(
        self, monkeypatch, clock, capsys
    ):
        shown = notebook(monkeypatch, msg_id="0c5f8a1e-0001-4b7e-a3c1-5a4b3c2d1e0f")
        with CallProgress("row", 4, clock=clock) as line:
            clock.now = 2.0
            line.advance(1)
            line.advance(3)
        assert [bundle["text/plain"] for bundle in shown] == [
            "row 1 of 4 · 0.5 rows/s",
            "row 4 of 4 · 2.0 rows/s · in 2.0 s",
        ]
        assert [re.findall(r"width:([\d.]+)%", b["text/html"]) for b in shown] == [
            ["25.0"],
            ["100.0"],
        ]
        assert capsys.readouterr() == ("", "")

    def test_the_log_of_a_program_gets_the_end_as_an_output_of_its_own(self, monkeypatch, clock):
        shown = notebook(monkeypatch, msg_id="fe538f19-7f7e55fc6b9fd8fa3f8642c0_13204_2")
        with CallProgress("row", 4, clock=clock) as line:
            clock.now = 2.0
            line.advance(1)
            line.advance(3)
        assert [(how, bundle["text/plain"]) for how, bundle in shown.messages] == [
            ("display", "row 1 of 4 · 0.5 rows/s"),
            ("update", ""),
            ("display", "row 4 of 4 · 2.0 rows/s · in 2.0 s"),
        ]

    def test_without_standard_error_nothing_breaks(self, monkeypatch, clock):
        monkeypatch.setattr(sys, "stderr", None)
        with CallProgress("row", 2, clock=clock) as line:
            clock.now = 20.0
            line.advance(1)


def test_calls_in_order_count_what_they_have_done(monkeypatch):
    monkeypatch.setattr("aimz_lab.progress.QUIET_S", 0.05)
    monkeypatch.setattr(sys, "stderr", out := Terminal())

    def compute(first):
        time.sleep(0.1)
        return Span(0, first, 10), first

    for progress in (False, True):
        results = in_order(compute, [0, 10], 1, total=20, unit="draw", progress=progress)
        assert [values for _, values in results] == [0, 10]
        assert bool(out.getvalue()) is progress
    assert "\rdraw 10 of 20 · " in out.getvalue()
    assert "draw 20 of 20 · " in out.getvalue().splitlines()[-1]
    assert out.getvalue().endswith("s\n")
