"""A loss that is not finite costs the steps it spoils, and never the run."""

from __future__ import annotations

import time

import jax
import numpy as np
import numpyro
import pytest

from aimz_lab import Callback
from aimz_lab.errors import FitWarning, NonFiniteLossError, NotFittedError
from aimz_lab.lab.callbacks import EarlyStopping, ModelCheckpoint, TerminateOnNaN
from tests.kernels import poisoned, regression_data
from tests.runs import refit, regression_model, same_bits

pytestmark = pytest.mark.allow_rank_promotion

BAD_ROW = 57
X, Y = regression_data(n=103)
X_BAD = X.copy()
X_BAD[BAD_ROW, 1] = np.nan


class Watch(Callback):
    """Keeps the state after each chunk, and can stop the run."""

    every_epoch = False

    def __init__(self, stop_at=None):
        self.states, self.stop_at, self.ends = {}, stop_at, []

    def on_steps_end(self, run, steps):
        self.states[run.step] = run.state
        if run.step == self.stop_at:
            run.control.stop()

    def on_fit_end(self, run):
        self.ends.append((run.status, run.step))


@pytest.fixture(scope="module")
def model():
    return regression_model(kernel=poisoned)


def fit(im, **options):
    return refit(im, X_BAD, Y, **{"allow_nonfinite": True, **options})


@pytest.mark.parametrize("steps_per_call", [1, 4, "auto"])
@pytest.mark.slow
def test_the_run_stops_and_the_model_is_as_before_the_step(model, steps_per_call):
    with pytest.warns(FitWarning, match="the loss was nan at step"):
        fit(model, steps_per_call=steps_per_call)
    run, state, posterior = model.last_run, model._vi_state, model.posterior
    assert run.status == "diverged"
    assert np.isfinite(run.losses).all()
    assert same_bits(model.vi_result.losses, run.losses)
    # The same run, stopped by hand just there.
    fit(model, steps_per_call=1, callbacks=[Watch(stop_at=run.step)])
    assert model.last_run.status == "stopped"
    assert same_bits([state, posterior], [model._vi_state, model.posterior])


@pytest.mark.slow
def test_the_message_names_step_epoch_and_rows(model):
    with pytest.warns(FitWarning) as warned:
        fit(model, shuffle=False)
    reason = model.last_run.reason
    assert reason in str(warned[0].message)
    assert warned[0].filename.endswith("runs.py")  # who called fit
    # Row 57 is in the third batch of twenty.
    assert "at step 3 (epoch 1, rows 40, 41, 42, 43, 44, 45, 46, 47, ...)" in reason
    assert "the model has the state after step 2, which is not to be used" in reason


@pytest.mark.slow
def test_the_rows_of_a_small_batch_are_all_named(model):
    with pytest.warns(FitWarning, match=r"rows 56, 57\)"):
        fit(model, shuffle=False, batch_size=2)


def test_rows_of_a_stream_are_not_known(model):
    def batches():
        for start in range(0, 103, 20):
            yield {"X": X_BAD[start : start + 20], "y": Y[start : start + 20]}

    with pytest.warns(FitWarning, match=r"at step 3 \(epoch 1\)"):
        refit(model, batches, None, batch_size=None, n_obs=103, allow_nonfinite=True)


