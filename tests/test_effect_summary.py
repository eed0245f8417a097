"""The summary of an effect prints as a table; trees of results print one above themselves."""

from __future__ import annotations

import copy
import pickle
import re

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from aimz_lab.data.groups import GroupLabels
from aimz_lab.effects import hdi, summarize_effect
from aimz_lab.effects.effect_tree import as_effect, as_group_means, as_rows
from aimz_lab.predictive.reducers.group_means import SUMMARY_GROUP, GroupMeans, with_summaries

RNG = np.random.default_rng(0)


def effect(**sites):
    """A dataset of draws: the further dimensions of each site by name, with their sizes."""
    return xr.Dataset(
        {
            name: (("chain", "draw", *dims), RNG.normal(size=(2, 50, *dims.values())))
            for name, dims in sites.items()
        }
    )


def test_it_is_a_dataset_whatever_is_done_with_it():
    draws = effect(y={"obs": 3})
    summary = summarize_effect(draws)
    assert isinstance(summary, xr.Dataset)
    np.testing.assert_allclose(
        summary.y.sel(summary="mean"), draws.y.mean(("chain", "draw")), rtol=1e-12
    )
    for same in (pickle.loads(pickle.dumps(summary)), copy.deepcopy(summary)):
        xr.testing.assert_identical(same, summary)
        assert repr(same) == repr(summary)
    # What is left without summaries looks as xarray shows it.
    assert "Dimensions" in repr(summary.sel(summary="mean"))
    assert "xarray" in summary.sel(summary="mean")._repr_html_()
    with pytest.raises(ValueError, match="'summary'"):
        summary.sel(summary="mean").table()


def test_labels_of_columns_and_levels_are_in_the_table():
    draws = effect(y={"region": 2, "k": 2}).assign_coords(region=["north", "<b>south"])
    summary = summarize_effect(draws, prob=0.9)
    table = summary.table()
    assert table.index.names == ["region", "k"]
    assert table.columns.tolist() == ["mean", "sd", "hdi_low", "hdi_high"]
    assert table.loc[("north", 1), "mean"] == float(summary.y.sel(region="north")[0, 1])
    title, header, first, *_ = str(summary).splitlines()
    assert title == "Effect on y, with the 90% highest-density interval"
    assert header.split() == ["region", "k", "mean", "sd", "hdi_low", "hdi_high"]
    assert first.split()[:2] == ["north", "0"]
    assert "&lt;b&gt;south" in summary._repr_html_()


def test_entries_with_several_labels_have_a_column_for_each():
    pairs = pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["shop", "week"])
    draws = effect(y={"obs": 4}).assign_coords(xr.Coordinates.from_pandas_multiindex(pairs, "obs"))
    assert summarize_effect(draws).table().index.names == ["shop", "week"]


def test_numbers_of_a_column_line_up():
    values = np.add.outer([[-0.5, 0.0, 0.5]], [14.0, 9.2337])
    draws = xr.Dataset({"y": (("chain", "draw", "shop"), values)}, {"shop": ["Lyon", "Orléans"]})
    summary = summarize_effect(draws)
    means = [line.split()[1] for line in str(summary).splitlines()[2:]]
    assert means == ["14.00", "9.23"]
    assert "text-align:right" in summary._repr_html_()


def test_a_mean_has_the_digits_that_its_interval_needs():
    sites = {"y": (("chain", "draw"), 1182.0 + 0.065 * RNG.normal(size=(1, 500)))}
    shops = 1182.0 + RNG.normal(size=(1, 500, 2)) * [0.065, 3.0]
    for draws in (xr.Dataset(sites), xr.Dataset({"y": (("chain", "draw", "shop"), shops)})):
        summary = summarize_effect(draws)
        known = summary.y.sel(summary=["hdi_low", "hdi_high"]).values.reshape(2, -1)[:, 0]
        _, mean, _, *ends = str(summary).splitlines()[2].split()
        written = [float(one.replace(",", "")) for one in ends]
        assert written == pytest.approx(known, abs=0.001)
        text = summary.y.attrs["text"]
        assert f"{mean} " in text
        assert f"{ends[0]} to {ends[1]}" in text


