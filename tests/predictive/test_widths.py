"""Numbers that JAX's types cannot hold are refused, or warned about, and never wrap."""

from __future__ import annotations

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from aimz_lab.data import canonical
from aimz_lab.errors import DataError, OutputWarning
from tests.runs import mean_field_model


def kernel(X, g=1, y=None):
    t = numpyro.sample("t", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        treat = numpyro.sample("treat", dist.Normal(0, 1))
        mu = numpyro.deterministic("mu", t + X * 1.0 + treat * g)
        numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def model():
    return mean_field_model(kernel).set_posterior_sample({"t": np.zeros(3, np.float32)})


X = np.zeros(3, np.float32)
LARGE = {
    "int64": np.array([2**31 + 5, 2**33, 1]),
    "uint64": np.array([2**40, 0, 1], np.uint64),
    "float64": np.array([1e39, 1.0, 0.0]),
}


@pytest.mark.parametrize("values", LARGE.values(), ids=list(LARGE))
def test_rows_that_do_not_fit_are_refused(values):
    for call in (model().predict, model().predict_on_batch, model().sample_prior_predictive):
        with pytest.raises(DataError, match=r"'X' holds .* cannot represent"):
            call(values)
    with pytest.raises(DataError, match="'X' holds"):
        model().fit_on_batch(values, X, progress=False)
    with pytest.raises(DataError, match="'y' holds"):
        model().log_likelihood(X, values, progress=False)


def test_set_and_shared_values_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="'treat' holds 8589934592"):
        model().predict(X, intervention={"treat": np.array([2**33])}, progress=False)
    with pytest.raises(DataError, match="'g' holds 8589934592"):
        model().predict(X, g=np.int64(2**33), progress=False)


def test_a_batch_that_does_not_fit_is_refused_when_it_comes():
    batches = [{"X": X}, {"X": LARGE["int64"]}]
    with pytest.raises(DataError, match="'X' holds 8589934592"):
        model().predict(batches, progress=False)


def test_a_column_that_single_precision_cannot_tell_apart_is_named():
    with pytest.warns(OutputWarning, match="values of X apart.*mean first"):
        model().predict(1.7e9 + np.arange(3.0), progress=False)


@pytest.mark.parametrize("value", [1e39, 1e39j, 1 - 1e39j])
def test_complex_numbers_do_not_overflow(value):
    with pytest.raises(DataError, match="'z' holds"):
        canonical(np.array([0j, value]), "z")
    assert canonical(np.array([1 + 2j]), "z").dtype == np.complex64
