"""Names of the dimensions of sites."""

from __future__ import annotations

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

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


@pytest.mark.slow
def test_a_log_likelihood_takes_the_names_of_its_own_dimensions_alone():
    """Those of an event are not among them, which a table names by its columns."""
    im = mean_field_model(columns).set_posterior_sample({"b": np.ones(3, np.float32)})
    X = np.ones((5, 2), np.float32)
    for names in (["side"], ["row", "side"]):
        named = {"dims": {"y": names}, "coords": {"side": ["left", "right"]}, "progress": False}
        assert im.predict(X, **named).posterior_predictive["y"].dims[2:] == ("row", "side")
        tree = im.log_likelihood(X, X, **named)
        assert tree.log_likelihood["y"].dims == ("chain", "draw", "row")
        assert tree.observed_data["side"].values.tolist() == ["left", "right"]
