"""The vertical axis that a curve's data choose: what it shows, and what it says."""

from __future__ import annotations

import numpy as np
import pytest

from aimz_lab.lab.pictures.curves import curve_of
from aimz_lab.lab.pictures.figures import loss_figure
from aimz_lab.lab.pictures.vertical_view import common_view, vertical_view
from aimz_lab.number_text import number
from tests.lab.runs import begun, feed

N = 4000
STEPS = np.arange(N)
NOISE = 0.1 * np.random.default_rng(0).normal(size=N)
FALL = 4e5 * np.exp(-STEPS / 40)


def curve(losses, *, others=(), validation=(), smooth=True):
    def ended(values):
        run = begun(n_obs=1)
        feed(run, values)
        run.finish("completed", "")
        return run

    run = ended(losses)
    run.validation = list(validation)
    return curve_of(run, [ended(other) for other in others], per_row=True, smooth=smooth)


LOSSES = {
    "ordinary": 2 * np.exp(-STEPS / 1000) + 1.1 + NOISE,
    "far": FALL + 1.1 + NOISE,
    "far and negative": FALL - 3.1 + NOISE,
    "falling": 4e5 * np.exp(-STEPS / 300) + 1.1 + 0.1 * NOISE,
    "exact": FALL + 1.1,
    "short start": 1.1 + NOISE + 1.2 * (STEPS < 60),
    "spike": 1.1 + NOISE + 1e6 * (STEPS == 3000),
    "blown up": 1.1 + NOISE + 1e6 * np.exp((STEPS - N) / 2),
    "level": np.full(N, 2.0),
    "nan": np.full(N, np.nan),
    "nan at first": np.where(STEPS < 500, np.nan, FALL + 1.1 + NOISE),
    "few": np.array([4e5, 3.0, 2.0]),
    "one": np.array([4e5]),
}


@pytest.mark.parametrize("name", ["far", "far and negative", "spike", "blown up", "short start"])
def test_what_lies_far_above_is_cut_off_and_said(name):
    values = LOSSES[name]
    view = vertical_view(curve(values))
    usual = np.sort(values)[: int(0.8 * N)]
    assert view.kind == "linear"
    assert view.low < np.quantile(usual, 0.01)
    assert usual.max() < view.high < usual.min() + 4 * np.ptp(usual)  # it has a good part of it
    assert view.above == pytest.approx(values.max(), rel=1e-5)
    assert view.words("loss").endswith(" above the picture")


@pytest.mark.parametrize(("name", "base"), [("falling", 1.75), ("exact", 1.1)])
def test_a_fall_by_orders_of_magnitude_to_the_end_has_a_logarithmic_axis(name, base):
    view = vertical_view(curve(LOSSES[name]))
    assert (view.kind, view.above) == ("log", None)
    assert view.base == pytest.approx(base, rel=0.01)
    assert 0 < view.low < view.high
    assert view.words("loss").startswith(f"loss, log scale above the lowest, {base:.1f}"[:-2])


@pytest.mark.parametrize("name", ["ordinary", "level", "few", "one"])
def test_other_curves_are_shown_whole(name):
    values = LOSSES[name]
    view = vertical_view(curve(values, smooth=False))
    assert (view.kind, view.above, view.words("loss")) == ("linear", None, "loss")
    assert view.low <= np.quantile(values, 0.01) <= np.quantile(values, 0.99) <= view.high


def test_a_logarithmic_axis_too_says_what_lies_above_it_or_shows_the_whole():
    values = LOSSES["spike"]
    shown = curve(values)  # the smoothed line is far below the highest step
    cut = vertical_view(shown, log=True)
    assert cut.above == pytest.approx(values.max() - cut.base, rel=1e-5)
    assert cut.high < cut.above
    assert cut.words("loss").endswith(f", up to {number(cut.above)} above the picture")
    whole = vertical_view(shown, log=True, whole=True)
    assert whole.kind == "log"
    assert whole.above is None
    assert whole.low < cut.above < whole.high


def test_the_whole_range_can_be_asked_for():
    view = vertical_view(curve(LOSSES["far"]), whole=True)
    assert (view.kind, view.above) == ("linear", None)
    assert view.high > 1e5


def test_held_out_losses_and_other_runs_are_shown_unless_they_are_far_off():
    held = [(step, 1.5) for step in range(400, N, 400)]
    beside = vertical_view(curve(LOSSES["far"], others=[LOSSES["far"] + 0.8], validation=held))
    alone = vertical_view(curve(LOSSES["far"], validation=held))
    assert alone.high > 1.5
    assert beside.high > 1.9 > alone.high - 0.5
    far = vertical_view(curve(LOSSES["far"], others=[LOSSES["far"] + 500], validation=held))
    assert far == alone