def test_of_many_rows_the_first_and_the_last_are_printed():
    summary = summarize_effect(effect(y={"obs": 1500}))
    lines = str(summary).splitlines()
    assert lines[0].startswith("Effect on y (1,500 rows; .table() has each)")
    assert [line.split()[0] for line in lines[2:]] == [
        *map(str, range(10)), "...", *map(str, range(1490, 1500))
    ]  # fmt: skip
    assert len(summary.table()) == 1500


def test_several_sites_are_one_table_where_they_can():
    assert summarize_effect(effect(y={}, z={})).table().index.tolist() == ["y", "z"]
    alike = summarize_effect(effect(y={"obs": 2}, z={"obs": 2})).table()
    assert alike.index.tolist() == [("y", 0), ("y", 1), ("z", 0), ("z", 1)]
    mixed = summarize_effect(effect(y={"obs": 2}, z={}))
    assert mixed.table().index.tolist() == ["y[0]", "y[1]", "z"]
    assert "Effect on y" in str(mixed)
    assert "Effect on z" in str(mixed)


def tree(**sites):
    """What ``estimate_effect`` returns, with these sites."""
    posterior = xr.Dataset({"slope": (("chain", "draw"), RNG.normal(size=(2, 50)))})
    groups = {"posterior_predictive": effect(**sites), "posterior": posterior}
    return as_effect(xr.DataTree.from_dict(groups))


def test_the_draws_print_their_average_above_what_they_hold():
    draws = tree(y={"obs": 40})
    title, _, row, *whole = str(draws).splitlines()
    assert title.startswith("Effect on y averaged over obs, with the 94% highest-density interval")
    mean = float(draws.posterior_predictive.y.mean())
    assert float(row.split()[4]) == pytest.approx(mean, rel=1e-3)
    assert "<xarray.DataTree>" in whole
    assert "averaged over obs" in draws._repr_html_()
    assert isinstance(draws, xr.DataTree)
    xr.testing.assert_identical(pickle.loads(pickle.dumps(draws)), draws)


def test_an_outcome_of_a_table_is_called_by_its_column():
    draws = effect(y={"obs": 4}, y_mean={}, z={})
    draws.attrs |= {"output": "y", "output_scale": "column pay", "averaged": "rows"}
    summary = summarize_effect(draws)
    assert "Effect on pay (" in str(summary) or "Effect on pay," in str(summary)
    assert "Effect on pay_mean" in str(summary)
    assert "Effect on z" in summary._repr_html_()
    assert summary[["y_mean"]].table().index.tolist() == ["pay_mean"]
    assert "effect on pay is given" in summary.y.text
    assert "changes pay_mean by" in summary.y_mean.text
    both = as_effect(xr.DataTree.from_dict({"predictions": draws[["y"]]}))
    both["predictions"].attrs = {"output": "y", "output_scale": "column pay"}
    assert str(both).startswith("Effect on pay averaged over obs")


def test_large_numbers_are_written_with_all_their_digits():
    draws = effect(y={}) * 10 + 1530
    assert "changes y by 1,53" in summarize_effect(draws).y.text


def test_one_value_that_is_missing_is_not_left_out_of_the_average():
    draws = tree(y={"obs": 3})
    draws["posterior_predictive"]["y"][0, 0, 0] = np.nan
    assert "nan" in str(draws).splitlines()[2]


def test_draws_that_are_too_many_or_gone_print_no_average():
    reduced = as_effect(
        xr.DataTree.from_dict({"predictions": xr.Dataset({"y_mean": ("obs", [1.0])})})
    )
    assert str(reduced).startswith("<xarray.DataTree>")
    many = xr.Dataset({"y": (("chain", "draw", "obs"), np.broadcast_to(0.0, (1, 5000, 1000)))})
    large = as_effect(xr.DataTree.from_dict({"predictions": many}))
    for text in (str(large), large._repr_html_().removeprefix("<p>")):
        assert text.startswith("An effect of 5,000,000 values, which are not read in order to ")


