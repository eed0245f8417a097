"""The throttle, on a clock of its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimz_lab.lab.throttle import Throttle


def test_the_first_time_is_always_allowed():
    assert Throttle(10.0, 0.01).ready(0.0)


def test_cheap_work_comes_at_the_interval():
    throttle = Throttle(0.1, 0.02)
    throttle.spent(5.0, 0.0001)
    assert not throttle.ready(5.09)
    assert throttle.ready(5.11)


def test_dear_work_waits_for_its_share():
    throttle = Throttle(0.1, 0.02)
    throttle.spent(-1.0, 0.05)
    throttle.spent(0.0, 0.05)
    assert not throttle.ready(2.4)
    assert throttle.ready(2.51)


def test_the_first_time_may_cost_what_it_does():
    throttle = Throttle(0.1, 0.02)
    throttle.spent(0.0, 3.0)
    assert throttle.ready(0.11)
    assert throttle.spent_s == 3.0


def test_one_slow_time_does_not_silence_for_long():
    throttle = Throttle(0.1, 0.01)
    for i in range(20):
        throttle.spent(i, 0.0005)
    throttle.spent(20.0, 0.1)  # it imports, once
    assert throttle.ready(20.11)
    throttle.spent(21.0, 0.1)
    assert not throttle.ready(22.0)
    assert throttle.ready(25.0)


@pytest.mark.slow
@given(st.lists(st.floats(1e-5, 0.2), min_size=200, max_size=200), st.floats(0.005, 0.1))
def test_over_a_long_run_the_share_is_kept(costs, share):
    throttle = Throttle(0.05, share)
    throttle.spent(0.0, 0.0)
    now = 0.0
    for cost in costs:
        while not throttle.ready(now):
            now += 0.01
        now += cost
        throttle.spent(now, cost)
    assert throttle.spent_s == pytest.approx(sum(costs))
    # The last time has not waited yet, one may be free; the average lags behind by a few times.
    assert sum(costs) / (now + 2 * max(costs) / share) <= share * 1.25
