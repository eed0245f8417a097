"""Overlap against known propensities, and placebos where the truth is known."""

from __future__ import annotations

import signal

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
import xarray as xr
from numpyro.infer import HMC, MCMC, SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import Callback, ImpactModel, TableSpec, lab, settable_rate
from aimz_lab.effects.overlap import Side, overlap
from aimz_lab.effects.placebo import placebo as placebo_test
from aimz_lab.effects.placebo import with_treatment
from aimz_lab.effects.placebo_report import Placebo
from aimz_lab.effects.propensity import area_under_curve, propensities
from aimz_lab.errors import ArgumentError, CallError, DataError, SiteError, TrustError
from tests.runs import mean_field, mean_field_model

N = 2000
_rng = np.random.default_rng(8)
AGE = _rng.normal(40, 10, N)
SITE = _rng.choice(["a", "b"], N)
CHANCE = 1 / (1 + np.exp(-(AGE - 40) / 5))
TREATED = (_rng.random(N) < CHANCE).astype(np.float32)
RANDOM = (_rng.random(N) < 0.5).astype(np.float32)
FRAME = pd.DataFrame({"age": AGE, "site": SITE, "treated": TREATED})


def kernel(X, treated, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1))
    lift = numpyro.sample("lift", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(b * X + lift * treated, 1.0), obs=y)


GIVEN = {"X": AGE, "y": TREATED.astype(int), "treated": TREATED}


@pytest.fixture(scope="module")
def im():
    return mean_field_model(kernel, numpyro.optim.Adam(0.05))


def test_propensities_are_those_that_made_the_data():
    found = propensities(AGE[:, None], TREATED > 0)
    assert np.abs(found - CHANCE).mean() < 0.03
    flags = np.array([True, False, True, False])
    assert area_under_curve(np.array([3.0, 1.0, 2.0, 2.0]), flags) == 0.875


def test_rows_that_are_beyond_the_trained_ones_are_named(im):
    older = FRAME.assign(age=FRAME.age + np.where(np.arange(N) < 200, 100, 0))
    report = im.overlap(FRAME, older)
    assert report.outside.sum() == 200
    assert report.columns.loc["age", "outside"] == pytest.approx(0.1)
    assert report.columns.loc["age", "shift"] == pytest.approx(10 / AGE.std(), rel=1e-3)
    assert report.changed == ("age",)
    assert not report.ok
    assert "10.0% of the scenario's rows lie outside" in report.text
    elsewhere = im.overlap(FRAME, FRAME.assign(site="c"))
    assert elsewhere.columns.loc["site", "outside"] == 1.0
    report.columns.loc["age", "to"] = 7_664.2
    assert all("7,664" in text for text in (str(report), report._repr_html_()))
    x = _rng.normal(size=N)
    pairs = np.stack([x, x + 0.1 * _rng.normal(size=N)], axis=1)
    crossed = np.array([[1.5, -1.5], [1.5, 1.5]])
    # Each column is within its range; together they are where no row was.
    assert im.overlap(pairs, crossed).outside.tolist() == [True, False]
    assert im.overlap({"X": x, "treated": RANDOM}, {"X": x, "treated": RANDOM}).ok
    assert "<table" in report._repr_html_()


def test_rows_that_a_training_leaves_out_are_not_compared():
    holes = FRAME.assign(y=AGE, age=FRAME.age.where(np.arange(N) >= 30))
    holes.loc[[40, 50], "y"] = np.nan
    spec = TableSpec(X="age", treated="treated", y="y", missing="drop")
    svi = SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(0.05), Trace_ELBO())
    im = ImpactModel(kernel, jax.random.key(0), svi=svi, table=spec)
    far = holes.drop(columns="y").assign(age=holes.age + np.where(np.arange(N) == 40, 1e3, 0))
    report = im.overlap(holes, far, treatment="treated")
    assert np.flatnonzero(report.outside).tolist() == [40]  # of all rows of the scenario
    assert len(report.propensity) == N - 32
    told = [one.text for one in report if one.name == "missing values"]
    assert told[0].startswith("trained rows: 32 of 2000 rows were left out")
    assert told[1].startswith("scenario: 30 of 2000 rows were left out")


