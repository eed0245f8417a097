"""Batches that the steps gather are those that the host gathers."""

from __future__ import annotations

import jax
import numpy as np
import numpyro
import pytest
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import ImpactModel
from tests import kernels

pytestmark = pytest.mark.allow_rank_promotion

N, LARGE = 5_000, 2_100
X, Y = kernels.regression_data(N, 3, seed=5)


def batches():
    for start in range(0, N, LARGE):
        yield {"X": X[start : start + LARGE], "y": Y[start : start + LARGE]}


def run_of(*data, **options):
    kernel = kernels.regression
    svi = SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(0.05), Trace_ELBO())
    im = ImpactModel(kernel, jax.random.key(0), svi=svi)
    return im.fit(*data, epochs=2, num_samples=1, progress=False, **options).last_run


@pytest.mark.slow
def test_large_batches_stay_on_the_device_and_train_as_those_of_a_stream_do():
    in_order = {"batch_size": LARGE, "shuffle": False}
    whole = run_of(X, Y, **in_order)
    cut = run_of(X, Y, **in_order, steps_per_call=1)
    stream = run_of(batches, n_obs=N)
    np.testing.assert_array_equal(cut.losses, whole.losses)
    np.testing.assert_allclose(stream.losses, whole.losses, rtol=1e-5)
    assert whole.transferred_bytes < 0.5 * stream.transferred_bytes
