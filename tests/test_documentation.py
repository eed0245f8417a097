"""The documentation is whole and true: docstrings, examples, keywords, links."""

from __future__ import annotations

import doctest
import inspect
import re
from pathlib import Path

import nbformat
import pytest

pytest.importorskip("mlflow", reason="MLflow is not installed: the extra mlflow")

from aimz_lab import (
    ArrayDataset,
    ArrayLoader,
    Callback,
    ImpactModel,
    Run,
    RunHandle,
    RunInfo,
    StepInfo,
    Steps,
    lab,
)
from tests import public_api

ROOT = Path(__file__).resolve().parents[1]
PUBLIC = list(public_api.public())
# Objects that a user is given and does not make, and those whose methods the library calls.
GIVEN = (RunHandle, RunInfo, StepInfo, Steps, lab.PredictionChecks, lab.Watch)
TOLD = (Callback, Run)
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TEXTS = [*sorted(ROOT.glob("*.md")), *NOTEBOOKS]
_LINK = re.compile(r"\]\(([^()\s]+)\)")


def missing(find, items=PUBLIC):
    """What ``find`` reports of each item, where it reports anything."""
    found = {item.label: find(item) for item in items}
    return {label: what for label, what in found.items() if what}


def _unexplained(item):
    # The run that all events are called with is explained once, above them.
    known = ["run"] if item.owner is Callback else []
    unknown = public_api.undocumented(item.function, item.doc) if item.doc else ["everything"]
    return [name for name in unknown if name not in known]


def test_every_argument_is_explained():
    assert missing(_unexplained) == {}


def _result_left_out(item):
    if inspect.isclass(item.function) or not public_api.parameters(item.function):
        return False  # what a function without arguments is, its first line tells
    returns = inspect.signature(item.function).return_annotation
    return returns not in ("None", None) and not {"Returns", "Yields"} & set(item.sections)


def test_what_it_returns_is_explained():
    assert missing(_result_left_out) == {}


def _errors_left_out(item):
    told = item.sections.get("Raises", "")
    return [name for name in public_api.raised(item.function) if f"{name}:" not in told]


def test_what_it_raises_is_explained():
    assert missing(_errors_left_out) == {}


def _without_example(item):
    examples = doctest.DocTestParser().get_examples(item.sections.get("Example", ""))
    return not examples or any(example.options.get(doctest.SKIP) for example in examples)


def test_names_and_the_methods_of_model_and_data_have_examples_that_run():
    shown = (ImpactModel, ArrayDataset, ArrayLoader)
    items = [item for item in PUBLIC if item.function is item.owner or item.owner in shown]
    assert missing(_without_example, items) == {}


def test_every_keyword_is_used_in_a_tutorial_or_a_test():
    uses = public_api.uses(sorted((ROOT / "tests").rglob("*.py")), NOTEBOOKS)
    items = [item for item in PUBLIC if item.function not in GIVEN and item.owner not in TOLD]
    assert missing(lambda item: uses.unused(item.name, item.function), items) == {}


def _markdown(path):
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    cells = nbformat.read(path, as_version=4).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def _anchors(text):
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_links_stay_inside_the_repository_and_lead_somewhere(path):
    for link in _LINK.findall(_markdown(path)):
        if link.startswith(("http://", "https://")):
            continue
        where, _, anchor = link.partition("#")
        target = (path.parent / where).resolve() if where else path
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        assert not anchor or anchor in _anchors(_markdown(target)), link


def test_the_map_names_files_that_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w./]+(?:/|\.py|\.js))`", text)
    assert len(named) > 20
    places = (ROOT, ROOT / "aimz_lab")
    assert [n for n in named if not any((place / n).exists() for place in places)] == []


def test_the_guard_sees_what_is_missing():
    def undone(X, *, size=1, **options):
        """Do nothing.

        Args:
            X: Input.

        Returns:
            Nothing.
        """
        raise ValueError(f"{size} {options}")

    said = public_api.sections(undone.__doc__)
    assert list(said) == ["Args", "Returns"]
    assert public_api.undocumented(undone, undone.__doc__) == [
        "size",
        "**options",
    ]
    assert public_api.raised(undone) == {"ValueError"}
    found = public_api.Uses()
    found.read("undone(1)")
    assert found.unused("undone", undone) == ["size"]
    assert _LINK.findall("[a](b.md#c) ![d](e.png)") == ["b.md#c", "e.png"]
    assert _anchors("## How it's built") == {"how-its-built"}
