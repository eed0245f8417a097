"""Sensitivity to a confounder: the published examples, and the definitions behind them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import xarray as xr

from aimz_lab.effects import adjusted_for, e_value, partial_r2, robustness_value, tipping_points
from aimz_lab.errors import ArgumentError, DataError, OutputWarning

# The Darfur example of Cinelli and Hazlett (2020), table 1.
DARFUR = {"estimate": 0.09731582, "se": 0.02325654, "dof": 783}
T = DARFUR["estimate"] / DARFUR["se"]


@pytest.mark.parametrize(
    ("given", "options", "estimate", "limit"),
    [
        ((3.9, 1.8, 8.7), {}, 7.26, 3.0),  # VanderWeele and Ding (2017), breastfeeding
        ((1 / 3.9, 1 / 8.7, 1 / 1.8), {}, 7.26, 3.0),
        ((0.80, 0.71, 0.91), {}, 1.81, 1.43),  # the same, leukaemia
        ((10.73, 8.02, 14.36), {}, 20.95, 15.52),  # smoking, of Ding and VanderWeele (2016)
        ((0.80, 0.71, 0.91), {"measure": "odds_ratio", "rare": True}, 1.81, 1.43),
        ((0.86, 0.75, 0.99), {"measure": "odds_ratio", "rare": False}, 1.37, 1.08),
        ((0.56, 0.46, 0.69), {"measure": "hazard_ratio", "rare": False}, 2.35, 1.91),
        ((1.3, 1.1, 1.4), {"true": 1.2}, 1.3835, 1.0),
        ((0.5,), {"measure": "difference", "sd": 1.0, "se": 0.25}, 2.53, 1.11),
    ],
)
def test_published_e_values(given, options, estimate, limit):
    found = e_value(*given, **options)
    assert (found.estimate, found.limit) == pytest.approx((estimate, limit), abs=0.006)


def test_an_e_value_explains_the_ratio_away():
    found = e_value(2.5, 1.7)
    e = found.estimate
    assert e * e / (2 * e - 1) == pytest.approx(2.5)  # the bias factor of Ding and VanderWeele
    assert e_value(1.0).estimate == 1.0
    assert e_value(2.5, 0.9, 4.0).limit == 1.0
    assert "risk ratios of 4.44 each" in str(found)
    assert "by 2.79 to move the interval" in found.text
    assert "the interval holds no effect as it is" in e_value(2.5, 0.9, 4.0).text
    assert "as a risk ratio of 2.00" in e_value(2.5, 2.2, true=2.0).text
    assert e_value(1.0, measure="difference", sd=1.0, se=1000.0).limit == 1.0
    odds = e_value(4.0, measure="odds_ratio", rare=False).text
    assert "(an odds ratio of 4, which counts as a risk ratio of 2.00) away" in odds


def test_an_e_value_shows_its_sentence_at_the_end_of_a_cell():
    found = e_value(2.5, 1.7)
    assert repr(found) == found.text
    assert f">{found.text}</p>" in found._repr_html_()


def effect(values, contrast, site="y"):
    draws = xr.DataArray(np.reshape(values, (1, -1)), dims=("chain", "draw"))
    return xr.Dataset({site: draws}, attrs={"contrast": contrast})


def test_an_effect_has_the_interval_of_its_draws():
    ratios = np.linspace(1.8, 2.2, 401)
    found = e_value(effect(ratios, "ratio"), prob=0.5)
    assert found.estimate == pytest.approx(e_value(2.0).estimate)
    assert found.limits[1] - found.limits[0] == pytest.approx(0.2, abs=1e-3)
    moved = effect(np.linspace(4, 6, 401), "difference")
    assert e_value(moved, sd=10.0, site="y").risk_ratio == pytest.approx(math.exp(0.455))
    table = tipping_points(moved, strengths=[0.25, 0.5], prob=0.9, site="y")
    np.testing.assert_allclose(table["estimate"], [20.0, 10.0])
    assert (table["limit"] < table["estimate"]).all()


@pytest.mark.parametrize("analysis", [e_value, tipping_points])
def test_intervals_of_drawn_outcomes_are_warned_of(analysis):
    drawn = effect([1.5, 2.0, 2.5], "ratio").assign_attrs(drawn=["y"])
    with pytest.warns(OutputWarning, match="'y' is one of drawn outcomes"):
        analysis(drawn)


def test_a_tipping_point_lies_on_the_bias_factor():
    table = tipping_points(2.0, 1.2, measure="risk_ratio", strengths=[1.5, 3.0, 5.0])
    assert table["estimate"].iloc[0] == np.inf
    for column, ratio in (("estimate", 2.0), ("limit", 1.2)):
        needed = table[column].iloc[1:]
        strength = needed.index.to_numpy()
        np.testing.assert_allclose(strength * needed / (strength + needed - 1), ratio)
    # An interval that holds no effect takes no confounder to move there.
    assert (tipping_points(2.0, 0.8)["limit"] == 1.0).all()
    assert (tipping_points(2.0, -0.8, measure="difference")["limit"] == 0.0).all()
    e = e_value(2.0).estimate
    assert tipping_points(2.0, strengths=[e])["estimate"].iloc[0] == pytest.approx(e)


def test_the_table_of_darfur():
    assert pytest.approx(4.18, abs=0.005) == T
    assert partial_r2(T, 783) == pytest.approx(0.02187, abs=1e-5)
    assert robustness_value(T, 783) == pytest.approx(0.13878, abs=1e-5)
    assert robustness_value(T, 783, alpha=0.05) == pytest.approx(0.07626, abs=1e-5)
    # A confounder once and three times as strong as "female".
    once = adjusted_for(**DARFUR, r2_treatment=0.00916429, r2_outcome=0.12464092)
    assert once == pytest.approx((0.07522, 0.02187, 3.4389), abs=2e-4)
    thrice = adjusted_for(**DARFUR, r2_treatment=0.02749286, r2_outcome=0.37404945)
    assert thrice == pytest.approx((0.03039, 0.01867, 1.6281), abs=3e-4)


def test_a_confounder_of_that_strength_takes_the_effect_away():
    rv = robustness_value(T, 783)
    assert adjusted_for(**DARFUR, r2_treatment=rv, r2_outcome=rv).estimate == pytest.approx(
        0, abs=1e-9
    )
    half = robustness_value(T, 783, q=0.5)
    left = adjusted_for(**DARFUR, r2_treatment=half, r2_outcome=half).estimate
    assert left == pytest.approx(DARFUR["estimate"] / 2)
    assert robustness_value(1.0, 783, alpha=0.05) == 0.0


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: e_value(-1.0), "effect=-1.0 is not allowed; use a number above 0"),
        (lambda: e_value(1.2, 1.3, 1.4), "does not lie between"),
        (lambda: e_value(2.0, measure="odds"), "measure='odds'"),
        (lambda: e_value(2.0, measure="odds_ratio"), "rare=True or rare=False"),
        (lambda: e_value(2.0, measure="difference"), "sd=None"),
        (lambda: e_value(2.0, measure="difference", sd=1.0, se=-1), "se=-1"),
        (lambda: e_value(effect([1.0, 2.0], "log_ratio")), "the effect is 'log_ratio'"),
        (lambda: e_value(effect([1.0, 2.0], "ratio"), site="z"), "site='z'"),
        (lambda: e_value(-1000.0, measure="difference", sd=1.0), "no finite risk ratio"),
        (lambda: e_value(1000.0, measure="difference", sd=1.0), "no finite risk ratio"),
        (lambda: e_value(0.5, low=0.3), "high= is missing"),
        (lambda: e_value(2.0, low=1.5, true=3.0), "high= is missing"),
        (lambda: e_value(2.0, sd=1.0), "sd=1.0 has no use here"),
        (lambda: e_value(2.0, se=1.0), "se=1.0 has no use here"),
        (lambda: e_value(2.0, rare=True), "rare=True has no use here"),
        (lambda: e_value(1.0, 0.5, sd=1.0, se=1.0, measure="difference"), "low=0.5 has no use"),
        (lambda: e_value(effect([1.0, 2.0], "ratio"), 1.0), "low=1.0 has no use here"),
        (lambda: e_value(effect([-1.0, 2.0], "ratio")), "1 of 2 draws"),
        (lambda: e_value(effect([1.0, np.nan], "difference"), sd=1.0), "1 of 2 draws"),
        (lambda: e_value(effect([1.0, 2.0], "difference"), measure="risk_ratio"), "is not what"),
        (lambda: e_value(2.0, measure="odds_ratio"), "An E-value of an odds ratio depends"),
        (lambda: e_value(-1.0, measure="odds_ratio", rare=True), "as an odds ratio is"),
        (lambda: tipping_points(2.0, 3.0), "limit=3 is farther"),
        (lambda: tipping_points(effect([1.0, 2.0], "ratio"), 1.0), "limit=1.0 has no use here"),
        (lambda: tipping_points(effect([-1.0, 2.0], "ratio")), "1 of 2 draws"),
        (lambda: tipping_points(2.0, strengths=[0.5]), "at least 1"),
        (lambda: tipping_points(2.0, measure="difference", strengths=[2.0]), "at most 1"),
        (lambda: partial_r2(np.nan, 10), "t=nan"),
        (lambda: robustness_value(1.0, 10, q=0), "q=0"),
        (lambda: robustness_value(1.0, 10, alpha=2), "alpha=2"),
        (lambda: adjusted_for(1, 1, 9, r2_treatment=1.0, r2_outcome=0.1), "r2_treatment=1.0"),
        (lambda: adjusted_for(1, 0, 9, r2_treatment=0.1, r2_outcome=0.1), "se=0"),
    ],
)
def test_bad_input_is_refused_by_name(call, said):
    with pytest.raises((ArgumentError, DataError), match=said):
        call()
