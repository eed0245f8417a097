"""A guide inside a guide counts for what the whole guide needs."""

from __future__ import annotations

import jax
import numpy as np
import optax
import pytest
from numpyro import handlers
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoGuideList, AutoLaplaceApproximation

from aimz_lab import ImpactModel
from aimz_lab.errors import CallError, GuideError
from tests import kernels

pytestmark = pytest.mark.allow_rank_promotion

N = 90
X, Y = kernels.regression_data(N, 3, seed=5)


def inference(rate=0.05):
    guide = AutoGuideList(kernels.regression)
    latents = handlers.block(kernels.regression, hide=["mean"])
    guide.append(AutoLaplaceApproximation(latents))
    return SVI(kernels.regression, guide, optax.adam(rate), Trace_ELBO())


def model(**options):
    return ImpactModel(kernels.regression, jax.random.key(0), svi=inference(**options))


@pytest.mark.slow
def test_a_laplace_approximation_in_a_list_takes_its_curvature_from_all_rows():
    steps = 3000
    im = model(rate=optax.cosine_decay_schedule(0.05, steps, alpha=1e-3))
    im.fit(X, Y, batch_size=30, epochs=steps // 3, num_samples=20_000, progress=False)
    draws = np.asarray(im.posterior["beta"], np.float64)
    expected = kernels.regression_posterior(X, Y)
    np.testing.assert_allclose(draws.std(0), expected.sd, rtol=0.05)


def test_a_laplace_approximation_in_a_list_needs_all_rows_at_once():
    stream = [{"X": X[:60], "y": Y[:60]}, {"X": X[60:], "y": Y[60:]}]
    with pytest.raises(GuideError, match="AutoLaplaceApproximation"):
        model().fit(stream, n_obs=N, progress=False)


@pytest.mark.slow
def test_a_list_that_keeps_the_data_wants_it_again_after_loading(tmp_path):
    im = model().fit_on_batch(X, Y, num_steps=10, num_samples=5, progress=False)
    drawn = {"rng_key": jax.random.key(1), "num_samples": 400, "return_datatree": False}
    expected = im.sample(**drawn)["beta"]
    other = ImpactModel.load(im.save(tmp_path / "model"), kernels.regression, inference())
    with pytest.raises(CallError, match="which is not stored"):
        other.sample()
    found = other.sample(**drawn, X=X, y=Y)["beta"]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
