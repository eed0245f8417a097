"""Posteriors that others computed are reached by chains, and by a guide where one is close.

Each model is that of posteriordb (Magnusson et al. 2025), named in its docstring; means and
standard deviations are those of its reference draws.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.contrib.control_flow import scan
from numpyro.distributions import constraints
from numpyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoMultivariateNormal

from aimz_lab import ImpactModel
from tests.reference import posteriordb as pdb

MEAN_APART = 0.15  # standard deviations
SD_APART = 0.15  # of the standard deviation itself


def flat(name, support=constraints.real, shape=()):
    """A site with a constant density, as a parameter without a prior is in Stan."""
    return numpyro.sample(name, dist.ImproperUniform(support, (), shape))


def half_cauchy(name, scale):
    return numpyro.sample(name, dist.HalfCauchy(scale))


def quantity(draws, name):
    """Draws of one scalar, such as ``"beta[1]"``."""
    site, _, index = name.rstrip("]").partition("[")
    values = np.asarray(draws[site], np.float64)
    return values[:, int(index)] if index else values


def check(draws, published, *, mean=MEAN_APART, sd=SD_APART):
    """Compare means and standard deviations of draws with the published ones."""
    for name, known in published.items():
        values = quantity(draws, name)
        assert abs(values.mean() - known.mean) < mean * known.sd, (name, values.mean(), known.mean)
        assert abs(values.std() / known.sd - 1) < sd, (name, values.std(), known.sd)


def sampled(kernel, X, y, num_warmup=400, num_samples=2000, num_chains=1, accept=0.8):
    """Posterior draws of chains."""
    sampler = NUTS(kernel, target_accept_prob=accept)
    mcmc = MCMC(
        sampler,
        num_warmup=num_warmup,
        num_samples=num_samples,
        num_chains=num_chains,
        chain_method="sequential",
        progress_bar=False,
    )
    im = ImpactModel(kernel, jax.random.key(0), inference=mcmc)
    return im.fit_on_batch(X, y, progress=False).posterior


def exp_quad(X, alpha, rho):
    return alpha**2 * jnp.exp(-0.5 * ((X[:, None] - X[None, :]) / rho) ** 2)


@pytest.mark.slow
def test_eight_schools():
    """eight_schools-eight_schools_noncentered."""

    def kernel(X, y=None):
        mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
        tau = half_cauchy("tau", 5.0)
        with numpyro.plate("school", X.shape[0]):
            raw = numpyro.sample("raw", dist.Normal(0.0, 1.0))
            theta = numpyro.deterministic("theta", mu + tau * raw)
            numpyro.sample("y", dist.Normal(theta, X), obs=y)

    draws = sampled(kernel, pdb.EIGHT_SCHOOLS_SD, pdb.EIGHT_SCHOOLS_Y, accept=0.95)
    draws["theta"] = draws["mu"][:, None] + draws["tau"][:, None] * draws["raw"]
    check(draws, pdb.EIGHT_SCHOOLS)


def mesquite(X, y=None):
    """mesquite-logmesquite_logvolume: a linear regression without priors."""
    beta = flat("beta", constraints.real_vector, (2,))
    sigma = flat("sigma", constraints.positive)
    with numpyro.plate("bush", X.shape[0]):
        numpyro.sample("y", dist.Normal(beta[0] + beta[1] * X, sigma), obs=y)


MESQUITE_X = np.log(pdb.MESQUITE_DIAM1 * pdb.MESQUITE_DIAM2 * pdb.MESQUITE_CANOPY_HEIGHT)
MESQUITE_Y = np.log(pdb.MESQUITE_WEIGHT)


@pytest.mark.slow
def test_regression_by_chains():
    check(sampled(mesquite, MESQUITE_X, MESQUITE_Y), pdb.MESQUITE)


@pytest.mark.slow
@pytest.mark.allow_rank_promotion
def test_regression_by_a_guide_on_minibatches():
    guide = AutoMultivariateNormal(mesquite, init_scale=0.1)
    rate = numpyro.optim.Adam(lambda step: 0.03 * 0.5 ** (step / 800))
    svi = SVI(mesquite, guide, rate, Trace_ELBO(num_particles=4))
    im = ImpactModel(mesquite, jax.random.key(0), svi=svi)
    options = {"batch_size": 23, "epochs": 3000, "num_samples": 4000}
    im.fit(MESQUITE_X, MESQUITE_Y, **options, progress=False)
    check(im.posterior, pdb.MESQUITE, mean=0.25, sd=0.25)


@pytest.mark.slow
def test_autoregression():
    """arK-arK: five lags, which are the columns of the input."""

    def kernel(X, y=None):
        alpha = numpyro.sample("alpha", dist.Normal(0.0, 10.0))
        beta = numpyro.sample("beta", dist.Normal(0.0, 10.0).expand([5]).to_event(1))
        sigma = half_cauchy("sigma", 2.5)
        with numpyro.plate("time", X.shape[0]):
            numpyro.sample("y", dist.Normal(alpha + X @ beta, sigma), obs=y)

    lags = np.stack([pdb.AR_Y[5 - k : -k] for k in range(1, 6)], axis=1)
    check(sampled(kernel, lags, pdb.AR_Y[5:]), pdb.AR)


@pytest.mark.slow
def test_garch():
    """garch-garch11: a recursion over rows, in which each row's scale follows from those before."""

    def kernel(X, y=None):
        mu = flat("mu")
        alpha0 = flat("alpha0", constraints.positive)
        alpha1 = flat("alpha1", constraints.unit_interval)
        # Uniform between 0 and 1 - alpha1, with the same density for each alpha1.
        share = numpyro.sample("share", dist.Uniform(0.0, 1.0))
        beta1 = (1 - alpha1) * share
        numpyro.factor("triangle", jnp.log1p(-alpha1))

        def step(variance, previous):
            variance = alpha0 + alpha1 * (previous - mu) ** 2 + beta1 * variance
            return variance, variance

        first = jnp.full(1, pdb.GARCH_FIRST_SD**2)
        _, later = jax.lax.scan(step, first[0], X[1:])
        sigma = jnp.sqrt(jnp.concatenate([first, later]))
        with numpyro.plate("time", X.shape[0]):
            numpyro.sample("y", dist.Normal(mu, sigma), obs=y)

    previous = np.concatenate([[0], pdb.GARCH_Y[:-1]]).astype(np.float32)
    draws = sampled(kernel, previous, pdb.GARCH_Y, num_samples=1500)
    draws["beta1"] = (1 - draws["alpha1"]) * draws["share"]
    check(draws, pdb.GARCH)


