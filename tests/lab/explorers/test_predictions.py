"""Predictions explored: of arrays, tables, streams and stores; the panel computes them once."""

from __future__ import annotations

import pickle
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
import xarray as xr
from arviz_stats import loo
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import ArrayDataset, ArrayLoader, ImpactModel, TableSpec, lab, open_results
from aimz_lab.errors import (
    ArgumentError,
    DataError,
    DataTypeError,
    NotFittedError,
    OutputWarning,
)
from aimz_lab.lab.explorers.charts import Rule

panels = pytest.mark.skipif(find_spec("ipywidgets") is None, reason="panels need ipywidgets")
N = 700  # no multiple of a block of 256 rows, nor of a batch of 64
calls = []


def kernel(X, y=None, z=None):
    calls.append(1)
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(slope * X[:, 0], 1.0), obs=y)
        numpyro.sample("z", dist.Poisson(jnp.exp(0.1 * X[:, 1])), obs=z)


def learner(of):
    return SVI(of, AutoNormal(of), numpyro.optim.Adam(0.01), Trace_ELBO())


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, 2)).astype(np.float32)
    y = (X[:, 0] + rng.normal(size=N)).astype(np.float32)
    return X, y, rng.poisson(np.exp(0.1 * X[:, 1]))


@pytest.fixture(scope="module")
def im(data):
    model = ImpactModel(kernel, jax.random.key(0), inference=learner(kernel))
    draws = 1 + 0.05 * np.random.default_rng(1).normal(size=300)
    model.set_posterior_sample({"slope": draws.astype(np.float32)})
    return model


@pytest.fixture(scope="module")
def tree(im, data, tmp_path_factory):
    X, y, _ = data
    made = im.predict(ArrayDataset(X=X, y=y), rng_key=jax.random.key(0), progress=False,
                      output_dir=tmp_path_factory.mktemp("store"))  # fmt: skip
    return open_results(made.attrs["artifact_path"])


@pytest.fixture(scope="module")
def checks(im, data):
    X, y, z = data
    return lab.prediction_checks(im, X, {"y": y, "z": z})


def same(one, other, **options):
    for check in ("density", "ECDF", "test statistics", "PIT", "coverage", "calibration"):
        a, b = (each.table(check, **options).to_numpy(float) for each in (one, other))
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


@panels
def test_a_model_without_a_posterior_is_told_of_the_call_that_was_made(data):
    untrained = ImpactModel(kernel, jax.random.key(0), inference=learner(kernel))
    for call in (lab.explore_predictions, lab.prediction_checks):
        with pytest.raises(NotFittedError, match=f"^{call.__name__} needs a posterior; "):
            call(untrained, *data[:2])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Estimated shape parameter:UserWarning")
def test_a_model_a_store_a_stream_and_batches_give_the_same_numbers(im, data, tree, checks):
    X, y, _ = data

    def stream():
        for at in range(0, N, 100):
            yield {"X": X[at : at + 100], "y": y[at : at + 100]}

    loader = ArrayLoader(ArrayDataset(X=X, y=y), jax.random.key(3), batch_size=64, shuffle=True)
    same(checks, lab.prediction_checks(tree))
    same(checks, lab.prediction_checks(im, stream))
    same(checks, lab.prediction_checks(im, loader))
    likelihood = im.log_likelihood(X, y, progress=False)
    expected = loo(likelihood.load(), pointwise=True, reff=1.0)
    found = checks.table("worst rows", count=N)
    order = found.index.astype(int)
    np.testing.assert_allclose(found["elpd_loo"], expected.elpd_i.values[order], rtol=1e-3)
    np.testing.assert_allclose(found["k_hat"], expected.pareto_k.values[order], atol=0.02)
    of_tree = lab.prediction_checks(tree, log_likelihood=likelihood)
    pd.testing.assert_frame_equal(of_tree.table("worst rows"), found.head(10), rtol=1e-4)