def test_rows_outside_by_no_single_column_are_told(im):
    pairs = np.stack([AGE, AGE + _rng.normal(size=N)], axis=1)
    crossed = np.vstack([pairs[:98], [[20.0, 60.0], [60.0, 20.0]]])
    assert "2.0% by how their columns go together" in str(im.overlap(pairs, crossed))
    assert "nan" not in str(im.overlap(FRAME, FRAME))  # a category has no shift


def test_a_real_effect_like_its_placebos_is_no_false_effect():
    rows = [[0.076, -6.0, 6.0], *[[value, value - 5, value + 5] for value in range(-4, 5)]]
    names = ["real", *(f"placebo {i + 1}" for i in range(9))]
    table = pd.DataFrame(rows, names, ["mean", "hdi_low", "hdi_high"])
    report = Placebo(table, "treatment", dict.fromkeys(names, 0.5), 0.9)
    assert report.level == "amber"
    assert report.verdict.startswith("The real effect cannot be told from chance")
    table.loc[names[1:], "hdi_low"] = 0.1
    report = Placebo(table, "treatment", dict.fromkeys(names, 0.5), 0.9)
    assert report.verdict.startswith("The model finds effects where there can be none")


def test_few_placebos_do_not_tell_a_real_effect_from_chance():
    """Of shuffles alike, the real one is the farthest once in n + 1 times."""
    for n, level in ((1, "unjudged"), (8, "unjudged"), (9, "green")):
        names = ["real", *(f"placebo {i + 1}" for i in range(n))]
        rows = [[1.0, -2.0, 4.0], *[[0.1, -3.0, 3.0]] * n]
        table = pd.DataFrame(rows, names, ["mean", "hdi_low", "hdi_high"])
        found = Placebo(table, "treatment", dict.fromkeys(names, 0.5), 0.9)
        assert found["real effect"].level == level
        assert ("Shuffle 9 times or more" in found.text) is (level == "unjudged")


