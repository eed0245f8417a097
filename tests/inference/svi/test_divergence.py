"""After a run diverged, the last change is named, and the model has a good state or says not."""

from __future__ import annotations

import copy
import warnings

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import Callback, ImpactModel, lab, settable_rate
from aimz_lab.errors import (
    AimzLabError,
    ArgumentError,
    FitWarning,
    NonFiniteLossError,
    NotFittedError,
    SiteError,
)
from aimz_lab.inference.run.events import Control
from aimz_lab.inference.run.loss_words import loss_per_row
from aimz_lab.lab.callbacks import EarlyStopping, ModelCheckpoint, ProgressLine
from tests.kernels import regression_data
from tests.runs import refit, regression_model, same_bits

pytestmark = pytest.mark.allow_rank_promotion

X, Y = regression_data(n=100)
OPTIONS = {"steps_per_call": 20, "epochs": 400}


class Spoil(Callback):
    """Sets rates, such as a huge one, after some steps; 0 is before the first."""

    every_epoch = False

    def __init__(self, rates):
        self.rates = rates

    def on_fit_begin(self, run):
        self.on_steps_end(run, None)

    def on_steps_end(self, run, steps):
        if (rate := self.rates.get(run.step)) is not None:
            run.control.set_learning_rate(rate)


@pytest.fixture(scope="module")
def model():
    return regression_model()


def diverged(im, rates, fit=refit, **options):
    with pytest.warns(FitWarning, match="diverge|not finite|was nan|was inf") as warned:
        fit(im, X, Y, callbacks=[Spoil(rates)], **OPTIONS, **options)
    assert im.last_run.status == "diverged"
    return str(warned[0].message)


def go_on(im, X, Y, **options):
    return im.fit(X, Y, batch_size=20, num_samples=10, progress=False, **options)


def test_the_reason_stands_once_beside_a_display_that_shows_it(model, capsys):
    with pytest.warns(FitWarning, match="ended early: it diverged after step") as warned:
        refit(model, X, Y, callbacks=[Spoil({0: 1e20}), ProgressLine()], **OPTIONS)
    message, reason = str(warned[0].message), model.last_run.reason
    assert "last_run.reason says why" in message
    assert "was changed" in reason
    assert "was changed" not in message
    assert reason in capsys.readouterr().err


def test_the_model_goes_back_to_its_best_state_and_the_rate_is_named(model, tmp_path):
    message = diverged(model, {400: 0.02, 500: 1e6}).replace("1 step after", "1 steps after")
    run = model.last_run
    best, step = run.best_so_far, run.step + 1
    assert f"at step {step:,} (epoch" in message
    since = f"{step - 500:,} steps after the learning rate was changed from 0.02 to 1e+06"
    assert since in message
    assert f"the model went back to its best state, that of step {best.step:,}." in message
    assert "a lower rate than 1e+06" in message
    assert 80 <= best.step <= 520
    assert same_bits(model._vi_state, best.state.svi)
    assert np.abs(model.vi_result.params["beta_auto_loc"]).max() < 10
    assert [(c.step, round(c.after, 6)) for c in run.rate_changes] == [(400, 0.02), (500, 1e6)]
    said = f"diverged after step {run.step} and went back to its best state, that of step"
    model.save(tmp_path / "saved")
    again = ImpactModel.load(tmp_path / "saved", model.kernel, inference=model.inference)
    for one in (model, again):
        assert f"{said} {best.step:,}, trained on 100 rows" in repr(one)
        assert said in one._repr_html_()
        assert one._repr_html_().count("went back") == 1
        # The record of the run and the warning have said why.
        assert "not finite" not in one._repr_html_()
        assert one.describe()["ending"].startswith(said)
    assert f"per row (best state, step {best.step:,})" in repr(model)


@pytest.mark.parametrize("steps_per_call", [1, 5])
@pytest.mark.parametrize("rate", [10.0, 1e4])
def test_no_state_is_the_best_by_the_losses_before_it_was_spoiled(model, rate, steps_per_call):
    """The loss falls, so that the steps up to the one of the huge rate have the lowest mean."""
    spoil = Spoil({0: 0.01, 190: rate})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)  # it may diverge
        refit(model, X, Y, epochs=48, steps_per_call=steps_per_call, callbacks=[spoil])
    run = model.last_run
    lowest = min(range(80, run.step + 1), key=lambda step: loss_per_row(run, step))
    assert lowest > 190  # as the losses alone have it
    assert 80 <= run.best_so_far.step <= 190
    assert run.best_so_far.value == loss_per_row(run, run.best_so_far.step)
    params = model.inference.get_params(run.best_so_far.state.svi)
    assert np.abs(params["beta_auto_loc"]).max() < 10