@panels
def test_rows_without_an_observed_value_take_no_part(im, data, checks):
    X, y, _ = data
    y = y.copy()
    y[[3, 650]] = np.nan
    explorer = lab.explore_predictions(im, X, y)
    assert "2 rows without an observed value are left out." in explorer.view.sentences
    found = explorer.set(check="worst rows", rows=100).table
    whole = checks.table("worst rows", count=102).drop(["3", "650"], errors="ignore")
    pd.testing.assert_frame_equal(found, whole.head(100), rtol=1e-5)
    coverage = explorer.set(check="coverage", level=0.5).table
    assert (coverage["rows"] == N - 2).all()
    explorer.close()


def test_several_sites_are_outcomes(checks, data):
    _, _, z = data
    assert checks.outcomes == ("y", "z")
    found = checks.table("test statistics", outcome="z")
    assert found.loc["share of zeros", "observed"] == (z == 0).mean()
    assert 0.001 < found.loc["mean", "p_value"] < 0.999
    assert checks.table("worst rows", outcome="z").columns[4] == "sds_off"


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({}, ArgumentError, "pass X and y"),
        ({"X": np.zeros((5, 2)), "y": np.zeros(4)}, DataError, "rows"),
        ({"X": np.zeros((5, 2)), "y": np.full(5, np.nan)}, DataError, "no observed value"),
        ({"X": np.full((5, 2), np.nan), "y": [0, 0, 0, 0, np.nan]}, DataError, "'X'"),
        ({"X": np.zeros((5, 2)), "y": [0, 0, 0, 0, np.inf]}, DataError, "'y'"),
        ({"X": np.zeros((5, 2)), "y": {"y": np.zeros(5), "z": np.zeros(4)}}, DataError, "'z'"),
        ({"X": np.zeros((5, 2)), "y": np.zeros(5), "columns": np.zeros(4)}, DataError, "4 rows"),
        ({"X": np.zeros((5, 2)), "y": np.zeros(5), "log_likelihood": 1}, ArgumentError, "tree"),
        (
            {"X": pd.DataFrame(np.zeros((2, 2)), [1, 2]), "y": pd.Series([0.0, 1.0], [2, 1])},
            DataError,
            "label",
        ),
    ],
)
def test_a_model_refuses_what_does_not_fit_and_is_as_before(im, arguments, error, says):
    before = jax.random.key_data(im.rng_key).tolist()
    with pytest.raises(error, match=says):
        lab.prediction_checks(im, **arguments)
    assert jax.random.key_data(im.rng_key).tolist() == before


def test_a_stream_that_shuffles_anew_each_time_is_refused(im, data):
    X, y, _ = data
    rng = np.random.default_rng(0)

    def shuffled():
        order = rng.permutation(100)
        yield {"X": X[order], "y": y[order]}

    with pytest.raises(DataError, match="another order, each time"):
        lab.prediction_checks(im, shuffled)


def test_what_is_no_source_is_refused(tree, data):
    with pytest.raises(DataTypeError, match="fitted ImpactModel"):
        lab.prediction_checks(data[0])
    with pytest.raises(ArgumentError, match="no kernel arguments"):
        lab.prediction_checks(tree, kernel_kwargs={"z": 1})
    with pytest.raises(DataError, match="another order"):
        lab.prediction_checks(tree, y=data[1][::-1])


def of_table(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(slope * X[:, 0], 0.5), obs=y)


