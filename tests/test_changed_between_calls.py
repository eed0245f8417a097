"""A value that the kernel reads and that changes between two calls is never that of before."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from numpyro.infer import HMC, MCMC, SVI, Predictive, Trace_ELBO
from numpyro.infer.autoguide import AutoMultivariateNormal, AutoNormal
from numpyro.infer.util import log_likelihood

from aimz_lab import ImpactModel
from aimz_lab.errors import GuideError
from tests.predictive.test_held_sites import drawn, model

X = np.arange(1, 7, dtype=np.float32)
FACTOR = 1.0


def scaled(x):
    return FACTOR * x


def step(total, x):
    return total + FACTOR * x, FACTOR * x


def read_global(X):
    return FACTOR * X


def read_scan(X):
    return jax.lax.scan(step, 0.0, X)[1]


def read_branch(X):
    return jax.lax.cond(X[0] > 0, scaled, scaled, X)


read_jit = jax.jit(scaled)


def kernel_of(read):
    def kernel(X, y=None):
        b = numpyro.sample("b", dist.Normal(0.0, 1.0))
        with numpyro.plate("row", X.shape[0]):
            mu = numpyro.deterministic("mu", b * read(X))
            numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)

    return kernel


@pytest.mark.slow
@pytest.mark.parametrize("read", [read_global, read_scan, read_branch, read_jit])
@pytest.mark.filterwarnings("ignore::aimz_lab.errors.PerformanceWarning")
def test_predictions_take_the_value_of_now(read, monkeypatch):
    im = model(kernel_of(read), {"b": np.float32([1, 2])})
    for factor in (1.0, 3.0, 1.0):
        monkeypatch.setattr("tests.test_changed_between_calls.FACTOR", factor)
        got = drawn(im, X, "mu")
        np.testing.assert_allclose(got, factor * np.outer([1, 2], X), rtol=1e-5)


@pytest.mark.slow
def test_log_likelihoods_and_effects_take_the_value_of_now():
    settings = {"scale": 1.0, "shift": np.zeros(6, np.float32)}

    def kernel(X, y=None):
        b = numpyro.sample("b", dist.Normal(0.0, 1.0))
        with numpyro.plate("row", X.shape[0]):
            mu = numpyro.deterministic("mu", b * settings["scale"] * X)
            numpyro.sample("y", dist.Normal(mu + settings["shift"][0], 1.0), obs=y)

    draws = {"b": np.float32([1, 2])}
    im = model(kernel, draws)
    for scale, shift in ((1.0, 0.0), (2.0, 0.0), (2.0, 5.0)):
        settings["scale"] = scale
        settings["shift"][0] = shift
        got = im.log_likelihood(X, X, progress=False)["log_likelihood"]["y"].values[0]
        expected = log_likelihood(kernel, draws, X, y=X)["y"]
        np.testing.assert_allclose(got, expected, rtol=1e-5)
        options = {"X": X, "return_sites": "mu"}
        effect = im.estimate_effect(
            args_baseline={**options, "intervention": {"b": 0.0}},
            args_intervention={**options, "intervention": {"b": 3.0}},
        )
        got = effect["posterior_predictive"]["mu"].values[0]
        np.testing.assert_allclose(got, np.tile(3 * scale * X, (2, 1)), rtol=1e-5)


def test_a_method_and_a_partial_as_kernels():
    class Owner:
        scale = 1.0

        def kernel(self, X, y=None):
            b = numpyro.sample("b", dist.Normal(0.0, 1.0))
            with numpyro.plate("row", X.shape[0]):
                mu = numpyro.deterministic("mu", b * self.scale * X)
                numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)

    owner = Owner()
    im = model(owner.kernel, {"b": np.float32([1])})
    np.testing.assert_allclose(drawn(im, X, "mu")[0], X)
    owner.scale = 4.0
    np.testing.assert_allclose(drawn(im, X, "mu")[0], 4 * X)

    def general(X, options, y=None):
        b = numpyro.sample("b", dist.Normal(0.0, 1.0))
        with numpyro.plate("row", X.shape[0]):
            mu = numpyro.deterministic("mu", b * options["scale"] * X)
            numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)

    options = {"scale": 1.0}
    bound = functools.partial(general, options=options)

    def kernel(X, y=None):
        return bound(X, y=y)

    im = model(kernel, {"b": np.float32([1])})
    np.testing.assert_allclose(drawn(im, X, "mu")[0], X)
    options["scale"] = 4.0
    np.testing.assert_allclose(drawn(im, X, "mu")[0], 4 * X)


def normal_mean(prior):
    """A kernel whose prior is read from outside, and its closed form."""

    def kernel(X, y=None):
        m = numpyro.sample("m", dist.Normal(prior["mean"], 1.0))
        with numpyro.plate("row", X.shape[0]):
            numpyro.sample("y", dist.Normal(m + 0 * X, 1.0), obs=y)

    return kernel


Y = np.random.default_rng(0).normal(size=6).astype(np.float32)


def closed_form(mean):
    return (mean + Y.sum()) / (1 + len(Y))


def fitted_mean(im):
    return float(np.asarray(im.posterior["m"]).mean())


@pytest.mark.slow
def test_a_second_fit_takes_the_value_of_now():
    prior = {"mean": 0.0}
    kernel = normal_mean(prior)
    svi = SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(0.05), Trace_ELBO())
    im = ImpactModel(kernel, jax.random.key(0), svi=svi)
    for mean in (0.0, 30.0, 0.0):
        prior["mean"] = mean
        im.fit(X, Y, epochs=600, progress=False, num_samples=4000)
        assert abs(fitted_mean(im) - closed_form(mean)) < 0.2


@pytest.mark.slow
def test_a_hand_written_loop_takes_the_value_of_now():
    prior = {"mean": 0.0}
    kernel = normal_mean(prior)
    svi = SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(0.05), Trace_ELBO())
    im = ImpactModel(kernel, jax.random.key(0), svi=svi)
    for mean in (0.0, 30.0):
        prior["mean"] = mean
        for _ in range(400):
            im.train_on_batch(X, Y, n_obs=6)
        im.set_posterior_sample(im.sample(num_samples=2000, return_datatree=False))
        assert abs(fitted_mean(im) - closed_form(mean)) < 0.3


@pytest.mark.allow_rank_promotion
@pytest.mark.slow
def test_a_guide_follows_another_support():
    bounds = {"high": 1.0}

    def kernel(X, y=None):
        m = numpyro.sample("m", dist.Uniform(0.0, bounds["high"]))
        with numpyro.plate("row", X.shape[0]):
            numpyro.sample("y", dist.Normal(m + 0 * X, 0.1), obs=y)

    guide = AutoMultivariateNormal(kernel)
    svi = SVI(kernel, guide, numpyro.optim.Adam(0.05), Trace_ELBO())
    im = ImpactModel(kernel, jax.random.key(0), svi=svi)
    for high in (1.0, 20.0):
        bounds["high"] = high
        im.fit(X, Y * 0 + 10, epochs=600, progress=False)
        assert abs(fitted_mean(im) - min(10.0, high)) < 0.3


@pytest.mark.allow_rank_promotion
@pytest.mark.slow
def test_parameters_of_other_shapes_are_refused():
    size = {"groups": 2}

    def kernel(X, y=None):
        m = numpyro.sample("m", dist.Normal(0.0, 1.0).expand([size["groups"]]).to_event(1))
        with numpyro.plate("row", X.shape[0]):
            numpyro.sample("y", dist.Normal(m[0] + 0 * X, 1.0), obs=y)

    svi = SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(0.05), Trace_ELBO())
    im = ImpactModel(kernel, jax.random.key(0), svi=svi)
    im.fit(X, Y, progress=False, num_samples=3)
    size["groups"] = 3
    with pytest.raises(GuideError, match=r"another one than.*new ImpactModel"):
        im.fit(X, Y, progress=False, num_samples=3)
    size["groups"] = 2
    im.fit(X, Y, progress=False, num_samples=3)
    assert np.shape(im.posterior["m"])[-1] == 2


@pytest.mark.slow
def test_a_written_guide_takes_the_value_of_now():
    place = {"shift": 0.0}

    def kernel(X, y=None):
        m = numpyro.sample("m", dist.Normal(0.0, 1.0))
        with numpyro.plate("row", X.shape[0]):
            numpyro.sample("y", dist.Normal(m + 0 * X, 1.0), obs=y)

    def guide(X, y=None):
        loc = numpyro.param("loc", 0.0)
        numpyro.sample("m", dist.Normal(loc + place["shift"], 0.01))

    svi = SVI(kernel, guide, numpyro.optim.Adam(0.05), Trace_ELBO())
    im = ImpactModel(kernel, jax.random.key(0), svi=svi)
    im.fit(X, Y, epochs=300, progress=False)
    place["shift"] = 9.0
    moved = im.sample(num_samples=500, return_datatree=False)["m"].mean()
    assert abs(moved - 9 - closed_form(0.0)) < 0.1
    im.fit(X, Y, epochs=600, progress=False)
    assert abs(fitted_mean(im) - closed_form(0.0)) < 0.1


@pytest.mark.slow
def test_chains_take_the_value_of_now(monkeypatch):
    def kernel(X, y=None):
        m = numpyro.sample("m", dist.Normal(0.0, 1.0))
        mean = jax.lax.scan(lambda _, x: (0.0, scaled(x)), 0.0, jnp.ones(1))[1][0] * m
        mean = jax.lax.cond(mean > -1e9, scaled, scaled, mean) / FACTOR
        with numpyro.plate("row", X.shape[0]):
            numpyro.sample("y", dist.Normal(mean + 0 * X, 1.0), obs=y)

    steps = HMC(kernel, num_steps=5, trajectory_length=None)
    sampler = MCMC(steps, num_warmup=200, num_samples=500, progress_bar=False)
    im = ImpactModel(kernel, jax.random.key(0), inference=sampler)
    for factor in (1.0, 5.0):
        monkeypatch.setattr("tests.test_changed_between_calls.FACTOR", factor)
        im.fit_on_batch(X, Y, progress=False)
        expected = factor * Y.sum() / (1 + len(Y) * factor**2)
        assert abs(fitted_mean(im) - expected) < 0.1
    monkeypatch.setattr("tests.test_changed_between_calls.FACTOR", 1.0)
    more = im.sample(num_samples=500, X=X, y=Y, return_datatree=False)["m"]
    assert abs(float(np.mean(more)) - closed_form(0.0)) < 0.15


def test_numpyro_itself_agrees(monkeypatch):
    kernel = kernel_of(read_scan)
    monkeypatch.setattr("tests.test_changed_between_calls.FACTOR", 2.0)
    changed = handlers.do(kernel, {"b": 1.0})
    predictive = Predictive(changed, {"b": jnp.ones(2)}, return_sites=["mu"])
    expected = predictive(jax.random.key(0), X)["mu"]
    im = model(kernel, {"b": np.float32([1, 1])})
    got = im.predict(X, shard_axis="draw", store="memory", progress=False)
    np.testing.assert_allclose(got["posterior_predictive"]["mu"][0], expected, rtol=1e-5)


def predicted(im):
    options = {"shard_axis": "draw", "store": "memory", "progress": False}
    found = im.predict(X, return_sites=["mu"], **options)
    return np.asarray(found["posterior_predictive"]["mu"][0])


def test_predictions_take_the_handlers_of_now():
    kernel, draws = kernel_of(lambda X: X), {"b": np.float32([1, 1])}
    data = {"mu": np.zeros(6, np.float32)}
    within, around = model(handlers.substitute(kernel, data=data), draws), model(kernel, draws)
    assert (predicted(within)[0] == 0).all()
    data["mu"] = np.ones(6, np.float32)
    assert (predicted(within)[0] == 1).all()
    with handlers.substitute(data=data):
        assert (predicted(around)[0] == 1).all()
    assert (predicted(around)[0] == X).all()


def test_predictions_take_the_precision_of_now():
    im = model(kernel_of(lambda X: X * jnp.ones(1, float) / 3), {"b": np.float32([1, 1])})
    before = predicted(im)
    with jax.enable_x64(True):
        assert predicted(im).dtype == np.float64
    assert predicted(im).dtype == before.dtype == np.float32
