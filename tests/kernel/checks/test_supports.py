"""A flat prior whose bounds follow from other sites is refused; other flat priors train."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import MCMC, NUTS

from aimz_lab import ImpactModel
from aimz_lab.errors import KernelError
from tests.runs import mean_field_model

X, Y = np.zeros(20, np.float32), np.full(20, 0.3, np.float32)


def kernel_with(bounds):
    def kernel(X, y=None):
        a = numpyro.sample("a", dist.Uniform(0.0, 1.0))
        b = numpyro.sample("b", dist.ImproperUniform(bounds(a), (), ()))
        with numpyro.plate("row", X.shape[0]):
            numpyro.sample("y", dist.Normal(a + b, 1.0), obs=y)

    return kernel


def moved(a):
    return dist.constraints.interval(0.0, 1 - a)


def by_chains(kernel):
    return ImpactModel(
        kernel, jax.random.key(0), inference=MCMC(NUTS(kernel), num_warmup=5, num_samples=5)
    )


@pytest.mark.parametrize("model", [mean_field_model, by_chains])
def test_bounds_that_follow_from_another_site_are_refused(model):
    with pytest.raises(KernelError, match="bounds of the flat prior of 'b' follow.*Uniform"):
        model(kernel_with(moved)).fit_on_batch(X, Y)


@pytest.mark.slow
@pytest.mark.parametrize(
    "bounds",
    [lambda a: dist.constraints.interval(0.0, jnp.exp(0.5)), lambda a: dist.constraints.positive],
    ids=["computed", "named"],
)
def test_bounds_that_stay_are_trained_on(bounds):
    im = mean_field_model(kernel_with(bounds)).fit_on_batch(X, Y, num_steps=3, progress=False)
    assert np.isfinite(im.vi_result.losses).all()
