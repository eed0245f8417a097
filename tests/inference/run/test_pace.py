"""Steps per second over the last seconds, without the time of compilations."""

from __future__ import annotations

import pytest

from aimz_lab.inference.run.step_history import Pace


def paced(chunks):
    """The pace after chunks of (seconds, steps)."""
    pace, end_s, step = Pace(0.0, 0), 0.0, 0
    for seconds, steps in chunks:
        end_s, step = end_s + seconds, step + steps
        pace.add(end_s, step)
        yield pace.steps_per_s


ORDINARY = [(9.0, 1), *[(0.1, 100)] * 20]


def test_a_chunk_that_compiles_does_not_slow_the_pace_down():
    *_, before, at, after = paced([*ORDINARY, (5.0, 100), (0.1, 100)])
    assert before == pytest.approx(1000)
    assert at == pytest.approx(1000)
    assert after == pytest.approx(1000)


def test_steps_that_have_become_slow_have_their_own_pace():
    *_, last = paced([*ORDINARY, (5.0, 100), (5.0, 100), (5.0, 100)])
    assert last == pytest.approx(20)
    *_, last = paced([*ORDINARY, *[(0.4, 100)] * 10])
    assert last == pytest.approx(250)
