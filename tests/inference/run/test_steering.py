"""Callbacks are called in order, fail as documented, and steer a run from any thread."""

from __future__ import annotations

import threading
import time

import jax
import numpy as np
import optax
import pytest

from aimz_lab import Callback
from aimz_lab.errors import ArgumentError, CallbackWarning
from aimz_lab.inference.compiling import compiling
from aimz_lab.inference.run.getting_ready import preparation_for
from aimz_lab.inference.run.rates import learning_rate, set_learning_rate
from aimz_lab.inference.svi.trainer import Trainer
from aimz_lab.lab.callbacks import EarlyStopping, LearningRateScheduler, ReduceLROnPlateau
from tests.kernels import regression_data
from tests.runs import refit, regression_model, same_bits

pytestmark = pytest.mark.allow_rank_promotion

X, Y = regression_data(n=103)
X_NEW, Y_NEW = regression_data(n=30, seed=1)
EVENTS = (
    "on_fit_begin",
    "on_epoch_begin",
    "on_steps_end",
    "on_step_end",
    "on_epoch_end",
    "on_validation_end",
    "on_checkpoint",
    "on_fit_end",
)


@pytest.fixture(scope="module")
def model():
    return regression_model()


def callback(kind="user", **events):
    """A callback of some kind from functions by event."""

    def method(function):
        return lambda self, *args: function(*args)

    methods = {name: method(function) for name, function in events.items()}
    return type("Made", (Callback,), {"kind": kind, **methods})()


def fit(im, callbacks, **options):
    options = {"validation": (X_NEW, Y_NEW), "steps_per_call": 3, "epochs": 2, **options}
    return refit(im, X, Y, callbacks=callbacks, **options)


def fail(*args):
    raise RuntimeError("broken on purpose")


@pytest.mark.slow
def test_every_event_goes_round_in_the_order_of_the_kinds(model):
    seen = []

    def note(event, kind):
        return lambda run, *args: seen.append((event, kind))

    def noting(kind):
        return callback(kind, **{event: note(event, kind) for event in EVENTS})

    asking = callback(on_fit_begin=lambda run: run.control.checkpoint())
    kinds = ["checkpoint", "display", "user", "metric"]
    fit(model, [*map(noting, kinds), asking], epochs=1)
    rounds = [seen[i : i + 4] for i in range(0, len(seen), 4)]
    for members in rounds:
        assert len({event for event, _ in members}) == 1
        in_turn = ["metric", "user", "display", "checkpoint"]
        if members[0][0] == "on_fit_end":
            in_turn = ["metric", "user", "checkpoint", "display"]
        assert [kind for _, kind in members] == in_turn
    order = [members[0][0] for members in rounds]
    chunk = ["on_steps_end", *["on_step_end"] * 3]
    assert order == [
        "on_fit_begin",
        "on_epoch_begin",
        *chunk,
        "on_checkpoint",
        *chunk,
        "on_epoch_end",
        "on_validation_end",
        "on_fit_end",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("event", [event for event in EVENTS if event != "on_checkpoint"])
def test_a_display_that_fails_is_switched_off_and_the_run_goes_on(model, event):
    losses = fit(model, []).vi_result.losses.copy()
    calls, others = [], []

    def fail_once(*args):
        calls.append(args)
        fail()

    broken = callback("display", **{event: fail_once})
    other = callback("display", **{event: lambda run, *args: others.append(args)})
    with pytest.warns(CallbackWarning, match="broken on purpose") as warned:
        run = fit(model, [broken, other]).last_run
    assert (len(warned), len(calls)) == (1, 1)
    assert others
    assert run.status == "completed"
    assert [callback for callback, _ in run.disabled] == [broken]
    assert same_bits(run.losses, losses)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["metric", "user", "checkpoint"])
@pytest.mark.parametrize(
    ("event", "steps"),
    [
        ("on_fit_begin", 0),
        ("on_epoch_begin", 0),
        ("on_steps_end", 3),
        ("on_step_end", 3),
        ("on_epoch_end", 6),
        ("on_validation_end", 6),
    ],
)
def test_an_error_of_any_other_callback_is_raised_and_the_model_keeps_its_state(
    model, kind, event, steps
):
    seen, runs, before = [], [], model.last_run
    witness = callback(
        "metric",
        on_fit_begin=runs.append,
        on_exception=lambda run, error: seen.append(("exception", str(error))),
        on_fit_end=lambda run: seen.append(("end", run.status)),
    )
    with pytest.raises(RuntimeError, match="broken on purpose"):
        fit(model, [witness, callback(kind, **{event: fail})])
    run = runs[0]
    assert model.last_run is (run if steps else before)
    assert seen == [("exception", "broken on purpose"), ("end", "failed")]
    assert (run.status, run.step) == ("failed", steps)
    assert isinstance(run.exception, RuntimeError)
    if not steps:
        assert model._vi_state is None  # nothing was trained
    else:
        assert int(model._vi_state.optim_state[0]) == steps
        assert len(model.vi_result.losses) == steps
        assert same_bits(dict(model.vi_result.params), dict(run.params))


