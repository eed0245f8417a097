"""Overlap against known propensities, and placebos where the truth is known."""

from __future__ import annotations

import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest

from aimz_lab.effects.propensity import area_under_curve, propensities
from aimz_lab.errors import ArgumentError, CallError, DataError
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


def test_treated_rows_without_a_counterpart_are_counted(im):
    report = im.overlap(FRAME, FRAME.assign(treated=1), treatment="treated", limits=(0.1, 0.9))
    extreme = ((CHANCE < 0.1) | (CHANCE > 0.9)).mean()
    assert report.extreme == pytest.approx(extreme, abs=0.05)
    assert report.auc == pytest.approx(area_under_curve(CHANCE, TREATED > 0), abs=0.01)
    assert not report.ok
    assert "restrict the effect" in repr(report)
    fair = im.overlap(FRAME.assign(treated=RANDOM), FRAME, treatment="treated")
    assert fair.ok
    assert min(fair.effective) > 0.97
    assert fair.extreme == 0


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
    assert "50% of all, the real one included, are as far from 0" in found.text
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
    assert "a confounder is likely" in repr(tested)


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
