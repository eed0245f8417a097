"""Draws by row that a kernel mixes across rows by an argument, as a Gaussian process does."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from aimz_lab import ImpactModel
from aimz_lab.errors import OutputWarning, SiteError
from tests.runs import mean_field

pytestmark = [pytest.mark.slow, pytest.mark.allow_rank_promotion]

N = 24
RNG = np.random.default_rng(0)
X = np.sort(RNG.uniform(-2, 2, N)).astype(np.float32)
T = (np.arange(N) % 2).astype(np.float32)
Y = np.sin(2 * X).astype(np.float32)
Z = RNG.normal(size=(20, N)).astype(np.float32)
OPTIONS = {"store": "memory", "progress": False, "shard_axis": "draw"}


def process(z, X, t):
    K = jnp.exp(-((X[:, None] - X) ** 2)) + 1e-3 * jnp.eye(X.shape[0])
    return jnp.linalg.cholesky(K) @ z + t


def centred_process(z, X, t):
    K = jnp.exp(-((X[:, None] - X) ** 2))
    return K @ z / K.sum(1) + t


def walk(z, X, t):
    return jnp.cumsum(z) * X + t


def autoregression(z, X, t):
    def step(level, now):
        level = 0.5 * level + now[0] + now[1]
        return level, level

    return jax.lax.scan(step, 0.0, (z, X))[1] + t


def linked(z, X, t):
    def step(stock, now):
        stock = 0.5 * stock + now
        return stock, stock

    return jnp.exp(0.1 * jnp.cumsum(z) + 0.1 * jax.lax.scan(step, 0.0, X)[1]) + t


def coefficient(z, X, t):
    return jnp.cumsum(z) * jnp.cumsum(X) + t


def own(z, X, t):
    return z * X + X.mean() + t


def model(mixed):
    def kernel(X, t, y=None):
        z = numpyro.sample("z", dist.Normal().expand([X.shape[0]]).to_event(1))
        f = numpyro.deterministic("f", mixed(z, X, t))
        with numpyro.plate("row", X.shape[0]):
            numpyro.sample("y", dist.Normal(f, 0.3), obs=y)

    im = ImpactModel(kernel, jax.random.key(0), svi=mean_field(kernel))
    im.fit_on_batch(X, Y, t=T, num_steps=2, num_samples=2, progress=False)
    return im.set_posterior_sample({"z": Z})


@pytest.mark.parametrize("mixed", [process, centred_process])
def test_a_process_at_other_inputs_is_refused(mixed):
    im = model(mixed)
    with pytest.raises(SiteError, match="mixes the values of 'z' across rows by 'X'.*conditional"):
        im.predict(X + 0.3, t=T, **OPTIONS)
    before, after = {"X": X, "t": T, **OPTIONS}, {"X": X + 0.3, "t": T, **OPTIONS}
    with pytest.raises(SiteError, match="mixes the values of 'z' across rows by 'X'"):
        im.estimate_effect(args_baseline=before, args_intervention=after)
    # What does not enter the process may change.
    effect = im.estimate_effect(
        args_baseline=before | {"t": 0 * T}, args_intervention=before | {"t": 0 * T + 1}
    )
    np.testing.assert_allclose(effect.posterior_predictive["f"], 1.0, atol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutputWarning)
        for held in ("keep", "redraw"):
            im.predict(X + 0.3, t=T, held=held, **OPTIONS)


@pytest.mark.filterwarnings("ignore:The model has one value per row")
def test_inputs_in_a_container_are_asked_too():
    def kernel(X, at, y=None):
        z = numpyro.sample("z", dist.Normal().expand([X.shape[0]]).to_event(1))
        with numpyro.plate("row", X.shape[0]):
            numpyro.sample("y", dist.Normal(process(z, at["place"], X), 0.3), obs=y)

    im = ImpactModel(kernel, jax.random.key(0), svi=mean_field(kernel))
    im.fit_on_batch(T, Y, at={"place": X}, num_steps=2, num_samples=2, progress=False)
    im.predict(T + 1, at={"place": X}, **OPTIONS)
    with pytest.raises(SiteError, match="mixes the values of 'z' across rows by \"at\\['place'\\]"):
        im.predict(T, at={"place": X + 0.3}, **OPTIONS)


@pytest.mark.parametrize("mixed", [walk, autoregression, own, linked, coefficient])
@pytest.mark.filterwarnings("ignore::aimz_lab.errors.OutputWarning")
def test_values_that_are_mixed_without_the_argument_are_not_refused(mixed):
    model(mixed).predict(X + 0.3, t=T, **OPTIONS)
