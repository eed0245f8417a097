"""Whether a log density depends on the unit of its values."""

from __future__ import annotations

import jax.numpy as jnp
import numpyro.distributions as dist
import pytest

from aimz_lab.kernel.density_kind import density_kind

HALF = jnp.full(2, 0.5)
NORMAL = dist.Normal(0.0, 1.0)
MIX = dist.Categorical(HALF)


class Own(dist.Normal):
    """A distribution of the user's, which may mean anything."""


@pytest.mark.parametrize(
    ("fn", "kind"),
    [
        (NORMAL, "density"),
        (dist.LogNormal(0.0, 1.0).expand((3,)), "density"),
        (dist.StudentT(3.0).expand((3,)).to_event(1), "density"),
        (dist.TruncatedNormal(0.0, 1.0, low=0.0), "density"),
        (dist.MultivariateNormal(jnp.zeros(2), jnp.eye(2)), "density"),
        (dist.MixtureSameFamily(MIX, dist.Normal(jnp.zeros(2), 1.0)), "density"),
        (dist.MixtureGeneral(MIX, [NORMAL, dist.StudentT(3.0)]), "density"),
        (dist.Poisson(2.0), "mass"),
        (dist.ZeroInflatedPoisson(0.1, 2.0), "mass"),
        (dist.Poisson(2.0).mask(jnp.array(True)), "mass"),
        (dist.MixtureGeneral(MIX, [NORMAL, dist.Delta(0.0)], support=NORMAL.support), None),
        (dist.HurdleLogNormal(0.3, 0.0, 1.0), None),
        (dist.RightCensoredDistribution(dist.Exponential(1.0), jnp.zeros(1)), "censored"),
        (dist.LeftCensoredDistribution(dist.Poisson(1.0), jnp.zeros(1)), "mass"),
        (dist.RightCensoredDistribution(dist.HurdleLogNormal(0.3, 0.0, 1.0), jnp.zeros(1)), None),
        (NORMAL.mask(jnp.array([True, False])), None),
        (dist.Dirichlet(jnp.ones(3)), None),
        (dist.Delta(0.0), None),
        (Own(0.0, 1.0), None),
    ],
)
def test_kinds(fn, kind):
    assert density_kind(fn) == kind
