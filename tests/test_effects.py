"""Effects: exact differences, paired noise, and what is said where scenarios do not match."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import xarray as xr

from aimz_lab.data import RowCoord
from aimz_lab.effects import estimate_effect, hdi, summarize_effect
from aimz_lab.effects.scenario_passes import computed_scenarios
from aimz_lab.effects.scenarios import check_scenarios
from aimz_lab.errors import ArgumentError, DataError, OutputWarning
from aimz_lab.predictive import Predictor
from tests.predictive.models import inputs, request_of


def treatment(X, y=None):
    slope = numpyro.sample("slope", dist.Normal())
    with numpyro.plate("data", len(X)):
        z = numpyro.sample("z", dist.Normal(X[:, 0], 1.0))
        numpyro.sample("y", dist.Normal(slope * z, 1.0), obs=y)


PREDICTOR = Predictor()
DRAWS = {"slope": np.linspace(-2, 2, 30, dtype=np.float32)}


def scenario(**options) -> xr.DataTree:
    return PREDICTOR.predict(
        request_of(treatment, {"X": inputs(300)}, draws=DRAWS, return_sites=("y",), **options)
    )


def test_noise_cancels_exactly():
    low, high = (scenario(intervention={"z": value}) for value in (1.0, 3.0))
    effect = estimate_effect(low, high)["posterior_predictive"]["y"]
    expected = np.broadcast_to(2 * DRAWS["slope"][:, None], (30, 300))
    np.testing.assert_allclose(effect.values[0], expected, atol=1e-5)


def test_an_intervention_on_one_site_leaves_the_noise_of_the_others():
    request = request_of(treatment, {"X": inputs(300)}, draws={"slope": 0 * DRAWS["slope"]})
    natural = PREDICTOR.predict_arrays(request)
    forced = PREDICTOR.predict_arrays(dataclasses.replace(request, intervention={"z": 5.0}))
    np.testing.assert_array_equal(natural["y"], forced["y"])


def test_a_value_per_row_reaches_its_row():
    values = np.arange(300, dtype=np.float32)
    base, moved = scenario(intervention={"z": 0.0}), scenario(intervention={"z": values})
    effect = estimate_effect(base, moved)["posterior_predictive"]["y"].values[0]
    np.testing.assert_allclose(effect, DRAWS["slope"][:, None] * values, rtol=1e-4, atol=1e-3)


def test_unpaired_scenarios_are_warned_about():
    with pytest.warns(OutputWarning, match="rng_key.*not paired"):
        estimate_effect(scenario(), scenario(key=jax.random.key(1)))


def test_rows_labelled_otherwise_are_refused_and_never_dropped():
    def labelled(start):
        return scenario(row_coord=RowCoord(None, np.arange(300) + start))

    for other in (labelled(7), labelled(-7)):
        with pytest.raises(
            DataError, match="label 'data' of site 'y' differently: entry 0 is 0 in"
        ):
            estimate_effect(labelled(0), other)
    dates = scenario(row_coord=RowCoord("day", np.arange(300).astype("datetime64[D]")))
    with pytest.warns(OutputWarning, match="label data differently"):  # one has no labels
        effect = estimate_effect(labelled(0), dates)["posterior_predictive"]["y"]
    assert effect.sizes["data"] == 300
    assert not effect.values.any()


def test_dimensions_in_another_order_are_refused():
    tree = scenario()
    turned = tree["posterior_predictive"].to_dataset().transpose("data", ...)
    with pytest.raises(DataError, match="same rows"):
        estimate_effect(tree, xr.DataTree.from_dict({"posterior_predictive": turned}))


def test_scenarios_of_other_sizes_or_groups_are_refused():
    tree = scenario()
    shorter = xr.DataTree.from_dict(
        {"posterior_predictive": tree["posterior_predictive"].to_dataset().isel(data=slice(9))}
    )
    with pytest.raises(DataError, match="same rows"):
        estimate_effect(tree, shorter)
    with pytest.raises(ArgumentError, match="must share"):
        estimate_effect(tree, scenario(group="predictions"))


def test_scenarios_computed_together_share_a_key():
    keys = []

    def predict(rng_key, value):
        keys.append(rng_key)
        return scenario(key=rng_key, intervention={"z": value})

    trees = computed_scenarios(
        predict, (None, None), ({"value": 0.0}, {"value": 1.0}), lambda: jax.random.key(5)
    )
    assert keys[0] is keys[1]
    effect = estimate_effect(*trees)["posterior_predictive"]["y"].values[0]
    np.testing.assert_allclose(effect, np.tile(DRAWS["slope"][:, None], 300), atol=1e-5)
    with pytest.raises(ArgumentError, match="output_intervention"):
        check_scenarios((trees[0], None), (None, None), on_batch=False)


def test_summary_is_the_closed_form():
    draws = np.random.default_rng(0).normal(size=(2, 4000, 3)) * [1, 2, 3] + [0, 5, -5]
    site = xr.DataArray(draws, dims=("chain", "draw", "row"))
    got = summarize_effect(xr.Dataset({"y": site}), prob=0.9)["y"]
    np.testing.assert_allclose(got.sel(summary="mean"), [0, 5, -5], atol=0.2)
    np.testing.assert_allclose(got.sel(summary="sd"), [1, 2, 3], rtol=0.03)
    width = got.sel(summary="hdi_high") - got.sel(summary="hdi_low")
    np.testing.assert_allclose(width, 2 * 1.645 * np.array([1, 2, 3]), rtol=0.05)


def test_hdi_is_the_narrowest_interval():
    draws = np.random.default_rng(0).gamma(1.0, size=999)
    low, high = hdi(draws, 0.8)
    ordered = np.sort(draws)
    widths = ordered[799:] - ordered[:-799]
    assert high - low == pytest.approx(widths.min())
    assert ((draws >= low) & (draws <= high)).mean() >= 0.8


def test_a_difference_of_summaries_is_refused():
    def summary(name):
        rows = xr.Dataset({name: ("obs", np.arange(3.0))})
        return xr.DataTree.from_dict({"posterior_predictive": rows})

    with pytest.raises(ArgumentError, match="'y_sd' is a summary over draws"):
        estimate_effect(summary("y_sd"), summary("y_sd"))
    mean = estimate_effect(summary("y_mean"), summary("y_mean"))
    np.testing.assert_array_equal(mean["posterior_predictive"]["y_mean"], 0)
    with pytest.raises(ArgumentError, match="'y_mean' has no draws to summarise"):
        summarize_effect(mean)


def test_an_interval_of_no_draws_is_refused():
    with pytest.raises(ArgumentError, match="at least one draw"):
        hdi(np.zeros((0, 3)))
