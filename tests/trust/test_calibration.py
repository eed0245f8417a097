"""Simulation-based calibration: right inferences pass, wrong ones show their shape."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pandas as pd
import pytest
from numpyro.contrib.control_flow import scan
from numpyro.infer import HMC, MCMC, SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoLaplaceApproximation, AutoMultivariateNormal, AutoNormal

from aimz_lab import ImpactModel, TableSpec
from aimz_lab.errors import ArgumentError, DataTypeError, GuideError, KernelError
from aimz_lab.preparing import Preparation
from aimz_lab.trust import replications
from aimz_lab.trust.replications import _Clock

pytestmark = pytest.mark.allow_rank_promotion  # NumPyro's normal of many dimensions broadcasts

_rng = np.random.default_rng(0)
X = (_rng.normal(size=(30, 1)) + 0.3 * _rng.normal(size=(30, 2))).astype(np.float32)


def regression(X, y=None):
    beta = numpyro.sample("beta", dist.Normal(0, 1).expand([2]).to_event(1))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ beta, 1.0), obs=y)


def model(guide, kernel=regression):
    optimizer = optax.adam(optax.exponential_decay(0.05, 200, 0.5))
    return ImpactModel(
        kernel, jax.random.key(0), svi=SVI(kernel, guide(kernel), optimizer, Trace_ELBO())
    )


@pytest.mark.slow
def test_a_guide_that_can_be_the_posterior_has_uniform_ranks():
    im = model(AutoMultivariateNormal)
    before = im.rng_key
    report = im.calibrate(X, 100, num_steps=800, rng_key=jax.random.key(2))
    assert report.level == "green", report
    assert report.is_parallel
    assert report.ranks.shape == (100, 2)
    assert report.ranks.to_numpy().max() <= report.num_draws == 99
    assert all(curve.is_inside for curve in report.curves.values())
    assert not im.is_fitted()
    assert (im.rng_key == before).all()


@pytest.mark.slow
def test_a_factorised_guide_of_correlated_columns_is_too_narrow():
    """Talts et al. (2018), sec. 4.2: ranks of a posterior that is too narrow lie at both ends."""
    report = model(AutoNormal).calibrate(X, 100, num_steps=800, num_draws=49)
    assert report.level == "red"
    assert "too narrow" in report["beta[0]"].text
    assert "AutoMultivariateNormal" in report["beta[0]"].advice
    assert report.table["sd_ratio"].min() > 1.15
    ends = (report.ranks["beta[0]"] < 5) | (report.ranks["beta[0]"] > 44)
    assert ends.mean() > 0.3  # 0.2 if uniform


def four_means(X, y=None):
    means = numpyro.sample("means", dist.Normal(0, 1).expand([4]).to_event(1))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(means, 1.0).to_event(1), obs=y)


def right_narrow_wide_and_shifted(X, y=None):
    """The closed-form posterior of each mean: as it is, or made wrong."""
    numpyro.param("nothing", 0.0)
    sd = (1 + X.shape[0]) ** -0.5
    loc = y.sum(0) * sd**2 + sd * jnp.array([0.0, 0.0, 0.0, 1.0])
    widths = sd * jnp.array([1.0, 0.5, 2.0, 1.0])
    numpyro.sample("means", dist.Normal(loc, widths).to_event(1))


def model_of_four_means():
    svi = SVI(four_means, right_narrow_wide_and_shifted, optax.sgd(0.1), Trace_ELBO())
    return ImpactModel(four_means, jax.random.key(0), svi=svi)


@pytest.mark.slow
def test_wrong_posteriors_have_the_histograms_of_talts():
    """Talts et al. (2018), sec. 4.2: level, a valley, a hill, a slope."""
    report = model_of_four_means().calibrate(X[:4], 400, num_steps=1, rng_key=jax.random.key(0))
    bins = {name: np.bincount(ranks // 10, minlength=10) for name, ranks in report.ranks.items()}
    # The guide is none that leaves correlations out, so that to follow them is no advice.
    assert "Train longer" in report["means[1]"].advice
    named = {one.name: one.text.split(" (")[0] for one in report if one.level == "red"}
    assert named == {
        "means[1]": "the posterior of means[1] is too narrow",
        "means[2]": "the posterior of means[2] is too wide",
        "means[3]": "the posterior of means[3] is too high",
    }
    assert report.curves["means[0]"].is_inside
    assert bins["means[0]"].min() > 20  # of 40 expected
    assert min(bins["means[1]"][[0, 9]]) > 2 * max(bins["means[1]"][3:7])
    assert min(bins["means[2]"][4:6]) > 3 * max(bins["means[2]"][[0, 9]])
    assert bins["means[3]"][0] > 2 * bins["means[3]"][5] > 4 * bins["means[3]"][9]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [3, 7, 9])  # their mean ranks are off by chance
def test_a_narrow_posterior_is_not_called_shifted_by_few_replications(seed):
    report = model_of_four_means().calibrate(X[:4], 25, num_steps=1, rng_key=jax.random.key(seed))
    worst = next(one for one in report if one.name == "means[1]")
    assert "too narrow" in worst.text


@pytest.mark.slow
def test_chains_have_uniform_ranks_and_too_short_ones_have_not():
    def one(X, y=None):
        mean = numpyro.sample("mean", dist.Normal(0, 10))
        with numpyro.plate("obs", X.shape[0]):
            numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)

    def of(sampler, warmup):
        mcmc = MCMC(sampler, num_warmup=warmup, num_samples=100, progress_bar=False)
        return ImpactModel(one, jax.random.key(0), mcmc).calibrate(X[:5], 60, num_draws=24)

    assert of(HMC(one, trajectory_length=1.5), 100).level == "green"
    one_short_step = {"step_size": 1e-4, "num_steps": 1, "trajectory_length": None}
    stuck = of(HMC(one, adapt_step_size=False, **one_short_step), 1)
    assert stuck.level == "red"
    assert "Run longer chains" in stuck.next_steps[0]


@pytest.mark.slow
def test_replications_of_fewer_steps_than_the_model_had_are_told():
    rows, y = X[:4], np.ones((4, 4), np.float32)
    im = model_of_four_means()
    im.fit_on_batch(rows, y, num_steps=40, num_samples=5, progress=False)
    report = im.calibrate(rows, 20, num_steps=1, num_draws=20)
    assert report["training"].level == "amber"
    assert "trained for 1 steps, and the model for 40" in report["training"].text
    assert "num_steps=40" in report["training"].advice
    same = im.calibrate(rows, 20, num_steps=40, num_draws=20)
    assert "training" not in {one.name for one in same}


@pytest.mark.slow
def test_replications_begin_apart_and_their_entries_have_the_names_of_levels():
    def by_region(X, region, n_regions, y=None):
        base = numpyro.sample("base", dist.Normal(0, 1).expand([n_regions]).to_event(1))
        with numpyro.plate("obs", X.shape[0]):
            numpyro.sample("y", dist.Normal(base[region] + 0 * X, 1.0), obs=y)

    towns = [f"town {i}" for i in range(8)]
    frame = pd.DataFrame({"age": np.arange(16.0), "region": towns * 2, "spend": np.arange(16.0)})
    spec = TableSpec(X="age", y="spend", region="index(region)", n_regions="levels(region)")
    svi = SVI(by_region, AutoNormal(by_region), optax.adam(1e-3), Trace_ELBO())
    im = ImpactModel(by_region, jax.random.key(0), svi=svi, table=spec)
    im.fit_on_batch(frame, num_steps=2, progress=False)
    report = im.calibrate(frame, 60, num_steps=2)
    assert list(report.ranks) == [f"base[{town}]" for town in towns]
    # A start that all had in common would put some entries far off to one side.
    assert (report.table["mean_rank"] - 0.5).abs().max() < 0.25
    assert "corrected for 8 entries" in report.verdict


def test_bad_calls_are_refused():
    im = model(AutoNormal)
    for option in ({"n": 5}, {"num_draws": 5}, {"num_steps": 0}):
        with pytest.raises(ArgumentError, match=next(iter(option))):
            im.calibrate(X, **option)
    with pytest.raises(DataTypeError, match="stream"):
        im.calibrate(lambda: iter([{"X": X}]))
    with pytest.raises(GuideError, match="keeps the data"):
        model(AutoLaplaceApproximation).calibrate(X)

    nothing = pytest.warns(UserWarning, match="in model but not guide")  # NumPyro's
    with nothing, pytest.raises(GuideError, match="no draws of 'beta'"):
        model(lambda _: lambda X, y=None: None).calibrate(X)

    def own(X, y=None):
        with numpyro.plate("obs", X.shape[0]):
            numpyro.sample("y", dist.Normal(numpyro.sample("own", dist.Normal(0, 1)), 1.0), obs=y)

    with pytest.raises(KernelError, match="has none"):
        model(AutoNormal, own).calibrate(X)


def of_two(X, W=None, y=None):
    level = numpyro.sample("level", dist.Normal(0, 1))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("x", dist.Normal(0, 1), obs=X[:, 0])  # depends on nothing
        numpyro.sample("w", dist.Normal(2 * level, 1), obs=W)
        numpyro.sample("y", dist.Normal(level, 1), obs=y)


def with_a_factor(X, weight, y=None):
    level = numpyro.sample("level", dist.Normal(0, 1))
    numpyro.factor("pull", -weight * (level - 1) ** 2)
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(level, 1), obs=y)


def with_a_scan(X, W, y=None):
    level = numpyro.sample("level", dist.Normal(0, 1))

    def step(before, w):
        return before, numpyro.sample("w", dist.Normal(level + before, 1), obs=w)

    scan(step, 0.0, W)
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(level, 1), obs=y)


def of_bounds(X, seen, y=None):
    level = numpyro.sample("level", dist.Normal(0, 1))
    with numpyro.plate("obs", X.shape[0]):
        values = dist.RightCensoredDistribution(dist.Normal(level, 1), censored=1 - seen)
        numpyro.sample("y", values, obs=y)


@pytest.mark.parametrize(
    ("kernel", "arguments", "said"),
    [
        (of_bounds, {"seen": (X[:, 0] > 0) * 1.0}, "draws values that are not censored"),
        (of_two, {"W": X[:, 0] + 3}, "'w' is observed too .* if this one allows it, pass W=None"),
        (with_a_scan, {"W": X[:, 0]}, "'w' is observed too"),
        (with_a_factor, {"weight": 2.0}, "the factor 'pull' changes that prior"),
    ],
)
def test_what_true_values_do_not_make_is_refused(kernel, arguments, said):
    """Exact draws would have ranks that are far from uniform."""
    with pytest.raises(KernelError, match=said):
        model(AutoNormal, kernel).calibrate(X, **arguments)


@pytest.mark.slow
def test_observed_sites_that_depend_on_nothing_do_not_matter():
    report = model(AutoMultivariateNormal, of_two).calibrate(X[:4], 50, num_steps=800)
    assert report.level == "green", report
    assert list(report.ranks) == ["level"]


def test_replications_tell_how_far_they_are():
    telling = Preparation("sales", lambda _: None)
    with telling.under_way():
        clock = _Clock(130)
    clock.begin(64)
    told = []
    for step in (0, 50, 0, 50, 0, 50):
        clock._tell(np.int32(step), 100)
        told.append((telling.activity, telling._share))
    assert told[0] == ("fitting replications 1 to 64 of 130", 0)
    assert told[3] == ("fitting replications 65 to 128 of 130", 0.5)
    assert told[5] == ("fitting replications 129 to 130 of 130", pytest.approx(2.5 / 3))


@pytest.mark.slow
@pytest.mark.parametrize("inference", ["svi", "mcmc"])
def test_each_group_of_replications_tells_its_steps_once(monkeypatch, inference):
    seen = []
    monkeypatch.setattr(_Clock, "_tell", lambda self, step, of: seen.append((int(step), of)))
    monkeypatch.setattr(replications, "_MOST_AT_ONCE", 12)
    chains = MCMC(
        HMC(regression, num_steps=1, trajectory_length=None),
        num_warmup=60,
        num_samples=10,
        progress_bar=False,
    )
    of_chains = ImpactModel(regression, jax.random.key(0), chains)
    im = model(AutoNormal) if inference == "svi" else of_chains
    im.calibrate(X, 20, num_steps=100, num_draws=20, progress=False)
    jax.effects_barrier()
    steps, [of] = [step for step, _ in seen], {of for _, of in seen}
    assert sorted(steps) == sorted(2 * list(range(0, of, max(of // 50, 1))))