@pytest.mark.parametrize(("n_rows", "n_columns"), [(60, 3), (100, 10)])
def test_noise_is_seldom_called_a_lack_of_overlap(n_rows, n_columns):
    """New rows like the trained ones, and a treatment by the toss of a coin."""
    levels = {"rows": [], "treatment": []}
    for seed in range(20):
        rng = np.random.default_rng(seed)
        both = [
            {f"x{i}": rng.normal(size=n) for i in range(n_columns)}
            | {"treated": rng.integers(0, 2, n).astype(float)}
            for n in (n_rows, n_rows // 2)
        ]
        found = overlap(*map(Side, both), "treated", (0.1, 0.9))
        for name, judged in levels.items():
            judged.append(found[name].level)
    for judged in levels.values():
        assert sum(level in ("amber", "red") for level in judged) <= 3  # 1 of 20 is expected
    assert "rows like the trained ones would do so too" in found["rows"].text
    # Trained rows that are changed on purpose are no chance.
    changed = {**both[0], "x0": both[0]["x0"] + 3.0 * (np.arange(n_rows) < 6)}
    assert overlap(Side(both[0]), Side(changed), None, (0.1, 0.9))["rows"].level == "red"


def test_times_and_nullable_numbers_are_numbers(im):
    day = pd.date_range("2024-01-01", periods=N)
    dated = FRAME.assign(day=day, visits=pd.array(np.arange(N) % 5, "Int64"))
    later = dated.assign(day=day + pd.Timedelta(days=20), visits=dated.visits + 1)
    report = im.overlap(dated, later)
    assert report.columns.loc["day", "outside"] == pytest.approx(20 / N)
    assert report.columns.loc["day", "from"] == "2024-01-01T00:00:00"
    assert report.columns.loc["visits", "outside"] == pytest.approx(0.2)
    inner = {"X": AGE, "kernel_kwargs": {"treated": TREATED}}
    assert im.overlap(inner, inner).columns.index.tolist() == ["X", "treated"]


@pytest.mark.parametrize(
    ("trained", "said"),
    [
        (FRAME.assign(site=FRAME.site.where(AGE > 20, None)), "'site' has no value in row"),
        (FRAME.iloc[:0], "trained rows are empty"),
        ({"X": 1.0}, "no columns to compare"),
        ({"X": AGE, "treated": TREATED[1:]}, "X 2,000, treated 1,999"),
        (FRAME.assign(age=FRAME.site), "texts in the trained rows, and numbers in the scenario"),
    ],
)
def test_rows_that_cannot_be_compared(im, trained, said):
    with pytest.raises(DataError, match=said):
        im.overlap(
            trained, FRAME if isinstance(trained, pd.DataFrame) else {"X": AGE, "treated": AGE}
        )


def test_treated_rows_without_a_counterpart_are_counted(im):
    report = im.overlap(FRAME, FRAME.assign(treated=1), treatment="treated", limits=(0.1, 0.9))
    extreme = ((CHANCE < 0.1) | (CHANCE > 0.9)).mean()
    assert report.extreme == pytest.approx(extreme, abs=0.05)
    assert report.auc == pytest.approx(area_under_curve(CHANCE, TREATED > 0), abs=0.01)
    assert report.level == report["treatment"].level == "red"
    assert report["rows"].level != "red"
    assert "Restrict the effect" in repr(report)
    with pytest.raises(TrustError, match="does not cover the scenario"):
        report.raise_if_bad()
    fair = im.overlap(FRAME.assign(treated=RANDOM), FRAME, treatment="treated")
    assert fair.level == "green"
    assert min(fair.effective) > 0.97
    assert fair.extreme == 0


def test_a_treatment_keeps_its_shape_and_its_value():
    whole = {"X": AGE, "dose": np.ones((N, 1), np.uint8)}
    assert with_treatment(whole, "dose", 0)["dose"].dtype == np.uint8
    half = with_treatment(whole, "dose", 0.5)["dose"]
    assert half.shape == (N, 1)
    assert (half == 0.5).all()
    assert (with_treatment(whole, "X", 3.0)["X"] == 3.0).all()
    of_table = with_treatment({"X": FRAME}, "site", "b")["X"]
    assert (of_table.site == "b").all()
    assert of_table.age is not None


@pytest.mark.slow
def test_placebos_find_nothing_and_the_model_stays_as_it_was(im, key):
    x = ((AGE - 40) / 10).astype(np.float32)[:400]
    treated = RANDOM[:400]
    y = x + 2 * treated - 1 + _rng.normal(size=400).astype(np.float32)
    steps = {"num_steps": 250, "num_samples": 200}
    found = im.placebo(
        x, y, treated=treated, treatment="treated", levels=(0, 1), n=1, on_batch=True, fit=steps
    )
    assert found.table.loc["real", "mean"] == pytest.approx(1, abs=0.3)
    assert (found.table["mean"].iloc[1:].abs() < 0.5).all()
    assert found.p == 0.5
    assert found.level == "green"
    assert "50% of all effects, the real one of" in found.text
    assert not im.is_fitted()
    # What was before the treatment cannot follow from it, unless both follow from something else.
    before = {"noise": _rng.normal(size=400), "confounded": 1.5 * treated}
    tested = im.placebo(
        x,
        y,
        treated=treated,
        treatment="treated",
        outcomes=before,
        on_batch=True,
        fit=steps,
        prob=0.99,
        rng_key=key,
    )
    assert tested.covered == 0.5
    assert tested.level == "red"
    assert "A confounder is likely" in repr(tested)
    assert "confounded" in tested._repr_html_()


class Runs(Callback):
    """Keeps how copies were trained."""

    def __init__(self):
        self.seen = []

    def on_fit_end(self, run):
        self.seen.append((run.info.batch_size, run.step))


def trained(im, **options):
    """A model of few rows in which the treatment adds 1; and its rows, by name."""
    rng = np.random.default_rng(3)
    treated = np.resize([0.0, 1.0], 120).astype(np.float32)
    rows = {"X": rng.normal(size=120).astype(np.float32), "treated": treated}
    rows["y"] = rows["X"] + treated + rng.normal(size=120).astype(np.float32)
    return im.fit(**rows, batch_size=40, num_samples=200, progress=False, **options), rows


class Interrupting(Callback):
    """Interrupts each run at its first report."""

    def __init__(self):
        self.runs = []

    def on_steps_end(self, run, steps):
        self.runs.append(run)
        signal.raise_signal(signal.SIGINT)


def test_a_container_is_no_treatment(im):
    steps = {"on_batch": True, "fit": {"num_steps": 1}}
    with pytest.raises(ArgumentError, match="is dict here, and a placebo shuffles one value for"):
        im.placebo(AGE, TREATED, treatment="treated", n=2, treated={"t": TREATED}, **steps)


@pytest.mark.slow
def branded(X, t, y=None):
    lift = numpyro.sample("lift", dist.Normal(0, 1))
    logits = lift * t[:, None] * np.array([[0.0, 0.0, 1.0]])
    p = numpyro.deterministic("p", jax.nn.softmax(logits))
    numpyro.deterministic("p_c", p[:, 2])
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Categorical(p), obs=y)


