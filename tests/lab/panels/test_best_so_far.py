"""The best state of a run: kept without a callback of the user's, and given back on a click."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from aimz_lab import Callback
from aimz_lab.lab import LiveDashboard
from aimz_lab.lab.dashboard.views import RecordingDisplay
from aimz_lab.lab.panels.best_so_far import BestSoFar
from tests.kernels import regression_data
from tests.lab.runs import begun, feed
from tests.runs import refit, regression_model, same_bits, told_run

pytestmark = pytest.mark.allow_rank_promotion

X, Y = regression_data(n=100)


@pytest.fixture(scope="module")
def model():
    return regression_model()


class Spoil(Callback):
    """Notes the parameters of each chunk, spoils them by a huge rate, and then clicks."""

    kind = "user"

    def __init__(self, screen):
        self.screen, self.params, self.validation = screen, {}, []

    def on_steps_end(self, run, steps):
        self.params[run.step] = {name: np.array(value) for name, value in run.params.items()}
        if run.step == 320:
            run.control.set_learning_rate(3.0)
        if run.step == 480:
            self.screen.click("restore_best")

    def on_validation_end(self, run, loss_per_row):
        self.validation.append((loss_per_row, run.step))


@pytest.mark.slow
@pytest.mark.parametrize("validation", [None, (X, Y)])
def test_the_model_ends_with_the_parameters_of_the_best_step(model, validation):
    screen = RecordingDisplay()
    spoil = Spoil(screen)
    refit(
        model, X, Y, epochs=1000, steps_per_call=40, validation=validation, validation_every=8,
        callbacks=[spoil, LiveDashboard(view=screen)],
    )  # fmt: skip
    run = model.last_run
    assert (run.status, run.reason) == ("stopped", "Restore best was clicked")
    [note] = run.notes
    step = int(note.removesuffix(".").rsplit(" ", 1)[1])
    assert 80 <= step <= 320 < run.step
    if validation:
        assert step == min(spoil.validation)[1]
    else:  # windows of 65 steps: 13 epochs of 5
        windows = run.losses[: run.step // 65 * 65].reshape(-1, 65).mean(1)
        end = 65 * (int(np.argmin(windows)) + 1)
        assert step == -(-end // 40) * 40
    assert same_bits(model.vi_result.params, spoil.params[step])
    assert not np.allclose(*(p["beta_auto_loc"] for p in (spoil.params[step], spoil.params[480])))
    assert len(model.vi_result.losses) == run.step  # the history stays whole
    draws = model.posterior["beta"].mean(0)
    near = model.vi_result.params["beta_auto_loc"]
    assert jax.numpy.abs(draws - near).max() < 0.3
    assert screen.frames[0]["progress"]["best_state"] is None
    assert screen.final["progress"]["best_state"] == step


def test_before_there_is_one_a_click_is_refused_and_the_run_goes_on():
    screen, run = RecordingDisplay(), told_run()
    LiveDashboard(view=screen).on_fit_begin(run)
    screen.click("restore_best")
    assert run.control.stop_request is None
    assert screen.answers[0]["kind"] == "refused"
    assert "no best state yet" in screen.answers[0]["why"]


def test_no_state_is_kept_where_nobody_can_ask_for_it():
    run, best = told_run(), BestSoFar()
    for keep in (False, True):
        best.begin(run, keep=keep)
        run.record(feed(begun(), np.ones(200)))
        best.look(run)
        assert (best.of(run) is not None) == keep


@pytest.mark.parametrize("values", [[np.nan] * 64, []])
def test_what_is_not_finite_or_too_short_is_no_best(values):
    run, best = told_run(), BestSoFar()
    best.begin(run, keep=True)
    if values:
        run.record(feed(begun(), values))
    best.look(run)
    assert best.of(run) is None
