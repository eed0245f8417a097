"""Uplift: known effects give known areas, ties no order, and calibration its bins."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from aimz_lab import lab
from aimz_lab.effects import uplift
from aimz_lab.errors import ArgumentError, DataError

N, S = 20_000, 40
_rng = np.random.default_rng(0)
TRUE = _rng.uniform(0, 2, N)
TREATED = _rng.random(N) < 0.4
Y = _rng.normal(size=N) + TRUE * TREATED


def effect(values, site="y"):
    draws = np.broadcast_to(values, (S, N)) + _rng.normal(scale=0.05, size=(S, 1))
    site_draws = xr.DataArray(draws[None], dims=("chain", "draw", "row"), name=site)
    return xr.Dataset({site: site_draws}, attrs={"row_dims": ["row"], "contrast": "difference"})


def test_a_perfect_ranking_has_the_area_of_theory():
    found = uplift(effect(TRUE), Y, TREATED)
    # The gain of a fraction f of effects uniform on (0, 2) is f (2 - f), at random f.
    assert found.auuc == pytest.approx(2 / 3, abs=0.02)
    assert found.qini == pytest.approx(1 / 6, abs=0.02)
    half = found.curve.sel(fraction=0.5)
    assert float(half.gain) == pytest.approx(0.75, abs=0.04)
    assert float(half.low) <= float(half.gain) <= float(half.high)
    table = found.calibration
    assert len(table) == 10
    assert (np.abs(table["observed"] - table["predicted"]) < 4 * table["observed_se"]).all()
    assert ": the ranking is better than chance." in found.text
    assert "observed_se" in repr(found)


@pytest.mark.slow
def test_noise_is_seldom_better_than_chance():
    told = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        ranked = rng.normal(size=N)
        few = effect(ranked).isel(row=slice(0, 300), draw=slice(0, 2))
        spent = np.exp(ranked[:300] + rng.normal(size=300))  # whose spread changes by rank
        found = uplift(few, spent, rng.random(300) < 0.5)
        told.append("the ranking is better than chance" in found.text)
    assert np.mean(told) <= 0.12  # 5% by the test, and 2.5 standard errors


def test_equal_effects_have_no_order_and_a_wrong_ranking_none_of_the_gain():
    # In the order of the outcome, so that an order of ties by row would gain.
    order = np.argsort(-Y)
    found = uplift(effect(1.0), Y[order], TREATED[order], bins=5)
    assert found.qini == pytest.approx(0, abs=1e-9)
    assert len(found.calibration) == 1
    reverse = uplift(effect(-TRUE), Y, TREATED, prob=0.9)
    assert reverse.qini == pytest.approx(-1 / 6, abs=0.02)
    assert ": it may be chance." in reverse.text


def test_few_rows_of_an_arm_and_a_constant_outcome_tell_nothing_from_chance():
    few = effect(TRUE).isel(row=slice(0, 300))
    two = np.arange(300) < 2
    found = uplift(few, Y[:300], two)
    assert np.isnan(found.qini_se)
    assert "An arm has fewer than 5 rows: too few to tell from chance." in found.text
    for seed in range(10):
        rng = np.random.default_rng(seed)
        same = uplift(few, np.full(300, 0.1), rng.random(300) < 0.5, weights=rng.random(300) + 0.1)
        assert same.qini == 0
        assert "it may be chance" in same.text


def test_bins_without_both_arms_are_not_judged():
    few = effect(TRUE).isel(row=slice(0, 3))
    said = uplift(few, Y[:3], [True, False, True], bins=3).text
    assert "In 0 of 0 bins" in said
    assert "(3 others have too few treated or untreated rows to tell)" in said


def test_bands_of_drawn_outcomes_say_so():
    few, rest = effect(TRUE).isel(row=slice(0, 3)), (Y[:3], [True, False, True])
    assert "drawn here" not in uplift(few, *rest, bins=3).text
    assert "drawn here" in uplift(few.assign_attrs(drawn="y"), *rest, bins=3).text


@pytest.mark.parametrize(
    ("made", "error", "said"),
    [
        (lambda e: e.assign_attrs(contrast="ratio"), ArgumentError, "the contrast 'ratio'"),
        (lambda e: e.where(e.y.row != 5), DataError, "not finite, first of row 5"),
    ],
)
def test_effects_that_no_difference_can_be_compared_with(made, error, said):
    with pytest.raises(error, match=said):
        uplift(made(effect(TRUE).isel(row=slice(0, 50))), Y[:50], TREATED[:50])


def test_weights_make_up_for_the_choice_of_treatment():
    chance = np.where(TRUE > 1, 0.8, 0.2)
    treated = _rng.random(N) < chance
    base = 3.0 * (TRUE > 1)  # who gets the treatment has more anyway
    y = base + TRUE * treated + _rng.normal(size=N)
    weights = 1 / np.where(treated, chance, 1 - chance)
    plain = uplift(effect(TRUE), y, treated, bins=1).calibration["observed"].iloc[0]
    weighed = uplift(effect(TRUE), y, treated, weights=weights, bins=1, site="y").calibration
    assert plain > 2
    assert weighed["observed"].iloc[0] == pytest.approx(1.0, abs=0.1)


def test_a_picture_and_a_page_show_the_gain_and_the_bins():
    found = uplift(effect(TRUE), Y, TREATED, bins=4)
    figure = lab.plot_uplift(found)
    gain, bins = figure.axes
    np.testing.assert_array_equal(gain.lines[0].get_ydata(), found.curve.gain)
    assert [text.get_text() for text in gain.get_legend().get_texts()][1] == "at random"
    np.testing.assert_array_equal(bins.lines[0].get_ydata(), found.calibration["observed"])
    assert "Qini" in figure.alt
    assert found._repr_html_().count("<tr>") == 5
    with pytest.raises(ArgumentError, match="plot_uplift draws the result of uplift"):
        lab.plot_uplift(found.curve)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"outcome": Y[:5]}, DataError, "outcome= has 5 values; the effect has 20,000 rows"),
        ({"treated": TREATED * 2}, DataError, "treated= takes a flag"),
        ({"treated": np.ones(N)}, DataError, "some True and some False"),
        ({"weights": -np.ones(N)}, DataError, "weights= must be above 0"),
        ({"outcome": np.full(N, np.nan)}, DataError, "outcome= has values that are not finite"),
        ({"site": "z"}, ArgumentError, "site='z'"),
        ({"bins": 0}, ArgumentError, "bins=0"),
        ({"effect": effect(TRUE).mean("row")}, ArgumentError, "the effect on each row"),
    ],
)
def test_bad_input_is_refused_by_name(options, error, said):
    given = {"effect": effect(TRUE), "outcome": Y, "treated": TREATED}
    with pytest.raises(error, match=said):
        uplift(**{**given, **options})