BRANDS = pd.DataFrame(
    {"x": AGE[:60], "t": np.resize([0.0, 1.0], 60), "brand": np.resize(["a", "b", "b", "c"], 60)}
)


@pytest.fixture(scope="module")
def of_brands():
    spec = TableSpec(X="x", t="t", y="index(brand)")
    im = ImpactModel(branded, jax.random.key(0), svi=mean_field(branded), table=spec)
    return im.fit_on_batch(BRANDS, num_steps=20, num_samples=20, progress=False)


@pytest.mark.slow
def test_the_placebos_of_categories_are_on_the_probability_of_one(of_brands):
    found = of_brands.placebo(BRANDS, treatment="t", site="p_c", n=2, progress=False)
    assert found.table["mean"].between(-1, 1).all()
    assert str(found).splitlines()[-4].startswith("effect on p_c")
    others = BRANDS.brand.to_numpy()[::-1]
    found = of_brands.placebo(
        BRANDS, treatment="t", site="p_c", outcome="brand", outcomes={"last": others}
    )
    assert found.table.index.tolist() == ["real", "last"]


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({}, ArgumentError, "brand is the number of one of 3 levels .* the probability of one"),
        ({"site": "p"}, ArgumentError, "'p' has 3 numbers a row"),
        ({"site": "lift"}, ArgumentError, "'lift' has no rows"),
        ({"site": "pc"}, SiteError, "site='pc' is no site of the kernel.*Did you mean 'p_c'?"),
        ({"scenarios": {"return_sites": ["p_c"]}}, ArgumentError, "Name the site of the effects"),
        ({"site": "p_c", "outcome": "p"}, ArgumentError, "'p' is no column .* pass site='p'"),
        (
            {"site": "p_c", "outcome": "brand", "outcomes": {"last": np.resize(["a", "b"], 60)}},
            DataError,
            "'last' lacks the level 'c'",
        ),
    ],
)
def test_a_placebo_of_categories_is_refused_before_copies_are_trained(
    of_brands, monkeypatch, options, error, said
):
    monkeypatch.setattr(ImpactModel, "fit_on_batch", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(error, match=said):
        of_brands.placebo(BRANDS, treatment="t", progress=False, **options)


def test_placebos_of_an_ordered_category_keep_its_order():
    levels = ["low", "fair", "high"]
    grade = pd.Categorical(np.resize(levels, 6), levels, ordered=True)
    given, trained = {"X": pd.DataFrame({"grade": grade, "t": 1.0 * np.arange(6)})}, []

    def effect_of(arguments, key):
        trained.append(arguments["X"].grade)
        return xr.DataArray(np.arange(10.0), name="grade")

    outcomes = {"before": np.resize(levels[::-1], 6)}
    placebo_test(effect_of, given, "t", outcomes, 1, jax.random.key(0), "grade", 0.9)
    placebo_test(effect_of, given, "grade", None, 1, jax.random.key(0), "y", 0.9)
    assert [one.cat.ordered for one in trained] == [True] * 4
    assert trained[1].tolist() == outcomes["before"].tolist()
    with pytest.raises(DataError, match="has the level 'top'"):
        placebo_test(effect_of, given, "t", {"a": ["top"] * 6}, 1, jax.random.key(0), "grade", 0.9)


def test_an_interrupt_ends_the_placebo_test_with_its_first_copy():
    im, rows = trained(mean_field_model(kernel, numpyro.optim.Adam(0.05)), epochs=2)
    interrupting, before = Interrupting(), im.last_run
    with pytest.raises(KeyboardInterrupt, match=r"^The placebo test was interrupted; the model is"):
        im.placebo(**rows, treatment="treated", n=1, fit={"callbacks": [interrupting]})
    assert len(interrupting.runs) == 1
    assert im.last_run is before


@pytest.mark.slow
def test_copies_are_trained_as_the_model_was():
    im, rows = trained(mean_field_model(kernel, numpyro.optim.Adam(0.05)), epochs=60)
    trained(im, epochs=20)  # training goes on
    runs = Runs()
    found = im.placebo(**rows, treatment="treated", n=1, fit={"callbacks": [runs]}, progress=False)
    assert runs.seen == [(40, 180), (40, 60)] * 2
    own = im.estimate_effect(
        args_baseline={"X": rows["X"], "treated": 0 * rows["treated"]},
        args_intervention={"X": rows["X"], "treated": 0 * rows["treated"] + 1},
        average=True,
    )
    own = float(own.posterior_predictive.y.mean())
    assert found.table.loc["real", "mean"] == pytest.approx(own, abs=0.15)
    assert abs(found.table.loc["placebo 1", "mean"]) < 0.7
    # What differs is said; the rest stays as it was.
    shorter = {"epochs": 2, "callbacks": [runs := Runs()]}
    im.placebo(**rows, treatment="treated", n=1, fit=shorter)
    assert runs.seen == [(40, 6)] * 2
    whole = {"num_steps": 5, "callbacks": [runs := Runs()]}
    im.placebo(**rows, treatment="treated", n=1, fit=whole)
    assert runs.seen == [(120, 5)] * 2


@pytest.mark.slow
def test_a_run_that_went_back_to_its_best_state_is_repeated_up_to_it():
    im, rows = trained(mean_field_model(kernel, numpyro.optim.Adam(0.05)), epochs=1)
    early = lab.EarlyStopping(monitor="validation", patience=3, restore_best=True)
    others = {**rows, "y": -5 + 0 * rows["y"]}  # of which the model knows less and less
    im.fit(**rows, batch_size=40, epochs=50, validation=others, callbacks=[early], progress=False)
    assert im.last_run.restored.step < im.last_run.step
    runs = Runs()
    im.placebo(**rows, treatment="treated", n=1, fit={"callbacks": [runs]})
    assert runs.seen == [(40, 3), (40, im.last_run.restored.step)] * 2


@pytest.mark.slow
def test_chains_are_run_for_each_copy():
    sampler = HMC(kernel, trajectory_length=1.5)
    chains = MCMC(sampler, num_warmup=50, num_samples=50, progress_bar=False)
    im = ImpactModel(kernel, jax.random.key(0), inference=chains)
    rows = {"X": AGE[:80] / 10 - 4, "treated": RANDOM[:80]}
    y = rows["X"] + rows["treated"] + _rng.normal(size=80)
    found = im.placebo(**rows, y=y, treatment="treated", n=1)
    assert found.table.loc["real", "mean"] == pytest.approx(1, abs=0.8)


@pytest.mark.slow
def test_of_a_table_with_gaps_the_same_rows_are_in_each_training_and_effect():
    """Else a shuffle moves gaps to other rows, and an effect has rows without an outcome too."""
    few = FRAME.iloc[:60].assign(y=np.arange(60.0))
    few.loc[:4, "age"] = few.loc[[3, 9], "treated"] = few.loc[20:29, "y"] = np.nan
    spec = TableSpec(X="age", treated="treated", y="y", missing="drop")
    im = ImpactModel(kernel, jax.random.key(0), svi=mean_field(kernel), table=spec)
    runs = Runs()
    once = {"num_steps": 1, "num_samples": 5, "callbacks": [runs]}
    found = im.placebo(few, treatment="treated", n=2, on_batch=True, fit=once)
    assert [rows for rows, _ in runs.seen] == [44] * 3
    said = "16 of 60 rows were left out, because values are missing: 5 in 'age', 2 in 'treated'"
    assert said in found["missing values"].text
    last_year = {"last year": few.age.fillna(0)}
    found = im.placebo(
        few, treatment="treated", outcomes=last_year, outcome="y", on_batch=True, fit=once
    )
    assert [rows for rows, _ in runs.seen[3:]] == [44] * 2
    with pytest.raises(DataError, match=r"'short' has shape \(59,\); use a value for each row"):
        placebo(im, few, treatment="treated", outcomes={"short": np.arange(59)}, outcome="y")


def mediated(X, t, m=None, y=None):
    a, b, direct = (numpyro.sample(name, dist.Normal(0, 1)) for name in ("a", "b", "direct"))
    with numpyro.plate("row", X.shape[0]):
        M = numpyro.sample("M", dist.Normal(a * t + X, 1), obs=m)
        numpyro.sample("y", dist.Normal(direct * t + b * M, 1), obs=y)


@pytest.mark.slow
@pytest.mark.parametrize("of_table", [False, True])
def test_copies_of_a_model_with_a_mediator_train_with_its_data_and_then_draw_it(of_table):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=200), "t": np.resize([-1.0, 1.0], 200)})
    frame["m"] = frame.x + frame.t + rng.normal(size=200)
    frame["y"] = 0.2 * frame.t + frame.m + rng.normal(size=200)
    table = TableSpec(X="x", t="t", m="m", y="y") if of_table else None
    optimizer = numpyro.optim.Adam(0.05)
    im = ImpactModel(mediated, jax.random.key(0), svi=mean_field(mediated, optimizer), table=table)
    arrays = {"X" if name == "x" else name: frame[name].to_numpy(np.float32) for name in frame}
    rows = {"X": frame} if of_table else arrays
    options = {"treatment": "t", "levels": (-1, 1), "n": 1}
    options["fit"] = {"num_steps": 300, "num_samples": 100}
    with pytest.raises(ArgumentError, match=r"leave 'm' out .* In placebo, .*{'name': None}"):
        im.placebo(**rows, **options)
    whole = im.placebo(**rows, **options, scenarios={"m": None}).table["mean"]
    assert whole["real"] == pytest.approx(2.4, abs=0.5)
    assert abs(whole["placebo 1"]) < 0.7
    direct = im.placebo(**rows, **options, scenarios={"intervention": {"M": 0.0}}).table["mean"]
    assert direct["real"] == pytest.approx(0.4, abs=0.4)


