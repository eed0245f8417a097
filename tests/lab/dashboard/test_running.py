"""The list of the runs that go on."""

from __future__ import annotations

import gc
import re

import pytest

from aimz_lab import lab
from aimz_lab.errors import ArgumentError
from aimz_lab.inference.run.events import Callback, Callbacks, Run, RunInfo
from aimz_lab.inference.run.loop import Lifecycle
from aimz_lab.lab import environment
from aimz_lab.lab.dashboard import previous_runs
from aimz_lab.lab.dashboard.views import WIDGET_MIME, RecordingDisplay
from aimz_lab.lab.dashboard.widget import WidgetView
from aimz_lab.lab.pictures.figures import picture_bundle
from tests.lab.dashboard.test_views import Outputs
from tests.lab.runs import chunk


@pytest.fixture
def widgets():
    pytest.importorskip("anywidget", reason="needs the lab extra: pip install 'aimz_lab[lab]'")


def begin(model="kernel", callbacks=()):
    run = Run(RunInfo(model, "SVI/AutoNormal", epochs=10, steps_per_epoch=10, n_obs=10))
    lifecycle = Lifecycle(run, Callbacks(callbacks, run))
    lifecycle.begin()
    return lifecycle


@pytest.fixture
def two():
    begun = [begin("<one>"), begin("other")]
    yield begun
    for lifecycle in begun:
        lifecycle.finish("stopped", "the test is over")


def numbers():
    return [int(line.split()[0]) for line in str(lab.running()).splitlines()]


def test_runs_are_listed_from_their_begin_to_their_end(two):
    assert list(lab.running()) == [lifecycle.run for lifecycle in two]
    first, _ = str(lab.running()).splitlines()
    assert first.split(maxsplit=1)[1].startswith("<one>: was preparing at ")
    two[0].finish("completed", "done")
    assert list(lab.running()) == [two[1].run]
    assert len(lab.running()) == 1
    two[1].fail(ValueError("no"))
    assert str(lab.running()) == "No run goes on in this process."


def test_a_loop_that_is_left_without_an_end_is_not_listed():
    begin("left")
    gc.collect()
    assert len(lab.running()) == 0


def test_a_run_is_chosen_by_number_or_name_or_as_the_only_one(two):
    first, second = numbers()
    runs = lab.running()
    runs.pause(which=first)
    assert [lifecycle.run.control.paused for lifecycle in two] == [True, False]
    runs.resume(which="<one>")
    assert not two[0].run.control.paused
    runs.stop(which="other", reason="seen enough")
    assert two[1].run.control.stop_request == ("seen enough", "stopped")
    assert runs[second] is runs["other"] is two[1].run
    two[1].finish("stopped", "seen enough")
    runs.stop()
    assert two[0].run.control.stop_request


def test_what_cannot_be_told_apart_is_refused(two):
    runs = lab.running()
    for which in (None, 0, True, "none", [1]):
        with pytest.raises(ArgumentError, match="other"):
            runs.stop(which)
    again = begin("other")
    first, second, _ = numbers()
    for call, which, number in (("pause", "other", second), ("stop", None, first)):
        with pytest.raises(ArgumentError) as refusal:
            getattr(runs, call)(which)
        told = str(refusal.value)
        assert told.endswith(f"Choose one by its number: lab.running().{call}({number}).")
    with pytest.raises(ArgumentError, match=rf"lab\.running\(\)\[{second}\]\.$"):
        runs["other"]
    again.finish("stopped", "")
    assert not any(lifecycle.run.control.has_requests for lifecycle in two)
    for lifecycle in two:
        lifecycle.finish("stopped", "")
    with pytest.raises(ArgumentError, match="No run goes on"):
        runs.resume()


