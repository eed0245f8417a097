"""Intervals of effects hold the truth as often as they say, in worlds whose truth is known."""

from __future__ import annotations

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from aimz_lab import ImpactModel, summarize_effect
from tests.runs import mean_field

N, S, WORLDS = 120, 400, 100
TRUTH = np.array([10.0, 1.0, 2.0, -1.5])
GROUP = np.repeat(["east", "west"], N // 2)


def design(X, treated):
    return np.stack([np.ones(N), X, treated, treated * X], axis=1).astype(np.float32)


def kernel(X, treated, y=None):
    b = numpyro.sample("b", dist.Normal(0, 10).expand([4]).to_event(1))
    with numpyro.plate("row", X.shape[0]):
        mean = numpyro.deterministic("mean", b[0] + b[1] * X + treated * (b[2] + b[3] * X))
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def posterior(rng, X, treated):
    """Draws given outcomes that the truth makes; the prior is flat, the noise has deviation 1."""
    D = design(X, treated).astype(float)
    y = D @ TRUTH + rng.normal(size=N)
    covariance = np.linalg.inv(D.T @ D)
    return rng.multivariate_normal(covariance @ D.T @ y, covariance, S).astype(np.float32)


def measures(im, X):
    zeros = np.zeros(N, np.float32)
    sides = {
        "args_baseline": {"X": X, "treated": zeros, "return_sites": ["mean"]},
        "args_intervention": {"X": X, "treated": zeros + 1, "return_sites": ["mean"]},
    }
    each = TRUTH[2] + TRUTH[3] * X
    yield im.estimate_effect(**sides, contrast="percent"), 100 * each.mean() / np.mean(10 + X)
    yield im.estimate_effect(**sides, subset=X > 0.5), each[X > 0.5].mean()
    by_group = im.estimate_effect(**sides, by={"group": GROUP})
    yield by_group, [each[name == GROUP].mean() for name in ("east", "west")]


@pytest.mark.slow
def test_ninety_percent_intervals_hold_the_truth_nine_times_in_ten():
    rng, held = np.random.default_rng(3), []
    im = ImpactModel(kernel, jax.random.key(0), svi=mean_field(kernel))
    for _ in range(WORLDS):
        X = rng.normal(size=N).astype(np.float32)
        treated = (rng.random(N) < 1 / (1 + np.exp(-X))).astype(np.float32)  # confounded by X
        im.set_posterior_sample({"b": posterior(rng, X, treated)})
        found = []
        for effect, truth in measures(im, X):
            summary = summarize_effect(effect, 0.9)["mean"]
            low, high = (summary.sel(summary=f"hdi_{end}").values for end in ("low", "high"))
            found.append(np.atleast_1d((low <= truth) & (truth <= high)))
        held.append(np.concatenate(found))
    coverage = np.mean(held, axis=0)
    assert coverage.shape == (4,)
    # Three Monte-Carlo errors of 100 replications.
    np.testing.assert_allclose(coverage, 0.9, atol=3 * np.sqrt(0.9 * 0.1 / WORLDS))
