"""Still pictures and summaries, read back from the figure and the words."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
import threading
from itertools import combinations

import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter
from matplotlib.transforms import Bbox
from PIL import Image

from aimz_lab.errors import ArgumentError, DataTypeError, OptionalDependencyError
from aimz_lab.inference.run.chain_record import ChainPlan, ChainRecord, Convergence
from aimz_lab.inference.run.records import BY_HAND
from aimz_lab.inference.run.run_words import run_facts
from aimz_lab.lab.formatting import status_line
from aimz_lab.lab.pictures import ink
from aimz_lab.lab.pictures.choices import Choices
from aimz_lab.lab.pictures.compared_losses import comparison_figure
from aimz_lab.lab.pictures.figures import loss_figure, picture_bundle, png
from aimz_lab.lab.pictures.summary import WIDTH, Summary, facts, summary_html, summary_text
from tests.lab.runs import begun, feed
from tests.runs import tell, told_run


def finished(losses, *, status="completed", reason="", n_pad=0, **info):
    run = begun(**info)
    if len(losses):
        feed(run, losses, n_pad=n_pad)
    run.finish(status, reason)
    return run


def lines(figure):
    return {line.get_label().split(" ")[0]: line for line in figure.axes[0].lines}


class TestFigure:
    def test_it_draws_each_step_smoothed_best_and_validation(self):
        run = finished(np.linspace(40, 20, 50), n_obs=10)
        run.validation = [(25, 3.5), (50, 2.5)]
        found = lines(loss_figure(run))
        np.testing.assert_allclose(found["each"].get_ydata(), np.linspace(4, 2, 50), rtol=1e-5)
        assert found["smoothed"].get_ydata()[-1] == pytest.approx(2.1, abs=0.01)
        assert found["best"].get_xdata() == [50]
        np.testing.assert_array_equal(found["held-out"].get_xydata(), [[25, 3.5], [50, 2.5]])
        assert found["held-out"].is_dashed()
        assert found["best"].get_label() == "best held-out loss 2.5 at step 50"

    @pytest.mark.parametrize(("losses", "is_seen"), [([9.0, np.nan, 8.0], False), ([9, 8], True)])
    def test_what_is_smoothed_is_named_where_it_is_seen(self, losses, is_seen):
        assert ("smoothed" in lines(loss_figure(finished(losses)))) == is_seen

    def test_steps_without_a_loss_are_steps_and_a_loss_between_them_is_seen(self):
        losses = np.full(90, np.nan)
        losses[7] = 30.0
        figure = loss_figure(finished(losses, n_obs=10))
        [at] = lines(figure)["each"].get_markevery()
        assert lines(figure)["each"].get_xydata()[at].tolist() == [8, 3]
        low, high = figure.axes[0].get_xlim()
        assert low < 1
        assert high > 90
        [text] = loss_figure(finished(losses[8:], n_obs=10)).axes[0].texts
        assert text.get_text() == "no finite value"

    def test_no_curve_runs_through_the_names_of_the_lines(self):
        runs = [finished(np.linspace(40, 20, 50), model=f"a long name {i}") for i in range(9)]
        figure = loss_figure(*runs)
        figure.canvas.draw()
        [axes] = figure.axes
        names = axes.get_legend().get_window_extent()
        assert names.y1 < axes.get_window_extent().y0
        assert figure.bbox.x0 < names.x0 < names.x1 < figure.bbox.x1
        assert figure.bbox.y0 < names.y0

    def test_beside_wide_numbers_the_names_of_the_lines_are_not_cut(self):
        run = finished(np.geomspace(3e9, 200, 24_000), n_obs=10)
        run.validation = [(step, 98.25) for step in range(0, 24_001, 2_400)]
        figure = loss_figure(run)
        figure.canvas.draw()
        [axes] = figure.axes
        names = axes.get_legend().get_window_extent()
        assert figure.bbox.x0 < names.x0 < names.x1 < figure.bbox.x1

    @pytest.mark.parametrize(
        ("method", "name"), [("SVI/AutoNormal", "best kept"), (BY_HAND, "best")]
    )
    def test_only_a_state_that_is_kept_is_called_so(self, method, name):
        noise = 0.1 * np.random.default_rng(0).normal(size=1_740)
        losses = noise + np.where(np.arange(1_740) < 740, 2.0, 3.0)
        run = tell([], losses, told_run(steps_per_epoch=1, method=method), chunk=870)
        [best] = [line for line in loss_figure(run).axes[0].lines if line.get_marker() == "D"]
        assert best.get_label() == f"{name} {run.best_so_far.value:.4g} at step 870"

    def test_steps_are_whole_and_each_is_written_once(self):
        figure = loss_figure(finished([4.0], n_obs=10))
        figure.canvas.draw()
        low, high = figure.axes[0].get_xlim()
        ticks = [t for t in figure.axes[0].get_xticks() if low <= t <= high]
        assert ticks == [1]

    def test_changes_of_the_rate_are_marked(self):
        run = begun()
        feed(run, np.linspace(40, 20, 50), rate=0.1)
        run.rate_changed(5.0)
        feed(run, np.linspace(20, 10, 50), rate=5.0)
        axes = loss_figure(run).axes[0]
        assert [50.0, 50.0] in [list(line.get_xdata()) for line in axes.lines]
        assert "rate 5" in [text.get_text() for text in axes.texts]

    def test_a_rate_above_another_line_ends_at_its_own_and_so_does_that_of_the_other(self):
        run = begun()
        for n_steps, rate in ((2_580, 0.004), (300, 0.003)):
            feed(run, np.full(n_steps, 2.0))
            run.rate_changed(rate)
        feed(run, np.full(120, 2.0))
        figure = loss_figure(run)
        figure.canvas.draw()
        first, last = (text.get_window_extent() for text in reversed(figure.axes[0].texts))
        lines = [figure.axes[0].transData.transform((step, 2.0))[0] for step in (2_580, 2_880)]
        assert [first.x1, last.x1] == pytest.approx(lines, abs=2)
        assert first.y1 < last.y0  # nothing between the first line and its rate

    def test_without_smoothing_the_line_says_of_how_many_steps_its_means_are(self):
        run = finished(np.linspace(3.0, 2.0, 4_000))
        [line] = [
            line
            for line in loss_figure(run, smooth=False).axes[0].lines
            if len(line.get_xdata()) > 1
        ]
        assert re.fullmatch(r"loss, means of \d+ steps", line.get_label())

    def test_a_rate_that_is_set_twice_changes_once(self):
        run = begun()
        feed(run, np.full(50, 3.0), rate=0.1)
        for _ in range(2):
            run.rate_changed(0.5)
        assert len(run.rate_changes) == 1

    def test_three_changes_of_the_rate_have_their_rates(self):
        run = begun()
        for n_steps, rate in ((415, 0.001), (512, 0.002), (1_378, 0.003), (2_163, 0.0)):
            feed(run, np.full(n_steps, 2.0), rate=rate)
            run.rate_changed(rate + 0.001)
        texts = [text.get_text() for text in loss_figure(run).axes[0].texts]
        assert {"rate 0.001", "rate 0.002", "rate 0.003", "rate 0.004"} >= set(texts)
        assert len(texts) == 4

    @pytest.mark.parametrize("longer", [0, 400])
    def test_rates_of_changes_side_by_side_do_not_lie_on_each_other(self, longer):
        run = begun()
        for n_steps, rate in ((100, 0.1), (50, 0.2), (3, 0.3), (3, 0.4), (3, 0.5), (41, 0.6)):
            run.rate_changed(rate)
            feed(run, np.full(n_steps, 2.0), rate=rate)
        run.rate_changed(0.7)
        feed(run, np.full(2, 1.0), rate=0.7)
        figure = loss_figure(run, *([finished(np.full(longer, 2.0))] if longer else []))
        figure.canvas.draw()
        axes = figure.axes[0]
        labels = {t.get_text(): t.get_window_extent() for t in axes.texts}
        assert {"rate 0.1", "rate 0.7"} <= labels.keys()
        boxes = list(labels.values())
        assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
        assert max(box.x1 for box in boxes) <= axes.bbox.x1
        marks = [line for line in axes.lines if len(set(line.get_xdata())) == 1]
        assert len(marks) == 7
        lowest = min(box.y0 for box in boxes)
        assert max(line.get_window_extent().y1 for line in marks) <= lowest  # through none

    def test_it_shows_itself_where_pyplot_has_made_no_figure(self):
        shown, _ = DisplayFormatter().format(loss_figure(finished([2.0, 1.0])))
        assert base64.b64decode(shown["image/png"]).startswith(b"\x89PNG")

    def test_totals_and_raw_values(self):
        run = finished([40.0, 30.0], n_obs=10)
        run.validation = [(2, 3.0)]
        figure = loss_figure(run, per_row=False, smooth=False)
        assert "smoothed" not in lines(figure)
        assert lines(figure)["each"].get_ydata().tolist() == [40, 30]
        held_out, best = lines(figure)["held-out"], lines(figure)["best"]
        assert held_out.get_ydata().tolist() == [30]
        assert held_out.get_label() == "held-out loss, scaled to 10 training rows"
        assert best.get_label() == "best held-out loss, scaled 30 at step 2"
        assert figure.axes[0].get_ylabel() == "loss (nats)"

    @pytest.mark.parametrize("losses", [[9.0, 5.0, 3.0], [9.0, 5.0, -1.0]])
    def test_a_logarithmic_axis_is_of_the_distance_to_the_lowest(self, losses):
        axes = loss_figure(finished(losses), log=True, smooth=False).axes[0]
        assert axes.get_ylabel() == f"loss (nats)\nlog scale above the lowest, {losses[-1]:.0f}"
        np.testing.assert_allclose(axes.lines[0].get_ydata(), losses)  # its data are the losses
        axes.figure.canvas.draw()
        heights = axes.transAxes.inverted().transform(
            axes.transData.transform([(1, value) for value in losses])
        )[:, 1]
        assert 1 > heights[0] > heights[1] > 0.1
        assert heights[2] == pytest.approx(0, abs=1e-6)
        labels = dict(zip(axes.get_yticks(), axes.yaxis.get_major_formatter().seq, strict=True))
        assert all(place - losses[-1] == pytest.approx(float(t)) for place, t in labels.items())

    @pytest.mark.parametrize(("losses", "labels"), [([0.9, 0.6, 0.4], 3), ([900.0, 2, 0.4], 2)])
    def test_a_logarithmic_axis_has_labels_also_within_a_decade(self, losses, labels):
        axes = loss_figure(finished(losses), log=True, smooth=False).axes[0]
        low, high = axes.get_ylim()
        assert len([tick for tick in axes.get_yticks() if low <= tick <= high]) >= labels

    def test_long_runs_are_drawn_with_their_extremes(self):
        losses = np.random.default_rng(0).normal(size=200_000)
        figure = loss_figure(finished(losses))
        assert len(lines(figure)["each"].get_ydata()) <= 1025
        [band] = figure.axes[0].collections
        path = band.get_paths()[0].vertices[:, 1]
        assert path.max() == pytest.approx(losses.max(), rel=1e-5)
        assert path.min() == pytest.approx(losses.min(), rel=1e-5)

    @pytest.mark.parametrize("losses", [[], [1.0], [np.nan, np.nan], [np.nan, 1.0, np.inf]])
    def test_runs_with_little_to_draw_have_a_picture_too(self, losses):
        assert png(loss_figure(finished(losses))).startswith(b"\x89PNG")

    def test_other_runs_come_along_in_grey(self):
        figure = loss_figure(*(finished([3.0, 2.0]) for _ in range(7)))
        greys = [line for line in figure.axes[0].lines if line.get_color() == "#808080"]
        assert len(greys) == 6

    def test_names_are_not_read_as_mathematics(self):
        run = finished([2.0, 1.0], model="price_in_$_and_$x^{2")
        assert png(loss_figure(run)).startswith(b"\x89PNG")

    def test_a_long_title_leaves_out_its_least_part(self):
        run = begun(model="earnings", epochs=10**9, steps_per_epoch=10**5)
        feed(run, [2.0, 1.0])
        run.clock.spend("preparing", 64.0)
        run.finish("completed", "")
        title = loss_figure(run).axes[0].get_title(loc="right")
        assert title.startswith("completed · epoch")
        assert "prepare" not in title
        assert "…" not in title

    def test_the_name_of_a_logarithmic_axis_stays_below_the_titles(self):
        run = finished(np.r_[np.full(3, 4e6), np.linspace(30, 10, 300)], epochs=30_000, n_obs=9)
        figure = loss_figure(run)
        axes = figure.axes[0]
        axes.set_ylabel("loss per row (nats)\nabove its lowest, 3.508; log scale\nup to 6,705,418")
        figure.canvas.draw()
        name, title = axes.yaxis.label.get_window_extent(), axes._right_title.get_window_extent()
        assert figure.bbox.y0 <= name.y0 < name.y1 < title.y0

    @pytest.mark.slow
    @pytest.mark.parametrize("length", [1, 30, 55, 70, 200])
    @pytest.mark.parametrize("reason", ["completed", "stopped"])
    def test_titles_of_any_length_stay_apart_and_within_the_picture(self, length, reason):
        run = finished([2.0, 1.0], model="kernel_" * (length // 7) + "k" * (length % 7))
        run.status = reason
        figure = loss_figure(run)
        figure.canvas.draw()
        name, status = figure.axes[0]._left_title, figure.axes[0]._right_title
        assert not name.get_text().startswith("…")
        assert status.get_text().startswith(reason)
        boxes = [text.get_window_extent() for text in (name, status)]
        if name.get_text().endswith("\n"):  # two lines, of which the second is empty
            height = (boxes[0].y1 - boxes[0].y0) / 2
            boxes[0] = Bbox([[boxes[0].x0, boxes[0].y1 - height], [boxes[0].x1, boxes[0].y1]])
        assert not boxes[0].overlaps(boxes[1])
        for box in boxes:
            assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
            assert box.y1 <= figure.bbox.y1

    def test_nothing_to_draw_is_an_error(self):
        with pytest.raises(ArgumentError, match="at least one run"):
            loss_figure()
        with pytest.raises(DataTypeError, match="list holds no run"):
            loss_figure([1, 2])

    def test_without_matplotlib_the_error_names_the_extra(self, monkeypatch):
        monkeypatch.setattr("aimz_lab.lab.environment.has_matplotlib", lambda: False)
        with pytest.raises(OptionalDependencyError, match=r"aimz_lab\[lab\]"):
            loss_figure(finished([1.0]))

    def test_pictures_may_be_drawn_from_threads_and_leave_pyplot_alone(self):
        import matplotlib.pyplot as plt

        drawn = []
        run = finished(np.linspace(3, 1, 500), model="$a$")
        threads = [
            threading.Thread(target=lambda: drawn.append(png(loss_figure(run)))) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(drawn) == 3
        assert plt.get_fignums() == []

    def test_the_png_is_small_and_readable(self):
        from PIL import Image

        content = png(loss_figure(finished(np.random.default_rng(1).normal(size=5000))))
        assert len(content) < 60_000
        width, height = Image.open(io.BytesIO(content)).size
        assert width >= 1.3 * WIDTH  # sharp also where a pixel of a page has several
        assert 0.3 < height / width < 0.5


@pytest.mark.parametrize("draws", [3_000, 3 * 10**9, 3 * 10**15])
def test_the_title_of_a_run_of_chains_keeps_its_time(draws):
    run = begun(is_sampling=True, model="visits_model")
    run.chains = ChainRecord(ChainPlan(4, 1, draws), {}, lambda *chosen: None)
    sizes = np.resize([0.4, 0.46], (4, 4))
    reported = {"potential_energy": 1.0 + sizes, "step_size": sizes, "diverging": 0 * sizes}
    run.chains.extend(reported, 4)
    feed(run, np.ones(4))
    run.clock.spend("preparing", 6.7)
    run.finish("completed", "")
    figure = loss_figure(run)
    figure.canvas.draw()
    title = figure.axes[0]._right_title
    assert title.get_text().startswith("completed · draw")
    assert " · in " in title.get_text().replace("\n", " · ")
    assert "…" not in title.get_text()
    box = title.get_window_extent()
    assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1


@pytest.mark.parametrize("sd", [0.5, 2.0, 3.0])
def test_the_fall_of_chains_is_told_beside_the_numbers_of_their_axis(sd):
    run = begun(is_sampling=True)
    run.chains = ChainRecord(ChainPlan(2, 50, 150), {}, lambda *chosen: None)
    noise = sd * np.random.default_rng(0).normal(size=(200, 2))
    energies = 1590 + noise + 1e4 * np.exp(-np.arange(200) / 4)[:, None]
    run.chains.extend({"potential_energy": energies}, 200)
    feed(run, energies.mean(1))
    run.finish("completed", "")
    figure = loss_figure(run)
    figure.canvas.draw()
    axes, renderer = figure.axes[0], figure.canvas.get_renderer()
    assert axes.get_ylabel().startswith("potential energy (nats)\nup to 11,5")
    left = min(text.get_window_extent(renderer).x0 for text in axes.get_yticklabels())
    assert 5 < left - axes.yaxis.label.get_window_extent(renderer).x1 < 15


def test_a_single_iteration_of_chains_is_a_dot():
    run = begun(is_sampling=True)
    run.chains = ChainRecord(ChainPlan(2, 50, 150), {}, lambda *chosen: None)
    run.chains.extend({"potential_energy": np.array([[3.0, 4.0]])}, 1)
    feed(run, [3.5])
    run.finish("stopped", "")
    assert {line.get_marker() for line in loss_figure(run).axes[0].lines} == {"o"}


@pytest.mark.parametrize(
    ("value", "chains", "said"),
    [
        (1.004, 1, "at most 1.00 (a), within the limit of 1.01"),
        (1.0104, 4, "up to 1.0104 (a), above 1.01: the chains have not mixed; run longer ones"),
        (1.03, 1, "up to 1.03 (a), above 1.01, of the halves of one chain; run four chains, and"),
    ],
)
def test_r_hat_is_told_with_digits_that_show_it_and_of_one_chain_with_what_it_means(
    value, chains, said
):
    run = begun(is_sampling=True)
    run.chains = ChainRecord(ChainPlan(chains, 1, 1), {}, lambda *chosen: None)
    run.finish("completed", "")
    run.chains.convergence = Convergence(value, "a", 9.0, "a", judged=1, total=1)
    assert facts(run)["R-hat"].startswith(said)


def test_the_words_of_compared_losses_fit_beside_their_axis():
    losses = [4e6, *np.full(20, 1e6), *np.linspace(100, 80, 2_000)]
    drawn = comparison_figure({"one": finished(losses, n_obs=10)}, {}, ["one"])
    drawn.canvas.draw()
    label = drawn.axes[0].yaxis.label
    assert "above" in label.get_text()
    ends = label.get_window_extent()
    assert drawn.bbox.y0 <= ends.y0 < ends.y1 <= drawn.bbox.y1


def test_a_loss_below_the_picture_of_compared_losses_is_told():
    noise = np.random.default_rng(2).normal(size=40_000)
    first, second = (noise[:n] + [30.0, 60.0][i] for i, n in enumerate([1_000, 40_000]))
    second[:3] = 60.0, 5.0, 60.0
    runs = {"one": finished(first, n_obs=10), "two": finished(second, n_obs=10)}
    axes = comparison_figure(runs, {}, list(runs)).axes[0]
    lowest = min(line.get_ydata().min() for line in axes.lines)
    assert lowest < axes.get_ylim()[0]
    assert f"\ndown to {lowest:.4g} below the picture" in axes.get_ylabel()


class TestSummary:
    def test_the_status_is_told_once(self):
        run = finished([1.0], status="interrupted", reason="interrupted after step 1")
        assert facts(run)["status"] == "interrupted after step 1"

    def test_facts_of_a_run(self):
        run = finished(
            [3000.0] * 100, n_obs=1000, batch_size=10, row_multiple=8, n_pad=6, reason="all done"
        )
        run.validation = [(50, 2.5), (100, 2.75)]
        run.checkpoints = [(80, "here")]
        found = facts(run)
        assert found["status"] == "completed: all done"
        assert found["loss"] == "3 per row, 3,000 for all 1,000 rows"
        assert found["best"] == "2.5 per row, held-out loss, at step 50"
        assert found["held-out loss"] == "2.75 per row"
        assert found["steps"] == "100 in 1 epoch"
        assert re.fullmatch(r"0\.1 s; [12],\d{3} steps/s, \d\d,\d{3} rows/s", found["time"])
        assert found["padding"] == "37.5% of the rows computed only fill up batches"
        assert found["advice"].endswith("16 wastes 0%.")
        assert found["checkpoint"] == "here at step 80"

    @pytest.mark.parametrize(
        ("status", "reported"), [("completed", True), ("stopped", True), ("early_stopped", False)]
    )
    def test_a_loss_that_still_fell_at_the_end_is_reported(self, status, reported):
        losses = 9000.0 - 1000 * np.linspace(0, 1, 2560)
        run = finished(losses, n_obs=1000, batch_size=10, steps_per_epoch=100, status=status)
        expected = "still falling at the end, by 0.07816 per row in the last 200 steps; train on"
        assert facts(run).get("trend", "").startswith(expected) == reported
        assert ("still falling" in summary_html(run)) == reported
        assert dict(run_facts(run)).get("trend") == facts(run).get("trend")

    def test_a_loss_that_rose_is_reported_with_its_means(self, rng):
        losses = np.r_[np.full(640, 2.0), np.full(1_920, 3.0)] + 0.001 * rng.normal(size=2560)
        run = finished(1000 * losses, n_obs=1000, batch_size=10, steps_per_epoch=64)
        trend = facts(run)["trend"]
        assert trend.startswith("the loss rose, from 2 per row (mean of steps ")
        assert "to 3 (of the last" in trend

    def test_skipped_steps_are_a_fact(self):
        run = finished([np.nan] * 40, n_obs=1000)
        run.skipped = 40
        assert facts(run)["skipped"] == "40 of 40 steps"
        assert "40 steps skipped" in status_line(run)

    def test_a_run_without_steps_has_a_summary(self):
        run = finished([], status="failed", reason="KernelError: no")
        assert facts(run)["status"] == "failed: KernelError: no"
        assert "loss" not in facts(run)
        assert summary_text(run).startswith("kernel · SVI with AutoNormal\n")

    def test_html_escapes_what_users_write(self):
        run = finished([1.0], model="<script>alert(1)</script>", reason='"<b>"')
        run.notes = ["<img src=x>"]
        html = summary_html(run, picture="data:image/png;base64,AAAA")
        assert "<script>" not in html
        assert "<b>" not in html
        assert html.count("<img") == 1

    def test_the_picture_has_words_for_who_cannot_see_it(self):
        run = finished([2.0, 1.0], status="stopped", reason="Stop was clicked")
        assert (
            Summary(run)
            .alt()
            .startswith("Loss of kernel over 2 steps, stopped: Stop was clicked. Loss 1.")
        )


def test_the_bundle_holds_the_same_picture_twice_for_who_shows_only_one():
    bundle, metadata = picture_bundle(finished([2.0, 1.0]))
    assert f"base64,{bundle['image/png']}" in bundle["text/html"]
    assert base64.b64decode(bundle["image/png"], validate=True)[1:4] == b"PNG"
    assert metadata["image/png"]["alt"].startswith("Loss of kernel")


def pixels_of(bundle):
    picture = Image.open(io.BytesIO(base64.b64decode(bundle["image/png"])))
    return np.asarray(picture.convert("RGBA")).astype(int)


def has_color(pixels, color):
    near = np.abs(pixels - np.array([*bytes.fromhex(color[1:]), 255])).max(axis=-1) < 12
    return near.sum() > 100


def test_a_record_of_another_curve_has_the_loss_below_it():
    run = begun(n_obs=10)
    feed(run, np.linspace(9, 1, 40), rate=0.1)
    run.finish("completed", "all steps done")
    alone, _ = picture_bundle(run)
    bundle, metadata = picture_bundle(run, Choices(curve="learning_rate"))
    pixels = [pixels_of(each) for each in (alone, bundle)]
    assert pixels[0].shape[1] == pixels[1].shape[1]
    assert 1.5 < pixels[1].shape[0] / pixels[0].shape[0] < 2
    top, below = np.split(pixels[1], [pixels[0].shape[0]])
    assert has_color(top, ink.PINK)
    assert not has_color(top, ink.BLUE)
    assert has_color(below, ink.BLUE)
    alt = metadata["image/png"]["alt"]
    assert alt.startswith("Learning rate of kernel over 40 steps, completed")
    assert "Below it, the loss. The vertical axis shows loss per row (nats)" in alt
    assert "Below it, the loss." in bundle["text/html"]
    assert "Below" not in alone["text/html"]


@pytest.mark.slow
def test_importing_the_lab_loads_nothing_heavy():
    code = (
        "import sys, aimz_lab.lab; "
        "print([m for m in ('IPython', 'ipywidgets', 'anywidget', 'matplotlib', 'PIL') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
