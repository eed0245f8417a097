"""Which guides train on minibatches, and what the others are told before the first step."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoDAIS, AutoLaplaceApproximation, AutoNormal

from aimz_lab import ImpactModel
from aimz_lab.errors import GuideError
from aimz_lab.inference.feeds import fingerprint
from tests import kernels
from tests.runs import compilations

pytestmark = pytest.mark.allow_rank_promotion

N = 120
X, Y = kernels.regression_data(N, 3, seed=4)


def model(kernel, guide, rate=0.05, particles=1):
    optimizer = optax.adam(rate)
    svi = SVI(kernel, guide, optimizer, Trace_ELBO(num_particles=particles))
    return ImpactModel(kernel, jax.random.key(0), svi=svi)


def test_an_autoguide_of_a_latent_a_row_is_refused_before_the_first_step():
    kernel = kernels.local_latents
    im = model(kernel, AutoNormal(kernel))
    key = im.rng_key
    with pytest.raises(GuideError, match="one value per row for 'z'.*fit_on_batch"):
        im.fit(X, Y, batch_size=20, progress=False)
    assert im.rng_key == key
    assert im.inference.guide.prototype_trace is None
    assert not im.is_fitted()


MANY = 4100
"""More rows than are trained on, or held out, together by default."""


def fit_many(im):
    x, y = np.zeros(MANY, np.float32), np.linspace(-1, 1, MANY).astype(np.float32)
    return im.fit(x, y, validation=(x, y + 1), epochs=3, num_samples=4, progress=False)


@functools.cache
def trained_on_many():
    kernel = kernels.local_latents
    return fit_many(model(kernel, AutoNormal(kernel)))


@pytest.mark.slow
def test_it_trains_on_all_rows_at_once_also_where_nobody_named_a_batch_size():
    im = trained_on_many()
    assert im.last_run.info.batch_size == MANY
    assert im.posterior["z"].shape == (4, MANY)


@pytest.mark.slow
def test_a_second_fit_of_it_compiles_nothing():
    im = trained_on_many()
    with compilations() as seen:
        fit_many(im)
    assert seen == []


@pytest.mark.slow
def test_held_out_rows_that_it_has_no_values_for_are_refused_before_the_first_step(monkeypatch):
    kernel = kernels.local_latents
    im = model(kernel, AutoNormal(kernel))
    key = im.rng_key
    with pytest.raises(GuideError, match="'z': those of the 120 .* none for the 90 .*amortised"):
        im.fit(X, Y, validation=(X[:90], Y[:90]), progress=False)
    assert im.rng_key == key
    assert im.inference.guide.prototype_trace is None
    assert im.last_run is None
    im.fit(X, Y, validation=(X, Y + 1), num_samples=4, progress=False)  # observed again
    assert len(im.last_run.validation) == 1
    with pytest.raises(GuideError, match="none for the held-out rows, which are others.*amortised"):
        im.fit(X, Y, validation=(X + 1, Y + 1), num_samples=4, progress=False)
    monkeypatch.setattr(fingerprint, "_LARGEST", 1)  # as of rows that have no checksum
    im.fit(X, Y, validation=(X, Y + 1), num_samples=4, progress=False)
    with pytest.raises(GuideError, match="none for the held-out rows, which are others"):
        im.fit(X, Y, validation=(X + 1, Y), num_samples=4, progress=False)


@pytest.mark.slow
def test_its_held_out_rows_are_evaluated_together_also_where_they_are_many():
    run = trained_on_many().last_run
    assert run.info.batch_size == MANY
    assert len(run.validation) == run.epoch == 3


def amortised(X, y=None):
    """A guide that computes each row's latent from the row."""
    loc = numpyro.param("loc", 0.0)
    spread = numpyro.param("spread", 1.0, constraint=dist.constraints.positive)
    numpyro.sample("mu", dist.Normal(loc, spread))
    weight, bias = numpyro.param("weight", 0.5), numpyro.param("bias", 0.0)
    sd = numpyro.param("sd", 1.0, constraint=dist.constraints.positive)
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("z", dist.Normal(weight * y + bias, sd))


