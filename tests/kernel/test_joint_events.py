"""Over how many axes a distribution is one draw."""

from __future__ import annotations

import jax.numpy as jnp
import numpyro.distributions as dist
import pytest

from aimz_lab.kernel.joint_events import joint_ndim

ROWS = dist.Normal(jnp.zeros(5), 1.0)
JOINT = dist.MultivariateNormal(jnp.zeros(5), jnp.eye(5))

CASES = {
    "rows": (ROWS, 0),
    "event of rows": (ROWS.to_event(1), 0),
    "event of transformed rows": (dist.LogNormal(jnp.zeros(5), 1.0).to_event(1), 0),
    "transformed event": (
        dist.TransformedDistribution(ROWS.to_event(1), dist.transforms.ExpTransform()),
        0,
    ),
    "masked event": (ROWS.to_event(1).mask(jnp.array(True)), 0),
    "value": (dist.Delta(jnp.zeros(5), event_dim=1), 0),
    "multivariate": (JOINT, 1),
    "several": (JOINT.expand([3]).to_event(1), 1),
    "exponential of a multivariate": (
        dist.TransformedDistribution(JOINT, dist.transforms.ExpTransform()),
        1,
    ),
    "random walk": (dist.GaussianRandomWalk(num_steps=5), 1),
    "state space": (dist.GaussianStateSpace(5, jnp.eye(2), jnp.eye(2)), 2),
}


@pytest.mark.parametrize(("fn", "expected"), CASES.values(), ids=CASES)
def test_independent_entries_are_no_joint_event(fn, expected):
    assert joint_ndim(fn) == expected
