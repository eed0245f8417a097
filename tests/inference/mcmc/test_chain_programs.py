"""Programs of chains are kept from call to call, and only where they are right."""

from __future__ import annotations

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import HMC, MCMC, HMCGibbs

from aimz_lab import ImpactModel
from aimz_lab.lab.panels.compilations import compilation_log

KEY = jax.random.key(3)
X = np.linspace(0.5, 2.0, 6, dtype=np.float32)
Y = 1 + X
WIDTH = {"prior": 3.0}


def bounded(X, y=None):
    """The support of the slope depends on the data: whoever keeps its bounds is wrong."""
    slope = numpyro.sample("slope", dist.Uniform(0.0, X.max()))
    mean = numpyro.sample("mean", dist.Normal(0.0, WIDTH["prior"]))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(mean + slope * X, 1.0), obs=y)


def unbounded(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(mean + slope * X, 1.0), obs=y)


def model(kernel=bounded, around=lambda sampler: sampler):
    sampler = around(HMC(kernel, num_steps=2, trajectory_length=None))
    mcmc = MCMC(sampler, num_warmup=5, num_samples=10, progress_bar=False)
    return ImpactModel(kernel, jax.random.key(0), inference=mcmc)


def draws(im, X=X, y=Y):
    im.fit_on_batch(X, y, rng_key=KEY, progress=False)
    return {name: np.asarray(values) for name, values in im.posterior.items()}


@pytest.fixture(scope="module")
def used():
    """A model that ran before, and its first draws."""
    im = model()
    return im, draws(im)


@pytest.mark.slow
def test_other_data_and_keys_compile_nothing_and_draw_what_a_new_model_draws(used):
    im, first = used
    assert draws(im)["slope"].tolist() == first["slope"].tolist()
    before = compilation_log().count
    other = draws(im, X / 10, Y)
    im.fit_on_batch(X, Y, progress=False)
    assert compilation_log().count == before
    assert other["slope"].max() < X.max() / 10 < first["slope"].max()
    new = draws(model(), X / 10, Y)
    for name in new:
        np.testing.assert_array_equal(other[name], new[name])


@pytest.mark.slow
@pytest.mark.parametrize("change", ["kernel", "plan", "sampler"])
def test_what_a_program_depends_on_is_never_outdated(used, monkeypatch, change):
    im, first = used
    if change == "kernel":
        monkeypatch.setitem(WIDTH, "prior", 0.01)
        assert abs(draws(im)["mean"]).max() < 0.1 < abs(first["mean"]).max()
    elif change == "plan":
        monkeypatch.setattr(im.inference, "num_samples", 4)
        assert draws(im)["mean"].shape == (4,)
    else:
        monkeypatch.setattr(im.inference.sampler, "_step_size", 1e-6)
        monkeypatch.setattr(im.inference.sampler, "_adapt_step_size", False)
        assert np.ptp(draws(im)["mean"]) < 1e-3 < np.ptp(first["mean"])


@pytest.mark.slow
def test_chains_that_go_on_draw_what_numpyro_draws_and_compile_once():
    im = model(unbounded)
    draws(im)
    own = MCMC(im.inference.sampler, num_warmup=5, num_samples=4, progress_bar=False)
    own.post_warmup_state = im.inference.last_state
    own.run(own.post_warmup_state.rng_key, X=X, y=Y)
    more = im.sample(num_samples=4, X=X, y=Y)["posterior"]
    np.testing.assert_allclose(more["slope"][0], own.get_samples()["slope"], rtol=1e-5)
    before = compilation_log().count
    again = im.sample(num_samples=4, X=X, y=Y)["posterior"]
    assert compilation_log().count == before
    assert again["slope"][0, -1] != more["slope"][0, -1]
    # A fit begins anew, and keeps its own number of draws.
    assert draws(im)["slope"].shape == (10,)


@pytest.mark.slow
def test_samplers_within_a_sampler_stay_as_they_were():
    def gibbs(rng_key, gibbs_sites, hmc_sites):
        return {"mean": dist.Normal(hmc_sites["slope"], 0.1).sample(rng_key)}

    im = model(unbounded, lambda inner: HMCGibbs(inner, gibbs_fn=gibbs, gibbs_sites=["mean"]))
    first = draws(im)
    more = im.sample(num_samples=5, X=X, y=Y)["posterior"]
    assert more["mean"].shape == (1, 5)
    np.testing.assert_array_equal(draws(im)["mean"], first["mean"])
