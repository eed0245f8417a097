"""The mean of a distribution in place of a draw."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers

from aimz_lab.predictive.programs.forward import collect_values

LOC = jnp.array([0.5, 1.5, 3.0])
CASES = {
    "flag": (dist.Bernoulli(LOC / 4), LOC / 4),
    "count": (dist.Poisson(LOC).mask(False), LOC),
    "inflated": (dist.ZeroInflatedPoisson(jnp.full(3, 0.25), LOC), 0.75 * LOC),
    "vector": (dist.Normal(LOC, 2.0).to_event(1), LOC),
    "no mean": (dist.StudentT(1.0, LOC, 1.0), None),
    "category": (dist.Categorical(jnp.full((3, 4), 0.25)), None),
    "folded": (dist.FoldedDistribution(dist.Normal(LOC, 1.0)), None),
    "angle": (dist.VonMises(LOC, 1.0), None),
}


def collected(kernel, **options):
    def run(values):
        traced = handlers.substitute(handlers.seed(kernel, 0), data=values)
        return handlers.trace(traced).get_trace()

    return collect_values({"y": 0, "twice": 0}, {}, **options)(run)


@pytest.mark.parametrize("case", CASES)
def test_the_mean_takes_the_place_of_a_draw_where_it_is_that_of_draws(case):
    of, mean = CASES[case]

    def kernel():
        numpyro.deterministic("twice", 2 * numpyro.sample("y", of))

    drawn = collected(kernel)
    found = collected(kernel, expected={"y", "twice"})
    np.testing.assert_allclose(found["y"], drawn["y"] if mean is None else mean, rtol=1e-6)
    np.testing.assert_array_equal(found["twice"], drawn["twice"])
    shares = collected(kernel, expected={"y", "twice"}, only_probabilities=True)
    np.testing.assert_allclose(shares["y"], mean if case == "flag" else drawn["y"], rtol=1e-6)
