"""Interventions on sites that the kernel computes: deterministic and reparametrised ones."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from numpyro.infer.reparam import LocScaleReparam, TransformReparam

from aimz_lab.errors import SiteError
from tests.predictive.test_held_sites import drawn, model

X = np.arange(6, dtype=np.float32)
B = np.float32([1, 2, 3])


def computed(X, y=None):
    b = numpyro.sample("b", dist.Normal(0.0, 1.0))
    mu = numpyro.deterministic("mu", b * X)
    numpyro.deterministic("twice", 2 * mu)
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(mu, 0.001), obs=y)


@pytest.mark.slow
@pytest.mark.parametrize("value", [4.0, np.arange(6)[::-1]])
def test_a_computed_site_takes_the_value(value):
    expected = np.broadcast_to(np.float32(value), (3, 6))
    for site, factor in (("mu", 1), ("twice", 2), ("y", 1)):
        got = drawn(model(computed, {"b": B}), X, site, intervention={"mu": value})
        np.testing.assert_allclose(got, factor * expected, atol=0.01)


def test_rows_and_blocks_of_a_computed_site():
    inputs = np.arange(700, dtype=np.float32)
    values = inputs[::-1].copy()
    im = model(computed, {"b": B})
    tree = im.predict(
        inputs, intervention={"mu": values}, store="memory", batch_size=256, progress=False
    )
    got = tree["posterior_predictive"]["y"].values[0]
    np.testing.assert_allclose(got, np.tile(values, (3, 1)), atol=0.01)


def test_a_value_of_another_shape_is_refused():
    with pytest.raises(SiteError, match=r"'mu' has shape \(4,\)"):
        drawn(model(computed, {"b": B}), X, intervention={"mu": np.zeros(4)})


def test_a_kernel_that_goes_on_without_the_site_is_refused():
    def kernel(X, y=None):
        mu = numpyro.sample("b", dist.Normal(0.0, 1.0)) * X
        numpyro.deterministic("mu", mu)
        last = numpyro.deterministic("last", mu + 1)
        numpyro.deterministic("of_last", last)
        with numpyro.plate("row", X.shape[0]):
            numpyro.sample("y", dist.Normal(mu, 0.001), obs=y)

    im = model(kernel, {"b": B})
    with pytest.raises(SiteError, match=r"value = numpyro.deterministic\('mu', value\)"):
        drawn(im, X, intervention={"mu": 4.0})
    with pytest.raises(SiteError, match="'of_last' would not reach"):
        drawn(im, X, intervention={"of_last": 4.0})
    assert (drawn(im, X, "of_last", intervention={"last": 4.0}) == 4).all()


def test_no_condition_on_a_computed_site():
    with pytest.raises(SiteError, match=r"'mu', which the kernel computes.*intervention="):
        drawn(model(computed, {"b": B}), X, condition={"mu": 4.0})


def below_computed(X, y=None):
    m = numpyro.sample("m", dist.Normal(0.0, 1.0))
    level = numpyro.deterministic("level", m + 1)
    t = numpyro.sample("t", dist.Normal(level, 0.001))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(t + 0 * X, 0.001), obs=y)


@pytest.mark.parametrize(("site", "expected"), [("m", 8), ("level", 7)])
def test_draws_below_a_computed_site(site, expected):
    im = model(below_computed, {"m": B, "t": B})
    with pytest.raises(SiteError, match="'t'"):
        drawn(im, X, intervention={site: 7.0})
    got = drawn(im, X, intervention={site: 7.0}, held="redraw")
    np.testing.assert_allclose(got, expected, atol=0.05)
    kept = drawn(im, X, intervention={site: 7.0}, held="keep")
    np.testing.assert_allclose(kept, np.tile(B[:, None], 6), atol=0.05)


def centred(X, y=None):
    m = numpyro.sample("m", dist.Normal(0.0, 1.0))
    size = numpyro.sample(
        "size",
        dist.TransformedDistribution(dist.Normal(0.0, 1.0), dist.transforms.ExpTransform()),
    )
    with numpyro.plate("group", 2):
        theta = numpyro.sample("theta", dist.Normal(m, 1.0))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(size * theta[0] + theta[1] * X, 0.001), obs=y)


CONFIG = {"theta": LocScaleReparam(0.0), "size": TransformReparam()}


def inside(X, y=None):
    with handlers.reparam(config=CONFIG):
        centred(X, y)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [inside, handlers.reparam(centred, config=CONFIG)])
def test_a_reparametrised_site_is_set_by_its_own_name(kernel):
    draws = {
        "m": B,
        "size_base": jnp.zeros(3),
        "theta_decentered": np.ones((3, 2), np.float32),
        "theta": np.full((3, 2), 77, np.float32),  # computed anew
        "size": np.full(3, 77, np.float32),
    }
    im = model(kernel, draws)
    natural = (B + 1)[:, None] * (1 + X)
    np.testing.assert_allclose(drawn(im, X), natural, atol=0.01)
    got = drawn(im, X, intervention={"theta": np.float32([5, 2])})
    np.testing.assert_allclose(got, np.tile(5 + 2 * X, (3, 1)), atol=0.01)
    got = drawn(im, X, intervention={"size": 3.0})
    np.testing.assert_allclose(got, (B + 1)[:, None] * (3 + X), atol=0.01)
    got = drawn(im, X, intervention={"m": 10.0})  # the decentered draws do not depend on it
    np.testing.assert_allclose(got, np.tile(11 * (1 + X), (3, 1)), atol=0.01)


def test_no_value_for_what_a_loop_computes():
    from numpyro.contrib.control_flow import scan

    def kernel(X, y=None):
        b = numpyro.sample("b", dist.Normal(0.0, 1.0))

        def step(state, x):
            state = numpyro.deterministic("state", state + b * x)
            return state, state

        _, states = scan(step, 0.0, X)
        numpyro.sample("y", dist.Normal(states, 0.001), obs=y)

    im = model(kernel, {"b": B})
    with pytest.raises(SiteError, match="'state' is computed in a loop"):
        im.predict(X, intervention={"state": 1.0}, shard_axis="draw", progress=False)
