"""Kernels with a closed-form posterior, and that posterior."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.handlers import scale as scale_handler

NOISE_SD = 0.8
PRIOR_SD = 2.0


class Gaussian(NamedTuple):
    """A Gaussian posterior.

    Attributes:
        mean: Its mean, shape ``(k,)``.
        cov: Its covariance, shape ``(k, k)``.
    """

    mean: np.ndarray
    cov: np.ndarray

    @property
    def sd(self) -> np.ndarray:
        """Marginal standard deviations."""
        return np.sqrt(np.diag(self.cov))

    @property
    def mean_field_sd(self) -> np.ndarray:
        """Standard deviations of the factorised Gaussian that is closest in KL(q, p)."""
        return 1 / np.sqrt(np.diag(np.linalg.inv(self.cov)))


def regression_data(n=500, k=3, seed=0):
    """Rows ``X`` of shape ``(n, k)`` and ``y`` of shape ``(n,)`` of a linear regression."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, k)).astype(np.float32)
    beta = np.linspace(-1.0, 1.0, k)
    y = (X @ beta + NOISE_SD * rng.normal(size=n)).astype(np.float32)
    return X, y


def regression_posterior(X, y) -> Gaussian:
    """Posterior of the coefficients: Gaussian prior, known noise (Bishop 2006, eq. 3.53 f.)."""
    X, y = np.asarray(X, np.float64), np.asarray(y, np.float64)
    precision = X.T @ X / NOISE_SD**2 + np.eye(X.shape[1]) / PRIOR_SD**2
    cov = np.linalg.inv(precision)
    return Gaussian(cov @ X.T @ y / NOISE_SD**2, cov)


def _coefficients(k):
    return numpyro.sample("beta", dist.Normal(0, PRIOR_SD).expand([k]).to_event(1))


def regression(X, y=None):
    """Linear regression with known noise, rows in a plate of the call's size."""
    mean = numpyro.deterministic("mean", X @ _coefficients(X.shape[1]))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(mean, NOISE_SD), obs=y)


def regression_plate_of_all(X, n_total, y=None):
    """The same, scaled by hand: a plate of all rows, of which the batch is a subsample."""
    beta = _coefficients(X.shape[1])
    with numpyro.plate("obs", n_total, subsample_size=X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ beta, NOISE_SD), obs=y)


def regression_scale_handler(X, n_total, y=None):
    """The same, scaled by hand: an explicit scale of N / B."""
    beta = _coefficients(X.shape[1])
    with scale_handler(scale=n_total / X.shape[0]), numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ beta, NOISE_SD), obs=y)


def regression_traced_scale(X, n_total, y=None):
    """The same, with a scale that is only known when the kernel runs."""
    beta = _coefficients(X.shape[1])
    factor = jnp.asarray(n_total, jnp.float32) / X.shape[0]
    with scale_handler(scale=factor), numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ beta, NOISE_SD), obs=y)


def regression_without_plate(X, y=None):
    """The same without any plate."""
    beta = _coefficients(X.shape[1])
    numpyro.sample("y", dist.Normal(X @ beta, NOISE_SD), obs=y)


def regression_by_event(X, y=None):
    """The same with all rows as one event, which no padding can be left out of."""
    beta = _coefficients(X.shape[1])
    numpyro.sample("y", dist.Normal(X @ beta, NOISE_SD).to_event(1), obs=y)


def normal_mean(X, y=None):
    """A mean of unit-free rows; ``X`` only tells how many there are."""
    mu = numpyro.sample("mu", dist.Normal(0.0, PRIOR_SD))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(mu, NOISE_SD), obs=y)


def normal_mean_posterior(y) -> Gaussian:
    """Posterior of the mean (Gelman et al. 2013, eq. 2.12)."""
    precision = len(y) / NOISE_SD**2 + 1 / PRIOR_SD**2
    mean = np.sum(np.asarray(y, np.float64)) / NOISE_SD**2 / precision
    return Gaussian(np.array([mean]), np.array([[1 / precision]]))


def linked(X, link, y=None):
    """A mean that goes through ``link``, an argument that is code."""
    slope = numpyro.sample("slope", dist.Normal(0.0, PRIOR_SD))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(link(X[:, 0] * slope), NOISE_SD), obs=y)


def local_latents(X, y=None):
    """A latent value a row, which a guide by position cannot learn from minibatches."""
    mu = numpyro.sample("mu", dist.Normal(0.0, PRIOR_SD))
    with numpyro.plate("obs", X.shape[0]):
        z = numpyro.sample("z", dist.Normal(mu, 1.0))
        numpyro.sample("y", dist.Normal(z, NOISE_SD), obs=y)


def poisoned(X, y=None):
    """A regression whose log density is NaN for a row with a NaN in ``X``."""
    beta = _coefficients(X.shape[1])
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ beta, NOISE_SD), obs=y)


def mixture(X, y=None):
    """Two clusters; which one a row is of is never observed."""
    weight = numpyro.sample("weight", dist.Beta(2.0, 2.0))
    with numpyro.plate("cluster", 2):
        centre = numpyro.sample("centre", dist.Normal(jnp.array([-1.0, 1.0]), 1.0))
    with numpyro.plate("obs", X.shape[0]):
        which = numpyro.sample("which", dist.Bernoulli(weight), infer={"enumerate": "parallel"})
        numpyro.sample("y", dist.Normal(centre[which], 0.3), obs=y)
