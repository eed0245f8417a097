"""``by=``: means of groups of rows against those of kept draws, and what is refused."""

from __future__ import annotations

import contextlib
import warnings

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import polars as pl
import pytest
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import (
    ArrayDataset,
    ArrayLoader,
    ImpactModel,
    Mean,
    TableSpec,
    lab,
    summarize_effect,
)
from aimz_lab.effects.summaries import hdi
from aimz_lab.errors import ArgumentError, DataError, OutputWarning

N = 90
KEY = jax.random.key(4)
CLINICS = ["elm", "aarau", "chur"]


def kernel(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        mu = numpyro.deterministic("mu", X * slope)
        numpyro.sample("y", dist.Normal(mu, 0.5), obs=y)


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    ages = rng.normal(40, 10, N)
    clinic = np.resize(CLINICS, N)
    day = np.resize(pd.to_datetime(["2025-01-01", "2025-01-02"]), N)
    frame = pd.DataFrame({"age": ages, "clinic": clinic, "day": day, "pay": 100 + 2 * ages})
    frame["bonus"] = 0.0
    return frame.set_index(pd.Index([f"p{i}" for i in range(N)], name="person"))


@pytest.fixture(scope="module")
def im(table):
    svi = SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(0.1), Trace_ELBO())
    spec = TableSpec(X="scale(age)", y="scale(pay)")
    model = ImpactModel(kernel, jax.random.key(0), svi=svi, table=spec)
    return model.fit(table, epochs=50, num_samples=40, progress=False)


@pytest.fixture(scope="module")
def draws(im, table):
    return im.predict(table, rng_key=KEY, store="memory", progress=False).posterior_predictive.y


def without_youngest(table):
    return table.clinic.where(table.age > table.age.min())


def predicted(im, table, by, **options):
    return im.predict(table, by=by, rng_key=KEY, progress=False, **options)


@pytest.mark.parametrize(
    ("given", "dim"),
    [
        (lambda t: "clinic", "clinic"),
        (lambda t: t.clinic, "clinic"),
        (lambda t: t.clinic.to_numpy(), "group"),
        (lambda t: pd.Categorical(t.clinic, ["elm", "chur", "aarau"]), "group"),
        (lambda t: {"place": t.clinic.to_numpy()}, "place"),
        (lambda t: pl.Series("clinic", t.clinic.to_list()), "clinic"),
        (lambda t: "day", "day"),
        (lambda t: pd.cut(t.age, 3), "age"),
    ],
)
def test_means_are_those_of_the_kept_draws(im, table, draws, given, dim):
    by = given(table)
    tree = predicted(im, table, by)
    labels = table[by] if isinstance(by, str) else next(iter(by.values())) if dim == "place" else by
    labels = pd.Series(np.asarray(labels), table.index)
    means = tree.posterior_predictive.y_mean
    assert means.dims == ("chain", "draw", dim)
    order = ["elm", "chur", "aarau"] if isinstance(by, pd.Categorical) else sorted(set(labels))
    wanted = [draws.values[..., labels == one].mean(-1) for one in order]
    np.testing.assert_allclose(means, np.stack(wanted, -1), rtol=1e-5)
    assert pd.Index(means[dim].values).astype(str).tolist() == pd.Index(order).astype(str).tolist()
    assert "mu_mean" in tree.posterior_predictive


def test_their_intervals_are_beside_them(im, table):
    tree = predicted(im, table, "clinic")
    means = tree.posterior_predictive.y_mean.values[0].astype(float)
    summary = tree.group_summary.y_mean
    assert summary.sel(clinic="elm").dims == ("summary",)
    np.testing.assert_allclose(summary.sel(summary="mean"), means.mean(0))
    np.testing.assert_allclose(summary.sel(summary="sd"), means.std(0, ddof=1))
    ends = summary.sel(summary=["hdi_low", "hdi_high"]).transpose("clinic", "summary")
    np.testing.assert_allclose(ends, hdi(means, tree.group_summary.attrs["prob"]))
    means = tree.posterior_predictive.to_dataset().assign_attrs(contrast="average")
    np.testing.assert_allclose(summarize_effect(means, 0.94).y_mean, summary)


