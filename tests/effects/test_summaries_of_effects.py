"""Summaries of effects: probabilities, a region of practical equivalence, and the paragraph."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from aimz_lab import summarize_effect
from aimz_lab.effects import e_value
from aimz_lab.errors import ArgumentError
from aimz_lab.lab import plot_effect

# Draws at the quantiles of a normal distribution: what is computed of them is known.
Z = stats.norm.ppf((np.arange(4000) + 0.5) / 4000)


def effect(*means, contrast="difference", sd=1.0):
    """An effect whose draws are normal, with one mean or one for each group."""
    values = np.stack([mean + sd * Z for mean in means], axis=-1).reshape(2, 2000, -1)
    dims = ("chain", "draw", "clinic")
    labels = {"clinic": ["east", "north", "south", "west", "x", "z"][: len(means)]}
    site = xr.DataArray(values, dims=dims, coords=labels)
    return xr.Dataset({"y": site[..., 0] if len(means) == 1 else site}, {}, {"contrast": contrast})


def test_probabilities_are_those_of_the_distribution():
    y = summarize_effect(effect(0.5), prob=0.9, direction="greater", delta=0.2, rope=(-0.1, 0.1)).y
    assert y.summary.values.tolist() == ["mean", "sd", "hdi_low", "hdi_high", "p_greater", "p_rope"]
    expected = [0.5, 1, *(0.5 + stats.norm.ppf([0.05, 0.95])), stats.norm.sf(-0.3)]
    np.testing.assert_allclose(y.values[:5], expected, atol=0.02)
    np.testing.assert_allclose(y.values[5], stats.norm.cdf(-0.4) - stats.norm.cdf(-0.6), atol=1e-3)
    less = summarize_effect(effect(0.5), direction="less").y.sel(summary="p_less")
    np.testing.assert_allclose(less, stats.norm.cdf(-0.5), atol=1e-3)


def test_the_verdict_compares_the_interval_with_the_region():
    summary = summarize_effect(effect(0.0, 1.0, 9.0), prob=0.9, rope=2.0)
    assert summary.y_verdict.values.tolist() == ["negligible", "undecided", "relevant"]
    assert summary.y_verdict.clinic.values.tolist() == ["east", "north", "south"]
    around_one = summarize_effect(effect(1.0, contrast="ratio", sd=0.01), rope=0.2).y
    assert around_one.attrs["rope"] == [0.8, 1.2]


def test_ends_of_a_region_in_the_wrong_order_are_refused_with_the_right_one():
    with pytest.raises(ArgumentError, match=r"use its ends, the lower one first, as in \(-0\.1, 0"):
        summarize_effect(effect(0.5), rope=(10, -10))


def test_the_paragraph_says_the_numbers_and_the_caveats():
    ratio = effect(1.5, contrast="ratio", sd=0.1)
    text = summarize_effect(ratio, prob=0.9, direction="greater", rope=0.1).y.attrs["text"]
    assert (
        "makes y 1.5 times that of the baseline on average (90% interval 1.34 times to 1.66" in text
    )
    assert "probability that it is above 1 is 100% (every draw)" in text
    assert "relevant, as the interval lies outside" in text
    assert "no cause of both treatment and outcome" in text
    groups = summarize_effect(effect(-9.0, 0.0, 1.0, 2.0, 9.0), prob=0.9).y.attrs["text"]
    assert "smallest and the largest are clinic east: -9 " in groups
    assert "clinic x: 9 " in groups
    assert "lies above 0 for 2 of 5, and below it for 1" in groups
    few = summarize_effect(effect(1.0).isel(draw=slice(9))).y.attrs["text"]
    assert "only 18 draws" in few


def test_groups_that_are_written_alike_are_not_told_apart():
    equal = effect(*[1.0] * 5)
    text = summarize_effect(equal, prob=0.9).y.text
    assert "for each clinic (5 in all), and is 1 (90% interval -0.644 to 2.65) in each." in text
    assert "smallest" not in text
    wider = equal.y.copy(data=np.where(equal.clinic == "x", 2 * equal.y - 1, equal.y))
    assert "smallest" in summarize_effect(equal.assign(y=wider)).y.text


@pytest.mark.parametrize(
    ("mean", "said"),
    [(9.0, "0% (no draw)"), (3.3, "under 0.1%"), (0.0, "50.0%"), (-3.3, "over 99.9%"),
     (-9.0, "100% (every draw)")],
)  # fmt: skip
def test_both_ends_of_a_probability_are_written_alike(mean, said):
    text = summarize_effect(effect(mean), direction="less").y.text
    assert f"The probability that it is below 0 is {said}." in text


def test_what_is_asked_of_a_percentage_and_of_odds_has_its_unit():
    options = {"direction": "greater", "rope": 5.0}
    one = summarize_effect(effect(20.0, contrast="percent"), **options)
    assert "is above 0% is 100%" in one.y.text
    assert "Between -5% and 5% the effect" in one.y.text
    assert repr(one).startswith("Effect on y (%), with the")
    groups = summarize_effect(effect(20.0, 9.0, contrast="percent"), **options).y.text
    assert "above 0% with probability" in groups
    assert "Between -5% and 5% an effect" in groups
    odds = effect(20.0, contrast="odds_ratio").assign_attrs(output="y", output_event="won = yes")
    found = summarize_effect(odds)
    assert (
        "makes the odds of won = yes 20 times those of the baseline on average (an odds ratio; "
        in (found.y.text)
    )
    assert repr(found).startswith("Effect on P(won = yes) (odds ratio), with the")


@pytest.mark.parametrize(("contrast", "none"), [("difference", 0.0), ("ratio", 1.0)])
def test_scenarios_without_a_difference_are_told(contrast, none):
    draws = xr.Dataset({"y": (("chain", "draw"), np.full((1, 500), none))})
    equal = "Both scenarios have the same outcome in each draw"
    assert equal in summarize_effect(draws.assign_attrs(contrast=contrast))["y"].text
    assert equal not in summarize_effect(draws.assign_attrs(contrast="average"))["y"].text
    some = draws + np.linspace(0, 1, 500)
    assert equal not in summarize_effect(some.assign_attrs(contrast=contrast))["y"].text


def test_no_interval_of_single_outcomes_is_given_for_the_effect():
    """Differences of flags are -1, 0 or 1: their interval may leave out even their mean."""
    shares = np.array([-0.05, 0.02, 0.11, 0.0, 0.3, 0.01])
    ranks = (np.arange(1000)[:, None] + 0.5) / 1000
    draws = (np.sign(shares) * (ranks < np.abs(shares))).reshape(1, 1000, 6)
    rows = xr.Dataset({"y": (("chain", "draw", "row"), draws)})
    for given in (rows, rows.astype(np.int32), rows.isel(row=[0, 1]), rows.isel(row=0)):
        found = summarize_effect(given, rope=0.1)
        assert "-0.05" in found.y.text
        assert "interval 0 to 0" not in found.y.text
        assert "lies above" not in found.y.text
        assert "their interval would not be one of the effect" in found.y.text
        assert "negligible" not in found.y.text
        assert "94% highest-density interval of single outcomes, not of the effect" in repr(found)
        assert found.y_verdict.values.ravel()[0] == "unknown"
    shuffled = np.random.default_rng(0).permuted(np.repeat(draws, 50, axis=2), axis=1)
    average = summarize_effect(xr.Dataset({"y": (("chain", "draw"), shuffled.mean(2))}))
    assert "94% interval" in average["y"].text
    assert "single" not in repr(average)
    total = summarize_effect(xr.Dataset({"y": (("chain", "draw"), np.rint(90 * Z)[None])}))
    assert "94% interval" in total["y"].text  # a sum over rows
    tails = np.r_[np.linspace(0, 1, 990), np.full(10, 1e6)]
    heavy = summarize_effect(xr.Dataset({"y": (("chain", "draw"), tails[None])}))["y"].text
    assert "(no 94% interval: that of the draws leaves out their mean)" in heavy


def test_tables_say_of_which_entries_and_sites_the_interval_is_one_of_single_outcomes():
    rng = np.random.default_rng(2)
    dims, p = ("chain", "draw", "row"), rng.uniform(0.1, 0.3, (1, 1000, 3))
    flags = np.concatenate([rng.random((1, 1000, 2)) < p[..., :2], np.zeros((1, 1000, 1))], 2)
    both = xr.Dataset({"p": (dims, p), "y": (dims, flags)})
    found = summarize_effect(both)
    assert found.table()["interval_of"].tolist() == ["effect"] * 3 + ["single outcomes"] * 3
    of_p, of_y = (text.split("\n")[0] for text in repr(found).split("Effect on ")[1:])
    assert of_p == "p, with the 94% highest-density interval"
    assert of_y == f"{of_p.replace('p,', 'y,')} of single outcomes, not of the effect"
    one = summarize_effect(both.isel(row=0))
    assert one.table()["interval_of"].tolist() == ["effect", "single outcomes"]
    assert "p, y, with the 94% highest-density interval (of y one of single outcomes" in repr(one)
    assert "interval_of" not in summarize_effect(both[["p"]]).table()


def test_what_was_computed_while_a_fit_went_on_says_so():
    found = summarize_effect(effect(0.5).assign_attrs(fit_step=1234))
    said = "from the guide after step 1,234 of a fit that went on"
    assert f"Its draws are {said}." in found.y.text
    assert repr(found).split("\n")[0].endswith(f"interval, {said}")
    assert said not in summarize_effect(effect(0.5)).y.text


def test_a_small_group_among_large_ones_has_no_interval_of_single_outcomes():
    rng = np.random.default_rng(1)
    shown = [rng.normal(0.2, 0.01, 1000), rng.random(1000) < 0.3, rng.integers(0, 3, 1000) / 2]
    group = ["many", "one", "two"]
    given = xr.Dataset(
        {"y": (("chain", "draw", "group"), np.stack(shown, 1)[None])}, coords={"group": group}
    )
    found = summarize_effect(given)
    assert "group many: 0.1995 (94% interval 0.1" in found.y.text
    assert "group one: 0.29; group two: 0.482" in found.y.text
    assert "Where no interval is given" in found.y.text
    assert "in entries of few rows of single outcomes" in repr(found)
    assert "few rows" not in repr(summarize_effect(given.isel(group=[0])))
    drawn = repr(summarize_effect(given.assign_attrs(drawn=["y"])))
    assert "interval (of drawn outcomes; in entries of few rows of single ones, not" in drawn


def test_entries_are_held_against_what_would_be_negligible():
    text = summarize_effect(effect(0.0, 1.0, 9.0), prob=0.9, rope=2.0, direction="greater").y.text
    assert "negligible; by its interval it is relevant for 1, negligible for 1, undecided" in text
    assert "clinic east: 7.1e-18 (90% interval" not in text
    assert ", above 0 with probability 84.1%)" in text


def test_intervals_of_rows_say_that_they_are_of_drawn_outcomes():
    rows = effect(0.0, 1.0, 9.0).assign_attrs(drawn=["y"], row_dims="row")
    (dim,) = set(rows.y.dims) - {"chain", "draw"}
    said = summarize_effect(rows.rename({dim: "row"}))
    assert "of a drawn outcome" in said.y.text
    assert "interval (of drawn outcomes)" in repr(said)  # as pictures and trees say it
    assert "of a drawn outcome" not in summarize_effect(rows).y.text
    assert "of a drawn outcome" not in summarize_effect(rows.rename({dim: "row", "y": "p"})).p.text


def test_a_mean_of_the_numbers_of_levels_is_said_to_be_none():
    draws = effect(0.5).assign_attrs(output="y", output_levels=["a", "b", "c"])
    found = summarize_effect(draws.assign(p=draws.y))
    text = found.y.text
    assert np.isnan(found.y).all()
    assert repr(found).endswith(text)
    assert text.startswith("y is the number of one of 3 levels (a, b, c), so that its mean")
    assert "changes p by" in summarize_effect(draws.assign(p=draws.y)).p.text
    two = draws.assign_attrs(output_levels=["no", "yes"], output_event="bought = yes")
    found = summarize_effect(two)
    assert "changes P(bought = yes) by" in found.y.text
    assert found.table().index.tolist()[0].startswith("P(bought = yes)")


def test_what_is_not_known_is_said():
    draws = np.array([[1.0, np.nan, 2.0]])
    found = summarize_effect(
        xr.Dataset({"y": (("chain", "draw"), draws)}), rope=0.1, direction="less"
    )
    assert found.y_verdict == "unknown"
    assert "below 0 is unknown" in found.y.text
    assert "more data" not in found.y.text
    single = summarize_effect(xr.Dataset({"y": (("chain", "draw"), [[1.0]])})).y.text
    assert "only one draw" in single
    assert "not finite" not in single
    nothing = summarize_effect(xr.Dataset({"y": (("chain", "draw", "g"), np.ones((1, 5, 0)))}))
    assert "hdi_low" in str(nothing)
    for values in ([["a", "b"]], [[1j, 2.0]]):
        with pytest.raises(ArgumentError, match="needs real numbers"):
            summarize_effect(xr.Dataset({"y": (("chain", "draw"), values)}))


def test_what_is_not_asked_for_is_not_there():
    assert summarize_effect(effect(0.5)).y.summary.values.tolist() == [
        "mean",
        "sd",
        "hdi_low",
        "hdi_high",
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"direction": "up"}, "direction='up' is not known; use one of 'greater', 'less'"),
        ({"delta": 1.0}, "pass direction="),
        ({"direction": "less", "delta": "none"}, "delta='none' is not allowed"),
        ({"rope": (0.1, -0.1)}, "rope=.* use its ends"),
        ({"rope": 0}, "rope=0 is not allowed"),
    ],
)
def test_bad_input_is_refused_by_name(options, said):
    with pytest.raises(ArgumentError, match=said):
        summarize_effect(effect(0.5), **options)


def test_a_reference_that_is_compared_with_itself_is_no_single_outcome():
    rng = np.random.default_rng(0)
    ratio = np.exp(rng.normal(0.5, 0.1, (1, 1000)))
    itself = np.where(rng.random((1, 1000)) < 0.3, 1 - 1e-7, 1.0)
    swept = xr.Dataset(
        {"y": (("chain", "draw", "dose"), np.stack([itself, ratio], -1))}, {"dose": [0, 1]}
    )
    attrs = {"swept": "dose", "reference": 0, "contrast": "odds_ratio", "output": "y"}
    found = summarize_effect(swept.assign_attrs(attrs))
    assert "single" not in repr(found)
    assert "drawn outcomes" not in repr(found)
    assert "interval (of drawn outcomes)" in repr(
        summarize_effect(swept.assign_attrs(attrs, drawn="y"))
    )


def test_titles_name_the_sites_that_hold_the_noise_of_drawn_outcomes():
    draws = np.random.default_rng(0).normal(size=(1, 500))
    sites = dict.fromkeys(("p", "y", "z"), (("chain", "draw"), draws))
    sites["flag"] = (("chain", "draw"), (draws > 0).astype(float))
    given = xr.Dataset(sites, attrs={"drawn": ["flag", "y", "z"]})
    titles = {
        ("p",): "interval",
        ("y", "z"): "interval (of drawn outcomes)",
        ("p", "y", "z"): "interval (of drawn outcomes: y, z)",
    }
    for names, title in titles.items():
        found = summarize_effect(given[list(names)])
        assert repr(found).split("\n")[0].endswith(title)
    text = summarize_effect(given)["flag"].text
    assert "none is given. Outcomes are drawn here" in text
    assert "by=np.arange(n)" not in text


def test_a_site_goes_by_the_name_of_its_column_too():
    of_table = effect(0.5).assign_attrs(output="y", output_column="pay")
    summary = summarize_effect(of_table)
    assert summary["pay"].identical(summary.y)
    with pytest.raises(KeyError, match="age"):
        summary["age"]
    both = summarize_effect(of_table.assign(pay=of_table.y + 1))
    assert both["pay"].name == "pay"
    named = e_value(of_table, site="pay", sd=1.0)
    assert named == e_value(of_table, site="y", sd=1.0)


def test_predictions_are_no_effect():
    group = effect(0.5)
    group.attrs = {"created_at": "10:00", "output": "y"}  # and no contrast
    tree = xr.DataTree.from_dict({"posterior_predictive": group})
    for given in (tree, group, group.isel(draw=slice(9))):
        with pytest.raises(ArgumentError, match="holds predictions, which compare nothing"):
            summarize_effect(given)
    with pytest.raises(ArgumentError, match="holds predictions, which compare nothing"):
        plot_effect(tree)
    by_hand = group.assign_attrs(created_at="10:01") - group
    assert "Effect on y" in str(summarize_effect(by_hand))


def test_one_value_with_rounding_is_no_outcome_of_a_few_values():
    rounded = xr.DataArray(
        np.tile([1.0, 1 + 1e-6, 1 - 1e-6, 1.0], (2, 500)), dims=("chain", "draw")
    )
    text = summarize_effect(xr.Dataset({"y": rounded}))["y"].text
    assert "few or whole values" not in text
    flags = rounded.round() * np.tile([0, 1, 0, 1], (2, 500))
    assert "few or whole values" in summarize_effect(xr.Dataset({"y": flags}))["y"].text
