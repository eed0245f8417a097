"""Effects and checks of a kernel that observes a function of its output."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal
from numpyro.optim import Adam

from aimz_lab import ImpactModel, TableSpec, effects, lab, summarize_effect
from aimz_lab.errors import ArgumentError, KernelError, OutputWarning

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)
T = (RNG.random(200) < 0.5).astype(np.float32)
PRE = RNG.normal(size=200).astype(np.float32)
SALES = np.exp(3 + 0.5 * T + 0.3 * RNG.normal(size=200)).astype(np.float32)
NONE, ALL = {"X": 0 * T}, {"X": 0 * T + 1}


def of_logs(X, y=None):
    a, b = (numpyro.sample(name, dist.Normal(0, 3)) for name in "ab")
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(a + b * X, 0.3), obs=None if y is None else jnp.log(y))


def of_gains(X, pre, y=None):
    a, b = (numpyro.sample(name, dist.Normal(0, 3)) for name in "ab")
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(a + b * X, 0.3), obs=None if y is None else y - pre)


def model(kernel, **options):
    svi = SVI(kernel, AutoNormal(kernel), Adam(0.02), Trace_ELBO())
    return ImpactModel(kernel, jax.random.key(0), svi=svi, **options)


@pytest.fixture(scope="module")
def fitted():
    im = model(of_logs)
    im.fit_on_batch(T, SALES, num_steps=1500, progress=False)
    return im


def effect(im, **options):
    return im.estimate_effect(args_baseline=NONE, args_intervention=ALL, **options)


def test_an_effect_is_called_by_what_the_kernel_observes(fitted):
    summary = summarize_effect(effect(fitted, average=True))
    assert "changes log(y) by" in summary["y"].text
    assert "Average of log(y)" in str(fitted.predict(T, by=T, progress=False))


@pytest.mark.parametrize("contrast", ["percent", "ratio", "odds_ratio"])
def test_a_ratio_is_refused_with_the_way_out(fitted, contrast):
    with pytest.raises(ArgumentError, match=r"that of log\(y\), and not of y.*LogNormal"):
        effect(fitted, contrast=contrast)
    options = {"store": "memory", "progress": False, "rng_key": jax.random.key(1)}
    scenarios = [fitted.predict(**one, **options) for one in (NONE, ALL)]
    with pytest.raises(ArgumentError, match=r"that of log\(y\), and not of y"):
        effects.estimate_effect(*scenarios, contrast=contrast)
    with pytest.raises(ArgumentError, match=r"that of log\(y\), and not of y"):
        fitted.sweep("X", [0.0, 1.0], T, reference=0.0, contrast=contrast)


def test_decisions_take_a_function_that_takes_draws_back(fitted):
    given = {"none": NONE, "all": ALL}, {"costs": {"all": 5.0}}
    with pytest.raises(ArgumentError, match=r"Utilities would be of log\(y\).*jax.numpy.exp"):
        fitted.decide(given[0], **given[1])
    found = fitted.decide(given[0], benefits=jnp.exp, **given[1])
    gain = found.table["utility"]["all"] + 5.0 - found.table["utility"]["none"]
    assert gain == pytest.approx(SALES[T == 1].mean() - SALES[T == 0].mean(), rel=0.15)


def test_draws_are_held_against_what_was_observed(fitted):
    report = fitted.diagnose(T, SALES, progress=False)
    assert {report[name].level for name in ("calibration", "p-values")} == {"green"}
    tree = fitted.predict(T, in_sample=True, store="memory", progress=False)
    np.testing.assert_allclose(tree.observed_data["y"], np.log(SALES), rtol=1e-5)


def test_checks_of_predictions_compare_with_it_too(fitted):
    checks = lab.prediction_checks(fitted, T, SALES, progress=False)
    assert checks.checked.called("y") == "log(y)"
    table = checks.table("coverage", level=0.9)
    covered = table.coverage[np.isclose(table.level, 0.9)]
    assert covered.to_list() == pytest.approx([0.9], abs=0.08)


def test_a_check_says_so_and_compares_the_prior_with_it(fitted):
    report = fitted.check(T, SALES, num_steps=10, progress=False)
    assert "observes log(y)" in report["output"].text
    assert report["prior"].level == "green"


def test_numbers_beside_the_effect_have_to_be_of_that(fitted):
    with pytest.warns(OutputWarning, match=r"outcome= has to be that of log\(y\)"):
        effects.uplift(effect(fitted), np.log(SALES), T)
    with pytest.warns(OutputWarning, match=r"sd= has to be that of log\(y\)"):
        effects.e_value(effect(fitted, average=True), sd=0.4)


def test_calibration_refuses_to_train_on_what_is_no_output(fitted):
    with pytest.raises(KernelError, match=r"observes log\(y\) as site 'y'"):
        fitted.calibrate(T, n=20, num_steps=10, num_draws=20, progress=False)


def test_it_is_known_after_loading(fitted, tmp_path):
    fitted.save(tmp_path / "model")
    svi = SVI(of_logs, AutoNormal(of_logs), Adam(0.02), Trace_ELBO())
    loaded = ImpactModel.load(tmp_path / "model", of_logs, svi)
    with pytest.raises(ArgumentError, match=r"log\(y\)"):
        effect(loaded, contrast="percent")


@pytest.mark.parametrize("formula", ["y", "scale(y)"])
def test_no_units_of_a_column_are_claimed(formula):
    frame = pd.DataFrame({"t": T, "pre": PRE, "y": PRE + 1.5 * T})
    im = model(of_gains, table=TableSpec(X="t", pre="pre", y=formula))
    im.fit_on_batch(frame, num_steps=20, progress=False)
    if formula == "y":
        found = im.predict(frame, by="t", progress=False)
        assert "Average of y - pre" in str(found)
        assert "output_column" not in found["posterior_predictive"].attrs
        return
    with pytest.raises(ArgumentError, match=r"observes y - pre.*output_scale='model'"):
        im.predict(frame, progress=False)