@pytest.mark.slow
def test_autoregression_by_scan_and_condition():
    """arK-arK again, with the output drawn row after row inside ``scan``."""

    def kernel(X, y=None):
        alpha = numpyro.sample("alpha", dist.Normal(0.0, 10.0))
        beta = numpyro.sample("beta", dist.Normal(0.0, 10.0).expand([5]).to_event(1))
        sigma = half_cauchy("sigma", 2.5)

        def step(lags, _):
            value = numpyro.sample("y", dist.Normal(alpha + lags @ beta, sigma))
            return jnp.concatenate([value[None], lags[:-1]]), None

        with numpyro.handlers.condition(data={} if y is None else {"y": y}):
            scan(step, X[0], None, length=X.shape[0])

    lags = np.stack([pdb.AR_Y[5 - k : -k] for k in range(1, 6)], axis=1)
    check(sampled(kernel, lags, pdb.AR_Y[5:]), pdb.AR)


@pytest.mark.slow
@pytest.mark.allow_rank_promotion
def test_mixture():
    """low_dim_gauss_mix-low_dim_gauss_mix: two components, ordered by their means."""

    def kernel(X, y=None):
        # The density of ordered means is that of two independent ones, up to a constant.
        mu = flat("mu", constraints.ordered_vector, (2,))
        numpyro.factor("mu_prior", dist.Normal(0.0, 2.0).log_prob(mu).sum())
        sigma = numpyro.sample("sigma", dist.HalfNormal(2.0).expand([2]).to_event(1))
        theta = numpyro.sample("theta", dist.Beta(5.0, 5.0))
        with numpyro.plate("row", X.shape[0]):
            component = dist.Categorical(probs=jnp.stack([theta, 1 - theta]))
            mixture = dist.MixtureSameFamily(component, dist.Normal(mu, sigma))
            numpyro.sample("y", mixture, obs=y)

    X = np.zeros(len(pdb.MIXTURE_Y), np.float32)
    draws = sampled(kernel, X, pdb.MIXTURE_Y, num_warmup=300, num_samples=600)
    check(draws, pdb.MIXTURE, mean=0.2, sd=0.2)


@pytest.mark.slow
@pytest.mark.allow_rank_promotion
def test_gaussian_process():
    """gp_pois_regr-gp_regr: all rows are one draw of a Gaussian process with noise."""

    def kernel(X, y=None):
        rho = numpyro.sample("rho", dist.Gamma(25.0, 4.0))
        alpha = numpyro.sample("alpha", dist.HalfNormal(2.0))
        sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
        cov = exp_quad(X, alpha, rho) + sigma * jnp.eye(X.shape[0])
        numpyro.sample("y", dist.MultivariateNormal(jnp.zeros(X.shape[0]), cov), obs=y)

    check(sampled(kernel, pdb.GP_X, pdb.GP_Y), pdb.GP_REGRESSION)
