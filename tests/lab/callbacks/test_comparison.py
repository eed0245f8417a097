"""Runs side by side, from anything that has one."""

from __future__ import annotations

import re
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from aimz_lab.errors import ArgumentError, DataTypeError
from aimz_lab.inference.run.handle import RunHandle
from aimz_lab.lab import History, compare, loss_figure
from aimz_lab.lab.callbacks.comparison import Comparison
from tests.lab.runs import begun, feed


def finished(losses, **info):
    run = begun(**{"n_obs": 10, "batch_size": 5, **info})
    feed(run, losses)
    run.finish("completed", "")
    return run


RUN, OTHER = finished([50.0] * 100), finished(np.linspace(90, 30, 100), model="<i>")
SAME, TOO = finished([50.0] * 100), finished(np.linspace(90, 30, 100), model="<i>")


def test_anything_with_a_run_alone_in_lists_and_in_dicts_by_name():
    handle = RunHandle(None, RUN, lambda: None)
    model = SimpleNamespace(last_run=OTHER)
    table = compare({"long": handle, "$x_1$": model}, [SAME, [History(TOO)]])
    assert table.columns.tolist() == ["long", "$x_1$", "kernel 3", "<i> 4"]
    assert table.at["loss", "long"] == table.at["loss", "kernel 3"] == pytest.approx(5.0)
    assert table.at["loss", "$x_1$"] == table.at["loss", "<i> 4"] < 4.0
    assert table.at["total_loss", "long"] == pytest.approx(50.0)


def test_runs_that_had_a_page_are_called_as_there():
    shown = finished([50.0] * 9)
    shown.number = 7
    assert compare([RUN, shown]).columns.tolist() == ["kernel 1", "kernel · run 7"]
    with pytest.raises(ArgumentError, match="'kernel · run 7' is given twice"):
        compare([shown, History(shown)])


def test_rates_that_differ_at_the_end_are_compared():
    apart = [begun(model=name, n_obs=10, batch_size=5) for name in ("steady", "faster")]
    for run, rate in zip(apart, (0.2, 0.44), strict=True):
        run.learning_rate = 0.2
        feed(run, [50.0], rate=0.2)
        feed(run, [50.0], rate=rate)
    table = compare(apart)
    assert "learning_rate" not in table.index  # at the first step it is the same
    assert table.loc["last_learning_rate"].tolist() == pytest.approx([0.2, 0.44])


def test_one_run_under_two_names_is_refused():
    handle = RunHandle(None, RUN, lambda: None)
    refused = "'a' is given twice, also as 'b'; pass each run once"
    for both in ({"a": handle, "b": handle}, {"a": RUN, "b": SimpleNamespace(last_run=RUN)}):
        with pytest.raises(ArgumentError, match=refused):
            compare(both)
    with pytest.raises(ArgumentError, match="'kernel 1' is given twice, also as 'kernel 2'"):
        compare(RUN, RUN)


def test_scores_have_the_digits_that_their_errors_need():
    scores = [{"elpd_loo": -12_345.6, "draws_se": 0.12}, {"elpd_loo": -12_345.9, "draws_se": None}]
    elpd, _ = Comparison(dict(zip("ab", scores, strict=True)), {})._cells()[1:]
    assert elpd[1:] == ["-12,345.60", "-12,346"]


@pytest.mark.parametrize("n_runs", [1, 2, 5])
def test_as_text_it_is_at_most_80_characters_wide(n_runs):
    facts = {"method": "SVI with AutoLowRankMultivariateNormal", "loss": 3.25, "steps": 45_000}
    facts |= {"learning_rate": 0.01, "last_learning_rate": 0.003}
    text = repr(Comparison({f"hierarchical · run {i}": facts for i in range(n_runs)}, {}))
    assert max(map(len, text.splitlines())) <= 80
    for whole in ("learning rate at last", "(last_learning_rate)", f"· run {n_runs - 1}"):
        assert whole in text
    assert text.count("0.003") == text.count("45,000") == n_runs


def test_a_legend_says_which_run_the_picture_does_not_reach():
    apart = finished(np.linspace(9_000, 8_000, 100), model="far")
    diverged = finished([np.nan, np.nan], model="diverged")
    for figure in (
        compare({"near": OTHER, "diverged": diverged}).figure(),
        loss_figure(OTHER, apart),
    ):
        legend = [text.get_text().strip() for text in figure.axes[0].get_legend().get_texts()]
        unseen = [text for text in legend if text.endswith(", outside of this picture")]
        assert len(unseen) == 1
        assert re.match("far|diverged", unseen[0])


def test_it_shows_a_picture_and_a_table_of_what_is_known():
    table = compare({"long": RUN, "<b>": OTHER})
    html = table._repr_html_()
    assert '<img src="data:image/png;base64,' in html
    assert "Losses over the steps: long ends at 5, &lt;b&gt; ends at" in html
    assert "&lt;b&gt;</th>" in html
    assert "loss per row" in html
    assert "held-out" not in html  # nobody has one
    assert [line.get_label().strip() for line in table.figure().axes[0].lines] == ["long", "<b>"]
    assert "loss of all rows (total_loss)" in repr(table)
    assert "loss per row (loss)" in html
    assert "rows of a batch (batch_size)" in repr(table)
    # A part of it is an ordinary data frame.
    assert type(table.loc[["steps"]]) is pd.DataFrame
    assert type(table.T) is pd.DataFrame


