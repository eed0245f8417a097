"""The command line: help, wrong usage, and the exit status of every end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import aimz_lab
from aimz_lab.errors import AimzLabError, ArgumentError
from aimz_lab.lab.tour import tour as tour_module
from aimz_lab.lab.tour.cli import main


@pytest.fixture
def end_by(monkeypatch):
    """Make the tour end at once, by an error or not."""

    def set_end(error=None):
        asked = []

        def tour(out):
            asked.append(out)
            if error:
                raise error

        monkeypatch.setattr(tour_module, "tour", tour)
        return asked

    return set_end


@pytest.mark.parametrize("arguments", [["--help"], ["tour", "--help"], ["--version"]])
def test_help_and_version_end_well(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 0
    printed = capsys.readouterr().out
    assert "tour" in printed or printed == f"aimz_lab {aimz_lab.__version__}\n"


def test_without_a_command_it_tells_the_commands(capsys):
    assert main([]) == 2
    assert "tour" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["tor"], ["tour", "--oot", "x"], ["tour", "--out"]])
def test_wrong_usage_says_what_is_right(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage: aimz-lab" in capsys.readouterr().err


def test_the_tutorial_goes_where_it_is_asked_to(end_by):
    asked = end_by()
    assert main(["tour"]) == 0
    assert main(["tour", "--out", "a/b.html"]) == 0
    assert asked == [Path("first_model.html"), Path("a/b.html")]


@pytest.mark.parametrize(
    ("error", "status"),
    [(ArgumentError("no folder"), 2), (AimzLabError("a cell failed"), 1)],
)
def test_errors_are_told_in_a_line(end_by, capsys, error, status):
    end_by(error)
    assert main(["tour"]) == status
    assert capsys.readouterr().err == f"aimz-lab: {error}\n"


def test_an_interrupt_has_its_own_status(end_by, capsys):
    end_by(KeyboardInterrupt())
    assert main(["tour"]) == 130
    assert "Interrupted" in capsys.readouterr().err


def test_an_error_of_ours_that_is_no_mistake_of_theirs_is_not_hidden(end_by):
    end_by(ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError):
        main(["tour"])


SHORT_TOUR = """
import sys
from pathlib import Path
from aimz_lab.lab.tour import tour
from aimz_lab.lab.tour.cli import main
whole, notebook = tour.tour, Path(sys.argv.pop())
tour.tour = lambda out: whole(out, epochs=60)
tour.notebook_path = lambda: notebook
sys.exit(main())
"""


@pytest.mark.slow
def test_the_whole_tour_in_a_plain_process(tmp_path):
    """With fits of fewer epochs: CI takes the tour at full length, as a reader does."""
    whole = tour_module.notebook_path()
    notebook = tmp_path / whole.name
    text = whole.read_text(encoding="utf-8")
    assert text.count("epochs, batch_size = 6_000, 89") == 1
    notebook.write_text(text.replace("6_000, 89", "60, 89"), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", SHORT_TOUR, "tour", "--out", tmp_path / "page.html", notebook],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "+$1,794      $479 to $3,109" in done.stdout
    assert "mean earnings" in done.stdout
    assert tour_module.live_command(notebook) in done.stdout
    assert "rows/s" in done.stderr or "completed" in done.stderr
    assert "Warning" not in done.stderr
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<img ") == 4
    assert "difference in means is $1,794" in page
