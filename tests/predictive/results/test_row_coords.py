"""Labels of rows on results: dates stay dates, also with a time zone; levels can be selected."""

from __future__ import annotations

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import ArrayDataset, ArrayLoader, ImpactModel, open_results

N = 40
X = np.linspace(-1, 1, N, dtype=np.float32)
FIRMS = pd.MultiIndex.from_product(
    [[2001, 2002], [f"firm {i}" for i in range(20)]], names=["year", "firm"]
)
HOURS = pd.date_range("2025-10-25", periods=N, freq="h", tz="Europe/Berlin")


def kernel(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("row", X.shape[0]):
        numpyro.deterministic("mean", X * slope)
        numpyro.sample("y", dist.Normal(X * slope, 1.0), obs=y)


@pytest.fixture(scope="module")
def im():
    svi = SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(0.1), Trace_ELBO())
    im = ImpactModel(kernel, jax.random.key(0), svi=svi)
    return im.set_posterior_sample({"slope": np.linspace(0, 1, 10, dtype=np.float32)})


@pytest.mark.parametrize("output_dir", [False, True])
def test_levels_of_a_multi_index_can_be_selected(im, tmp_path, output_dir):
    where = {"output_dir": tmp_path} if output_dir else {"store": "memory"}
    tree = im.predict(pd.Series(X, FIRMS), in_sample=False, progress=False, **where)
    if output_dir:
        tree = open_results(tree.attrs["artifact_path"])
    mean = tree.predictions["mean"]
    np.testing.assert_array_equal(mean.sel(firm="firm 3"), mean.isel(row=[3, 23]))
    np.testing.assert_array_equal(mean.sel(year=2002), mean.isel(row=slice(20, None)))
    assert mean.row.values[21] == "2002, firm 1"


def test_levels_on_summaries_and_effects(im):
    rows = pd.Series(X, FIRMS)
    mean = im.predict(rows, in_sample=False, reduce="mean", progress=False).predictions.y_mean
    assert mean.sel(year=2001).shape == (20,)
    effect = im.estimate_effect(
        args_baseline={"X": rows, "in_sample": False},
        args_intervention={"X": rows + 1, "in_sample": False},
    )
    assert effect.predictions.y.sel(firm="firm 0").shape == (1, 10, 2)


@pytest.mark.parametrize("output_dir", [False, True])
def test_dates_with_a_time_zone_are_dates_of_its_local_time(im, tmp_path, output_dir):
    where = {"output_dir": tmp_path} if output_dir else {"store": "memory"}
    tree = im.predict(pd.Series(X, HOURS), in_sample=False, progress=False, **where)
    if output_dir:
        tree = open_results(tree.attrs["artifact_path"])
    row = tree.predictions.row
    np.testing.assert_array_equal(row, HOURS.tz_localize(None))
    assert row.attrs["time_zone"] == "Europe/Berlin"
    # 16 of the 40 hours: the clocks went back on this day, after the 24 hours of the day before.
    assert tree.predictions.y.sel(row="2025-10-26").sizes["row"] == 16


def test_a_level_of_dates_with_a_time_zone_can_be_selected_by_date(im, tmp_path):
    index = pd.MultiIndex.from_arrays([HOURS, ["north", "south"] * 20], names=["hour", "shop"])
    tree = im.predict(pd.Series(X, index), in_sample=False, output_dir=tmp_path, progress=False)
    y = open_results(tree.attrs["artifact_path"]).predictions.y
    assert y.hour.attrs["time_zone"] == "Europe/Berlin"
    assert y.sel(hour="2025-10-26").sizes["row"] == 16
    assert y.sel(shop="north").sizes["row"] == 20


def test_levels_follow_a_shuffled_loader(im):
    dataset = ArrayDataset(X=pd.Series(X, FIRMS))
    loader = ArrayLoader(dataset, rng_key=jax.random.key(3), batch_size=16, shuffle=True)
    tree = im.predict(loader, in_sample=False, progress=False, store="memory")
    mean, slope = tree.predictions["mean"].isel(chain=0, draw=-1), 1.0
    assert not np.array_equal(mean, X * slope)
    np.testing.assert_allclose(mean.sel(firm="firm 7").sortby("year"), X[[7, 27]], rtol=1e-6)
