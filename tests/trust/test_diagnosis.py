"""Trust reports, against closed forms and against faults that were planted."""

from __future__ import annotations

import copy
import re
import threading
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from numpyro import handlers
from numpyro.infer import (
    HMC,
    MCMC,
    NUTS,
    SVI,
    BarkerMH,
    Trace_ELBO,
    TraceEnum_ELBO,
    init_to_median,
)
from numpyro.infer.autoguide import (
    AutoBNAFNormal,
    AutoDelta,
    AutoLaplaceApproximation,
    AutoMultivariateNormal,
    AutoNormal,
)
from numpyro.optim import SGD
from scipy.stats import multivariate_normal

from aimz_lab import ArrayDataset, ArrayLoader, Callback, ImpactModel, lab
from aimz_lab.errors import (
    ArgumentError,
    DataError,
    DataTypeError,
    FitWarning,
    OutputWarning,
    TrustError,
)
from aimz_lab.inference.posterior import Posterior
from aimz_lab.inference.run.records import RateChange
from aimz_lab.kernel.signature import KernelSignature
from aimz_lab.trust.chain_advice import ChainAdvice
from aimz_lab.trust.guide_advice import better_draws
from aimz_lab.trust.loss_checks import LossTrend, loss_finding, loss_trend
from aimz_lab.trust.posterior_checks import k_hat_finding
from aimz_lab.trust.predictive_checks import leave_one_out, p_value_finding
from aimz_lab.trust.report import Finding, Report
from aimz_lab.trust.shape import Shape, shape_finding
from aimz_lab.trust.smoothing import Smoothed
from tests import kernels
from tests.runs import compilations, tell, told_run

X, Y = kernels.regression_data(n=300, k=2)
KEY = jax.random.key(4)
pytestmark = pytest.mark.allow_rank_promotion  # NumPyro's normal of many dimensions broadcasts


def model(kernel, guide, rate=0.05, loss=None, half_life=500):
    guide = guide(kernel) if isinstance(guide, type) else guide
    optimizer = optax.adam(optax.exponential_decay(rate, half_life, 0.5))
    return ImpactModel(
        kernel, jax.random.key(0), svi=SVI(kernel, guide, optimizer, loss or Trace_ELBO())
    )


def trained(kernel, guide, X=X, y=Y, steps=2000, **options):
    return model(kernel, guide, **options).fit_on_batch(X, y, num_steps=steps, progress=False)


@pytest.fixture(scope="module")
def exact():
    """A guide that is the posterior."""
    with jax.numpy_rank_promotion("allow"):
        return trained(kernels.regression, AutoLaplaceApproximation)


@pytest.fixture(scope="module")
def sound():
    """A good fit on batches, and its report."""
    with jax.numpy_rank_promotion("allow"):
        im = model(kernels.regression, AutoMultivariateNormal)
        im.fit(X, Y, batch_size=30, epochs=400, progress=False)
        return im, im.diagnose(X, Y, rng_key=KEY)


@pytest.fixture(scope="module")
def hasty():
    """A fit of too few steps, and its report."""
    with jax.numpy_rank_promotion("allow"):
        im = trained(kernels.regression, AutoMultivariateNormal, steps=30)
        return im, im.diagnose(X, Y)


def log_evidence():
    cov = kernels.PRIOR_SD**2 * X @ X.T + kernels.NOISE_SD**2 * np.eye(len(Y))
    return multivariate_normal(np.zeros(len(Y)), cov).logpdf(Y)


def batches():
    for start in range(0, len(X), 70):
        yield {"X": X[start : start + 70], "y": Y[start : start + 70]}


def scaled_by_itself(X, y=None):
    beta = numpyro.sample("beta", dist.Normal(0, kernels.PRIOR_SD).expand([2]).to_event(1))
    with numpyro.plate("obs", 300, subsample_size=X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ beta, kernels.NOISE_SD), obs=y)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kernel", "rows", "batch_size"),
    [
        (kernels.regression, lambda: (X, Y), None),
        (kernels.regression, lambda: (X, Y), 64),
        (scaled_by_itself, lambda: (X, Y), 64),
    ],
    ids=["whole", "blocks", "blocks of a kernel that scales itself"],
)
def test_log_ratios_of_the_exact_posterior_are_the_evidence(exact, kernel, rows, batch_size):
    im = exact if kernel is kernels.regression else trained(kernel, AutoLaplaceApproximation)
    report = im.diagnose(*rows(), batch_size=batch_size, rng_key=KEY)
    np.testing.assert_allclose(report.log_ratios, log_evidence(), atol=0.02)
    assert report.level == "green"
    assert report["summaries"].level == report["calibration"].level == "green"
    theirs = kernels.regression_posterior(X, Y)
    np.testing.assert_allclose(
        report.table["psis_mean"], theirs.mean, atol=4 * theirs.sd.max() / 30
    )
    np.testing.assert_allclose(report.table["psis_sd"], theirs.sd, rtol=0.1)


def test_leave_one_out_is_that_of_the_closed_form(exact):
    found = exact.diagnose(X, Y, rng_key=KEY).loo
    posterior = kernels.regression_posterior(X, Y)
    # Rank-one downdates of a conjugate posterior.
    expected = 0.0
    for x, y in zip(X.astype(float), Y, strict=True):
        precision = np.linalg.inv(posterior.cov) - np.outer(x, x) / kernels.NOISE_SD**2
        cov = np.linalg.inv(precision)
        mean = cov @ (np.linalg.solve(posterior.cov, posterior.mean) - x * y / kernels.NOISE_SD**2)
        variance = x @ cov @ x + kernels.NOISE_SD**2
        expected += -0.5 * (np.log(2 * np.pi * variance) + (y - x @ mean) ** 2 / variance)
    assert found.elpd == pytest.approx(expected, abs=0.3)
    assert found.bad_share == 0
    assert found.pointwise.sum() == pytest.approx(found.elpd)
    assert abs(found.elpd - expected) < 4 * found.draws_se < 0.8


