"""What each keyword of the model's methods changes, said at the façade."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from aimz_lab import ImpactModel, open_results
from aimz_lab.errors import DataError, NonFiniteLossError
from aimz_lab.lab import ModelCheckpoint
from tests.kernels import linked
from tests.runs import mean_field, mean_field_model, regression_model

pytestmark = pytest.mark.allow_rank_promotion  # NumPyro's Normal, drawn with a sample shape

N_ROWS, N_DRAWS = 12, 20
_rng = np.random.default_rng(0)
X = _rng.normal(size=(N_ROWS, 2)).astype(np.float32)
SIZE = np.arange(N_ROWS, dtype=np.float32)
Y = (X.sum(1) + SIZE).astype(np.float32)
DRAWS = {"slope": _rng.normal(size=(N_DRAWS, 2)).astype(np.float32)}
MU = DRAWS["slope"] @ X.T + SIZE
# `batch_size` is a column of the data here, and an option of the methods.
SIZES = {"batch_size": SIZE}


def kernel(X, batch_size, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with numpyro.plate("row", X.shape[0]):
        parts = numpyro.deterministic("parts", X * slope)
        mu = numpyro.deterministic("mu", parts.sum(-1) + batch_size)
        numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)


@pytest.fixture(scope="module")
def im():
    """A model with draws from outside, which no test changes."""
    return mean_field_model(kernel).set_posterior_sample(DRAWS)


def values(tree, site="mu", group="posterior_predictive"):
    return tree[group][site].values[0]


@pytest.mark.slow
def test_an_argument_whose_name_is_taken(im):
    quiet = {"progress": False, "return_sites": "mu"}
    np.testing.assert_allclose(
        values(im.predict(X, kernel_kwargs=SIZES, **quiet)), MU, rtol=1e-5, atol=1e-5
    )
    on_batch = im.predict_on_batch(X, kernel_kwargs=SIZES, return_sites="mu", return_datatree=False)
    np.testing.assert_allclose(on_batch["mu"], MU, rtol=1e-5, atol=1e-5)
    zeros = {"slope": np.zeros(2, np.float32)}
    prior = im.sample_prior_predictive(
        X, num_samples=3, kernel_kwargs=SIZES, intervention=zeros, **quiet
    )
    np.testing.assert_allclose(values(prior, group="prior_predictive"), [SIZE] * 3)
    prior = im.sample_prior_predictive_on_batch(
        X, num_samples=3, kernel_kwargs=SIZES, intervention=zeros, return_sites="mu"
    )
    np.testing.assert_allclose(values(prior, group="prior_predictive"), [SIZE] * 3)


@pytest.mark.slow
def test_an_argument_whose_name_is_taken_trains():
    im = mean_field_model(kernel)
    im.train_on_batch(X, Y, n_obs=N_ROWS, rng_key=jax.random.key(5), kernel_kwargs=SIZES)
    again = mean_field_model(kernel)
    again.train_on_batch(X, Y, n_obs=N_ROWS, rng_key=jax.random.key(5), kernel_kwargs=SIZES)
    other = mean_field_model(kernel)
    other.train_on_batch(X, Y, n_obs=N_ROWS, rng_key=jax.random.key(6), kernel_kwargs=SIZES)
    first, same, differs = (
        model.inference.get_params(model._vi_state)["slope_auto_loc"]
        for model in (im, again, other)
    )
    assert (first == same).all()
    assert not (first == differs).all()
    im.fit_on_batch(X, Y, num_steps=200, steps_per_call=200, kernel_kwargs=SIZES, progress=False)
    np.testing.assert_allclose(im.posterior["slope"].mean(0), [1, 1], atol=0.4)


def test_names_of_dimensions_and_labels(im):
    dims, coords = {"parts": ["feature"], "slope": ["feature"]}, {"feature": ["age", "weight"]}
    whole = im.predict(
        X,
        dims=dims,
        coords=coords,
        kernel_kwargs=SIZES,
        return_sites="parts",
        progress=False,
    )
    batch = im.predict_on_batch(
        X,
        dims=dims,
        coords=coords,
        kernel_kwargs=SIZES,
        return_sites=["parts"],
    )
    for tree in (whole, batch):
        parts = tree["posterior_predictive"]["parts"].sel(feature="weight")
        np.testing.assert_allclose(parts[0], DRAWS["slope"][:, 1:] * X[:, 1], rtol=1e-5)
        assert tree["posterior"]["slope"].dims == ("chain", "draw", "feature")


def test_names_of_dimensions_and_labels_of_the_prior_and_the_likelihood(im):
    dims, coords = {"parts": ["feature"], "slope": ["feature"]}, {"feature": ["age", "weight"]}
    whole = im.sample_prior_predictive(
        X,
        num_samples=2,
        dims=dims,
        coords=coords,
        kernel_kwargs=SIZES,
        return_sites=["parts"],
        progress=False,
    )
    batch = im.sample_prior_predictive_on_batch(
        X, num_samples=2, dims=dims, coords=coords, kernel_kwargs=SIZES, return_sites=["parts"]
    )
    for tree in (whole, batch):
        parts = tree["prior_predictive"]["parts"]
        assert parts.dims == ("chain", "draw", "row", "feature")
        assert parts["feature"].values.tolist() == ["age", "weight"]
    scores = im.log_likelihood(X, Y, dims=dims, coords=coords, kernel_kwargs=SIZES, progress=False)
    assert scores["posterior"]["slope"]["feature"].values.tolist() == ["age", "weight"]


def test_group_store_and_summary(im):
    new = im.predict(
        X, in_sample=False, reduce="mean", kernel_kwargs=SIZES, return_sites="mu", progress=False
    )
    means = new["predictions"]["mu_mean"]
    np.testing.assert_allclose(means, MU.mean(0), rtol=1e-4, atol=1e-4)
    kept = im.sample_posterior_predictive(X, store="memory", kernel_kwargs=SIZES, progress=False)
    assert "artifact_path" not in kept.attrs
    prior = im.sample_prior_predictive(
        X,
        intervention={"slope": np.float32([2, 0])},
        num_samples=5,
        reduce="mean",
        kernel_kwargs=SIZES,
        return_sites="mu",
        progress=False,
    )
    means = prior["prior_predictive"]["mu_mean"]
    np.testing.assert_allclose(means, 2 * X[:, 0] + SIZE, rtol=1e-5)


def test_a_batch_is_intervened_on_and_conditioned(im):
    zeros = {"slope": np.zeros(2, np.float32)}
    cut = im.predict_on_batch(X, intervention=zeros, kernel_kwargs=SIZES, return_sites="mu")
    np.testing.assert_allclose(values(cut), [SIZE] * N_DRAWS)
    held = im.predict_on_batch(X, condition={"y": Y}, kernel_kwargs=SIZES, return_sites="y")
    np.testing.assert_allclose(values(held, "y"), [Y] * N_DRAWS)


def _log_density():
    return -0.5 * (Y - MU) ** 2 - 0.5 * np.log(2 * np.pi)


def test_the_likelihood_does_not_depend_on_how_it_is_computed(im, tmp_path):
    by_rows = im.log_likelihood(X, Y, batch_size=5, kernel_kwargs=SIZES, progress=False)
    by_draws = im.log_likelihood(X, Y, shard_axis="draw", kernel_kwargs=SIZES, progress=False)
    stored = im.log_likelihood(X, Y, output_dir=tmp_path, kernel_kwargs=SIZES, progress=False)
    for tree in (by_rows, by_draws, open_results(stored.attrs["artifact_path"])):
        got = values(tree, "y", "log_likelihood")
        np.testing.assert_allclose(got, _log_density(), rtol=1e-4, atol=1e-4)
    reduced = im.log_likelihood(X, Y, reduce="mean", kernel_kwargs=SIZES, progress=False)
    np.testing.assert_allclose(
        reduced["log_likelihood"]["y_mean"], _log_density().mean(0), rtol=1e-4, atol=1e-4
    )


@pytest.mark.slow
def test_prior_predictions_are_cut_and_stored_as_asked(im, tmp_path):
    asked = {"num_samples": 4, "kernel_kwargs": SIZES, "progress": False}
    key = jax.random.key(3)
    whole = im.sample_prior_predictive(X, rng_key=key, **asked)
    cut = im.sample_prior_predictive(X, rng_key=key, batch_size=5, output_dir=tmp_path, **asked)
    again = open_results(cut.attrs["artifact_path"])
    np.testing.assert_allclose(
        values(again, "y", "prior_predictive"), values(whole, "y", "prior_predictive"), rtol=1e-5
    )
    together = im.sample_prior_predictive(X, rng_key=key, shard_axis="draw", **asked)
    assert together["prior_predictive"].attrs["shard_axis"] == "draw"


HOLE = np.where(np.arange(N_ROWS)[:, None] == 3, np.nan, X).astype(np.float32)


CALLS = {
    "predict": lambda im, allow: im.predict(
        HOLE, allow_nonfinite=allow, kernel_kwargs=SIZES, progress=False
    ),
    "predict_on_batch": lambda im, allow: im.predict_on_batch(
        HOLE, allow_nonfinite=allow, kernel_kwargs=SIZES
    ),
    "sample_prior_predictive": lambda im, allow: im.sample_prior_predictive(
        HOLE, num_samples=2, allow_nonfinite=allow, kernel_kwargs=SIZES, progress=False
    ),
    "sample_prior_predictive_on_batch": lambda im, allow: im.sample_prior_predictive_on_batch(
        HOLE, num_samples=2, allow_nonfinite=allow, kernel_kwargs=SIZES
    ),
    "log_likelihood": lambda im, allow: im.log_likelihood(
        HOLE, Y, allow_nonfinite=allow, kernel_kwargs=SIZES, progress=False
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_values_that_are_not_finite_only_at_ones_word(im, call):
    with pytest.raises(DataError, match="allow_nonfinite"):
        CALLS[call](im, allow=False)
    tree = CALLS[call](im, allow=True)
    groups = ("posterior_predictive", "prior_predictive", "log_likelihood")
    (group,) = [name for name in groups if name in tree]
    assert np.isnan(values(tree, "y", group)).any(0).nonzero()[0].tolist() == [3]


def test_an_effect_of_batches(im):
    scenarios = [
        {"X": X, "kernel_kwargs": {"batch_size": size}, "return_sites": "mu"}
        for size in (SIZE, SIZE + 2)
    ]
    effect = im.estimate_effect(
        args_baseline=scenarios[0], args_intervention=scenarios[1], on_batch=True
    )
    np.testing.assert_allclose(values(effect), 2, atol=1e-4)


def gappy(features, outcome=None):
    """The mean of an output, of which some values are missing."""
    level = numpyro.sample("level", dist.Normal(0.0, 10.0))
    spread = numpyro.sample("spread", dist.LogNormal(0.0, 0.1))
    seen = jnp.ones(len(features), bool) if outcome is None else ~jnp.isnan(outcome)
    outcome = None if outcome is None else jnp.where(seen, outcome, 0.0)
    with numpyro.plate("row", len(features)), numpyro.handlers.mask(mask=seen):
        numpyro.sample("outcome", dist.Normal(level, spread), obs=outcome)


def gappy_model():
    svi = mean_field(gappy, numpyro.optim.Adam(0.1))
    return ImpactModel(
        gappy, jax.random.key(0), svi=svi, param_input="features", param_output="outcome"
    )


GAPS = np.where(np.arange(N_ROWS) % 3 == 0, np.nan, 5.0).astype(np.float32)


@pytest.mark.slow
def test_arguments_by_other_names_with_values_missing():
    im = gappy_model()
    with pytest.raises(DataError, match="allow_nonfinite"):
        im.fit(X, GAPS, epochs=1, progress=False)
    im.fit(X, GAPS, allow_nonfinite=True, epochs=1, progress=False)
    assert np.isfinite(im.last_run.losses).all()
    im.fit_on_batch(
        X, GAPS, allow_nonfinite=True, num_steps=200, steps_per_call=200, progress=False
    )
    np.testing.assert_allclose(im.posterior["level"].mean(), 5, atol=0.5)
    assert list(im.sample(return_sites="spread", return_datatree=False)) == ["spread"]
    assert im.predict_on_batch(X)["posterior_predictive"]["outcome"].shape == (1, 1000, N_ROWS)


@pytest.mark.filterwarnings("ignore:.* rows in validation= look like rows that the model")
@pytest.mark.slow
def test_validation_now_and_then_and_rows_weighted_as_written():
    im = regression_model()
    im.fit(X, Y, batch_size=6, epochs=4, validation=(X, Y), validation_every=2, progress=False)
    assert [step for step, _ in im.last_run.validation] == [4, 8]
    scaled = np.mean(im.last_run.losses)
    plain = regression_model().fit(X, Y, batch_size=6, epochs=4, scale="none", progress=False)
    assert np.mean(plain.last_run.losses) < 0.75 * scaled


@pytest.mark.slow
def test_all_rows_go_on_from_a_checkpoint_and_stop_at_infinity(tmp_path):
    im = regression_model()
    kept = [ModelCheckpoint(tmp_path)]
    im.fit_on_batch(X, Y, num_steps=30, callbacks=kept, progress=False)
    again = regression_model()
    again.fit_on_batch(X, Y, num_steps=50, resume=tmp_path, progress=False)
    assert (again.last_run.resumed_at, again.last_run.step) == (30, 50)
    huge = np.full_like(Y, 3e38)
    with pytest.raises(NonFiniteLossError):
        im.fit_on_batch(X, huge, num_steps=5, on_nonfinite="raise", progress=False)


@pytest.mark.slow
def test_a_model_is_loaded_onto_a_device_with_the_code_of_its_arguments(tmp_path):
    im = mean_field_model(linked)
    im.fit(X, Y, link=jnp.tanh, epochs=2, progress=False)
    loaded = ImpactModel.load(
        im.save(tmp_path / "model"),
        linked,
        svi=mean_field(linked),
        device=jax.devices()[0],
        kernel_kwargs={"link": jnp.tanh},
    )
    key = jax.random.key(1)
    mine, its = (
        model.predict(X, link=jnp.tanh, rng_key=key, progress=False) for model in (im, loaded)
    )
    np.testing.assert_allclose(values(its, "y"), values(mine, "y"), rtol=1e-6)
