"""Callbacks that end a run, on losses whose course is known."""

from __future__ import annotations

import numpy as np
import pytest

from aimz_lab import Callback
from aimz_lab.errors import AimzLabError, ArgumentError
from aimz_lab.inference.run.loss_words import loss_of_model, shown_best
from aimz_lab.inference.run.run_words import run_facts
from aimz_lab.lab import compare, summary_text
from aimz_lab.lab.callbacks import EarlyStopping, ModelCheckpoint, TerminateOnNaN
from aimz_lab.lab.monitor import monitor
from aimz_lab.lab.panels.loss import LossPanel
from aimz_lab.number_text import number
from tests.runs import tell, told_run


def flattening(rng, n=6400, flat_from=1280):
    """Losses that fall by 10 to a plateau, with noise of sd 1."""
    return 10 * np.clip(1 - np.arange(n) / flat_from, 0, None) + rng.normal(size=n)


@pytest.mark.parametrize("chunk", [1, 7, 64, 500])
def test_a_run_ends_once_its_loss_is_flat(rng, chunk):
    run = tell([EarlyStopping(patience=5)], flattening(rng), chunk=chunk)
    assert run.status == "early_stopped"
    assert "no progress of the loss in the last 320 steps" in run.reason
    # The plateau begins at 1,280; five readings of 64 steps, and room for chance progress.
    assert 1280 <= run.step <= 1280 + 64 * 25


def test_the_decision_does_not_depend_on_the_chunks(rng):
    losses = flattening(rng)
    ends = [tell([EarlyStopping()], losses, chunk=chunk).step for chunk in (1, 16, 64)]
    assert ends[0] == ends[1] == ends[2]


def test_a_run_that_still_falls_goes_on(rng):
    falling = -0.05 * np.arange(6400) + rng.normal(size=6400)
    assert tell([EarlyStopping(patience=2)], falling).status == "completed"


def test_progress_below_min_delta_is_none(rng):
    falling = -0.001 * np.arange(6400) + 1e-3 * rng.normal(size=6400)
    assert tell([EarlyStopping(patience=2)], falling).status == "completed"
    stopping = EarlyStopping(patience=2, min_delta=0.3)
    assert tell([stopping], falling).status == "early_stopped"


@pytest.mark.parametrize("window", [16, 64])
def test_a_window_is_as_long_as_one_says(window):
    run = tell([EarlyStopping(patience=2, window=window)], np.ones(640), chunk=1)
    assert run.step == 3 * window


def test_min_delta_is_in_nats_per_row():
    losses = 100 - 0.05 * np.arange(640)  # falls by 3.2 from window to window
    stopping = EarlyStopping(patience=2, min_delta=1.0)
    assert tell([stopping], losses, told_run(n_obs=1)).status == "completed"
    assert tell([stopping], losses, told_run(n_obs=10)).status == "early_stopped"


def test_the_held_out_loss_is_judged_value_by_value():
    values = [5.0, 4.0, 3.0, 3.5, 3.2, 3.1, 2.0, 1.0]
    run = tell(
        [EarlyStopping("validation", patience=3)],
        np.zeros(8),
        told_run(validation_every=1),
        chunk=1,
        validation=values,
    )
    assert (run.status, run.step) == ("early_stopped", 6)


def test_the_best_held_out_state_comes_back_however_the_run_ends():
    values = [5.0, 4.0, 3.0, 3.5, 3.2]
    stopping = EarlyStopping("validation", patience=50, restore_best=True)
    run = tell([stopping], np.zeros(5), told_run(validation_every=1), chunk=1, validation=values)
    assert run.status == "completed"
    assert run.final_state.after == 3
    assert run.state.after == 5
    assert run.best["validation"].value == 3.0
    assert run.notes == ["The model has the best state, that of step 3."]


def test_a_run_with_no_best_state_to_restore_says_so(rng):
    """One report at the end: no state was kept of the time when the loss was lower."""
    losses = np.r_[3.0 + 0.1 * rng.normal(size=740), 6.0 + 0.1 * rng.normal(size=60)]
    run = tell([EarlyStopping(patience=50, restore_best=True)], losses, chunk=800)
    assert run.has_last_state
    assert run.notes == ["No best state was kept; the model has the last one."]
    words = "best: none, as the loss was lower before, and no state of then was kept"
    assert words in repr(compare({"risen": run}))
    assert "none, as the loss was lower before" in summary_text(run)
    frame = LossPanel()
    frame.begin(run)
    assert frame.frame(run)["not_kept"].startswith("none, as the loss was lower before")


def test_the_best_state_by_loss_is_that_of_the_lowest_window():
    losses = np.repeat([5.0, 3.0, 1.0, 1.0, 4.0, 2.0], 64)
    stopping = EarlyStopping(patience=50, restore_best=True)
    assert tell([stopping], losses, chunk=64).final_state.after == 192


@pytest.mark.parametrize("chunk", [1, 16, 64])
def test_a_state_whose_own_loss_is_high_is_not_the_best(rng, chunk):
    """The losses up to a step are those of the states before it."""
    losses = 3 - 0.003 * np.arange(640) + 0.1 * rng.normal(size=640)
    losses[320:] = 1e4
    run = tell([EarlyStopping(patience=50, restore_best=True)], losses, chunk=chunk)
    assert run.final_state.after == 256
    assert 192 <= run.own_best.step < 320
    assert run.own_best.step == run.own_best.state.after