def steered(im):
    change = lab.LambdaCallback(on_steps_end=lambda run, _: run.control.set_learning_rate(0.01))
    return trained(im, epochs=4, callbacks=[change], steps_per_call=1)


def stepped(im):
    _, rows = trained(im, epochs=2)
    im.train_on_batch(**rows, n_obs=120)
    return im, rows


def given(im):
    _, rows = trained(im, epochs=2)
    im.set_posterior_sample({"b": np.zeros(50), "lift": np.zeros(50)})
    return im, rows


@pytest.mark.slow
@pytest.mark.parametrize(
    ("made", "options", "said"),
    [
        (lambda im: (im, GIVEN), {}, "has not been trained yet. Say how long to train: fit={'ep"),
        (steered, {}, "learning rate was changed while it was trained"),
        (stepped, {}, "how it was trained is not known"),
        (given, {}, "draws were set by hand"),
        (lambda im: trained(im, epochs=2), {"on_batch": True}, "otherwise than on_batch=True says"),
    ],
)
def test_a_training_that_cannot_be_repeated_is_refused(made, options, said):
    optimizer = settable_rate(numpyro.optim.Adam, 0.05)
    im, rows = made(mean_field_model(kernel, optimizer))
    with pytest.raises(CallError, match=said):
        im.placebo(**rows, treatment="treated", **options)
    steps = {"num_steps": 3, "num_samples": 5}
    assert len(im.placebo(**rows, treatment="treated", n=1, fit=steps, on_batch=True).table) == 2


