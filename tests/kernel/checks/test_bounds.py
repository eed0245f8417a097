"""Log densities beyond the support of a distribution."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from aimz_lab.errors import DataError
from aimz_lab.kernel.checks.bounds import log_prob_within
from tests.runs import mean_field_model

pytestmark = pytest.mark.allow_rank_promotion  # NumPyro's Categorical needs it


def compiled(distribution, value):
    """The density as programs compute it; of plain numbers NumPyro warns."""
    return jax.jit(lambda value: log_prob_within(distribution, value))(jnp.asarray(value))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("distribution", "inside", "outside"),
    [
        (dist.Uniform(-1.0, 2.0), [-1.0, 0.0, 2.0], [-1.1, 2.5]),
        (dist.HalfNormal(1.0), [0.1, 3.0], [-0.5]),
        (dist.Exponential(2.0), [0.5], [-0.5]),
        (dist.Gamma(2.0, 1.0), [0.5], [-0.5]),
        (dist.Beta(2.0, 2.0), [0.5], [-0.1, 1.5]),
        (dist.Categorical(jnp.array([0.2, 0.3, 0.5])), [0, 2], [-1, 3]),
        (dist.Bernoulli(0.3), [0, 1], [-1, 2]),
        (dist.Binomial(5, 0.3), [0, 5], [-1, 6]),
        (dist.Poisson(2.0), [0, 9], [-1]),
        (dist.ZeroInflatedPoisson(0.2, 2.0), [0, 9], [-1]),
        (dist.NegativeBinomial2(2.0, 1.0), [0, 9], [-1]),
        (dist.TruncatedNormal(0.0, 1.0, low=0.0, high=1.0), [0.5], [-0.5, 1.5]),
        (dist.Normal(0.0, 1.0), [-100.0, 100.0], []),
        (dist.LogNormal(0.0, 1.0), [1.0], [-1.0]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, dist.Distribution) else None,
)
def test_density_is_zero_outside_and_numpyros_inside(distribution, inside, outside):
    got = compiled(distribution, inside + outside)
    theirs = distribution.log_prob(jnp.asarray(inside))
    np.testing.assert_allclose(got[: len(inside)], theirs, rtol=1e-5)
    assert (got[len(inside) :] == -np.inf).all()


def test_one_entry_outside_makes_its_whole_event_impossible():
    events = dist.Uniform(jnp.zeros((2, 3)), 1.0).to_event(1)
    got = compiled(events, jnp.array([[0.1, 0.2, 0.3], [0.1, 1.2, 0.3]]))
    np.testing.assert_array_equal(got, [0.0, -np.inf])


def test_what_is_masked_has_no_density_whatever_it_holds():
    y = jnp.array([0, -1, 2])
    rows = dist.Categorical(jnp.full((3, 3), 1 / 3)).mask(y >= 0)
    np.testing.assert_allclose(compiled(rows, y), [-np.log(3), 0, -np.log(3)], rtol=1e-5)


def test_vectors_with_constraints_of_their_own_are_left_to_numpyro():
    value = jnp.array([0.2, 0.3, 0.5])
    simplex = dist.Dirichlet(jnp.ones(3))
    np.testing.assert_allclose(compiled(simplex, value), simplex.log_prob(value), rtol=1e-5)


def levels(X, y=None):
    probs = numpyro.sample("probs", dist.Dirichlet(jnp.ones(3)))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Categorical(probs), obs=y)


def flags(X, y=None):
    rate = numpyro.sample("rate", dist.Beta(1.0, 1.0))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Bernoulli(rate), obs=y)


def waits(X, y=None):
    rate = numpyro.sample("rate", dist.Gamma(1.0, 1.0))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Exponential(rate), obs=y)


def masked_levels(X, y=None):
    probs = numpyro.sample("probs", dist.Dirichlet(jnp.ones(3)))
    with numpyro.plate("row", X.shape[0]), numpyro.handlers.mask(mask=X > 0):
        numpyro.sample("y", dist.Categorical(probs), obs=y)


@cache
def trained_on_ones(kernel, dtype):
    X, y = np.ones(8, np.float32), np.ones(8, dtype)
    im = mean_field_model(kernel)
    return im.fit(X, y, batch_size=8, epochs=1, progress=False, num_samples=4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kernel", "wrong", "message"),
    [
        (levels, -1, "'y' is -1 at row 3.*from 0 to 2"),
        (levels, 3, "'y' is 3 at row 3.*from 0 to 2"),
        (flags, 2, "'y' is 2 at row 3.*from 0 to 1"),
        (waits, -0.5, r"'y' is -0.5 at row 3.*above 0.0"),
    ],
)
def test_training_refuses_data_outside_the_support(kernel, wrong, message):
    X, y = np.ones(8, np.float32), np.ones(8, np.asarray(wrong).dtype)
    im = trained_on_ones(kernel, y.dtype)
    y[3] = wrong
    with pytest.raises(DataError, match=message):
        im.fit(X, y, batch_size=8, epochs=1, progress=False)
    with pytest.raises(DataError, match=message):
        im.fit_on_batch(X, y, num_steps=1, progress=False)
    if kernel is levels:  # its density looks the value up
        with pytest.raises(DataError, match="'y'"):
            im.log_likelihood(X, y, progress=False, store="memory")
        return
    density = im.log_likelihood(X, y, progress=False, store="memory")["log_likelihood"]["y"]
    assert (density[..., 3] == -np.inf).all()
    assert np.isfinite(density[..., :3]).all()


@pytest.mark.slow
def test_masked_data_may_hold_anything():
    X, y = np.ones(8, np.float32), np.ones(8, int)
    X[3], y[3] = -1, -1
    im = mean_field_model(masked_levels)
    im.fit(X, y, batch_size=8, epochs=1, progress=False, num_samples=4)
    density = im.log_likelihood(X, y, progress=False, store="memory")["log_likelihood"]["y"]
    np.testing.assert_array_equal(density[..., 3], 0)
