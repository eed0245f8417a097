"""The error rates of the plateau test are those that it promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter

from aimz_lab.inference.run.plateau import PlateauTest, fall_at_end, fall_of_mean, rise_to_end
from aimz_lab.inference.run.records import RateChange
from tests.runs import tell, told_run

N_RUNS = 600


def noise(rng, n, rho=0.0):
    """An AR(1) process of unit innovations, begun in its stationary state."""
    return lfilter([1.0], [1.0, -rho], rng.normal(size=(N_RUNS, n + 200)), axis=1)[:, 200:]


def progress_rate(series):
    half = series.shape[1] // 2
    found = 0
    for losses in series:
        found += PlateauTest().add(losses[: 2 * half].reshape(2, half)) == [0, 0]
    return found / len(series)


# A share p of 600 runs has a standard error of at most sqrt(p (1 - p) / 600): 0.009 at 5%.


@pytest.mark.parametrize("window", [64, 256])
def test_noise_alone_is_taken_for_progress_in_about_one_of_twenty_windows(rng, window):
    assert 0.03 < progress_rate(noise(rng, 2 * window)) < 0.09


@pytest.mark.parametrize(("window", "most"), [(64, 0.19), (256, 0.14)])
def test_autocorrelated_noise_is_not_taken_for_much_more(rng, window, most):
    """A test that ignores a correlation of 0.9 finds progress in about a third of the windows."""
    assert progress_rate(noise(rng, 2 * window, rho=0.9)) < most


def test_a_fall_of_four_standard_errors_is_found(rng):
    window = 64
    series = noise(rng, 2 * window)
    series[:, :window] += 4 * np.sqrt(2 / window)
    assert progress_rate(series) > 0.9


def test_a_steady_fall_is_found_though_it_widens_each_window(rng):
    series = noise(rng, 128) - 0.05 * np.arange(128)
    assert progress_rate(series) > 0.99


def test_a_steep_beginning_counts_as_progress(rng):
    series = noise(rng, 128)
    series[:, :64] += 1e4 * np.exp(-np.arange(64) / 5)
    assert progress_rate(series) == 1.0


def test_the_pattern_of_an_epoch_hides_nothing_and_shows_nothing(rng):
    """Rows in a fixed order give each epoch the same pattern, much larger than the noise."""
    pattern = np.tile(50 * rng.normal(size=16), 8)
    flat = pattern + noise(rng, 128)
    assert progress_rate(flat) < 0.09
    falling = flat.copy()
    falling[:, :64] += 5 * np.sqrt(2 / 64)
    assert progress_rate(falling) > 0.95


def test_fall_and_error_of_independent_noise_match_their_formulas(rng):
    before, after = 3.0 + noise(rng, 256), noise(rng, 256)
    falls, errors = np.transpose([fall_of_mean(b, a) for b, a in zip(before, after, strict=True)])
    assert falls.mean() == pytest.approx(3.0, abs=4 * np.sqrt(2 / 256 / N_RUNS))
    assert np.median(errors) == pytest.approx(np.sqrt(2 / 256), rel=0.2)


def test_values_that_are_not_finite_do_not_count():
    before, after = np.full(64, 2.0), np.full(64, 1.0)
    before[3], after[::7] = np.nan, np.inf
    assert fall_of_mean(before, after) == (1.0, 0.0)
    assert PlateauTest().add(np.full((1, 64), np.nan)) == [1]


def ended(losses, n_obs=1, rate_changed_at=None, **info):
    run = told_run(n_obs=n_obs, **info)
    tell([], np.asarray(losses), run, chunk=500)
    if rate_changed_at is not None:
        run.rate_changes.append(RateChange(rate_changed_at, 0.01, 0.001))
    return run


def test_a_loss_that_still_falls_at_the_end_is_found_with_its_size(rng):
    slope = 0.01
    losses = 100 - slope * np.arange(5120) + rng.normal(size=5120)
    fall, steps = fall_at_end(ended(losses, n_obs=10))
    assert steps == 512  # a tenth, in whole windows of 64
    assert fall == pytest.approx(slope * 512 / 10, rel=0.1)


@pytest.mark.parametrize("width", [1, 20])
def test_a_spike_near_the_end_is_no_fall(rng, width):
    """Its height lifts the mean of the last tenth, and its place makes a fall of that."""
    losses = 50 + rng.normal(size=5120)
    losses[-400 : -400 + width] += 1e4
    assert fall_at_end(ended(losses)) is None


@pytest.mark.parametrize("at", [-400, -100])
def test_a_spike_hides_no_fall_and_makes_it_no_larger(rng, at):
    losses = 100 - 0.01 * np.arange(5120) + rng.normal(size=5120)
    losses[at] += 1e4
    fall, steps = fall_at_end(ended(losses))
    assert fall == pytest.approx(0.01 * steps, rel=0.15)


def test_noise_at_the_end_is_seldom_taken_for_a_fall(rng):
    runs = (ended(50 + losses) for losses in noise(rng, 2560, rho=0.5)[:200])
    assert sum(fall_at_end(run) is not None for run in runs) <= 6


def of_rows(rng, epochs, per_epoch, slope=0.0, noise=0.01):
    """A loss whose noise is nearly all of its rows: shuffled, each once in an epoch."""
    rows = [rng.permutation(np.linspace(-1, 1, per_epoch)) for _ in range(epochs)]
    steps = np.arange(epochs * per_epoch)
    return 50 - slope * steps + np.concatenate(rows) + noise * rng.normal(size=len(steps))


@pytest.mark.parametrize("per_epoch", [8, 15, 30, 60, 200])
def test_a_fall_of_whole_epochs_is_seen_beside_the_noise_of_their_rows(rng, per_epoch):
    epochs = -(-1_500 // per_epoch) if per_epoch < 100 else 60
    losses = of_rows(rng, epochs, per_epoch, slope=0.05 / per_epoch)
    fall, steps = fall_at_end(ended(losses, steps_per_epoch=per_epoch))
    assert fall == pytest.approx(0.05 / per_epoch * steps, rel=0.1)


@pytest.mark.parametrize("per_epoch", [15, 30])
@pytest.mark.parametrize("noise", [0.01, 1.0])
def test_a_settled_loss_of_whole_epochs_is_seldom_taken_for_a_fall(rng, per_epoch, noise):
    runs = (of_rows(rng, 1_500 // per_epoch, per_epoch, noise=noise) for _ in range(100))
    found = [fall_at_end(ended(10 * losses, steps_per_epoch=per_epoch)) for losses in runs]
    assert sum(one is not None for one in found) <= 4


@pytest.mark.parametrize(
    "losses",
    [
        np.linspace(5, 4, 100),  # too short to tell
        np.r_[np.linspace(50, 1, 2000), np.ones(2000)],  # has levelled off
        1 - 1e-6 * np.arange(4000),  # falls by less than matters
        np.full(4000, np.nan),
    ],
)
def test_a_fall_that_is_none_is_not_found(losses):
    assert fall_at_end(ended(losses)) is None


@pytest.mark.parametrize("dropped_at", [4_300, 4_700, 4_950])
def test_a_loss_that_drops_with_the_learning_rate_and_stays_is_not_falling(rng, dropped_at):
    losses = np.where(np.arange(5_000) < dropped_at, 60, 50) + rng.normal(size=5_000)
    assert fall_at_end(ended(losses, rate_changed_at=dropped_at)) is None


def test_a_fall_since_the_last_change_of_the_rate_is_found(rng):
    losses = 100 - 0.01 * np.maximum(np.arange(5_000) - 4_500, 0) + rng.normal(size=5_000)
    fall, steps = fall_at_end(ended(losses, rate_changed_at=4_500))
    assert fall == pytest.approx(0.01 * steps, rel=0.2)
    assert steps < 500


def test_a_rise_to_the_end_is_found_with_its_means(rng):
    low = np.r_[np.linspace(50, 2, 256), 2 + 0.1 * rng.normal(size=640)]
    losses = np.r_[low, 3 + 0.1 * rng.normal(size=4_224)]
    rise = rise_to_end(ended(10 * losses, n_obs=10))
    assert (rise.lowest, rise.last) == pytest.approx((2, 3), abs=0.1)
    assert 256 < rise.first < rise.first + rise.window <= 897
    assert rise_to_end(ended(low)) is None


def test_the_means_of_a_rise_are_those_of_the_steps_that_it_names(rng):
    """A spike is no reason for a rise, but is in the mean of its steps."""
    losses = np.where(np.arange(6_400) < 3_200, 2.0, 3.0) + 0.1 * rng.normal(size=6_400)
    losses[[150, 550, 1_000, 1_500, 2_100, 2_500, 2_900, 6_300]] += 20
    run = ended(losses)
    rise = rise_to_end(run)
    begin = rise.first - 1
    assert rise.lowest == pytest.approx(run.losses[begin : begin + rise.window].mean())
    assert rise.last == pytest.approx(run.losses[-rise.window :].mean())
    losses[:3_200:20] += 60  # the means without the spikes rise, and those of all steps fall
    assert rise_to_end(ended(losses)) is None


@pytest.mark.slow
@pytest.mark.parametrize("rho", [0.0, 0.5])
def test_noise_is_seldom_taken_for_a_rise(rng, rho):
    runs = [ended(50 + losses) for losses in noise(rng, 2560, rho=rho)[:80]]
    assert sum(rise_to_end(run) is not None for run in runs) <= 4


def test_the_pattern_of_an_epoch_is_no_rise(rng):
    """Sorted rows: the steps at the end of each epoch have a higher loss."""
    losses = np.tile(np.linspace(1, 2, 1_000), 10) + 0.1 * rng.normal(size=10_000)
    assert rise_to_end(ended(losses, steps_per_epoch=1_000)) is None


def test_slow_progress_adds_up(rng):
    """Falls far below the noise of a window, which no two neighbours show, keep the wait short."""
    windows = rng.normal(size=(60, 64)) - 0.08 * np.arange(60)[:, None]
    assert 1 < max(PlateauTest().add(windows)) < 8


def test_single_values_are_compared_as_they_are():
    readings = np.array([[1.0], [0.95], [0.85], [0.86], [np.nan], [0.7]])
    assert PlateauTest(min_delta=0.1).add(readings) == [0, 1, 0, 1, 2, 0]


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 7, 64, 100]),
    st.floats(0.0, 0.3),
    st.lists(st.integers(0, 12), min_size=1, max_size=12),
)
def test_readings_are_judged_alike_together_and_one_by_one(seed, window, share, cuts):
    """Progress, plateaus and gaps; as chunks of any number of readings."""
    rng = np.random.default_rng(seed)
    readings = rng.normal(size=(40, window)) + rng.choice([0, 3], size=40).cumsum()[::-1, None]
    readings[rng.random(readings.shape) < share] = np.nan
    readings[rng.random(40) < share / 3] = np.inf
    test, waits = PlateauTest(), []
    for part in np.split(readings, np.cumsum(cuts)[np.cumsum(cuts) < 40]):
        waits += test.add(part)
        assert not waits or waits[-1] == test.waited
    one_by_one = PlateauTest()
    assert waits == [one_by_one.add(reading[None])[0] for reading in readings]
    assert 0 in waits or not np.isfinite(readings).any()