def test_an_error_at_the_end_is_raised_once_every_callback_was_called(model):
    seen = []
    last = callback("checkpoint", on_fit_end=lambda run: seen.append(run.status))
    with pytest.raises(RuntimeError, match="broken on purpose"):
        fit(model, [callback(on_fit_end=fail), last])
    assert seen == ["completed"]
    assert len(model.vi_result.losses) == 12


def test_further_errors_at_the_end_of_a_failed_run_are_notes(model):
    def fail_too(*args):
        raise ValueError("broken as well")

    broken = callback(on_steps_end=fail, on_exception=fail_too, on_fit_end=fail_too)
    with pytest.raises(RuntimeError, match="broken on purpose") as caught:
        fit(model, [broken])
    notes = "At the end of the run also: ValueError: broken as well"
    assert caught.value.__notes__ == [notes, notes]


def test_a_pause_changes_nothing_but_the_time(model):
    losses = fit(model, []).vi_result.losses.copy()
    steps = {}

    def resume_later(run):
        def later():
            steps["paused"] = run.step
            time.sleep(0.2)
            steps["still"] = run.step
            steps["status"] = run.status
            run.control.resume()

        threading.Thread(target=later).start()

    def pause(run, chunk):
        if run.step == 6:
            run.control.pause()

    began = time.monotonic()
    run = fit(model, [callback(on_steps_end=pause, on_pause=resume_later)]).last_run
    assert time.monotonic() - began > 0.2
    assert steps == {"paused": 6, "still": 6, "status": "paused"}
    assert run.status == "completed"
    assert same_bits(run.losses, losses)


def test_another_thread_stops_a_run(model):
    begun = threading.Event()
    runs = []

    def begin(run, chunk):
        runs.append(run)
        begun.set()

    def stop():
        begun.wait(60)
        runs[0].control.stop("enough")

    stopper = threading.Thread(target=stop)
    stopper.start()
    run = fit(model, [callback(on_steps_end=begin)], epochs=10**6, validation=None).last_run
    stopper.join()
    assert (run.status, run.reason) == ("stopped", "enough")
    assert int(model._vi_state.optim_state[0]) == run.step == len(model.vi_result.losses)


def test_a_stop_ends_a_pause(model):
    def pause(run, chunk):
        run.control.pause()
        threading.Timer(0.05, run.control.stop, ["enough"]).start()

    assert fit(model, [callback(on_steps_end=pause)]).last_run.step == 3


def test_a_checkpoint_and_a_stop_during_a_pause_are_both_granted(model):
    saved = []

    def both(run):
        run.control.checkpoint()
        run.control.stop("enough")

    callbacks = [
        callback(on_steps_end=lambda run, chunk: run.control.pause(), on_pause=both),
        callback("checkpoint", on_checkpoint=lambda run: saved.append(run.step)),
    ]
    run = fit(model, callbacks).last_run
    assert (run.status, run.step, saved) == ("stopped", 3, [3])


@pytest.mark.slow
def test_displays_are_told_that_steps_compile_for_a_new_rate(model, monkeypatch):
    made, activities = [], []

    def make(name, callbacks):
        made.append((preparation_for(name, callbacks), callbacks))
        return made[-1][0]

    dispatch = Trainer._dispatch

    def note(trainer, *args):
        activities.append(trainer.run.activity)
        return dispatch(trainer, *args)

    def change(run, chunk):
        if run.step == 3:
            run.control.set_learning_rate(0.02)

    monkeypatch.setattr("aimz_lab.inference.svi.trainer.preparation_for", make)
    monkeypatch.setattr(Trainer, "_dispatch", note)
    display = callback("display", on_steps_end=change)
    fit(model, [display], epochs=9, batch_size=103, validation=None, num_samples=5)
    [(preparation, told)] = made
    assert preparation.activity == compiling("the steps for the new learning rate")
    assert display in told
    assert not preparation.is_told  # no longer
    # So is who asks the run meanwhile.
    assert [one for one in activities if one] == [preparation.activity]
    assert model.last_run.activity == ""


