"""The mean of a distribution is known where it is that of its draws."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from aimz_lab.kernel.known_means import is_ordinal, mean_kind, n_categories

pytestmark = pytest.mark.allow_rank_promotion  # NumPyro draws many values of vectors

LOC = jnp.array([0.5, 1.5, 3.0])


class AtLeastOne(dist.Poisson):
    """A distribution of a user, with the mean of the one that it is made from."""

    def sample(self, key, sample_shape=()):
        return jnp.maximum(super().sample(key, sample_shape), 1)


KNOWN = {
    "flags": (dist.Bernoulli(LOC / 4), "share"),
    "shares": (dist.Beta(LOC + 1, 2.0).to_event(1), "share"),
    "counts": (dist.Poisson(LOC).mask(False), "mean"),
    "trials": (dist.Binomial(jnp.array([1, 5, 9]), LOC / 4), "mean"),
    "inflated": (dist.ZeroInflatedPoisson(jnp.full(3, 0.25), LOC), "mean"),
    "overdispersed": (dist.NegativeBinomial2(LOC, 2.0), "mean"),
    "vector": (dist.Normal(LOC, 2.0).to_event(1), "mean"),
    "lognormal": (dist.LogNormal(LOC / 3, 0.5), "mean"),
    "above": (dist.TruncatedNormal(LOC - 1, low=0.0), "mean"),
    "mixture": (
        dist.MixtureSameFamily(dist.Categorical(jnp.array([0.3, 0.7])), dist.Normal(LOC[:2], 1.0)),
        "mean",
    ),
}
UNKNOWN = {
    "heavy": dist.Cauchy(LOC),
    "category": dist.Categorical(jnp.full((3, 4), 0.25)),
    "ordered": dist.OrderedLogistic(LOC, jnp.array([-1.0, 1.0])),
    "folded": dist.FoldedDistribution(dist.Normal(LOC, 1.0)),
    "exponential of normal": dist.TransformedDistribution(
        dist.Normal(LOC, 1.0), dist.transforms.ExpTransform()
    ),
    "angle": dist.VonMises(LOC, 1.0),
    "angles": dist.VonMises(LOC, 1.0).to_event(1),
    "direction": dist.ProjectedNormal(LOC),
    "root of a matrix": dist.InverseWishartCholesky(5.0, scale_tril=jnp.eye(2)),
    "between": dist.TruncatedNormal(LOC - 6, low=0.0, high=10.0).expand([3]),
    "a user's": AtLeastOne(LOC),
    "of a user's": dist.ZeroInflatedDistribution(AtLeastOne(LOC), gate=jnp.full(3, 0.2)),
}


@pytest.mark.parametrize("case", KNOWN)
def test_a_known_mean_is_that_of_draws(case):
    fn, kind = KNOWN[case]
    assert mean_kind(fn) == kind
    draws = np.asarray(fn.sample(jax.random.key(0), (20_000,)), np.float64)
    error = draws.std(0) / np.sqrt(len(draws))
    assert (abs(draws.mean(0) - fn.mean) < 4 * error + 1e-6).all()


def test_a_mean_that_fails_is_not_known(monkeypatch):
    """Every kernel is traced with its sites: no error of a mean may reach a fit."""

    def fails(self):
        raise ValueError

    monkeypatch.setattr(dist.Normal, "mean", property(fails))
    assert mean_kind(dist.Normal(LOC, 1.0)) is None


@pytest.mark.parametrize("case", UNKNOWN)
def test_other_means_are_not_known(case):
    assert mean_kind(UNKNOWN[case]) is None


def test_categories_in_no_order_are_told_from_grades():
    weights = np.full((5, 3), 1 / 3)
    for fn in (dist.Categorical(weights), dist.Categorical(logits=weights)):
        assert n_categories(fn) == n_categories(fn.mask(True)) == n_categories(fn.to_event(1)) == 3
        assert not is_ordinal(fn)
    grades = dist.OrderedLogistic(np.zeros(5), np.array([-1.0, 1.0]))
    assert n_categories(grades) == 3
    assert n_categories(dist.Poisson(1.0)) is None
    assert is_ordinal(grades)
    assert is_ordinal(grades.mask(True))