def test_the_error_of_leave_one_out_by_its_draws_is_its_spread_over_other_draws():
    """A normal mean: 30 repetitions of 500 draws, and of a sample of the rows."""
    rng = np.random.default_rng(1)
    y = rng.normal(size=60)
    for kept in (np.arange(30), np.arange(0, 60, 2)):
        found = []
        for _ in range(30):
            means = y.mean() + rng.normal(size=500) / np.sqrt(60)
            log_likelihood = -0.5 * (y - means[:, None]) ** 2
            lppd = np.log(np.exp(log_likelihood).mean(0))
            found.append(leave_one_out(log_likelihood[:, kept], lppd, kept, None))
        spread = np.std([one.elpd for one in found])
        assert np.mean([one.draws_se for one in found]) == pytest.approx(spread, rel=0.3)
        assert all(one.pointwise.sum() == pytest.approx(one.elpd) for one in found)


@pytest.mark.slow
def test_p_values_are_called_by_their_statistics(exact):
    said = exact.diagnose(X, Y, rng_key=KEY)["p-values"].text
    assert re.fullmatch(
        r"predictive p-values are 0\.\d\d of the mean, 0\.\d\d of the sd, 0\.\d\d of the minimum, "
        r"0\.\d\d of the maximum",
        said,
    )


@pytest.mark.parametrize(
    ("k", "told"),
    [
        (0.6669, r"is 0\.6669 \(.*, above 0\.6667"),
        (0.6664, r"is 0\.666 \(.*, between 0\.5 and 0\.667"),
        (0.5001, r"is 0\.5001 \(.*, between 0\.5 and 0\.67"),
        (0.4999, r"is 0\.4999 \(.*, below 0\.5"),
        (0.9, r"is 0\.90 \(.*, above 0\.67"),
    ],
)
def test_k_hat_is_seen_to_be_on_its_side_of_the_limit(k, told):
    finding = k_hat_finding(Smoothed(np.full(1000, 1e-3), k), np.zeros(1000), 0, "")
    assert re.search(told, finding.text)


def p_values_said(**others):
    """What is said of p-values: of usual ones but for those given, as (p, observed, predicted)."""
    usual = dict.fromkeys(("mean", "sd", "minimum", "maximum"), (0.5, 1.0, 1.0))
    found = p_value_finding(usual | others)
    return found.level, found.text


@pytest.mark.parametrize(
    ("given", "level", "said"),
    [
        ({}, "green", "0.50 of the maximum"),
        (
            {"minimum": (0.994, -9.0, -2.0)},
            "green",
            "0.994 of the minimum, 0.50 of the maximum; of 4 statistics one may be as far out as "
            "the minimum by chance: doubt begins below 0.001 and above 0.999",
        ),
        ({"mean": (0.02, 9.0, 1.0)}, "green", "doubt begins below 0.01 and above 0.99"),
        (
            {"maximum": (0.0, 1.5, 1.0)},
            "green",
            "below 0.001 of the maximum; the maximum is off by less than the sd of y, which is "
            "little",
        ),
        (
            {"sd": (0.999, 1.05, 1.0)},
            "green",
            "the sd is off by less than a tenth, which is little",
        ),
        ({"minimum": (1.0, -9.0, -2.0)}, "amber", "the minimum of y is -9 and that of predictions"),
    ],
)
def test_a_green_light_says_why_a_far_p_value_is_no_doubt(given, level, said):
    found = p_values_said(**given)
    assert found[0] == level
    assert said in found[1]


@pytest.mark.slow
def test_a_site_that_the_kernel_lacks_changes_nothing(exact):
    """The draws that the ratios correct are the guide's, whatever else the posterior holds."""
    im = copy.deepcopy(exact)
    with pytest.warns(OutputWarning, match="which the kernel does not have"):
        im.set_posterior_sample({**exact.posterior, "other": exact.posterior["beta"]})
    expected = exact.diagnose(X, Y, rng_key=KEY, num_draws=200).loo.elpd
    assert im.diagnose(X, Y, rng_key=KEY, num_draws=200).loo.elpd == expected


def correlated(seed=0, n=640):
    rng = np.random.default_rng(seed)
    a = 3 + rng.normal(size=n)
    columns = [np.ones(n), a, a + 0.2 * rng.normal(size=n), a + rng.normal(size=n) * a / 6]
    X = np.stack(columns, 1).astype(np.float32)
    return X, (X @ [1, -1, 2, 0.5] + rng.normal(size=n)).astype(np.float32)


def unit_noise(X, y=None):
    beta = numpyro.sample("beta", dist.Normal(0, 5).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ beta, 1.0), obs=y)


@pytest.mark.slow
def test_red_after_too_few_steps_and_green_after_enough():
    """The posterior of correlated columns: sds off, with a loss that is all but the best."""
    X, y = correlated()
    precision = X.T.astype(float) @ X + np.eye(4) / 25
    mean = np.linalg.solve(precision, X.T.astype(float) @ y)
    sd = np.sqrt(np.diag(np.linalg.inv(precision)))
    im = model(unit_noise, AutoMultivariateNormal, rate=0.013, half_life=9000)
    im.fit(X, y, batch_size=64, epochs=600, progress=False)
    early, first = im.diagnose(X, y, num_draws=2000), im.last_run.losses[-500:].mean()
    assert abs((im.posterior["beta"].mean(0) - mean) / sd).max() > 2
    im.fit(X, y, batch_size=64, epochs=3400, progress=False)
    late, last = im.diagnose(X, y, num_draws=2000), im.last_run.losses[-2000:].mean()
    assert abs((im.posterior["beta"].mean(0) - mean) / sd).max() < 0.5
    assert first / last < 1.02
    assert (early.level, late.level) == ("red", "green"), (early, late)
    assert early["k-hat"].level == "red"
    assert early["loss"].text.startswith("the loss made no progress beyond its noise in the last ")
    assert "Train" in early.next_steps[0]
    with pytest.raises(TrustError, match="Do not trust this posterior: k-hat"):
        early.raise_if_bad()
    late.raise_if_bad()
    assert late["loss"].level == late["rows"].level == "green"