@pytest.mark.parametrize("progress", [True, False])
def test_a_long_summary_counts_its_rows_and_reads_each_chunk_once(monkeypatch, capsys, progress):
    reads = []

    def read(block, block_info):
        reads.append(block_info[None]["chunk-location"])
        return block

    draws = np.random.default_rng(0).normal(size=(1, 64, 3_000))
    plain = xr.Dataset({"y": (("chain", "draw", "row"), draws)}, attrs={"row_dims": ["row"]})
    chunked = plain.chunk(row=512)
    chunked["y"].data = chunked["y"].data.map_blocks(read, dtype=float)
    reads.clear()
    monkeypatch.setattr("aimz_lab.effects.summaries.PIECE_VALUES", 64 * 700)
    monkeypatch.setattr("aimz_lab.progress.NEW_LINE_S", 0.0)
    found = summarize_effect(chunked, progress=progress)
    xr.testing.assert_allclose(found.y, summarize_effect(plain, progress=False).y)
    assert len(reads) == len(set(reads)) == 6
    said = capsys.readouterr().err
    assert ("row 512 of 3,000 · " in said) == progress
    assert (re.search(r"row 3,000 of 3,000 · .* · in ", said) is not None) == progress


def test_means_of_groups_print_their_summary_above_what_they_hold():
    draws = effect(y_mean={"store": 2}).assign_coords(store=["north", "south"])
    draws.attrs = {"output": "y", "output_event": "bought = yes", "drawn": ["y_mean"]}
    means = GroupMeans([GroupLabels("store", np.array(["north", "south"]), np.array([0, 1]))])
    made = with_summaries({"predictions": draws}, "predictions", {"mean": means})
    tree = as_group_means(xr.DataTree.from_dict(made))
    title, _, north, *_ = text = str(tree).splitlines()
    interval = "with the 94% highest-density interval (of drawn outcomes)"
    assert title == f"Average of P(bought = yes), {interval}"
    told = float(tree[SUMMARY_GROUP].y_mean.sel(store="north", summary="mean"))
    assert [north.split()[0], float(north.split()[1])] == ["north", pytest.approx(told, rel=1e-2)]
    assert "<xarray.DataTree>" in text
    assert tree._repr_html_().index(title) < tree._repr_html_().index("predictions")
    assert str(tree[SUMMARY_GROUP]).startswith(title)
    assert str(tree["predictions"]).startswith("<xarray")
    assert str(tree.sel(summary="mean")).startswith("<xarray")
    xr.testing.assert_identical(pickle.loads(pickle.dumps(tree)), tree)


def predictions(group="posterior_predictive", n_rows=40, rows=("obs",), **attrs):
    """What a prediction returns, with draws of y."""
    days = pd.date_range("2026-01-01", periods=n_rows)
    draws = effect(y={rows[0]: n_rows} | dict.fromkeys(rows[1:], 2)).assign_coords(obs=days)
    draws.attrs = {"row_dims": ["obs"], "output": "y", "drawn": ["y"], "n_draws": 100, **attrs}
    return draws, as_rows(xr.DataTree.from_dict({group: draws, "posterior": xr.Dataset()}))