@pytest.mark.usefixtures("widgets")
class TestTable:
    @pytest.fixture(autouse=True)
    def in_a_page(self, monkeypatch):
        monkeypatch.setattr(environment, "place", lambda: "page")

    def table(self):
        from ipywidgets import Widget

        bundle = lab.running()._repr_mimebundle_()
        assert "&lt;one&gt;" in bundle["text/html"]
        with pytest.deprecated_call():
            return Widget.widgets[bundle[WIDGET_MIME]["model_id"]]

    def test_its_buttons_and_its_end(self, two):
        table, sent = self.table(), []
        table.send = sent.append
        assert [(row["model"], row["is_over"]) for row in table.rows] == [
            ("<one>", False),
            ("other", False),
        ]
        first, second = numbers()
        for kind, number in [("pause", first), ("stop", second), ("stop", "x"), ("refresh", None)]:
            table._handle_custom_msg({"kind": kind, "value": number}, [])
        assert [row["is_paused"] for row in table.rows] == [True, False]
        assert [row["is_stopping"] for row in table.rows] == [False, True]
        assert sent == [{"kind": "heard"}] * 4
        table._handle_custom_msg({"kind": "resume", "value": first}, [])
        assert not table.rows[0]["is_paused"]
        for lifecycle in two:
            lifecycle.finish("stopped", "")
        table._handle_custom_msg({"kind": "refresh", "value": None}, [])
        assert all(row["is_over"] for row in table.rows)
        # A saved notebook keeps it without a kernel.
        assert set(table.record["data"]) == {"text/html", "text/plain"}

    def test_a_notebook_without_its_kernel_says_what_went_on_and_when(self, two, monkeypatch):
        outputs = Outputs()
        monkeypatch.setattr("IPython.display.display", outputs.display)
        lab.running()._ipython_display_()
        table, below = outputs
        assert f'class="aimz-still-{table[WIDGET_MIME]["model_id"]}"' in below["text/html"]
        assert "&lt;one&gt;" in below["text/html"]
        assert len(re.findall(r">was \w+ at [-\d]{10} [:\d]{8} ·", below["text/html"])) == 2
        assert " left" not in below["text/html"]
        # A page that trusts no widget shows both outputs, and the table once.
        assert table.keys() == {WIDGET_MIME, "text/plain"}
        assert (
            table["text/plain"]
            == "lab.running(): a live view, which needs its kernel and a page that shows widgets"
        )

    def test_a_run_that_goes_on_is_followed_with_a_line_below(self, two, monkeypatch):
        monkeypatch.setattr("aimz_lab.lab.dashboard.widget.place", lambda: "page")
        outputs = Outputs()
        monkeypatch.setattr("IPython.display.display", outputs.display)
        widget = lab.show(two[0].run)
        widget._ipython_display_()
        assert WIDGET_MIME in outputs[0]
        assert "<one>: was preparing at " in outputs[1]["text/plain"]
        two[0].report(chunk(1, [5.0]))
        two[0].finish("stopped", "enough")
        # The page may be one that cannot put the record there by itself.
        assert "stopped: enough" in outputs[0]["text/plain"]
        assert "image/png" in outputs[0]
        assert outputs[1]["text/plain"] == ""

    def test_a_widget_that_is_shown_once_more_is_replaced_there_too(self, monkeypatch):
        monkeypatch.setattr("aimz_lab.lab.dashboard.widget.place", lambda: "page")
        outputs = Outputs()
        monkeypatch.setattr("IPython.display.display", outputs.display)
        going_on = begin(callbacks=[lab.LiveDashboard(view=WidgetView(0.0))])
        lab.show(going_on.run)._ipython_display_()
        going_on.finish("stopped", "enough")
        assert ["image/png" in bundle for bundle in outputs] == [True, False, True, False]

    @pytest.mark.parametrize("has_widgets", [True, False])
    def test_the_words_say_at_last_how_the_runs_ended(self, two, monkeypatch, has_widgets):
        monkeypatch.setattr(environment, "has_widgets", lambda: has_widgets)
        outputs = Outputs()
        monkeypatch.setattr("IPython.display.display", outputs.display)
        lab.running()._ipython_display_()
        assert len(outputs) == 1 + has_widgets
        assert outputs[-1]["text/plain"].endswith("Call lab.running() again to see where they are.")
        for lifecycle in two:
            lifecycle.finish("stopped", "enough")
        words = outputs[-1]
        assert [
            line.split(" · ")[0].split(": ")[1] for line in words["text/plain"].splitlines()
        ] == [
            "stopped",
            "stopped",
        ]
        assert "as of" not in words["text/html"]
        assert ("aimz-still-" in words["text/html"]) is has_widgets

    def test_a_page_gets_the_record_once_the_words_below_are_the_last(self, two, monkeypatch):
        made = []

        class Ending(Callback):
            kind = "display"

            def on_fit_end(self, run):  # before the words: a picture takes a while
                table, *_ = made
                table._handle_custom_msg({"kind": "refresh", "value": None}, [])
                assert table.record == {}

        outputs = Outputs()
        monkeypatch.setattr("IPython.display.display", outputs.display)
        two[1].finish("stopped", "enough")
        two[0].callbacks.join(Ending())
        two[0].report(chunk(1, [5.0]))
        new = lab.dashboard.running._table_class()
        monkeypatch.setattr(
            lab.dashboard.running,
            "_table_class",
            lambda: lambda **all_: made.append(new(**all_)) or made[0],
        )
        lab.running()._ipython_display_()
        two[0].finish("stopped", "enough")
        assert two[0].run.disabled == []
        made[0]._handle_custom_msg({"kind": "refresh", "value": None}, [])
        assert "stopped" in made[0].record["data"]["text/plain"]

    def test_a_terminal_where_no_output_is_replaced_writes_its_text_alone(self, two, monkeypatch):
        monkeypatch.setattr(environment, "place", lambda: "terminal")
        with pytest.raises(NotImplementedError):  # IPython then writes the text
            lab.running()._ipython_display_()

    def test_elsewhere_and_without_runs_it_is_text(self, two, monkeypatch):
        monkeypatch.setattr(environment, "has_widgets", lambda: False)
        assert set(lab.running()._repr_mimebundle_()) == {"text/html", "text/plain"}
        for lifecycle in two:
            lifecycle.finish("stopped", "")
        assert lab.running()._repr_mimebundle_()["text/html"].startswith("<p>No run")


