"""Setting a guide up in one compilation leaves what NumPyro's own way leaves."""

from __future__ import annotations

import gc
import types

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax.core import Tracer
from numpyro.infer import SVI, Trace_ELBO, autoguide

from aimz_lab.inference.numpyro_patches import initial_state
from tests.runs import compilations

X = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
Y = X.sum(axis=1)
ROWS = {"X": X, "y": Y}

pytestmark = pytest.mark.allow_rank_promotion

GUIDES = [
    autoguide.AutoNormal,
    autoguide.AutoDelta,
    autoguide.AutoMultivariateNormal,
    autoguide.AutoLaplaceApproximation,
]


def kernel(X, y=None):
    """Latents on several supports, in and out of a plate, and a deterministic site."""
    beta = numpyro.sample("beta", dist.Normal(0, 1).expand([3]).to_event(1))
    sd = numpyro.sample("sd", dist.HalfNormal(1.0))
    with numpyro.plate("group", 4):
        shift = numpyro.sample("shift", dist.Uniform(-1.0, 2.0))
    mean = numpyro.deterministic("mean", X @ beta + shift.sum())
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(mean, sd), obs=y)


def make(guide):
    return SVI(kernel, guide(kernel), numpyro.optim.Adam(0.1), Trace_ELBO())


@pytest.mark.parametrize("guide", GUIDES)
def test_it_is_the_state_that_numpyro_sets_up(guide, key):
    ours, theirs = make(guide), make(guide)
    state, expected = initial_state(ours, key, ROWS, {}), theirs.init(key, **ROWS)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        (state.optim_state, ours.get_params(state)),
        (expected.optim_state, theirs.get_params(expected)),
    )
    assert jax.random.key_data(state.rng_key).tolist() == (
        jax.random.key_data(expected.rng_key).tolist()
    )


@pytest.mark.parametrize("guide", GUIDES[:3])
def test_the_guide_works_on_as_one_that_numpyro_set_up(guide, key):
    ours, theirs = make(guide), make(guide)
    state, expected = initial_state(ours, key, ROWS, {}), theirs.init(key, **ROWS)
    for svi, begin in ((ours, state), (theirs, expected)):
        svi.after, svi.seen = jax.jit(svi.update)(begin, **ROWS)
    np.testing.assert_allclose(ours.seen, theirs.seen, rtol=1e-5)
    draws = [
        svi.guide.sample_posterior(key, svi.get_params(svi.after), **ROWS, sample_shape=(7,))
        for svi in (ours, theirs)
    ]
    assert draws[0].keys() == draws[1].keys()
    for name in draws[0]:
        np.testing.assert_allclose(draws[0][name], draws[1][name], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("guide", GUIDES)
def test_what_the_state_will_be_like_is_told_before(guide, key):
    def like(tree):
        return [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in jax.tree.leaves(tree)]

    told = []
    state = initial_state(make(guide), key, ROWS, {}, told.append)
    [shapes] = told
    assert like(shapes) == like(jax.tree.map(jax.typeof, state))
    assert jax.tree.structure(shapes) == jax.tree.structure(state)


def reachable(*roots):
    """What can be reached from some objects, without going through modules and classes."""
    seen, stack = {}, list(roots)
    while stack:
        found = stack.pop()
        is_module_dict = isinstance(found, dict) and "__loader__" in found
        if id(found) in seen or isinstance(found, (types.ModuleType, type)) or is_module_dict:
            continue
        seen[id(found)] = found
        stack += gc.get_referents(found)
    return seen.values()


def test_no_tracer_stays_behind(key):
    svi = make(autoguide.AutoNormal)
    initial_state(svi, key, ROWS, {})
    known = [found for found in reachable(svi, svi.guide) if isinstance(found, jax.Array)]
    assert known
    assert not [found for found in known if isinstance(found, Tracer)]


def test_it_compiles_once(key):
    svi = make(autoguide.AutoNormal)
    jax.block_until_ready(key)
    with compilations() as compiled:
        initial_state(svi, key, ROWS, {})
    assert len(compiled) <= 3


def test_a_guide_that_needs_values_is_set_up_in_the_usual_way(key):
    def guide(X, y=None):
        start = float(X.mean())  # fails on a tracer
        loc = numpyro.param("loc", start)
        numpyro.sample("beta", dist.Normal(loc, 1.0).expand([3]).to_event(1))

    def small(X, y=None):
        beta = numpyro.sample("beta", dist.Normal(0, 1).expand([3]).to_event(1))
        with numpyro.plate("obs", X.shape[0]):
            numpyro.sample("y", dist.Normal(X @ beta, 1.0), obs=y)

    svi = SVI(small, guide, numpyro.optim.Adam(0.1), Trace_ELBO())
    state = initial_state(svi, key, ROWS, {})
    np.testing.assert_allclose(svi.get_params(state)["loc"], X.mean(), rtol=1e-5)


def test_an_error_of_the_kernel_is_the_kernels_own_and_leaves_the_guide_as_it_was(key):
    def broken(X, y=None):
        numpyro.sample("beta", dist.Normal(0, 1))
        raise ZeroDivisionError("mine")

    guide = autoguide.AutoNormal(broken)
    svi = SVI(broken, guide, numpyro.optim.Adam(0.1), Trace_ELBO())
    with pytest.raises(ZeroDivisionError, match="mine"):
        initial_state(svi, key, ROWS, {})
    assert guide.prototype_trace is None
