"""Scenarios that hold a mediator at its data, against the effect by the model's own draws."""

from __future__ import annotations

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest

from aimz_lab import ArrayDataset, ArrayLoader, ImpactModel, TableSpec
from aimz_lab.errors import ArgumentError, DataError
from tests.runs import mean_field

RNG = np.random.default_rng(0)
N = 60
TABLE = pd.DataFrame({"x": RNG.normal(size=N), "t": RNG.integers(0, 2, N)})
TABLE["m"] = 1 + 2 * TABLE.t + TABLE.x + RNG.normal(size=N)
TABLE["out"] = 0.5 * TABLE.t + 1.5 * TABLE.m + RNG.normal(size=N)
ROWS = {name: TABLE[name].to_numpy(np.float32) for name in TABLE}


def mediated(X, t, m=None, y=None):
    a = numpyro.sample("a", dist.Normal(0, 1))
    b = numpyro.sample("b", dist.Normal(0, 1))
    direct = numpyro.sample("direct", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        M = numpyro.sample("M", dist.Normal(a * t + X, 1), obs=m)
        numpyro.sample("y", dist.Normal(direct * t + b * M, 1), obs=y)


def measured(X, t, m=None, y=None):
    """A measurement and a covariate with a model: neither lies between treatment and outcome."""
    effect = numpyro.sample("effect", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("covariate", dist.Normal(effect, 1), obs=X)
        numpyro.sample("M", dist.Normal(2 * t, 1), obs=m)
        numpyro.sample("y", dist.Normal(effect * t + X, 1), obs=y)


@pytest.fixture(scope="module")
def with_table():
    spec = TableSpec(X="x", t="t", m="m", y="out")
    im = ImpactModel(mediated, jax.random.key(0), svi=mean_field(mediated), table=spec)
    return im.fit_on_batch(TABLE, num_steps=2, num_samples=20, progress=False)


@pytest.fixture(scope="module")
def with_arrays():
    im = ImpactModel(mediated, jax.random.key(0), svi=mean_field(mediated))
    rows = {"t": ROWS["t"], "m": ROWS["m"]}
    return im.fit_on_batch(ROWS["x"], ROWS["out"], **rows, num_steps=2, progress=False)


def tables(*left_out, **also):
    """A table without and with the treatment, as arguments."""
    table = TABLE.drop(columns=list(left_out))
    return [{"X": table.assign(t=level), **also} for level in (0, 1)]


def effect_of(im, before, after, **options):
    tree = im.estimate_effect(
        args_baseline=before, args_intervention=after, average=True, **options
    )
    return tree.posterior_predictive.y.values.ravel()


def test_a_mediator_is_not_held_and_without_its_column_it_is_drawn(with_table):
    with pytest.raises(
        ArgumentError, match=r"'t' differs .* changes site 'M'.*of a table, its col"
    ):
        with_table.estimate_effect(TABLE.assign(t=0), TABLE.assign(t=1))
    draws = with_table.posterior
    whole = draws["direct"] + draws["b"] * draws["a"]
    np.testing.assert_allclose(effect_of(with_table, *tables("m")), whole, atol=1e-4)


def test_a_mediator_that_is_set_gives_the_direct_effect(with_table):
    calls = tables(intervention={"M": TABLE.m.to_numpy()})
    direct = with_table.posterior["direct"]
    np.testing.assert_allclose(effect_of(with_table, *calls), direct, atol=1e-4)


def test_a_mediator_may_be_what_the_scenarios_change(with_table):
    calls = [{"X": TABLE}, {"X": TABLE.assign(m=TABLE.m + 1)}]
    slope = with_table.posterior["b"]
    np.testing.assert_allclose(effect_of(with_table, *calls), slope, atol=1e-4)


@pytest.mark.parametrize(
    "asked",
    [
        lambda im: im.decide(dict(zip("ab", tables(), strict=True))),
        lambda im: im.sweep("t", [0, 1], TABLE),
        lambda im: effect_of(im, *tables(return_sites=["M"])),
        lambda im: im.estimate_effect(
            args_baseline=tables()[0], args_intervention=tables()[1], on_batch=True
        ),
        lambda im: effect_of(im, tables()[0], tables("m")[1]),
    ],
    ids=["decide", "sweep", "the mediator itself", "on_batch", "in one scenario alone"],
)
def test_no_comparison_holds_it(with_table, asked):
    with pytest.raises(ArgumentError, match="effect that goes through 'M' would be missing"):
        asked(with_table)


def test_new_rows_need_no_value_of_what_the_kernel_draws(with_table):
    tree = with_table.predict(TABLE[["x", "t"]], store="memory", return_sites=["M", "y"])
    assert tree.predictions.M.shape == (1, 20, N)
    with pytest.raises(DataError, match="no column 't'"):
        with_table.predict(TABLE[["x"]], store="memory")


def test_a_mediator_tells_nothing_of_who_was_treated(with_table):
    report = with_table.overlap(TABLE, TABLE.assign(t=1), treatment="t")
    assert "m" not in report.columns.index
    assert {"x", "t"} <= {*report.columns.index}


@pytest.mark.parametrize("loaded", [False, True])
def test_arrays_and_loaders_hold_it_neither(with_arrays, loaded):
    calls = [{"X": ROWS["x"], "t": np.full(N, t, "f4"), "m": ROWS["m"]} for t in (0, 1)]
    if loaded:
        datasets = [ArrayDataset(**call) for call in calls]
        calls = [{"X": ArrayLoader(one, jax.random.key(0), batch_size=20)} for one in datasets]
    with pytest.raises(ArgumentError, match="leave 'm' out of all scenarios"):
        with_arrays.estimate_effect(args_baseline=calls[0], args_intervention=calls[1])


def test_observed_sites_aside_of_the_effect_may_stay():
    im = ImpactModel(measured, jax.random.key(0), svi=mean_field(measured))
    rows = {"t": ROWS["t"], "m": ROWS["m"]}
    im.fit_on_batch(ROWS["x"], ROWS["out"], **rows, num_steps=2, progress=False)
    calls = [{"X": ROWS["x"], "t": np.full(N, t, "f4"), "m": ROWS["m"]} for t in (0, 1)]
    np.testing.assert_allclose(effect_of(im, *calls), im.posterior["effect"], atol=1e-4)
