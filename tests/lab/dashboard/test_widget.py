"""The widget and its view, with a comm that goes nowhere."""

from __future__ import annotations

import re
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from aimz_lab.inference.run.chain_record import ChainPlan, ChainRecord
from aimz_lab.inference.run.events import Callbacks
from aimz_lab.lab import environment
from aimz_lab.lab.callbacks.history import History
from aimz_lab.lab.dashboard.dashboard import LiveDashboard
from aimz_lab.lab.dashboard.replay import frames_of, show
from aimz_lab.lab.dashboard.views import PANELS, WIDGET_MIME, PictureView
from aimz_lab.lab.dashboard.widget import WidgetView, make_widget, widget_class
from aimz_lab.lab.pictures.summary import summary_text
from aimz_lab.preparing import Preparing
from tests.lab.dashboard.test_views import Outputs
from tests.lab.runs import begun, feed

pytest.importorskip("anywidget", reason="needs the lab extra: pip install 'aimz_lab[lab]'")


@pytest.fixture
def outputs(monkeypatch):
    shown = Outputs()
    monkeypatch.setattr("IPython.display.display", shown.display)
    return shown


class Watched:
    """A run on a widget view, with the messages to and from the widget."""

    def __init__(self, monkeypatch, **info):
        self.sent = []
        self.view = WidgetView(interval_s=0.0)
        self.run = begun(**(info or {"n_obs": 10}))
        self.callbacks = Callbacks([LiveDashboard(view=self.view, share=1.0)], self.run)
        self.callbacks.emit("on_fit_begin")
        self.widget = self.view.widget
        self.widget.send = self.sent.append
        original = self.widget.send_state
        self.updates = []

        def send_state(key=None):
            self.updates.append(set(key) if key else None)
            return original(key)

        monkeypatch.setattr(self.widget, "send_state", send_state)

    def page_says(self, **message):
        self.widget._handle_custom_msg(message, [])

    def steps(self, losses):
        self.callbacks.steps_end(feed(self.run, losses), [])

    def finish(self):
        self.run.finish("completed", "done")
        self.callbacks.emit("on_fit_end")


@pytest.fixture
def watched(monkeypatch, outputs):
    return Watched(monkeypatch)


def test_the_widget_holds_one_trait_a_panel_and_the_front_end():
    own = set(widget_class().class_trait_names(sync=True))
    assert {"meta", "previous_runs", *PANELS} <= own
    widget = make_widget({"meta": {"model": "a"}})
    assert "export default" in widget._esm
    assert ".aimz" in widget._css


def test_the_output_refers_to_the_widget_and_has_words_for_others(watched, outputs):
    bundle, below = outputs
    assert bundle[WIDGET_MIME]["model_id"] == watched.widget.model_id
    assert (
        bundle["text/plain"]
        == "kernel: a live view, which needs its kernel and a page that shows widgets"
    )
    assert below["text/plain"].startswith("kernel: was preparing at ")


def test_the_widget_has_words_of_its_own_for_pages_that_cannot_show_it(watched):
    watched.steps([3.0, 2.0])
    assert re.match(r"kernel: was running at [-:\d ]+ · step 2", repr(watched.widget))
    watched.finish()
    assert "completed: done" in repr(watched.widget)


def test_new_frames_go_out_in_one_message(watched):
    watched.steps([3.0, 2.0])
    [update] = watched.updates
    assert {"progress", "loss"} <= update
    assert watched.widget.progress["step"] == 2


def test_hello_is_answered_and_clicks_arrive(watched):
    watched.page_says(kind="hello")
    [welcome] = watched.sent
    assert welcome["kind"] == "welcome"
    watched.page_says(kind="pause", value=None)
    assert watched.run.control.paused
    watched.page_says(kind="learning_rate", value=0.1)
    assert watched.sent[-1]["kind"] == "refused"


def test_a_page_that_comes_later_learns_how_old_the_progress_is(watched, monkeypatch):
    watched.steps([3.0])
    now = time.monotonic()
    monkeypatch.setattr(
        "aimz_lab.lab.dashboard.widget.time", SimpleNamespace(monotonic=lambda: now + 60)
    )
    watched.page_says(kind="hello")
    assert watched.sent[-1]["age_s"] == pytest.approx(60, abs=5)
    watched.steps([2.0])
    watched.page_says(kind="hello")
    assert watched.sent[-1]["age_s"] == 0