def test_it_can_raise_and_keeps_the_model_all_the_same(model):
    watch = Watch()
    with pytest.raises(NonFiniteLossError, match="at step 3 "):
        fit(model, on_nonfinite="raise", shuffle=False, steps_per_call=1, callbacks=[watch])
    assert watch.ends == [("diverged", 2)]
    assert same_bits(model._vi_state, watch.states[2].svi)
    assert model.vi_result.losses.shape == (2,)
    assert model.posterior is not None


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 3])
def test_it_can_leave_the_steps_out(model, accumulate):
    watch = Watch()
    with pytest.warns(FitWarning, match="left steps out: 3 of 18 steps were skipped, as their"):
        fit(
            model,
            on_nonfinite="skip",
            shuffle=False,
            steps_per_call=1,
            accumulate=accumulate,
            callbacks=[watch],
        )
    run = model.last_run
    assert run.status == "completed"
    bad = [3, 9, 15]  # the third of six batches in each of three epochs
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(run.losses)) + 1, bad)
    assert run.skipped == 3
    for step in bad:
        before, after = watch.states[step - 1], watch.states[step]
        assert same_bits(after.svi.optim_state, before.svi.optim_state)
        assert same_bits([after.gradients, after.pending], [before.gradients, before.pending])
        assert not same_bits(after.svi.rng_key, before.svi.rng_key)
    assert all(np.isfinite(value).all() for value in model.posterior.values())


