"""Names of the dimensions of sites."""

from __future__ import annotations

import numpy as np
import numpyro
import numpyro.distributions as dist

from tests.runs import mean_field_model


def columns(X, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        mean = numpyro.deterministic("mean", b * X)
        numpyro.sample("y", dist.Normal(mean, 1.0).to_event(1), obs=y)


def test_as_many_columns_as_a_block_has_rows_keep_their_own_dimension():
    im = mean_field_model(columns).set_posterior_sample({"b": np.ones(3, np.float32)})
    for n_rows in (2, 256):
        tree = im.predict(np.ones((n_rows, 256), np.float32), progress=False)
        assert tree.posterior_predictive["mean"].dims == ("chain", "draw", "row", "mean_dim_1")
