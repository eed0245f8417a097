"""The best state of a run: kept without a callback of the user's, and given back on a click."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from aimz_lab import Callback
from aimz_lab.inference.run.loss_words import loss_per_row, shown_best
from aimz_lab.lab import History, LiveDashboard, compare, loss_figure, summary_text
from aimz_lab.lab.dashboard import static
from aimz_lab.lab.dashboard.views import RecordingDisplay
from tests.kernels import regression_data
from tests.lab.runs import begun, feed
from tests.runs import refit, regression_model, same_bits, told_run

pytestmark = pytest.mark.allow_rank_promotion

X, Y = regression_data(n=100)


@pytest.fixture(scope="module")
def model():
    return regression_model()


def test_the_button_says_that_it_stops_the_run():
    assert 'button("restore_best", "Stop and restore best"' in static.module()


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
@pytest.mark.filterwarnings("ignore:.* rows in validation= look like rows that the model")
@pytest.mark.parametrize("validation", [None, (X, Y)])
def test_the_model_ends_with_the_parameters_of_the_best_step(model, validation):
    screen = RecordingDisplay()
    spoil = Spoil(screen)
    refit(
        model, X, Y, epochs=1000, steps_per_call=40, validation=validation, validation_every=8,
        callbacks=[spoil, LiveDashboard(view=screen)],
    )  # fmt: skip
    run = model.last_run
    assert (run.status, run.reason) == ("stopped", "Stop and restore best was clicked")
    [note] = run.notes
    step = int(note.removesuffix(".").rsplit(" ", 1)[1])
    assert 80 <= step <= 320 < run.step
    if validation:
        assert step == min(spoil.validation)[1]
    else:  # from 65 steps on: 13 epochs of 5; that of step 320 has spoiled ones after it
        assert step in range(80, 320, 40)
        assert run.best_so_far.value == loss_per_row(run, step)
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
    assert "known after 128 steps or more" in screen.answers[0]["why"]


@pytest.mark.parametrize("values", [[np.nan] * 64, []])
def test_what_is_not_finite_or_too_short_is_no_best(values):
    run = told_run()
    run.begin()
    if values:
        run.record(feed(begun(), values))
    assert run.best_so_far is None


def test_without_states_the_best_is_known_and_cannot_be_had():
    """As in a hand-written loop, and of a run that is read from a file."""
    run = begun(n_obs=10, steps_per_epoch=100)
    for loss in (50.0, 20.0, 20.0, 30.0):
        feed(run, [loss] * 100)
    assert (run.best_so_far.value, run.best_so_far.step, run.best_so_far.state) == (2.0, 200, None)


def test_every_view_names_the_same_best(model, tmp_path):
    """One meaning: the state that can be had, in the tile, the table, the summary, the picture."""
    screen, history = RecordingDisplay(), History()
    dashboard = LiveDashboard(view=screen)
    refit(model, X, Y, epochs=80, steps_per_call=40, callbacks=[history, dashboard])
    best = shown_best(model.last_run)
    frame = screen.final["loss"]
    assert screen.final["progress"]["best_state"] == model.last_run.best_so_far.step
    assert (frame["best"], frame["best_step"]) == (best.value, best.step)
    table = compare(history)
    assert table.loc[["best", "best_step"]].iloc[:, 0].tolist() == [best.value, best.step]
    assert f"at step {best.step:,}" in summary_text(model.last_run).split("best ", 1)[1]
    legend = loss_figure(model.last_run).axes[0].get_legend_handles_labels()[1]
    assert f"at step {best.step:,}" in next(label for label in legend if "best" in label)
    history.to_json(tmp_path / "history.json")
    read = History.from_json(tmp_path / "history.json").run.best_so_far
    kept = model.last_run.best_so_far
    assert (read.value, read.step, read.monitor) == (kept.value, kept.step, kept.monitor)
    assert read.state is None
    assert f"{kept.value:.4g} at step {kept.step}" in repr(model.last_run) or not best.is_lower