@pytest.mark.slow
def test_too_many_steps_left_out_end_the_run(model):
    with pytest.warns(FitWarning, match="2 steps without a finite loss"):
        fit(model, on_nonfinite="skip", callbacks=[TerminateOnNaN(after=2)], steps_per_call=1)
    assert (model.last_run.status, model.last_run.skipped) == ("diverged", 2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The learning rate of the optimizer is")
def test_parameters_that_are_not_finite_count_though_the_loss_is():
    im = regression_model(numpyro.optim.SGD(1e38))
    with pytest.warns(FitWarning, match="the parameters were not finite at step 1 "):
        refit(im, X, Y)
    assert im.last_run.step == 0
    with pytest.warns(FitWarning, match="6 of 6 steps were skipped.* as it was before this fit"):
        skipped = refit(im, X, Y, on_nonfinite="skip", epochs=1).last_run
    assert skipped.skipped == skipped.step == 6
    assert np.isnan(skipped.losses).all()
    assert (skipped.status, im.is_fitted()) == ("diverged", False)
    assert "SVI with AutoNormal, skipped 6 of 6 steps, on 103 rows" in repr(im)
    with pytest.raises(NotFittedError, match=r"Nothing was trained yet; call fit, fit_on_batch"):
        im.sample()


class Spoil(Watch):
    """Sets a rate at a step that no state survives, and may end the run later."""

    def __init__(self, at, interrupt_at=None):
        super().__init__()
        self.at, self.interrupt_at = at, interrupt_at

    def on_steps_end(self, run, steps):
        super().on_steps_end(run, steps)
        if run.step == self.at:
            run.control.set_learning_rate(1e30)
        if run.step == self.interrupt_at:
            raise KeyboardInterrupt


def skipping(at, *others, **options):
    """A model whose run skips all steps from one on, and what it warned of."""
    im = regression_model()
    options = {"steps_per_call": 10, "epochs": 100, "on_nonfinite": "skip", **options}
    with pytest.warns(FitWarning) as warned:
        refit(im, X[:100], Y[:100], callbacks=[Spoil(at), *others], **options)
    return im, str(warned[0].message)


@pytest.mark.slow
def test_a_run_of_skipped_steps_is_not_trained():
    """It must not say that all steps are done: hardly one was taken."""
    im, message = skipping(10)
    run = im.last_run
    assert run.status == "diverged"
    assert f"{run.skipped} of 500 steps were skipped, the last {run.skipped} in a row" in message
    assert "which is not to be used. Train on with a lower rate than 1e+30" in message
    assert "not to be used, on 100 rows" in repr(im)
    with pytest.raises(NotFittedError, match="predict needs a posterior, and the training skip"):
        im.predict(X)


@pytest.mark.slow
def test_a_run_that_skips_its_steps_gives_no_numbers_meanwhile():
    im = regression_model()
    options = {"steps_per_call": 10, "epochs": 10**6, "on_nonfinite": "skip", "batch_size": 20}
    handle = im.fit(
        X[:100], Y[:100], callbacks=[Spoil(10)], progress=False, blocking=False, **options
    )
    while handle.run.step < 500:
        time.sleep(0.01)
    with pytest.raises(NotFittedError, match=r"and the training skipped [\d,]+ of [\d,]+ steps"):
        im.summary()
    handle.stop()
    assert handle.wait(60).status == "diverged"


@pytest.mark.slow
@pytest.mark.parametrize("others", [[], [EarlyStopping(patience=2)]])
def test_a_run_that_skips_to_its_end_goes_back_to_its_best_state(others):
    im, message = skipping(200, *others)
    run = im.last_run
    assert run.status == "diverged"
    assert ("no progress" in message) == bool(others)
    assert f"went back to its best state, that of step {run.restored.step}" in message
    did_all = f"The fit did all its steps, but {run.skipped} of 500 steps were skipped"
    assert message.startswith("The fit ended early: " if others else did_all)
    assert repr(im).count("skipped") == 1
    assert 80 <= run.restored.step <= 210
    assert same_bits(im._vi_state, run.restored.state.svi)
    assert np.abs(im.vi_result.params["beta_auto_loc"]).max() < 10


@pytest.mark.slow
def test_an_interrupted_run_that_skipped_its_steps_says_so():
    im, message = skipping(10, Spoil(None, interrupt_at=300))
    assert im.last_run.status == "interrupted"
    assert "interrupted after step 300; 2" in message
    assert not im.is_fitted()


@pytest.mark.slow
def test_a_resumed_run_counts_what_was_skipped_before(model, tmp_path):
    options = {"on_nonfinite": "skip", "shuffle": False}
    with pytest.warns(FitWarning, match="3 of 18 steps"):
        fit(model, callbacks=[ModelCheckpoint(tmp_path)], **options)
    with pytest.warns(FitWarning, match="6 of 36 steps"):
        fit(model, epochs=6, resume=tmp_path, **options)


@pytest.mark.slow
def test_a_run_that_skips_its_steps_leaves_the_checkpoint_of_its_last_sound_state(tmp_path):
    skipping(10, ModelCheckpoint(tmp_path, every_epochs=1), epochs=20)
    assert [path.name for path in tmp_path.iterdir()] == ["000001-step-5.npz"]
    options = {"steps_per_call": 10, "epochs": 20, "on_nonfinite": "skip", "resume": tmp_path}
    run = refit(regression_model(), X[:100], Y[:100], **options).last_run
    assert (run.resumed_at, run.status, run.skipped) == (5, "completed", 0)


@pytest.mark.slow
def test_a_few_skipped_steps_are_told_without_a_warning(model):
    fit(model, on_nonfinite="skip", epochs=150, batch_size=1, accumulate=1)
    run = model.last_run
    assert (run.status, run.skipped, run.step) == ("completed", 150, 150 * 103)
    assert "150 of 15,450 steps skipped" in repr(model)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The learning rate of the optimizer is")
def test_skipping_is_advised_only_where_it_can_help(model):
    with pytest.warns(FitWarning, match="few batches are bad, on_nonfinite='skip' leaves them"):
        fit(model, shuffle=False)
    im = regression_model(numpyro.optim.Adam(1e6))
    with pytest.warns(FitWarning, match="which is not to be used") as warned:
        refit(im, X, Y, epochs=100)
    assert not any("skip" in str(one.message) for one in warned)


@pytest.mark.slow
def test_a_run_that_fails_at_once_leaves_the_model_unfitted():
    im = regression_model(kernel=poisoned)
    with pytest.warns(FitWarning, match="at step 1 .* as it was before this fit"):
        refit(im, X_BAD, Y, batch_size=103, allow_nonfinite=True)
    assert (im.last_run.status, im.is_fitted(), im.vi_result) == ("diverged", False, None)
    # The same model learns from data that is in order.
    assert refit(im, X, Y, batch_size=103).last_run.status == "completed"


@pytest.mark.slow
def test_jax_may_look_for_nan_while_there_is_none():
    with jax.debug_nans(True):
        im = regression_model().fit(X, Y, batch_size=20, num_samples=4, progress=False)
    assert im.last_run.status == "completed"
