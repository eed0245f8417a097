"""The table of a posterior: its numbers are those of the draws, whatever ArviZ's version."""

from __future__ import annotations

import arviz_stats
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from aimz_lab.predictive.results.posterior_summary import PosteriorSummary
from aimz_lab.predictive.results.summary_table import summary_table


@pytest.fixture(scope="module")
def tree():
    rng = np.random.default_rng(0)
    sites = {
        "wait": (("chain", "draw"), rng.exponential(size=(2, 500))),
        "ill": (("chain", "draw"), rng.random((2, 500)) < 0.1),
        "slopes": (("chain", "draw", "column"), rng.gamma(2.0, size=(2, 500, 3))),
    }
    return xr.DataTree.from_dict({"posterior": xr.Dataset(sites, {"column": ["a", "b", "c"]})})


@pytest.mark.parametrize("are_chains", [False, True])
def test_the_interval_is_the_narrowest_one_and_not_the_equal_tailed(tree, are_chains):
    table = summary_table(tree, ["wait", "slopes"], 0.94, are_chains=are_chains)
    found = table[["hdi_low", "hdi_high"]].to_numpy()
    ends = arviz_stats.hdi(tree["posterior"].to_dataset()[["wait", "slopes"]], prob=0.94)
    assert np.allclose(found, [ends["wait"].values, *ends["slopes"].values])
    assert list(table.index) == ["wait", "slopes[a]", "slopes[b]", "slopes[c]"]
    low, high = np.quantile(tree["posterior"]["wait"], [0.03, 0.97])
    assert table.hdi_low["wait"] < low / 5
    assert table.hdi_high["wait"] < high - 0.3


def test_most_draws_of_a_rare_event_are_zero(tree):
    ill = summary_table(tree, "ill", 0.5, are_chains=False).loc["ill"]
    assert (ill.hdi_low, ill.hdi_high) == (0, 0)


def test_the_standard_deviation_is_that_of_a_sample(tree):
    table = summary_table(tree, "wait", 0.94, are_chains=False)
    assert np.isclose(table.sd["wait"], tree["posterior"]["wait"].values.std(ddof=1), rtol=1e-12)


def test_of_a_single_draw_there_is_no_spread(tree):
    one = xr.DataTree.from_dict(
        {"posterior": tree["posterior"].to_dataset().isel(draw=[0], chain=[0])}
    )
    table = summary_table(one, "wait", 0.94, are_chains=False)
    assert np.isnan(table.sd["wait"])
    assert table.hdi_low["wait"] == table.hdi_high["wait"] == table["mean"]["wait"]


def test_a_mean_has_the_digits_that_its_sd_needs():
    numbers = {"mean": [1182.04, 1.0], "sd": [0.065, 0.2], "hdi_low": [1181.92, 0.6]}
    table = PosteriorSummary(numbers, index=["level", "slope"])
    assert repr(table).splitlines()[1].split() == ["level", "1,182.040", "0.065", "1,181.920"]
    assert "<td>1,181.920</td>" in table._repr_html_()
    long = PosteriorSummary(pd.concat([table] * 100))
    assert repr(long).count("1,182.040") == 5  # of the ten rows that pandas prints
    assert "200 rows" in repr(long)
