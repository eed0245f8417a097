"""Warnings in a notebook are notices in the cell's output; elsewhere they stay Python's."""

from __future__ import annotations

import ast
import subprocess
import sys
import warnings
from types import SimpleNamespace

import pytest

from aimz_lab.errors import FitWarning
from aimz_lab.notices import Notices, show_as_notices, tell
from aimz_lab.tracebacks import warn


@pytest.fixture
def shown(monkeypatch):
    """What a notebook shows."""
    found = []
    ipython = SimpleNamespace(
        get_ipython=lambda: SimpleNamespace(kernel=object()),
        display=SimpleNamespace(display=lambda bundle, raw: found.append(bundle)),
    )
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    return found


IN_A_NOTEBOOK = """
import sys, warnings
from types import SimpleNamespace
from aimz_lab.errors import FitWarning
from aimz_lab.tracebacks import warn

sys.modules["IPython"] = SimpleNamespace(
    get_ipython=lambda: SimpleNamespace(kernel=object()),
    display=SimpleNamespace(display=lambda bundle, raw: print(bundle)),
)
warn("the loss <b> still fell", FitWarning)
warnings.warn("another package's")
"""


@pytest.mark.slow
def test_a_notice_is_escaped_and_no_error():
    """In a process of its own, as pytest records all warnings of this one."""
    done = subprocess.run(
        [sys.executable, "-c", IN_A_NOTEBOOK], capture_output=True, text=True, check=True
    )
    notice = ast.literal_eval(done.stdout.strip())
    assert notice["text/plain"] == "FitWarning: the loss <b> still fell"
    assert "FitWarning: the loss &lt;b&gt; still fell" in notice["text/html"]
    assert "another package's" in done.stderr
    assert "still fell" not in done.stderr


def test_a_cell_says_the_same_once(shown, monkeypatch):
    before = []
    notices = Notices(sys.modules["IPython"].display.display, lambda *given: before.append(given))
    for cell, times in (("a", 2), ("b", 1), (None, 2)):
        kernel = SimpleNamespace(get_parent=lambda cell=cell: {"header": {"msg_id": cell}})
        monkeypatch.setattr(
            sys.modules["IPython"],
            "get_ipython",
            lambda kernel=kernel: SimpleNamespace(kernel=kernel),
        )
        for _ in range(times):
            notices(FitWarning("7 rows"), FitWarning, "file", 1)
        notices(FitWarning("others"), FitWarning, "file", 1)
    said = [bundle["text/plain"].split(": ")[1] for bundle in shown]
    assert said == ["7 rows", "others"] * 2 + ["7 rows", "7 rows", "others"]
    assert before == []


def test_a_sentence_is_shown_as_one_that_wraps_or_written(shown, monkeypatch, capsys):
    tell("ended <early>")
    assert "ended &lt;early&gt;" in shown[0]["text/html"]
    assert capsys.readouterr().out == ""
    monkeypatch.delitem(sys.modules, "IPython")
    tell("ended early")
    assert capsys.readouterr().out == "ended early\n"


def test_warnings_that_are_recorded_or_errors_stay_so(shown):
    with pytest.warns(FitWarning, match="recorded"):
        warn("recorded", FitWarning)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(FitWarning):
            warn("raised", FitWarning)
    assert shown == []


def test_outside_of_a_notebook_nothing_changes(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    before = warnings.showwarning
    show_as_notices()
    assert warnings.showwarning is before
