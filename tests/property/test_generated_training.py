"""The loss of random kernels on batches is that of all rows at the same point, or refused.

A failure prints the recipe. ``python -m tests.property.explore --ask fit`` asks thousands, by hand.
"""

from __future__ import annotations

import hypothesis
import pytest

from tests.property import comparison
from tests.property.comparison import GOOD, outcome
from tests.property.recipes import Recipe, recipes

PHASES = [hypothesis.Phase.explicit, hypothesis.Phase.generate]  # explore.py makes simpler


def check(recipe):
    found = outcome(recipe)
    assert found.kind in GOOD, (found, recipe)


@pytest.mark.slow
@hypothesis.settings(max_examples=7, phases=PHASES)
@hypothesis.given(recipes("fit"))
def test_some_losses(recipe):
    check(recipe)


@pytest.mark.slow
def test_another_number_is_reported(monkeypatch):
    recipe = Recipe(asked="fit")
    wanted = comparison.reference(recipe)
    assert outcome(recipe).kind == "right"
    monkeypatch.setattr(comparison, "reference", lambda _: {"loss": wanted["loss"] * 1.001})
    assert outcome(recipe).kind == "wrong"
