"""Draws from elsewhere: their names, shapes and kinds of number are those of the kernel's sites."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import xarray as xr
from numpyro.infer import SVI, Trace_ELBO, init_to_value
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import ImpactModel
from aimz_lab.errors import ArgumentError, DataTypeError, OutputWarning, SiteError
from tests.runs import mean_field_model

X = np.zeros(4, np.float32)
LEVELS = np.array([0.0, 10.0, 20.0])


def shops(X, y=None):
    mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
    with numpyro.plate("shop", 3):
        level = numpyro.sample("level", dist.Normal(mu, 1.0))
    total = numpyro.deterministic("total", level.sum())
    with numpyro.plate("row", X.shape[0]):
        noise = numpyro.sample("noise", dist.Normal(0.0, 1.0))
        numpyro.sample("y", dist.Normal(total + noise + X, 0.01), obs=y)


def regimes(X, y=None):
    z = numpyro.sample("z", dist.Categorical(probs=jnp.ones(3) / 3))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(jnp.asarray(LEVELS)[z] + X, 0.01), obs=y)


def with_draws(kernel=shops, **draws):
    return mean_field_model(kernel).set_posterior_sample(draws)


MU, LEVEL = np.zeros(6, np.float32), np.ones((6, 3), np.float32)


def predicted(im, **options):
    return im.predict_on_batch(X, return_datatree=False, **options)["y"]


def test_a_misspelt_site_is_refused_by_name():
    im = with_draws(mu=MU, levle=LEVEL)
    with pytest.raises(
        SiteError, match="draws of 'levle'.*none of the kernel's 'level'.*'mu', 'level'"
    ):
        predicted(im)


@pytest.mark.slow
def test_a_site_without_draws_is_warned_about_unless_it_is_given():
    im = with_draws(mu=MU)
    with pytest.warns(OutputWarning, match="no draws of 'level'.*prior.*sample_prior_predictive"):
        predicted(im)
    for given in ("intervention", "condition"):
        values = predicted(im, **{given: {"level": 2.0}})
        assert abs(values.mean() - 6.0) < 2.5


def test_sites_with_rows_need_no_draws_and_computed_ones_may_have_some():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predicted(with_draws(mu=MU, level=LEVEL, total=np.zeros(6)))


def test_draws_of_no_site_are_warned_about():
    with pytest.warns(OutputWarning, match="draws of 'sigma', which the kernel does not have"):
        values = predicted(with_draws(mu=MU, level=LEVEL, sigma=MU))
    assert abs(values.mean() - 3.0) < 2.0


def test_a_site_below_an_intervention_may_come_from_the_kernel():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = predicted(with_draws(mu=MU), intervention={"mu": 50.0})
    assert abs(values.mean() - 150.0) < 10.0


@pytest.mark.slow
def test_the_prior_is_an_answer_to_who_asks_for_it():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with_draws(mu=MU).sample_prior_predictive_on_batch(X, num_samples=5)


@pytest.mark.slow
@pytest.mark.allow_rank_promotion  # NumPyro's guides draw with a sample shape
def test_a_trained_model_knows_its_sites_at_once():
    im = mean_field_model(shops)
    im.fit_on_batch(X, X, num_steps=2, num_samples=6, progress=False)
    before = im.posterior
    with pytest.raises(SiteError, match="'levle'.*'level'"):
        im.set_posterior_sample({"mu": MU, "levle": LEVEL})
    with pytest.raises(SiteError, match=r"has shape \(6,\).*0 axes\. Chains are stacked"):
        im.set_posterior_sample({"mu": np.zeros((2, 6)), "level": np.ones((2, 6, 3))})
    assert im.posterior.keys() == before.keys()


def test_chains_lie_along_the_axis_of_draws():
    draws = xr.Dataset({"mu": (("chain", "draw"), MU.reshape(2, 3))})
    with pytest.raises(SiteError, match=r"dimensions chain, draw;.*num_chains=2"):
        mean_field_model(shops).set_posterior_sample(draws)
    with pytest.raises(SiteError, match="dimensions shop, sample"):
        with_draws(level=xr.DataArray(LEVEL.T, dims=("shop", "sample")))
    im = with_draws(mu=MU.reshape(2, 3), level=LEVEL.reshape(2, 3, 3))
    with pytest.raises(SiteError, match=r"has shape \(3,\).*Chains are stacked"):
        predicted(im)
    with pytest.raises(ArgumentError, match="num_chains"):
        mean_field_model(shops).set_posterior_sample({"mu": MU}, num_chains=1.5)


def test_numbers_of_draws_and_kinds_of_values_are_checked():
    with pytest.raises(SiteError, match="'mu' has 6, 'level' has 5"):
        with_draws(mu=MU, level=LEVEL[:5])
    with pytest.raises(DataTypeError, match="'mu' holds text"):
        with_draws(mu=np.array(["a", "b"]))
    with pytest.raises(SiteError, match="NaN or infinite: 1 of 6 of 'mu'"):
        with_draws(mu=np.where(np.arange(6) == 2, np.nan, MU), level=LEVEL)


@pytest.mark.slow
def test_draws_take_the_kind_of_number_of_their_site():
    whole = predicted(with_draws(mu=MU.astype(int), level=LEVEL.astype(int)))
    real = predicted(with_draws(mu=MU, level=LEVEL))
    assert whole.dtype == real.dtype == np.float32
    values = predicted(with_draws(regimes, z=np.array([0.0, 1.0, 2.0])))
    np.testing.assert_allclose(values.mean(1), LEVELS, atol=0.05)
    with pytest.raises(SiteError, match="'z' takes whole numbers"):
        predicted(with_draws(regimes, z=np.array([0.0, 1.5])))


def shifted(X, y=None):
    mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
    shift = numpyro.param("shift", 0.0)
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(mu + shift + X, 0.01), obs=y)


def test_a_parameter_takes_no_draws():
    with pytest.raises(SiteError, match="draws of 'shift'.*one value"):
        predicted(with_draws(shifted, mu=MU, shift=MU))


def test_an_untrained_parameter_is_warned_about():
    with pytest.warns(OutputWarning, match="parameters 'shift' have no trained values"):
        predicted(with_draws(shifted, mu=MU))


def wide(X, y=None):
    """A flat site, which may become infinite, and a logarithm of zero."""
    flat = dist.ImproperUniform(dist.constraints.positive, (), ())
    scale = numpyro.sample("scale", flat)
    zero = numpyro.deterministic("zero", jnp.log(jnp.zeros_like(jax.lax.stop_gradient(scale))))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(jnp.exp(zero), 1.0), obs=y)


@pytest.mark.slow
def test_draws_of_a_guide_that_are_not_finite_are_refused():
    X, y = np.zeros(20, np.float32), np.zeros(20, np.float32)
    guide = AutoNormal(wide, init_loc_fn=init_to_value(values={"scale": 2.8e38}))
    svi = SVI(wide, guide, numpyro.optim.Adam(1e-3), Trace_ELBO())
    im = ImpactModel(wide, jax.random.key(0), svi=svi)
    with pytest.raises(SiteError, match=r"infinite: \d+ of 900 of 'scale'.*parameters stay"):
        im.fit(X, y, num_samples=900, progress=False)
    assert (im.is_fitted(), im.last_run.status) == (False, "completed")
    assert im.vi_result.losses.shape == (1,)
    before = im.rng_key
    with pytest.raises(SiteError, match="of 'scale'"):
        im.sample(num_samples=900)
    assert im.rng_key is before
    # What the kernel computes may be infinite, as the logarithm of nothing is.
    im.set_posterior_sample({"scale": np.ones(3), "zero": np.full(3, -np.inf)})
    with pytest.raises(SiteError, match="NaN or infinite: 1 of 3 of 'scale'"):
        im.set_posterior_sample({"scale": np.array([1.0, np.nan, 2.0])})
    np.testing.assert_array_equal(im.posterior["scale"], np.ones(3))
