"""Chains that disagree about what an answer is computed from."""

from __future__ import annotations

import warnings

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from aimz_lab import ImpactModel
from aimz_lab.errors import OutputWarning
from aimz_lab.inference.mixing import unmixed_sites
from tests.runs import mean_field

RNG = np.random.default_rng(0)
MIXED = RNG.normal(size=200)
APART = np.repeat([1.0, 3.0], 100) + 0.1 * MIXED
X = np.linspace(0, 1, 20, dtype=np.float32)
SCENARIOS = {"X": X}, {"X": X + 1}


def kernel(X, y=None):
    slope = numpyro.sample("slope", dist.Normal())
    numpyro.sample("unused", dist.Normal())
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(slope * X, 1.0), obs=y)


def model(num_chains=2, **draws):
    im = ImpactModel(kernel, jax.random.key(0), svi=mean_field(kernel))
    return im.set_posterior_sample(draws, num_chains=num_chains)


def test_only_sites_whose_chains_are_apart_beyond_chance_are_named():
    drawn = {"mixed": MIXED, "apart": APART, "still": np.ones(200)}
    assert list(unmixed_sites(drawn, 2)) == ["apart"]
    assert list(unmixed_sites(drawn, 1)) == ["apart"]  # by its halves
    few = RNG.normal(size=(40, 300))  # of 300 entries the worst R-hat is far from 1 by chance
    assert not unmixed_sites({"few": few}, 2)


def test_effects_sweeps_and_decisions_say_so_once():
    im = model(slope=APART, unused=MIXED)
    before, after = SCENARIOS
    for ask in (
        lambda: im.estimate_effect(args_baseline=before, args_intervention=after),
        lambda: im.sweep("X", [0.0, 1.0], X),
        lambda: im.decide({"a": before, "b": after}),
    ):
        with pytest.warns(OutputWarning) as told:
            ask()
        (said,) = [str(one.message) for one in told]
        assert "disagree about 'slope' (R-hat up to" in said
        assert "im.diagnose" in said


def test_nothing_is_said_of_sites_that_are_not_read_or_of_draws_of_a_guide():
    before, after = SCENARIOS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for im in (model(slope=MIXED, unused=APART), model(1, slope=APART, unused=MIXED)):
            im.estimate_effect(args_baseline=before, args_intervention=after)