def test_at_the_end_the_picture_takes_the_widget_s_place(watched, outputs):
    watched.steps([3.0, 2.0])
    watched.finish()
    bundle, _ = outputs
    assert set(bundle) == {"image/png", "text/html", "text/plain"}
    # A page that was loaded again does not follow this update; it asks the widget.
    assert watched.widget.record["data"] == bundle
    assert watched.widget.loss == {}


def test_the_head_above_the_record_of_chains_counts_their_draws(monkeypatch, outputs):
    watched = Watched(monkeypatch, is_sampling=True)
    watched.run.chains = ChainRecord(ChainPlan(1, 0, 9), {}, lambda *chosen: None)
    watched.run.chains.extend({"n_steps": np.array([[7], [7]])}, 2)
    feed(watched.run, [1.0, 1.0], n_steps=[7, 7])
    watched.finish()
    assert watched.widget.record
    head = watched.widget.progress, watched.widget.sampling
    assert [head[0]["status"], head[1]["draws"], head[1]["of"]] == ["completed", 2, 9]


def test_a_cell_that_runs_gets_the_picture_as_a_new_output_if_its_outputs_were_cleared(
    watched, outputs
):
    watched.page_says(kind="cleared")
    watched.finish()
    assert ["image/png" in bundle for bundle in outputs] == [True, False, True]


def test_a_page_that_comes_later_learns_whether_the_record_is_in_a_card(watched):
    watched.page_says(kind="card", value=True)
    assert watched.widget.card == {}  # while the run goes on, its thread alone sets traits
    watched.finish()
    assert watched.widget.card == {"open": True}
    watched.page_says(kind="card", value=False)
    assert watched.widget.card == {"open": False}


def test_an_output_that_was_made_since_the_others_were_cleared_has_the_picture(watched, outputs):
    watched.page_says(kind="cleared")
    watched.view.display(watched.run)
    watched.finish()
    assert ["image/png" in bundle for bundle in outputs] == [True, False, True, False]


def test_a_run_in_the_background_puts_its_picture_under_no_other_cell(watched, outputs):
    watched.page_says(kind="cleared")
    behind = threading.Thread(target=watched.finish)
    behind.start()
    behind.join()
    assert ["image/png" in bundle for bundle in outputs] == [True, False]


def test_the_picture_shows_the_whole_run_as_was_chosen_on_the_page(watched, outputs):
    watched.steps([30.0, 20.0, 10.0])
    chosen = {"curve": "loss", "log": True, "perRow": False, "half": True, "smooth": False}
    watched.page_says(kind="choices", value=chosen)
    watched.steps([8.0, 6.0])
    assert watched.widget.choices == {
        **chosen,
        "whole": False,
        "wasLog": False,
    }  # for a page that is loaded anew
    watched.finish()
    watched.view.display(watched.run)
    for bundle in (outputs[0], outputs[2]):
        text = bundle["text/html"]
        assert "The vertical axis shows loss (nats), log scale above the lowest, 6." in text
        assert "second half" not in text


@pytest.mark.parametrize("value", [None, 3, {"log": "yes", "curve": 4}, {"curve": "unheard_of"}])
def test_choices_that_make_no_sense_change_nothing(watched, outputs, value):
    watched.steps([30.0, 20.0])
    watched.page_says(kind="choices", value=value)
    watched.finish()
    bundle, _ = outputs
    assert "The vertical axis shows loss per row (nats)." in bundle["text/html"]


def test_shown_twice_both_outputs_become_the_picture(watched, outputs):
    watched.view.display(watched.run)
    assert [WIDGET_MIME in bundle for bundle in outputs] == [True, False, True, False]
    watched.finish()
    assert ["image/png" in bundle for bundle in outputs] == [True, False, True, False]


def test_a_page_that_stays_silent_gets_pictures_until_it_is_heard(watched, outputs, monkeypatch):
    monkeypatch.setattr("aimz_lab.lab.dashboard.widget.has_subshells", lambda: True)
    watched.steps([3.0])
    assert WIDGET_MIME in outputs[0]
    monkeypatch.setattr("aimz_lab.lab.dashboard.widget.PATIENCE_S", -1.0)
    watched.view.show(watched.run, {})
    assert "image/png" in outputs[0]
    assert watched.view.interval_s == PictureView.interval_s
    assert watched.view.apart_s > 0  # a picture may not delay the line
    watched.view.show(watched.run, {})
    assert watched.view.apart_s == 0
    watched.page_says(kind="hello")
    watched.view.show(watched.run, {})
    assert WIDGET_MIME in outputs[0]
    assert watched.view.interval_s == 0.0


