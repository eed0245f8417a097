"""Which results are means of a distribution, and which hold the noise of values drawn by row."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from numpyro.contrib.control_flow import scan

from aimz_lab.predictive.blocks import Rows
from aimz_lab.predictive.drawn_sites import named_as_drawn
from aimz_lab.predictive.plan import agreeing_plans, make_plan
from aimz_lab.predictive.request import Request

pytestmark = pytest.mark.filterwarnings("ignore:The posterior has no draws of 'group'")

X = np.zeros(7, np.float32)
DRAWS = {"slope": np.zeros(3, np.float32)}


def made(key, make):
    return make()


def plan_of(kernel, sites, draws=DRAWS, expected="means", remembered=made, **options):
    rows = {"X": X, **options.pop("rows", {})}
    request = Request(
        kernel=kernel,
        output="y",
        key=jax.random.key(0),
        rows=rows,
        draws=draws,
        return_sites=tuple(sites),
        expected=expected,
        **options,
    )
    return make_plan(request, Rows(rows), "values", remembered)


def kernel(X, w=None, y=None):
    slope = numpyro.sample("slope", dist.Normal())
    group = numpyro.sample("group", dist.Normal().expand([2]).to_event(1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.deterministic("line", slope * X + group[0])
        buys = numpyro.sample("buys", dist.Bernoulli(logits=slope * X + group[0]))
        numpyro.sample("paid", dist.Normal(10 * buys, 1.0))
        size = numpyro.sample("size", dist.Gamma(2.0, 2.0))
        numpyro.sample("robust", dist.Normal(slope * X, 1 / size))
        numpyro.deterministic("large", size + slope)
        with handlers.substitute(data={"q": 7 * X}):
            q = numpyro.sample("q", dist.Normal(slope, 1.0))
        w = numpyro.sample("w", dist.Normal(slope * X + buys, 1.0), obs=w)
        numpyro.sample("odd", dist.Cauchy(slope * X, 1.0))
        numpyro.sample("y", dist.Normal(w + q, 1.0), obs=y)


DRAWN = {"buys", "paid", "size", "robust", "w", "odd", "y"}
SITES = [*DRAWN, "line", "large", "q"]


@pytest.mark.parametrize(
    ("options", "expected", "noisy"),
    [
        # A mean may hang on another site of the row; the group's level is a parameter.
        ({}, DRAWN - {"odd"}, {"paid", "large", "odd", "w", "y"}),
        ({"expected": "probabilities"}, {"buys"}, DRAWN - {"buys"} | {"large"}),
        ({"expected": None}, set(), DRAWN | {"large"}),
        # What is given is not drawn, and leaves no noise below it.
        (
            {"rows": {"w": X}, "condition": {"buys": 1}},
            DRAWN - {"odd", "w", "buys"},
            {"large", "odd"},
        ),
        ({"condition": {"buys": 1}}, DRAWN - {"odd", "buys"}, {"large", "odd", "y"}),
        (
            {"draws": {**DRAWS, "size": np.ones((3, 7), np.float32)}, "shard_axis": "draw"},
            DRAWN - {"odd", "size"},
            {"paid", "odd", "w", "y"},
        ),
    ],
)
def test_means_that_hang_on_other_values_of_the_row_are_noisy(options, expected, noisy):
    found = plan_of(kernel, SITES, **options)
    assert found.expected == expected
    assert found.noisy == noisy


@pytest.mark.filterwarnings("ignore:.*intervened on")
def test_a_site_that_is_intervened_on_is_as_without_and_those_below_take_the_value_set():
    found = plan_of(kernel, ["buys", "paid"], intervention={"buys": 1})
    assert (found.expected, found.noisy) == ({"buys", "paid"}, set())
    without = plan_of(kernel, ["buys", "paid"])
    assert all(plan.noisy == {"paid"} for plan in agreeing_plans([without, found]))


def walk(X, y=None):
    slope = numpyro.sample("slope", dist.Normal())

    def step(before, x):
        y = numpyro.sample("y", dist.Normal(before + slope * x, 1.0))
        return y, y

    with handlers.condition(data={} if y is None else {"y": y}):
        scan(step, 0.0, X)


def steps(X, y=None):
    slope = numpyro.sample("slope", dist.Normal())

    def step(before, x):
        y = numpyro.sample("y", dist.Normal(before + slope * x, 1.0))
        return before + 1, y

    with handlers.condition(data={} if y is None else {"y": y}):
        scan(step, 0.0, X)


@pytest.mark.parametrize(("kernel", "noisy"), [(walk, {"y"}), (steps, set())])
def test_in_a_loop_a_mean_may_hang_on_earlier_values_of_its_own_site(kernel, noisy):
    assert plan_of(kernel, ["y"], shard_axis="draw").noisy == noisy


def noise(shape):
    return jax.random.normal(numpyro.prng_key(), shape)


def noise_in_a_loop(X):
    def step(key, x):
        key, own = jax.random.split(key)
        return key, jax.random.normal(own)

    return jax.lax.scan(step, numpyro.prng_key(), X)[1]


@pytest.mark.parametrize(
    ("mean", "sd", "noisy"),
    [
        (lambda X: X + noise(X.shape), lambda X: 1.0, {"y", "above"}),
        (lambda X: X + dist.Normal().sample(numpyro.prng_key(), X.shape), abs, {"y", "above"}),
        (lambda X: X + noise((len(X) + 1,))[:-1], abs, {"y", "above"}),
        (lambda X: X + noise((2 * len(X),)).reshape(-1, 2)[:, 0], abs, {"y", "above"}),
        (lambda X: X + noise((len(X) // 3,))[np.arange(len(X)) % 2], abs, {"y", "above"}),
        (lambda X: X + noise_in_a_loop(X), abs, {"y", "above"}),
        (lambda X: X, lambda X: jnp.exp(noise(X.shape)), set()),
        (lambda X: X * noise(()), lambda X: 1.0, set()),  # as a parameter, one for all rows
        (lambda X: X + 0 * noise((3,)).sum(), lambda X: 1.0, set()),
        (lambda X: X + noise((7,))[np.arange(len(X)) % 7], lambda X: 1.0, set()),  # of 7 groups
        # It cannot be told of a kernel that runs for 7 rows alone.
        (lambda X: X * noise(()) + np.zeros(7, np.float32), lambda X: 1.0, {"y", "above"}),
    ],
)
def test_noise_of_each_row_from_a_key_of_the_kernel_is_drawn_too(mean, sd, noisy):
    def own_noise(X, y=None):
        slope = numpyro.sample("slope", dist.Normal())
        with numpyro.plate("row", X.shape[0]):
            line = numpyro.deterministic("line", mean(X) + slope)
            numpyro.deterministic("above", 1 + line)
            numpyro.deterministic("plain", slope * X)
            numpyro.sample("y", dist.Normal(line, sd(X)), obs=y)

    assert plan_of(own_noise, ["y", "above", "plain"], shard_axis="draw").noisy == noisy


def test_attributes_of_results_name_noisy_sites_of_any_scenario():
    assert named_as_drawn({"drawn": "y"}, {}, {"drawn": ["m", "y"]}) == ["m", "y"]


def test_a_kernel_that_computes_nothing_from_drawn_values_needs_no_graph():
    def plain(X, y=None):
        slope = numpyro.sample("slope", dist.Normal())
        with numpyro.plate("row", X.shape[0]):
            line = numpyro.deterministic("line", slope * X)
            numpyro.sample("y", dist.Normal(line, 1.0), obs=y)

    asked = []

    def noted(key, make):
        asked.append(key[0])
        return make()

    found = plan_of(plain, ["line", "y"], remembered=noted)
    assert (found.expected, found.noisy) == ({"y"}, set())
    assert "graph" not in asked


@pytest.mark.parametrize(("kernel", "quiet"), [(kernel, {"line", "buys", "q"}), (steps, set())])
def test_where_nothing_is_proven_all_after_a_drawn_value_may_hold_its_noise(
    kernel, quiet, monkeypatch
):
    def fails(*_):
        raise TypeError

    monkeypatch.setattr("aimz_lab.kernel.traced_sites.jax.make_jaxpr", lambda _: fails)
    sites = SITES if quiet else ["y"]
    found = plan_of(kernel, sites, shard_axis="draw")
    assert found.noisy == {*sites} - quiet
