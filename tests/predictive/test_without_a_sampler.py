"""Kernels with distributions that cannot be sampled, such as ``ImproperUniform``."""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro import deterministic, plate, sample
from numpyro.distributions import constraints
from numpyro.infer import HMC, MCMC
from scipy import stats

from aimz_lab import ImpactModel
from aimz_lab.errors import DataError, KernelError
from tests.runs import mean_field

X = np.linspace(-1, 1, 40, dtype=np.float32)
Y = (2 + np.random.default_rng(0).normal(size=40)).astype(np.float32)
QUIET = {"progress": False, "store": "memory"}


class Flat(dist.Distribution):
    """A standard normal whose author wrote the density alone."""

    support = constraints.real
    arg_constraints: ClassVar = {"loc": constraints.real}

    def __init__(self, loc=0.0):
        self.loc = loc
        super().__init__(batch_shape=jnp.shape(loc))

    def log_prob(self, value):
        return stats.norm.logpdf(0.0) - 0.5 * (value - self.loc) ** 2


def improper(support, batch_shape=(), event_shape=()):
    return dist.ImproperUniform(support, batch_shape, event_shape)


def flat_mean(X, y=None):
    m = sample("m", improper(constraints.real))
    with plate("row", X.shape[0]):
        mu = deterministic("mu", m + 0 * X)
        sample("y", dist.Normal(mu, 1.0), obs=y)


def own_prior(X, y=None):
    m = sample("m", Flat(jnp.zeros(())))
    with plate("row", X.shape[0]):
        mu = deterministic("mu", m + 0 * X)
        sample("y", dist.Normal(mu, 1.0), obs=y)


def ordered(X, y=None):
    cuts = sample("m", improper(constraints.ordered_vector, (), (3,)))
    with plate("row", X.shape[0]):
        mu = deterministic("mu", cuts[1] + 0 * X)
        sample("y", dist.Normal(mu, 1.0), obs=y)


def positive_of_each_group(X, y=None):
    with plate("group", 3):
        m = sample("m", improper(constraints.positive))
    with plate("row", X.shape[0]):
        mu = deterministic("mu", m[1] + 0 * X)
        sample("y", dist.Normal(mu, 1.0), obs=y)


def without_density_of_its_own(X, y=None):
    m = sample("m", dist.Normal(0, 1))
    sample("unit", dist.Unit(-jnp.abs(m)))
    with plate("row", X.shape[0]):
        mu = deterministic("mu", m + 0 * X)
        sample("y", dist.Normal(mu, 1.0), obs=y)


M = np.float32([-1.0, 0.5, 2.0])
DRAWS = {
    flat_mean: M,
    own_prior: M,
    ordered: np.stack([M - 1, M, M + 1], axis=1),
    positive_of_each_group: np.stack([M + 9, M, M + 2], axis=1),
    without_density_of_its_own: M,
}


def with_draws(kernel, draws):
    return ImpactModel(kernel, jax.random.key(0), mean_field(kernel)).set_posterior_sample(draws)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", DRAWS)
def test_draws_of_the_posterior_predict(kernel):
    im = with_draws(kernel, {"m": DRAWS[kernel]})
    found = im.predict(X, return_sites=["mu"], **QUIET)["posterior_predictive"]["mu"].values[0]
    np.testing.assert_allclose(found, np.repeat(M[:, None], 40, axis=1))
    density = im.log_likelihood(X, Y, **QUIET)["log_likelihood"]["y"].values[0]
    np.testing.assert_allclose(density, stats.norm.logpdf(Y, M[:, None]), rtol=1e-4)
    scenarios = {"args_baseline": {"X": X, **QUIET}, "args_intervention": {"X": X + 1, **QUIET}}
    effect = im.estimate_effect(**scenarios)["posterior_predictive"]["y"]
    np.testing.assert_allclose(effect, 0, atol=1e-5)


@pytest.mark.parametrize("kernel", [flat_mean, own_prior, ordered, positive_of_each_group])
def test_the_prior_predictive_names_the_site(kernel):
    im = ImpactModel(kernel, jax.random.key(0), mean_field(kernel))
    with pytest.raises(KernelError, match="'m' has no prior to draw from"):
        im.sample_prior_predictive(X, num_samples=5, **QUIET)
    with pytest.raises(KernelError, match="'m' has no prior to draw from"):
        im.sample_prior_predictive_on_batch(X, num_samples=5)


def test_a_value_that_is_set_needs_no_prior():
    im = ImpactModel(flat_mean, jax.random.key(0), mean_field(flat_mean))
    tree = im.sample_prior_predictive(
        X, intervention={"m": 3.0}, return_sites=["mu"], num_samples=5, **QUIET
    )
    np.testing.assert_allclose(tree["prior_predictive"]["mu"], 3.0)


@pytest.mark.slow
def test_an_output_without_a_sampler_has_a_density_but_no_prediction():
    def kernel(X, y=None):
        m = sample("m", dist.Normal(0, 1))
        with plate("row", X.shape[0]):
            sample("y", Flat(m + X), obs=y)

    im = with_draws(kernel, {"m": M})
    density = im.log_likelihood(X, Y, **QUIET)["log_likelihood"]["y"].values[0]
    np.testing.assert_allclose(density, stats.norm.logpdf(Y, M[:, None] + X), rtol=1e-4)
    with pytest.raises(KernelError, match="'y' cannot be predicted.*Flat"):
        im.predict(X, **QUIET)
    im.fit(X, Y, batch_size=40, epochs=2, progress=False)
    assert im.posterior["m"].shape == (1000,)


def test_indices_are_checked_all_the_same():
    def kernel(X, y=None):
        m = sample("m", improper(constraints.real, (3,)))
        with plate("row", X.shape[0]):
            sample("y", dist.Normal(m[X], 1.0), obs=y)

    im = with_draws(kernel, {"m": np.zeros((2, 3), np.float32)})
    im.predict(np.array([0, 2]), **QUIET)
    with pytest.raises(DataError, match="3"):
        im.predict(np.array([0, 3]), **QUIET)


@pytest.mark.slow
def test_chains_with_a_flat_prior_find_the_posterior():
    sampler = HMC(flat_mean, trajectory_length=1.5)
    chains = MCMC(sampler, num_warmup=200, num_samples=1000, progress_bar=False)
    im = ImpactModel(flat_mean, jax.random.key(0), chains).fit_on_batch(X, Y, progress=False)
    np.testing.assert_allclose(im.posterior["m"].mean(), Y.mean(), atol=0.03)
    np.testing.assert_allclose(im.posterior["m"].std(), 40**-0.5, rtol=0.1)
    predicted = im.predict(X, **QUIET)["posterior_predictive"]["y"]
    np.testing.assert_allclose(predicted.mean(), Y.mean(), atol=0.05)
