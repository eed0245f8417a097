"""Values set for a site above draws of the posterior: refused, redrawn, or kept as by NumPyro."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from numpyro.infer import SVI, Predictive, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import ImpactModel
from aimz_lab.errors import ArgumentError, OutputWarning, SiteError

S = 2000
X = np.zeros(5, np.float32)
RNG = np.random.default_rng(3)


def chain(X, y=None):
    m = numpyro.sample("m", dist.Normal(0.0, 1.0))
    t = numpyro.sample("t", dist.Normal(m, 0.5))
    t2 = numpyro.sample("t2", dist.Normal(2 * t, 0.25))
    other = numpyro.sample("other", dist.Normal(0.0, 1.0))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(t + t2 + other + X, 0.125), obs=y)


DRAWS = {
    name: (place + RNG.normal(size=S)).astype(np.float32)
    for place, name in enumerate(("m", "t", "t2", "other"))
}


def model(kernel, draws) -> ImpactModel:
    svi = SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(0.01), Trace_ELBO())
    im = ImpactModel(kernel, jax.random.key(0), svi=svi)
    return im.set_posterior_sample(draws)


def drawn(im, X=X, site="y", **options):
    options.setdefault("rng_key", jax.random.key(1))
    return im.predict_on_batch(X, return_datatree=False, **options)[site]


def of_numpyro(kernel, draws, X=X, site="y"):
    draws = {name: jnp.asarray(values) for name, values in draws.items()}
    predictive = Predictive(kernel, draws, num_samples=S, return_sites=[site])
    return np.asarray(predictive(jax.random.key(2), X)[site])


def assert_same_distribution(got, expected):
    assert got.shape == expected.shape
    error = 6 * np.maximum(expected.std(0), 1e-6) / np.sqrt(S)
    np.testing.assert_array_less(np.abs(got.mean(0) - expected.mean(0)), 2 * error)
    np.testing.assert_allclose(got.std(0), expected.std(0), rtol=0.15, atol=1e-5)


def without(draws, *names):
    return {name: values for name, values in draws.items() if name not in names}


@pytest.mark.parametrize("argument", ["intervention", "condition"])
def test_draws_below_a_set_site_are_refused_by_name(argument):
    im = model(chain, without(DRAWS, "m"))
    with pytest.raises(SiteError, match=r"'m' changes sites 't', 't2'.*redraw.*keep"):
        im.predict(X, progress=False, **{argument: {"m": 100.0}})
    with pytest.raises(SiteError, match="'t' changes site 't2'"):
        drawn(model(chain, DRAWS), intervention={"t": 1.0})


@pytest.mark.slow
def test_redrawn_and_kept_under_an_intervention():
    im, changed = model(chain, DRAWS), handlers.do(chain, {"m": 100.0})
    got = drawn(im, intervention={"m": 100.0}, held="redraw")
    assert_same_distribution(got, of_numpyro(changed, without(DRAWS, "t", "t2")))
    assert abs(got.mean() - 303) < 0.2
    tree = im.predict(X, intervention={"m": 100.0}, held="redraw", store="memory", progress=False)
    assert abs(float(tree["posterior_predictive"]["y"].mean()) - 303) < 0.2
    tree = im.predict_on_batch(X, intervention={"m": 100.0}, held="redraw")
    assert abs(float(tree["posterior_predictive"]["y"].mean()) - 303) < 0.2
    kept = drawn(im, intervention={"m": 100.0}, held="keep")
    assert_same_distribution(kept, of_numpyro(changed, DRAWS))
    np.testing.assert_array_equal(kept, drawn(im))


@pytest.mark.slow
def test_redrawn_and_kept_under_a_condition():
    im, changed = model(chain, DRAWS), handlers.condition(chain, {"t": jnp.float32(7)})
    with pytest.raises(SiteError, match=r"condition sets 't'.*draws site 't2' from the kernel"):
        drawn(im, condition={"t": 7.0})
    got = drawn(im, condition={"t": 7.0}, held="redraw")
    assert_same_distribution(got, of_numpyro(changed, without(DRAWS, "t", "t2")))
    kept = drawn(im, condition={"t": 7.0}, held="keep")
    assert_same_distribution(kept, of_numpyro(changed, DRAWS))


@pytest.mark.slow
def test_an_intervention_on_a_held_site_needs_no_word():
    got = drawn(model(chain, DRAWS), intervention={"t2": 50.0})
    assert_same_distribution(got, of_numpyro(handlers.do(chain, {"t2": 50.0}), DRAWS))
    both = {"m": 3.0, "t": 4.0}
    got = drawn(model(chain, without(DRAWS, "t2")), intervention=both)
    assert_same_distribution(got, of_numpyro(handlers.do(chain, both), without(DRAWS, "t2")))


def test_draws_that_change_no_result_are_no_obstacle():
    def kernel(X, y=None):
        m = numpyro.sample("m", dist.Normal(0.0, 1.0))
        side = numpyro.sample("side", dist.Normal(m, 1.0))
        numpyro.deterministic("twice", 2 * side)
        with numpyro.plate("row", X.shape[0]):
            numpyro.sample("y", dist.Normal(m + X, 0.1), obs=y)

    im = model(kernel, {"m": DRAWS["m"], "side": DRAWS["t"]})
    assert abs(drawn(im, intervention={"m": 9.0}, return_sites="y").mean() - 9) < 0.1
    with pytest.raises(SiteError, match="'side'"):
        drawn(im, intervention={"m": 9.0})


def local(X, y=None):
    level = numpyro.sample("level", dist.Normal(0.0, 1.0))
    with numpyro.plate("row", X.shape[0]):
        treat = numpyro.sample("treat", dist.Normal(level, 1.0))
        local = numpyro.sample("local", dist.Normal(3 * treat, 0.5))
        numpyro.sample("y", dist.Normal(local + X, 0.1), obs=y)


@pytest.mark.slow
def test_one_value_a_row_above_draws_by_row():
    draws = {
        "level": DRAWS["m"],
        "local": RNG.normal(size=(S, 5)).astype(np.float32),
    }
    im, values = model(local, draws), np.arange(5, dtype=np.float32)
    with pytest.raises(SiteError, match="'local'"):
        drawn(im, intervention={"treat": values})
    got = drawn(im, intervention={"treat": values}, held="redraw")
    expected = of_numpyro(handlers.do(local, {"treat": values}), without(draws, "local"))
    assert_same_distribution(got, expected)
    fewer = drawn(im, X[:2], intervention={"treat": 1.0}, held="redraw")
    assert fewer.shape == (S, 2)
    with pytest.raises(SiteError, match=r"shape \(2000, 5\)"):
        drawn(im, intervention={"treat": draws["local"]}, held="redraw")


@pytest.mark.slow
def test_both_sides_of_an_effect_have_the_same_noise():
    im = model(chain, DRAWS)
    sides = [
        {"X": np.zeros(700, np.float32), "intervention": {"m": v}, "held": "redraw"}
        for v in (0.0, 1.0)
    ]
    effect = im.estimate_effect(args_baseline=sides[0], args_intervention=sides[1])
    np.testing.assert_allclose(effect["posterior_predictive"]["y"], 3.0, atol=1e-4)
    trees = [
        im.sample_posterior_predictive(store="memory", progress=False, rng_key=im.rng_key, **side)
        for side in sides
    ]
    difference = trees[1]["posterior_predictive"]["y"] - trees[0]["posterior_predictive"]["y"]
    np.testing.assert_allclose(difference, 3.0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("order", [1, -1])
def test_a_redrawn_site_has_one_value_for_all_rows_beside_another_scenario(order):
    im, inputs = model(chain, DRAWS), np.zeros(700, np.float32)
    plain = {"X": inputs}
    moved = {"X": inputs, "intervention": {"m": 9.0}, "held": "redraw"}
    baseline, intervention = [plain, moved][::order]
    effect = im.estimate_effect(args_baseline=baseline, args_intervention=intervention)
    values = effect["posterior_predictive"]["y"].values[0]
    np.testing.assert_allclose(values, values[:, :1].repeat(700, axis=1), atol=1e-4)


def test_held_is_one_of_three_words():
    with pytest.raises(ArgumentError, match="refuse"):
        drawn(model(chain, DRAWS), held="drop")


def test_through_a_loop_and_a_branch():
    from numpyro.contrib.control_flow import cond, scan

    def kernel(X, y=None):
        m = numpyro.sample("m", dist.Normal(0.0, 1.0))
        start = numpyro.sample("start", dist.Normal(m, 0.1))
        branch = cond(
            jnp.array(True), lambda at: 1.0 * at, lambda _: 0.0, numpyro.sample("b", dist.Normal())
        )

        def step(state, x):
            state = numpyro.sample("state", dist.Normal(state, 0.01))
            return state, state

        _, states = scan(step, start, X)
        numpyro.sample("y", dist.Normal(states + branch, 0.01), obs=y)

    draws = {"m": DRAWS["m"], "start": DRAWS["t"], "b": DRAWS["other"]}
    im = model(kernel, draws)
    options = {"shard_axis": "draw", "store": "memory", "progress": False}
    with pytest.raises(SiteError, match="'start'"):
        im.predict(X, intervention={"m": 5.0}, **options)
    values = np.arange(5, dtype=np.float32)
    got = im.predict(X, intervention={"state": values, "b": 10.0}, **options)
    got = got["posterior_predictive"]["y"].values[0]
    np.testing.assert_allclose(got, np.tile(values + 10, (S, 1)), atol=0.1)


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:The posterior has no draws of 'idle':aimz_lab.errors.OutputWarning"
)
def test_a_value_that_reaches_no_result_is_named():
    def kernel(X, y=None):
        b = numpyro.sample("b", dist.Normal(0.0, 1.0))
        numpyro.sample("idle", dist.Normal(b, 1.0))
        with numpyro.plate("row", X.shape[0]):
            numpyro.sample("x", dist.Normal(0.0, 1.0), obs=X)
            numpyro.sample("y", dist.Normal(b * X, 0.1), obs=y)

    im = model(kernel, {"b": DRAWS["m"], "idle": DRAWS["t"]})
    for name in ("idle", "x"):
        with pytest.warns(OutputWarning, match=f"'{name}' changes none of the sites returned, 'y'"):
            drawn(im, intervention={name: 1.0})
    with pytest.warns(OutputWarning, match="'y' are intervened on"):
        drawn(im, intervention={"y": 1.0})


def test_an_observed_site_is_set_where_the_kernel_goes_on_with_it():
    def kernel(X, y=None):
        b = numpyro.sample("b", dist.Normal(0.0, 1.0))
        with numpyro.plate("row", X.shape[0]):
            x = numpyro.sample("x", dist.Normal(0.0, 1.0), obs=X)
            numpyro.sample("y", dist.Normal(b * x, 0.01), obs=y)

    got = drawn(model(kernel, {"b": np.float32([2, 3])}), intervention={"x": np.arange(5)})
    np.testing.assert_allclose(got, np.outer([2, 3], np.arange(5)), atol=0.1)


@pytest.mark.slow
@pytest.mark.allow_rank_promotion
def test_a_level_that_a_discrete_site_does_not_have_is_refused():
    def kernel(X, y=None):
        b = numpyro.sample("b", dist.Normal(0.0, 1.0))
        with numpyro.plate("row", X.shape[0]):
            level = numpyro.sample("level", dist.Categorical(jnp.full(3, 1 / 3)))
            numpyro.sample("y", dist.Normal(jnp.where(level == 2, 5.0, level) + b, 0.01), obs=y)

    im = model(kernel, {"b": np.zeros(4, np.float32)})
    for wrong in (3, -1, np.array([0, 1, 2, 3, 0])):
        with pytest.raises(SiteError, match="'level'.*from 0 to 2"):
            drawn(im, intervention={"level": wrong})
        with pytest.raises(SiteError, match="'level'.*from 0 to 2"):
            drawn(im, condition={"level": wrong})
    got = drawn(im, intervention={"level": np.array([2, 1, 0, 1, 2])})
    np.testing.assert_allclose(got, np.tile([5, 1, 0, 1, 5], (4, 1)), atol=0.1)


def test_parameters_and_factors_take_no_value():
    def kernel(X, y=None):
        place = numpyro.param("place", 0.0)
        numpyro.factor("penalty", -(place**2))
        with numpyro.plate("row", X.shape[0]):
            numpyro.sample("y", dist.Normal(place + X, 1.0), obs=y)

    im = model(kernel, {"none": np.zeros(2, np.float32)})
    for name, kind in (("place", "param"), ("penalty", "factor")):
        with pytest.raises(SiteError, match=f"{name}.*is a {kind} of the kernel"):
            im.sample_prior_predictive_on_batch(X, intervention={name: 1.0})


def test_near_names_are_offered():
    with pytest.raises(SiteError, match="did you mean 'other'"):
        drawn(model(chain, DRAWS), intervention={"othr": 1.0})
    with pytest.raises(SiteError, match="did you mean 'other'"):
        drawn(model(chain, DRAWS), intervention={"ohter": 1.0})