@pytest.mark.slow
def test_a_guide_too_narrow_for_its_own_draws_to_show_is_red():
    """The sd of a factorised guide along a long ellipse, in closed form."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=300)
    X = np.stack([a, a + 0.1 * rng.normal(size=300)], axis=1).astype(np.float32)
    y = (X.sum(1) + rng.normal(size=300)).astype(np.float32)
    report = trained(unit_noise, AutoNormal, X=X, y=y, steps=3000).diagnose(X, y, rng_key=KEY)
    precision = X.T.astype(float) @ X + np.eye(2) / 25
    along = np.linalg.eigvalsh(precision / np.sqrt(np.outer(*[np.diag(precision)] * 2)))
    least, largest = np.sqrt(along)
    assert least < 0.1
    assert report["loss"].text.startswith("the loss settled: ")
    assert "Train" not in report.next_steps[0]
    assert report["shape"].level == report.level == "red"
    found = re.search(r"is (\S+) to (\S+) times as wide", report["shape"].text)
    assert list(map(float, found.groups())) == pytest.approx([least, largest], rel=0.1)


def test_ratios_of_widths_are_told_with_digits_that_can_be():
    said = shape_finding(Shape(0.0, 163.0), "").text
    assert "is less than 0.01 to 163 times as wide" in said


@pytest.mark.parametrize(
    ("guide", "has_settled", "begins", "says", "says_not"),
    [
        (AutoNormal, False, "Train longer", "AutoMultivariateNormal, ", "init_to_median"),
        (AutoNormal, True, "Use a guide", "AutoNormal(kernel, init_loc_fn=", "Train"),
        (AutoLaplaceApproximation, True, "Use a guide", "learning rate", "AutoMultivariate"),
        (AutoBNAFNormal, True, "Lower the learning rate", "refine='nuts'", "guide that follows"),
        (lambda kernel: kernel, True, "Use a guide", "learning rate", "init_loc_fn"),
        (
            lambda kernel: AutoNormal(kernel, init_loc_fn=partial(init_to_median, num_samples=5)),
            True,
            "Use a guide",
            "learning rate",
            "init_loc_fn",
        ),
    ],
)
def test_more_steps_are_advised_only_of_a_loss_that_has_not_settled(
    guide, has_settled, begins, says, says_not
):
    advice = better_draws(guide(kernels.regression), has_settled=has_settled)
    assert advice.startswith(begins)
    assert says in advice
    assert says_not not in advice


@pytest.mark.slow
def test_columns_that_the_run_noted_are_named_before_other_causes():
    wide = np.stack([X[:, 0], 1000 * X[:, 1]], axis=1)
    im = trained(kernels.regression, AutoNormal, X=wide, steps=30)
    report = im.diagnose(wide, Y, num_draws=100)
    assert report["k-hat"].level == "red"
    (note,) = im.last_run.notes
    assert note.endswith(f"{report['columns'].text[1:]}.")
    assert report.next_steps[0].startswith("Standardise the columns")


def lagged(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    before = jnp.concatenate([jnp.zeros(1), X[:-1]])
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(slope * before, 1.0), obs=y)


def poisson(X, y=None):
    a = numpyro.sample("a", dist.Normal(0, 1))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Poisson(jnp.exp(a + X[:, 0])), obs=y)


def unscaled():
    im = model(kernels.regression, AutoMultivariateNormal)
    im.fit(X, Y, batch_size=30, epochs=200, scale="none", progress=False)
    return im.diagnose(X, Y, rng_key=KEY)


def wrong_likelihood():
    rate = np.exp(X[:, 0])
    counts = np.random.default_rng(0).negative_binomial(1, 1 / (1 + rate)).astype(np.int32)
    im = trained(poisson, AutoLaplaceApproximation, y=counts)
    return im.diagnose(X, counts, rng_key=KEY)


def crossing_rows():
    rng = np.random.default_rng(0)
    x = rng.normal(size=400).astype(np.float32)
    y = (np.concatenate([[0], x[:-1]]) + rng.normal(size=400)).astype(np.float32)
    im = model(lagged, AutoNormal)
    im.fit(x, y, batch_size=40, epochs=200, rows="independent", progress=False)
    return im.diagnose(x, y, rng_key=KEY)


def no_overlap():
    treated = (X[:, 0] > 0).astype(float)  # nobody like them is untreated
    rows = {"X": X, "treated": treated}
    im = model(kernels.regression, AutoNormal)
    return im.overlap(rows, {**rows, "treated": 1 - treated}, treatment="treated")


@pytest.mark.slow
def test_a_sound_fit_on_batches_is_green(sound):
    im, report = sound
    assert report.level == "green", report
    assert report["rows"].level == report["loss"].level == "green"
    rows = {"X": X, "treated": (np.arange(300) % 2).astype(float)}
    overlap = im.overlap(rows, {**rows, "treated": 1 - rows["treated"]}, treatment="treated")
    assert overlap.level == "green", overlap


@pytest.mark.slow
@pytest.mark.parametrize(
    ("planted", "check", "says"),
    [
        (unscaled, "summaries", "scale='auto'"),
        (wrong_likelihood, "calibration", "choose a likelihood"),
        (crossing_rows, "rows", "Train on all rows at once"),
        (no_overlap, "treatment", "Restrict the effect"),
    ],
)
def test_each_planted_fault_is_red_and_named(planted, check, says):
    is_red_and_named(planted(), check, says)


def test_a_fit_of_few_steps_is_red_and_told_no_guide_that_is_in_use(hasty):
    report = hasty[1]
    is_red_and_named(report, "k-hat", "Train longer")
    advice = " ".join(report.next_steps)
    assert "AutoBNAFNormal" in advice
    assert "AutoMultivariateNormal" not in advice


def is_red_and_named(report, check, says):
    assert report.level == "red"
    assert not report.ok
    assert report[check].level == "red", report
    assert any(says in step for step in report.next_steps)


def do_as_advised(finding, **names):
    """Carry out the call of an advice as it stands."""
    known = {"ImpactModel": ImpactModel, "MCMC": MCMC, "NUTS": NUTS, "jax": jax, "X": X, "y": Y}
    return eval(finding.advice.split(": ", 1)[1].removesuffix("."), known | names)


@pytest.mark.slow
def test_a_hopeless_posterior_is_red_with_finite_numbers():
    y = (1e4 * Y + 3e5).astype(np.float32)
    report = trained(kernels.regression, AutoNormal, y=y, steps=100).diagnose(X, y)
    assert report.level == report["k-hat"].level == "red"
    assert report.k_hat == np.inf
    assert np.isfinite(report.log_ratios).all()
    assert np.isfinite(report.table.to_numpy()).all()
    assert "infinite" in str(report)


@pytest.mark.slow
def test_nuts_begins_at_the_guide_and_stands_beside_it():
    theirs = kernels.regression_posterior(X, Y)
    bad = trained(kernels.regression, AutoMultivariateNormal, steps=150, rate=0.02)
    report = bad.diagnose(X, Y, refine="nuts", rng_key=KEY)
    assert report["NUTS"].level == "red"
    np.testing.assert_allclose(report.table["nuts_mean"], theirs.mean, atol=0.2 * theirs.sd.max())
    np.testing.assert_allclose(report.table["nuts_sd"], theirs.sd, rtol=0.15)
    do_as_advised(report["NUTS"], im=bad, report=report)
    after = bad.diagnose(X, Y)
    assert "im.sample" not in str(after)  # no draws of the guide that was red
    assert after["R-hat"].level != "red"
    assert after["k-hat"].level == "unjudged"  # of chains, R-hat judges
    assert "those of chains" in after["k-hat"].text


@pytest.mark.slow
def test_a_run_that_diverged_is_red_and_says_why_once():
    svi = SVI(kernels.regression, AutoNormal(kernels.regression), SGD(500), Trace_ELBO())
    im = ImpactModel(kernels.regression, jax.random.key(0), svi=svi)
    before = im.check(X, Y, batch_size=50)
    assert str(before).count("Lower the learning rate") == 1
    assert "forecast" not in [one.name for one in before]
    with pytest.warns(FitWarning, match="ended early"):
        im.fit(X, Y, batch_size=50, epochs=3, progress=False)
    report = im.diagnose(X, Y, num_draws=100)
    assert report.level == report["loss"].level == report["k-hat"].level == "red"
    assert str(report).count("Lower the learning rate") == 1
    assert "diverged" not in report["loss"].text


@pytest.mark.slow
def test_after_more_training_nothing_is_compiled_again():
    im = trained(kernels.regression, AutoNormal, steps=50)
    im.diagnose(X, Y)
    im.fit_on_batch(X, Y, num_steps=50, progress=False)
    with compilations() as seen:
        im.diagnose(X, Y)
    assert not seen


@pytest.mark.slow
def test_importance_resampling_needs_ratios_that_can_be_trusted(exact, hasty):
    report = exact.diagnose(X, Y, refine="importance", rng_key=KEY)
    theirs = kernels.regression_posterior(X, Y)
    np.testing.assert_allclose(
        report.refined["beta"].mean(0), theirs.mean, atol=theirs.sd.max() / 5
    )
    bad, before = hasty
    do_as_advised(report["refinement"], im=copy.deepcopy(exact), report=report)
    refused = bad.diagnose(X, Y, refine="importance")
    assert refused.refined is None
    assert before.k_hat == refused.k_hat  # of the same draws in each call
    assert re.search(
        r"k-hat of the guide is \d+\.\d\d \(± \d\.\d\d with other draws\)", str(refused)
    )
    assert "refused" in refused["refinement"].text


@pytest.mark.slow
def test_what_cannot_be_known_is_said(exact, tmp_path):
    point = trained(kernels.regression, AutoDelta, steps=200).diagnose(X, Y)
    assert point["k-hat"].level == "amber"
    assert "is a point" in point["k-hat"].text
    svi = SVI(
        kernels.regression,
        AutoLaplaceApproximation(kernels.regression),
        optax.adam(optax.exponential_decay(0.05, 500, 0.5)),
        Trace_ELBO(),
    )
    loaded = ImpactModel.load(exact.save(tmp_path / "exact"), kernels.regression, svi=svi)
    report = loaded.diagnose(ArrayLoader(ArrayDataset(X=X, y=Y), KEY, batch_size=50))
    assert report.level == "green", report
    assert report["loss"].level == "unjudged"
    loaded.set_posterior_sample({"beta": np.random.default_rng(0).normal(size=(500, 2))})
    injected = loaded.diagnose(X, Y)
    assert injected["k-hat"].level == "amber"
    assert "(set by hand)" in injected["k-hat"].text
    assert "im.sample" not in str(injected)  # which would replace what the user has set
    assert injected.level == injected["calibration"].level == "red"


def mixture(X, y=None):
    share = numpyro.sample("share", dist.Beta(1, 1))
    with numpyro.plate("obs", X.shape[0]):
        which = numpyro.sample("which", dist.Bernoulli(share), infer={"enumerate": "parallel"})
        numpyro.sample("y", dist.Normal(4.0 * which - 2, 1.0), obs=y)


@pytest.mark.slow
def test_discrete_sites_are_summed_out_of_the_density():
    pytest.importorskip("funsor")
    rng = np.random.default_rng(0)
    y = (np.where(rng.random(300) < 0.3, 2, -2) + rng.normal(size=300)).astype(np.float32)
    guide = AutoNormal(numpyro.handlers.block(mixture, hide=["which"]))
    im = trained(mixture, guide, y=y, steps=1500, loss=TraceEnum_ELBO())
    report = im.diagnose(X, y)
    grid = np.linspace(0.001, 0.999, 2000)
    density = np.exp(-0.5 * (y[:, None] - np.array([-2, 2])) ** 2) / np.sqrt(2 * np.pi)
    joint = np.log(density @ np.stack([1 - grid, grid])).sum(0)
    evidence = joint.max() + np.log(np.exp(joint - joint.max()).mean() * 0.998)
    ratios = report.log_ratios
    estimate = ratios.max() + np.log(np.exp(ratios - ratios.max()).mean())
    assert estimate == pytest.approx(evidence, abs=0.05)
    assert report.level != "red"


def all_rows_at_once(X, y=None):
    beta = numpyro.sample("beta", dist.Normal(0, kernels.PRIOR_SD).expand([2]).to_event(1))
    numpyro.sample("y", dist.Normal(X @ beta, kernels.NOISE_SD).to_event(1), obs=y)


@pytest.mark.slow
def test_an_output_that_is_one_event_over_all_rows_is_judged_as_a_whole(exact):
    """Its rows have no density of their own, and may depend on each other."""
    report = trained(all_rows_at_once, AutoMultivariateNormal).diagnose(X, Y)
    assert report.k_hat == pytest.approx(exact.diagnose(X, Y).k_hat, abs=0.2)
    assert report["p-values"].level == "green"
    assert {report[name].level for name in ("LOO", "calibration")} == {"unjudged"}
    assert report.loo is report.calibration is None
    assert "y has one log density for all rows together" in report["LOO"].text
    assert any("in a plate" in step for step in report.next_steps)
    texts = [text.get_text() for axes in lab.plot_trust(report).axes for text in axes.texts]
    assert "calibration was not judged" in " ".join(" ".join(texts).split())


def mean_of_rows(X, y=None):
    beta = numpyro.sample("beta", dist.Normal(0, 1).expand([2]).to_event(1))
    numpyro.sample("y", dist.Normal((X @ beta).mean(), 1.0), obs=None if y is None else y.mean())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The output site 'y' does not have one value a row")
def test_an_output_without_rows_has_predictions_that_cannot_be_judged():
    draws = {"beta": np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)}
    report = model(mean_of_rows, AutoNormal).set_posterior_sample(draws).diagnose(X, Y)
    assert report["predictions"].level == report["LOO"].level == "unjudged"


def with_own_values(X, y=None):
    spread = numpyro.sample("spread", dist.HalfNormal(1))
    with numpyro.plate("obs", X.shape[0]):
        own = numpyro.sample("own", dist.Normal(0, spread))
        numpyro.sample("y", dist.Normal(X[:, 0] + own, 1.0), obs=y)


@pytest.mark.slow
def test_rows_with_values_of_their_own_are_predicted_without_them():
    rng = np.random.default_rng(0)
    y = (X[:, 0] + rng.normal(size=(2, 300)).sum(0)).astype(np.float32)
    report = trained(with_own_values, AutoNormal, y=y).diagnose(X, y, rng_key=jax.random.key(2))
    assert report["calibration"].level == "green", report
    assert report["LOO"].level == "unjudged"
    assert report["k-hat"].level == "amber"
    assert "300 values of latent sites by row" in report["k-hat"].text


@pytest.mark.slow
def test_chains_are_judged_by_r_hat_ess_divergences_and_energy():
    sampler = MCMC(
        NUTS(kernels.regression),
        num_warmup=300,
        num_samples=500,
        num_chains=4,
        chain_method="vectorized",
        progress_bar=False,
    )
    im = ImpactModel(kernels.regression, jax.random.key(0), sampler)
    report = im.fit_on_batch(X, Y, progress=False).diagnose(X, Y)
    assert report.level == "green", report
    for check in ("R-hat", "ESS", "divergences", "E-BFMI", "LOO", "calibration", "p-values"):
        assert report[check].level == "green"
    assert {"r_hat", "ess_bulk", "ess_tail"} <= set(report.table.columns)
    assert len(lab.plot_trust(report).axes) == 4
    apart = np.concatenate([np.asarray(im.posterior["beta"]), 1 + np.asarray(im.posterior["beta"])])
    im.set_posterior_sample({"beta": apart}, num_chains=8)
    finding = im.diagnose(X, Y)["R-hat"]
    assert finding.level == "red"
    assert finding.text.startswith("R-hat is above 1.01: up to ")


@pytest.mark.slow
def test_thinned_chains_tell_all_divergences_and_no_energies_of_distant_transitions(tmp_path):
    def schools(X, sd, y=None):
        mu = numpyro.sample("mu", dist.Normal(0, 5))
        tau = numpyro.sample("tau", dist.HalfCauchy(5))
        with numpyro.plate("row", X.shape[0]):
            theta = numpyro.sample("theta", dist.Normal(mu, tau))
            numpyro.sample("y", dist.Normal(theta, sd), obs=y)

    effects = np.array([28, 8, -3, 7, -1, 1, 18, 12], np.float32)
    sds = np.array([15, 10, 16, 11, 9, 11, 10, 18], np.float32)
    rows = np.zeros(8, np.float32)
    sampler = MCMC(
        NUTS(schools, target_accept_prob=0.7),
        num_warmup=200,
        num_samples=1005,
        thinning=10,
        num_chains=2,
        chain_method="vectorized",
        progress_bar=False,
    )
    im = ImpactModel(schools, jax.random.key(0), inference=sampler)
    report = im.fit_on_batch(rows, effects, sd=sds, progress=False).diagnose(rows, effects, sd=sds)
    energies = report["E-BFMI"]
    assert energies.level == "unjudged"
    assert "thinning=10 kept one of 10" in energies.text
    assert report.mixed.energy is None
    assert "energies" not in lab.plot_trust(report).alt
    count = int(im.last_run.chains.divergences.sum())
    kept = int(im.posterior_tree.sample_stats["diverging"].sum())
    assert count > kept > 0
    assert report["divergences"].text == f"{count:,} of 2,010 transitions diverged"
    loaded = ImpactModel.load(im.save(tmp_path / "model"), schools, sampler)
    again = loaded.diagnose(rows, effects, sd=sds)
    assert [again[name] for name in ("divergences", "E-BFMI")] == [report["divergences"], energies]


def hmc():
    """A sampler whose steps compile in a third of the time of those of NUTS."""
    return HMC(kernels.regression, trajectory_length=1.5)


@pytest.mark.slow
def test_one_chain_is_judged_by_its_halves_and_never_fully_trusted():
    sampler = MCMC(hmc(), num_warmup=200, num_samples=400, progress_bar=False)
    im = ImpactModel(kernels.regression, jax.random.key(0), sampler)
    report = im.fit_on_batch(X, Y, progress=False).diagnose(X, Y)
    assert report.level == report["R-hat"].level == "amber", report
    assert "one chain, which cannot show that chains agree" in report["R-hat"].text
    (advice,) = report.next_steps
    assert advice.startswith("Run four chains: ")
    np.testing.assert_allclose(im.summary()["r_hat"], report.table["r_hat"], rtol=1e-9)
    live = float(lab.compare(im.last_run).loc["r_hat"].item())
    assert live == pytest.approx(report.table["r_hat"].max())
    figure = lab.plot_trust(report)
    assert all(each.has_data() for each in figure.axes)  # no empty panel
    assert "energies" in figure.alt


@pytest.mark.slow
def test_more_chains_and_more_draws_come_by_the_calls_that_are_advised():
    options = {"num_warmup": 200, "progress_bar": False, "chain_method": "vectorized"}
    sampler = MCMC(hmc(), num_samples=20, num_chains=2, **options)
    im = ImpactModel(kernels.regression, jax.random.key(0), sampler)
    short = im.fit_on_batch(X, Y, progress=False).diagnose(X, Y)
    assert short["ESS"].level == "red"
    do_as_advised(short["ESS"], im=im)
    after = im.diagnose(X, Y)
    assert "red" not in (after["R-hat"].level, after["ESS"].level), after
    im.set_posterior_sample(im.posterior)
    assert im.diagnose(X, Y)["posterior"].level == "amber"
    alone = MCMC(hmc(), num_samples=20, **options)
    im = ImpactModel(kernels.regression, jax.random.key(0), alone).fit_on_batch(
        X, Y, progress=False
    )
    four = do_as_advised(im.diagnose(X, Y)["ESS"], im=im)
    assert four.diagnose(X, Y)["R-hat"].level == "green"


def test_advised_calls_have_the_data_of_the_model():
    signature = KernelSignature(kernels.regression, "A", "out")
    chains = Posterior({"beta": np.zeros((40, 2))}, 4)
    of_guide = ChainAdvice(signature, None, ("A", "out", "dose"), has_table=False)
    assert of_guide.more(chains, 9.0).endswith(
        "param_input='A', param_output='out').fit_on_batch(A, out, dose=dose)."
    )
    options = {"num_samples": 20, "num_chains": 4, "thinning": 2, "chain_method": "vectorized"}
    has_run = MCMC(NUTS(kernels.regression), num_warmup=1, **options)
    has_run._last_state = object()
    of_table = ChainAdvice(signature, has_run, ("A", "out"), has_table=True)
    call = "im.sample(num_samples={}, A=table, return_datatree=False), num_chains=4)."
    for ess, count in ((80.0, 200), (790.0, 80), (0.0, 1000), (np.nan, 1000)):
        assert of_table.more(chains, ess).endswith(call.format(count))
    assert of_table.several.endswith("table=spec).fit_on_batch(table).")


@pytest.mark.slow
def test_a_stream_has_the_densities_of_its_rows(sound):
    im, whole = sound
    streamed = im.diagnose(batches, rng_key=KEY)
    np.testing.assert_allclose(streamed.log_ratios, whole.log_ratios, atol=0.02)
    assert streamed.loo.elpd == pytest.approx(whole.loo.elpd, abs=0.01)


class HeldAfterSomeSteps(Callback):
    """Holds a fit once its second report has come."""

    def __init__(self):
        self.reports, self.arrived, self.go_on = 0, threading.Event(), threading.Event()

    def on_steps_end(self, run, steps):
        self.reports += 1
        if self.reports == 2:
            self.arrived.set()
            self.go_on.wait(120)


@pytest.mark.slow
def test_of_a_fit_in_the_background_the_present_state_is_judged():
    im, held = model(kernels.regression, AutoMultivariateNormal), HeldAfterSomeSteps()
    im.set_posterior_sample({"beta": np.full((100, 2), 9.0)})
    handle = im.fit(
        X, Y, batch_size=50, epochs=10**6, blocking=False, callbacks=[held], progress=False
    )
    try:
        assert held.arrived.wait(60)
        report = im.diagnose(X, Y, rng_key=KEY)
    finally:
        held.go_on.set()
        handle.stop()
        handle.wait()
    assert report["loss"].level == "amber"
    assert "the fit goes on in the background" in report["loss"].text
    assert report.table["mean"].abs().max() < 9  # not the draws of before
    assert "not the guide's" not in report["k-hat"].text


def test_bad_calls_are_refused_and_change_nothing(exact):
    before = exact.rng_key
    with pytest.raises(DataError, match="these 100 rows are not all of them. Pass the data"):
        exact.diagnose(X[:100], Y[:100])
    with pytest.raises(DataError, match=f"these {len(Y)} rows are in another order. Pass the data"):
        exact.diagnose(X[::-1], Y[::-1])
    with pytest.raises(DataError, match="are others"):
        exact.diagnose(X, Y[::-1])
    twice = np.r_[0, 0, 2 : len(Y)]
    with pytest.raises(DataError, match="are not all of them"):
        exact.diagnose(X[twice], Y[twice])
    with pytest.raises(DataError, match="are others"):
        exact.diagnose(X, Y + 1)
    with pytest.raises(DataTypeError, match="can be read only once"):
        exact.diagnose(batches())
    for option in ({"num_draws": 50}, {"refine": "hmc"}, {"batch_size": 0}, {"rows": "maybe"}):
        with pytest.raises(ArgumentError, match=next(iter(option))):
            exact.diagnose(X, Y, **option)
    with pytest.raises(ArgumentError, match=r"im\.diagnose"):
        lab.plot_trust(exact)
    assert (exact.rng_key == before).all()


@pytest.mark.slow
def test_a_report_shows_itself_and_its_verdict_in_the_summary_of_the_run(exact):
    fresh = trained(kernels.regression, AutoLaplaceApproximation, steps=10)
    assert "trust" not in lab.summary_text(fresh.last_run)
    report = exact.diagnose(X, Y, rng_key=KEY)
    assert report.verdict in str(report)
    assert report.verdict in report._repr_html_()
    assert "currentColor" in report._repr_html_()  # legible in either theme
    assert re.search(f"trust +{re.escape(report.verdict)}", lab.summary_text(exact.last_run))
    assert list(report.to_frame().columns) == ["check", "level", "finding", "advice"]
    figure = lab.plot_trust(report)
    assert [axes.get_title() for axes in figure.axes][1].startswith("importance of draws")
    assert "GREEN" in figure.get_suptitle()
    (band,) = figure.axes[0].collections  # within which a fall of the loss is none
    assert band.get_label() == "± 2 standard errors"
    low, high = band.get_paths()[0].get_extents().get_points()[:, 1]
    assert figure.axes[0].get_ylim()[0] < low < report.loss.windows.min() < high
    again = exact.diagnose(X, Y, rng_key=KEY)
    assert (again.log_ratios == report.log_ratios).all()


@pytest.mark.parametrize(
    ("windows", "waited", "vouched", "level"),
    [(12, 0, False, "amber"), (12, 1, True, "unjudged"), (12, 2, False, "green"),
     (90, 0, False, "green")],
)  # fmt: skip
def test_a_short_run_whose_loss_still_made_progress_has_not_settled(
    rng, windows, waited, vouched, level
):
    run = told_run()
    tell([], rng.normal(size=2_000), run, chunk=500)
    run.finish("completed", "")
    found = loss_finding(
        run, LossTrend(np.ones(windows), np.zeros(windows), waited, 64), is_vouched=vouched
    )
    assert found.level == level
    assert ("still making progress within the last" in found.text) == (level != "green")


def test_the_noise_of_the_loss_is_that_between_its_windows(rng):
    run = told_run()
    tell([], rng.normal(size=64_000), run, chunk=500)
    run.finish("completed", "")
    trend = loss_trend(run)
    assert trend.errors.mean() == pytest.approx(trend.windows.std(), rel=0.2)


def test_the_advice_of_a_cause_comes_first():
    findings = Finding("k-hat", "red", "", "b"), Finding("loss", "amber", "", "a", is_cause=True)
    assert Report("", findings, {}).next_steps == ("a", "b")


def test_a_loss_at_a_new_learning_rate_is_not_judged_by_its_first_steps(rng):
    run = told_run()
    tell([], rng.normal(size=2_000), run, chunk=500)
    run.finish("stopped", "")
    assert loss_finding(run, loss_trend(run), is_vouched=False).level == "green"
    run.rate_changes.append(RateChange(1_900, 0.01, 0.001))
    found = loss_finding(run, loss_trend(run), is_vouched=False)
    assert found.level == "amber"
    assert "the learning rate changed 100 steps before the end, too few" in found.text


@pytest.mark.parametrize(
    ("unmoved", "said"),
    [
        (2_000, "no step of the last run moved a parameter, as the learning rate is 0"),
        (1_500, "the learning rate came to 0, and the last 1,500 of 2,000 steps moved no para"),
    ],
)
def test_steps_that_moved_nothing_show_no_loss_that_settled(rng, unmoved, said):
    run = told_run()
    tell([], rng.normal(size=2_000), run, chunk=500)
    run.has_spent_rate, run.unmoved_steps = True, unmoved
    found = loss_finding(run, loss_trend(run), is_vouched=False)
    assert (found.level, found.text[: len(said)]) == ("amber", said)
    assert found.advice.startswith("To train on, build the model anew, with a schedule as long as")


def test_no_fit_is_advised_where_the_learning_rate_has_come_to_0(rng):
    run = told_run()
    tell([], np.linspace(1_000, 0, 2_000) + rng.normal(size=2_000), run, chunk=500)
    run.has_spent_rate = True
    found = loss_finding(run, loss_trend(run), is_vouched=False)
    assert found.text.startswith("the loss still fell by ")
    assert found.advice.startswith("To train on, build the model anew")
    for has_settled in (False, True):
        advice = better_draws(AutoNormal(of_mean), has_settled=has_settled, is_spent=True)
        assert "train longer" not in advice
        assert "lower the learning rate" not in advice


def of_mean(X, y=None):
    mean = numpyro.sample("mean", dist.Normal(0, 5))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def three_times_too_wide(X, y=None):
    loc = numpyro.param("loc", 0.0)
    numpyro.sample("mean", dist.Normal(loc, 3 / 300**0.5))


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "is_named"), [("none", True), ("auto", False)])
def test_a_wide_posterior_is_blamed_on_batches_unless_they_were_scaled(scale, is_named):
    im = model(of_mean, three_times_too_wide)
    im.fit(X, Y, batch_size=30, epochs=20, scale=scale, progress=False)
    report = im.diagnose(X, Y, rng_key=KEY)
    assert "3 times the sd" in report["summaries"].text
    assert report["rows"].text == "rows are independent: batches of 30 can stand for all 300"
    assert ("scale='auto'" in report["summaries"].advice) == is_named


def of_mean_and_another(X, m=None, y=None):
    of_mean(X, y)
    shift = numpyro.sample("shift", dist.Normal(0, 5))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("M", dist.Normal(shift, 1.0), obs=m)


def weighed(X, per_row, y=None):
    a, b = (numpyro.sample(name, dist.Normal(0, 3)) for name in "ab")
    if per_row:
        numpyro.factor("z", dist.Normal(b, 1).log_prob(X[:, 0]).sum())
    else:
        numpyro.factor("ridge", -jnp.square(b))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(a, 1), obs=y)


@pytest.mark.slow
@pytest.mark.parametrize("per_row", [True, False])
def test_a_factor_of_the_rows_is_not_judged_and_said_to_be_so(per_row):
    im = model(weighed, AutoMultivariateNormal)
    im.fit_on_batch(X, Y, per_row=per_row, num_steps=3, num_samples=20, progress=False)
    found = [one for one in im.diagnose(X, Y, per_row=per_row) if one.name == "factors"]
    assert [one.level for one in found] == ["amber"] * per_row
    assert all("the factor 'z' adds to the log density of the rows" in one.text for one in found)


def partly_seen(X, seen, by_handler, y=None):
    mean, sd = numpyro.sample("mean", dist.Normal(0, 9)), numpyro.sample("sd", dist.HalfNormal(9))
    with numpyro.plate("row", X.shape[0]):
        if by_handler:
            with handlers.mask(mask=seen):
                numpyro.sample("y", dist.Normal(mean, sd), obs=y)
        else:
            numpyro.sample("y", dist.Normal(mean, sd), obs=y, obs_mask=seen)


@pytest.mark.slow
@pytest.mark.parametrize("by_handler", [True, False])
def test_masked_entries_are_neither_observations_nor_latent_values(by_handler):
    rng = np.random.default_rng(0)
    seen = np.arange(60) % 4 > 0
    y = np.where(seen, rng.normal(size=60), 50).astype(np.float32)
    chains = {"num_warmup": 300, "num_samples": 300, "num_chains": 2, "progress_bar": False}
    sampler = MCMC(NUTS(partly_seen, max_tree_depth=5), chain_method="vectorized", **chains)
    im = ImpactModel(partly_seen, jax.random.key(0), inference=sampler)
    given = {"X": X[:60], "y": y, "seen": seen, "by_handler": by_handler}
    report = im.fit_on_batch(**given, progress=False).diagnose(**given)
    missing = [f"y_unobserved[{row}]" for row in np.flatnonzero(~seen)]
    assert report.table.index.tolist() == ["mean", "sd", *([] if by_handler else missing)]
    assert report.table["r_hat"].max() < 1.05
    levels = {one.name: one.level for one in report}
    assert levels["calibration"] == levels["p-values"] == "green"


def of_one_mean(X, y=None):
    mean = numpyro.sample("mean", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(mean * X[:, 0], 1), obs=y)


def test_draws_of_a_diverged_model_are_judged_without_warnings_of_numpy():
    draws = np.where(np.arange(200) % 2, 3e38, 1.0).astype(np.float32)
    im = model(of_one_mean, AutoNormal(of_one_mean)).set_posterior_sample({"mean": draws})
    assert im.diagnose(X * 100, Y, rng_key=KEY).level == "red"


def _censored(kind):
    def kernel(X, seen, y=None):
        rate = jnp.exp(numpyro.sample("level", dist.Normal(0, 1)) + 0 * X[:, 0])
        with numpyro.plate("row", X.shape[0]):
            times = dist.Exponential(rate)
            numpyro.sample("y", kind(times, censored=1 - seen), obs=y)

    return kernel


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "bound"),
    [(dist.RightCensoredDistribution, np.minimum), (dist.LeftCensoredDistribution, np.maximum)],
)
def test_censored_values_are_judged_by_what_lies_beyond_their_bounds(kind, bound):
    rng = np.random.default_rng(0)
    limits, kernel = rng.exponential(1.5, 300), _censored(kind)
    for times, level in ((rng.exponential(size=300), "green"), (rng.weibull(3, 300), "red")):
        y = bound(times, limits).astype(np.float32)
        given = {"seen": (y == times.astype(np.float32)).astype(np.float32)}
        draws = {"level": rng.normal(0, 0.05, 400).astype(np.float32)}
        im = model(kernel, AutoNormal(kernel)).set_posterior_sample(draws)
        report = im.diagnose(X, y, rng_key=KEY, **given)
        assert report["calibration"].level == level
        assert "a censored value lies beyond its bound" in report["calibration"].text
        assert report["p-values"].level == "unjudged"
        assert "of y were not judged: some of its values are bounds" in report["p-values"].text
    report = im.diagnose(X, times.astype(np.float32), rng_key=KEY, seen=np.ones(300, np.float32))
    assert report["p-values"].level != "unjudged"


def of_intervals(X, y=None):
    rate = jnp.exp(numpyro.sample("level", dist.Normal(0, 1)) + 0 * X[:, 0])
    with numpyro.plate("row", X.shape[0]):
        times = dist.Exponential(rate)
        no = jnp.zeros(X.shape[0])
        numpyro.sample("y", dist.IntervalCensoredDistribution(times, no, no), obs=y)


def test_predictions_of_intervals_are_not_judged():
    draws = {"level": np.random.default_rng(0).normal(0, 0.05, 400).astype(np.float32)}
    lower = np.random.default_rng(1).poisson(1, 300).astype(np.float32)
    im = model(of_intervals, AutoNormal(of_intervals)).set_posterior_sample(draws)
    found = im.diagnose(X, np.stack([lower, lower + 1], 1), rng_key=KEY)["predictions"]
    assert found.level == "amber"
    assert "not judged: values of the output are intervals" in found.text


@pytest.mark.slow
def test_outcomes_that_are_not_judged_are_named():
    outliers = np.where(np.arange(300) % 30, Y, 100.0).astype(np.float32)
    im = model(of_mean_and_another, AutoNormal(of_mean_and_another))
    im.fit_on_batch(X, Y, m=outliers, num_steps=2_000, progress=False)
    found = im.diagnose(X, Y, m=outliers, rng_key=KEY)["other outcomes"]
    assert found.level == "amber"
    assert "observes 'M' too" in found.text
    assert "return_sites=['M']), without 'm'" in found.advice


@pytest.mark.slow
def test_one_chain_without_statistics_is_judged_by_its_halves():
    """BarkerMH, HMCGibbs and HMCECS report none: nothing was said of how their draws mix."""

    def kernel(X, y=None):
        slope = numpyro.sample("slope", dist.Normal())
        with numpyro.plate("row", X.shape[0]):
            numpyro.sample("y", dist.Normal(slope * X, 1.0), obs=y)

    x = np.linspace(-1, 1, 40, dtype=np.float32)
    chain = MCMC(BarkerMH(kernel), num_warmup=1, num_samples=40, progress_bar=False)
    im = ImpactModel(kernel, jax.random.key(0), inference=chain)
    im.fit_on_batch(x, 20 * x, progress=False)
    report = im.diagnose(x, 20 * x, progress=False)
    assert "of the halves of one chain" in report["R-hat"].text
    assert report["R-hat"].level == "red"
    assert "posterior" not in {finding.name for finding in report}
    assert "r_hat" in im.summary()
