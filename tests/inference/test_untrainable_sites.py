"""Kernels whose latent sites NumPyro cannot set up, and those without any."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import MCMC, NUTS, SVI, Trace_ELBO, autoguide

from aimz_lab import ImpactModel
from aimz_lab.errors import GuideError, KernelError

X = np.linspace(-1, 1, 40, dtype=np.float32)
QUIET = {"progress": False}


def model(kernel, guide=None):
    if guide is None:
        sampler = MCMC(NUTS(kernel), num_warmup=5, num_samples=5, progress_bar=False)
    else:
        sampler = SVI(kernel, guide(kernel), numpyro.optim.Adam(0.1), Trace_ELBO())
    return ImpactModel(kernel, jax.random.key(0), sampler)


def counts(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    events = numpyro.sample("events", dist.Poisson(3.0))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(X * slope + events, 1.0), obs=y)


def parameters_alone(X, y=None):
    slope = numpyro.param("slope", 0.5)
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(X * slope, 1.0), obs=y)


def nowhere_finite(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(X * slope, 1.0), obs=y)
    numpyro.factor("impossible", jnp.log(0.0 * slope))


@pytest.mark.parametrize("guide", [None, autoguide.AutoNormal])
def test_a_latent_count_without_a_largest_value_is_refused_by_name(guide):
    im = model(counts, guide)
    with pytest.raises(KernelError, match=r"'events'.*GammaPoisson"):
        im.fit_on_batch(X, X, **QUIET)
    assert not im.is_fitted()


@pytest.mark.slow
def test_a_sampler_without_a_starting_point_is_refused():
    with pytest.raises(KernelError, match="No starting point.*init_to_value"):
        model(nowhere_finite).fit_on_batch(X, X, **QUIET)


@pytest.mark.parametrize(
    "guide", [autoguide.AutoNormal, lambda kernel: lambda *args, **kwargs: None]
)
def test_parameters_alone_are_fitted_by_maximum_likelihood(guide):
    im = model(parameters_alone, guide).fit_on_batch(X, 2 * X, num_steps=200, **QUIET)
    predicted = im.predict_on_batch(X).posterior_predictive["y"]
    slope = np.polyfit(X, np.asarray(predicted).mean((0, 1)), 1)[0]
    assert slope == pytest.approx(2.0, abs=0.1)


def test_a_guide_that_needs_latent_sites_says_what_to_use():
    im = model(parameters_alone, autoguide.AutoDiagonalNormal)
    with pytest.raises(GuideError, match="no latent site.*lambda"):
        im.fit_on_batch(X, X, **QUIET)