@pytest.mark.slow
def test_another_learning_rate_in_the_middle_makes_a_run_of_two_halves(model):
    whole_batches = {"batch_size": 103, "validation": None, "num_samples": 5}

    def change(run, chunk):
        if run.step == 9:
            run.control.set_learning_rate(0.02)

    rates = []
    note = callback("display", on_steps_end=lambda run, chunk: rates.append(run.learning_rate))
    whole = fit(model, [callback(on_steps_end=change), note], epochs=18, **whole_batches)
    losses, state = whole.vi_result.losses.copy(), model._vi_state
    np.testing.assert_allclose(rates, [0.05] * 3 + [0.02] * 3, rtol=1e-6)
    first = fit(model, [], epochs=9, **whole_batches).vi_result.losses.copy()
    half = model._vi_state
    model._vi_state = half._replace(optim_state=set_learning_rate(half.optim_state, 0.02))
    options = {"batch_size": 103, "num_samples": 5, "progress": False}
    second = model.fit(X, Y, epochs=9, **options).vi_result.losses
    assert same_bits(losses, np.concatenate([first, second]))
    assert same_bits(state, model._vi_state)


def test_a_rate_requested_at_the_last_step_stays_a_request(model):
    def change(run, chunk):
        if run.step == 12:
            run.control.set_learning_rate(0.02)

    run = fit(model, [callback(on_steps_end=change)]).last_run
    assert run.control.requested_learning_rate == 0.02
    assert learning_rate(model._vi_state.optim_state) == pytest.approx(0.05)


def test_a_schedule_holds_from_the_first_step_of_each_epoch(model):
    rates = []
    note = callback(
        "display", on_steps_end=lambda run, steps: rates.extend([steps.learning_rate] * len(steps))
    )
    fit(model, [LearningRateScheduler(lambda epoch: 0.1 / epoch), note], steps_per_call="auto")
    np.testing.assert_allclose(rates, [0.1] * 6 + [0.05] * 6, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "callback", [ReduceLROnPlateau(), LearningRateScheduler(lambda epoch: 0.1)]
)
def test_an_optimizer_with_a_fixed_rate_is_refused_before_the_first_step(callback):
    im = regression_model(optax.adam(0.05))
    with pytest.raises(ArgumentError, match="inject_hyperparams"):
        fit(im, [callback])
    assert (im.last_run, im.is_fitted()) == (None, False)


def test_the_model_ends_with_the_best_state_and_a_posterior_from_it(model):
    """The rate is far too large, so that the parameters jump about and the best state is past."""
    states = {}

    def explode(run, loss):
        states[run.step] = run.state.svi
        run.control.set_learning_rate(3.0)

    stopping = EarlyStopping("validation", patience=3, restore_best=True)
    spoil = callback(on_validation_end=explode)
    fit(model, [stopping, spoil], epochs=50, num_samples=4000)
    run, params = model.last_run, model.vi_result.params
    best_step, _ = min(run.validation, key=lambda pair: pair[1])
    assert (run.status, run.step) == ("early_stopped", best_step + 3 * 6)
    assert same_bits(model._vi_state, states[best_step])
    best = model.inference.get_params(states[best_step])
    assert same_bits(params, dict(best))
    assert same_bits(dict(run.params), dict(best))
    assert len(model.vi_result.losses) == run.step
    error = np.asarray(best["beta_auto_scale"]) / np.sqrt(4000) + 1e-4  # and rounding
    mean = np.asarray(model.posterior["beta"]).mean(axis=0)
    assert (np.abs(mean - best["beta_auto_loc"]) < 5 * error).all()
    last = model.inference.get_params(states[run.step])["beta_auto_loc"]
    assert (np.abs(last - best["beta_auto_loc"]) > 5 * error).any()


def test_early_stopping_ends_a_run_at_its_optimum(model):
    fit(model, [EarlyStopping(patience=3)], epochs=2000, validation=None)
    run = model.last_run
    assert run.status == "early_stopped"
    assert run.step < 6 * 2000
    tail = run.losses[-200:].mean()
    longer = fit(model, [], epochs=run.epoch * 2, validation=None).last_run.losses
    gained = (tail - longer[-200:].mean()) / 103
    noise = np.hypot(run.losses[-200:].std(), longer[-200:].std()) / np.sqrt(200) / 103
    assert gained < 4 * noise
    assert jax.tree.all(jax.tree.map(lambda a: np.isfinite(a).all(), model.posterior))
