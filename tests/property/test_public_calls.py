"""Calls of public functions with wrong arguments end in our words, and change nothing."""

from __future__ import annotations

import hypothesis
import jax
import pytest

from tests.property.call_verdicts import GOOD, judge
from tests.property.call_world import World
from tests.property.public_calls import TARGETS, calls

pytestmark = pytest.mark.allow_rank_promotion

FAST = tuple(
    name for name in TARGETS if not name.startswith(("lab.Model", "lab.Live", "handle", "mcmc.fit"))
)


@pytest.fixture(scope="module")
def world():
    jax.config.update("jax_numpy_rank_promotion", "allow")  # a module's fixture comes first
    with World() as made:
        yield made


@hypothesis.settings(
    max_examples=200, suppress_health_check=list(hypothesis.HealthCheck), derandomize=True
)
@hypothesis.given(call=calls(FAST))
@pytest.mark.slow
def test_a_wrong_call_is_refused_in_our_words_and_changes_nothing(world, call):
    found = judge(world, call)
    assert found.kind in GOOD, found