@pytest.mark.slow
def test_an_amortised_guide_of_a_latent_a_row_trains_on_minibatches():
    steps = 6000
    rate = optax.cosine_decay_schedule(0.02, steps, alpha=1e-3)
    im = model(kernels.local_latents, amortised, rate, particles=4)
    im.fit(X, Y, batch_size=30, epochs=steps // 4, num_samples=4000, progress=False)
    # y = z + noise with z ~ N(mu, 1): the posterior of a row given mu, and of mu over all rows.
    gain = 1 / (1 + kernels.NOISE_SD**2)
    params = {name: float(value) for name, value in im.vi_result.params.items()}
    precision = 1 / kernels.PRIOR_SD**2 + N  # of mu where the latents are held
    assert params["weight"] == pytest.approx(gain, abs=0.05)
    assert params["sd"] == pytest.approx(np.sqrt(1 / (1 + 1 / kernels.NOISE_SD**2)), rel=0.05)
    assert params["spread"] == pytest.approx(1 / np.sqrt(precision), rel=0.10)
    exact = (
        np.sum(Y)
        / (1 + kernels.NOISE_SD**2)
        / (N / (1 + kernels.NOISE_SD**2) + 1 / kernels.PRIOR_SD**2)
    )
    assert params["loc"] == pytest.approx(exact, abs=0.03)


def test_a_guide_with_a_parameter_a_position_is_refused():
    def guide(X, y=None):
        loc = numpyro.param("loc", jnp.zeros(X.shape[0]))
        numpyro.sample("mu", dist.Normal(0.0, 1.0))
        with numpyro.plate("obs", X.shape[0]):
            numpyro.sample("z", dist.Normal(loc, 1.0))

    with pytest.raises(GuideError, match="one value per row for 'loc'"):
        model(kernels.local_latents, guide).fit(X, Y, batch_size=20, progress=False)


@pytest.mark.slow
def test_a_laplace_approximation_takes_its_curvature_from_all_rows():
    kernel = kernels.regression
    steps = 3000
    rate = optax.cosine_decay_schedule(0.05, steps, alpha=1e-3)
    im = model(kernel, AutoLaplaceApproximation(kernel), rate)
    im.fit(X, Y, batch_size=30, epochs=steps // 4, num_samples=20_000, progress=False)
    expected = kernels.regression_posterior(X, Y)
    draws = np.asarray(im.posterior["beta"], np.float64)
    np.testing.assert_allclose(draws.std(0), expected.sd, rtol=0.05)
    assert np.abs((draws.mean(0) - expected.mean) / expected.sd).max() < 0.2


@pytest.mark.slow
def test_a_laplace_approximation_takes_the_curvature_of_its_last_data():
    kernel = kernels.regression
    im = model(kernel, AutoLaplaceApproximation(kernel), optax.constant_schedule(0.03))
    for inputs in (X, 3 * X):
        im.fit_on_batch(inputs, Y, num_steps=600, num_samples=4000, progress=False)
        expected = kernels.regression_posterior(inputs, Y)
        np.testing.assert_allclose(im.posterior["beta"].std(0), expected.sd, rtol=0.1)
    for rows, n_obs in ((X, None), (3 * X[:30], N)):
        with pytest.raises(GuideError, match="draws by the density of all rows"):
            im.train_on_batch(rows, Y[: len(rows)], n_obs=n_obs)


def test_guides_that_need_all_rows_at_once_say_so():
    kernel = kernels.regression
    with pytest.raises(GuideError, match="AutoDAIS"):
        model(kernel, AutoDAIS(kernel)).fit(X, Y, batch_size=20, progress=False)
    stream = [{"X": X[:60], "y": Y[:60]}, {"X": X[60:], "y": Y[60:]}]
    with pytest.raises(GuideError, match="AutoLaplaceApproximation"):
        model(kernel, AutoLaplaceApproximation(kernel)).fit(stream, n_obs=N, progress=False)


@pytest.mark.slow
def test_a_guide_that_keeps_what_it_makes_in_its_first_call_trains():
    class Guide:
        start = None

        def __call__(self, X, y=None):
            if self.start is None:
                self.start = jnp.full(3, 0.5)
            loc = numpyro.param("loc", self.start)
            scale = numpyro.param("scale", jnp.ones(3), constraint=dist.constraints.positive)
            numpyro.sample("beta", dist.Normal(loc, scale).to_event(1))

    guide = Guide()
    im = model(kernels.regression, guide)
    im.fit(X, Y, batch_size=20, num_samples=4, progress=False)
    np.testing.assert_array_equal(guide.start, np.full(3, 0.5))
    assert im.posterior["beta"].shape == (4, 3)