@pytest.mark.parametrize(("own", "step"), [(1.0, 640), (9.0, 576)])
def test_the_last_state_is_judged_by_its_own_loss(rng, own, step):
    class AtEnd(Callback):
        def on_steps_end(self, run, steps):
            if run.step == 640:  # as a trainer does
                run.judge_last(np.array([own]))

    losses = 3 - 0.003 * np.arange(640) + 0.1 * rng.normal(size=640)
    stopping = EarlyStopping(patience=50, restore_best=True)
    run = tell([stopping, AtEnd()], losses, chunk=64)
    assert run.final_state.after == run.best_so_far.step == shown_best(run).step == step
    where = "the last one" if step == 640 else f"that of step {step}"
    assert run.notes == [f"The model has the best state, {where}."]
    assert run.best["loss over 64 steps"].step == 576  # what a checkpoint keeps


@pytest.mark.parametrize("chunk", [1, 50, 64, 100])
def test_the_best_value_is_that_of_the_steps_before_the_state(chunk):
    losses = np.abs(np.arange(640.0) - 300)
    run = tell([EarlyStopping(patience=50, restore_best=True)], losses, chunk=chunk)
    [(name, best)] = run.best.items()
    assert best.monitor == name == "loss over 64 steps"
    assert best.step == best.state.after == run.final_state.after
    assert best.value == losses[best.step - 64 : best.step].mean()
    assert run.best_so_far is best
    assert "state" not in repr(best)  # arrays, by the page
    assert f"per row, loss over 64 steps, at step {best.step}" in summary_text(run)


def test_a_best_state_by_the_training_loss_is_not_called_held_out():
    stopping = EarlyStopping("loss", patience=50, restore_best=True)
    run = tell(
        [stopping], np.ones(128), told_run(validation_every=1), chunk=64, validation=[5.0, 4.0]
    )
    assert loss_of_model(run) == "1 per row (best state, step 64)"
    assert "1 per row, loss over 64 steps, at step 64" in summary_text(run)


def test_a_model_that_has_its_best_state_has_one_loss_wherever_it_is_told():
    losses = 3.0 + np.abs(np.arange(640.0) - 300) / 100
    run = tell([EarlyStopping(patience=50, restore_best=True)], losses, chunk=64)
    best, said = shown_best(run), f"{number(shown_best(run).value)} per row"
    assert best.is_lower
    assert best.value == run.best_so_far.value
    assert loss_of_model(run) == f"{said} (best state, step {best.step})"
    what = "loss over 64 steps"  # the callback's own, which is not the loss that is shown beside it
    assert dict(run_facts(run))["best"] == f"{said}, {what}, at step {best.step}"
    assert f", best {what} {number(best.value)} at step {best.step}, " in repr(run)
    assert f" {said}, {what}, at step {best.step}" in summary_text(run)
    assert compare(run).loc["best"].tolist() == [best.value]
    panel = LossPanel()
    panel.begin(run)
    assert panel.frame(run)["best"] == best.value


def test_without_restore_best_the_run_ends_with_its_last_state():
    run = tell([EarlyStopping()], np.repeat([1.0, 2.0], 64))
    assert run.final_state.after == run.step
    assert run.best == {}


def test_a_run_that_goes_on_is_judged_by_its_whole_history(rng):
    """What an earlier process has seen counts as if it had been seen here."""
    losses = flattening(rng)
    whole = tell([EarlyStopping()], losses, chunk=64)
    cut = whole.step - 128
    resumed = tell([], losses[:cut], chunk=64)
    resumed = tell([EarlyStopping()], losses[cut:], resumed, chunk=64)
    assert (resumed.step, resumed.reason) == (whole.step, whole.reason)


def test_a_listener_serves_one_run_after_the_other(rng):
    stopping, losses = EarlyStopping(), flattening(rng)
    assert tell([stopping], losses).step == tell([stopping], losses).step


@pytest.mark.parametrize(
    "options",
    [
        {"monitor": "accuracy"},
        {"patience": 0},
        {"min_delta": -1.0},
        {"min_delta": float("nan")},
        {"window": 0},
    ],
)
def test_values_that_make_no_sense_are_refused(options):
    with pytest.raises(ArgumentError, match=next(iter(options))):
        EarlyStopping(**options)


def test_the_held_out_loss_must_be_there_to_be_watched():
    with pytest.raises(ArgumentError, match="validation=\\(X_val, y_val\\)"):
        tell([EarlyStopping("validation")], np.zeros(3))


def test_a_loop_written_by_hand_is_stopped_too():
    # Far more steps than run between two looks at the losses, however fast the machine is.
    watch = monitor([1.0] * 10, epochs=10**6, model="demo", callbacks=[EarlyStopping(patience=2)])
    for batch in watch:
        watch.step(batch)
    assert watch.run.status == "early_stopped"


def test_a_loop_written_by_hand_has_no_state_to_restore(tmp_path):
    for callback in (EarlyStopping(restore_best=True), ModelCheckpoint(tmp_path)):
        with pytest.raises(AimzLabError, match="fit_on_batch"):
            list(monitor([1.0], model="demo", callbacks=[callback]))


def test_a_run_ends_after_too_many_steps_that_were_left_out():
    losses = np.ones(100)
    losses[[10, 20, 30, 40]] = np.nan
    run = tell([TerminateOnNaN(after=3)], losses, chunk=1)
    assert (run.status, run.step) == ("diverged", 31)
    assert tell([TerminateOnNaN(after=5)], losses, chunk=1).status == "completed"