def test_a_prediction_prints_its_first_rows_above_what_it_holds():
    draws, tree = predictions(output_scale="column pay")
    title, header, first, *_ = text = str(tree).splitlines()
    interval = "with the 94% highest-density interval"
    assert title == f"pay, the first 5 of 40 rows, {interval} (of drawn outcomes)"
    assert header.split() == ["obs", "mean", "sd", "hdi_low", "hdi_high"]
    assert first.startswith("2026-01-01")
    values = draws.y[..., 0].values.ravel()
    told = [values.mean(), values.std(ddof=1), *hdi(values)]
    assert [*map(float, first.split()[-4:])] == pytest.approx(told, abs=0.02)
    assert text[7:9] == ["", "<xarray.DataTree>"]
    assert title in tree._repr_html_()
    assert "xarray.DataTree" in tree._repr_html_()
    assert str(tree["posterior_predictive"]).startswith(title)
    assert str(tree["posterior"]).startswith("<xarray.DataTree")
    xr.testing.assert_identical(pickle.loads(pickle.dumps(tree)), tree)
    _, tree = predictions("log_likelihood", 3)
    assert str(tree).startswith(f"Log-likelihood of y in nats, 3 rows, {interval}\n")
    _, tree = predictions(rows=("obs", "k", "l"))
    assert str(tree).startswith("y, the first 2 of 40 rows")


@pytest.mark.parametrize(
    ("k", "words"), [(0.2, "is at most 0.5 in all"), (0.6, "is above 0.5 in 1,")]
)
def test_scores_print_their_sums_and_how_many_are_not_to_be_trusted(k, words):
    scores = np.array([[-1.0, -2.0], [0.5, 0.25], [k, 0.1]])
    labels = ["elpd_loo", "p_loo", "pareto_k"]
    loo = xr.Dataset({"y_loo": (("loo", "obs"), scores)}, {"loo": labels})
    loo.attrs = {"row_dims": ["obs"], "n_draws": 100}
    text = str(as_rows(xr.DataTree.from_dict({"log_likelihood": loo})))
    assert text.startswith("PSIS-LOO of y: elpd_loo -3, p_loo 0.75, summed over 2 rows. pareto_k")
    assert words in text
    assert text.splitlines()[1] == "Log-likelihood in nats, 2 rows"
    assert text.splitlines()[2].split() == ["obs", *labels]


def test_what_is_not_in_memory_is_not_read_to_be_printed():
    def fail(block):
        raise AssertionError

    draws, _ = predictions()
    lazy = draws.chunk(obs=5)
    lazy["y"].data = lazy["y"].data.map_blocks(fail, dtype=float, meta=np.zeros((0, 0, 0)))
    text = str(as_rows(xr.DataTree.from_dict({"posterior_predictive": lazy})))
    assert text.startswith("Its values are on disk, and are not read in order to print them")


@pytest.mark.parametrize(
    ("group", "sites", "title"),
    [
        ("posterior_predictive", ["y_mean"], "y_mean, the first 5 of 40 rows"),
        ("posterior_predictive", ["y_mean", "y_sd"], "The first 5 of 40 rows"),
        ("log_likelihood", ["y_mean"], "Log-likelihood of y in nats, the first 5 of 40 rows"),
    ],
)
def test_what_reducers_left_says_of_what_it_is(group, sites, title):
    values = xr.DataArray(np.arange(40.0), dims="obs", coords={"obs": np.arange(40)})
    reduced = xr.Dataset(dict.fromkeys(sites, values), attrs={"row_dims": ["obs"], "output": "y"})
    lines = str(as_rows(xr.DataTree.from_dict({group: reduced}))).splitlines()
    assert lines[0] == title
    assert lines[1].split() == ["obs", *sites]


def test_levels_print_their_shares_and_long_entries_nothing():
    draws, _ = predictions(output_levels=["a", "b", "c"])
    levels = draws.assign(y=np.abs(draws.y.round()).clip(max=2).astype(int))
    lines = str(as_rows(xr.DataTree.from_dict({"posterior_predictive": levels}))).splitlines()
    assert lines[0] == "Share of the draws in each level of y, the first 5 of 40 rows"
    assert lines[1].split() == ["obs", "a", "b", "c"]
    shares = [(levels.y[..., 0] == number).mean().item() for number in range(3)]
    assert [*map(float, lines[2].split()[-3:])] == pytest.approx(shares, abs=0.01)
    _, tree = predictions(rows=("obs", "j", "k", "l", "m"))
    assert str(tree).startswith("<xarray.DataTree>")
