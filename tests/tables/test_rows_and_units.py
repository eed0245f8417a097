"""What a model of tables knows of rows, outcomes and units; tables that are not quite right."""

from __future__ import annotations

import copy
import pickle
import traceback

import jax
import jax.numpy as jnp
import narwhals
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import polars as pl
import pytest
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import Hdi, ImpactModel, Quantiles, TableSpec, lab, summarize_effect
from aimz_lab.effects.summaries import hdi
from aimz_lab.errors import (
    ArgumentError,
    CallError,
    DataError,
    DataTypeError,
    OutputWarning,
    SiteError,
)
from aimz_lab.tables.encoder import TableEncoder

N = 60
KEY = jax.random.key(4)
SPEC = TableSpec(features="scale(age)", pay="scale(pay)")


def kernel(features, weight=1.0, pay=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    with numpyro.plate("row", features.shape[0]), numpyro.handlers.scale(scale=weight):
        numpyro.sample("pay", dist.Normal(features * slope, 0.5), obs=pay)


def new_svi(kernel=kernel):
    return SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(0.1), Trace_ELBO())


def model(kernel=kernel, spec=SPEC, **names):
    names = names or {"param_input": "features", "param_output": "pay"}
    return ImpactModel(kernel, jax.random.key(0), new_svi(kernel), table=spec, **names)


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"age": rng.normal(40, 10, N), "grade": np.resize(["a", "b", "c"], N)})
    return frame.assign(pay=100 + 2 * frame.age + rng.normal(0, 3, N), code=np.arange(N) % 4)


@pytest.fixture(scope="module")
def im(table):
    return model().fit(table, epochs=40, num_samples=40, progress=False)


def in_memory(im, table, **options):
    return im.predict(table, rng_key=KEY, store="memory", progress=False, **options)


@pytest.mark.slow
def test_the_outcome_beside_a_prediction_decides_too(im, table):
    """Rows with another outcome are no training rows, and never show that of the training."""
    without = in_memory(im, table.drop(columns="pay"))
    np.testing.assert_allclose(without.observed_data.pay, table.pay, rtol=1e-5)
    for other in (
        table.assign(pay=1.0),
        table.assign(pay=table.pay.where(table.age > 40)),
        table.assign(pay="unknown"),
    ):
        tree = in_memory(im, other)
        assert "predictions" in tree
        assert "observed_data" not in tree
    said = in_memory(im, table.assign(pay=1.0), in_sample=True)
    np.testing.assert_allclose(said.observed_data.pay, 1.0, rtol=1e-3)
    effect = im.estimate_effect(table, table.assign(age=table.age + 1))
    assert "observed_data" not in effect
    unknown = in_memory(im, table.assign(pay=np.nan), in_sample=True)
    assert "observed_data" not in unknown


@pytest.mark.parametrize("some", [slice(20), slice(None, None, -1), [3, 3, 1]])
def test_some_rows_of_the_training_table_show_what_was_observed(im, table, some):
    rows = table.iloc[some]
    tree = in_memory(im, rows)
    np.testing.assert_allclose(tree.observed_data.pay, rows.pay, rtol=1e-5)
    assert "posterior_predictive" in tree
    others = rows.assign(pay=rows.pay + 1), rows.assign(age=rows.age + 1)
    for tree in (*(in_memory(im, other) for other in others), in_memory(im, rows, weight=2.0)):
        assert "predictions" in tree
        assert "observed_data" not in tree


@pytest.mark.slow
def test_rows_of_which_most_are_training_rows_are_told(im, table, capsys):
    def said_of(rows, im=im, **options):
        capsys.readouterr()
        im.predict(rows, store="memory", return_sites="pay", **options)
        return capsys.readouterr().err

    n = len(table)
    said = f"{n - 1} of {n} rows look like training rows, so that the result is in predictions"
    is_third = np.arange(n) == 3
    changed = table.assign(age=table.age + is_third)
    assert said in said_of(changed)
    assert said not in said_of(changed, in_sample=False)
    assert said not in said_of(changed, progress=False)
    no_outcome = table.assign(pay=table.pay.mask(is_third))
    spec = TableSpec(features="scale(age)", pay="scale(pay)", missing="drop")
    with pytest.warns(OutputWarning, match="left out"):
        dropping = model(spec=spec).fit(no_outcome, epochs=2, num_samples=20, progress=False)
    assert said in said_of(no_outcome, dropping)
    for rows in (table, table.head(20), table.assign(pay=1.0), table.drop(columns="pay")):
        assert "training rows" not in said_of(rows)


