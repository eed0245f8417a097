"""Data outside of the support of its distribution is refused in training."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from aimz_lab.errors import DataError
from tests.runs import mean_field_model

pytestmark = pytest.mark.allow_rank_promotion  # NumPyro's Dirichlet needs it

N = 8
X = np.ones(N, np.float32)
TRIALS = np.full(N, 2)


def of(distribution, change=lambda y: y):
    """A kernel with this distribution of its output."""

    def kernel(X, trials=None, y=None):
        rate = numpyro.sample("rate", dist.LogNormal(0.0, 1.0))
        with numpyro.plate("obs", X.shape[0]):
            obs = None if y is None else change(y)
            numpyro.sample("y", distribution(rate * X, trials), obs=obs)

    return kernel


def poisson(rate, trials):
    return dist.Poisson(rate)


def expanded(rate, trials):
    return dist.Bernoulli(0.3).expand([N])


def binomial(rate, trials):
    return dist.Binomial(trials, logits=rate)


def log_normal(rate, trials):
    return dist.LogNormal(rate, 1.0)


def half_normal(rate, trials):
    return dist.HalfNormal(rate)


def below_a_latent(rate, trials):
    return dist.Uniform(0.0, 100 * rate)


def shares(rate, trials):
    return dist.Dirichlet(jnp.ones(3)).expand([N])


def wrong_at_3(value, wrong):
    values = np.full((N, *np.shape(value)), value, np.result_type(np.asarray(wrong)))
    values[3] = wrong
    return values


@pytest.mark.parametrize(
    ("distribution", "good", "wrong", "message"),
    [
        (poisson, 1, -1, "'y' is -1 at row 3.* Poisson, which has whole numbers from 0 on"),
        (poisson, 1, 0.5, "'y' is 0.5 at row 3.*whole numbers"),
        (expanded, 1, 2, "Bernoulli, which has whole numbers from 0 to 1; 1 of 8"),
        (binomial, 1, 3, "'y' is 3 at row 3.* Binomial, .*bounds that the kernel computes"),
        (log_normal, 1.0, 0.0, r"LogNormal, which has values above 0\.0"),
        (half_normal, 1.0, 0.0, r"HalfNormal, which has values above 0\.0"),
        (shares, [0.2, 0.3, 0.5], [0.2, 0.3, 0.6], "Dirichlet, which has shares that add up to 1"),
    ],
)
def test_data_outside_is_refused_by_name(distribution, good, wrong, message):
    trials = {"trials": TRIALS} if distribution is binomial else {}
    im = mean_field_model(of(distribution))
    with pytest.raises(DataError, match=message):
        im.fit_on_batch(X, wrong_at_3(good, wrong), num_steps=1, progress=False, **trials)


def test_also_where_the_kernel_converts_its_data():
    im = mean_field_model(of(poisson, lambda y: y.astype(int) - 1))
    with pytest.raises(DataError, match="The data of 'y' is -1 at row 3.* Poisson"):
        im.fit_on_batch(X, wrong_at_3(1.0, 0.0), num_steps=1, progress=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("distribution", "wrong"),
    [(expanded, 0), (below_a_latent, 70.0), (shares, [0.25, 0.25, 0.5])],
)
def test_what_has_a_density_is_trained_on(distribution, wrong):
    good = 1 if distribution is expanded else 1.0
    good = [0.2, 0.3, 0.5] if distribution is shares else good
    im = mean_field_model(of(distribution))
    im.fit_on_batch(X, wrong_at_3(good, wrong), num_steps=1, num_samples=2, progress=False)
    assert im.last_run.step == 1
