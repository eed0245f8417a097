"""What other tools of this kind get wrong, one by one."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import polars as pl
import pytest
import xarray as xr
from numpyro import handlers
from numpyro.infer import SVI, Predictive, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import ArrayDataset, ArrayLoader, ImpactModel
from aimz_lab.errors import DataError, PerformanceWarning, SiteError
from tests.kernels import regression

pytestmark = pytest.mark.allow_rank_promotion  # NumPyro's guides draw with a sample shape

rng = np.random.default_rng(0)
N = 300
X = rng.normal(size=(N, 2)).astype(np.float32)
Y = rng.normal(size=N).astype(np.float32)
KEY = jax.random.key(1)


def model(kernel, draws=None):
    svi = SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(0.1), Trace_ELBO())
    im = ImpactModel(kernel, jax.random.key(0), svi=svi)
    return im if draws is None else im.set_posterior_sample(draws)


def beta_draws(count=20):
    return {"beta": rng.normal(size=(count, 2)).astype(np.float32)}


def predicted(im, *args, site="y", **options):
    options = {"store": "memory", "progress": False, "rng_key": KEY} | options
    tree = im.predict(*args, **options)
    return tree["posterior_predictive"][site]


def by_group(X, group, n_groups=3, y=None):
    with numpyro.plate("groups", n_groups):
        level = numpyro.sample("level", dist.Normal(0.0, 1.0))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(level[group], 0.1), obs=y)


class TestGroupsThatWereNotTrainedOn:
    """JAX reads the last entry for an index beyond the end; that is not this group's level."""

    draws: ClassVar = {"level": rng.normal(size=(10, 3)).astype(np.float32)}
    group = np.arange(N) % 3

    def test_known_groups_predict(self):
        y = predicted(model(by_group, self.draws), X, group=self.group)
        np.testing.assert_allclose(y[0, :, 2], self.draws["level"][:, 2], atol=0.6)

    @pytest.mark.parametrize("bad", [3, -4])
    def test_unknown_groups_are_refused_in_arrays(self, bad):
        group = self.group.copy()
        group[123] = bad
        im = model(by_group, self.draws)
        with pytest.raises(DataError, match=f"'group' points at entry {bad} in row 123.* has 3 "):
            im.predict(X, group=group)
        with pytest.raises(DataError, match="row 123"):
            im.log_likelihood(X, Y, group=group)

    def test_and_in_batches(self):
        group = self.group.copy()
        group[123] = 3
        loader = ArrayLoader(ArrayDataset(X=X, group=group), KEY, batch_size=50, shuffle=False)
        with pytest.raises(DataError, match="'group' points at entry 3 in row 123"):
            model(by_group, self.draws).predict(loader, progress=False)

    def test_also_after_calls_that_were_fine(self):
        im = model(by_group, self.draws)
        im.predict_on_batch({"X": X, "y": Y, "group": self.group})
        with pytest.raises(DataError, match="'group' points at entry 3 in row 0"):
            im.predict_on_batch({"X": X, "y": Y, "group": self.group + 3})

    def test_and_in_training(self):
        with pytest.raises(DataError, match="'group' points at entry 2 in row 2,.* has 2 "):
            model(by_group).fit(X, Y, group=self.group, n_groups=2, progress=False)


@pytest.mark.parametrize("argument", ["intervention", "condition", "return_sites"])
def test_misspelt_sites_are_refused_with_those_there_are(argument):
    value = ["bta"] if argument == "return_sites" else {"bta": np.zeros(2)}
    im = model(regression, beta_draws())
    before = im.rng_key
    for method in (im.predict, im.predict_on_batch):
        with pytest.raises(SiteError, match=rf"(?s){argument} names 'bta'.*'beta'.*'y'") as caught:
            method(X, **{argument: value})
        assert isinstance(caught.value, ValueError)
    assert im.rng_key == before


class TestOutputOfOneColumn:
    """y of shape (n, 1) against a mean of shape (n,) would be n x n observations."""

    column = Y[:, None]

    def test_training_refuses_it(self):
        for method in ("fit", "fit_on_batch", "train_on_batch"):
            with pytest.raises(SiteError, match=r"\(n, 1\) meets \(n,\)"):
                getattr(model(regression), method)(X, self.column)

    def test_likelihood_refuses_it(self):
        with pytest.raises(SiteError, match=r"site 'y' has shape \(n, 1\)"):
            model(regression, beta_draws()).log_likelihood(X, self.column, progress=False)


def gaussian_process(X, y=None):
    """Its covariance has the rows on two axes, its increments one row less."""
    length = numpyro.sample("length", dist.LogNormal(0.0, 0.5))
    covariance = numpyro.deterministic(
        "covariance", jnp.exp(-0.5 * ((X[:, None] - X) / length) ** 2)
    )
    numpyro.deterministic("steps", jnp.diff(X) / length)
    noisy = covariance + 0.1 * jnp.eye(X.shape[0])
    numpyro.sample("y", dist.MultivariateNormal(jnp.zeros(X.shape[0]), noisy), obs=y)


