"""Predictions and log-likelihoods against closed forms and NumPyro's own functions."""

from __future__ import annotations

import copy
import pickle

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import Predictive
from numpyro.infer.util import log_likelihood

from aimz_lab.data import RowCoord
from aimz_lab.errors import SiteError
from aimz_lab.predictive import Predictor
from tests.predictive.models import draws_of_linear, inputs, linear, request_of
from tests.runs import compilations


def test_deterministic_sites_are_the_closed_form():
    draws = draws_of_linear()
    X = inputs(300)
    got = Predictor().predict_arrays(request_of(rows={"X": X}, draws=draws))
    np.testing.assert_allclose(got["mu"], draws["b"] @ X.T, atol=1e-5)


@pytest.mark.slow
def test_noise_is_standard_normal_and_independent_by_row_and_draw():
    draws = draws_of_linear(n_draws=200)
    got = Predictor().predict_arrays(request_of(rows={"X": inputs(600)}, draws=draws))
    noise = (got["y"] - got["mu"]) / draws["sigma"][:, None]
    assert abs(noise.mean()) < 4 / np.sqrt(noise.size)
    assert abs(noise.var() - 1) < 4 * np.sqrt(2 / noise.size)
    by_row = np.corrcoef(noise.T) - np.eye(600)
    by_draw = np.corrcoef(noise) - np.eye(200)
    assert np.abs(by_row).max() < 6 / np.sqrt(200)
    assert np.abs(by_draw).max() < 6 / np.sqrt(600)
    assert len(np.unique(noise)) > 0.99 * noise.size  # no block repeats another's noise


@pytest.mark.slow
def test_moments_agree_with_numpyro():
    draws, X = draws_of_linear(n_draws=500), inputs(50)
    ours = Predictor().predict_arrays(request_of(rows={"X": X}, draws=draws))
    theirs = Predictive(linear, draws)(jax.random.key(1), X)
    np.testing.assert_allclose(ours["mu"], theirs["mu"], atol=1e-5)
    np.testing.assert_allclose(ours["y"].mean(0), theirs["y"].mean(0), atol=0.35)
    np.testing.assert_allclose(ours["y"].std(0), theirs["y"].std(0), rtol=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("n_rows", [1, 255, 256, 257, 700])
def test_log_likelihood_is_numpyros(n_rows):
    draws, X = draws_of_linear(), inputs(n_rows)
    y = X[:, 0] + 0.1
    tree = Predictor().log_likelihood(
        request_of(rows={"X": X, "y": y}, static={}, draws=draws, group="log_likelihood")
    )
    expected = log_likelihood(linear, draws, X=X, y=y)["y"]
    got = tree["log_likelihood"]["y"]
    assert got.dims == ("chain", "draw", "data")
    np.testing.assert_allclose(got.values[0], expected, rtol=1e-4, atol=1e-4)


def test_log_likelihood_refuses_data_that_broadcasts():
    request = request_of(
        rows={"X": inputs(20), "y": np.zeros((20, 1), np.float32)},
        static={},
        draws=draws_of_linear(),
    )
    with pytest.raises(SiteError, match=r"\(n, 1\) and its distribution \(n,\)"):
        Predictor().log_likelihood(request)


@pytest.mark.slow
def test_prior_shares_globals_among_blocks():
    request = request_of(rows={"X": np.ones((600, 1), np.float32)}, num_draws=300)
    got = Predictor().predict_arrays(request)
    assert np.ptp(got["mu"], axis=1).max() < 1e-6  # one slope a draw, in every block
    assert abs(got["mu"][:, 0].std() - 1) < 0.2


def test_chains_are_kept_and_dims_named_by_plates():
    draws = draws_of_linear(n_draws=40)
    tree = Predictor().predict(
        request_of(draws=draws, num_chains=4, row_coord=RowCoord(None, np.arange(300) * 10))
    )
    y = tree["posterior_predictive"]["y"]
    assert dict(y.sizes) == {"chain": 4, "draw": 10, "data": 300}
    assert y["data"].values[2] == 20
    arrays = Predictor().predict_arrays(request_of(draws=draws))
    np.testing.assert_array_equal(y.values.reshape(40, 300), arrays["y"])
    np.testing.assert_array_equal(tree["posterior"]["sigma"].values.ravel(), draws["sigma"])


@pytest.mark.slow
def test_global_deterministic_comes_once_a_draw():
    def kernel(X, y=None):
        b = numpyro.sample("b", dist.Normal())
        numpyro.deterministic("twice", 2 * b)
        numpyro.deterministic("both", b * np.ones(3, np.float32))
        with numpyro.plate("rows", len(X)):
            numpyro.sample("y", dist.Normal(b * X, 1.0), obs=y)

    draws = {"b": np.linspace(-1, 1, 10, dtype=np.float32)}
    got = Predictor().predict(request_of(kernel, {"X": np.ones(700, np.float32)}, draws=draws))[
        "posterior_predictive"
    ]
    assert dict(got.sizes) == {"chain": 1, "draw": 10, "rows": 700, "both_dim_0": 3}
    np.testing.assert_allclose(got["twice"].values[0], 2 * draws["b"])


@pytest.mark.slow
def test_a_second_call_compiles_nothing():
    predictor, draws = Predictor(), draws_of_linear()
    predictor.predict(request_of(draws=draws))
    with compilations() as seen:
        predictor.predict(request_of(rows={"X": inputs(300)[::-1]}, draws=draws))
        assert not seen
        predictor.predict(request_of(rows={"X": inputs(290, 2)}, draws=draws_of_linear(40, 2)))
        assert seen  # it hears what compiles


def test_predictor_pickles_what_it_knows_of_the_kernel_alone():
    predictor = Predictor()
    predictor.predict(request_of(draws=draws_of_linear()))
    for other in (pickle.loads(pickle.dumps(predictor)), copy.deepcopy(predictor)):
        assert isinstance(other, Predictor)
        assert other.spec == predictor.spec
    assert len(pickle.dumps(predictor)) == len(pickle.dumps(Predictor(predictor.spec)))


@pytest.mark.parametrize(
    "options",
    [
        {"intervention": {"sigm": 1.0}},
        {"condition": {"mu_": 1.0}},
        {"return_sites": ("nothing",)},
    ],
)
def test_unknown_sites_are_named_with_the_known(options):
    with pytest.raises(SiteError, match=r"sites are 'b', 'sigma'"):
        Predictor().predict(request_of(draws=draws_of_linear(), **options))


def test_posterior_that_does_not_fit_names_both_shapes():
    with pytest.raises(SiteError, match=r"'b' has shape \(4,\).*\(3,\)"):
        Predictor().predict(request_of(draws=draws_of_linear(n_features=4)))
