"""Summaries on the fly against NumPy on the kept draws."""

from __future__ import annotations

import dataclasses
import errno

import arviz_stats as azs
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import norm

from aimz_lab.effects import hdi
from aimz_lab.errors import ArgumentError, ArtifactWriteError, DataError
from aimz_lab.predictive import Exceeds, Hdi, Loo, Mean, Predictor, Quantiles
from aimz_lab.predictive.reducers import as_reducers
from aimz_lab.predictive.results import sinks
from tests.predictive.models import draws_of_linear, inputs, request_of
from tests.runs import compilations, mean_field_model

PREDICTOR = Predictor()
X = inputs(1100)
DRAWS = draws_of_linear(31)
REQUEST = request_of(rows={"X": X}, draws=DRAWS, return_sites=("y",), batch_size=512)
Y = PREDICTOR.predict_arrays(REQUEST)["y"].astype(np.float64)
LABELS = np.random.default_rng(3).choice(["a", "bb", "c"], size=1100)
MANY = np.random.default_rng(3).integers(0, 200, size=1100)


def reduced(reduce, **changes):
    request = dataclasses.replace(REQUEST, reduce=reduce, **changes)
    return PREDICTOR.predict(request)["posterior_predictive"]


def by_label(kept, labels):
    return np.stack([kept[:, labels == one].mean(1) for one in np.unique(labels)], axis=-1)


@pytest.mark.slow
@pytest.mark.parametrize("axis", ["obs", "draw"])
@pytest.mark.parametrize(
    ("reduce", "name", "expected", "dims"),
    [
        ("mean", "y_mean", lambda y: y.mean(0), "data"),
        ("sd", "y_sd", lambda y: y.std(0, ddof=1), "data"),
        (Exceeds(0.3), "y_exceeds", lambda y: (y > 0.3).mean(0), "data"),
        (
            Quantiles([0.05, 0.5, 1.0]),
            "y_quantile",
            lambda y: np.quantile(y, [0.05, 0.5, 1.0], axis=0),
            "quantile data",
        ),
        (Hdi(0.8), "y_hdi", lambda y: np.moveaxis(hdi(y, 0.8), -1, 0), "bound data"),
        ("ate", "y_ate", lambda y: y.mean(1)[None], "chain draw"),
        (Mean(over="row"), "y_mean", lambda y: y.mean(1)[None], "chain draw"),
        (
            Mean(over="row", by=LABELS),
            "y_mean",
            lambda y: by_label(y, LABELS)[None],
            "chain draw group",
        ),
        (
            Mean(over="row", by=MANY),
            "y_mean",
            lambda y: by_label(y, MANY)[None],
            "chain draw group",
        ),
    ],
)
def test_summaries_are_those_of_the_kept_draws(axis, reduce, name, expected, dims):
    options = {"shard_axis": axis, "batch_size": 512 if axis == "obs" else 10}
    kept = PREDICTOR.predict_arrays(dataclasses.replace(REQUEST, **options))["y"]
    group = reduced(reduce, **options)
    got = group[name]
    assert got.dims == tuple(dims.split())
    assert set(group.coords) == set(got.dims)  # and none of what was reduced away
    np.testing.assert_allclose(got, expected(kept.astype(np.float64)), rtol=2e-5, atol=2e-5)


def test_several_at_once_and_their_names():
    group = reduced({"typical": "mean", "spread": "sd", "tail": Quantiles([0.9])})
    assert set(group.data_vars) == {"y_typical", "y_spread", "y_tail"}
    assert group["quantile"].values.tolist() == [0.9]
    np.testing.assert_allclose(group["y_tail"][0], np.quantile(Y, 0.9, axis=0), atol=1e-5)