def test_several_columns_are_crossed(im, table, draws):
    means = predicted(im, table, ["clinic", "day"]).posterior_predictive.y_mean
    assert means.dims == ("chain", "draw", "clinic", "day")
    rows = ((table.clinic == "chur") & (table.day == "2025-01-02")).to_numpy()
    one = means.sel(clinic="chur", day="2025-01-02")
    np.testing.assert_allclose(one, draws.values[..., rows].mean(-1), rtol=1e-5)


def test_every_method_groups_alike(im, table):
    wanted = predicted(im, table, "clinic").posterior_predictive.y_mean
    for tree in (
        im.predict_on_batch(table, by="clinic", rng_key=KEY),
        im.sample_posterior_predictive(table, by="clinic", rng_key=KEY, progress=False),
        im.sample_posterior_predictive_on_batch(table, by="clinic", rng_key=KEY),
    ):
        np.testing.assert_allclose(tree.posterior_predictive.y_mean, wanted, rtol=1e-5)
    for tree in (
        im.sample_prior_predictive(table, by="clinic", num_samples=5, progress=False),
        im.sample_prior_predictive_on_batch(table, by="clinic", num_samples=5),
    ):
        assert tree.prior_predictive.y_mean.shape == (1, 5, 3)
    density = im.log_likelihood(table, progress=False).log_likelihood.y.values
    by_clinic = im.log_likelihood(table, by="clinic", progress=False).log_likelihood.y_mean
    elm = density[..., (table.clinic == "elm").to_numpy()].mean(-1)
    np.testing.assert_allclose(by_clinic.sel(clinic="elm"), elm, rtol=1e-4)


@pytest.fixture(scope="module")
def dropping(table):
    svi = SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(0.1), Trace_ELBO())
    spec = TableSpec(X="scale(age + bonus)", y="scale(pay)", missing="drop")
    model = ImpactModel(kernel, jax.random.key(0), svi=svi, table=spec)
    return model.fit(table, num_samples=10, progress=False)


def test_rows_that_are_left_out_leave_their_labels_out(dropping, table):
    model = dropping
    holes = table.assign(age=table.age.where(table.clinic != "elm"))
    with pytest.warns(match="30 of 90 rows were left out"):
        means = predicted(model, holes, "clinic").posterior_predictive.y_mean
    assert means.clinic.values.tolist() == ["aarau", "chur"]
    with pytest.warns(match="30 of 90"):
        again = predicted(model, holes, holes.clinic.to_numpy()).posterior_predictive.y_mean
    np.testing.assert_array_equal(means, again)


def effect(model, table, **options):
    scenarios = {"args_baseline": {"X": table}, "args_intervention": {"X": table.assign(bonus=5.0)}}
    scenarios["args_baseline"] |= {"rng_key": KEY}
    return model.estimate_effect(**scenarios, **options).posterior_predictive.y


@pytest.mark.slow
def test_effects_leave_out_rows_without_a_label_that_a_model_leaves_out(dropping, table):
    gone = np.arange(N) < 7
    weight = np.linspace(1, 2, N)
    full = table.assign(weight=weight, counts=True)[~gone]
    holes = table.assign(weight=weight, counts=1.0)
    holes.loc[gone, ["age", "clinic", "weight", "counts"]] = None
    options = {"by": "clinic", "weights": "weight", "subset": "counts"}
    with pytest.warns(OutputWarning, match="7 of 90 rows were left out"):
        found = effect(dropping, holes, **options)
    np.testing.assert_allclose(found, effect(dropping, full, **options), rtol=1e-5)
    grid = {"name": "bonus", "grid": [0.0, 5.0], "rng_key": KEY, **options}
    with pytest.warns(OutputWarning, match="7 of 90 rows were left out"):
        swept = dropping.sweep(X=holes, **grid).posterior_predictive.y
    np.testing.assert_allclose(
        swept, dropping.sweep(X=full, **grid).posterior_predictive.y, rtol=1e-5
    )
    panel = lab.explore_effect(dropping, holes, vary={"bonus": [0.0, 5.0]})
    assert "clinic" in panel.controls["by"].options
    view = panel.set(by="clinic")
    assert "7 of 90 rows were left out" in " ".join(view.sentences)
    assert set(CLINICS) <= set(view.table.index.get_level_values("clinic"))


