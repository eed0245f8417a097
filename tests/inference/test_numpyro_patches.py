"""The patches of NumPyro: they do what they promise, and NumPyro still needs them.

Tests named ``..._is_still_needed`` run NumPyro without a patch. Where one fails, delete the patch.
"""

from __future__ import annotations

import contextlib
import gc
import threading
import types
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax.core import Tracer
from numpyro import handlers
from numpyro.infer import SVI, Trace_ELBO, autoguide, elbo
from numpyro.infer.svi import SVIState

from aimz_lab.inference import shared_programs
from aimz_lab.inference.numpyro_patches import initial_state, sites_in_order
from aimz_lab.inference.shared_programs import compiled_once
from aimz_lab.kernel.tracing import tracing_lock
from tests.runs import compilations

X = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
Y = X.sum(axis=1)
ROWS = {"X": X, "y": Y}
KEY = jax.random.key(20_240_229)

pytestmark = pytest.mark.allow_rank_promotion

GUIDES = [
    autoguide.AutoNormal,
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


def drawn(svi, state, **options):
    """Draws of the guide, which compile together: by themselves, its operations take longer."""

    def draw(params):
        return svi.guide.sample_posterior(KEY, params, **ROWS, **options)

    return jax.jit(draw)(svi.get_params(state))


def test_other_threads_may_trace_while_it_compiles_and_find_no_tracers(monkeypatch):
    svi, seen = make(autoguide.AutoNormal), []
    before = dict(vars(svi.guide))

    def look():
        with tracing_lock:
            seen.append(vars(svi.guide) == before)

    def compile_and_look(key, compiler):
        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        thread.join(5)
        seen.append("waits" if thread.is_alive() else "goes on")
        return compiled_once(key, compiler)

    monkeypatch.setattr(shared_programs, "compiled_once", compile_and_look)
    initial_state(svi, KEY, ROWS, {})
    assert seen == [True, "goes on"]
    assert svi.guide.prototype_trace is not None


class SetUp(NamedTuple):
    """One guide, set up by us and by NumPyro."""

    ours: SVI
    state: SVIState
    theirs: SVI
    expected: SVIState


@cache
def set_up(guide):
    ours, theirs = make(guide), make(guide)
    state = initial_state(ours, KEY, ROWS, {})
    return SetUp(ours, state, theirs, theirs.init(KEY, **ROWS))


@pytest.mark.slow
@pytest.mark.parametrize("guide", GUIDES)
def test_it_is_the_state_that_numpyro_sets_up(guide):
    ours, state, theirs, expected = set_up(guide)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        (state.optim_state, ours.get_params(state)),
        (expected.optim_state, theirs.get_params(expected)),
    )
    assert jax.random.key_data(state.rng_key).tolist() == (
        jax.random.key_data(expected.rng_key).tolist()
    )


@pytest.mark.slow
@pytest.mark.parametrize("guide", GUIDES[:2])
def test_the_guide_works_on_as_one_that_numpyro_set_up(guide):
    ours, state, theirs, expected = set_up(guide)
    for svi, begin in ((ours, state), (theirs, expected)):
        svi.after, svi.seen = jax.jit(svi.update)(begin, **ROWS)
    np.testing.assert_allclose(ours.seen, theirs.seen, rtol=1e-5)
    draws = [drawn(svi, svi.after, sample_shape=(7,)) for svi in (ours, theirs)]
    assert draws[0].keys() == draws[1].keys()
    for name in draws[0]:
        np.testing.assert_allclose(draws[0][name], draws[1][name], rtol=1e-3, atol=1e-3)


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


def kept_tracers(svi):
    found = [one for one in reachable(svi, svi.guide) if isinstance(one, jax.Array)]
    assert found
    return [one for one in found if isinstance(one, Tracer)]


def in_a_list(*guides):
    """A guide made of one guide for each of the kernel's sites."""
    whole = autoguide.AutoGuideList(small)
    for site, guide in zip(("beta", "sd"), guides, strict=True):
        whole.append(guide(handlers.block(small, hide=list({"beta", "sd"} - {site}))))
    return whole


def small(X, y=None):
    beta = numpyro.sample("beta", dist.Normal(0, 1).expand([3]).to_event(1))
    sd = numpyro.sample("sd", dist.HalfNormal(1.0))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ beta, sd), obs=y)


@pytest.mark.slow
def test_no_tracer_stays_behind(key):
    svi = make(autoguide.AutoNormal)
    initial_state(svi, key, ROWS, {})
    assert not kept_tracers(svi)


