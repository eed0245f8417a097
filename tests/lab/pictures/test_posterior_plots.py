"""Pictures of draws: what they show, and what they refuse."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.colors import to_hex

from aimz_lab import lab
from aimz_lab.errors import ArgumentError
from aimz_lab.lab.pictures import effect_plots, ink

pytest.importorskip("arviz_plots")

RNG = np.random.default_rng(0)
ROWS = 60
DRAWS = xr.Dataset(
    {"slopes": (("chain", "draw", "X"), RNG.normal(size=(1, 200, 3)))},
    coords={"X": ["age", "income", "sex"]},
)
TREE = xr.DataTree.from_dict(
    {
        "posterior": DRAWS,
        "posterior_predictive": xr.Dataset(
            {"y": (("chain", "draw", "row"), RNG.normal(2.0, 1.0, size=(1, 200, ROWS)))}
        ),
        "observed_data": xr.Dataset({"y": ("row", RNG.normal(2.0, 1.0, ROWS))}),
    }
)


def test_each_entry_of_a_posterior_is_drawn_by_name():
    figure = lab.plot_posterior(TREE, sites=["slopes"], prob=0.8)
    titles = " ".join(axes.get_title() for axes in figure.axes)
    assert all(name in titles for name in ("age", "income", "sex"))
    figure = lab.plot_forest(TREE, sites=["slopes"], prob=0.8)
    assert figure.get_figwidth() <= 10  # a notebook's cell shrinks wider ones
    texts = " ".join(text.get_text() for axes in figure.axes for text in axes.texts)
    assert all(name in texts for name in ("age", "income", "sex"))


@pytest.mark.slow
def test_numbers_below_narrow_panels_stand_apart_and_are_whole():
    places = [(1000.5, 0.1), (0.0035, 5e-5), (12_345.0, 30.0), (-0.25, 0.01), (2e-6, 1e-7)]
    draws = {f"s{i}": (("chain", "draw"), RNG.normal(*at, (1, 200))) for i, at in enumerate(places)}
    figure = lab.plot_posterior(xr.DataTree.from_dict({"posterior": xr.Dataset(draws)}))
    figure.draw_without_rendering()
    for axes in figure.axes:
        low, high = axes.get_xlim()
        ticks = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
        seen = [(at, label) for at, label in ticks if low <= at <= high]
        boxes = [label.get_window_extent() for _, label in seen]
        assert all(one.x1 + 5 < other.x0 for one, other in pairwise(boxes))
        assert len(seen) >= 1
        for at, label in seen:  # in full: no offset stands apart
            assert float(label.get_text().replace(",", "")) == pytest.approx(at)


def test_truths_are_drawn_as_0_and_1():
    ill = np.random.default_rng(0).random((1, 100)) < 0.1
    tree = xr.DataTree.from_dict({"posterior": xr.Dataset({"ill": (("chain", "draw"), ill)})})
    for plot in (lab.plot_posterior, lab.plot_forest):
        low, high = plot(tree, ["ill"]).axes[0].get_xlim()
        assert low <= 0 < 1 <= high


def test_means_and_intervals_are_read_on_dark_pages():
    figure = lab.plot_posterior(TREE, sites=["slopes"])
    means = [axes.title.get_color() for axes in figure.axes if axes.get_title()]
    dots = [color for axes in figure.axes for c in axes.collections for color in c.get_facecolor()]
    lines = [line.get_color() for axes in figure.axes for line in axes.lines]
    assert len(means) == len(dots) == 3
    assert {to_hex(color) for color in [*means, *dots]} == {ink.TEXT}
    assert [to_hex(color) for color in lines].count(ink.TEXT) == 3  # the intervals


def test_many_panels_keep_their_text_legible():
    entries = DRAWS.slopes.expand_dims(region=list("abcde")).transpose("chain", "draw", ...)
    figure = lab.plot_posterior(xr.DataTree.from_dict({"posterior": xr.Dataset({"s": entries})}))
    assert figure.get_figwidth() <= 10  # a notebook's cell shrinks wider ones
    figure.draw_without_rendering()
    for axes in figure.axes[:15]:
        inside = [t for t in axes.get_xticks() if axes.get_xlim()[0] <= t <= axes.get_xlim()[1]]
        assert 2 <= len(inside) <= 5
        assert all(label.get_fontsize() >= 9 for label in axes.get_xticklabels())
        assert axes.title.get_fontsize() == 10


def test_means_lie_where_they_are_and_not_where_their_first_digits_are():
    level = xr.DataTree.from_dict({"posterior": 96.6 + DRAWS[["slopes"]] / 100})
    figure = lab.plot_posterior(level)
    dots = [float(c.get_offsets()[0, 0]) for axes in figure.axes for c in axes.collections]
    means = level["posterior"]["slopes"].mean(["chain", "draw"])
    np.testing.assert_allclose(dots, means, rtol=1e-6)


def test_means_are_written_in_full_above_the_curve():
    incomes = xr.DataTree.from_dict({"posterior": 3720 + 40 * DRAWS[["slopes"]]})
    figure = lab.plot_posterior(incomes)
    figure.draw_without_rendering()
    means = incomes["posterior"]["slopes"].mean(["chain", "draw"])
    for axes, mean in zip(figure.axes, means, strict=True):
        assert axes.get_title().endswith(f"\nmean {float(mean):,.0f}")
        assert axes.title.get_window_extent().y0 >= axes.get_window_extent().y1
        assert not axes.texts


def test_a_predictive_check_draws_the_data_over_the_draws():
    figure = lab.plot_ppc(TREE, num_samples=10)
    (axes,) = figure.axes
    *predicted, observed = axes.lines
    assert len(predicted) == 10
    assert observed.get_zorder() > max(line.get_zorder() for line in predicted)
    assert observed.get_linewidth() > predicted[0].get_linewidth()
    assert observed.get_color() != predicted[0].get_color()
    legend = axes.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["predicted, 10 draws", "observed"]
    colors = [handle.get_color() for handle in legend.legend_handles]
    assert colors == [predicted[0].get_color(), observed.get_color()]
    assert figure.alt == "Densities of 10 draws from the model, and the observed one, of y."


def outcomes(values, observed=None):
    """A tree of predicted values, shape ``(draw, row)``, in two chains, and observed ones."""
    drawn = np.reshape(values, (2, -1, np.shape(values)[-1]))
    groups = {"posterior_predictive": xr.Dataset({"y": (("chain", "draw", "row"), drawn)})}
    if observed is not None:
        groups["observed_data"] = xr.Dataset({"y": ("row", observed)})
    return xr.DataTree.from_dict(groups)


@pytest.mark.parametrize("dtype", [int, float, bool])
def test_whole_numbers_are_checked_by_the_share_of_each_value(dtype):
    values = RNG.poisson(0.5, size=(200, ROWS)).clip(0, 1 if dtype is bool else 9).astype(dtype)
    observed = np.append(values[0, 1:], np.nan)  # a row without an outcome counts in neither
    (axes,) = lab.plot_ppc(outcomes(values, observed), num_samples=400).axes
    at = np.arange(values[:, :-1].max() + 1)
    wanted = [(values[:, :-1] == value).mean(1) for value in at]
    drawn = axes.lines[0]
    np.testing.assert_array_equal(drawn.get_xdata(), at)
    np.testing.assert_allclose(drawn.get_ydata(), np.mean(wanted, axis=1))
    bars = [bar.get_height() for bar in axes.patches]
    np.testing.assert_allclose(bars, [(observed[:-1] == value).mean() for value in at])
    ends = [segment[:, 1] for segment in axes.collections[0].get_segments()]
    np.testing.assert_allclose(ends, np.quantile(wanted, [0.05, 0.95], axis=1).T)
    assert axes.get_ylabel() == "share of the rows"
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["predicted, mean", "predicted, 90% of 200 draws", "observed"]


def test_counts_that_reach_far_are_checked_by_their_shares_too():
    values = RNG.poisson(5_000, size=(20, ROWS))
    values[3, 4:6] = 10**6
    (axes,) = lab.plot_ppc(outcomes(values), num_samples=20).axes
    assert axes.get_ylabel() == "share of the rows in each 6 values"
    assert axes.get_xlabel() == "y (beyond: 0.17% of predicted)"


def test_counts_of_very_different_sizes_are_not_in_one_bin():
    """Bins of equal width up to the largest count would hold nearly all in the first."""
    values = np.floor(np.exp(RNG.normal(2, 4, size=(20, ROWS)))).clip(0, 3e9)
    figure = lab.plot_ppc(outcomes(values), num_samples=20)
    (axes,) = figure.axes
    drawn = axes.lines[0].get_ydata()
    ends = [1, 2, 5, 10, 20, 50, 100, 200, 500]
    wanted = [(values >= low) & (values < high) for low, high in pairwise([0, *ends])]
    np.testing.assert_allclose(drawn[: len(wanted)], [each.mean() for each in wanted])
    assert drawn.sum() == pytest.approx(1)
    labels = [text.get_text() for text in axes.get_xticklabels()]
    assert labels[:7] == ["0", "1", "10", "100", "1,000", "10,000", "1e5"]
    assert axes.get_xticks()[:7].tolist() == [0, 1, 4, 7, 10, 13, 16]
    assert axes.get_xlabel() == "y"
    assert figure.alt == "Shares of each value of y in 20 draws from the model."


def test_levels_are_drawn_by_their_names_also_those_that_nobody_has():
    tree = outcomes(RNG.integers(0, 2, size=(20, ROWS)), np.zeros(ROWS))
    attrs = {"output": "y", "output_levels": ["apple", "pear", "plum"], "output_column": "brand"}
    tree["posterior_predictive"].attrs.update(attrs)
    (axes,) = lab.plot_ppc(tree).axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["apple", "pear", "plum"]
    assert axes.get_xlabel() == "brand"
    assert [bar.get_height() for bar in axes.patches] == [1.0, 0.0, 0.0]


def test_a_check_of_several_sites_draws_the_output_by_its_column():
    sites = {"slopes": DRAWS.slopes, "y": TREE["posterior_predictive"].y}
    attrs = {"output": "y", "output_scale": "column pay"}
    tree = xr.DataTree.from_dict({"prior_predictive": xr.Dataset(sites, attrs=attrs)})
    (axes,) = lab.plot_ppc(tree, num_samples=10).axes
    assert axes.get_title() == "pay"
    assert len(axes.lines) == 10
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["predicted, 10 draws"]


def test_long_names_do_not_run_into_each_other():
    named = DRAWS.assign_coords(X=[f"the cantonal hospital at the end of town {i}" for i in "abc"])
    figure = lab.plot_posterior(xr.DataTree.from_dict({"posterior": named}))
    figure.draw_without_rendering()
    boxes = [axes.title.get_window_extent() for axes in figure.axes if axes.get_title()]
    assert len(boxes) == 3
    assert not any(one.overlaps(other) for one in boxes for other in boxes if one is not other)


def test_prior_and_posterior_share_a_panel():
    prior = xr.DataTree.from_dict({"prior_predictive": 3 * DRAWS})
    figure = lab.plot_prior_posterior(prior, TREE, ["slopes"])
    panels = [axes for axes in figure.axes if axes.lines]
    assert [len(axes.lines) for axes in panels] == [2, 2, 2]


def averages_by_group():
    """What predict(by=...) returns."""
    y_mean = (("chain", "draw", "group"), np.random.default_rng(0).normal(size=(1, 50, 3)))
    means = xr.Dataset({"y_mean": y_mean}, attrs={"output": "y"})
    return xr.DataTree.from_dict({"posterior_predictive": means})


@pytest.mark.parametrize(
    "call",
    [
        lambda: lab.plot_posterior(5),
        lambda: lab.plot_posterior(TREE, ["level"]),
        lambda: lab.plot_ppc(xr.DataTree()),
        lambda: lab.plot_ppc(averages_by_group()),
        lambda: lab.plot_effect(5),
        lambda: lab.plot_effect(TREE, site="level"),
        lambda: lab.plot_effect(TREE, by=np.zeros(3)),
        lambda: lab.plot_effect(TREE, by=np.zeros(ROWS), over=np.zeros(ROWS)),
        lambda: lab.plot_prior_posterior(TREE, TREE),
    ],
)
def test_what_cannot_be_drawn_is_refused(call):
    with pytest.raises(ArgumentError):
        call()


def test_of_too_many_groups_it_says_what_to_do(monkeypatch):
    monkeypatch.setattr(effect_plots, "_MOST_GROUPS", 20)
    said = r"30 groups of age, .* up to 20\. Put numbers into ranges.*by=df\.age // 10.*summarize_"
    with pytest.raises(ArgumentError, match=said):
        lab.plot_effect(TREE, by=pd.Series(np.arange(ROWS) % 30, name="age"))


def test_an_average_effect_tells_its_interval():
    (axes,) = lab.plot_effect(TREE, prob=0.9).axes
    mean = float(TREE.posterior_predictive.y.mean())
    assert f"mean {mean:.3g}, 90% HDI" in axes.get_title()
    assert axes.get_xlabel() == "effect on y"


def test_the_output_is_drawn_unless_another_site_is_asked_for():
    draws = xr.DataArray(RNG.normal(size=(1, 50)), dims=("chain", "draw"))
    attrs = {"output": "y", "averaged": "row", "contrast": "percent"}
    both = xr.Dataset({"eta": draws, "y": draws}, attrs=attrs)
    for site, name in ((None, "y"), ("eta", "eta")):
        (axes,) = lab.plot_effect(xr.DataTree.from_dict({"predictions": both}), site=site).axes
        assert axes.get_xlabel() == f"effect on {name} (%)"
    reduced = both.rename(y="y_mean", eta="eta_mean")
    (axes,) = lab.plot_effect(xr.DataTree.from_dict({"predictions": reduced})).axes
    assert axes.get_xlabel() == "effect on y (%)"


def test_a_site_goes_by_the_name_of_its_column_too_and_one_that_is_not_there_is_told():
    draws = xr.DataArray(RNG.normal(size=(1, 50)), dims=("chain", "draw"))
    attrs = {"output": "y", "averaged": "row", "output_column": "pay"}
    effect = xr.Dataset({"eta": draws + 5, "y": draws}, attrs=attrs)
    (axes,) = lab.plot_effect(xr.DataTree.from_dict({"predictions": effect}), site="pay").axes
    assert axes.get_xlabel() == "effect on pay"
    twice = xr.DataTree.from_dict({"predictions": effect.rename(eta="pay")})
    title = lab.plot_effect(twice, site="pay").axes[0].get_title()
    assert float(re.search("mean ([^,]+),", title)[1]) > 4  # that of the site of this name
    with pytest.raises(ArgumentError, match="has the sites 'eta', 'y', and none called 'age'.$"):
        lab.plot_effect(xr.DataTree.from_dict({"predictions": effect}), site="age")
    some = effect.assign(eta=draws.mean())
    with pytest.raises(ArgumentError, match="has the site 'y', and .* left no draws of 'eta'.$"):
        lab.plot_effect(xr.DataTree.from_dict({"predictions": some}), site="eta")
    with pytest.raises(ArgumentError, match="no draws.*without reduce="):
        lab.plot_effect(xr.DataTree.from_dict({"predictions": some.drop_vars("y")}))


def test_groups_have_the_means_of_their_rows():
    by = pd.Series(np.resize(["b", "a", "c"], ROWS), name="clinic")
    (axes,) = lab.plot_effect(TREE, by=by).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]
    assert axes.get_ylabel() == "clinic"
    drawn = axes.lines[0].get_xdata()
    y = TREE.posterior_predictive.y
    wanted = [float(y.isel(row=np.flatnonzero(by == name)).mean()) for name in "abc"]
    np.testing.assert_allclose(drawn, wanted)


@pytest.mark.parametrize(("distinct", "points"), [(4, 4), (ROWS, 20)])
def test_along_a_column_there_is_a_point_for_each_value_or_part_of_the_rows(distinct, points):
    over = pd.Series(np.resize(np.arange(distinct), ROWS), name="age")
    (axes,) = lab.plot_effect(TREE, over=over).axes
    assert axes.get_xlabel() == "age"
    at, mean = axes.lines[0].get_data()
    assert len(at) == points
    assert (np.diff(at) > 0).all()
    first = TREE.posterior_predictive.y.isel(row=np.flatnonzero(over <= at[0] + 1))
    assert abs(mean[0] - float(first.mean())) < 0.2


def test_along_a_column_of_0_and_1_no_line_joins_them():
    (axes,) = lab.plot_effect(TREE, over=np.arange(ROWS) % 2).axes
    assert axes.lines[0].get_linestyle() == "None"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1"]


def test_crossed_groups_have_a_row_each():
    means = xr.DataArray(
        RNG.normal(size=(1, 50, 2, 3)),
        dims=("chain", "draw", "clinic", "sex"),
        coords={"clinic": ["a", "b"], "sex": ["f", "m", "x"]},
    )
    attrs = {"output": "y", "output_scale": "column pay"}
    tree = xr.DataTree.from_dict({"predictions": xr.Dataset({"y_mean": means}, attrs=attrs)})
    (axes,) = lab.plot_effect(tree).axes
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels == ["a, f", "a, m", "a, x", "b, f", "b, m", "b, x"]
    assert axes.get_xlabel() == "effect on pay"


def swept(values):
    """Averages of a sweep over values, of two groups."""
    draws = RNG.normal(np.arange(len(values))[:, None] * [1, -1], 0.1, (1, 50, len(values), 2))
    average = xr.DataArray(
        draws,
        dims=("chain", "draw", "of", "group"),
        coords={"of": values, "group": ["first", "second"]},
    )
    attrs = {"swept": "of", "contrast": "average"}
    return xr.DataTree.from_dict({"predictions": xr.Dataset({"y": average}, attrs=attrs)})


def test_a_sweep_over_levels_has_dots_and_no_lines_between_them():
    tree = swept(["west", "isle", "north"])
    (axes,) = lab.plot_effect(tree).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["west", "isle", "north"]
    for i, dots in enumerate(axes.lines):
        assert dots.get_linestyle() == "None"
        at, mean = dots.get_data()
        np.testing.assert_allclose(mean, tree.predictions.y.mean(("chain", "draw"))[:, i])
        assert (np.abs(at - np.arange(3)) < 0.3).all()
    assert (axes.lines[0].get_xdata() != axes.lines[1].get_xdata()).all()


@pytest.mark.parametrize("values", [[20.0, 40.0, 60.0], ["west", "isle", "north"]])
def test_the_names_of_groups_stand_beside_the_picture(values):
    figure = lab.plot_effect(swept(values))
    figure.draw_without_rendering()
    (axes,) = figure.axes
    names = axes.get_legend().get_window_extent()
    assert axes.bbox.x1 <= names.x0
    assert names.x1 <= figure.bbox.x1
