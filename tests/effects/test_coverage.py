"""Intervals of effects hold the truth as often as they say, in worlds whose truth is known.

The same worlds as of ``tests/benchmarks/coverage.py``, which has 100 replications and more worlds.
"""

from __future__ import annotations

import pytest

from tests.benchmarks.coverage import SIMULATED, bounds, coverage

REPLICATIONS = 15
pytestmark = pytest.mark.allow_rank_promotion  # NumPyro's normal of many dimensions broadcasts


@pytest.mark.slow
@pytest.mark.parametrize("world", ["logistic, by clinic", "hierarchical, shops"])
def test_ninety_percent_intervals_hold_the_truth_nine_times_in_ten(world):
    found = coverage(SIMULATED[world], REPLICATIONS)
    low, high = bounds(REPLICATIONS, len(found))
    assert {"average", "treated", "group 0", "group 2"} <= set(found)
    assert low > 0.5
    assert all(low <= share <= high for share in found.values()), found
    assert sum(found.values()) / len(found) == pytest.approx(0.9, abs=0.1)
