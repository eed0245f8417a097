"""Who watches: the page, a program, a terminal, a pipe, or continuous integration."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import pytest

from aimz_lab.errors import OptionalDependencyError
from aimz_lab.lab import environment

AUTOMATION = ("CI", "GITHUB_ACTIONS", "PYTEST_CURRENT_TEST", "PYTEST_VERSION")
# As JupyterLab, VS Code and jupyter_client send them.
PAGE = {"header": {"msg_id": "0c5f8a1e-0001-4b7e-a3c1-5a4b3c2d1e0f"}, "metadata": {"cellId": "a"}}
BARE_PAGE = {"header": {"msg_id": "0c5f8a1e-0001-4b7e-a3c1-5a4b3c2d1e0f"}, "metadata": {}}
PROGRAM = {"header": {"msg_id": "fe538f19-7f7e55fc6b9fd8fa3f8642c0_13204_2"}, "metadata": {}}


@pytest.fixture
def place(monkeypatch):
    """Finds the place after setting up a kernel, variables and a stream."""

    def find(*, parent=None, variables=(), terminal=False):
        for name in AUTOMATION:
            monkeypatch.delenv(name, raising=False)
        for name in variables:
            monkeypatch.setenv(name, "true")
        shell = None
        if parent is not None:
            kernel = SimpleNamespace(shell=SimpleNamespace(parent_header=parent))
            shell = SimpleNamespace(kernel=kernel)
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
        stream = io.StringIO()
        stream.isatty = lambda: terminal
        return environment.place(stream)

    return find


@pytest.mark.parametrize(
    ("situation", "expected"),
    [
        ({"parent": PAGE}, "page"),
        ({"parent": BARE_PAGE}, "page"),
        ({"parent": PROGRAM}, "kernel"),
        ({"parent": PAGE, "variables": ["CI"]}, "kernel"),
        ({"variables": ["CI"], "terminal": True}, "automation"),
        ({"terminal": True}, "terminal"),
        ({}, "pipe"),
    ],
)
def test_places(place, situation, expected):
    assert place(**situation) == expected


@pytest.mark.parametrize(("value", "expected"), [("", False), ("false", False), ("1", True)])
def test_a_variable_may_say_no(monkeypatch, value, expected):
    for name in AUTOMATION:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CI", value)
    assert environment.automated() is expected


def test_a_test_is_automation():
    assert environment.automated()
    assert environment.place() == "automation"


def test_without_ipython_there_is_no_kernel_and_none_is_imported(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert environment.kernel() is None
    assert "IPython" not in sys.modules


def test_subshells_are_those_of_the_kernel(monkeypatch):
    monkeypatch.setattr(environment, "kernel", lambda: None)
    assert not environment.has_subshells()
    monkeypatch.setattr(
        environment, "kernel", lambda: SimpleNamespace(_supports_kernel_subshells=True)
    )
    assert environment.has_subshells()


def test_the_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr(environment, "has_widgets", lambda: False)
    with pytest.raises(OptionalDependencyError, match=r"pip install 'aimz_lab\[lab\]'"):
        environment.require_widgets()
