"""Outcomes that are the numbers of categories in no order, without a table."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import ImpactModel, summarize_effect
from aimz_lab.errors import ArgumentError

X = np.linspace(-1, 1, 20).astype(np.float32)
SAID = r"y is the number of one of 3 levels \(0, 1, 2\), so that its mean"


def choices(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1).expand([3]).to_event(1))
    p = numpyro.deterministic("p", jax.nn.softmax(slope[None, :] * X[:, None]))
    numpyro.deterministic("second", p[:, 1])
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Categorical(p), obs=y)


@pytest.fixture(scope="module")
def im():
    svi = SVI(choices, AutoNormal(choices), numpyro.optim.Adam(0.1), Trace_ELBO())
    draws = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    return ImpactModel(choices, jax.random.key(0), svi=svi).set_posterior_sample({"slope": draws})


def sides(**options):
    both = ({"X": X, **options}, {"X": X + 1, **options})
    return dict(zip(("args_baseline", "args_intervention"), both, strict=True))


@pytest.mark.slow
def test_their_mean_is_refused_and_their_probabilities_are_not(im):
    for refused in (
        lambda: im.estimate_effect(**sides(), average=True),
        lambda: im.predict(X, by=X > 0, progress=False),
        lambda: im.predict(X, reduce="ate", progress=False),
        lambda: im.decide({"now": {"X": X}, "more": {"X": X + 1}}),
    ):
        with pytest.raises(ArgumentError, match=SAID):
            refused()
    average = im.estimate_effect(**sides(return_sites=["p"]), average=True)
    assert summarize_effect(average).p.shape == (4, 3)
    actions = {"now": {"X": X}, "more": {"X": X + 1}}
    by_worth = im.decide(actions, benefits=lambda level: jnp.array([0.0, 1.0, 0.0])[level])
    of_second = im.decide(actions, site="second")
    np.testing.assert_allclose(by_worth.table.utility, of_second.table.utility, atol=0.05)


def test_an_effect_on_them_has_no_numbers(im):
    effect = im.estimate_effect(**sides())
    found = summarize_effect(effect)
    assert np.isnan(found.y).all()
    assert found.second.notnull().all()
    assert "y is the number of one of 3 levels" in str(effect).split("<xarray.DataTree>")[0]
