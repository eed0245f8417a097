"""Kernels of many shapes: arguments, outputs, plates and sites that predictions must get right."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer.util import log_likelihood

from aimz_lab.errors import SiteError
from aimz_lab.predictive import Predictor
from tests.predictive.models import draws_of_linear, inputs, linear, request_of

PREDICTOR = Predictor()
N = 300


def test_double_precision_input():
    draws, X = draws_of_linear(6), inputs(N).astype(np.float64)
    got = PREDICTOR.predict_arrays(request_of(rows={"X": X}, draws=draws))
    assert got["y"].dtype == np.float32
    np.testing.assert_allclose(got["mu"], draws["b"] @ X.T, atol=1e-5)


def test_vectors_and_dicts_of_arrays_pass_whole():
    def kernel(X, knots, extra, degree, y=None):
        b = numpyro.sample("b", dist.Normal())
        basis = (X[:, :1] - knots[None]) ** degree
        numpyro.deterministic("mu", b * basis.sum(1) + extra["shift"][0])
        with numpyro.plate("data", len(X)):
            numpyro.sample("y", dist.Normal(0.0, 1.0), obs=y)

    draws, X, knots = {"b": np.ones(4, np.float32)}, inputs(N), np.float32([0.1, 0.7])
    request = request_of(
        kernel,
        {"X": X},
        draws=draws,
        shared={"knots": knots, "extra": {"shift": np.float32([2.0])}},
        static={"degree": 2, "y": None},
    )
    expected = ((X[:, :1] - knots) ** 2).sum(1) + 2
    np.testing.assert_allclose(PREDICTOR.predict_arrays(request)["mu"][3], expected, rtol=1e-4)


def test_a_static_value_is_part_of_the_program():
    def kernel(X, power, y=None):
        with numpyro.plate("data", len(X)):
            numpyro.sample("y", dist.Delta(X[:, 0] ** power), obs=y)

    X = inputs(N)
    for power in (1, 2, 3):
        request = request_of(kernel, {"X": X}, num_draws=2, static={"power": power, "y": None})
        got = PREDICTOR.predict_arrays(request)["y"]
        np.testing.assert_allclose(got[0], X[:, 0] ** power, rtol=1e-5, atol=1e-6)


def vector_output(X, y=None):
    mean = numpyro.sample("mean", dist.Normal().expand([2]).to_event(1))
    with numpyro.plate("data", len(X)):
        loc = X[:, :2] + mean[None]
        numpyro.sample("y", dist.Normal(loc, 1.0).to_event(1), obs=y)


@pytest.mark.slow
def test_vector_outputs_and_their_log_likelihood():
    draws = {"mean": np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)}
    X = inputs(N)
    tree = PREDICTOR.predict(request_of(vector_output, {"X": X}, draws=draws))
    assert tree["posterior_predictive"]["y"].dims == ("chain", "draw", "data", "y_dim_1")
    request = request_of(vector_output, {"X": X, "y": X[:, 1:]}, static={}, draws=draws)
    got = PREDICTOR.log_likelihood(request)["posterior_predictive"]["y"]
    assert got.dims == ("chain", "draw", "data")
    expected = log_likelihood(vector_output, draws, X=X, y=X[:, 1:])["y"]
    np.testing.assert_allclose(got[0], expected, rtol=1e-5, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("n_rows", [50, 100, 700])
def test_kernels_written_for_minibatches(n_rows):
    def kernel(X, y=None):
        b = numpyro.sample("b", dist.Normal())
        size = max(100, X.shape[0])  # new rows may be more than those of the training
        with numpyro.plate("data", size, subsample_size=X.shape[0]):
            numpyro.sample("y", dist.Normal(b * X[:, 0], 1e-4), obs=y)

    draws, X = {"b": np.float32([1, 2])}, inputs(n_rows)
    got = PREDICTOR.predict_arrays(request_of(kernel, {"X": X}, draws=draws))["y"]
    np.testing.assert_allclose(got, draws["b"][:, None] * X[:, 0], atol=1e-2)


@pytest.mark.slow
def test_latents_per_row_are_drawn_with_their_row():
    def kernel(X, y=None):
        with numpyro.plate("data", len(X)):
            z = numpyro.sample("z", dist.Normal(X[:, 0], 1.0))
            numpyro.deterministic("twice", 2 * z)
            numpyro.sample("y", dist.Normal(z, 1e-4), obs=y)

    request = request_of(kernel, {"X": inputs(700)}, num_draws=50, return_sites=("z", "twice", "y"))
    got = PREDICTOR.predict_arrays(request)
    np.testing.assert_allclose(got["twice"], 2 * got["z"], rtol=1e-6)
    np.testing.assert_allclose(got["y"], got["z"], atol=1e-2)


def test_learned_params_are_used():
    def kernel(X, y=None):
        level = numpyro.param("level", 0.0)
        with numpyro.plate("data", len(X)):
            numpyro.sample("y", dist.Normal(level, 1e-4), obs=y)

    request = request_of(kernel, {"X": inputs(N)}, num_draws=3, params={"level": jnp.float32(5)})
    np.testing.assert_allclose(PREDICTOR.predict_arrays(request)["y"], 5, atol=1e-2)


def test_a_conditioned_site_takes_its_value_but_never_silently_from_the_posterior():
    def kernel(X, y=None):
        b = numpyro.sample("b", dist.Normal())
        with numpyro.plate("data", len(X)):
            z = numpyro.sample("z", dist.Normal(b, 1.0))
            numpyro.sample("y", dist.Normal(z, 1e-4), obs=y)

    values = np.arange(N, dtype=np.float32)
    given = {"draws": {"b": np.float32([7, 7])}, "condition": {"z": values, "b": 0}}
    with pytest.raises(SiteError, match="condition sets 'b', of which the posterior holds draws"):
        PREDICTOR.predict(request_of(kernel, {"X": inputs(N)}, **given))
    request = request_of(kernel, {"X": inputs(N)}, held="keep", **given)
    got = PREDICTOR.predict(request)["posterior_predictive"]["y"].values[0]
    np.testing.assert_allclose(got, np.stack([values, values]), atol=1e-2)
    wrong = request_of(
        kernel, {"X": inputs(N)}, draws={"b": np.float32([7, 7])}, condition={"z": values[:9]}
    )
    with pytest.raises(SiteError, match=r"'z' has shape \(9,\).*\(300,\)"):
        PREDICTOR.predict(wrong)


@pytest.mark.slow
def test_discrete_outputs():
    def kernel(X, y=None):
        with numpyro.plate("data", len(X)):
            numpyro.sample("y", dist.Poisson(jnp.exp(X[:, 0])), obs=y)

    X = inputs(N)
    got = PREDICTOR.predict_arrays(request_of(kernel, {"X": X}, num_draws=2000))["y"]
    assert got.dtype.kind == "i"
    error = np.abs(got.mean(0) - np.exp(X[:, 0])) / np.sqrt(np.exp(X[:, 0]) / 2000)
    assert error.max() < 5


def test_progress_prints_only_when_asked(capfd, monkeypatch):
    monkeypatch.setattr("aimz_lab.progress.NEW_LINE_S", 0.0)
    draws = draws_of_linear(4)
    PREDICTOR.predict(request_of(linear, draws=draws))
    assert capfd.readouterr() == ("", "")
    PREDICTOR.predict(request_of(linear, draws=draws, progress=True))
    assert "row 300 of 300 · " in capfd.readouterr().err


@pytest.mark.slow
def test_calls_from_two_threads_agree():
    from concurrent.futures import ThreadPoolExecutor

    draws = draws_of_linear(8)
    requests = [request_of(rows={"X": inputs(n)}, draws=draws) for n in (300, 900, 300, 900)]
    alone = [Predictor().predict_arrays(request)["y"] for request in requests[:2]]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda one: Predictor().predict_arrays(one)["y"], requests))
    for got, expected in zip(together, 2 * alone, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_jax_arrays_as_draws():
    draws = {name: jax.numpy.asarray(values) for name, values in draws_of_linear(5).items()}
    got = PREDICTOR.predict_arrays(request_of(draws=draws))
    np.testing.assert_allclose(got["mu"], draws["b"] @ inputs(300).T, atol=1e-5)


@pytest.mark.parametrize("shard_axis", ["obs", "draw"])
def test_a_site_whose_rows_have_no_values(shard_axis):
    def kernel(X, y=None):
        b = numpyro.sample("b", dist.Normal())
        numpyro.deterministic("none", jnp.zeros((len(X), 0)))
        with numpyro.plate("data", len(X)):
            numpyro.sample("y", dist.Normal(b, 1.0), obs=y)

    draws, asked = {"b": np.ones(4, np.float32)}, {"shard_axis": shard_axis}
    request = request_of(kernel, {"X": inputs(N)}, draws=draws, return_sites=("none", "y"), **asked)
    got = PREDICTOR.predict_arrays(request)
    assert (got["none"].shape, got["y"].shape) == ((4, N, 0), (4, N))