@pytest.mark.parametrize("n_steps", [3, 4_000, 3_087_252])
def test_numbers_of_steps_do_not_lie_on_each_other(n_steps):
    long = finished(np.full(n_steps, 50.0))
    for figure in (compare({"long": long, "short": RUN}).figure(), loss_figure(long)):
        figure.canvas.draw()
        axes = figure.axes[0]
        low, high = axes.get_xlim()
        labels = [
            label for label in axes.get_xticklabels() if low <= label.get_position()[0] <= high
        ]
        boxes = [label.get_window_extent() for label in labels]
        assert len(boxes) > 2
        assert all(one.x1 + 5 < other.x0 for one, other in pairwise(boxes))


def test_chains_have_draws_and_no_loss():
    chains = finished([9.0] * 4, is_sampling=True)
    table = compare(chains)
    assert np.isnan(table.at["loss", "kernel 1"])
    assert "<img" not in table._repr_html_()


def test_a_start_far_off_leaves_the_ends_visible():
    far = finished(np.r_[np.full(3, 4e6), np.linspace(30, 10, 300)])
    short = finished(np.linspace(40, 20, 30))
    axes = compare(far, short).figure().axes[0]
    low, high = axes.get_ylim()
    assert low < 1.0 < 2.0 < high < 1e3
    assert "above the picture" in axes.get_ylabel()
    flat = finished(np.r_[np.full(3, 4e6), np.full(300, 11.0)])
    axes = compare(flat).figure().axes[0]
    assert "log scale" in axes.get_ylabel()  # as on the page and in loss_figure


def test_a_far_shorter_run_is_seen_beside_a_long_one():
    short = finished(np.geomspace(7e7, 2e5, 45))
    long = finished(np.r_[np.geomspace(2e6, 40, 3_000), np.full(57_000, 39.0)])
    axes = compare({"short": short, "long": long}).figure().axes[0]
    assert axes.get_xlabel() == "step, log scale"
    box = axes.get_window_extent()
    for line in axes.lines:
        places = axes.transData.transform(line.get_xydata())
        wide, high = np.ptp(places, axis=0)
        assert wide > 0.2 * box.width
        assert high > 0.2 * box.height
    assert compare(short, RUN).figure().axes[0].get_xlabel() == "step"


def test_on_an_axis_of_log_steps_a_longer_run_has_the_line_of_its_first_steps(rng):
    """Its start fills a part of its first buckets, and half of the picture."""
    losses = 80 + 4_000 * np.exp(-np.arange(60_000) / 100) + rng.normal(size=60_000)
    losses[41_234] += 4e5
    axes = compare({"short": finished(losses[:1_000]), "long": finished(losses)}).figure().axes[0]
    assert axes.get_xlabel() == "step, log scale"
    short, long = (line.get_xydata() for line in axes.lines)
    assert axes.lines[0].zorder > axes.lines[1].zorder  # which would hide it
    (last, end), together = short[-1], short[:-1]
    np.testing.assert_array_equal(together, long[: len(together)])
    assert len(together) > 300
    assert (last, long[-1, 0]) == (1_000, 60_000)
    assert end == pytest.approx(losses[875:1_000].mean() / 10)
    assert long[(long[:, 0] > 41_234) & (long[:, 0] < 42_000), 1].max() > 30  # no step is hidden


def test_a_fall_in_the_midst_is_no_start_that_may_be_cut_off(rng):
    """As of a rate that is lowered after a quarter of the steps."""
    plateaus = np.where(np.arange(4_000) < 1_100, 8.33, 8.20) + rng.normal(size=4_000) * 0.02
    later = finished(np.r_[np.linspace(19, 8.4, 40), plateaus])
    axes = compare(later, finished(plateaus - 0.01)).figure().axes[0]
    low, high = axes.get_ylim()
    assert low < 0.82 < 0.833 < high < 0.9
    assert "above the picture" in axes.get_ylabel()
    exploded = finished(np.r_[np.full(100, 8e6), np.full(300, 8.2)])
    axes = compare(exploded, later).figure().axes[0]
    assert "log scale" in axes.get_ylabel()
    assert axes.get_ylim()[1] > 8e5


@pytest.mark.parametrize(
    ("sources", "error", "words"),
    [
        (({"a": RUN}, {"a": OTHER}), ArgumentError, "Two runs have the name 'a'"),
        (({1: RUN},), ArgumentError, "name of a run"),
        (([],), ArgumentError, "at least one"),
        ((3,), DataTypeError, "int holds no run yet"),
        (
            (SimpleNamespace(last_run=None),),
            DataTypeError,
            "no run: the model was loaded",
        ),
        ((None,), DataTypeError, r"lab\.show\(lab\.History\.from_json\('run\.json'\)\) shows it"),
    ],
)
def test_what_cannot_be_compared_is_refused(sources, error, words):
    with pytest.raises(error, match=words):
        compare(*sources)
