"""Trees that ArviZ reads as they are."""

from __future__ import annotations

import arviz_stats as azs
import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpyro.infer import HMC, MCMC

from aimz_lab import ArrayDataset, ArrayLoader, ImpactModel
from tests.runs import mean_field_model

azp = pytest.importorskip("arviz_plots")

pytestmark = pytest.mark.allow_rank_promotion  # NumPyro's guides draw with a sample shape

X = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
Y = (X.sum(1) + 0.5 * np.random.default_rng(1).normal(size=40)).astype(np.float32)


def kernel(X, y=None):
    beta = numpyro.sample("beta", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ beta, 0.5), obs=y)


@pytest.fixture(scope="module", params=["SVI", pytest.param("MCMC", marks=pytest.mark.slow)])
def fitted(request):
    with jax.numpy_rank_promotion("allow"):
        if request.param == "SVI":
            return mean_field_model(kernel).fit_on_batch(X, Y, num_steps=500, progress=False)
        sampler = HMC(kernel, num_steps=7, trajectory_length=None)  # compiles faster than NUTS
        mcmc = MCMC(
            sampler, num_warmup=100, num_samples=100, num_chains=2,
            chain_method="vectorized", progress_bar=False,
        )  # fmt: skip
        return ImpactModel(kernel, jax.random.key(0), inference=mcmc).fit_on_batch(X, Y)


@pytest.fixture(scope="module", params=["memory", "persistent"])
def tree(fitted, request):
    return fitted.predict(X, store=request.param, progress=False)


def exact_mean():
    return np.linalg.solve(X.T @ X / 0.25 + np.eye(2), X.T @ Y / 0.25)


@pytest.mark.slow
@pytest.mark.parametrize("tree", ["persistent"], indirect=True)  # one in memory has its values
def test_summary(fitted, tree):
    summary = azs.summary(tree, round_to="none")
    np.testing.assert_allclose(summary["mean"], exact_mean(), atol=0.06)
    if fitted.describe()["num_chains"] > 1:
        assert (summary["r_hat"].astype(float) < 1.1).all()


# Of 40 rows, one may have few draws that count, by chance.
@pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto:UserWarning")
def test_loo(fitted):
    tree = fitted.log_likelihood(X, Y, progress=False)
    loo = azs.loo(tree)
    density = tree["log_likelihood"]["y"].values.reshape(-1, 40)
    in_sample = (np.logaddexp.reduce(density, 0) - np.log(len(density))).sum()
    assert in_sample - 10 < loo.elpd < in_sample
    np.testing.assert_array_equal(tree["observed_data"]["y"], Y)


def test_predictive_check(tree):
    np.testing.assert_array_equal(tree["observed_data"]["y"], Y)
    np.testing.assert_array_equal(tree["constant_data"]["X"], X)
    azp.plot_ppc_dist(tree, backend="none")


def test_loo_pit(fitted, tree):
    whole = tree.copy()
    whole["log_likelihood"] = fitted.log_likelihood(X, Y, progress=False)["log_likelihood"]
    pit = azs.loo_pit(whole)["y"]
    assert pit.shape == (40,)
    assert 0.3 < pit.mean() < 0.7


@pytest.mark.slow
def test_observed_data_is_of_these_rows_and_of_no_others():
    im = mean_field_model(kernel)
    frame = pd.DataFrame(X, index=np.arange(40) + 100)
    im.fit(frame, Y, epochs=1, batch_size=20, num_samples=3, progress=False)

    def groups(X, **options):
        return im.predict(X, store="memory", progress=False, **options)

    same = groups(X.astype(np.float64))["observed_data"]["y"]
    np.testing.assert_array_equal(same, Y)
    assert groups(frame)["observed_data"]["y"]["obs"].values[0] == 100
    other = X.copy()
    other[7, 1] += 1
    for tree in (
        groups(other),
        groups(X[:39]),
        groups(X, in_sample=False),
        groups(X, intervention={"beta": np.zeros(2)}),
        groups([{"X": X}]),
    ):
        assert "observed_data" not in tree
    out_of_sample = groups(X, in_sample=False)
    np.testing.assert_array_equal(out_of_sample["predictions_constant_data"]["X"], X)


@pytest.mark.parametrize("shuffle", [False, True])
def test_outputs_of_a_loader_come_in_the_order_of_the_draws(shuffle):
    im = mean_field_model(kernel).set_posterior_sample({"beta": np.ones((3, 2), np.float32)})
    loader = ArrayLoader(ArrayDataset(X=X, y=Y), jax.random.key(1), batch_size=7, shuffle=shuffle)
    for tree in (im.predict(loader, progress=False), im.log_likelihood(loader, progress=False)):
        np.testing.assert_array_equal(np.sort(tree["observed_data"]["y"]), np.sort(Y))
        row = int(np.flatnonzero(tree["observed_data"]["y"].values[5] == Y)[0])
        np.testing.assert_array_equal(tree["constant_data"]["X"][5], X[row])
        assert row == 5 or shuffle
    residual = tree["observed_data"]["y"] - tree["constant_data"]["X"].sum("X_dim_0")
    density = -0.5 * (residual / 0.5) ** 2 - np.log(0.5 * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(tree["log_likelihood"]["y"][0, 0], density, rtol=1e-4, atol=1e-4)


def test_a_matrix_of_one_column_without_a_name_is_kept():
    def kernel(X, y=None):
        slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
        with numpyro.plate("row", X.shape[0]):
            numpyro.sample("y", dist.Normal(X[:, 0] * slope, 1.0), obs=y)

    im = mean_field_model(kernel)
    im.set_posterior_sample({"slope": np.linspace(0, 1, 10, dtype=np.float32)})
    X = np.ones((5, 1), np.float32)
    tree = im.predict(X, in_sample=False, store="memory", progress=False)
    np.testing.assert_array_equal(tree["predictions_constant_data"]["X"], X)
