"""Overlap against known propensities, and placebos where the truth is known."""

from __future__ import annotations

import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest

from aimz_lab.effects.placebo import with_treatment
from aimz_lab.effects.propensity import area_under_curve, propensities
from aimz_lab.errors import ArgumentError, CallError, DataError, TrustError
from tests.runs import mean_field_model

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
    x = _rng.normal(size=N)
    pairs = np.stack([x, x + 0.1 * _rng.normal(size=N)], axis=1)
    crossed = np.array([[1.5, -1.5], [1.5, 1.5]])
    # Each column is within its range; together they are where no row was.
    assert im.overlap(pairs, crossed).outside.tolist() == [True, False]
    assert im.overlap({"X": x, "treated": RANDOM}, {"X": x, "treated": RANDOM}).ok
    assert "<table" in report._repr_html_()


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


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda m: m.overlap(FRAME, FRAME[["age"]]), DataError, "lacks the columns 'site'"),
        (lambda m: m.overlap(FRAME, FRAME, treatment="age"), ArgumentError, "has 2000 values"),
        (lambda m: m.overlap(FRAME, FRAME, treatment="dose"), ArgumentError, "is no column"),
        (lambda m: m.overlap(FRAME, FRAME, limits=(0.9, 0.1)), ArgumentError, "limits="),
        (lambda m: m.overlap(FRAME, "rows"), ArgumentError, "rows in memory"),
        (lambda m: m.overlap(FRAME, FRAME.assign(age=np.nan)), DataError, "'age' is not finite"),
        (lambda m: m.placebo(AGE, AGE, treatment="dose"), ArgumentError, "no column and no arg"),
        (lambda m: m.placebo(FRAME, treatment="treated", n=0), ArgumentError, "n=0"),
        (lambda m: m.placebo(AGE, AGE, treatment="t", outcomes={}), CallError, "outcomes="),
        (lambda m: m.placebo(**GIVEN, treatment="y"), ArgumentError, "'y' is the outcome"),
        (lambda m: m.placebo(**GIVEN, treatment="treated", prob=2), ArgumentError, "prob="),
        (lambda m: m.placebo(**GIVEN, treatment="treated", levels=(1, 1)), ArgumentError, "levels"),
        (lambda m: m.placebo(**GIVEN, treatment="treated", levels="01"), ArgumentError, "levels="),
        (lambda m: m.placebo(**GIVEN, treatment="treated", levels=("a", 1)), ArgumentError, "'a'"),
        (
            lambda m: m.placebo(**GIVEN, treatment="treated", outcomes={"half": AGE}),
            DataError,
            "'half' has the value .* and the real one holds whole numbers",
        ),
        (
            lambda m: m.placebo(FRAME, treatment="treated", outcomes={"a": [1]}, outcome="age"),
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