class TestCovarianceOfAllRows:
    """A matrix with the rows on both axes is right where it is computed, not drawn."""

    times = np.linspace(0, 3, 20).astype(np.float32)
    length = np.linspace(0.5, 2, 8).astype(np.float32)

    @pytest.mark.slow
    def test_it_trains(self):
        im = model(gaussian_process)
        im.fit_on_batch(self.times, np.sin(self.times), num_steps=2, num_samples=2, progress=False)
        assert im.vi_result.losses.shape == (2,)

    @pytest.mark.filterwarnings("ignore:Site 'y' is one draw over all rows")
    @pytest.mark.parametrize("store", ["memory", "persistent"])
    @pytest.mark.parametrize("shard_axis", ["draw", "obs"])
    @pytest.mark.slow
    def test_it_is_predicted_whole(self, shard_axis, store):
        got = self.predicted(shard_axis, store=store)
        apart = (self.times[:, None] - self.times) / self.length[:, None, None]
        assert got["covariance"].dims[2:] == ("obs", "covariance_dim_1")
        assert got["y"].sizes["obs"] == got.sizes["covariance_dim_1"] == 20
        np.testing.assert_allclose(got["covariance"].values[0], np.exp(-0.5 * apart**2), atol=1e-5)
        steps = np.diff(self.times) / self.length[:, None]
        np.testing.assert_allclose(got["steps"].values[0], steps, rtol=1e-5)

    @pytest.mark.filterwarnings("ignore:Site 'y' is one draw over all rows")
    @pytest.mark.slow
    def test_it_is_reduced(self):
        whole = self.predicted("draw", store="memory")["covariance"].mean(["chain", "draw"])
        reduced = self.predicted("obs", reduce="mean")["covariance_mean"]
        assert reduced.dims == whole.dims
        np.testing.assert_allclose(reduced, whole, rtol=1e-5)

    def predicted(self, shard_axis, **options):
        im = model(gaussian_process, {"length": self.length})
        warns = contextlib.nullcontext()
        if shard_axis == "obs":
            warns = pytest.warns(PerformanceWarning, match=r"'covariance'.*shard_axis='draw'")
        with warns:
            tree = im.predict(self.times, shard_axis=shard_axis, progress=False, **options)
        return tree["posterior_predictive"].to_dataset()


def test_deterministic_sites_whose_first_axis_is_not_rows():
    def kernel(X, y=None):
        beta = numpyro.sample("beta", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        numpyro.deterministic("outer", beta[:, None] * beta)
        numpyro.deterministic("by_column", (X * beta).T)
        mean = numpyro.deterministic("mean", X @ beta)
        with numpyro.plate("obs", X.shape[0]):
            numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)

    draws = beta_draws()
    tree = model(kernel, draws).predict(X, store="memory", progress=False)
    group, beta = tree["posterior_predictive"], draws["beta"]
    assert group["outer"].shape == (1, 20, 2, 2)
    np.testing.assert_allclose(
        group["outer"].values[0], beta[:, :, None] * beta[:, None], rtol=1e-5
    )
    assert group["by_column"].dims[-1] == "obs"
    np.testing.assert_allclose(
        group["by_column"].values[0], beta[:, :, None] * X.T, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(group["mean"].values[0], beta @ X.T, rtol=1e-4, atol=1e-5)


def many_arguments(X, weights, prior, scale, y=None):
    """Beside the rows: a vector, a dict, and a number."""
    slope = numpyro.sample("slope", dist.Normal(prior["loc"], prior["scale"]))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ weights * slope, scale), obs=y)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["arrays", "loader"])
def test_vector_dict_and_scalar_arguments(kind):
    whole = {
        "weights": np.array([2.0, -1.0], np.float32),
        "prior": {"loc": np.float32(3.0) * np.ones(()), "scale": np.ones((), np.float32)},
    }
    names_taken = {"scale": 0.01}  # fit has a scale= of its own
    im = model(many_arguments)
    y = 4 * X @ whole["weights"]
    data = (X, y)
    if kind == "loader":
        data = (ArrayLoader(ArrayDataset(X=X, y=y), KEY, batch_size=100),)
    im.fit(*data, **whole, kernel_kwargs=names_taken, epochs=300, progress=False)
    assert abs(im.posterior["slope"].mean() - 4) < 0.1
    whole |= names_taken
    np.testing.assert_allclose(
        predicted(im, data[0], **whole)[0].mean("draw").values.std(), y.std(), rtol=0.1
    )
    shifted = whole | {"prior": {"loc": np.full((), -7.0), "scale": np.ones(())}}
    prior = im.sample_prior_predictive_on_batch(
        X, **shifted, return_sites=["slope"], return_datatree=False, num_samples=200
    )
    assert abs(prior["slope"].mean() + 7) < 0.3


