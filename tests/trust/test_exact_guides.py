"""Reports of guides that are the posterior: their log ratios are the evidence, their LOO exact."""

from __future__ import annotations

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from numpyro.infer import SVI, Trace_ELBO
from scipy import stats

from aimz_lab import ImpactModel

pytestmark = pytest.mark.allow_rank_promotion  # NumPyro's normal of many dimensions broadcasts

N = 53
_rng = np.random.default_rng(12)
X = _rng.normal(size=N).astype(np.float32)
Y = (1.3 * X[:, None] + _rng.normal(size=(N, 2))).astype(np.float32)
WEIGHTS = np.where(np.arange(N) < 10, 15, 1).astype(np.float32)
PRIOR = 0.01  # precision


def event(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 10))
    with numpyro.plate("row", X.shape[0]):
        mean = slope * X[:, None]
        numpyro.sample("y", dist.Normal(mean, 1).expand([len(X), 2]).to_event(1), obs=y)


def plates(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 10))
    with numpyro.plate("row", X.shape[0], dim=-2), numpyro.plate("output", 2, dim=-1):
        numpyro.sample("y", dist.Normal(slope * X[:, None], 1), obs=y)


def line(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 10))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(slope * X, 1), obs=y)


def weighted(X, weight, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 10))
    with numpyro.plate("row", X.shape[0]), handlers.scale(scale=weight):
        numpyro.sample("y", dist.Normal(slope * X, 1), obs=y)


def posterior(total, squares):
    precision = PRIOR + squares
    return total / precision, precision**-0.5


def report(kernel, y, of_slope, **arguments):
    def guide(X, y=None, **_):
        numpyro.param("unused", 0.0)
        numpyro.sample("slope", dist.Normal(*of_slope))

    svi = SVI(kernel, guide, numpyro.optim.Adam(0.01), Trace_ELBO())
    im = ImpactModel(kernel, jax.random.key(1), svi=svi)
    im.fit(X, y, batch_size=8, epochs=1, progress=False, **arguments)
    return im.diagnose(X, y, batch_size=8, **arguments)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [event, plates])
def test_an_outcome_of_two_numbers_a_row(kernel):
    x, y = X.astype(float), Y.astype(float)
    found = report(kernel, Y, posterior((x[:, None] * y).sum(), 2 * (x**2).sum()))
    cov = np.eye(2 * N) + np.outer(np.repeat(x, 2), np.repeat(x, 2)) / PRIOR
    evidence = stats.multivariate_normal.logpdf(y.ravel(), np.zeros(2 * N), cov)
    np.testing.assert_allclose(found.log_ratios, evidence, atol=1e-3)
    left = []
    for i in range(N):
        others = np.arange(N) != i
        mean, sd = posterior((x[others, None] * y[others]).sum(), 2 * (x[others] ** 2).sum())
        cov = np.eye(2) + (x[i] * sd) ** 2
        left.append(stats.multivariate_normal.logpdf(y[i], np.full(2, mean * x[i]), cov))
    assert found.loo.elpd == pytest.approx(np.sum(left), abs=0.3)
    assert len(found.calibration.pit) == 2 * N
    assert found.level == "green"


@pytest.mark.slow
def test_weighted_rows_have_no_leave_one_out():
    x, y, weight = X.astype(float), Y[:, 0].astype(float), WEIGHTS.astype(float)
    of_slope = posterior((weight * x * y).sum(), (weight * x**2).sum())
    found = report(weighted, Y[:, 0], of_slope, weight=WEIGHTS)
    assert np.ptp(found.log_ratios) < 1e-3
    assert found.loo is None
    assert "the kernel weighs its rows" in found["LOO"].text


@pytest.mark.slow
def test_few_draws_of_the_right_model_are_calibrated():
    y = Y[:, 0]
    mean, sd = posterior((X * y).sum(), (X**2).sum())
    svi = SVI(line, lambda *_, **__: None, numpyro.optim.Adam(0.01), Trace_ELBO())
    im = ImpactModel(line, jax.random.key(1), svi=svi)
    given = {"rng_key": jax.random.key(3)}
    few = _rng.normal(mean, sd, 5).astype(np.float32)
    found = im.set_posterior_sample({"slope": few}).diagnose(X, y, **given)
    assert found["calibration"].level == "green"
    assert found.calibration.coverage[0.9] == pytest.approx(0.9, abs=0.1)
    three = im.set_posterior_sample({"slope": few[:3]}).diagnose(X, y, **given)
    assert "unreliable for 100%" in three["LOO"].text
    same = im.set_posterior_sample({"slope": np.full(5, mean, np.float32)})
    report = same.diagnose(X, y, **given)
    assert report.loo is None
    assert "all draws are the same point" in report["LOO"].text