def test_the_picture_has_this_axis_and_says_what_it_shows():
    run = begun(n_obs=10)
    feed(run, 10 * LOSSES["far"], rate=0.01, grad_norm=LOSSES["far"])
    run.finish("completed", "")
    axes = loss_figure(run).axes[0]
    assert axes.get_ylabel() == "loss per row (nats)\nup to 400,001 above the picture"
    assert axes.get_ylim()[1] < 3
    whole = loss_figure(run, whole=True, smooth=False).axes[0]
    assert whole.get_ylim()[1] > 1e5
    norms = loss_figure(run, curve="grad_norm", log=True).axes[0]
    assert norms.get_ylabel() == "grad norm\nlog scale"
    half = loss_figure(run, last_half=True).axes[0]
    assert half.get_xlim()[0] > 1900
    assert half.get_xlabel() == "step, second half of the run"


def test_the_ends_follow_the_height_of_the_start_without_a_jump():
    tops = []
    for start in np.geomspace(1.5, 20, 80):
        losses = 1.1 + NOISE
        losses[0] = start
        tops.append(vertical_view(curve(losses)).high)
    steps = np.abs(np.diff(tops)) / np.ptp(NOISE)
    assert steps.max() < 0.3
    assert tops[-1] < 1.1 + 3 * np.ptp(NOISE)


def test_the_view_of_a_long_run_does_not_turn_over_as_it_goes_on():
    n = 600_000
    t = np.arange(n)
    losses = 1.2 + 45 * np.exp(-t / 40) + 0.4 * np.random.default_rng(1).normal(size=n)
    seen = []
    for until in np.geomspace(20_000, n, 25).astype(int):
        view = vertical_view(curve(losses[:until]))
        assert view.above == pytest.approx(losses.max(), rel=1e-5)  # the start is always told
        seen.append((view.kind, view.high))
    assert {kind for kind, _ in seen} == {"linear"}
    highs = [high for _, high in seen]
    assert max(highs) < 1.5 * min(highs)


def test_the_end_of_a_run_has_its_part_of_the_picture_however_long_it_is():
    """The more steps share a bucket, the farther apart its extremes, and the fall is a line."""
    n = 300_000
    noise = 0.09 * np.random.default_rng(1).normal(size=n)
    losses = 7.75 + 2.7 * np.exp(-((np.arange(n) / 300) ** 2)) + noise
    for until in np.geomspace(20_000, n, 9).astype(int):
        view = vertical_view(curve(losses[:until]))
        assert view.kind == "linear"
        assert view.high < 7.75 + 1.6  # the shade of each step goes up to 8.15
        assert view.above == pytest.approx(losses.max())


def test_an_axis_that_the_data_chose_stays_until_they_are_clearly_otherwise():
    # The second half is four times as high as the last quarter: between the two thresholds.
    losses = 1 + np.interp(STEPS, [0, 2000, 3000, N], [1000, 4.0, 1.0, 0.0])
    assert vertical_view(curve(losses, smooth=False)).kind == "linear"
    assert vertical_view(curve(losses, smooth=False), was_log=True).kind == "log"


def test_a_sound_run_beside_one_that_diverged_is_shown_whole():
    sound = curve(np.where(STEPS < N / 4, 1.3, 1.1) + 0.1 * NOISE)
    diverged = curve(1.1 + NOISE + 1e6 * np.exp(STEPS - N))
    view = common_view([diverged, sound])
    assert view.kind == "linear"
    assert view.low < sound.line.min() < sound.line.max() < view.high < 2
    assert view.above == pytest.approx(diverged.line.max())
    assert common_view([sound, diverged]) == view


def test_the_words_of_the_axis_are_not_cut_off(rng):
    run = begun(n_obs=1)
    feed(run, rng.exponential(size=N) - 0.1282, rate=0.01)
    run.validation = [(step, 0.1) for step in range(100, N, 100)]
    run.finish("completed", "")
    figure = loss_figure(run, log=True)
    figure.canvas.draw()
    words = figure.axes[0].yaxis.label
    assert words.get_text().count("\n") == 2
    box = words.get_window_extent()
    assert 0 <= box.x0 < box.x1
    assert 0 <= box.y0 < box.y1 <= figure.bbox.y1
    for edge in ("left", "right", "top", "bottom"):
        assert not words.get_window_extent().overlaps(
            figure.axes[0].spines[edge].get_window_extent()
        )