def treated(X, y=None):
    """A treatment for each row, drawn where nobody sets it."""
    effect = numpyro.sample("effect", dist.Normal(0.0, 1.0))
    with numpyro.plate("obs", X.shape[0]):
        treatment = numpyro.sample("treatment", dist.Bernoulli(probs=jnp.full(X.shape[0], 0.5)))
        mean = numpyro.deterministic("mean", X[:, 0] + effect * treatment)
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)


@pytest.mark.parametrize("batch_size", [None, 256])
@pytest.mark.slow
def test_an_intervention_with_one_value_a_row_is_cut_with_the_rows(batch_size):
    n = 700
    many = rng.normal(size=(n, 1)).astype(np.float32)
    effect, treatment = rng.normal(size=15).astype(np.float32), np.arange(n) % 2
    im = model(treated, {"effect": effect})
    set_to = {"treatment": treatment}
    mean = predicted(im, many, site="mean", intervention=set_to, batch_size=batch_size)
    theirs = Predictive(handlers.do(treated, data=set_to), {"effect": effect})(KEY, many)["mean"]
    np.testing.assert_allclose(mean.values[0], theirs, atol=1e-5)
    loader = ArrayLoader(ArrayDataset(X=many), KEY, batch_size=90, shuffle=False)
    from_loader = predicted(im, loader, site="mean", intervention=set_to)
    np.testing.assert_array_equal(from_loader, mean)


@pytest.mark.slow
def test_a_last_batch_of_one_row():
    im = model(regression)
    im.fit(X[:41], Y[:41], batch_size=20, num_samples=5, progress=False)
    assert len(im.vi_result.losses) == 3
    assert np.isfinite(im.vi_result.losses).all()
    y = predicted(im, X[:41], batch_size=20)
    assert y.shape == (1, 5, 41)
    np.testing.assert_allclose(predicted(im, X[:40]).values, y.values[..., :40], atol=1e-5)
    assert im.predict_on_batch(X[:1], return_datatree=False)["y"].shape == (5, 1)
    likelihood = im.log_likelihood(X[:1], Y[:1], store="memory", progress=False)
    assert likelihood["log_likelihood"]["y"].shape == (1, 5, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrap", "labels"),
    [
        (
            lambda X: pd.DataFrame(X, index=[f"shop {i}" for i in range(N)]),
            [f"shop {i}" for i in range(N)],
        ),
        (
            lambda X: pd.DataFrame(X, index=pd.date_range("2026-01-01", periods=N, name="day")),
            pd.date_range("2026-01-01", periods=N).to_numpy(),
        ),
        (
            lambda X: xr.DataArray(X, dims=("obs", "k"), coords={"obs": np.arange(N) * 10}),
            np.arange(N) * 10,
        ),
        (lambda X: pl.DataFrame(X, schema=["a", "b"]), np.arange(N)),
    ],
)
@pytest.mark.parametrize("store", ["memory", "persistent"])
def test_tables_keep_the_labels_of_their_rows(wrap, labels, store):
    tree = model(regression, beta_draws()).predict(wrap(X), store=store, progress=False)
    y = tree["posterior_predictive"]["y"]
    np.testing.assert_array_equal(y[y.dims[-1]].values, labels)


@pytest.mark.slow
def test_without_progress_nothing_is_printed(capfd):
    im = model(regression)
    im.fit(X, Y, batch_size=100, epochs=2, progress=False)
    im.fit_on_batch(X, Y, num_steps=5, progress=False)
    im.predict(X, progress=False)
    im.predict_on_batch(X)
    im.sample_prior_predictive(X, progress=False)
    im.log_likelihood(X, Y, progress=False)
    quiet = {"progress": False}
    im.estimate_effect(args_baseline={"X": X, **quiet}, args_intervention={"X": X + 1, **quiet})
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


@pytest.mark.slow
def test_nothing_is_said_or_left_behind_at_interpreter_exit(tmp_path):
    code = """
        import jax, numpy as np, numpyro, numpyro.distributions as dist
        from numpyro.infer import SVI, Trace_ELBO
        from numpyro.infer.autoguide import AutoNormal
        from aimz_lab import ImpactModel
        from tests.kernels import regression

        svi = SVI(regression, AutoNormal(regression), numpyro.optim.Adam(0.1), Trace_ELBO())
        im = ImpactModel(regression, jax.random.key(0), svi=svi)
        im.set_posterior_sample({"beta": np.zeros((5, 2), np.float32)})
        tree = im.predict(np.ones((10, 2), np.float32), progress=False)
        half_built = ImpactModel.__new__(ImpactModel)
        assert list(__import__("pathlib").Path(__import__("tempfile").gettempdir()).iterdir())
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        env={
            "TMPDIR": str(tmp_path),
            "JAX_PLATFORMS": "cpu",
            "PYTHONPATH": ".",
            "PATH": "",
            "XLA_FLAGS": os.environ["XLA_FLAGS"],
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []
