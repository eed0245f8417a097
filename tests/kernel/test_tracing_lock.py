"""Products of float32 are computed in float32 wherever a kernel runs, also on a GPU."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import HMC, MCMC

from aimz_lab import ImpactModel
from tests.runs import mean_field_model

pytestmark = pytest.mark.allow_rank_promotion

X = np.linspace(-1, 1, 60, dtype=np.float32).reshape(30, 2)
Y = X[:, 0]


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """JAX says that it computes on a GPU, whose default for products is TF32."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")


def kernel(X, y=None):
    beta = numpyro.sample("beta", dist.Normal(0, 1).expand([2]).to_event(1))
    program = str(jax.make_jaxpr(jnp.dot)(jnp.ones(2), jnp.ones(2)))
    numpyro.deterministic("is_exact", jnp.asarray("HIGHEST" in program))
    if "HIGHEST" not in program:
        numpyro.factor("inexact", jnp.asarray(-jnp.inf))  # no run of it could have a finite loss
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ beta, 1), obs=y)


@pytest.mark.slow
def test_training_and_predictions_compute_products_of_float32_in_float32(as_on_a_gpu):
    im = mean_field_model(kernel)
    im.fit(X, Y, batch_size=10, epochs=2, num_samples=5, progress=False)
    assert np.isfinite(im.last_run.losses).all()
    tree = im.predict(X, store="memory", progress=False, return_sites=["is_exact", "y"])
    assert tree.posterior_predictive["is_exact"].values.all()
    im.train_on_batch(X[:10], Y[:10], n_obs=30)


def test_chains_compute_products_of_float32_in_float32(as_on_a_gpu):
    sampler = HMC(kernel, num_steps=2, trajectory_length=None)
    mcmc = MCMC(sampler, num_warmup=2, num_samples=2, progress_bar=False)
    im = ImpactModel(kernel, jax.random.key(0), inference=mcmc)
    im.fit_on_batch(X, Y, progress=False)
    assert mcmc.get_samples()["is_exact"].all()


def test_a_precision_that_the_user_has_set_goes_first(as_on_a_gpu):
    with jax.default_matmul_precision("tensorfloat32"):
        im = mean_field_model(kernel)
        im.set_posterior_sample({"beta": jnp.ones((3, 2))})
        tree = im.predict(X, store="memory", progress=False, return_sites=["is_exact"])
    assert not tree.posterior_predictive["is_exact"].values.any()
