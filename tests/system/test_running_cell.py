"""Nothing of a cell runs after the statement in which it is ended."""

from __future__ import annotations

import sys
import threading

import pytest

pytest.importorskip("IPython", reason="needs the lab extra: pip install 'aimz_lab[lab]'")

from IPython.core.interactiveshell import InteractiveShell

from aimz_lab.system.running_cell import end_cell


@pytest.fixture
def shell(monkeypatch):
    shell = InteractiveShell()
    monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: shell)
    yield shell
    shell.events.trigger("pre_execute")  # as the next cell does


def ends(shell, meanwhile=lambda: None):
    """Run a cell that is ended in its first statement; return its result and its names."""

    def end():
        assert end_cell("The run was interrupted.")
        meanwhile()
        return "a model"

    shell.user_ns["end"] = end
    return shell.run_cell("kept = end()\nafter = True"), shell.user_ns


def test_what_the_statement_assigns_is_kept_and_the_cell_counts_as_one_that_raised(shell):
    result, names = ends(shell)
    assert names["kept"] == "a model"
    assert "after" not in names
    assert isinstance(result.error_in_exec, KeyboardInterrupt)


def test_a_message_to_a_widget_does_not_let_the_cell_go_on(shell):
    def message():
        page = threading.Thread(target=shell.events.trigger, args=("pre_execute",))
        page.start()
        page.join()

    result, names = ends(shell, message)
    assert "after" not in names
    assert isinstance(result.error_in_exec, KeyboardInterrupt)


def test_the_next_cell_runs_as_usual(shell):
    ends(shell)
    assert shell.run_cell("after = True").success
    assert shell.user_ns["after"]
