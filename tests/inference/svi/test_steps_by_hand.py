"""A step of a hand-written loop either trains on its batch or leaves the model as it was."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from aimz_lab import ImpactModel
from aimz_lab.errors import (
    ArgumentError,
    ArtifactError,
    DataError,
    FitWarning,
    NonFiniteLossError,
    NotFittedError,
)
from aimz_lab.inference.run.skipped_steps import StepsByHand
from tests.kernels import regression, regression_data
from tests.runs import mean_field_model, same_bits

pytestmark = pytest.mark.allow_rank_promotion

X, Y = regression_data(60, 3)


def with_row(value, row=7):
    changed = X.copy()
    changed[row, 1] = value
    return changed


@pytest.fixture(scope="module")
def trained():
    im = mean_field_model(regression)
    with jax.numpy_rank_promotion("allow"):
        im.train_on_batch(X, Y, n_obs=600)
    return im


def known(im):
    """All that a call could change."""
    return [
        jax.random.key_data(im.rng_key).tolist(),
        im.n_obs,
        im.kernel_spec,
        im.input_schema,
        im._vi_state,
        im.vi_result,
        im.posterior,
        im.last_run,
        repr(im),
    ]


def assert_as_before(im, before):
    now = known(im)
    assert same_bits(now[4], before[4])
    assert now[:4] + now[5:] == before[:4] + before[5:]


def test_a_model_of_steps_says_how_many_and_how_its_draws_are_made(trained, tmp_path):
    assert "1 step of train_on_batch on 600 rows" in repr(trained)
    way = r"im.set_posterior_sample\(im.sample\(return_datatree=False\)\)"
    loaded = ImpactModel.load(trained.save(tmp_path / "model"), regression, trained.inference)
    for one in (trained, loaded):
        with pytest.raises(NotFittedError, match=way):
            one.predict(X)
    loaded.set_posterior_sample(loaded.sample(return_datatree=False))
    assert loaded.is_fitted()


@pytest.mark.slow
def test_the_draws_of_a_fit_are_not_those_of_the_loop_after_it(tmp_path):
    im = mean_field_model(regression, numpyro.optim.SGD(1e-5))
    im.fit_on_batch(X, Y, num_steps=2, num_samples=20, progress=False)
    old = im.posterior
    for _ in range(2):
        im.train_on_batch(X, Y, n_obs=60)
    im.save(tmp_path / "model")
    loaded = ImpactModel.load(tmp_path / "model", regression, im.inference)
    calls = {
        "A tree of draws": lambda one: one.posterior_tree,
        "predict": lambda one: one.predict(X),
        "log_likelihood": lambda one: one.log_likelihood(X, Y),
        "summary": lambda one: one.summary(),
        "diagnose": lambda one: one.diagnose(X, Y),
        "estimate_effect": lambda one: one.estimate_effect(
            args_baseline={"X": X}, args_intervention={"X": X}
        ),
        "The model's draws": lambda one: one.posterior,
    }
    for one in (im, loaded):
        assert not one.is_fitted()
        assert "20 posterior draws of before 2 steps of train_on_batch" in repr(one)
        for name, call in calls.items():
            with pytest.raises(NotFittedError, match=f"{name} .*before 2 steps.*im.set_posterior_"):
                call(one)
    assert "loss" not in repr(im)  # the fit's, not the loop's
    assert same_bits(im.vi_result.params, im.inference.get_params(im._vi_state))
    im.set_posterior_sample(im.sample(num_samples=20, return_datatree=False))
    assert im.is_fitted()
    assert not np.array_equal(im.posterior["beta"], old["beta"])
    im.train_on_batch(X, Y)
    assert "20 posterior draws set by hand before 1 step of train_on_batch" in repr(im)
    with pytest.warns(FitWarning, match="were set before 1 step of train_on_batch; im.set_post"):
        im.predict(X, progress=False)
    im.fit_on_batch(X, Y, num_steps=1, num_samples=20, progress=False)
    assert im.is_fitted()


@pytest.mark.slow
def test_draws_are_not_those_of_a_result_set_after_them():
    im = mean_field_model(regression, numpyro.optim.SGD(1e-5))
    im.fit_on_batch(X, Y, num_steps=2, num_samples=20, progress=False)
    im.vi_result = im.vi_result
    with pytest.raises(NotFittedError, match="are of before vi_result was set; im.set_posterior_"):
        im.predict(X)


def with_parameter(X, y=None):
    level = numpyro.param("level", jnp.zeros(()))
    slope = numpyro.sample("slope", dist.Normal())
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(level + slope * X[:, 0], 1e-3), obs=y)


@pytest.mark.slow
def test_predictions_after_a_loop_have_its_parameters():
    im = mean_field_model(with_parameter, numpyro.optim.SGD(1e-9))
    im.train_on_batch(X, np.full(60, 9.0, np.float32), n_obs=60)
    im.set_posterior_sample({"slope": np.zeros(4)})
    level = float(im.inference.get_params(im._vi_state)["level"])
    assert level > 0.1
    drawn = im.predict_on_batch(X).posterior_predictive.y
    np.testing.assert_allclose(drawn, level, atol=0.01)


@pytest.mark.slow
def test_draws_set_by_hand_are_saved_with_their_own_state_alone(tmp_path):
    im = mean_field_model(with_parameter, numpyro.optim.SGD(1e-9))
    im.train_on_batch(X, np.full(60, 9.0, np.float32), n_obs=60)
    im.set_posterior_sample({"slope": np.zeros(4)})
    path = im.save(tmp_path / "model")
    loaded = ImpactModel.load(path, with_parameter, im.inference)
    for one in (im, loaded):
        one.train_on_batch(X, np.full(60, -9.0, np.float32), n_obs=60)
        with pytest.warns(FitWarning, match="were set before 1 step of train_on_batch"):
            one.predict_on_batch(X)
        with pytest.raises(ArtifactError, match="were set before 1 step .* keeps your draws"):
            one.save(path)
        one.set_posterior_sample(one.posterior)
        assert one.save(path) == path


@pytest.mark.slow
@pytest.mark.parametrize(
    "n_pad",
    [-5, -1, 60, 600, 1.5, 0.0, True, False, "3", None, np.array([1]), np.array(1), float("nan")],
)
@pytest.mark.parametrize("first", [True, False])
def test_a_number_of_padded_rows_that_cannot_be_is_refused(trained, n_pad, first):
    im = mean_field_model(regression) if first else trained
    before = known(im)
    with pytest.raises(ArgumentError, match=r"n_pad must be .* from 0 to 59 for its 60 rows; got"):
        im.train_on_batch(X, Y, n_obs=700, n_pad=n_pad)
    assert_as_before(im, before)


@pytest.mark.slow
def test_padded_rows_do_not_count():
    padded, alone = mean_field_model(regression), mean_field_model(regression)
    _, loss = padded.train_on_batch(X, Y, n_obs=60, n_pad=np.int64(59))
    _, expected = alone.train_on_batch(X[:1], Y[:1], n_obs=60)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("first", [True, False])
def test_a_batch_that_is_not_finite_is_refused(trained, value, first):
    im = mean_field_model(regression) if first else trained
    before = known(im)
    with pytest.raises(DataError, match="'X' has 1 row with NaN or infinite.*row 7, position 1"):
        im.train_on_batch(with_row(value), Y, n_obs=700)
    with pytest.raises(DataError, match="'y' has 1 row"):
        im.train_on_batch(X, np.where(np.arange(60) == 3, value, Y), n_obs=700)
    with pytest.raises(NonFiniteLossError, match=r"the loss was .* after a step on this batch \(X"):
        im.train_on_batch(with_row(value), Y, n_obs=700, allow_nonfinite=True)
    assert_as_before(im, before)
    state, loss = im.train_on_batch(X, Y, n_obs=600)
    assert np.isfinite(loss)
    assert state is im._vi_state


@pytest.mark.slow
def test_parameters_that_are_not_finite_count_though_the_loss_is():
    im = mean_field_model(regression, numpyro.optim.SGD(1e38))
    before = known(im)
    with pytest.raises(NonFiniteLossError, match="the parameters were not finite after a step"):
        im.train_on_batch(X, Y, n_obs=60)
    assert_as_before(im, before)


def test_a_bad_step_can_be_left_out(trained):
    before = trained._vi_state
    state, loss = trained.train_on_batch(
        with_row(np.nan), Y, allow_nonfinite=True, on_nonfinite="skip"
    )
    assert np.isnan(loss)
    assert same_bits(state.optim_state, before.optim_state)
    assert not same_bits(state.rng_key, before.rng_key)
    steep = mean_field_model(regression, numpyro.optim.SGD(1e38))
    state, loss = steep.train_on_batch(X, Y, n_obs=60, on_nonfinite="skip")
    assert np.isnan(loss)  # a step that was left out has none
    assert all(np.isfinite(value).all() for value in steep.inference.get_params(state).values())
    with pytest.raises(ArgumentError, match="on_nonfinite='stop' is not known"):
        trained.train_on_batch(X, Y, on_nonfinite="stop")


def test_a_loop_that_skipped_nearly_all_steps_has_no_draws(tmp_path):
    im = mean_field_model(regression)
    bad = {"X": with_row(np.nan), "y": Y, "allow_nonfinite": True, "on_nonfinite": "skip"}
    for _ in range(10):
        im.train_on_batch(**bad, n_obs=60)
    match = "^sample needs a guide, and the training skipped 10 of 10 steps, as their loss or"
    with pytest.raises(NotFittedError, match=match):
        im.sample()
    again = ImpactModel.load(im.save(tmp_path / "model"), regression, svi=im.inference)
    with pytest.raises(NotFittedError, match=r"skipped 10 of 10 steps.* or scaled inputs\.$"):
        again.sample()
    im.train_on_batch(X, Y)
    im.train_on_batch(X, Y)
    assert im.sample(num_samples=3, return_datatree=False)["beta"].shape == (3, 3)
    for _ in range(64):  # that many judge a state
        im.train_on_batch(**bad)
    with pytest.raises(NotFittedError, match="skipped 74 of 76 steps"):
        im.sample()


@pytest.mark.parametrize(
    ("ok", "is_sound"),
    [
        ([True] * 3 + [False] * 5, True),
        ([False] * 8 + [True], True),
        ([False] * 10 + [True], False),
        ([True] * 400 + [False] * 64, False),
        ([True] * 400 + [False] * 63 + [None], True),
    ],
)
def test_too_many_skipped_steps_are_as_of_a_fit(ok, is_sound):
    steps = StepsByHand()
    for each in ok:
        steps = steps.then(each if each is None else jnp.asarray(each))
    assert (steps.ending == "") == is_sound


def masked(X, y=None):
    """A kernel that takes missing outputs."""
    beta = numpyro.sample("beta", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
    seen = None if y is None else ~jnp.isnan(y)
    with numpyro.plate("obs", X.shape[0]), numpyro.handlers.mask(mask=True if y is None else seen):
        numpyro.sample(
            "y", dist.Normal(X @ beta, 1.0), obs=None if y is None else jnp.nan_to_num(y)
        )


@pytest.mark.slow
def test_a_kernel_that_handles_missing_values_gets_them():
    im = mean_field_model(masked)
    state, loss = im.train_on_batch(
        X, np.where(np.arange(60) < 9, np.nan, Y), n_obs=60, allow_nonfinite=True
    )
    assert np.isfinite(loss)
    assert state is im._vi_state


@pytest.mark.slow
def test_a_step_is_that_of_numpyro():
    im = mean_field_model(regression)
    before, _ = im.train_on_batch(X, Y, n_obs=60)
    state, loss = im.train_on_batch(X, Y, n_obs=60)
    expected, its_loss = jax.jit(im.inference.update)(before, X=X, y=Y)
    np.testing.assert_allclose(loss, its_loss, rtol=1e-5)
    for one, other in zip(jax.tree.leaves(state[0]), jax.tree.leaves(expected[0]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
