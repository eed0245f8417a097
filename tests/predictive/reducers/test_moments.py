"""Means keep the digits of large values, and compare the labels of their groups."""

from __future__ import annotations

import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
from jax import random

from aimz_lab.errors import DataError
from aimz_lab.predictive import Mean
from tests.runs import mean_field_model


def noise(X, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(b + X, 1.0), obs=y)


def test_labels_of_groups_in_another_order_are_refused():
    X = pd.Series(np.arange(5, dtype=np.float32), index=list("abcde"))
    by = (X > 2).iloc[::-1]
    im = mean_field_model(noise).set_posterior_sample({"b": np.zeros(4, np.float32)})
    with pytest.raises(DataError, match="by= of 'mean'.*row 0 is a in the data and e"):
        im.predict(X, reduce=Mean(over="row", by=by), progress=False)
    tree = im.predict(X, reduce=Mean(over="row", by=by.loc[X.index]), progress=False)
    assert tree.posterior_predictive.y_mean.sizes["group"] == 2


def large(X, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(b + X, 0.01), obs=y)


@pytest.mark.slow
@pytest.mark.parametrize("reduce", ["mean", "sd", Mean(over="row")], ids=["mean", "sd", "rows"])
def test_large_values_keep_their_digits(reduce):
    im = mean_field_model(large)
    im.set_posterior_sample({"b": np.linspace(-8, 8, 1000, dtype=np.float32)})
    X = np.full(300, 1e6, np.float32)
    options = {"rng_key": random.key(1), "progress": False}
    kept = im.predict(X, **options).posterior_predictive.y.values[0].astype(np.float64)
    [got] = im.predict(X, reduce=reduce, **options).posterior_predictive.data_vars.values()
    expected = {"mean": kept.mean(0), "sd": kept.std(0, ddof=1)}
    expected = expected.get(reduce) if isinstance(reduce, str) else kept.mean(1)
    np.testing.assert_allclose(
        np.squeeze(got.values), expected, atol=0.07 if reduce != "sd" else 1e-3
    )
