"""Outputs with missing entries: ``obs_mask=`` of NumPyro's sample statement."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import log_likelihood
from scipy import stats

from aimz_lab import ArrayDataset, ArrayLoader
from aimz_lab.errors import GuideError
from tests.runs import mean_field_model

pytestmark = pytest.mark.allow_rank_promotion  # NumPyro's AutoNormal needs it for sites by row

N = 20
X = np.linspace(-1, 1, N, dtype=np.float32)
SEEN = np.arange(N) % 4 != 0
Y = np.where(SEEN, 2 * X + 0.3, 50.0).astype(np.float32)
DRAWS = np.array([1.5, 2.0, 2.5], np.float32)


def kernel(X, seen=None, y=None):
    w = numpyro.sample("w", dist.Normal(0.0, 1.0))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(w * X, 1.0), obs=y, obs_mask=seen)


@pytest.fixture(scope="module")
def fitted():
    im = mean_field_model(kernel, numpyro.optim.Adam(0.05))
    with jax.numpy_rank_promotion("allow"):
        return im.fit_on_batch(X, Y, num_steps=1000, num_samples=400, progress=False, seen=SEEN)


def test_log_likelihood_is_that_of_the_observed_entries():
    im = mean_field_model(kernel).set_posterior_sample({"w": DRAWS})
    expected = np.where(SEEN, stats.norm.logpdf(Y, DRAWS[:, None] * X), 0.0)
    got = im.log_likelihood(X, Y, seen=SEEN, progress=False, store="memory").log_likelihood.y
    np.testing.assert_allclose(got[0], expected, rtol=1e-5, atol=1e-6)
    draws = {"w": DRAWS, "y_unobserved": np.zeros((3, N))}
    own = log_likelihood(kernel, draws, X=jnp.array(X), seen=jnp.array(SEEN), y=jnp.array(Y))
    np.testing.assert_allclose(got[0], own["y_observed"], rtol=1e-5, atol=1e-6)
    loader = ArrayLoader(
        ArrayDataset(X=X, y=Y, seen=SEEN), jax.random.key(0), batch_size=8, shuffle=False
    )
    streamed = im.log_likelihood(loader, progress=False, store="memory").log_likelihood.y
    np.testing.assert_array_equal(streamed, got)


def test_missing_entries_may_be_nan():
    im = mean_field_model(kernel).set_posterior_sample({"w": DRAWS})
    nan = np.where(SEEN, Y, np.nan)
    both = [
        im.log_likelihood(
            X, y, seen=SEEN, progress=False, allow_nonfinite=True, store="memory"
        ).log_likelihood.y
        for y in (Y, nan)
    ]
    np.testing.assert_array_equal(*both)


@pytest.mark.slow
def test_training_sees_the_observed_entries_alone(fitted):
    x, y = X[SEEN].astype(float), Y[SEEN].astype(float)
    precision = 1 + x @ x
    w = fitted.posterior["w"]
    assert abs(w.mean() - x @ y / precision) < 0.4  # -4.7 with what the missing rows hold


def test_predictions_draw_missing_entries_anew_for_any_rows(fitted):
    for rows, seen in ((X, SEEN), (X + 5, SEEN), (X[:6] + 5, SEEN[:6])):
        y = fitted.predict_on_batch(rows, seen=seen, return_datatree=False)["y"]
        centre = fitted.posterior["w"].mean() * rows
        assert np.abs(y.mean(0) - centre).max() < 0.6
    got = fitted.log_likelihood(X[:6], Y[:6], seen=SEEN[:6], progress=False, store="memory")
    assert (got.log_likelihood.y[..., ~SEEN[:6]] == 0).all()


def test_minibatches_are_told_of_the_mask():
    with pytest.raises(GuideError, match=r"handlers\.mask\(mask=\.\.\.\) .*in place of obs_mask="):
        mean_field_model(kernel).fit(X, Y, seen=SEEN, batch_size=5, progress=False)