@pytest.fixture(scope="module")
def sales():
    rng = np.random.default_rng(2)
    days = pd.date_range("2024-01-01", periods=80)
    table = pd.DataFrame({"price": rng.normal(size=80), "shop": list("abcd") * 20}, index=days)
    table["sales"] = np.exp(3 + 0.3 * table["price"] + 0.2 * rng.normal(size=80))
    table.loc[days[3], "sales"] = np.nan
    table.loc[days[5], "price"] = np.nan
    spec = TableSpec(X=["price"], y="scale(log(sales))", missing="drop")
    model = ImpactModel(of_table, jax.random.key(0), inference=learner(of_table), table=spec)
    with pytest.warns(match="left out|missing"):
        model.fit(table, epochs=2, num_samples=200, progress=False)
    return model, table


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::aimz_lab.errors.AimzLabWarning")
def test_a_table_is_compared_on_its_own_scale_row_by_row(sales):
    model, table = sales
    complete = table.dropna()
    found = lab.prediction_checks(model, table)
    rows = found.table("worst rows", count=100)
    assert sorted(rows.index) == [str(day.date()) for day in complete.index]
    np.testing.assert_allclose(rows["observed"], complete["sales"].loc[rows.index], rtol=1e-5)
    assert list(rows["shop"]) == list(complete["shop"].loc[rows.index])
    explorer = lab.explore_predictions(found)
    assert explorer.view.charts[0].x_label == "y in units of sales"
    assert explorer.title == "Predictions of sales"
    assert explorer.view.charts[0].title == "Observed and predicted sales"
    tree = model.predict(complete, rng_key=jax.random.key(0), progress=False)
    draws = tree.posterior_predictive.y.values.reshape(-1, len(complete))
    at = complete.index.get_indexer(rows.index)
    np.testing.assert_allclose(rows["predicted"], draws.mean(0)[at], rtol=1e-4)
    same(found, lab.prediction_checks(tree, complete), group="shop: b")
    assert lab.explore_predictions(tree, complete).title == "Predictions of sales"
    scaled = lab.prediction_checks(model, table, output_scale="model", progress=False)
    assert abs(scaled.table("test statistics").loc["mean", "observed"]) < 1e-5
    assert lab.explore_predictions(scaled).view.charts[0].x_label == "y = scale(log(sales))"
    prior = lab.explore_prior(model, complete)
    assert prior.view.charts[-1].x_label == "y = scale(log(sales))"
    assert "of y = scale(log(sales)) lies" in prior.view.sentences[0]
    assert "curve over price" in prior.controls["picture"].options
    model_explorer = lab.explore_model(model, complete)
    assert model_explorer.set(site="y").charts[0].title == "y = scale(log(sales)), all rows"
    with pytest.raises(DataError, match="another scale"):
        lab.prediction_checks(tree, y=np.log(complete["sales"]))


@pytest.mark.slow
@panels
def test_the_panel_answers_without_the_model(im, data):
    X, y, _ = data
    shops = pd.DataFrame({"shop": np.resize(["<i>a</i>", "b"], N)})
    explorer = lab.explore_predictions(im, X, y, columns=shops)
    checks = lab.prediction_checks(im, X, y, columns=shops)
    traced = len(calls)
    for check in explorer.controls["check"].options:
        view = explorer.set(check=check, group="shop: b", level=0.8, column="X[1]", rows=3)
        lines = explorer.code().splitlines()
        assert lines[0] == "# im, X, y and columns are those that prediction_checks was given."
        assert lines[-2] == "checks = lab.prediction_checks(im, X, y, columns=columns)"
        again = eval(lines[-1], {"checks": checks})
        pd.testing.assert_frame_equal(again, explorer.table())
        assert view.charts
        assert any("350 rows" in one or "350 observed" in one for one in view.sentences) or (
            check == "worst rows"
        )
        is_said = any("im.diagnose(X, y) corrects it" in one for one in view.sentences)
        assert is_said == (check == "worst rows")
    explorer.set(check="coverage", level=0.5)
    held = explorer.table()
    explorer.take({"kind": "drag", "name": "level", "value": 0.6512})
    explorer.wait()
    assert explorer.controls["level"].value == 0.65
    assert explorer.view.table is not held
    assert explorer.controls["residual"].disabled
    assert not explorer.controls["column"].disabled
    with pytest.raises(ArgumentError, match="level"):
        explorer.set(level=3.0)
    assert explorer.values["level"] == 0.65
    assert len(calls) == traced
    assert explorer.figure().axes
    explorer.close()


def needing(X, offset, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(slope * X[:, 0] + offset, 1.0), obs=y)


