"""Rate and remaining time: the chunk that compiles must not count."""

from __future__ import annotations

import numpy as np
import pytest

from aimz_lab.inference.run.events import Run, RunInfo, Steps


def chunk(run, k, seconds):
    run.record(
        Steps(
            first=run.step + 1,
            epoch=np.ones(k, int),
            loss=np.zeros(k),
            rows=np.full(k, 10),
            n_pad=np.zeros(k, int),
            seconds=seconds,
        )
    )


def run_of(total):
    run = Run(RunInfo("kernel", "SVI", epochs=1, steps_per_epoch=total))
    run.begin()
    return run


def test_before_the_first_chunk_there_is_no_rate():
    run = run_of(100)
    assert (run.steps_per_s, run.rows_per_s, run.eta_s) == (0.0, 0.0, None)


def test_the_first_chunk_alone_gives_a_rate_and_no_remaining_time():
    run = run_of(100)
    chunk(run, 16, 8.0)
    assert run.steps_per_s == pytest.approx(2.0)
    assert run.eta_s is None


def test_a_run_of_one_chunk_has_no_time_left():
    run = run_of(16)
    chunk(run, 16, 8.0)
    assert run.eta_s == 0.0


def test_an_epoch_beyond_its_plan_has_no_known_end():
    run = run_of(100)
    chunk(run, 100, 1.0)
    assert (run.planned_steps, run.eta_s) == (100, 0.0)
    chunk(run, 1, 0.1)
    assert (run.planned_steps, run.eta_s) == (None, None)


def test_compiling_does_not_count_from_the_second_chunk_on():
    run = run_of(116)
    chunk(run, 16, 8.0)
    chunk(run, 50, 0.5)
    assert run.steps_per_s == pytest.approx(100.0)
    assert run.rows_per_s == pytest.approx(1000.0)
    assert run.eta_s == pytest.approx(0.5)


def test_the_rate_is_that_of_the_last_three_seconds():
    run = run_of(10_000)
    for _ in range(20):
        chunk(run, 100, 1.0)
    for _ in range(20):
        chunk(run, 10, 1.0)
    assert run.steps_per_s == pytest.approx(10.0)