def test_a_last_state_that_is_spoiled_is_not_the_best(model):
    """No step follows it in the run: its own loss is computed at the end."""
    options = {"steps_per_call": 5, "epochs": 41}
    callbacks = [Spoil({200: 10.0}), EarlyStopping(restore_best=True, patience=99)]
    refit(model, X, Y, callbacks=callbacks, **options)
    run = model.last_run
    assert (run.status, run.step) == ("completed", 205)
    assert loss_per_row(run, 205) > loss_per_row(run, 200)
    assert run.restored.step <= 200
    assert np.abs(model.vi_result.params["beta_auto_loc"]).max() < 10
    refit(model, X, Y, callbacks=callbacks[1:], **options)  # nothing spoils it
    assert model.last_run.best_so_far.step == 205
    assert model.last_run.restored is None
    assert len(model.last_run.losses) == 205
    assert len(model.last_run.losses_after) == 5


def test_a_state_whose_own_loss_is_fine_is_kept_at_once(model):
    """The rate spoils the very next update: no other loss tells of the state before it."""
    diverged(model, {200: 1e30})
    run = model.last_run
    assert run.best_so_far.step == run.restored.step == 200 >= run.step - 1
    assert run.best_so_far.value == loss_per_row(run, 200)
    assert run.losses_after.shape == (1,)


def test_a_trained_model_goes_back_to_what_it_was(model):
    refit(model, X, Y, epochs=40)
    before = model._vi_state
    message = diverged(model, {0: 1e20}, go_on)
    assert "went back to the state that it had before this fit" in message
    assert same_bits(model._vi_state, before)
    assert "trained" not in repr(model).split("diverged", 1)[0]


def test_without_a_good_state_the_model_says_that_it_is_not_to_be_used(model):
    options = {"on_nonfinite": "raise"}
    with pytest.raises(NonFiniteLossError, match="which is not to be used"):
        refit(model, X, Y, callbacks=[Spoil({20: 1e20})], **{**OPTIONS, **options})
    assert "and left a state that is not to be used" in repr(model)
    assert "diverged" not in repr(refit(model, X, Y))


@pytest.fixture(scope="module")
def wrecked():
    """A model whose run diverged before it had a good state."""
    im = regression_model()
    with jax.numpy_rank_promotion("allow"):  # as the mark of the module does, for its tests
        diverged(im, {20: 1e20})
    return im


@pytest.mark.parametrize(
    "call",
    [
        lambda im: im.predict(X, progress=False),
        lambda im: im.predict_on_batch(X),
        lambda im: im.log_likelihood(X, Y, progress=False),
        lambda im: im.estimate_effect(args_baseline={"X": X}, args_intervention={"X": X + 1}),
        lambda im: im.sweep("X", [0.0, 1.0], X),
        lambda im: im.decide({"none": {"X": X}, "all": {"X": X + 1}}),
        lambda im: im.summary(),
        lambda im: im.sample(),
        lambda im: im.posterior_tree,
        lambda im: lab.explore_effect(im, pd.DataFrame(X, columns=list("abc"))),
        lambda im: lab.prediction_checks(im, X, Y),
    ],
)
def test_no_number_comes_from_a_state_that_is_not_to_be_used(wrecked, tmp_path, call):
    assert not wrecked.is_fitted()
    wrecked.save(tmp_path / "saved")
    loaded = ImpactModel.load(tmp_path / "saved", wrecked.kernel, inference=wrecked.inference)
    for im in (wrecked, copy.deepcopy(wrecked), loaded):
        words = "needs a .*, and the training diverged after step 2. and left a state that is not"
        with pytest.raises(AimzLabError, match=words):
            call(im)


@pytest.mark.slow
def test_a_state_that_is_not_to_be_used_can_be_looked_at(wrecked):
    assert wrecked.diagnose(X, Y, progress=False).level == "red"
    given = copy.deepcopy(wrecked).set_posterior_sample(wrecked.posterior)
    assert given.is_fitted()
    assert given.predict_on_batch(X).posterior_predictive.y.shape == (1, 10, 100)


def test_what_is_trained_after_a_wreck_begins_anew(wrecked):
    again, by_hand, given = (copy.deepcopy(wrecked) for _ in range(3))
    go_on(again, X, Y)
    assert again.is_fitted()
    assert len(again.last_run.losses) == again._vi_state.optim_state[0] == 5
    assert again.last_run.losses[0] < 1e4
    _, loss = by_hand.train_on_batch(X, Y, n_obs=100)
    assert loss < 1e4
    with pytest.raises(NotFittedError, match="draws one from the trained guide"):
        by_hand.predict(X)
    # What is set from elsewhere is no wreck either.
    given.vi_result = again.vi_result
    assert given.sample(return_datatree=False)["beta"].shape[0] == 1000


def test_a_second_wreck_does_not_go_back_to_the_first(wrecked):
    im = copy.deepcopy(wrecked)
    assert "which is not to be used" in diverged(im, {20: 1e20}, go_on)


