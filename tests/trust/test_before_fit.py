"""The preflight of a fit: what it finds, and what it forecasts."""

from __future__ import annotations

import re
import signal

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pandas as pd
import pytest
from numpyro.infer import HMC, MCMC, SVI, Trace_ELBO, init_to_median
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import ArrayDataset, ArrayLoader, Callback, ImpactModel, TableSpec, lab
from aimz_lab.errors import DataTypeError, TrustError
from aimz_lab.inference.run.live_runs import live_runs
from aimz_lab.trust import before_fit
from aimz_lab.trust.columns import column_findings, column_notes
from tests import kernels

X, Y = kernels.regression_data(n=400, k=3)
X_LONG = np.linspace(-1, 1, 2000)
pytestmark = pytest.mark.allow_rank_promotion  # NumPyro's autoguides broadcast


def model(kernel=kernels.regression, guide=None, **options):
    svi = SVI(kernel, guide or AutoNormal(kernel), optax.adam(0.01), Trace_ELBO())
    return ImpactModel(kernel, jax.random.key(0), svi=svi, **options)


def with_own_values(X, y=None):
    with numpyro.plate("obs", X.shape[0]):
        own = numpyro.sample("own", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(own, 1.0), obs=y)


def lagged(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    with numpyro.plate("obs", X.shape[0]):
        before = jnp.concatenate([jnp.zeros(1), X[:-1, 0]])
        numpyro.sample("y", dist.Normal(slope * before, 1.0), obs=y)


def by_group(X, group, y=None):
    level = numpyro.sample("level", dist.Normal(0, 1).expand([3]).to_event(1))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(level[group], 1.0), obs=y)


def treated(X, treat, y=None):
    effect = numpyro.sample("effect", dist.Normal(0, 1))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(X[:, 0] + effect * treat, 1.0), obs=y)


@pytest.fixture
def brief(monkeypatch):
    """A trial that is shorter than a second, for what does not depend on its steps."""
    monkeypatch.setattr(before_fit, "PROBE_S", 0.05)


@pytest.fixture(scope="module")
def good():
    im = model()
    before = im.rng_key
    with jax.numpy_rank_promotion("allow"):
        report = im.check(X, Y, batch_size=50, epochs=200)
    assert im.last_run is None
    assert not im.is_fitted()
    assert (im.rng_key == before).all()
    return report


@pytest.mark.slow
def test_a_fit_without_faults_is_green(good):
    assert good.level == "green", good
    assert good.ok
    good.raise_if_bad()
    assert "stands for all rows (weight 8)" in good["scaling"].text
    assert good["rows"].text.endswith("its program proves")
    assert good["prior"].level == good["columns"].level == "green"
    assert good["forecast"].text in good._repr_html_()
    found = [one.text.partition(" takes")[0] for one in good.findings if one.name == "jax"]
    assert found == ([f"JAX {jax.__version__}"] if jax.__version_info__ < (0, 12) else [])


@pytest.mark.slow
@pytest.mark.usefixtures("brief")
def test_forecasts_of_memory_hold_within_a_factor_of_two():
    n = 30_000
    x, y = kernels.regression_data(n=n, k=3)
    forecast = model().check(x, y, epochs=60, num_samples=500).forecast
    im = model().fit(x, y, epochs=2, num_samples=500, progress=False)
    tree = im.predict(x, store="memory", progress=False, return_sites="y")
    assert 0.5 < forecast.predict_bytes / tree.posterior_predictive.y.nbytes < 2
    # Times are those of a machine that others may use; what they were is for a benchmark.
    assert forecast.fit_seconds > 0
    assert forecast.predict_seconds > 0
    assert forecast.fit_bytes > x.nbytes + y.nbytes


