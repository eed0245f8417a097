"""Trees: dimensions named by plates, labels of the user, and read by ArviZ as they are."""

from __future__ import annotations

import arviz_base  # noqa: F401  gives trees their accessors
import arviz_stats as azs
import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import xarray as xr

from aimz_lab.data import RowCoord
from aimz_lab.kernel.tracing import trace_spec
from aimz_lab.predictive import Predictor, posterior_dataset, posterior_tree
from tests.predictive.models import draws_of_linear, inputs, linear, request_of

PREDICTOR = Predictor()


def grouped(X, group, y=None):
    with numpyro.plate("group", 4):
        level = numpyro.sample("level", dist.Normal())
    with numpyro.plate("feature", 3):
        slope = numpyro.sample("slope", dist.Normal())
    with numpyro.plate("unit", len(X)):
        mu = numpyro.deterministic("mu", level[group] + X @ slope)
        numpyro.sample("y", dist.Normal(mu, 1.0).expand_by([]), obs=y)


def grouped_request(**options):
    rng = np.random.default_rng(0)
    draws = {"level": rng.normal(size=(12, 4)), "slope": rng.normal(size=(12, 3))}
    draws = {name: values.astype(np.float32) for name, values in draws.items()}
    rows = {"X": inputs(300), "group": rng.integers(4, size=300)}
    return request_of(grouped, rows, draws=draws, num_chains=3, **options)


def test_plates_name_dimensions():
    tree = PREDICTOR.predict(grouped_request())
    assert tree["posterior"]["level"].dims == ("chain", "draw", "group")
    assert tree["posterior"]["slope"].dims == ("chain", "draw", "feature")
    for site in ("y", "mu"):
        assert tree["posterior_predictive"][site].dims == ("chain", "draw", "unit")
    assert tree["posterior_predictive"]["unit"].values.tolist() == list(range(300))


def test_users_names_and_labels_win():
    tree = PREDICTOR.predict(
        grouped_request(
            dims={"slope": ("covariate",)},
            coords={"covariate": ["a", "b", "c"], "group": list("wxyz")},
            row_coord=RowCoord("date", np.arange(300).astype("datetime64[D]")),
        )
    )
    assert tree["posterior"]["slope"].sel(covariate="b").shape == (3, 4)
    assert tree["posterior"]["group"].values.tolist() == list("wxyz")
    assert tree["posterior_predictive"]["unit"].values[1] == np.datetime64("1970-01-02")


def test_a_plate_called_like_a_dimension_of_the_draws_gives_way():
    def kernel(X, y=None):
        with numpyro.plate("draw", len(X)):
            numpyro.sample("y", dist.Normal(), obs=y)

    tree = PREDICTOR.predict(request_of(kernel, {"X": inputs(9)}, num_draws=4))
    assert tree["posterior_predictive"]["y"].dims == ("chain", "draw", "obs")


def test_posterior_alone():
    spec = trace_spec(linear, rows={"X": jax.ShapeDtypeStruct((5, 3), np.float32)})
    tree = posterior_tree(draws_of_linear(8), 2, spec=spec, coords={"b_dim_0": list("abc")})
    assert tree["posterior"]["b"].sel(b_dim_0="c").shape == (2, 4)
    with pytest.raises(ValueError, match="reshape"):
        posterior_dataset(draws_of_linear(8), 3)


@pytest.mark.slow
def test_attributes_tell_what_was_computed():
    attrs = PREDICTOR.predict(grouped_request(intervention={"level": 0.0}))[
        "posterior_predictive"
    ].attrs
    assert attrs["rng_key"] == [0, 7]
    assert attrs["intervention"] == ["level"]
    assert attrs["n_draws"] == 12
    assert f"jax {jax.__version__}" in attrs["versions"]


@pytest.mark.parametrize("store", ["memory", "persistent"])
def test_arviz_reads_the_tree_as_it_is(store):
    X, draws = inputs(300), draws_of_linear(200)
    # Near the posterior that this data would give.
    draws["b"] = 0.05 * draws["b"] + np.float32([1, 0, 0])
    draws["sigma"] = 1 + 0.05 * (draws["sigma"] - 1)
    y = (X[:, 0] + np.random.default_rng(0).normal(size=300)).astype(np.float32)
    observed = xr.Dataset({"y": ("data", y)})
    request = request_of(
        rows={"X": X, "y": y},
        static={},
        draws=draws,
        num_chains=2,
        group="log_likelihood",
        store=store,
        groups={"observed_data": observed},
    )
    tree = PREDICTOR.log_likelihood(request)
    summary = azs.summary(tree)
    assert summary.loc["sigma", "r_hat"] > 0
    assert azs.loo(tree).elpd < 0
