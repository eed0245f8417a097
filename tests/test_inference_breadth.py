"""Guides, losses, optimizers, and kernels of many kinds, from fit to predict."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from flax import linen, nnx
from numpyro import handlers
from numpyro.contrib.module import (
    flax_module,
    nnx_module,
    random_flax_module,
    random_nnx_module,
)
from numpyro.infer import (
    SVI,
    RenyiELBO,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    autoguide,
)

from aimz_lab import ImpactModel
from aimz_lab.errors import GuideError, KernelError, OutputWarning
from tests import kernels

pytestmark = pytest.mark.allow_rank_promotion  # NumPyro's guides draw with a sample shape

X, Y = kernels.regression_data(60, 2, seed=3)
EXACT = kernels.regression_posterior(X, Y)


def fitted(kernel, guide, *, loss=None, optimizer=None, steps=300, batch_size=20, **options):
    """A model after about ``steps`` steps on minibatches."""
    svi = SVI(kernel, guide, optimizer or optax.adam(0.05), loss or Trace_ELBO())
    im = ImpactModel(kernel, jax.random.key(0), svi=svi)
    epochs = -(-steps * batch_size // len(X))
    options = {"num_samples": 400, "progress": False} | options
    return im.fit(X, options.pop("y", Y), epochs=epochs, batch_size=batch_size, **options)


def predictions(im, X=X, **options):
    tree = im.predict(X, store="memory", progress=False, **options)
    return tree["posterior_predictive"]["y"].values[0]


def assert_near_exact(beta):
    """Within two posterior sds, which are 0.1 here, and 1.0 from where training began."""
    assert np.abs((np.mean(beta, 0) - EXACT.mean) / EXACT.sd).max() < 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "guide",
    [
        autoguide.AutoDelta,
        autoguide.AutoLowRankMultivariateNormal,
        partial(autoguide.AutoIAFNormal, num_flows=1, hidden_dims=[4]),
    ],
)
def test_autoguides(guide):
    im = fitted(kernels.regression, guide(kernels.regression))
    assert im.posterior["beta"].shape == (400, 2)
    assert_near_exact(im.posterior["beta"])
    assert np.corrcoef(predictions(im).mean(0), X @ EXACT.mean)[0, 1] > 0.98


@pytest.mark.slow
def test_a_guide_that_needs_all_rows_is_refused_on_minibatches_and_trains_on_all():
    guide = autoguide.AutoDAIS(kernels.regression, K=2)
    svi = SVI(kernels.regression, guide, optax.adam(0.02), Trace_ELBO())
    im = ImpactModel(kernels.regression, jax.random.key(0), svi=svi)
    with pytest.raises(GuideError, match="fit_on_batch"):
        im.fit(X, Y, batch_size=20, progress=False)
    im.fit_on_batch(X, Y, num_steps=400, num_samples=400, progress=False)
    assert_near_exact(im.posterior["beta"])


def amortised(X, y=None):
    """A local latent for each row, computed from the row."""
    loc = numpyro.param("mu_loc", 0.0)
    scale = numpyro.param("mu_scale", 0.5, constraint=dist.constraints.positive)
    numpyro.sample("mu", dist.Normal(loc, scale))
    weight = numpyro.param("weight", jnp.zeros(()))
    shift = numpyro.param("shift", jnp.zeros(()))
    sd = numpyro.param("sd", 0.5, constraint=dist.constraints.positive)
    target = jnp.zeros(X.shape[0]) if y is None else y
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("z", dist.Normal(weight * target + shift, sd))


@pytest.mark.slow
def test_a_guide_that_takes_the_kernels_arguments():
    """z | y, mu is normal around a weighted mean of y and mu: the guide can be exact about it."""
    im = fitted(kernels.local_latents, amortised, steps=1500)
    z = im.posterior["z"]
    assert z.shape == (400, len(X))
    weight = 1 / (1 + kernels.NOISE_SD**2)
    params = im.vi_result.params
    assert abs(params["weight"] - weight) < 0.1
    assert abs(params["sd"] - kernels.NOISE_SD * np.sqrt(weight)) < 0.1
    # Drawn for all rows in their order, whatever the order of the batches was.
    np.testing.assert_allclose(z.mean(0), params["weight"] * Y + params["shift"], atol=0.2)
    drawn = im.sample(num_samples=5, return_datatree=False, X=X[:7], y=Y[:7])
    assert drawn["z"].shape == (5, 7)


class Normalised(linen.Module):
    """A linear model of inputs that are normalised by running statistics."""

    @linen.compact
    def __call__(self, x, train):
        x = linen.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        return linen.Dense(1)(x)[:, 0]


def normalised(X, train=False, y=None):
    net = flax_module("net", Normalised(), jnp.ones((2, 2)), mutable=["batch_stats"], train=True)
    _observe(net(X, train=train), X, y)


@pytest.mark.slow
def test_mutable_state_follows_the_batches_and_serves_predictions():
    shifted = 5 + 2 * X
    svi = SVI(normalised, lambda X, y, train: None, optax.adam(0.05), Trace_ELBO())
    im = ImpactModel(normalised, jax.random.key(0), svi=svi)
    # The statistics of a batch normalise its rows, which are then not independent.
    with pytest.raises(KernelError, match="across rows at the site 'y'"):
        im.fit(shifted, Y, epochs=100, batch_size=20, train=True, progress=False)
    options = {"epochs": 100, "batch_size": 20, "rows": "independent", "progress": False}
    im.fit(shifted, Y, train=True, **options)
    running = im._vi_state.mutable_state["net$state"]["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(running["mean"], shifted.mean(0), atol=0.3)
    np.testing.assert_allclose(running["var"], shifted.var(0), rtol=0.3)
    # Not of the rows that are predicted: a single row is predicted as it is among others.
    y = predictions(im, shifted)
    assert y.shape == (1000, len(X))  # without any latent site, as many draws as were asked for
    assert np.corrcoef(y.mean(0), X @ EXACT.mean)[0, 1] > 0.98
    np.testing.assert_allclose(predictions(im, shifted[:1]).mean(), y[:, 0].mean(), atol=0.2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: numpyro.optim.ClippedAdam(0.05),
        lambda: optax.chain(optax.clip(10.0), optax.sgd(2e-4, momentum=0.9)),
    ],
)
def test_optimizers(optimizer):
    guide = autoguide.AutoNormal(kernels.regression)
    assert_near_exact(fitted(kernels.regression, guide, optimizer=optimizer()).posterior["beta"])


@pytest.mark.slow
def test_an_optimizer_that_evaluates_the_loss_itself():
    guide = autoguide.AutoDelta(kernels.regression)
    svi = SVI(kernels.regression, guide, numpyro.optim.Minimize(), Trace_ELBO())
    im = ImpactModel(kernels.regression, jax.random.key(0), svi=svi)
    im.fit_on_batch(X, Y, num_steps=2, num_samples=1, progress=False)
    np.testing.assert_allclose(im.posterior["beta"][0], EXACT.mean, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "loss",
    [
        RenyiELBO(alpha=0.5, num_particles=4),
        TraceGraph_ELBO(),
    ],
)
def test_losses(loss):
    im = fitted(kernels.regression, autoguide.AutoNormal(kernels.regression), loss=loss)
    assert_near_exact(im.posterior["beta"])


def with_params(X, y=None):
    """A slope that is learned as a point, and a latent intercept."""
    slope = numpyro.param("slope", jnp.zeros(2))
    intercept = numpyro.sample("intercept", dist.Normal(0.0, 1.0))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ slope + intercept, kernels.NOISE_SD), obs=y)


@pytest.mark.slow
def test_params_of_the_kernel_keep_their_learned_values():
    im = fitted(with_params, autoguide.AutoNormal(with_params))
    learned = im.vi_result.params["slope"]
    least_squares = np.linalg.lstsq(np.c_[X, np.ones(len(X))], Y, rcond=None)[0]
    np.testing.assert_allclose(learned, least_squares[:2], atol=0.1)
    assert "slope" not in im.posterior
    far = 100 * np.eye(2, dtype=np.float32)
    with pytest.warns(OutputWarning, match="far outside of what the model was trained on"):
        means = predictions(im, far).mean(0)
    np.testing.assert_allclose(means / 100, learned, atol=0.03)


class StatusLine(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(2, 1, rngs=rngs)

    def __call__(self, x):
        return self.dense(x)[:, 0]


def _observe(mean, X, y):
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(mean, kernels.NOISE_SD), obs=y)


def nnx_point(X, y=None):
    _observe(nnx_module("net", StatusLine(nnx.Rngs(0)))(X), X, y)


def nnx_random(X, y=None):
    net = random_nnx_module("net", StatusLine(nnx.Rngs(0)), prior=dist.Normal(0, kernels.PRIOR_SD))
    _observe(net(X), X, y)


def flax_random(X, y=None):
    net = random_flax_module(
        "net", linen.Dense(1), prior=dist.Normal(0, kernels.PRIOR_SD), input_shape=(2,)
    )
    _observe(net(X)[:, 0], X, y)


@pytest.mark.slow
def test_a_network_whose_weights_are_learned_tells_how_many_there_are():
    svi = SVI(nnx_point, lambda X, y: None, optax.adam(0.05), Trace_ELBO())
    im = ImpactModel(nnx_point, jax.random.key(0), svi=svi).fit(X, Y, progress=False)
    assert im.describe()["sites"]["net$params"]["shape"] == [2 + 1]


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [nnx_random, flax_random])
def test_networks_with_random_weights(kernel):
    """A network of one layer is the linear model: its weights have that posterior."""
    im = fitted(kernel, autoguide.AutoNormal(kernel))
    (weights,) = (w for name, w in im.posterior.items() if name.endswith("kernel"))
    assert_near_exact(weights[..., 0])
    assert np.corrcoef(predictions(im).mean(0), X @ EXACT.mean)[0, 1] > 0.98
    # Their names are paths, which trees and stores write with a dot.
    name = next(name for name in im.posterior if name.endswith("kernel"))
    tree = im.predict(X, return_sites=["y", name], progress=False)
    for group in ("posterior", "posterior_predictive"):
        stored = tree[group].to_dataset()[name.replace("/", ".")]
        np.testing.assert_array_equal(stored.values[0], im.posterior[name])


@pytest.mark.slow
def test_discrete_latents_are_summed_out():
    pytest.importorskip("funsor", reason="funsor, which NumPyro enumerates with, is not installed")
    rng = np.random.default_rng(0)
    of_second = rng.random(len(X)) < 0.7
    y = np.where(of_second, 2.0, -2.0) + 0.3 * rng.normal(size=len(X))
    guide = autoguide.AutoNormal(handlers.block(kernels.mixture, hide=["which"]))
    im = fitted(kernels.mixture, guide, loss=TraceEnum_ELBO(), y=y.astype(np.float32))
    assert set(im.posterior) == {"weight", "centre"}
    means = [y[~of_second].mean(), y[of_second].mean()]
    np.testing.assert_allclose(im.posterior["centre"].mean(0), means, atol=0.15)
    # Predictions draw the cluster of each row anew.
    share = (predictions(im) > 0).mean()
    assert abs(share - im.posterior["weight"].mean()) < 0.03


@pytest.mark.slow
def test_draws_of_another_sampler_keep_their_chains():
    by_chain = np.random.default_rng(1).normal(size=(2, 50, 2)).astype(np.float32)
    draws = {"beta": by_chain.reshape(100, 2)}  # as `get_samples` of a sampler returns them
    svi = SVI(
        kernels.regression, autoguide.AutoNormal(kernels.regression), optax.adam(0.1), Trace_ELBO()
    )
    im = ImpactModel(kernels.regression, jax.random.key(0), svi=svi)
    im.set_posterior_sample(draws, num_chains=2)
    tree = im.predict(X, store="memory", progress=False)
    assert tree["posterior_predictive"]["y"].shape == (2, 50, len(X))
    np.testing.assert_array_equal(tree["posterior"]["beta"], by_chain)
    np.testing.assert_allclose(tree["posterior_predictive"]["mean"], by_chain @ X.T, atol=1e-5)
