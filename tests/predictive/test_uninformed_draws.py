"""Latent sites without draws, beside observed data that tells of them."""

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

RNG = np.random.default_rng(0)
N, N_DRAWS = 30, 20
X = RNG.normal(size=N).astype("f4")
KIND = RNG.integers(0, 2, N)
SIGN = np.where(KIND, 1, -1).astype("f4")
WEIGHT = RNG.normal(size=N).astype("f4")
OPTIONS = {"rng_key": jax.random.key(1), "store": "memory", "progress": False}


def with_an_indicator(X, sign=None, weight=None, y=None):
    """The kind of a row shows in its sign and in its output, and not in its weight."""
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        kind = numpyro.sample("kind", dist.Bernoulli(0.5), infer={"enumerate": "parallel"})
        moved = numpyro.deterministic("moved", 2.0 * kind - 1)
        numpyro.sample("sign", dist.Normal(moved, 0.1), obs=sign)
        numpyro.sample("weight", dist.Normal(slope, 1), obs=weight)
        numpyro.sample("y", dist.Normal(jnp.where(kind, 5.0, 0.0) + slope * X, 1e-3), obs=y)


@pytest.fixture(scope="module")
def im():
    kernel = with_an_indicator
    im = ImpactModel(kernel, jax.random.key(0), svi=mean_field(kernel))
    return im.set_posterior_sample({"slope": np.zeros(N_DRAWS, "f4")})


@pytest.mark.parametrize("method", ["predict", "predict_on_batch"])
def test_a_class_is_not_drawn_as_if_its_indicator_had_no_data(im, method):
    options = OPTIONS if method == "predict" else {"rng_key": jax.random.key(1)}
    with pytest.raises(SiteError, match=r"'kind' would be drawn .* leave 'sign' out"):
        getattr(im, method)(X, sign=SIGN, **options)


def test_effects_and_decisions_refuse_it_too(im):
    calls = [{"X": X + step, "sign": SIGN} for step in (0, 1)]
    with pytest.raises(SiteError, match="'kind' would be drawn"):
        im.estimate_effect(args_baseline=calls[0], args_intervention=calls[1])
    with pytest.raises(SiteError, match="'kind' would be drawn"):
        im.decide(dict(zip("ab", calls, strict=True)))


def test_without_that_data_and_beside_other_data_it_is_drawn(im):
    for data in ({}, {"weight": WEIGHT}):
        y = im.predict(X, **data, **OPTIONS).posterior_predictive.y.values
        assert 0.4 < (y > 2.5).mean() < 0.6
    weight = im.predict(X, sign=SIGN, return_sites=["weight"], **OPTIONS)
    assert weight.posterior_predictive.weight.shape == (1, N_DRAWS, N)
    prior = im.sample_prior_predictive(X, sign=SIGN, num_samples=5, store="memory", progress=False)
    assert prior.prior_predictive.y.shape == (1, 5, N)


def test_with_draws_of_the_class_it_is_known(im):
    draws = {"slope": np.zeros(N_DRAWS, "f4"), "kind": np.tile(KIND, (N_DRAWS, 1))}
    kernel = with_an_indicator
    known = ImpactModel(kernel, jax.random.key(0), svi=mean_field(kernel))
    known.set_posterior_sample(draws)
    tree = known.predict(X, sign=SIGN, shard_axis="draw", **OPTIONS)
    y = tree.posterior_predictive.y.values[0]
    np.testing.assert_allclose(y, np.tile(5.0 * KIND, (N_DRAWS, 1)), atol=0.01)


def with_a_factor(X, sign=None, y=None):
    with numpyro.plate("row", X.shape[0]):
        kind = numpyro.sample("kind", dist.Normal(0, 1))
        if sign is not None:
            numpyro.factor("likeness", dist.Normal(kind, 0.1).log_prob(sign))
        numpyro.sample("y", dist.Normal(kind + X, 1e-3), obs=y)


@pytest.mark.allow_rank_promotion
def test_a_factor_tells_of_a_site_too():
    im = ImpactModel(with_a_factor, jax.random.key(0), svi=mean_field(with_a_factor))
    im.fit_on_batch(X, X, sign=SIGN, num_steps=2, num_samples=N_DRAWS, progress=False)
    new = X[:9] + 1
    with pytest.raises(SiteError, match="'kind' would be drawn .* without the factor 'likeness'"):
        im.predict(new, sign=SIGN[:9], held="redraw", **OPTIONS)
    tree = im.predict(new, held="redraw", **OPTIONS)
    assert tree.posterior_predictive.y.shape == (1, N_DRAWS, 9)


def with_a_child(X, sign=None, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        y = numpyro.sample("y", dist.Normal(slope + X, 1), obs=y)
        numpyro.sample("sign", dist.Normal(y, 0.1), obs=sign)


def test_data_below_the_output_of_new_rows_is_not_used_and_said_so():
    im = ImpactModel(with_a_child, jax.random.key(0), svi=mean_field(with_a_child))
    im.fit_on_batch(X, X, sign=SIGN, num_steps=2, num_samples=N_DRAWS, progress=False)
    with pytest.warns(OutputWarning, match="'y' is predicted as if 'sign' had no data"):
        im.predict(X + 1, sign=SIGN, **OPTIONS)
    calls = [{"X": X + step, "sign": SIGN} for step in (0, 1)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", OutputWarning)
        im.predict(X, sign=SIGN, **OPTIONS)  # replicates of the training rows
        im.predict(X + 1, **OPTIONS)
        im.estimate_effect(args_baseline=calls[0], args_intervention=calls[1])


def with_a_measurement(X, sign, y=None):
    with numpyro.plate("row", X.shape[0]):
        kind = numpyro.sample("kind", dist.Normal(0, 1))
        numpyro.sample("sign", dist.Normal(kind, 0.1), obs=sign)
        numpyro.sample("y", dist.Normal(kind + X, 1), obs=y)


@pytest.mark.allow_rank_promotion
@pytest.mark.filterwarnings("ignore:The posterior holds one value a row")
def test_draws_do_not_know_of_other_data_that_tells_of_their_site():
    kernel = with_a_measurement
    im = ImpactModel(kernel, jax.random.key(0), svi=mean_field(kernel))
    im.fit_on_batch(X, X, sign=SIGN, num_steps=2, num_samples=N_DRAWS, progress=False)
    im.predict(X, sign=SIGN, **OPTIONS)
    with pytest.raises(SiteError, match="'sign' is not as in training and changes site 'kind'"):
        im.predict(X, sign=-SIGN, **OPTIONS)
    im.predict(X, sign=-SIGN, held="keep", **OPTIONS)
    with pytest.raises(SiteError, match="'kind' would be drawn from the kernel as if 'sign'"):
        im.predict(X, sign=-SIGN, held="redraw", **OPTIONS)
