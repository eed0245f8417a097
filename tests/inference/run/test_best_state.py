"""Windows of losses, and the best state of a run."""

from __future__ import annotations

import numpy as np
import pytest

from aimz_lab.inference.run.best_state import offer_best
from aimz_lab.inference.run.loss_words import best_words
from aimz_lab.inference.run.monitor_windows import MonitorWindows
from aimz_lab.inference.run.records import BY_HAND, TRAINING
from aimz_lab.inference.run.smoothing import window_steps
from tests.runs import tell, told_run


def test_windows_do_not_depend_on_the_chunks():
    losses = np.arange(1000.0)
    seen = []
    for chunk in (1, 7, 64, 1000):
        run, readings = told_run(n_obs=4), MonitorWindows("loss", 30)
        readings.begin(run)
        read = []
        for start in range(0, 1000, chunk):
            tell([], losses[start : start + chunk], run, chunk=chunk)
            read.extend(readings.new(run))
        seen.append(np.array(read))
    assert seen[0].shape == (33, 30)
    np.testing.assert_array_equal(seen[0].ravel(), losses[:990] / 4)
    for other in seen[1:]:
        np.testing.assert_array_equal(seen[0], other)


@pytest.mark.parametrize("steps_per_epoch", [1, 3, 63, 64, 65, 256])
def test_windows_are_whole_epochs(steps_per_epoch):
    window = window_steps(steps_per_epoch)
    assert window % steps_per_epoch == 0
    assert 64 <= window < 64 + steps_per_epoch


@pytest.mark.parametrize("monitor", ["loss", "validation"])
def test_the_best_state_is_the_one_of_the_lowest_value(monitor):
    """By the training loss, of the states that the next steps judge: here 64 of them."""
    run, readings = told_run(), MonitorWindows(monitor)
    readings.begin(run)
    for value in (3.0, 1.0, np.nan, 1.0, 1.0, 2.0):
        tell([], [value] * 64, run, chunk=64)
        run.validation.append((run.step, value))
        offer_best(run, readings, is_due=len(readings.new(run)) > 0)
    best = run.best[readings.name]
    step = 64 * (2 if monitor == "validation" else 4)
    assert (best.value, best.step, best.state.after) == (1.0, step, step)


@pytest.mark.parametrize("steps_per_epoch", [1, 9, 300])
def test_a_mean_over_few_steps_is_not_the_best_by_its_noise(rng, steps_per_epoch):
    """Of converged runs, whose first means are over 8 steps and more."""
    early, below = 0, []
    for _ in range(20):
        losses = 3.0 + 0.1 * rng.normal(size=3600)
        run = tell([], losses, told_run(steps_per_epoch=steps_per_epoch), chunk=9)
        best = run.best_so_far
        early += best.step < 400
        below.append(3.0 - best.value)
    assert early <= 1
    assert np.mean(below) < 0.1 / 64**0.5 * 2.5  # the least of some fifty means over 64 steps


def test_where_noise_leaves_it_open_the_last_state_is_the_best(rng):
    """Spikes in the last steps make their mean uncertain, and it is still below the best one's."""
    losses = 3.0 + 0.1 * rng.normal(size=3_000)
    losses[-60:-1] -= 0.2
    losses[-9] += 3.0
    run = tell([], losses, told_run(steps_per_epoch=1), chunk=9)
    before = run.best_so_far
    run.judge_last(losses[-8:])
    assert before.step < run.step
    last = run.end_best[TRAINING]
    assert (last.step, last.value < before.value) == (3_000, True)
    run.end_best.clear()
    run.judge_last(losses[-8:] + 1.0)  # what follows does not confirm it
    assert not run.end_best


def test_a_short_run_that_rose_at_its_end_has_no_best_state(rng):
    """One report at the end: no state was kept of the time before, and the last one is worse."""
    losses = np.r_[3.0 + 0.1 * rng.normal(size=740), 3.6 + 0.9 * rng.normal(size=60)]
    run = tell([], losses, told_run(steps_per_epoch=1), chunk=800)
    run.judge_last(losses[-8:])
    assert run.best_so_far is None
    assert not run.end_best
    assert best_words(run).startswith(
        "none, as the loss was lower before, and no state of then was"
    )


def test_a_best_state_above_an_earlier_loss_says_so(rng):
    losses = np.r_[2.0 + 0.1 * rng.normal(size=740), 3.0 + 0.1 * rng.normal(size=1_000)]
    seldom, often = (tell([], losses, told_run(steps_per_epoch=1), chunk=n) for n in (870, 9))
    before = "; the loss was lower before, and no state of then was kept (steps_per_call=16"
    assert seldom.best_so_far.step == 870
    assert before in best_words(seldom)
    assert often.best_so_far.step < 740
    assert "before" not in best_words(often)


def test_a_hand_written_loop_whose_loss_was_lower_before_tells_of_no_states(rng):
    by_hand = {"steps_per_epoch": 1, "method": f"SVI/AutoNormal, {BY_HAND}"}
    losses = np.r_[2.0 + 0.1 * rng.normal(size=740), 3.0 + 0.1 * rng.normal(size=1_000)]
    run = tell([], losses, told_run(**by_hand), chunk=870)
    assert best_words(run).endswith(" at step 870; the loss was lower before")
    losses = np.r_[3.0 + 0.1 * rng.normal(size=740), 3.6 + 0.9 * rng.normal(size=60)]
    run = tell([], losses, told_run(**by_hand), chunk=800)
    assert best_words(run) == "none, as the loss was lower before"


def test_a_best_value_above_that_of_before_says_so(rng):
    """The mean over more steps has less noise, so that it may be the best with a higher value."""
    losses = 3.0 + 0.1 * rng.normal(size=40_000)
    losses[1_000:1_064] -= 0.03
    run, shown = told_run(steps_per_epoch=1), []
    for start in range(0, len(losses), 160):
        tell([], losses[start : start + 160], run, chunk=16)
        shown.append(run.best_so_far)
    best, lower = run.best_so_far, min(filter(None, shown), key=lambda one: one.value)
    assert lower.value < best.value
    assert (best.lower.value, best.lower.step, best.lower.state) == (lower.value, lower.step, None)
    said = f" at step {lower.step:,} was a mean over fewer steps: noise leaves open which is lower"
    assert said in best_words(run)


def test_a_run_whose_last_state_is_not_confirmed_says_that_it_has_no_best(rng):
    losses = 3.0 + 0.1 * rng.normal(size=800)
    run = tell([], losses, told_run(steps_per_epoch=1), chunk=800)
    run.judge_last(losses[-8:] + 1.0)
    assert best_words(run) == "none that later steps confirm"
    short = tell([], losses[:40], told_run(steps_per_epoch=1), chunk=40)
    assert best_words(short) == ""