def placebo(m, *args, **options):
    return m.placebo(*args, on_batch=True, fit={"num_steps": 1}, **options)


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda m: m.overlap(FRAME, FRAME[["age"]]), DataError, "lacks the columns 'site'"),
        (lambda m: m.overlap(FRAME, FRAME, treatment="age"), ArgumentError, "has 2000 values"),
        (lambda m: m.overlap(FRAME, FRAME, treatment="dose"), ArgumentError, "is no column"),
        (lambda m: m.overlap(FRAME, FRAME, limits=(0.9, 0.1)), ArgumentError, "limits="),
        (lambda m: m.overlap(FRAME, "rows"), ArgumentError, "rows in memory"),
        (lambda m: m.overlap(FRAME, FRAME.assign(age=np.nan)), DataError, "'age' is not finite"),
        (lambda m: placebo(m, AGE, AGE, treatment="dose"), ArgumentError, "no column and no arg"),
        (lambda m: placebo(m, FRAME, treatment="treated", n=0), ArgumentError, "n=0"),
        (lambda m: placebo(m, AGE, AGE, treatment="t", outcomes={}), CallError, "outcomes="),
        (lambda m: placebo(m, **GIVEN, treatment="y"), ArgumentError, "'y' is the outcome"),
        (lambda m: placebo(m, **GIVEN, treatment="t", scenarios=1), CallError, "scenarios="),
        (
            lambda m: placebo(m, **GIVEN, treatment="treated", scenarios={"q": None}),
            ArgumentError,
            "'q' is no column and no argument",
        ),
        (lambda m: placebo(m, **GIVEN, treatment="treated", prob=2), ArgumentError, "prob="),
        (
            lambda m: placebo(m, **GIVEN, treatment="treated", levels=(1, 1)),
            ArgumentError,
            "levels",
        ),
        (lambda m: placebo(m, **GIVEN, treatment="treated", levels="01"), ArgumentError, "levels="),
        (lambda m: placebo(m, **GIVEN, treatment="treated", levels=("a", 1)), ArgumentError, "'a'"),
        (
            lambda m: placebo(m, **GIVEN, treatment="treated", outcomes={"half": AGE}),
            DataError,
            "'half' has the value .* and the real one holds whole numbers",
        ),
        (
            lambda m: placebo(m, FRAME, treatment="treated", outcomes={"a": [1]}, outcome="age"),
            DataError,
            "The outcome 'a' has shape",
        ),
    ],
)
def test_bad_input_is_refused_by_name(im, call, error, said):
    before = im.rng_key
    with pytest.raises(error, match=said):
        call(im)
    assert im.rng_key == before
