"""Posteriors of conjugate models, trained on minibatches, against their closed form.

The guides can express the posterior exactly (or its best factorised approximation), and the
learning rate goes to zero, so that what is left is the noise of the last steps. Tolerances are in
units of the posterior's own sd: 0.15 sd for a mean, 10% for an sd; unscaled minibatches would be
off by a factor sqrt(N / B), which is 7 for B = 10.
"""

from __future__ import annotations

import jax
import numpy as np
import optax
import pytest
from numpyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from numpyro.infer.autoguide import AutoMultivariateNormal, AutoNormal

from aimz_lab import ImpactModel
from tests import kernels

# AutoMultivariateNormal draws with a sample shape, which NumPyro broadcasts over ranks.
pytestmark = pytest.mark.allow_rank_promotion

slow = pytest.mark.slow

N = 500
X, Y = kernels.regression_data(N, 3, seed=1)
POSTERIOR = kernels.regression_posterior(X, Y)


def decaying(steps, rate=0.03):
    """Adam with a rate that falls to zero over the run."""
    return optax.adam(optax.cosine_decay_schedule(rate, steps, alpha=1e-3))


def train(kernel, steps, *, guide=AutoMultivariateNormal, loss=None, y=Y, **options):
    """Fit for about ``steps`` steps and return the model."""
    loss = loss or Trace_ELBO(num_particles=4)
    svi = SVI(kernel, guide(kernel), decaying(steps), loss)
    im = ImpactModel(kernel, jax.random.key(2), svi=svi)
    epochs = -(-steps // -(-N // options["batch_size"]))
    return im.fit(X, y, epochs=epochs, num_samples=20_000, progress=False, **options)


def assert_close(draws, expected, sd):
    """Compare means within 0.15 sd, and sds within 10%."""
    draws = np.asarray(draws, np.float64)
    assert np.abs((draws.mean(0) - expected.mean) / expected.sd).max() < 0.15
    assert np.abs(draws.std(0) / sd - 1).max() < 0.10


@slow
def test_linear_regression():
    im = train(kernels.regression, 6000, batch_size=10)
    assert_close(im.posterior["beta"], POSTERIOR, POSTERIOR.sd)


@slow
def test_a_batch_size_that_does_not_divide_the_rows():
    im = train(kernels.regression, 6000, batch_size=77)
    assert N % 77 != 0
    assert_close(im.posterior["beta"], POSTERIOR, POSTERIOR.sd)


@slow
def test_normal_mean():
    steps, batch_size = 12_000, 10
    svi = SVI(
        kernels.normal_mean,
        AutoNormal(kernels.normal_mean),
        decaying(steps, rate=0.01),
        Trace_ELBO(num_particles=4),
    )
    im = ImpactModel(kernels.normal_mean, jax.random.key(4), svi=svi)
    epochs = steps // -(-N // batch_size)
    im.fit(X, Y, batch_size=batch_size, epochs=epochs, num_samples=20_000, progress=False)
    expected = kernels.normal_mean_posterior(Y)
    assert_close(im.posterior["mu"][:, None], expected, expected.sd)


@slow
def test_a_factorised_guide_gets_the_factorised_optimum():
    loss = TraceMeanField_ELBO(num_particles=4)
    im = train(kernels.regression, 6000, guide=AutoNormal, loss=loss, batch_size=50)
    assert_close(im.posterior["beta"], POSTERIOR, POSTERIOR.mean_field_sd)


@slow
def test_a_kernel_that_scales_itself_gets_the_same():
    im = train(kernels.regression_plate_of_all, 6000, batch_size=50, n_total=N)
    assert_close(im.posterior["beta"], POSTERIOR, POSTERIOR.sd)


@slow
def test_without_scaling_the_posterior_is_too_wide_by_the_known_factor():
    im = train(kernels.regression, 6000, batch_size=50, scale="none")
    ratio = np.asarray(im.posterior["beta"]).std(0) / POSTERIOR.sd
    np.testing.assert_allclose(ratio, np.sqrt(N / 50), rtol=0.15)
