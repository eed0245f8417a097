"""Predictions and log-likelihoods of random kernels are NumPyro's own, or refused.

A failure prints the recipe. ``python -m tests.property.explore`` asks thousands, by hand, and finds
the simplest recipe that fails.
"""

from __future__ import annotations

import hypothesis
import pytest

from tests.property.comparison import GOOD, outcome
from tests.property.recipes import recipes

PHASES = [hypothesis.Phase.explicit, hypothesis.Phase.generate]  # explore.py makes simpler


def check(recipe):
    found = outcome(recipe)
    assert found.kind in GOOD, (found, recipe)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "examples"),
    [("predict", 6), ("log_likelihood", 8), ("do", 6), ("condition", 8)],
)
def test_some(asked, examples):
    @hypothesis.settings(max_examples=examples, phases=PHASES)
    @hypothesis.given(recipes(asked))
    def ask(recipe):
        check(recipe)

    ask()