def test_a_resumed_run_that_diverges_at_once_goes_back_to_its_best_state(tmp_path):
    im = regression_model(settable_rate(numpyro.optim.SGD, 1e-4))
    refit(im, X, Y, callbacks=[ModelCheckpoint(tmp_path)], **{**OPTIONS, "epochs": 80})
    assert "at step 401 (epoch 81" in diverged(im, {400: 1e38}, resume=tmp_path)
    assert "went back to its best state" in repr(im)


class StopAfter(Spoil):
    """Sets rates, and stops the run at a step."""

    def __init__(self, rates, at):
        super().__init__(rates)
        self.at = at

    def on_steps_end(self, run, steps):
        super().on_steps_end(run, steps)
        if run.step == self.at:
            run.control.stop("enough")


@pytest.mark.slow
def test_a_checkpoint_of_a_wreck_leaves_the_model_as_it_was(tmp_path):
    """A run was stopped after the step that wrecked its state, before any loss told of it."""
    stops = [StopAfter({20: 1e30}, 21), ModelCheckpoint(tmp_path)]
    refit(regression_model(), X, Y, callbacks=stops, **{**OPTIONS, "steps_per_call": 1})
    fresh, trained = regression_model(), refit(regression_model(), X, Y, epochs=40)
    before = trained._vi_state
    for im in (fresh, trained):
        with pytest.warns(FitWarning, match="ended early") as warned:
            go_on(im, X, Y, epochs=400, resume=tmp_path)
        message = str(warned[0].message)
        assert "the model is as it was before this fit. If these rows are in order, the" in message
        assert "resume from an earlier one, or fit without resume=." in message
        (note,) = im.last_run.notes
        assert note.startswith("Goes on from step 21 (000001-step-21.npz) at the learning rate 1e+")
        assert note.endswith(", as it was set there.")
    assert same_bits(trained._vi_state, before)
    assert trained.is_fitted()
    assert "per row" not in repr(trained)  # the loss is that of the run, which left it as it was
    assert not fresh.is_fitted()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        go_on(fresh, X, Y, epochs=40)
    assert fresh.last_run.status == "completed"


@pytest.mark.slow
def test_a_state_that_has_no_loss_is_told_from_a_rate_that_is_too_high():
    stops = [StopAfter({20: 1e30}, 21)]
    im = refit(regression_model(), X, Y, callbacks=stops, **{**OPTIONS, "steps_per_call": 1})
    with pytest.warns(FitWarning, match="at step 1 .* the learning rate is not why.* model anew"):
        go_on(im, X, Y)


@pytest.mark.filterwarnings("ignore:The learning rate of the optimizer is")
def test_a_fit_of_no_step_is_no_training_to_go_back_to():
    im = regression_model()
    poisoned = np.where(np.arange(100)[:, None] < 50, np.nan, X)
    with pytest.warns(FitWarning, match="at step 1 .* as it was before this fit"):
        go_on(im, poisoned, Y, allow_nonfinite=True)
    assert "which is not to be used" in diverged(im, {20: 1e20}, go_on)


@pytest.mark.filterwarnings("ignore:The learning rate of the optimizer is")
def test_a_wrecked_state_without_a_posterior_is_told_by_what_wrecked_it():
    def spread(X, y=None):
        sd = numpyro.sample("sd", dist.HalfNormal(1.0))
        with numpyro.plate("row", X.shape[0]):
            numpyro.sample("y", dist.Normal(0.0, sd), obs=y)

    svi = SVI(spread, AutoNormal(spread), numpyro.optim.Adam(1e6), Trace_ELBO())
    im = ImpactModel(spread, jax.random.key(0), svi=svi)
    with pytest.raises(SiteError, match="The fit ended early: the loss was") as raised:
        im.fit(X, 100 * Y, batch_size=20, epochs=4, progress=False)
    assert "which is not to be used" in str(raised.value)
    assert "Posterior draws are NaN or infinite" in str(raised.value)
    assert "lighter tails" not in str(raised.value)
    for call in (im.predict, im.diagnose, lambda X: im.summary()):
        with pytest.raises(NotFittedError, match="and the training diverged after .* a lower"):
            call(X)


def test_an_interrupted_model_says_so(model):
    class Interrupt(Callback):
        def on_steps_end(self, run, steps):
            raise KeyboardInterrupt

    with pytest.warns(FitWarning, match="step 20; the model has the state after it"):
        refit(model, X, Y, callbacks=[Interrupt()], **OPTIONS)
    assert "interrupted after step 20, trained on" in repr(model)
    model.train_on_batch(X, Y, n_obs=100)
    assert "interrupted" not in repr(model)


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf"), 1e99, 1e-60, "fast"])
def test_a_rate_that_no_optimizer_can_have_is_refused(rate):
    control = Control(can_set_learning_rate=True)
    with pytest.raises(ArgumentError, match="positive finite number.*got rate="):
        control.set_learning_rate(rate)
    assert control.requested_learning_rate is None
