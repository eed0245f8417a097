"""Kernels that draw with a random key of their own see the same numbers in every call."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax import random
from numpyro.infer import log_likelihood

from tests.runs import mean_field_model

OUTSIDE = random.key(5), random.PRNGKey(5)


def fourier(key):
    """A kernel with random features."""

    def kernel(X, y=None):
        t = numpyro.sample("t", dist.Normal(0, 1))
        W = random.normal(key(), (3,))
        with numpyro.plate("row", X.shape[0]):
            mu = numpyro.deterministic("mu", jnp.cos(X[:, None] * W[None]).sum(-1) * t)
            numpyro.sample("y", dist.Normal(mu, 0.1), obs=y)

    return kernel


KEYS = {
    "key": lambda: random.key(0),
    "raw key": lambda: random.PRNGKey(0),
    "key from outside": lambda: OUTSIDE[0],
    "raw key from outside": lambda: OUTSIDE[1],
    "split": lambda: random.split(random.key(3))[1],
}


@pytest.mark.slow
@pytest.mark.parametrize("key", KEYS.values(), ids=list(KEYS))
def test_features_are_those_of_training_and_of_numpyro(key):
    kernel, X, t = fourier(key), np.linspace(-2, 2, 300, dtype=np.float32), np.float32([-1, 0.5, 2])
    im = mean_field_model(kernel).set_posterior_sample({"t": t})
    features = np.cos(X[:, None] * np.asarray(random.normal(key(), (3,)))).sum(-1)
    tree = im.predict(X, return_sites="mu", progress=False)
    np.testing.assert_allclose(tree.posterior_predictive.mu[0], t[:, None] * features, atol=1e-4)
    expected = log_likelihood(kernel, {"t": t}, X, features)["y"]
    got = im.log_likelihood(X, features, progress=False).log_likelihood.y[0]
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3)