@pytest.mark.slow
def test_rows_that_only_look_like_training_rows_are_predictions(table, capsys):
    """Of a table with few values, new rows equal training rows as often as these equal others."""
    alike = table.assign(age=np.resize([40.0, 50], N), pay=np.resize([1.0, 1, 2], N))
    few = pd.concat([alike.iloc[: N // 2], table.iloc[N // 2 :]])
    im = model().fit(few, epochs=2, num_samples=20, progress=False)
    new = im.predict(alike.iloc[N // 2 : -3], store="memory", return_sites="pay")
    assert "predictions" in new
    assert "observed_data" not in new
    said = "All 27 rows look like training rows, but new ones may too, so that the result is in pre"
    assert said in capsys.readouterr().err
    assert "posterior_predictive" in in_memory(im, few[::-1])


def two_outcomes(features, pay=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    with numpyro.plate("row", features.shape[0]):
        means = slope * features[:, None] * np.ones((1, 2))
        numpyro.sample("pay", dist.Normal(means, 0.1).to_event(1), obs=pay)


@pytest.mark.slow
def test_several_outcomes_come_back_in_their_units(table):
    spec = TableSpec(features="scale(age)", pay=["scale(pay)", "scale(code)"])
    im = model(two_outcomes, spec).fit(table, epochs=5, num_samples=20, progress=False)
    tree = in_memory(im, table)
    raw = in_memory(im, table, output_scale="model").posterior_predictive.pay
    columns = table[["pay", "code"]]
    expected = raw * columns.std().to_numpy() + columns.mean().to_numpy()
    np.testing.assert_allclose(tree.posterior_predictive.pay, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(tree.observed_data.pay, columns, rtol=1e-4, atol=1e-4)


def test_units_that_would_be_rounded_are_refused(table):
    far = table.assign(pay=table.pay + 1e12)
    im = model().fit(far, epochs=2, num_samples=20, progress=False)
    with pytest.raises(ArgumentError, match="too far from 0"):
        in_memory(im, far)
    assert abs(float(in_memory(im, far, output_scale="model").posterior_predictive.pay.mean())) < 3


@pytest.mark.parametrize("way", ["saved", "pickled"])
def test_a_model_from_a_file_knows_its_training_rows(im, table, tmp_path, way):
    """By their checksums: neither file holds any of the data."""
    if way == "saved":
        path = im.save(tmp_path / "model")
        again = ImpactModel.load(path, kernel, svi=new_svi())
        secret = table.pay.to_numpy(np.float32)[:2].tobytes()
        assert not any(secret in one.read_bytes() for one in path.rglob("*") if one.is_file())
    else:
        again = pickle.loads(pickle.dumps(im))
    tree = in_memory(again, table)
    np.testing.assert_allclose(tree.observed_data.pay, table.pay, rtol=1e-5)
    assert "posterior_predictive" in tree
    assert "predictions" in in_memory(again, table.assign(pay=1.0))
    bare = in_memory(again, table.drop(columns="pay"))
    assert "posterior_predictive" in bare
    assert "observed_data" not in bare


def test_quantiles_and_intervals_are_in_units_of_the_column(im, table):
    kept = in_memory(im, table).posterior_predictive.pay.values[0]
    got = in_memory(im, table, reduce=[Quantiles([0.1, 0.9]), Hdi(0.8), "sd"]).posterior_predictive
    np.testing.assert_allclose(got.pay_quantile, np.quantile(kept, [0.1, 0.9], axis=0), rtol=1e-4)
    np.testing.assert_allclose(got.pay_hdi, hdi(kept, 0.8).T, rtol=1e-4)
    np.testing.assert_allclose(got.pay_sd, kept.std(0, ddof=1), rtol=1e-3)


def test_rows_have_the_labels_of_their_index(im, table):
    dates = pd.date_range("2025-03-29 22:00", periods=N, freq="h", tz="Europe/Zurich", name="hour")
    local = in_memory(im, table.set_index(dates)).posterior_predictive.pay
    assert local.sel(row="2025-03-30").sizes["row"] == 23  # the day of summer time
    levels = pd.MultiIndex.from_arrays([table.grade, range(N)], names=["grade", "number"])
    of_levels = in_memory(im, table.set_index(levels)).posterior_predictive.pay
    assert of_levels.sel(grade="b").sizes["row"] == 20


def test_narwhals_and_polars_tables(im, table):
    wanted = in_memory(im, table, by="grade").posterior_predictive.pay_mean
    frame = pl.from_dict({name: table[name].to_list() for name in table})
    for same in (frame, narwhals.from_native(table), narwhals.from_native(frame)):
        found = in_memory(im, same, by="grade").posterior_predictive.pay_mean
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
    with pytest.raises(DataTypeError, match=r"polars LazyFrame; pass a data frame: .collect\(\)"):
        im.predict(frame.lazy(), progress=False)


@pytest.mark.slow
@pytest.mark.allow_rank_promotion  # NumPyro draws from the guide of vectors
def test_an_outcome_of_levels_says_which(table):
    def grades(X, n_grades, y=None):
        at = numpyro.sample("at", dist.Normal(0, 1).expand([n_grades]).to_event(1))
        with numpyro.plate("row", X.shape[0]):
            numpyro.sample("y", dist.Categorical(logits=at[None, :] + 0 * X[:, None]), obs=y)

    spec = TableSpec(X="scale(age)", y="index(grade)", n_grades="levels(grade)")
    im = model(grades, spec, param_input="X", param_output="y")
    im.fit(table, num_samples=10, progress=False)
    tree = in_memory(im, table)
    attrs = tree["posterior_predictive"].attrs
    assert (attrs["output_levels"], attrs["output_column"]) == (["a", "b", "c"], "grade")
    for checked in (lab.prediction_checks(im, table), lab.prediction_checks(tree)):
        chart = lab.explore_predictions(checked).view.charts[0]
        assert (chart.title, chart.x_label) == ("Observed and predicted grade", "grade")
        assert chart.names() == ["a", "b", "c"]
    fresh = model(grades, spec, param_input="X", param_output="y")
    prior = fresh.sample_prior_predictive(table, num_samples=10, progress=False)
    assert prior.prior_predictive.attrs["output_levels"] == ["a", "b", "c"]
    np.testing.assert_array_equal(tree.observed_data.y, table.grade.map({"a": 0, "b": 1, "c": 2}))
    said = r"grade is the number of one of 3 levels \(a, b, c\), so that its mean"
    with pytest.raises(ArgumentError, match=said):
        in_memory(im, table, by="grade")
    older = table.assign(age=table.age + 1)
    for refused in (
        lambda: im.estimate_effect(table, older, average=True),
        lambda: im.estimate_effect(tree, tree, average=True),
        lambda: im.sweep("age", [30.0, 40.0], table, progress=False),
        lambda: im.decide({"now": table, "older": older}),
        lambda: lab.plot_effect(im.estimate_effect(table, older)),
    ):
        with pytest.raises(ArgumentError, match=said):
            refused()
    printed = str(im.estimate_effect(table, older))
    assert printed.startswith("grade is the number of one of 3 levels")
    worth = im.decide({"now": table, "older": older}, benefits=lambda level: 1.0 * (level == 2))
    assert 0 < worth.table.utility["now"] < 1


GRADES = ["low", "fair", "high"]
NUMBER = np.repeat([0, 1, 2], N // 3)
RATED = pd.DataFrame(
    {
        "age": NUMBER + np.linspace(-1, 1, N),
        "grade": pd.Categorical(np.array(GRADES)[NUMBER], GRADES, ordered=True),
        "listed": pd.Categorical(np.array(GRADES)[NUMBER], GRADES),
        "points": 1 + NUMBER,
    }
)


def graded(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.OrderedLogistic(slope * X, jnp.array([-1.0, 1.0])), obs=y)


def chosen(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    logits = slope * X[:, None] * jnp.arange(3.0)[None, :]
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Categorical(logits=logits), obs=y)


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "column", "ends"),
                         [(graded, "grade", "levels 0 = 'low' to 2 = 'high'"),
                          (chosen, "grade", "levels 0 = 'low' to 2 = 'high'"),
                          (graded, "points", "levels 0 = '1' to 2 = '3'")])  # fmt: skip
def test_the_mean_of_levels_in_an_order_is_that_of_their_numbers(kernel, column, ends):
    im = model(kernel, TableSpec(X="age", y=f"index({column})"), param_input="X", param_output="y")
    im.fit(RATED, num_samples=50, progress=False)
    older, called = RATED.assign(age=RATED.age + 1), f"{column} ({ends})"

    def effect(of, *inputs):
        before, after = ({"X": X} for X in inputs)
        return of.estimate_effect(
            args_baseline={**before, "rng_key": KEY}, args_intervention=after, average=True
        )

    found = effect(im, RATED, older)
    arrays = ImpactModel(kernel, KEY, svi=new_svi(kernel)).set_posterior_sample(im.posterior)
    if kernel is graded:  # the mean of categories is refused of arrays, which declare no order
        wanted = effect(arrays, RATED.age.values, older.age.values).posterior_predictive
        np.testing.assert_allclose(found.posterior_predictive.y, wanted.y, rtol=1e-4)
    assert summarize_effect(found).table().index.tolist() == [called]
    assert f"changes {called} by" in summarize_effect(found)[column].text
    explorer = lab.explore_effect(im, RATED)
    charts = explorer.wait().charts
    assert charts[1].title == f"Average of {called} over age"
    assert charts[0].x_label.startswith(f"effect on the average of {column} (of drawn")
    assert str(in_memory(im, RATED, by="grade")).startswith(f"Average of {called}, with")
    printed = str(in_memory(im, RATED))
    assert f"Share of the draws in each level of {column}, the first 5 of" in printed
    shares = [float(cell) for cell in printed.splitlines()[2].split()[1:]]
    assert sum(shares) == pytest.approx(1, abs=0.02)
    assert "Log-likelihood of" in str(im.log_likelihood(RATED, progress=False))
    swept = im.sweep("age", [0.0, 1.0], RATED, progress=False)
    assert called in str(summarize_effect(swept))
    figure = lab.plot_effect(swept)
    figure.canvas.draw()
    [axes] = figure.axes
    label = axes.yaxis.label.get_window_extent()
    assert 0 <= label.y0 < label.y1 <= figure.bbox.height
    actions = {"now": RATED, "older": older}
    assert f"count {called} by these numbers, each step alike" in im.decide(actions).text
    worth = im.decide(actions, benefits=lambda level: 1.0 * (level == 2))
    assert "by these numbers" not in worth.text
    tree, sides = in_memory(im, RATED), {"args_baseline": {"X": RATED}}
    sides["args_intervention"] = {"X": older}
    for refused in (
        lambda: im.estimate_effect(**sides, contrast="ratio"),
        lambda: im.estimate_effect(tree, tree, contrast="percent"),
        lambda: im.sweep("age", [0.0, 1.0], RATED, reference=0.0, contrast="ratio", progress=False),
        lambda: lab.explore_effect(im, RATED, contrast="ratio").wait(),
    ):
        with pytest.raises(ArgumentError, match="if the levels were numbered from 1"):
            refused()
    assert explorer.controls["contrast"].options == ("difference",)
    checks = lab.prediction_checks(tree)
    assert any(f"are of these numbers: {ends}" in note for note in checks.checked.notes)


@pytest.mark.parametrize(
    ("formula", "rows", "error", "said"),
    [
        ("I(points - 1)", RATED, DataTypeError, "A TableSpec makes them .* y='index\\(column\\)'"),
        (
            "index(points)",
            RATED[RATED.points != 2],
            DataError,
            "'points' has 2 levels in the table, 1, 3, and the kernel 3 categories for 'y'",
        ),
    ],
)
def test_categories_are_the_numbers_of_all_levels(formula, rows, error, said):
    im = model(graded, TableSpec(X="age", y=formula), param_input="X", param_output="y")
    with pytest.raises(error, match=said):
        im.fit(rows, progress=False)


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "column"), [(graded, "listed"), (chosen, "points")])
def test_levels_without_an_order_have_no_mean(kernel, column):
    im = model(kernel, TableSpec(X="age", y=f"index({column})"), param_input="X", param_output="y")
    im.fit(RATED, num_samples=10, progress=False)
    with pytest.raises(ArgumentError, match=r"say nothing.*If the levels have an order, train on"):
        in_memory(im, RATED, by="grade")


@pytest.mark.slow
@pytest.mark.parametrize("formula", ["won", "index(won)", "I(won == 'yes')"])
def test_an_effect_on_one_of_two_levels_says_of_which_it_is(table, formula):
    def winning(X, y=None):
        slope = numpyro.sample("slope", dist.Normal(0, 1))
        with numpyro.plate("row", X.shape[0]):
            numpyro.sample("y", dist.Bernoulli(logits=slope * X), obs=y)

    frame = table.assign(won=np.where(table.age > 40, "yes", "no"))
    im = model(winning, TableSpec(X="scale(age)", y=formula), param_input="X", param_output="y")
    im.fit(frame, num_samples=10, progress=False)
    older = {"X": frame.assign(age=frame.age + 5)}
    effect = im.estimate_effect(args_baseline={"X": frame}, args_intervention=older, average=True)
    assert effect["posterior_predictive"].attrs["output_event"] == "won = yes"
    assert str(effect).startswith("Effect on P(won = yes), with the 94%")
    assert summarize_effect(effect).table().index.tolist() == ["P(won = yes)"]
    assert "changes P(won = yes) by" in summarize_effect(effect).y.text
    assert lab.plot_effect(effect).axes[0].get_xlabel() == "effect on P(won = yes)"
    odds = im.estimate_effect(args_baseline={"X": frame}, args_intervention=older,
                              contrast="odds_ratio")  # fmt: skip
    assert "makes the odds of won = yes 1" in summarize_effect(odds).y.text
    explorer = lab.explore_effect(im, frame)
    titles = [chart.title for chart in explorer.wait().charts]
    assert titles[1] == "Average of P(won = yes) over age"
    assert "The average of P(won = yes) is" in " ".join(explorer.view.sentences)


def test_counts_and_booleans_as_outcomes(table):
    encoder = TableEncoder.learn(TableSpec(X="age", y="code"), table)
    np.testing.assert_array_equal(encoder.encode(table).arguments["y"], table.code)
    won = table.assign(won=table.age > 40)
    encoder = TableEncoder.learn(TableSpec(X="age", y="won"), won)
    assert encoder.encode(won).arguments["y"].dtype == np.int32
    assert encoder.outcome_scale("y").is_identity
    assert encoder.event("y") == encoder.event("none") == ""


@pytest.mark.parametrize("new", [False, True])
def test_a_category_of_numbers_is_never_taken_for_numbers(table, new):
    """In training, or in a later table of a column that held numbers."""
    spec = TableSpec(X="code", y="pay")
    coded = table.assign(code=table.code.astype("category"))
    encoder = TableEncoder.learn(spec, table)
    with pytest.raises(DataTypeError, match=r"C\(code\).*index\(code\).*astype\(float\)"):
        encoder.encode(coded) if new else TableEncoder.learn(spec, coded)
    assert TableEncoder.learn(TableSpec(X="C(code)", y="pay"), coded)


@pytest.mark.parametrize(
    ("dims", "said"),
    [
        ({"zz": "grade"}, "names 'zz', and the kernel's sites are slope, pay"),
        ({"slope": "grade"}, "names 1 dimensions of the site 'slope', which has 0"),
    ],
)
def test_dims_that_fit_no_site_are_refused_before_a_training(table, dims, said):
    im = model(spec=TableSpec(features="scale(age)", pay="scale(pay)", dims=dims))
    before = jax.random.key_data(im.rng_key)
    with pytest.raises(ArgumentError, match=said):
        im.fit(table, progress=False)
    assert im.last_run is None
    assert im.vi_result is None
    np.testing.assert_array_equal(before, jax.random.key_data(im.rng_key))


@pytest.mark.parametrize(
    "formula",
    [
        "bs(age, df=100000000)",
        "poly(age, 100000000)",
        "cr(age, df=10**9)",
        "bs(age, df=n)",
        "cc(age, df=-(-99999))",
    ],
)
def test_splines_of_endless_columns_are_refused(formula):
    with pytest.raises(ArgumentError, match="at most 1,000 columns"):
        TableSpec(X=formula)


def test_matrices_beyond_all_memory_are_refused():
    names = np.array([f"a{i}" for i in range(40_000)])
    many = pd.DataFrame({"a": names, "b": names, "pay": 1.0})
    with pytest.raises(
        DataError, match=r"'C\(a\):C\(b\)' of 'X' makes about 1,600,000,001 columns"
    ):
        TableEncoder.learn(TableSpec(X="C(a):C(b)", y="pay"), many)


def test_arguments_beside_a_table_whose_rows_are_left_out(table):
    im = model(spec=TableSpec(features="scale(age)", pay="scale(pay)", missing="drop"))
    holes = table.assign(age=table.age.where(table.age > table.age.min()))
    with pytest.warns(match="1 of 60"), pytest.raises(CallError, match="weight='weight'"):
        im.fit(holes, weight=np.ones(N), progress=False)


def test_held_out_tables_say_what_is_wrong(table):
    im = model()
    for error, said, held_out in (
        (DataError, "In the held-out table: The table has no column 'pay'", table[["age"]]),
        (DataError, "In the held-out table: Values are missing", table.assign(age=np.nan)),
        (CallError, "takes the held-out table alone", (table, table.pay)),
        (CallError, "takes the held-out table alone", {"features": table, "pay": table.pay}),
    ):
        with pytest.raises(error, match=said):
            im.fit(table, validation=held_out, progress=False)


@pytest.mark.filterwarnings("ignore:1 of 60 rows")
def test_scenarios_that_leave_out_different_rows_are_not_compared(table):
    im = model(spec=TableSpec(features="scale(age)", pay="scale(pay)", missing="drop"))
    untold = table.set_axis([0] * N)  # its labels tell no row from another
    im.fit(untold, epochs=2, num_samples=5, progress=False)
    one, other = (
        untold.assign(age=untold.age.where(np.arange(N) != row) + shift)
        for row, shift in ((3, 0), (7, 1))
    )
    with pytest.raises(DataError, match="Missing values leave other rows out"):
        im.estimate_effect(one, other)
    with pytest.raises(DataError, match="Missing values leave other rows out"):
        im.decide({"one": one, "other": untold})
    same = im.estimate_effect(one, one.assign(age=one.age + 1))
    assert same.posterior_predictive.pay.sizes["row"] == N - 1


@pytest.mark.slow
def test_reports_have_the_rows_of_the_training(table):
    """Rows without an input or without an outcome are left out of each call of a report alike."""
    im = model(spec=TableSpec(features="scale(age)", pay="scale(pay)", missing="drop"))
    holes = table.assign(
        age=table.age.where(np.arange(N) > 1), pay=table.pay.where(np.arange(N) % 20 != 5)
    )
    with pytest.warns(match="5 of 60"):
        im.fit(holes, epochs=40, num_samples=200, progress=False)
    left_out = "5 of 60 rows were left out, because values are missing: 2 in 'age', 3 in 'pay'"
    report = im.diagnose(holes, num_draws=200, progress=False)
    assert report["missing values"].text == left_out
    assert "calibration" in {one.name for one in report}
    same = im.diagnose(holes.dropna(), num_draws=200)
    assert {one.name for one in report} == {one.name for one in same} | {"missing values"}
    checked = im.check(holes, epochs=1)
    assert checked["missing values"].text == left_out
    assert [one.name for one in checked if one.level == "amber" and "left out" in one.text] == []
    with pytest.raises(CallError, match="Make it a column of the table"):
        im.diagnose(holes, weight=np.ones(N))
    assert "Make it a column" in im.check(holes, weight=np.ones(N)).verdict


def test_a_column_that_one_scenario_has_alone_is_told(im, table):
    nobody = table.assign(age=40.0)
    with pytest.warns(OutputWarning, match="The intervention has the column 'agee'.*mean 'age'"):
        im.estimate_effect(nobody, table.assign(agee=50.0))
    with pytest.warns(OutputWarning, match="The action 'older' has the column 'agee'"):
        im.decide({"none": nobody, "older": table.assign(agee=50.0)})
    # Columns that both have, or that the call names, are no mistake.
    im.estimate_effect(nobody, table)
    older = table.assign(age=50.0, price=1.0)
    im.decide({"none": nobody, "older": older}, costs="price")
    im.estimate_effect(nobody, older, weights="price")


def test_columns_that_are_nearly_spelt_so_are_asked_for(im, table):
    with pytest.raises(DataError, match="no column 'age'. Did you mean 'agee'?"):
        im.predict(table.rename(columns={"age": "agee"}))
    for call in (im.predict, lambda t, **o: im.estimate_effect(t, t, **o)):
        with pytest.raises(ArgumentError, match="Did you mean 'grade'?") as raised:
            call(table, by="gradee")
        assert "in_sample" not in str(raised.value)


def test_text_that_a_formula_computes_with_is_named(table):
    with pytest.raises(DataTypeError, match="'age' holds text, and the formula 'scale\\(age\\)'"):
        model().fit(table.assign(age="old"), progress=False)
    text = TableSpec(features="{1 * (grade == 'a')}", pay="scale(pay)")
    assert TableEncoder.learn(text, table).encode(table).arguments["features"].sum() == N / 3


def test_a_formula_that_cannot_be_computed_shows_no_lines_of_formulaic(table):

    def bent(features, pay=None):
        slope = numpyro.sample("slope", dist.Normal(0, 1))
        with numpyro.plate("row", features.shape[0]):
            numpyro.sample("pay", dist.Normal(features.sum(1) * slope, 0.5), obs=pay)

    im = model(bent, TableSpec(features=["bs(age, df=4)"], pay="scale(pay)"))
    im.fit(table, epochs=1, num_samples=5, progress=False)
    with pytest.raises(DataError, match="cannot be computed") as raised:
        im.predict(table.assign(age=1e9))
    shown = traceback.TracebackException.from_exception(raised.value)
    assert shown.__cause__ is None
    assert {frame.filename for frame in shown.stack} == {__file__}


def test_an_outcome_is_called_by_its_column_with_or_without_a_scale(table):
    im = model(spec=TableSpec(features="scale(age)", pay="code"))
    im.fit(table, epochs=2, num_samples=5, progress=False)
    older = table.assign(age=table.age + 1)
    effect = im.estimate_effect(table, older, by="grade")
    assert str(summarize_effect(effect)).startswith("Effect on code")


@pytest.mark.slow
@pytest.mark.parametrize("outcome", ["scale(pay)", "log(pay)"])
def test_decisions_are_in_units_of_the_column(table, outcome):
    def drawn(features, pay=None):
        mean = numpyro.sample("slope", dist.Normal(0, 1)) * features
        with numpyro.plate("row", features.shape[0]):
            mean = numpyro.deterministic("mean", mean)
            numpyro.sample("pay", dist.Normal(mean, 0.5), obs=pay)

    im = model(drawn, TableSpec(features="scale(age)", pay=outcome))
    im.fit(table, epochs=2, num_samples=200, progress=False)
    given = {"none": table, "older": table.assign(age=table.age + 10)}
    found = im.decide(given, costs=3, rng_key=KEY)
    # The mean of a logarithm is not the logarithm of the mean: then outcomes are drawn.
    pay = [in_memory(im, each, in_sample=False).predictions.pay for each in given.values()]
    gain = (pay[1] - pay[0]).mean(("chain", "draw")) - 3
    np.testing.assert_allclose(found.gain, np.maximum(gain, 0), atol=1e-3)
    with pytest.raises(ArgumentError, match="'mean' is in the kernel's units.*Decide on 'pay'"):
        im.decide(given, costs=3, site="mean")
    raw = {name: {"X": frame, "output_scale": "model"} for name, frame in given.items()}
    assert im.decide(raw, site="mean").table.loc["none", "cost"] == 0


@pytest.mark.slow
def test_placebo_outcomes_have_a_scale_of_their_own(table):
    def kernel(X, treated, y=None):
        names = ("level", "slope", "effect")
        level, slope, effect = (numpyro.sample(name, dist.Normal(0, 3)) for name in names)
        with numpyro.plate("row", X.shape[0]):
            mean = level + slope * X + effect * treated
            numpyro.sample("y", dist.Normal(mean, 0.1), obs=y)

    treated = np.resize([0.0, 1.0], N)
    frame = table.assign(treated=treated, pay=table.pay + 20 * treated)
    spec = TableSpec(X="scale(age)", treated="treated", y="scale(pay)")
    im = ImpactModel(kernel, jax.random.key(0), new_svi(kernel), table=spec)
    im.fit(frame, epochs=300, num_samples=100, progress=False)
    found = im.placebo(
        frame, treatment="treated", outcome="pay", outcomes={"large": 3_000 + 500 * treated}
    )
    assert found.table.loc["real", "mean"] == pytest.approx(20, abs=3)
    assert found.table.loc["large", "mean"] == pytest.approx(500, abs=25)


def by_row(features, weight=1.0, pay=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    with numpyro.plate("row", features.shape[0]):
        own = numpyro.sample("own", dist.Normal(0, 1))
        numpyro.sample("pay", dist.Normal(features * slope + own, 0.5), obs=pay)


BY_ROW = TableSpec(features="scale(age)", pay="scale(pay)", missing="drop")


def fitted_by_row(frame, im=None):
    im = im or model(by_row, BY_ROW)
    return im.fit_on_batch(frame, num_steps=50, num_samples=9, progress=False)


def rows_of(tree, group="posterior"):
    """Labels of the rows of a tree's draws by row; none if they have none."""
    own = tree[group].own
    return own.row.values.tolist() if "row" in own.coords else []


@pytest.mark.slow
@pytest.mark.allow_rank_promotion  # NumPyro's guides draw with a sample shape
@pytest.mark.filterwarnings("ignore:5 of 60 rows were left out")
def test_the_rows_of_a_posterior_have_the_labels_of_the_table(table, tmp_path):
    """Where rows are left out, positions of the training are no labels of the table."""
    gaps, labels = table.assign(pay=table.pay.mask(table.index < 5)), list(range(5, N))
    im = fitted_by_row(gaps)
    trees = im.posterior_tree, im.sample(), fitted_by_row(gaps, im).sample()
    assert all(rows_of(tree) == labels for tree in trees)
    assert im.summary(["own"]).index[0] == "own[5]"
    tree = in_memory(im, gaps.dropna(), return_sites=["own", "pay"], shard_axis="draw")
    assert rows_of(tree) == rows_of(tree, "posterior_predictive") == labels
    assert float(abs(tree.posterior_predictive.own - tree.posterior.own).max()) == 0
    again = ImpactModel.load(im.save(tmp_path / "model"), by_row, new_svi(by_row))
    assert rows_of(again.posterior_tree) == rows_of(again.sample()) == []


@pytest.mark.slow
@pytest.mark.allow_rank_promotion  # NumPyro's guides draw with a sample shape
@pytest.mark.filterwarnings("ignore:Training goes on from its parameters")
def test_rows_of_a_posterior_that_are_not_known_have_no_labels(table):
    im = fitted_by_row(table)
    for other in (table.assign(age=table.age + 1), table.assign(pay=table.pay + 1)):
        tree = in_memory(im, other, return_sites=["own", "pay"], shard_axis="draw")
        assert rows_of(tree) == []
        assert rows_of(tree, "predictions") == list(range(N))
    stays = im.posterior_tree
    im.set_posterior_sample(im.posterior)
    assert rows_of(im.posterior_tree) == []
    assert rows_of(im.sample()) == rows_of(stays) == list(range(N))
    fitted_by_row(table[::-1], im)  # goes on with the values of other rows
    assert rows_of(im.posterior_tree) == rows_of(im.sample()) == []


@pytest.mark.slow
@pytest.mark.allow_rank_promotion  # NumPyro's guides draw with a sample shape
@pytest.mark.filterwarnings("ignore:Training goes on from its parameters")
@pytest.mark.parametrize("column", ["age", "pay"])
def test_a_fit_that_goes_on_with_other_rows_of_the_same_labels_keeps_none(table, column):
    """Tables that count their rows from 0 have the same labels, whatever their rows are."""
    im = fitted_by_row(table)
    fitted_by_row(table, im)
    assert rows_of(im.posterior_tree) == list(range(N))
    other = table.assign(**{column: table[column].to_numpy()[::-1]})
    for frame in (other, other, table):
        fitted_by_row(frame, im)
        assert rows_of(im.posterior_tree) == rows_of(im.sample()) == []


@pytest.mark.slow
@pytest.mark.allow_rank_promotion  # NumPyro's guides draw with a sample shape
def test_draws_by_row_are_refused_for_training_rows_in_another_order(table, tmp_path):
    """Also where nobody knows the labels of the training's rows."""
    im = fitted_by_row(table)
    moved = table.sample(frac=1, random_state=0).reset_index(drop=True)
    loaded = ImpactModel.load(im.save(tmp_path / "model"), by_row, new_svi(by_row))
    given = fitted_by_row(table)
    given.set_posterior_sample(given.posterior)
    for one in (im, loaded, given):
        for call in (one.predict, one.log_likelihood):
            with pytest.raises(DataError, match="one value per row of 'own', and these are trai"):
                call(moved, shard_axis="draw", progress=False)
        assert "posterior_predictive" in in_memory(one, table, shard_axis="draw")


@pytest.mark.slow
@pytest.mark.allow_rank_promotion  # NumPyro's guides draw with a sample shape
def test_other_rows_that_get_the_values_of_the_trainings_rows_are_told(table, tmp_path):
    """Rows of the same number and labels, as those of any two tables that count from 0."""
    im = fitted_by_row(table)
    loaded = ImpactModel.load(im.save(tmp_path / "model"), by_row, new_svi(by_row))
    new = table.assign(age=table.age[::-1].to_numpy() + 1, pay=table.pay[::-1].to_numpy() + 1)
    what_if = table.assign(age=table.age + 1)
    for one in (im, loaded):
        for call in (one.predict, one.log_likelihood):
            call(what_if, shard_axis="draw", progress=False)
            with pytest.warns(OutputWarning, match="'own', and these are not the rows of the tra"):
                call(new, shard_axis="draw", progress=False)
        values = {"own": np.zeros(N)}
        in_memory(one, new, intervention=values, return_sites="pay", shard_axis="draw")
    options = {"shard_axis": "draw", "progress": False}
    im.estimate_effect(
        args_baseline={"X": table, **options}, args_intervention={"X": what_if, **options}
    )
    given = copy.copy(im)
    given.set_posterior_sample({s: draws for s, draws in im.posterior.items() if s != "own"})
    assert in_memory(given, new[:7])["predictions"].pay.shape == (1, 9, 7)
    with pytest.raises(SiteError, match="fitted rows only.*draw 'own' anew: held='redraw'"):
        im.predict(new[:7], progress=False)
    redrawn = in_memory(im, new[:7], held="redraw")
    assert redrawn["predictions"].pay.shape == (1, 9, 7)
    with pytest.raises(SiteError, match=r"fitted rows only.*draw 'own' anew.*if site != 'own'}\)"):
        im.log_likelihood(new[:7], progress=False)


@pytest.mark.allow_rank_promotion  # NumPyro's guides draw with a sample shape
@pytest.mark.parametrize(
    ("index", "labels"),
    [
        (pd.MultiIndex.from_product([["TX", "CA"], range(N // 2)]), ["TX, 0", "TX, 1"]),
        (pd.Index([7] * N), []),
    ],
)
def test_each_row_of_a_posterior_has_a_label_of_its_own(table, index, labels):
    im = fitted_by_row(table.set_axis(index))
    assert rows_of(im.posterior_tree)[:2] == labels
    assert im.summary(["own"]).index[0] == f"own[{labels[0] if labels else 0}]"
