"""Names that cannot stand in results are refused before anything is computed."""

from __future__ import annotations

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import MCMC, NUTS

from aimz_lab import ImpactModel
from aimz_lab.errors import ArgumentError, KernelError, SiteError
from aimz_lab.kernel.checks.names import why_unusable
from aimz_lab.predictive.results import store
from tests.runs import mean_field_model

X, Y = np.ones((8, 2), np.float32), np.ones(8, np.float32)
BAD = [".", "..", "", "/", "chain", "zarr.json", "__x", "n" * 201, "é" * 120, "a\nb", "a\\b"]


def named(site="b", computed="m", plate=None, rows="row", late=None):
    def kernel(X, y=None):
        b = numpyro.sample(site, dist.Normal(0, 1))
        mean = numpyro.deterministic(computed, b * X[:, 0])
        if plate is not None:
            with numpyro.plate(plate, 3, dim=-2):
                numpyro.sample("level", dist.Normal(0, 1))
        if late is not None and y is None:
            numpyro.deterministic(late, b)
        with numpyro.plate(rows, X.shape[0]):
            numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)

    return kernel


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("role", ["site", "computed", "rows"])
def test_a_bad_name_is_refused_by_fit(name, role):
    if role == "rows" and name == "chain":
        pytest.skip("a plate of this name gives way")
    model = mean_field_model(named(**{role: name}))
    with pytest.raises(KernelError, match=r"cannot stand in results: it .* Rename it, to '\w+'"):
        model.fit_on_batch(X, Y, num_steps=1, progress=False)


@pytest.mark.parametrize("name", ["draw", "..", "n" * 300])
def test_a_bad_name_is_refused_by_chains_priors_and_draws_from_elsewhere(name):
    kernel = named(site=name)
    mcmc = MCMC(NUTS(kernel), num_warmup=1, num_samples=1, progress_bar=False)
    chains = ImpactModel(kernel, jax.random.key(0), mcmc)
    with pytest.raises(KernelError, match="cannot stand in results"):
        chains.fit_on_batch(X, Y, progress=False)
    model = mean_field_model(kernel)
    with pytest.raises(KernelError, match="cannot stand in results"):
        model.sample_prior_predictive(X, num_samples=2)
    with pytest.raises(SiteError, match="cannot stand in results"):
        model.set_posterior_sample({name: np.zeros(3, np.float32)})


def test_a_site_of_predictions_alone_is_refused_before_they_are_computed(tmp_path):
    model = mean_field_model(named(late="..")).set_posterior_sample({"b": np.zeros(3, np.float32)})
    with pytest.raises(KernelError, match=r"'\.\.' of the kernel's site"):
        model.predict(X, output_dir=tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


def test_a_slash_is_written_as_a_dot_in_trees_and_stores(tmp_path):
    model = mean_field_model(named("net/b", "net/m", rows="all/rows"))
    model.set_posterior_sample({"net/b": np.arange(3, dtype=np.float32)})
    stored = model.predict(X, output_dir=tmp_path, progress=False)
    for tree in (stored, model.predict(X, store="memory", progress=False)):
        assert tree.posterior_predictive["net.m"].dims == ("chain", "draw", "all.rows")
        np.testing.assert_array_equal(tree.posterior["net.b"][0], np.arange(3))


@pytest.mark.parametrize(
    ("kernel", "told"),
    [
        (named("a/b", "a.b"), "both the site 'a/b' and the site 'a.b' would be called 'a.b'"),
        (named("a/b", plate="a.b"), "site 'a/b' and the plate 'a.b' would be called"),
        (named(rows="b"), "a site and a plate of the name 'b'; rename the plate"),
    ],
)
def test_two_of_one_name_are_refused(kernel, told):
    with pytest.raises(KernelError, match=told):
        mean_field_model(kernel).fit_on_batch(X, Y, num_steps=1, progress=False)


def test_rows_without_a_plate_give_way_to_a_site_called_obs():
    def kernel(X, y=None):
        obs = numpyro.sample("obs", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(obs * X[:, 0], 1.0), obs=y)

    model = mean_field_model(kernel).set_posterior_sample({"obs": np.zeros(3, np.float32)})
    tree = model.predict(X, store="memory", progress=False)
    assert tree.posterior_predictive["y"].dims == ("chain", "draw", "obs_row")


@pytest.fixture(scope="module")
def model():
    return mean_field_model(named("y_mean")).set_posterior_sample(
        {"y_mean": np.zeros(3, np.float32)}
    )


@pytest.mark.parametrize("label", ["chain", "..", "m", ""])
def test_dimensions_named_by_hand_follow_the_same_rule(model, tmp_path, label):
    with pytest.raises(ArgumentError, match="dimension of"):
        model.predict(X, dims={"y": (label,)}, output_dir=tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


def test_a_summary_does_not_take_the_place_of_a_site(model):
    sites = ["y", "y_mean"]
    with pytest.raises(ArgumentError, match="would be called 'y_mean', which a site"):
        model.predict(X, reduce="mean", return_sites=sites, progress=False)
    tree = model.predict(X, reduce={"average": "mean"}, return_sites=sites, progress=False)
    assert "y_average" in tree.posterior_predictive


def test_names_that_differ_by_case_alone_need_a_file_system_that_tells_them_apart(
    tmp_path, monkeypatch
):
    model = mean_field_model(named(computed="Y")).set_posterior_sample({"b": np.zeros(3)})
    assert "Y" in model.predict(X, output_dir=tmp_path / "a", progress=False).posterior_predictive
    monkeypatch.setattr(store.StoreWriter, "folds_case", True)
    with pytest.raises(ArgumentError, match="'Y'.*upper and lower case are the same"):
        model.predict(X, output_dir=tmp_path / "b", progress=False)
    assert not list((tmp_path / "b").iterdir())


def test_good_names():
    assert [why_unusable(name) for name in ("b", "c", "a b", "größe", "_x", "n" * 200)] == [
        None
    ] * 6
