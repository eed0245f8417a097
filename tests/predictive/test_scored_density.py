"""Scores of a density that is not all that the rows add to a model's log density."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers

from aimz_lab import ImpactModel
from aimz_lab.errors import ArgumentError, OutputWarning
from aimz_lab.predictive import Request
from aimz_lab.predictive.predictor import Predictor
from aimz_lab.trust.worst_rows import WorstRows
from tests.runs import mean_field

N_ROWS = 30
_rng = np.random.default_rng(3)
ROWS = {
    "X": _rng.normal(size=N_ROWS).astype(np.float32),
    "dead": _rng.integers(0, 2, N_ROWS).astype(np.float32),
    "y": _rng.exponential(size=N_ROWS).astype(np.float32),
}
DRAWS = {"level": _rng.normal(0, 0.1, 100).astype(np.float32)}


def _rate(X):
    return jnp.exp(numpyro.sample("level", dist.Normal(0, 1)) + X)


def masked_dead(X, dead, y=None):
    rate = _rate(X)
    with numpyro.plate("row", X.shape[0]):
        with handlers.mask(mask=dead == 1):
            numpyro.sample("y", dist.Exponential(rate), obs=y)
        if y is not None:
            numpyro.factor("left", jnp.where(dead == 1, 0.0, -rate * y))


def corrected(X, dead, y=None):
    rate = numpyro.deterministic("rate", _rate(X))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Exponential(rate), obs=y)
    numpyro.factor("left", -(jnp.log(rate).sum()))


def of_its_sum(X, dead, y=None):
    rate = _rate(X)
    with numpyro.plate("row", X.shape[0]):
        value = numpyro.sample("y", dist.Exponential(rate), obs=y)
    numpyro.factor("left", -value.sum())


def with_penalty(X, dead, y=None):
    rate = _rate(X)
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Exponential(rate), obs=y)
    other = numpyro.deterministic("square", numpyro.sample("other", dist.Normal(0, 1)) ** 2)
    numpyro.factor("penalty", -other)


def weighted(X, dead, y=None):
    rate = _rate(X)
    with numpyro.plate("row", X.shape[0]), handlers.scale(scale=1 + dead):
        numpyro.sample("y", dist.Exponential(rate), obs=y)


def scored(kernel, reduce=None):
    draws = DRAWS if kernel is not with_penalty else {**DRAWS, "other": DRAWS["level"]}
    request = Request(
        kernel=kernel, output="y", rows=ROWS, key=jax.random.key(0), draws=draws, reduce=reduce,
        group="log_likelihood",
    )  # fmt: skip
    return Predictor().log_likelihood(request)


@pytest.mark.parametrize("kernel", [masked_dead, corrected, of_its_sum])
@pytest.mark.parametrize("reduce", ["lppd", "loo", "worst"])
def test_scores_without_a_factor_of_the_rows_are_refused(kernel, reduce):
    reduce = {"worst": WorstRows(np.ones(N_ROWS, bool))} if reduce == "worst" else reduce
    with pytest.raises(ArgumentError, match="the factor 'left' adds to the log density by the"):
        scored(kernel, reduce)


def test_the_density_that_lacks_a_factor_of_the_rows_says_so():
    with pytest.warns(OutputWarning, match="factor 'left' adds .* the density of 'y' lacks it"):
        tree = scored(masked_dead)
    assert "'left'" in tree["log_likelihood"].attrs["no_loo"]


def test_a_factor_of_parameters_alone_is_no_part_of_a_score():
    assert scored(with_penalty, "loo").log_likelihood.y_loo.shape == (3, N_ROWS)


@pytest.mark.parametrize("reduce", ["loo", "waic"])
def test_leave_one_out_of_rows_with_weights_is_refused(reduce):
    with pytest.raises(ArgumentError, match="the kernel weighs its rows, so that leaving one out"):
        scored(weighted, reduce)
    assert scored(weighted, "lppd").log_likelihood.y_lppd.shape == (N_ROWS,)


def of_own_levels(X, y=None):
    with numpyro.plate("row", X.shape[0]):
        level = numpyro.sample("level", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(level, 0.1), obs=y)


@pytest.mark.filterwarnings("ignore:The posterior holds one value a row")
def test_leave_one_out_of_rows_with_values_of_their_own_is_refused():
    svi = mean_field(of_own_levels)
    level = np.zeros((8, 5), np.float32)
    im = ImpactModel(of_own_levels, jax.random.key(0), svi=svi)
    im.set_posterior_sample({"level": level})
    X, options = np.zeros(5, np.float32), {"store": "memory", "progress": False}
    with pytest.raises(ArgumentError, match="integrate out each row's own level"):
        im.log_likelihood(X, X, reduce="loo", **options)
    lppd = im.log_likelihood(X, X, reduce="lppd", **options).log_likelihood
    assert lppd.y_lppd.shape == (5,)


def of_unread_levels(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        level = numpyro.sample("level", dist.Normal(0, 1))
        numpyro.deterministic("twice", 2 * level)
        numpyro.sample("y", dist.Normal(slope * X, 1.0), obs=y)


def test_values_of_rows_that_the_output_does_not_depend_on_are_no_hindrance():
    draws = {"slope": DRAWS["level"], "level": np.zeros((100, N_ROWS), np.float32)}
    svi = mean_field(of_unread_levels)
    im = ImpactModel(of_unread_levels, jax.random.key(0), svi=svi).set_posterior_sample(draws)
    options = {"shard_axis": "draw", "store": "memory", "progress": False}
    found = im.log_likelihood(ROWS["X"], ROWS["y"], reduce="loo", **options)
    assert np.isfinite(found.log_likelihood["y_loo"]).all()
