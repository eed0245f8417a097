"""Results of very many rows: no numbers beside them, and not too many objects in a store."""

from __future__ import annotations

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import ImpactModel, open_results
from aimz_lab.predictive.programs.sizes import blocks_per_call
from aimz_lab.predictive.results import datasets

X = np.ones(5_000, np.float32)


def kernel(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(slope * X, 1.0), obs=y)


@pytest.fixture(scope="module")
def im():
    svi = SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(0.01), Trace_ELBO())
    im = ImpactModel(kernel, jax.random.key(0), svi=svi)
    im.set_posterior_sample({"slope": np.linspace(-1.0, 1.0, 40, dtype=np.float32)})
    return im


def test_rows_that_are_only_counted_have_no_numbers_beyond_a_limit(im, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "MOST_NUMBERED", 4_999)
    tree = im.predict(X, output_dir=tmp_path, progress=False)
    y = tree.posterior_predictive.y
    assert "row" not in y.coords
    assert y.sel(row=5).shape == (1, 40)  # xarray counts itself
    assert open_results(tree.attrs["artifact_path"]).equals(tree)
    labelled = im.predict(X, coords={"row": np.arange(5_000) * 2}, progress=False)
    assert labelled.posterior_predictive.row[-1] == 9_998


@pytest.mark.parametrize("n_draws", [50, 100, 163, 1_000])
def test_calls_hold_whole_long_chunks(n_draws):
    """A chunk is a divisor of a call; of a prime number of blocks it would be one block."""
    blocks = blocks_per_call(10**7, 4 * n_draws, None, 1)
    assert max(count for count in range(1, 17) if blocks % count == 0) >= 8