REFUSED = {
    "a column for a vector": (kernels.regression, {"y": Y[:, None]}, "(n, 1)"),
    "not finite": (kernels.regression, {"y": np.where(Y > 1, np.nan, Y)}, "NaN or infinite"),
    "rows that depend on others": (lagged, {"batch_size": 50}, "computes across rows"),
    "a value per row": (with_own_values, {"batch_size": 50}, "one value per row"),
    "a code out of range": (by_group, {"group": np.arange(400) % 4}, "group"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_fit_would_refuse_is_red(case):
    kernel, options, says = REFUSED[case]
    report = model(kernel).check(X, **{"y": Y, **options})
    assert report.level == "red"
    assert says in report.verdict
    with pytest.raises(TrustError, match="would not work"):
        report.raise_if_bad()


@pytest.mark.slow
def test_columns_scaling_and_prior_are_judged():
    odd = np.concatenate([X, X[:, :1] + X[:, 1:2], 1e4 * X[:, 2:3]], axis=1)
    frame = pd.DataFrame(odd, columns=["a", "b", "c", "sum", "large"])
    report = model().check(frame, 1e6 * Y, batch_size=50, scale="none")
    found = {one.name: one for one in report}
    assert found["scaling"].level == "red"
    assert "2.8 times too wide" in found["scaling"].text
    assert found["prior"].level == "red"
    columns = " ".join(one.text for one in report if one.name == "columns")
    assert "collinear" in columns
    assert "the spread of large is" in columns


CONSTANT = {
    "whole numbers": ({"treat": np.ones(2000, int)}, {}, "of treat, which is"),
    "flags and numbers": ({"a": np.zeros(2000, bool), "b": np.full(2000, 0.5)}, {}, "of a, b, "),
    "a column": ({"Z": np.c_[X_LONG, np.full(2000, 5)]}, {"Z": ("age", "income")}, "of income, "),
    "a column of ones": ({"Z": np.c_[X_LONG, np.ones(2000)]}, {"Z": ("age", "treat")}, "of treat"),
}


@pytest.mark.parametrize("case", CONSTANT)
def test_inputs_of_one_value_are_told(case):
    rows, columns, says = CONSTANT[case]
    (found,) = column_findings({**rows, "y": X_LONG}, columns, "y")
    assert found.level == "amber"
    assert says in found.text


VARYING = {
    "a value in few rows": ({"treat": np.arange(2000) == 1}, {}),
    "an intercept": ({"Z": np.c_[X_LONG, np.ones(2000)]}, {}),
    "an intercept by its name": ({"Z": np.c_[X_LONG, np.ones(2000)]}, {"Z": ("age", "Intercept")}),
}


@pytest.mark.parametrize("case", VARYING)
def test_inputs_that_vary_and_intercepts_are_not_told(case):
    rows, columns = VARYING[case]
    assert not column_findings({**rows, "y": X_LONG}, columns, "y")


def _levels(n):
    """Columns of 0 and 1, one a level: they add up to 1 in each row."""
    return np.eye(n)[np.arange(2000) % n]


AGES = np.random.default_rng(5).uniform((20, 1, 0), (60, 9, 1), (2000, 3))
COLLINEAR = {
    "alone": (
        np.c_[AGES, AGES[:, 0] + AGES[:, 1]],
        "one of a, b, d follows from the others: they",
    ),
    "a shift": (np.c_[AGES, AGES[:, 1] - 32], "one of b, d follows from the other and the interc"),
    "a scale": (np.c_[AGES, 3 * AGES[:, 1]], "one of b, d follows from the other: they"),
    "two pairs": (np.c_[AGES[:, :2], AGES[:, :2]], "follows from the other: they"),
    "centred": (np.c_[AGES, AGES[:, 1]] - AGES[:, [0, 1, 2, 1]].mean(0), "from the other: they"),
    "levels": (
        np.c_[AGES, _levels(4)],
        "one of d, e, f, g follows from the others and the intercept: they are collinear",
    ),
    "a level in one row": (
        np.eye(4)[np.where(np.arange(20_000) == 9_000, 3, np.arange(20_000) % 3)],
        "one of a, b, c, d follows from the others and the intercept: they are collinear",
    ),
    "many levels": (
        _levels(7),
        "one of a, b, c, d, e and 2 more follows from the others and the intercept: they",
    ),
}


@pytest.mark.parametrize("case", COLLINEAR)
def test_all_columns_that_are_collinear_are_told_and_no_others(case):
    values, says = COLLINEAR[case]
    columns = {"X": tuple("abcdefg")[: values.shape[1]]}
    (found,) = column_findings({"X": values, "y": X_LONG}, columns, "y")
    assert says in found.text


def test_names_of_columns_are_as_they_are_in_a_sentence():
    wide = np.c_[AGES, AGES[:, 0] + AGES[:, 1], 1e6 * AGES[:, 2]][:, [0, 1, 3, 4]]
    notes = column_notes({"X": wide, "y": X_LONG}, {"X": ("age", "inc", "both", "large")}, "y")
    assert re.match(r"The spread of large is [\d,]+ times that of inc\.", notes[0])
    assert notes[1].startswith("One of age, inc, both follows")


def test_a_fit_notes_an_argument_of_one_value():
    im = model(treated).fit(X, Y, treat=np.ones(len(Y), int), epochs=1, progress=False)
    assert im.last_run.notes == [
        "The data says nothing of the effect of treat, which is the same in all rows."
    ]


@pytest.mark.slow
def test_an_output_of_one_value_has_no_range_to_compare_with():
    prior = model().check(X, np.full_like(Y, 0.1), batch_size=len(Y), epochs=1)["prior"]
    assert prior.level == "green"
    assert "times the range" not in prior.text


def counts(X, y=None):
    slopes = numpyro.sample("slopes", dist.Normal(0, 2).expand([3]).to_event(1))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Poisson(jnp.exp(X @ slopes)), obs=y)


@pytest.mark.slow
def test_a_fit_that_is_stuck_above_one_distribution_for_all_rows_says_so():
    """Log-linear counts; one row far out has all of the first losses, and the steps go astray."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 3)).astype(np.float32)
    x[0, 0], x[:, 2] = 14, 1
    y = rng.poisson(np.exp(np.minimum(1 + 0.3 * x[:, 0], 5)))
    few = {"batch_size": 100, "epochs": 100, "num_samples": 50}  # large counts are drawn slowly
    stuck, sound = (
        model(counts),
        model(counts, guide=AutoNormal(counts, init_loc_fn=init_to_median)),
    )
    (note,) = stuck.fit(x, y, progress=False, **few).last_run.notes
    assert re.match(r"The loss ended at [\d,]+ per row, and one geometric distribution for", note)
    assert stuck.check(x, y, **few)["loss"].level == "amber"
    report = stuck.diagnose(x, y, num_draws=100)
    assert report["loss"].level == "amber"
    assert "init_to_median" in report.next_steps[0]
    assert sound.fit(x, y, progress=False, **few).last_run.notes == []
    assert "loss" not in [one.name for one in sound.check(x, y, **few)]


def in_euros(X, y=None):
    level = numpyro.sample("level", dist.Normal(0, 5000))
    sd = numpyro.sample("sd", dist.HalfNormal(3000))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(level, sd), obs=y)


@pytest.mark.slow
def test_a_fit_that_stops_early_above_the_own_family_of_its_output_says_so():
    """Steps of 0.01 take long to a level of thousands; the loss falls less than it is noisy."""
    costs = np.random.default_rng(0).normal(3000, 2000, size=400).astype(np.float32)
    im = model(in_euros)
    stop = lab.EarlyStopping(restore_best=True)
    run = im.fit(X, costs, batch_size=50, epochs=20_000, callbacks=[stop], progress=False).last_run
    assert run.status == "early_stopped"
    assert "one normal distribution for all rows has 9" in run.notes[0]
    assert run.best_so_far.value < run.constant_losses[1].value + 1
    loss = im.diagnose(X, costs, num_draws=100)["loss"]
    assert loss.level == "amber"
    assert "one normal distribution for all rows has 9" in loss.text


@pytest.mark.slow
def test_a_kernel_with_a_known_sd_is_not_held_to_its_family():
    few = {"num_steps": 5, "progress": False, "num_samples": 10}
    losses = model().fit_on_batch(X, Y, **few).last_run.constant_losses
    assert [one.is_of_family for one in losses] == [False]


def of_weighed_rows(X, y=None):
    slopes = numpyro.sample("slopes", dist.Normal(0, 2).expand([3]).to_event(1))
    with numpyro.plate("obs", X.shape[0]), numpyro.handlers.scale(scale=100.0):
        numpyro.sample("y", dist.Normal(X @ slopes, 1.0), obs=y)


def of_logs(X, y=None):
    slopes = numpyro.sample("slopes", dist.Normal(0, 2).expand([3]).to_event(1))
    logs = None if y is None else jnp.log(y)
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ slopes, 1.0), obs=logs)


def with_a_factor(X, y=None):
    numpyro.factor("more", 1e6)
    kernels.regression(X, y)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [with_own_values, of_weighed_rows, of_logs, with_a_factor])
def test_a_loss_of_more_than_the_output_is_not_compared(kernel):
    few = {"num_steps": 5, "progress": False, "num_samples": 10}
    assert model().fit_on_batch(X, Y, **few).last_run.constant_losses
    assert not model(kernel).fit_on_batch(X, np.exp(Y), **few).last_run.constant_losses


@pytest.mark.slow
def test_one_prior_and_table_have_one_verdict_and_no_run_of_the_page():
    few = {"num_steps": 5, "progress": False, "num_samples": 10}
    y = np.random.default_rng(0).poisson(2, len(X))
    im, numbers = model(counts), []

    class Look(Callback):
        def on_steps_end(self, run, steps):
            numbers.append(live_runs()[-1].number)

    look = Look()
    im.fit_on_batch(X, y, callbacks=[look], **few)
    found = im.check(X, y, num_steps=5, num_samples=10)["prior"]
    assert model(counts).check(X, y, num_steps=5, num_samples=10)["prior"] == found
    assert "99% of prior predictions are within 0 and" in found.text
    assert "a range that 1,000 draws tell to" in found.text
    im.fit_on_batch(X, y, callbacks=[look], **few)
    assert max(numbers) == min(numbers) + 1  # the trials of a check are not counted


@pytest.mark.slow
def test_fit_notes_columns_by_itself():
    same = np.repeat(X[:, :1], 2, axis=1)
    notes = model().fit(same, Y, progress=False, num_samples=10).last_run.notes
    assert notes == [
        "One of column 0 of X, column 1 of X follows from the other: they are collinear."
    ]
    assert model().fit(X, Y, progress=False, num_samples=10).last_run.notes == []


@pytest.mark.slow
@pytest.mark.usefixtures("brief")
def test_tables_loaders_streams_and_chains_are_checked(good):
    del good  # it has compiled the program
    loader = ArrayLoader(ArrayDataset(X=X, y=Y), jax.random.key(0), batch_size=50)
    assert model().check(loader).level == "green"
    stream = model().check(lambda: iter([{"X": X, "y": Y}]), n_obs=400)
    assert stream["prior"].level == "unjudged"
    with pytest.raises(DataTypeError, match="can be read only once"):
        model().check(iter([{"X": X, "y": Y}]))
    assert model().check(X, Y, num_steps=500)["batches"].level == "green"
    frame = pd.DataFrame(X, columns=["a", "b", "c"]).assign(y=Y)
    table = TableSpec(X="0 + a + b + c", y="y")
    assert model(table=table).check(frame).ok
    hmc = HMC(kernels.regression, trajectory_length=1.5)
    sampler = MCMC(hmc, num_warmup=50, num_samples=50, progress_bar=False)
    chains = ImpactModel(kernels.regression, jax.random.key(0), sampler).check(X, Y)
    assert chains["forecast"].level == "green", chains
    # The trial stops its own run in the warm-up, of which nothing is to be told.
    assert "warning" not in [one.name for one in chains], chains


@pytest.mark.slow
@pytest.mark.usefixtures("brief")
def test_chains_that_the_trial_leaves_in_their_warm_up_are_checked():
    hmc = HMC(kernels.regression, trajectory_length=1.5)
    sampler = MCMC(hmc, num_warmup=10**6, num_samples=1, progress_bar=False)
    frame = pd.DataFrame({"a": X[:, 0], "same": 1.0, "y": Y})
    table = TableSpec(X="0 + a + same", y="scale(y)")
    im = ImpactModel(kernels.regression, jax.random.key(0), sampler, table=table)
    report = im.check(frame)
    assert not im.is_fitted()
    assert report["prior"].text.startswith("99% of prior predictions are within")
    assert "same" in report["columns"].text
    assert report.forecast.fit_seconds > 10
    assert report.forecast.predict_seconds is None


def test_an_interrupt_ends_the_check_and_not_a_fit_that_nobody_asked_for(monkeypatch):
    tried = []

    def interrupt(probe, run, steps):
        tried.append(run)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("aimz_lab.trust.trial_fit.Probe.on_steps_end", interrupt)
    im = model()
    with pytest.raises(KeyboardInterrupt, match=r"^The check was interrupted; the model is as it"):
        im.check(X, Y)
    assert len(tried) == 1
    assert im.last_run is None


def standardised(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    mean = slope * (X[:, 0] - X[:, 0].mean()) / X[:, 0].std()
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def to_first(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(slope * (X[:, 0] - X[0, 0]), 1.0), obs=y)


@pytest.mark.slow
def test_a_statistic_of_rows_is_amber_and_a_lag_is_not():
    options = {"num_steps": 5, "progress": False}
    for kernel in (standardised, to_first):
        report = model(kernel).check(X, Y, **options)
        assert report["rows"].level == "amber"
        assert "such as a mean of 'X' over the rows" in report["rows"].text
        assert "Compute it before" in report["rows"].advice
    assert "amber" not in {one.level for one in model(lagged).check(X, Y, **options).findings}