@pytest.mark.slow
@settings(max_examples=10)
@given(batch_size=st.integers(1, 1200))
def test_batch_size_changes_no_summary(batch_size):
    reduce = [Mean(over="row", by=LABELS), Quantiles([0.2])]
    got = reduced(reduce, batch_size=batch_size)
    np.testing.assert_allclose(got["y_mean"][0], by_label(Y, LABELS), rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(got["y_quantile"][0], np.quantile(Y, 0.2, axis=0), atol=1e-5)


@pytest.mark.slow
def test_equal_reducers_share_a_compilation():
    reduced(["mean", Exceeds(0.1)])
    with compilations() as seen:
        reduced(["mean", Exceeds(0.1)])
        assert not seen
        reduced(["mean", Exceeds(0.2)])
        assert seen


@pytest.mark.slow
def test_each_instance_of_an_own_subclass_reduces_with_its_own_values():
    class Times(Mean):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def block(self, values, valid, by_row):
            return self.factor * super().block(values, valid, by_row)

    for factor in (2.0, 3.0, np.array([4.0], np.float32)):
        got = reduced(Times(factor))["y_mean"]
        np.testing.assert_allclose(got, factor * Y.mean(0), rtol=2e-5, atol=2e-5)


def test_own_reducer():
    class Largest:
        name, over, on_host, coords, by_row = "largest", "draw", False, {}, None

        def block(self, values, *_):
            return values.max(0)

        def finish(self, total, *_):
            return total

    np.testing.assert_allclose(reduced(Largest())["y_largest"], Y.max(0), atol=1e-5)


def test_pointwise_predictive_densities():
    request = dataclasses.replace(
        REQUEST,
        rows={"X": X, "y": X[:, 0]},
        static={},
        return_sites=None,
        group="log_likelihood",
    )
    kept = PREDICTOR.log_likelihood(request)["log_likelihood"]["y"].values[0].astype(np.float64)
    got = PREDICTOR.log_likelihood(dataclasses.replace(request, reduce=["lppd", "waic"]))
    got = got["log_likelihood"]
    lppd = logsumexp(kept, axis=0) - np.log(31)
    np.testing.assert_allclose(got["y_lppd"], lppd, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got["y_waic"].sel(waic="p_waic"), kept.var(0, ddof=1), rtol=1e-3)
    np.testing.assert_allclose(
        got["y_waic"].sel(waic="elpd_waic"), lppd - kept.var(0, ddof=1), rtol=1e-3
    )


def spoilt(*values):
    """Draws of three rows; the first draws of the first row are these."""
    draws = np.random.default_rng(5).normal(size=(40, 3)).astype(np.float32)
    draws[: len(values), 0] = values
    return draws


@pytest.mark.parametrize(
    "reducer", [Quantiles([0.1, 0.5]), Hdi(0.5), Exceeds(0.0), Mean()], ids=lambda one: one.name
)
def test_a_draw_that_is_no_number_makes_no_plausible_one(reducer):
    found = np.asarray(reducer.block(spoilt(np.nan, np.nan), np.ones(3, bool), None))
    assert np.isnan(found[..., 0]).all()
    assert np.isfinite(found[..., 1:]).all()


@pytest.mark.parametrize(
    "values", [spoilt(), spoilt(np.inf, np.inf), np.arange(120).reshape(40, 3)]
)
def test_quantiles_are_numpys_for_infinite_draws_and_counts_too(values):
    found = Quantiles([0.25, 0.33]).block(values, np.ones(3, bool), None)
    np.testing.assert_allclose(found, np.quantile(values, [0.25, 0.33], axis=0), rtol=1e-5)
    top = Quantiles([1.0]).block(values, np.ones(3, bool), None)
    np.testing.assert_array_equal(top[0], values.max(0))


AWKWARD = {
    "few": np.random.default_rng(1).normal(size=(5, 3)),
    "skewed": np.random.default_rng(1).lognormal(size=(1000, 3)),
    "counts": np.random.default_rng(1).poisson(2, size=(999, 3)),
    "bytes": np.random.default_rng(1).integers(0, 256, size=(101, 3)).astype(np.uint8),
    "flags": np.random.default_rng(1).random((100, 3)) < 0.2,
    "two modes": np.sign(np.random.default_rng(1).normal(size=(400, 3))) * 5,
    "constant": np.full((50, 3), 3.0),
    "ties": np.random.default_rng(1).normal(size=(300, 3)).round(1),
    "large": 1e6 + np.random.default_rng(1).normal(size=(500, 3)),
    "far apart": np.random.default_rng(1).choice([-(2**31), 2**31 - 1], (40, 3)).astype(np.int32),
}


@pytest.mark.parametrize("kind", AWKWARD)
@pytest.mark.parametrize("prob", [0.03, 0.5, 0.94, 0.999])
def test_the_hdi_is_arvizs(kind, prob):
    draws = AWKWARD[kind]
    draws = draws.astype(np.float32) if draws.dtype.kind == "f" else draws
    expected = azs.hdi(draws, prob=prob, axis=0)
    found = Hdi(prob).block(draws, np.ones(3, bool), None)
    np.testing.assert_array_equal(np.moveaxis(found, 0, -1), expected)
    np.testing.assert_array_equal(hdi(draws, prob), expected)


@pytest.mark.slow
@pytest.mark.parametrize("kind", AWKWARD)
def test_quantiles_means_and_sds_are_numpys(kind):
    draws = AWKWARD[kind].astype(AWKWARD[kind].dtype if kind == "flags" else np.float32)
    rows = np.ones(3, bool)
    probs = [0.0, 0.03, 0.5, 1.0]
    found = Quantiles(probs).block(draws, rows, None)
    exact = draws.astype(np.float64)
    np.testing.assert_allclose(found, np.quantile(exact, probs, axis=0), rtol=1e-6)
    ends = Quantiles([0.03, 0.97]).block(draws, rows, None)
    np.testing.assert_allclose(ends.T, azs.eti(exact, prob=0.94, axis=0), rtol=1e-6)
    values = jnp.asarray(draws)
    np.testing.assert_allclose(Mean().block(values, rows, None), exact.mean(0), 1e-6, 1e-6)
    [sd] = as_reducers("sd").values()
    expected = exact.std(0, ddof=1)
    np.testing.assert_allclose(sd.block(values, rows, None), expected, rtol=1e-2, atol=1e-6)
    share = Exceeds(1).block(values, rows, None)
    np.testing.assert_allclose(share, (exact > 1).mean(0), rtol=1e-6)


def test_large_counts_exceed_a_threshold_exactly():
    counts = jnp.array([[16777217], [16777216], [5]])
    assert Exceeds(16777216.0).block(counts, None, None) == np.float32(1 / 3)
    assert Exceeds(16777215.5).block(counts, None, None) == np.float32(2 / 3)
    assert Exceeds(1e12).block(counts, None, None) == 0
    assert Exceeds(-np.inf).block(counts, None, None) == 1


def test_a_summary_of_draws_that_are_no_numbers_has_no_interval():
    draws = np.random.default_rng(1).normal(size=(100, 2))
    draws[3, 0] = np.nan
    assert np.isnan(hdi(draws, 0.5)[0]).all()
    assert np.isfinite(hdi(draws, 0.5)[1]).all()


@pytest.mark.parametrize("groups", [2, 100])
def test_a_row_that_is_not_finite_stays_in_its_group(groups):
    values, labels = np.ones((5, 200), np.float32), np.arange(200) % groups
    values[:, 0] = -np.inf
    mean = Mean(over="row", by=labels)
    found = mean.finish(mean.block(values, np.ones(200, bool), mean.by_row), 200)
    assert (found[:, 0] == -np.inf).all()
    np.testing.assert_array_equal(found[:, 1:], 1.0)


def test_leaving_each_row_out_is_what_arviz_computes_of_the_kept_values():
    rng, draws = np.random.default_rng(2), draws_of_linear(200)
    narrow = {
        "b": np.float32([1.0, -1.0, 0.5]) + np.float32(0.05) * draws["b"],
        "sigma": np.float32(0.9) + np.float32(0.1) * draws["sigma"],
    }
    y = X[:300] @ narrow["b"].mean(0) + rng.normal(size=300).astype(np.float32)
    request = request_of(
        rows={"X": X[:300], "y": y},
        draws=narrow,
        static={},
        group="log_likelihood",
    )
    tree = PREDICTOR.log_likelihood(request)
    got = PREDICTOR.log_likelihood(dataclasses.replace(request, reduce="loo"))
    got = got["log_likelihood"]["y_loo"]
    expected = azs.loo(tree, pointwise=True, reff=1.0)
    np.testing.assert_allclose(got.sel(loo="elpd_loo").sum(), expected.elpd, rtol=1e-4)
    np.testing.assert_allclose(got.sel(loo="p_loo").sum(), expected.p, rtol=1e-3)
    np.testing.assert_allclose(got.sel(loo="pareto_k"), expected.pareto_k, atol=1e-3)


EVERY = ["mean", "sd", Quantiles([0.1, 0.9]), Hdi(0.8), "ate"]


def test_draws_that_memory_cannot_hold_are_summarised_from_a_file(monkeypatch):
    in_memory = reduced(EVERY, shard_axis="draw", batch_size=4)
    monkeypatch.setattr(sinks, "SPILL_BYTES", 0)
    spilled = reduced(EVERY, shard_axis="draw", batch_size=4)
    for name, expected in in_memory.data_vars.items():
        np.testing.assert_array_equal(spilled[name], expected)


def test_a_full_disk_is_told_with_its_folder(monkeypatch):
    def full(**options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sinks, "SPILL_BYTES", 0)
    monkeypatch.setattr(sinks.tempfile, "TemporaryFile", full)
    with pytest.raises(ArtifactWriteError, match="TMPDIR"):
        reduced("mean", shard_axis="draw")


def test_too_few_draws_to_leave_a_row_out_are_told():
    y = X[:50] @ np.ones(3, np.float32)
    request = request_of(
        rows={"X": X[:50], "y": y},
        draws=draws_of_linear(24),
        static={},
        group="log_likelihood",
        reduce="loo",
    )
    with pytest.raises(ArgumentError, match="25 draws at least; these are 24.*'waic'"):
        PREDICTOR.log_likelihood(request)
    PREDICTOR.log_likelihood(dataclasses.replace(request, draws=draws_of_linear(25)))
    with pytest.raises(ArgumentError, match="tail values are the same"):
        Loo().block(np.zeros((30, 2)), None, None)


def test_effective_draws_must_be_positive():
    with pytest.raises(ArgumentError, match="r_eff"):
        Loo(r_eff=0.0)


@pytest.mark.parametrize("axis", ["obs", "draw"])
@pytest.mark.slow
def test_effect_in_one_pass_is_the_difference_of_two(axis):
    low = dataclasses.replace(REQUEST, shard_axis=axis, batch_size=None)
    high = dataclasses.replace(low, rows={"X": X + np.float32(1)})
    contrast = PREDICTOR.effect(low, high)["posterior_predictive"]["y"].values[0]
    one, two = (PREDICTOR.predict_arrays(request)["y"] for request in (low, high))
    np.testing.assert_allclose(contrast, two - one, atol=2e-5)
    ate = PREDICTOR.effect(low, dataclasses.replace(high, reduce="ate"))["posterior_predictive"]
    np.testing.assert_allclose(ate["y_ate"].values[0], DRAWS["b"].sum(1), atol=1e-4)


def test_labels_must_fit_the_rows():
    for n_labels in (1099, 1101):
        with pytest.raises(DataError, match=f"are for {n_labels} rows"):
            reduced(Mean(over="row", by=np.zeros(n_labels)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: reduced("median"), "'median' is not known"),
        (lambda: reduced([Mean(), Mean(over="row")]), "a mapping"),
        (lambda: Quantiles([1.2]), "probabilities"),
        (lambda: Quantiles([0.5, np.nan]), "probabilities"),
        (lambda: Hdi(1.0), "probability"),
        (lambda: Exceeds(np.nan), "needs a number"),
        (lambda: Exceeds([0.0, 1.0]), "needs a number"),
        (lambda: reduced("lppd"), "score of a log-likelihood"),
        (lambda: reduced(["mean", "waic"]), "score of a log-likelihood"),
        (lambda: reduced("loo"), "score of a log-likelihood"),
        (lambda: Mean(by=LABELS), "over='row'"),
        (lambda: Mean(over="row", by=np.ones((5, 1))), "one label per row"),
        (lambda: Mean(over="row", by=["a", None]), "labels of one kind"),
    ],
)
def test_bad_reducers_are_refused(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_scenarios_of_other_lengths_are_refused():
    with pytest.raises(DataError, match="1100.*1000"):
        PREDICTOR.effect(REQUEST, dataclasses.replace(REQUEST, rows={"X": X[:1000]}))


def all_rows_at_once(X, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(b * X, 1.0).to_event(1), obs=y)


@pytest.mark.filterwarnings("ignore:The kernel computes across rows")
@pytest.mark.parametrize("options", [{"reduce": "lppd"}, {"reduce": "loo"}, {"by": np.arange(4)}])
def test_scores_by_row_are_refused_of_one_density_of_all_rows(options):
    im = mean_field_model(all_rows_at_once).set_posterior_sample({"b": np.float32([0, 1])})
    X = np.arange(4, dtype=np.float32)
    of_all = im.log_likelihood(X, X, progress=False).log_likelihood["y"]
    np.testing.assert_allclose(of_all[0], norm.logpdf(X, [0 * X, X]).sum(1), rtol=1e-5)
    with pytest.raises(ArgumentError, match="y has one log density for all rows together"):
        im.log_likelihood(X, X, progress=False, **options)
