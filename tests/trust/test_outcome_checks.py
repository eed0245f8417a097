"""Predictive checks of a tree: every number against NumPy or ArviZ, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from arviz_stats import loo

from aimz_lab.errors import ArgumentError, DataError
from aimz_lab.lab import prediction_checks
from aimz_lab.trust.predictive_checks import calibration

CHAINS, DRAWS, ROWS = 2, 250, 9_000  # more values than are read at a time


def tree_of(draws, y=None, *, dims=("obs",), coords=None, group="posterior_predictive", **groups):
    """A tree with draws ``(chain, draw, row, ...)``."""
    made = {group: xr.Dataset({"y": (("chain", "draw", *dims), draws)}, coords=coords)}
    if y is not None:
        made["observed_data"] = xr.Dataset({"y": (dims, y)}, coords=coords)
    return xr.DataTree.from_dict(made | groups)


@pytest.fixture(scope="module")
def made():
    rng = np.random.default_rng(1)
    middle = rng.normal(size=ROWS)
    draws = middle + rng.normal(size=(CHAINS, DRAWS, ROWS))
    y = middle + 1.3 * rng.normal(size=ROWS)
    y[[5, 8_000, 8_999]] = np.nan
    table = pd.DataFrame(
        {
            "x": middle,
            "level": pd.Categorical.from_codes(rng.integers(3, size=ROWS), ["<b>", "b", "c"]),
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(ROWS) // 500, "D"),
        }
    )
    table.loc[7, "level"] = None
    tree = tree_of(draws.astype(np.float32), y)
    checks = prediction_checks(tree, table, statistics={"above 1": lambda values: values > 1})
    return checks, draws.astype(np.float32).reshape(-1, ROWS).astype(float), y, table


@pytest.fixture(scope="module", params=["all rows", "level: <b>"])
def part(request, made):
    """The checks, and draws and observed values of a group of rows."""
    checks, draws, y, table = made
    kept = ~np.isnan(y)
    if request.param != "all rows":
        kept &= (table["level"] == "<b>").to_numpy()
    return checks, request.param, draws[:, kept], y[kept], table[kept]


def test_test_statistics_are_those_of_numpy(part):
    checks, group, draws, y, _ = part
    found = checks.table("test statistics", group=group, level=0.8)
    for name, function in {
        "mean": np.mean,
        "sd": np.std,
        "minimum": np.min,
        "maximum": np.max,
        "above 1": lambda values, axis=None: np.mean(values > 1, axis=axis),
    }.items():
        drawn, own = function(draws, axis=1), function(y)
        low, high = np.quantile(drawn, [0.1, 0.9])
        expected = [own, np.median(drawn), low, high, np.mean(drawn >= own)]
        np.testing.assert_allclose(found.loc[name], expected, rtol=1e-6, atol=1e-8)


def test_histograms_and_ecdf_are_those_of_numpy(part):
    checks, group, draws, y, _ = part
    ecdf = checks.table("ECDF", group=group)
    expected = [(y < at).mean() for at in ecdf["value"]]
    np.testing.assert_allclose(ecdf["observed"], expected)
    few = draws[np.linspace(0, len(draws) - 1, 100).astype(int)]
    curves = np.stack([(few < at).mean(1) for at in ecdf["value"]], axis=1)
    np.testing.assert_allclose(ecdf["predicted"], curves.mean(0), rtol=1e-9)
    np.testing.assert_allclose(ecdf["low"], np.quantile(curves, 0.05, axis=0))
    density = checks.table("density", group=group)
    edges = np.append(density["from"], density["to"].iloc[-1])
    heights = np.histogram(y, edges)[0] / np.diff(edges) / len(y)
    np.testing.assert_allclose(density["observed"], heights, rtol=1e-9)


def test_coverage_is_that_of_quantile_intervals_at_any_level(part):
    checks, group, draws, y, _ = part
    for level in (0.5, 0.83):
        found = checks.table("coverage", group=group, level=level).set_index("level")
        low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
        held = ((low <= y) & (y <= high)).mean()
        assert abs(found.loc[level, "coverage"] - held) < 0.008  # a draw more or less of 500
        assert found.loc[level, "rows"] == len(y)


def test_residuals_calibration_and_coverage_by_a_column_are_means_of_their_rows(part):
    checks, group, draws, y, table = part
    apart = y - draws.mean(0)
    by_day = checks.table("residuals", group=group, column="day")
    expected = pd.Series(apart).groupby(table["day"].to_numpy()).agg(["mean", "std", "size"])
    assert list(by_day.index) == [str(day.date()) for day in expected.index]
    np.testing.assert_allclose(by_day["mean"], expected["mean"], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(by_day["sd"], expected["std"], rtol=1e-6)
    by_level = checks.table("residuals", group=group, column="level", residual="standardised")
    standard = pd.Series(apart / draws.std(0)).groupby(table["level"].astype(str).to_numpy())
    own = standard.mean().drop("nan", errors="ignore")
    np.testing.assert_allclose(by_level["mean"], own, rtol=1e-5, atol=1e-8)
    covered = checks.table("coverage", group=group, column="level", level=0.5)
    assert list(covered.index) == list(own.index)
    calibrated = checks.table("calibration", group=group)
    assert calibrated["rows"].sum() == len(y)
    first = draws.mean(0) < np.quantile(draws.mean(0), 0.1)
    assert calibrated["observed"].iloc[0] == pytest.approx(y[first].mean(), rel=1e-6)
    by_x = checks.table("residuals", group=group, column="x")
    assert (len(by_x), by_x["rows"].sum()) == (20, len(y))


def test_rows_far_off_come_first_without_a_log_likelihood(made):
    checks, draws, y, _ = made
    apart = (y - draws.mean(0)) / draws.std(0)
    order = np.argsort(-np.abs(np.nan_to_num(apart)), kind="stable")[:4]
    found = checks.table("worst rows", count=4)
    assert list(found.index) == list(map(str, order))
    np.testing.assert_allclose(found["sds_off"], apart[order], rtol=1e-5)
    assert list(found["day"]) == [f"2024-01-{1 + row // 500:02d}" for row in order]


@pytest.mark.parametrize("n_draws", [7, 400])
def test_the_pit_of_counts_is_uniform_if_they_are_calibrated(n_draws):
    rng = np.random.default_rng(3)
    rates = rng.gamma(1.0, 1.0, size=4_000)
    draws = rng.poisson(rates, size=(1, n_draws, 4_000)).astype(np.int32)
    y = rng.poisson(rates)
    checks = prediction_checks(tree_of(draws, y))
    found = checks.table("coverage")
    assert (found["coverage"] - found["level"]).abs().max() < 0.025
    pit = checks.table("PIT")
    assert pit["difference"].abs().max() < 0.05
    density = checks.table("density")
    assert density["observed"].sum() == pytest.approx(1.0)  # a bin for each integer
    zeros = checks.table("test statistics").loc["share of zeros"]
    assert zeros["observed"] == (y == 0).mean()
    assert 0.001 < zeros["p_value"] < 0.999 or n_draws == 7


def test_skewed_positive_values_have_a_log_scale():
    rng = np.random.default_rng(4)
    y = np.exp(3 * rng.normal(size=800))
    found = prediction_checks(tree_of(np.exp(3 * rng.normal(size=(1, 50, 800))), y))
    density = found.table("density")
    width = np.log(density["to"]) - np.log(density["from"])
    assert np.ptp(width) < 1e-9
    assert (density["observed"] * width).sum() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("reff", [1.0, None])
def test_leave_one_out_is_that_of_arviz(reff):
    rng = np.random.default_rng(5)
    chains = 2 if reff is None else 1
    mu = 0.2 * rng.normal(size=(chains, 500))
    mu[:, 1:] = 0.7 * mu[:, :-1] + 0.7 * mu[:, 1:]  # chains that are not independent
    y = rng.standard_t(3, size=60)
    own = -0.5 * (y - mu[..., None]) ** 2 - 0.5 * np.log(2 * np.pi)
    groups = {
        "log_likelihood": xr.Dataset({"y": (("chain", "draw", "obs"), own)}),
        "posterior": xr.Dataset({"mu": (("chain", "draw"), mu)}),
    }
    tree = tree_of(mu[..., None] + rng.normal(size=(chains, 500, 60)), y, **groups)
    expected = loo(tree, pointwise=True, reff=reff)
    found = prediction_checks(tree).table("worst rows", count=60)
    order = found.index.astype(int)
    np.testing.assert_allclose(found["elpd_loo"], expected.elpd_i.values[order], rtol=1e-4)
    np.testing.assert_allclose(found["k_hat"], expected.pareto_k.values[order], atol=1e-4)
    assert found["elpd_loo"].sum() == pytest.approx(expected.elpd, rel=1e-5)
    assert found["elpd_loo"].is_monotonic_increasing


def test_of_many_rows_the_worst_are_found():
    rng = np.random.default_rng(6)
    mu = 0.05 * rng.normal(size=(1, 200))
    y = rng.normal(size=5_000)
    y[[17, 4_998]] = [9.0, -8.0]
    own = -0.5 * (y - mu[..., None]) ** 2
    likelihood = {"log_likelihood": xr.Dataset({"y": (("chain", "draw", "obs"), own)})}
    tree = tree_of(mu[..., None] + rng.normal(size=(1, 200, 5_000)), y, **likelihood)
    assert list(prediction_checks(tree).table("worst rows", count=2).index) == ["17", "4998"]


def test_entries_of_a_row_are_outcomes_of_their_own():
    rng = np.random.default_rng(7)
    y = rng.normal(size=(30, 2)) * [1, 100]
    draws = rng.normal(size=(1, 40, 30, 2)) * [1, 100]
    coords = {"part": ["a", "b"]}
    checks = prediction_checks(tree_of(draws, y, dims=("obs", "part"), coords=coords))
    assert checks.outcomes == ("y[a]", "y[b]")
    found = checks.table("test statistics", outcome="y[b]")
    assert found.loc["sd", "observed"] == pytest.approx(y[:, 1].std())


LABELS = pd.date_range("2024-01-01", periods=6)


@pytest.mark.parametrize(
    ("y", "says"),
    [
        (np.arange(6.0)[::-1], "the same values in another order"),
        (np.arange(6.0) * 10, "another scale or other rows"),
        (np.arange(5.0), "has 5 rows"),
        (pd.Series(np.arange(6.0), LABELS[::-1]), "label their rows differently"),
        (np.array(list("abcdef")), "has shape"),
        ({"z": np.arange(6.0)}, "names"),
    ],
)
def test_y_of_other_rows_is_refused(y, says):
    tree = tree_of(np.random.default_rng(0).normal(size=(1, 20, 6)), np.arange(6.0),
                   coords={"obs": LABELS})  # fmt: skip
    prediction_checks(tree, y=pd.Series(np.arange(6.0), LABELS))
    with pytest.raises((DataError, ArgumentError), match=says):
        prediction_checks(tree, y=y)


@pytest.mark.parametrize(
    ("draws", "y", "says"),
    [
        (
            np.full((1, 20, 6), np.nan),
            np.arange(6.0),
            "not a number in 6 of 6 rows, first in row 0",
        ),
        (np.broadcast_to(np.arange(6.0), (1, 20, 6)), np.arange(6.0), "they are no predictions"),
        (np.zeros((1, 20, 6)), np.full(6, np.nan), "no observed value"),
        (np.zeros((1, 20, 6)), None, "no observed values of y"),
    ],
)
def test_what_cannot_be_compared_is_refused(draws, y, says):
    with pytest.raises((DataError, ArgumentError), match=says):
        prediction_checks(tree_of(draws, y))


def test_columns_of_other_rows_are_refused(made):
    rng = np.random.default_rng(0)
    tree = tree_of(rng.normal(size=(1, 20, 6)), np.arange(6.0), coords={"obs": LABELS})
    other = pd.DataFrame({"x": range(6)}, index=LABELS[::-1])
    for X in (np.zeros(5), other):
        with pytest.raises(DataError, match="rows"):
            prediction_checks(tree, X)
    with pytest.raises(ArgumentError, match="no column"):
        made[0].table("residuals", column="z")
    with pytest.raises(ArgumentError, match="between 0 and 1"):
        made[0].table("coverage", level=1.0)
    with pytest.raises(ArgumentError, match="no outcome"):
        made[0].table("PIT", outcome="z")


def test_ties_of_a_statistic_are_halved_whatever_the_rounding():
    rng = np.random.default_rng(0)
    y = np.array([0, 1, 1, 3, 7, 2, 5])
    draws = rng.permuted(np.tile(y, (1, 50, 1)), axis=-1)
    found = prediction_checks(tree_of(draws, y)).table("test statistics")["p_value"]
    assert (found == 0.5).all()
    floor = np.maximum(rng.normal(size=(1, 50, 20)), 0.1)
    own = np.maximum(rng.normal(size=20), 0.1)  # doubles, of which single precision has no 0.1
    above = {"above the floor": lambda values: values > 0.1}
    tree = tree_of(floor.astype(np.float32))
    found = prediction_checks(tree, y=own, statistics=above).table("test statistics")
    assert found.loc["minimum", "p_value"] == 0.5
    assert found.loc["above the floor", "p_value"] == 0.5


@pytest.mark.parametrize(
    ("statistics", "says"),
    [
        ({"top": np.max}, "one number for each value"),
        ({"top": lambda values: values - values.mean()}, "beside it"),
        ({"mean": np.abs}, "other than mean"),
        ({"log": lambda values: np.log(values - values)}, "not a number|infinite"),
        ({"bad": lambda values: values.nothing}, "'bad' fails"),
        ({"bad": 3}, "takes a function"),
        ({3: np.abs}, "names a function 3"),
        ([np.abs], "functions by name"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
def test_statistics_that_are_no_numbers_of_single_values_are_refused(statistics, says):
    draws = np.random.default_rng(0).normal(size=(1, 20, 6))
    with pytest.raises(ArgumentError, match=says):
        prediction_checks(tree_of(draws, np.arange(6.0)), statistics=statistics)


def test_groups_and_columns_keep_names_of_their_own():
    rng = np.random.default_rng(0)
    draws, y = rng.normal(size=(1, 20, 60)), rng.normal(size=60)
    table = pd.DataFrame(
        {
            "near": np.resize([1.00001, 1.00002, 1.00003], 60),
            "old": np.resize(np.array(["1500-01-01", "1600-01-01"], "datetime64[s]"), 60),
            "late": np.resize(np.array(["2024-01-01T00:00:00.001", "2025"], "datetime64[ms]"), 60),
            "predicted mean": 7.0,
        }
    )
    checks = prediction_checks(tree_of(draws, y), table)
    assert checks.groups[1:] == (
        "near: 1.00001", "near: 1.00002", "near: 1.00003", "old: 1500-01-01", "old: 1600-01-01",
        "late: 2024-01-01 00:00:00.001000", "late: 2025-01-01",
    )  # fmt: skip
    found = checks.table("test statistics", group="near: 1.00002")
    np.testing.assert_allclose(found.loc["mean", "observed"], y[1::3].mean())
    assert list(checks.table("coverage", column="near").index) == ["1.00001", "1.00002", "1.00003"]
    assert checks.columns[-1] == "predicted mean (given)"
    assert checks.table("residuals")["at"].max() < 1  # by the predictions, not by the column


def test_calibration_of_values_far_from_zero_keeps_their_spread():
    rng = np.random.default_rng(0)
    draws, y = rng.normal(size=(1, 20, 80)), rng.normal(size=80)
    near, far = (
        prediction_checks(tree_of(draws + shift, y + shift)).table("calibration")
        - [0, *[shift] * 4]
        for shift in (0.0, 1e9)
    )
    np.testing.assert_allclose(far["high"] - far["low"], near["high"] - near["low"], rtol=1e-5)


def test_a_row_that_is_surely_right_is_not_the_worst():
    draws = np.random.default_rng(0).normal(size=(1, 50, 5))
    draws[..., 2] = 0.0
    y = np.array([0.1, 3.0, 0.0, 0.2, 0.3])
    found = prediction_checks(tree_of(draws, y)).table("worst rows")
    assert found.index[0] == "1"
    assert found.index[-1] == "2"
    assert found.loc["2", "sds_off"] == 0
    with pytest.raises(ArgumentError, match="count"):
        prediction_checks(tree_of(draws, y)).table("worst rows", count="all")
    with pytest.raises(DataError, match="timedelta"):
        prediction_checks(tree_of((draws * 9).astype("timedelta64[s]"), y))


@pytest.mark.parametrize("first", ["uniform", "random"])
def test_data_simulated_from_the_seed_0_is_calibrated(first):
    """Its numbers come row by row, as those that break ties of a flag do."""
    rng, draws_rng = np.random.default_rng(0), np.random.default_rng(77)
    x = rng.uniform(-2, 2, 400) if first == "uniform" else 4 * rng.random(400) - 2
    p = 1 / (1 + np.exp(-x))
    y = (rng.random(400) < p).astype(int)
    draws = (draws_rng.random((1_000, 400)) < p).astype(int)
    found = calibration(draws, y, np.ones(400, bool), None, None)
    assert found.of_pit.p_value > 0.05
    assert 0.4 < found.coverage[0.5] < 0.6