@pytest.mark.slow
@pytest.mark.parametrize("column", ["clinic", "weight", "counts"])
def test_a_row_that_is_used_has_a_label_and_a_weight(dropping, im, table, column):
    options = {"clinic": {"by": "clinic"}, "weight": {"weights": "weight"}}
    options = options.get(column, {"subset": "counts"})
    holes = table.assign(weight=1.0, counts=1.0)
    holes.loc[holes.index[3], column] = None
    others = holes.copy()
    others.loc[others.index[:2], "age"] = np.nan
    said = {"clinic": r"1 of 90 rows, first of row 3\. Leave these rows out: df.dropna\(subset="}
    for model, rows in ((dropping, others), (dropping, holes), (im, holes)):
        with pytest.raises(DataError, match=said.get(column, "row 3 is nan")), warnings_off():
            effect(model, rows, **options)
        with pytest.raises(DataError, match=said.get(column, "row 3 is nan")), warnings_off():
            model.sweep("age", [20.0], rows, **options)


@contextlib.contextmanager
def warnings_off():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_arrays_have_groups_too(im):
    X = np.linspace(-1, 1, 8, dtype=np.float32)
    labels = np.arange(8) % 2
    kept = im.predict(X, rng_key=KEY, progress=False).posterior_predictive.y.values
    means = predicted(im, X, labels).posterior_predictive.y_mean
    np.testing.assert_allclose(means.sel(group=1), kept[..., 1::2].mean(-1), rtol=1e-4, atol=1e-5)
    loader = ArrayLoader(ArrayDataset(X=X), KEY, batch_size=4, shuffle=True)
    with pytest.raises(DataError, match="shuffled order"):
        predicted(im, loader, labels)
    with pytest.raises(DataError, match="shuffled order"):
        im.predict(loader, reduce=Mean(over="row", by=labels), progress=False)


def mean_of(tree):
    group = next(one for name, one in tree.children.items() if "predict" in name)
    return group.to_dataset().y.mean(("chain", "draw"))


def test_effects_leave_out_the_labels_of_rows_without_values(dropping, table):
    im = dropping
    holes = table.assign(age=table.age.where(np.arange(N) % 7 != 2))
    older = holes.assign(age=holes.age + holes.clinic.map({"elm": 1, "aarau": 2, "chur": 5}))

    def effect(rows, by, weights):
        rows = rows[rows.age.notna()] if by is None else rows
        after = older.loc[rows.index]
        options = {"by": by or "clinic", "weights": weights(rows)}
        return mean_of(im.estimate_effect(rows, after, **options))

    with pytest.warns(OutputWarning, match="left out"):
        named = effect(holes, "clinic", lambda rows: np.arange(N))
    alone = effect(holes, None, lambda rows: np.arange(N)[holes.age.notna()])
    np.testing.assert_allclose(named, alone, rtol=1e-5)
    nobody = holes.assign(clinic=np.where(holes.age.isna(), "zug", holes.clinic))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutputWarning)
        with pytest.raises(DataError, match="leave no row of clinic zug"):
            im.estimate_effect(nobody, nobody, by="clinic")
    with pytest.warns(OutputWarning, match="left out"):
        swept = im.sweep("bonus", [0.0, 20.0], holes, by="clinic", rng_key=KEY)
    rows = holes[holes.age.notna()]
    alone = im.sweep("bonus", [0.0, 20.0], rows, by="clinic", rng_key=KEY)
    np.testing.assert_allclose(mean_of(swept), mean_of(alone), rtol=1e-2)