def test_where_no_page_can_be_heard_the_widget_stays(watched, outputs, monkeypatch):
    monkeypatch.setattr("aimz_lab.lab.dashboard.widget.has_subshells", lambda: False)
    monkeypatch.setattr("aimz_lab.lab.dashboard.widget.PATIENCE_S", -1.0)
    watched.view.show(watched.run, {})
    assert WIDGET_MIME in outputs[0]


@pytest.mark.parametrize("reachable", [False, True])
def test_text_moves_where_no_page_says_that_it_shows_the_widget(
    watched, outputs, monkeypatch, reachable
):
    monkeypatch.setattr("aimz_lab.lab.dashboard.widget.has_subshells", lambda: reachable)
    monkeypatch.setattr("aimz_lab.lab.dashboard.moving_text.PATIENCE_S", -1.0)
    monkeypatch.setattr("aimz_lab.lab.dashboard.moving_text.INTERVAL_S", -1.0)
    watched.view.prepare(Preparing("kernel", "compiling the training steps", 2.0))
    was = r"kernel: was {} at [-\d]{{10}} \d\d:\d\d:\d\d · {}"
    preparing = was.format("preparing", "compiling the training steps")
    assert re.fullmatch(preparing, outputs[1]["text/plain"])
    seen = []
    for losses in ([3.0], [2.0, 1.0]):
        feed(watched.run, losses)
        watched.view.show(watched.run, {})
        seen.append(outputs[1]["text/plain"])
        # A page that shows the widget hides the text.
        assert (
            f'<div class="aimz-still-{watched.widget.model_id}">{seen[-1]}</div>'
            in (outputs[1]["text/html"])
        )
    assert "step 1 " in seen[0]
    assert re.fullmatch(was.format("running", ".*step 3 .*"), seen[1])
    watched.page_says(kind="hello")
    feed(watched.run, [0.5])
    watched.view.show(watched.run, {})
    assert outputs[1]["text/plain"] == seen[1]  # from now on it moves seldom
    monkeypatch.setattr("aimz_lab.lab.dashboard.moving_text.SELDOM_S", -1.0)
    watched.view.show(watched.run, {"loss": {"now": 0.25}})
    # It is for a saved notebook, whose kernel may be gone: it stays true, without a time left.
    assert re.fullmatch(
        r"kernel: was running at [-\d]{10} [:\d]{8} · epoch 1 · step 4 · loss 0\.25 per row",
        outputs[1]["text/plain"],
    )
    watched.view.prepare(Preparing("kernel", "compiling the training steps", 2.0, left_s=9.0))
    assert re.fullmatch(
        r"kernel: was preparing at [-\d]{10} [:\d]{8} · compiling the training steps",
        outputs[1]["text/plain"],
    )
    watched.widget.show_below()
    assert "was running at" in outputs[2]["text/plain"]
    watched.finish()
    assert "image/png" in outputs[0]
    assert [output["text/plain"] for output in outputs[1:]] == ["", ""]


def test_the_line_of_a_saved_notebook_follows_a_pause_at_once(watched, outputs):
    watched.page_says(kind="hello")
    watched.steps([3.0])
    assert "preparing" in outputs[1]["text/plain"]  # a line of less than a second ago
    watched.steps([2.0])
    watched.run.begin_pause()
    watched.callbacks.emit("on_pause")
    paused = outputs[1]["text/plain"]
    assert re.match(r"kernel: was paused at [-\d]{10} [:\d]{8} · epoch 1 · step 2 ", paused)
    watched.view.show(watched.run, {})
    assert outputs[1]["text/plain"] == paused
    watched.run.end_pause("running")
    watched.callbacks.emit("on_resume")
    assert "was running at" in outputs[1]["text/plain"]