@panels
def test_the_panel_takes_what_the_calls_of_the_model_take(tree, im, data):
    X, y, _ = data
    model = ImpactModel(needing, jax.random.key(0), inference=learner(needing))
    model.set_posterior_sample({"slope": np.ones(30, np.float32)})
    key = jax.random.key(5)
    small = X[:50], y[:50] + 2
    found = lab.explore_predictions(
        model, *small, offset=2.0, rng_key=key, output_scale="model", progress=False
    )
    code = "prediction_checks(im, X, y, offset=offset, rng_key=rng_key, output_scale='model')"
    assert code in found.code()
    checks = lab.prediction_checks(model, *small, offset=2.0)
    assert lab.explore_predictions(checks).view.charts
    with pytest.raises(ArgumentError, match="were computed before, and take no X, y, offset"):
        lab.explore_predictions(checks, *small, offset=2.0)
    also = lab.explore_predictions(model, *small, kernel_kwargs={"offset": 2.0}, rng_key=key)
    pd.testing.assert_frame_equal(also.table(), found.table())
    other = lab.prediction_checks(model, *small, offset=2.0, rng_key=jax.random.key(6))
    assert not other.table("density").equals(found.table())
    assert "100 draws" in found.set(check="worst rows").sentences[-1]
    likelihood = im.log_likelihood(X, y, progress=False)
    panel = lab.explore_predictions(
        tree, log_likelihood=likelihood, statistics={"above": lambda values: values > 1}
    )
    view = panel.set(check="test statistics", statistic="above")
    assert panel.table().loc["above", "observed"] == pytest.approx((y > 1).mean())
    said = panel.set(check="worst rows").sentences
    assert "elpd_loo of 700 rows" in said[0]
    assert said[1] == "In 4 rows k-hat is above 0.60: do not trust their values."
    rules = [one.label for one in view.charts[0].layers if isinstance(one, Rule)]
    assert rules == ["observed", "90% of the draws", ""]
    for each in (found, also, panel):
        each.close()


@panels
@pytest.mark.parametrize("most", [2, 30, 100, 400])
def test_whole_numbers_have_no_prediction_between_them(most):
    rng = np.random.default_rng(4)
    draws, y = rng.integers(0, most, (1, 50, 200)), rng.integers(0, most, 200)
    y[:2] = 0, most - 1
    groups = {"posterior_predictive": draws, "observed_data": y}
    made = {
        name: xr.Dataset({"y": (("chain", "draw", "obs")[-values.ndim :], values)})
        for name, values in groups.items()
    }
    explorer = lab.explore_predictions(xr.DataTree.from_dict(made))
    (chart,) = explorer.view.charts
    table = explorer.table()
    (left, right), _ = chart.limits()
    if most <= 40:
        observed, predicted = chart.layers
        assert chart.y_label == "share of the rows"
        assert chart.names() == [str(value) for value in range(most)]
        assert sum(observed.values) == pytest.approx(1.0)
        for shown, name in (("values", "predicted"), ("low", "low"), ("high", "high")):
            np.testing.assert_array_equal(getattr(predicted, shown), table[name])
    else:
        assert chart.y_label == ("share of the rows" if most == 100 else "density")
        steps, band, line = chart.layers
        for each in (band, line):  # over the whole of each bar, and level there
            wide = steps.edges[1] - steps.edges[0]
            left_of, right_of = each.x[::2] - steps.edges[:-1], steps.edges[1:] - each.x[1::2]
            assert np.all((left_of > 0) & (left_of < 0.02 * wide))
            assert np.all((right_of > 0) & (right_of < 0.02 * wide))
        np.testing.assert_array_equal(line.y[::2], line.y[1::2])
        np.testing.assert_array_equal(line.y[::2], table["predicted"])
    ecdf = explorer.set(check="ECDF").charts[0].layers[2]
    edges = np.append(table["from"], table["to"].iloc[-1])
    np.testing.assert_allclose(ecdf.y[::2], [(y < at).mean() for at in edges])
    np.testing.assert_array_equal(ecdf.x[2::2], edges[1:] - 0.5)  # the values
    assert left <= 0
    assert right >= most - 1 or most == 400
    explorer.figure()
    explorer.close()