def test_decisions_leave_out_rows_without_values(dropping, table):
    worth = np.linspace(-1, 2, N)
    price = pd.Series(np.linspace(0, 3, N), table.index)
    holes = table.assign(age=table.age.where(np.arange(N) % 7 != 2))
    whole = holes[holes.age.notna()]

    def decided(rows, at):
        actions = {"none": rows, "all": rows.assign(bonus=10)}
        options = {"benefits": worth[at], "costs": price[at], "rng_key": KEY}
        return dropping.decide(actions, **options)

    with pytest.warns(OutputWarning, match="left out"):
        found = decided(holes, slice(None))
    alone = decided(whole, holes.age.notna().to_numpy())
    np.testing.assert_allclose(found.table, alone.table, rtol=1e-4, atol=1e-4)
    assert found.choice.values.tolist() == alone.choice.values.tolist()
    assert set(found.choice.values) == {"none", "all"}


@pytest.mark.parametrize(
    ("error", "said", "by"),
    [
        (ArgumentError, r"Did you mean .clinic.\? It has: age", lambda t: "clinics"),
        (DataError, "by='clinic' misses the labels of 1 of 90", lambda t: without_youngest(t)),
        (DataError, "labels for 89 rows; the table has 90", lambda t: t.clinic[1:]),
        (DataError, "other labels than those of the data", lambda t: t.clinic[::-1]),
        (DataError, "no rows with 'zug'", lambda t: pd.Categorical(t.clinic, [*CLINICS, "zug"])),
        (DataError, "no rows with clinic aarau, age 17", lambda t: ["clinic", t.age.round()]),
        (ArgumentError, "name of its own", lambda t: ["clinic", "clinic"]),
        (ArgumentError, "names of columns or labels", lambda t: t[["clinic", "day"]]),
        (ArgumentError, "one label per row", lambda t: np.ones((N, 2))),
        (ArgumentError, "one kind", lambda t: {"a": ["x", 1.5] * 45}),
        (ArgumentError, "nothing", lambda t: []),
    ],
)  # fmt: skip
def test_what_makes_no_groups_is_refused(im, table, error, said, by):
    before = jax.random.key_data(im.rng_key)
    with pytest.raises(error, match=said):
        im.predict(table, by=by(table), progress=False)
    np.testing.assert_array_equal(before, jax.random.key_data(im.rng_key))


def test_what_does_not_go_with_groups(im, table):
    with pytest.raises(ArgumentError, match="leave one of them out"):
        im.predict(table, by="clinic", reduce="mean", progress=False)
    with pytest.raises(ArgumentError, match="leave return_datatree= out"):
        im.predict_on_batch(table, by="clinic", return_datatree=False)
    with pytest.raises(ArgumentError, match="the call has no data frame"):
        im.predict(np.ones(4, np.float32), by="clinic", progress=False)
    with pytest.raises(ArgumentError, match="up to 10,000 groups"):
        im.predict(np.ones(20_000, np.float32), by=np.arange(20_000), progress=False)


def test_an_effect_has_no_groups_that_rows_leave(im, table):
    """A column that the intervention changes puts rows into other groups than in the baseline."""
    before, after = table.assign(treated=0), table.assign(treated=1)
    both = [{"X": before, "by": "treated"}, {"X": after, "by": "treated"}]
    with pytest.raises(DataError, match="row 0 into the group 0 of treated in the baseline"):
        im.estimate_effect(args_baseline=both[0], args_intervention=both[1])
    moved = table.assign(clinic=table.clinic.to_numpy()[::-1])
    scenarios = {"args_baseline": {"X": table, "by": "clinic"}}
    with pytest.raises(DataError, match="Group by labels that both share"):
        im.estimate_effect(**scenarios, args_intervention={"X": moved, "by": "clinic"})
    older = {"X": table.assign(age=table.age + 1), "by": "clinic"}
    effect = im.estimate_effect(**scenarios, args_intervention=older)
    assert effect.posterior_predictive.y_mean.sizes["clinic"] == len(CLINICS)
    after = table.assign(age=table.age + 1)
    named = im.estimate_effect(table, after, by=["clinic", table.day])
    given = im.estimate_effect(table, after, by={"clinic": table.clinic, "day": table.day})
    assert mean_of(named).dims == ("clinic", "day")
    np.testing.assert_allclose(mean_of(named), mean_of(given), rtol=1e-5)