def test_two_dashboards_have_widgets_of_their_own(outputs):
    runs = [begun(), begun()]
    views = [WidgetView(), WidgetView()]
    for run, view in zip(runs, views, strict=True):
        LiveDashboard(view=view).on_fit_begin(run)
    views[0].widget._handle_custom_msg({"kind": "stop"}, [])
    assert runs[0].control.stop_request
    assert not runs[1].control.stop_request


class TestReplay:
    def finished(self):
        run = begun(n_obs=10, row_multiple=8)
        feed(run, [30.0, 20.0], n_pad=6, grad_norm=[1.0, 2.0])
        run.finish("completed", "done")
        return run

    def test_a_run_can_be_looked_at_again_with_all_its_curves(self):
        widget = show(History(self.finished()))
        assert widget.progress["status"] == "completed"
        assert set(widget.loss["traces"]) == {"loss", "grad_norm"}
        assert widget.padding["share_of_run"] == 0.375
        assert widget.previous_runs == {"runs": []}

    def test_its_rates_are_those_of_its_summary_and_it_has_no_parameters_that_move(self):
        run = begun(n_obs=10)
        for seconds in (1000.0, 100.0, 100.0):  # beside them, the test takes no time
            feed(run, [3.0] * 10_000, seconds=seconds)
        run.finish("completed", "done")
        widget = show(run)
        assert widget.progress["steps_per_s"] == pytest.approx(25, rel=0.01)
        assert widget.progress["rows_per_s"] == pytest.approx(250, rel=0.01)
        assert "25 steps/s, 250 rows/s" in summary_text(run)
        assert widget.parameters == {}

    def test_others_come_along(self):
        widget = show(self.finished(), self.finished())
        [other] = widget.previous_runs["runs"]
        assert (other["label"], other["n_obs"], other["trace"]["steps"]) == ("kernel 2", 10, 2)

    def test_a_notebook_without_its_kernel_shows_the_picture_in_its_place(
        self, outputs, monkeypatch
    ):
        monkeypatch.setattr("aimz_lab.lab.dashboard.widget.place", lambda: "page")
        widget = show(self.finished(), self.finished())
        widget._ipython_display_()
        shown, still = outputs
        assert shown[WIDGET_MIME]["model_id"] == widget.model_id
        assert f'class="aimz-still-{widget.model_id}"' in still["text/html"]
        assert set(still) == {"image/png", "text/html", "text/plain"}
        assert (
            shown["text/plain"]
            == "kernel: a live view, which needs its kernel and a page that shows widgets"
        )
        # A program that executes the notebook has nobody who sees a widget.
        monkeypatch.setattr("aimz_lab.lab.dashboard.widget.place", lambda: "kernel")
        widget._ipython_display_()
        assert [WIDGET_MIME in bundle for bundle in outputs] == [True, False, False]

    def test_a_run_without_steps_can_be_shown(self):
        run = begun()
        run.finish("failed", "no")
        assert frames_of(run)["progress"]["reason"] == "no"

    def test_without_widgets_the_error_names_the_extra(self, monkeypatch):
        monkeypatch.setattr(environment, "has_widgets", lambda: False)
        with pytest.raises(ImportError, match=r"aimz_lab\[lab\]"):
            show(self.finished())


def test_a_page_that_draws_slowly_gets_fewer_updates_within_bounds(watched):
    for reported, kept in [(0.5, 0.5), (60, 1.5), (-1, 0.0)]:
        watched.page_says(kind="pace", value=reported)
        assert watched.view.interval_s == kept
    watched.page_says(kind="pace", value=0.5)
    for nonsense in (None, "fast", float("nan"), []):
        watched.page_says(kind="pace", value=nonsense)
    assert watched.view.interval_s == 0.5
    assert watched.sent == []
    watched.callbacks.emit("on_fit_begin")
    assert watched.view.interval_s == 0.0


def test_the_pace_of_a_page_waits_while_pictures_take_its_place(watched, outputs, monkeypatch):
    monkeypatch.setattr("aimz_lab.lab.dashboard.widget.has_subshells", lambda: True)
    watched.steps([3.0])
    monkeypatch.setattr("aimz_lab.lab.dashboard.widget.PATIENCE_S", -1.0)
    watched.view.show(watched.run, {})
    watched.page_says(kind="pace", value=0.7)
    assert watched.view.interval_s == PictureView.interval_s
    watched.page_says(kind="hello")
    watched.view.show(watched.run, {})
    assert watched.view.interval_s == 0.7