@panels
def test_checks_that_were_computed_are_explored_again(checks):
    explorer = lab.explore_predictions(checks)
    view = explorer.set(outcome="z", check="test statistics", statistic="share of zeros")
    assert "share of zeros of z" in view.sentences[0]
    assert repr(checks).startswith("Predictive checks of y, z; rows: 700.")
    explorer.close()


def all_rows_at_once(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    numpyro.sample("y", dist.Normal(slope * X[:, 0], 1.0).to_event(1), obs=y)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The kernel computes across rows")
def test_rows_of_one_event_are_ranked_by_residuals_and_it_is_said(data):
    X, y = data[0][:90], data[1][:90]
    im = ImpactModel(all_rows_at_once, jax.random.key(0), inference=learner(all_rows_at_once))
    draws = 1 + 0.05 * np.random.default_rng(1).normal(size=300)
    im.set_posterior_sample({"slope": draws.astype(np.float32)})
    of_model = lab.prediction_checks(im, X, y)
    density = im.log_likelihood(X, y, progress=False)
    of_tree = lab.prediction_checks(im.predict(X, progress=False), y=y, log_likelihood=density)
    for checks in (of_model, of_tree):
        [note] = [note for note in checks.notes if "LOO" in note]
        assert "y has one log density for all rows together" in note
        assert "sds_off" in checks.table("worst rows")


def of_times(X, seen, y=None):
    rate = jnp.exp(numpyro.sample("level", dist.Normal(0, 1)) + 0 * X)
    with numpyro.plate("row", X.shape[0]):
        values = dist.RightCensoredDistribution(dist.Exponential(rate), censored=1 - seen)
        numpyro.sample("y", values, obs=y)


def test_it_is_said_that_predictions_are_not_censored_as_the_data_are():
    X, y = np.zeros(40, np.float32), np.ones(40, np.float32)
    svi = SVI(of_times, AutoNormal(of_times), numpyro.optim.Adam(0.1), Trace_ELBO())
    im = ImpactModel(of_times, jax.random.key(0), svi=svi)
    im.set_posterior_sample({"level": np.zeros(100, np.float32)})
    notes = lab.prediction_checks(im, X, y, seen=np.arange(40) % 4 > 0, progress=False).notes
    assert "In 10 of 40 rows y is a bound of what was not seen" in notes[0]


@pytest.mark.slow
@panels
def test_a_panel_says_that_its_posterior_is_outdated(data):
    X, y, _ = (each[:40] for each in data)
    model = ImpactModel(kernel, jax.random.key(0), inference=learner(kernel))
    model.fit(X, y, epochs=2, z=np.zeros(40), progress=False)
    explorer = lab.explore_predictions(model, X, y, progress=False)
    model.predict(X, progress=False)
    before, lines = explorer.table(), explorer.code()
    assert explorer.set(check="density").sentences == ["40 rows, 1,000 draws."]

    model.fit(X, y, epochs=2, z=np.zeros(40), progress=False)
    assert "of an earlier posterior" in explorer.view.sentences[0]
    with pytest.warns(OutputWarning, match="trained since.*call lab.explore_predictions with"):
        pd.testing.assert_frame_equal(explorer.table(), before)
    assert "of an earlier posterior" in explorer.view.sentences[0]
    assert explorer.code().splitlines()[1:] == lines.splitlines()
    assert "of an earlier posterior" in explorer.set(check="calibration").sentences[0]
    with pytest.warns(OutputWarning, match="trained since"):
        assert explorer.figure().axes

    anew = lab.prediction_checks(model, X, y, progress=False)
    panel = lab.explore_predictions(anew)
    assert "earlier posterior" not in repr(panel)
    model.train_on_batch(X, y, z=np.zeros(40), n_obs=40)
    assert anew.is_outdated
    assert "of an earlier posterior" in repr(panel)
    assert not pickle.loads(pickle.dumps(anew)).is_outdated
    for each in (explorer, panel):
        each.close()