class Seen(Callback):
    kind = "display"

    def __init__(self):
        self.events = []

    def on_fit_begin(self, run):
        self.events.append("begin")

    def on_steps_end(self, run, steps):
        self.events.append("steps")

    def on_fit_end(self, run):
        self.events.append("end")


@pytest.mark.usefixtures("widgets")
class TestShow:
    def test_a_run_without_a_display_is_followed_live_to_its_record(self):
        lifecycle = begin()
        lifecycle.report(chunk(1, [5.0, 4.0]))
        widget = lab.show(lifecycle.run)
        assert (widget.progress["status"], widget.progress["step"]) == ("running", 2)
        widget._handle_custom_msg({"kind": "pause"}, [])
        assert lifecycle.run.control.paused
        assert widget.progress["asked"] == "pause"  # before the next event, which may be far
        assert lab.show(lifecycle.run) is widget
        widget._handle_custom_msg({"kind": "resume"}, [])
        lifecycle.report(chunk(3, [3.0], n_pad=30))
        assert widget.progress["step"] == 3
        assert widget.loss["traces"]["loss"]["steps"] == 3
        assert widget.padding["share_of_run"] == 0.5  # each step counts once
        lifecycle.finish("stopped", "enough")
        assert widget.progress["status"] == "stopped"
        assert "enough" in widget.record["data"]["text/plain"]

    def test_the_picture_at_its_end_has_the_runs_beside_it_too(self):
        lifecycle, other = begin(), begin()
        for each in (lifecycle, other):
            each.report(chunk(1, [5.0, 4.0]))
        other.finish("stopped", "")
        widget = lab.show(lifecycle.run, other.run)
        lifecycle.finish("stopped", "enough")
        picture = widget.record["data"]["image/png"]
        assert picture == picture_bundle(lifecycle.run, others=[other.run])[0]["image/png"]
        assert picture != picture_bundle(lifecycle.run)[0]["image/png"]

    def test_the_widget_of_its_own_dashboard_is_shown_once_more(self, monkeypatch):
        monkeypatch.setattr("IPython.display.display", Outputs().display)
        previous_runs.forget()
        view = WidgetView()
        lifecycle = begin(callbacks=[lab.LiveDashboard(view=view)])
        assert lab.show(lifecycle.run) is view.widget
        beside = lab.show(lifecycle.run, lifecycle.run)
        assert beside is not view.widget
        assert len(beside.previous_runs["runs"]) == 1
        lifecycle.report(chunk(1, [2.0, 1.0]))
        lifecycle.finish("stopped", "")
        # Two displays end with it, and the next run is compared with it once.
        again = begin(callbacks=[lab.LiveDashboard(view=WidgetView())])
        shown = lab.show(again.run).previous_runs["runs"]
        again.finish("stopped", "")
        assert sum(one["trace"]["steps"] == 2 for one in shown) == 1

    def test_a_run_that_cannot_be_followed_is_called_a_snapshot(self):
        run = begin().run  # the loop itself is left
        gc.collect()
        widget = lab.show(run)
        assert widget.progress["status"] == widget.progress["words"] == "snapshot"
        assert "does not follow" in widget.progress["reason"]

    def test_a_display_joins_from_the_next_event_on_and_only_before_the_end(self):
        lifecycle, early, late = begin(), Seen(), Seen()
        assert lifecycle.callbacks.join(early)
        assert early.events == []
        lifecycle.report(chunk(1, [1.0]))
        assert early.events == ["begin"]  # the record has these steps already
        lifecycle.report(chunk(2, [1.0]))
        lifecycle.finish("stopped", "")
        assert early.events == ["begin", "steps", "end"]
        assert not lifecycle.callbacks.join(late)
        assert late.events == []

    def test_one_that_joins_last_of_all_still_sees_the_end(self):
        lifecycle, last = begin(callbacks=[lab.LiveDashboard(view=RecordingDisplay())]), Seen()
        lifecycle.callbacks.join(last)
        lifecycle.finish("stopped", "")
        assert last.events == ["begin", "end"]