@pytest.mark.slow
@pytest.mark.parametrize("part", [autoguide.AutoNormal, autoguide.AutoLaplaceApproximation])
def test_no_tracer_stays_behind_in_the_guides_of_a_list(part, key):
    guide = in_a_list(part, autoguide.AutoDelta)
    svi = SVI(small, guide, numpyro.optim.Adam(0.1), Trace_ELBO())
    with compilations() as compiled:
        state = initial_state(svi, key, ROWS, {})
    assert len(compiled) <= 3
    assert not kept_tracers(svi)
    state, loss = jax.jit(svi.update)(state, **ROWS)
    draws = drawn(svi, state)
    assert np.isfinite([loss, *draws["beta"], draws["sd"]]).all()


@pytest.mark.slow
def test_a_partial_that_is_kept_twice_is_mended_in_both_places(key):
    class Keeps(autoguide.AutoNormal):
        def _setup_prototype(self, *args, **kwargs):
            super()._setup_prototype(*args, **kwargs)
            self.one = self.other = partial(jnp.add, self._init_locs["sd"])

    svi = make(Keeps)
    initial_state(svi, key, ROWS, {})
    assert svi.guide.one is svi.guide.other
    assert not kept_tracers(svi)


def test_it_compiles_once(key):
    svi = make(autoguide.AutoNormal)
    jax.block_until_ready(key)
    with compilations() as compiled:
        initial_state(svi, key, ROWS, {})
    assert len(compiled) <= 3


@pytest.mark.slow
def test_set_up_in_one_compilation_is_still_needed(key):
    def kernel(X, y=None):  # of sizes that no other test has compiled operations for
        beta = numpyro.sample("beta", dist.Normal(0, 1).expand([37]).to_event(1))
        with numpyro.plate("group", 41):
            shift = numpyro.sample("shift", dist.Uniform(-1.0, 2.0))
        with numpyro.plate("obs", X.shape[0]):
            numpyro.sample("y", dist.Normal(X[:, 0] * beta.sum() + shift.sum(), 1.0), obs=y)

    svi = SVI(kernel, autoguide.AutoNormal(kernel), numpyro.optim.Adam(0.1), Trace_ELBO())
    with compilations() as compiled:
        svi.init(key, **ROWS)
    assert len(compiled) > 20, "SVI.init compiles little by itself now: delete initial_state"
    svi = make(autoguide.AutoNormal)
    jax.eval_shape(svi.init, key, **ROWS)
    assert kept_tracers(svi), "jax.jit(svi.init) works now: delete the swap of tracers"


@pytest.mark.slow
def test_a_guide_that_needs_values_is_set_up_in_the_usual_way(key):
    def guide(X, y=None):
        start = float(X.mean())  # fails on a tracer
        loc = numpyro.param("loc", start)
        numpyro.sample("beta", dist.Normal(loc, 1.0).expand([3]).to_event(1))
        numpyro.sample("sd", dist.HalfNormal(1.0))

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


def many_sites(X, y=None):
    """Sites in the order of their names, and so many that no set has them in that order."""
    slopes = [numpyro.sample(f"slope_{i:02}", dist.Normal(0.0, 1.0)) for i in range(20)]
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(sum(slopes) * X[:, 0], 1.0), obs=y)


@pytest.mark.slow
def test_the_order_of_sites_is_still_needed(key):
    svi = SVI(many_sites, autoguide.AutoDelta(many_sites), numpyro.optim.SGD(0.1), Trace_ELBO())

    def program(order):
        def first_step(key):
            return svi.update(svi.init(key, **ROWS), **ROWS)

        svi.guide.prototype_trace = None
        with order:
            return str(jax.make_jaxpr(first_step)(key))

    assert program(sites_in_order()) == program(sites_in_order())
    assert program(sites_in_order()) != program(contextlib.nullcontext()), (
        "the ELBO of NumPyro has an order of sites now: delete sites_in_order"
    )


@pytest.mark.parametrize(
    "loss",
    [
        elbo.Trace_ELBO(num_particles=2),
        elbo.TraceMeanField_ELBO(),
        elbo.TraceGraph_ELBO(),
        elbo.RenyiELBO(num_particles=2),
    ],
)
def test_every_elbo_runs_in_order_and_numpyro_is_left_as_it_was(loss, key):
    svi = SVI(small, autoguide.AutoNormal(small), numpyro.optim.Adam(0.1), loss)
    with sites_in_order():
        jax.eval_shape(lambda key: svi.update(svi.init(key, **ROWS), **ROWS), key)
    assert "set" not in vars(elbo)
