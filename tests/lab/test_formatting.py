"""Numbers and states in words."""

from __future__ import annotations

import threading

import pytest

from aimz_lab.inference.run.run import Run
from aimz_lab.lab import formatting
from aimz_lab.types import RunStatus
from tests.lab.runs import begun, feed


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0"),
        (1.41823, "1.418"),
        (-0.000012345, "-1.234e-05"),
        (12_345.6, "12,346"),
        (999.96, "1000"),
        (3.2e12, "3.2e+12"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (None, "-"),
    ],
)
def test_numbers(value, expected):
    assert formatting.number(value) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1:00"),
        (3599.7, "1:00:00"),
        (90_061, "25:01:01"),
    ],
)
def test_durations(seconds, expected):
    assert formatting.duration(seconds) == expected


@pytest.mark.parametrize(
    ("n_bytes", "expected"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (2**20 - 1, "1.0 MiB"),
        (3 * 2**30, "3.0 GiB"),
        (2**50, "1024.0 TiB"),
    ],
)
def test_sizes(n_bytes, expected):
    assert formatting.size(n_bytes) == expected


def test_every_status_has_a_word():
    assert set(formatting.STATUS_WORDS) == set(RunStatus.__args__)


def test_the_line_of_a_running_run_tells_position_rate_and_remaining_time():
    run = begun(n_obs=100, epochs=2, steps_per_epoch=100)
    feed(run, [1.0] * 50, seconds=1.0)
    feed(run, [1.0] * 50, seconds=0.5)
    assert formatting.status_line(run, 1.25) == (
        "kernel: running · epoch 1 of 2 · step 100 of 200 · loss 1.25 per row · 1,000 rows/s · "
        "1.0 s left"
    )


def test_the_line_of_a_paused_run_tells_no_speed_and_no_remaining_time():
    run = begun(n_obs=100, epochs=2, steps_per_epoch=100)
    feed(run, [1.0] * 100, seconds=1.5)
    run.begin_pause()
    line = "kernel: paused · epoch 1 of 2 · step 100 of 200 · after 1.5 s"
    assert formatting.status_line(run) == line


def test_the_line_is_of_one_moment_while_the_thread_of_the_run_records_steps(monkeypatch):
    run, lines = begun(epochs=9, steps_per_epoch=10), []
    reader = threading.Thread(target=lambda: lines.append(formatting.status_line(run)))
    extend = run._history.extend

    def read_in_between(steps):
        extend(steps)
        if run.step == 20:
            reader.start()
            reader.join(0.2)  # long enough for a reader that does not wait

    monkeypatch.setattr(run._history, "extend", read_in_between)
    monkeypatch.setattr(Run, "position", property(lambda run: divmod(run.step, 10)))
    feed(run, [1.0] * 10, epoch=1)
    feed(run, [1.0] * 10, epoch=2)
    reader.join()
    assert "epoch 2 of 9 · step 20 of 90" in lines[0]


def test_the_line_of_a_loop_whose_items_have_no_rows_tells_steps():
    run = begun()
    feed(run, [1.0] * 50, rows=0, seconds=1.0)
    feed(run, [1.0] * 50, rows=0, seconds=0.5)
    assert " · 100 steps/s" in formatting.status_line(run)


def test_a_narrow_line_leaves_out_the_step_and_then_the_name():
    run = begun(n_obs=100, epochs=2, steps_per_epoch=100)
    feed(run, [1.0] * 50, seconds=1.0)
    feed(run, [1.0] * 50, seconds=0.5)
    whole = formatting.status_line(run, 1.25)
    name, epoch, step, *others = whole.split(" · ")
    without_step = " · ".join([name, epoch, *others])
    assert step.startswith("step ")
    assert formatting.status_line(run, 1.25, len(whole)) == whole
    assert formatting.status_line(run, 1.25, len(whole) - 1) == without_step
    assert formatting.status_line(run, 1.25, len(without_step) - 1) == " · ".join([epoch, *others])


def test_the_line_of_a_run_without_a_plan_promises_nothing():
    run = begun()
    feed(run, [1.0])
    assert "of" not in formatting.status_line(run)
    assert " left" not in formatting.status_line(run)
    assert "per row" not in formatting.status_line(run, 2.0)


def test_an_epoch_beyond_its_plan_promises_nothing():
    run = begun(n_obs=100, epochs=1, steps_per_epoch=15)
    feed(run, [1.0] * 10, seconds=1.0)
    feed(run, [1.0] * 10, seconds=1.0)
    assert formatting.status_line(run).endswith(" · step 20 · 100 rows/s")


def test_the_line_of_a_run_that_is_over_tells_how_long_it_took():
    run = begun()
    feed(run, [1.0])
    run.finish("early_stopped", "no progress")
    assert formatting.status_line(run).startswith("kernel: stopped early · epoch 1 · step 1 · in ")
