"""The dashboard on a recording display: what it shows, what clicks do, what a failure leaves."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import replace

import jax
import numpy as np
import pytest

from aimz_lab.errors import ArgumentError, OptionalDependencyError
from aimz_lab.inference.run.control import Control
from aimz_lab.inference.run.events import Callback, Callbacks
from aimz_lab.inference.run.getting_ready import getting_ready
from aimz_lab.inference.run.loop import Lifecycle
from aimz_lab.inference.run.records import Best
from aimz_lab.lab import environment, loss_figure, show, summary_text
from aimz_lab.lab.callbacks import ProgressLine
from aimz_lab.lab.dashboard import previous_runs
from aimz_lab.lab.dashboard.dashboard import LiveDashboard, default_display
from aimz_lab.lab.dashboard.view_choice import view_named
from aimz_lab.lab.dashboard.views import PANELS, NotebookView, RecordingDisplay, View
from aimz_lab.lab.panels import LossPanel, PaddingPanel, ProgressPanel
from aimz_lab.lab.panels.panel_set import PanelSet
from aimz_lab.preparing import Preparing, current
from tests.kernels import regression_data
from tests.lab.runs import begun, feed, play
from tests.runs import refit, regression_model

OF_TRAINING = PANELS - {"check", "sampling", "convergence"}


@pytest.fixture(autouse=True)
def _no_previous_runs():
    previous_runs.forget()
    yield
    previous_runs.forget()


@pytest.fixture
def screen():
    return RecordingDisplay()


def test_first_frame_has_everything_and_comes_before_the_first_step(screen):
    run = begun(n_obs=50, batch_size=10, epochs=2, steps_per_epoch=5, scaled="N / B = 5")
    LiveDashboard(view=screen).on_fit_begin(run)
    [first] = screen.frames
    assert first["meta"] == {
        "model": "kernel",
        "number": run.number,
        "method": "SVI with AutoNormal",
        "n_obs": 50,
        "batch_size": 10,
        "epochs": 2,
        "has_all_rows_each_step": False,
        "scaled": "N / B = 5",
        "is_sampling": False,
    }
    assert first["progress"]["step"] == 0
    assert first["progress"]["total_steps"] == 10
    assert first.keys() >= OF_TRAINING


def test_the_first_chunk_is_shown_at_once(screen):
    run = begun()
    dashboard = LiveDashboard(view=screen)
    dashboard.on_fit_begin(run)
    dashboard.on_steps_end(run, feed(run, [3.0, 2.0]))
    assert screen.frames[1]["progress"]["step"] == 2
    assert screen.frames[1]["loss"]["now"] is not None


def test_updates_are_rare_where_chunks_are_many(screen):
    screen.interval_s = 0.1
    run = begun()
    dashboard = LiveDashboard(view=screen)
    dashboard.on_fit_begin(run)
    began = time.monotonic()
    while time.monotonic() - began < 0.55:
        dashboard.on_steps_end(run, feed(run, [1.0]))
    assert 2 <= len(screen.frames) <= 1 + 7
    assert run.step > 20


@pytest.mark.slow
def test_display_work_stays_within_its_share(screen):
    class Slow(RecordingDisplay):
        def show(self, run, frames):
            time.sleep(0.01)
            super().show(run, frames)

    slow = Slow()
    run = begun()
    dashboard = LiveDashboard(view=slow, share=0.1)
    dashboard.on_fit_begin(run)
    began = time.monotonic()
    while time.monotonic() - began < 1.0:
        dashboard.on_steps_end(run, feed(run, [1.0]))
        time.sleep(0.005)
    # The last update may still wait for its turn to be paid off.
    assert dashboard.display_s <= 0.1 * 1.0 + 0.03
    assert len(slow.frames) > 3


def test_the_end_shows_all_and_the_summary(screen):
    run = begun(n_obs=10)
    play(run, [LiveDashboard(view=screen)], [[20.0, 10.0], [10.0]])
    assert screen.final["progress"]["status"] == "completed"
    assert screen.final["progress"]["step"] == 3
    assert screen.final.keys() >= OF_TRAINING
    assert "completed: all steps done" in screen.text


@pytest.mark.parametrize(
    "status", ["stopped", "interrupted", "diverged", "failed", "early_stopped"]
)
def test_every_way_to_end_is_told(screen, status):
    play(begun(), [LiveDashboard(view=screen)], [[1.0]], status=status, reason="because")
    assert screen.final["progress"]["status"] == status
    assert screen.final["progress"]["reason"] == "because"


class TestClicks:
    def begin(self, screen, **control):
        run = begun(control=Control(**control))
        dashboard = LiveDashboard(view=screen)
        dashboard.on_fit_begin(run)
        return run, dashboard

    def test_stop_pause_resume_and_checkpoint_reach_the_run(self, screen):
        run, _ = self.begin(screen)
        screen.click("pause")
        assert run.control.paused
        screen.click("resume")
        assert not run.control.paused
        screen.click("checkpoint")
        assert run.control.take_checkpoint()
        screen.click("stop")
        assert run.control.stop_request == ("Stop was clicked", "stopped")

    def test_a_rate_is_set_where_it_can_be(self, screen):
        run, _ = self.begin(screen, can_set_learning_rate=True)
        screen.click("learning_rate", 0.5)
        assert run.control.take_learning_rate() == 0.5
        assert screen.answers == [{"kind": "taken"}]

    def test_what_is_asked_for_is_shown_until_the_run_gets_to_it(self, screen):
        run, dashboard = self.begin(screen, can_set_learning_rate=True)
        run.learning_rate = 0.01
        screen.click("learning_rate", 0.02)
        screen.click("checkpoint")
        shown = screen.latest["progress"]
        assert (shown["learning_rate"], shown["asked_rate"]) == (0.01, 0.02)
        assert shown["asked"] == "checkpoint"
        run.rate_changed(run.control.take_learning_rate())
        run.control.take_checkpoint()
        dashboard.on_resume(run)
        shown = screen.latest["progress"]
        assert (shown["learning_rate"], shown["asked_rate"], shown["asked"]) == (0.02, None, "")

    def test_what_code_asks_of_a_paused_run_is_shown_at_once(self, screen):
        run, dashboard = self.begin(screen, can_set_learning_rate=True)
        run.begin_pause()
        dashboard.on_pause(run)
        run.control.set_learning_rate(0.02)
        assert screen.latest["progress"]["asked_rate"] == 0.02
        run.control.checkpoint()
        assert screen.latest["progress"]["asked"] == "checkpoint"

    def test_a_callback_that_asks_often_of_a_run_that_goes_on_sends_no_frames(self, screen):
        run, _ = self.begin(screen, can_set_learning_rate=True)
        feed(run, [1.0])
        assert not run.is_preparing
        shown = len(screen.frames)
        run.control.set_learning_rate(0.02)
        assert len(screen.frames) == shown

    def test_a_display_that_fails_keeps_no_request_from_being_made(self):
        control = Control()
        control.listen(lambda: 1 / 0)
        control.checkpoint()
        assert control.wants_checkpoint

    @pytest.mark.parametrize(("can", "value"), [(False, 0.5), (True, -1.0), (True, float("nan"))])
    def test_a_rate_that_cannot_be_set_is_answered(self, screen, can, value):
        run, _ = self.begin(screen, can_set_learning_rate=can, why_not="it is fixed")
        shown = screen.latest["progress"]
        assert (shown["can_set_learning_rate"], shown["why_fixed"]) == (
            can,
            "" if can else "it is fixed",
        )
        screen.click("learning_rate", value)
        assert run.control.take_learning_rate() is None
        [answer] = screen.answers
        assert answer["kind"] == "refused"
        assert ("it is fixed" if not can else "positive finite number") in answer["why"]

    def test_a_rate_far_from_the_present_one_is_asked_back(self, screen):
        run, _ = self.begin(screen, can_set_learning_rate=True)
        run.learning_rate = 0.01
        screen.click("learning_rate", 50.0)
        assert run.control.requested_learning_rate is None
        [answer] = screen.answers
        assert answer["kind"] == "doubted"
        assert answer["why"].startswith("50 is 5,000 times the present rate of 0.01, and the run")
        screen.click("sure_learning_rate", 50.0)
        assert run.control.take_learning_rate() == 50.0
        assert screen.answers[-1] == {"kind": "taken"}
        screen.click("learning_rate", 1e-30)
        assert run.control.requested_learning_rate is None
        assert "and the parameters would stand still. Press Enter" in screen.answers[-1]["why"]
        for absurd in (1e99, 0, -1.0, float("inf"), None):
            for kind in ("learning_rate", "sure_learning_rate"):
                screen.click(kind, absurd)
                assert screen.answers[-1]["kind"] == "refused"
                assert run.control.requested_learning_rate is None

    @pytest.mark.parametrize("kind", ["nonsense", None])
    def test_what_nobody_knows_is_ignored(self, screen, kind):
        run, _ = self.begin(screen)
        screen.click(kind)
        assert run.control.stop_request is None

    def test_a_click_from_another_thread_ends_a_pause(self, screen):
        run, dashboard = self.begin(screen)
        lifecycle = Lifecycle(run, Callbacks([dashboard], run))
        screen.click("pause")
        threading.Timer(0.1, screen.click, ["resume"]).start()
        assert lifecycle.handle_requests() is None
        shown = [(f["progress"]["status"], f["progress"]["asked"]) for f in screen.frames]
        # Each request is shown at once, and again when the run has got to it.
        assert [now for now, _ in itertools.groupby(shown)] == [
            ("running", ""),
            ("running", "pause"),
            ("paused", ""),
            ("running", ""),
        ]

    def test_clicks_after_the_end_do_nothing(self, screen):
        run = begun()
        play(run, [LiveDashboard(view=screen)], [[1.0]])
        screen.click("stop")
        assert run.control.stop_request is None

    def test_restore_best_gives_the_model_what_a_listener_keeps(self, screen):
        run = begun()
        dashboard = LiveDashboard(view=screen)
        callbacks = Callbacks([dashboard], run)
        callbacks.emit("on_fit_begin")
        run.best["loss"] = Best(1.0, 3, "the best state", "loss")
        given = []
        run.end_with = given.append
        callbacks.steps_end(feed(run, [1.0]), [])
        assert screen.latest["progress"]["best_state"] == 3
        screen.click("restore_best")
        assert run.control.stop_request[1] == "stopped"
        run.finish("stopped", "")
        callbacks.emit("on_fit_end")
        assert given == ["the best state"]
        assert screen.final["progress"]["notes"] == [
            "The model has the best state, that of step 3."
        ]


@pytest.mark.usefixtures("compiled_anew")
def test_what_a_call_compiles_before_its_run_begins_is_counted():
    def set_up(x):
        return (x * 3.0).sum()

    dashboard, run = LiveDashboard(view=(screen := RecordingDisplay())), begun()
    with getting_ready("kernel", [dashboard]):
        jax.jit(set_up)(np.ones(2))
        run.call = current().number
    dashboard.on_fit_begin(run)
    assert screen.frames[0]["devices"]["compiled"]["count"] >= 1
    loop = begun()  # which is no call
    loop.clock.begin_steps()
    dashboard.on_fit_begin(loop)
    assert screen.frames[0]["devices"]["compiled"]["count"] == 0


def test_once_the_first_step_has_begun_the_page_shows_the_clock_and_no_preparation():
    dashboard, run = LiveDashboard(view=(screen := RecordingDisplay())), begun()
    dashboard.on_fit_begin(run)
    told = Preparing("kernel", "compiling the training steps", 4.0)
    dashboard.on_preparing(told)
    assert screen.latest["progress"]["words"] == "preparing"
    run.clock.begin_steps()
    with run.clock.spending("steps"):
        dashboard.on_preparing(replace(told, activity="computing the first steps", stage="running"))
    progress = screen.latest["progress"]
    assert (progress["words"], progress["step"]) == ("running", 0)
    assert progress["trained_s"] > 0 == screen.frames[0]["progress"]["trained_s"]
    run.activity = "compiling the steps for the new learning rate"
    before = len(screen.frames)
    dashboard.on_preparing(replace(told, activity=run.activity))
    assert len(screen.frames) == before  # a frame of the clock would take these words away


@pytest.mark.allow_rank_promotion
@pytest.mark.slow
def test_of_a_real_fit_too_the_first_frame_comes_with_the_first_chunk(screen):
    seen = []

    class After(Callback):
        """Called after the dashboard, whose chunk it was."""

        kind = "checkpoint"

        def on_fit_begin(self, run):
            seen.append((run.step, len(screen.frames)))

        def on_steps_end(self, run, steps):
            seen.append((run.step, len(screen.frames)))

    X, Y = regression_data(n=97)
    refit(regression_model(), X, Y, callbacks=[LiveDashboard(view=screen), After()])
    assert seen[:2] == [(0, 1), (seen[1][0], 2)]
    assert screen.frames[1]["progress"]["step"] == seen[1][0] > 0
    assert screen.frames[1]["loss"]["traces"]["loss"]["steps"] == seen[1][0]


class TestFailures:
    def test_a_failing_panel_is_switched_off_and_the_rest_goes_on(self, screen, monkeypatch):
        def fail(self, run):
            raise ZeroDivisionError("of no use")

        monkeypatch.setattr(PaddingPanel, "frame", fail)
        run = begun()
        play(run, [LiveDashboard(view=screen)], [[3.0], [2.0]])
        errors = [frames["padding"] for frames in screen.frames if "padding" in frames]
        assert errors == [{"error": "ZeroDivisionError: of no use"}]
        assert screen.final["loss"]["traces"]["loss"]["steps"] == 2
        assert run.disabled == []

    def test_a_failing_view_disables_the_dashboard_and_not_the_run(self):
        class Broken(View):
            wants = PANELS

            def show(self, run, frames):
                raise OSError("the page is gone")

        run = begun()
        with pytest.warns(UserWarning, match="the page is gone"):
            play(run, [dashboard := LiveDashboard(view=Broken())], [[1.0], [2.0]])
        assert run.step == 2
        assert run.status == "completed"
        assert [callback for callback, _ in run.disabled] == [dashboard]

    def test_a_panel_gets_another_chance_with_the_next_run(self):
        class Once(ProgressPanel):
            failures = 1

            def frame(self, run):
                if self.failures:
                    self.failures -= 1
                    raise ValueError("once")
                return super().frame(run)

        board = PanelSet([Once()], share=1.0)
        for expected in ({"error": "ValueError: once"}, "running"):
            run = begun()
            board.begin(run)
            frame = board.frames(run)["progress"]
            assert expected in (frame, frame.get("status"))


def test_a_slow_panel_is_asked_less_often_than_a_quick_one():
    class Slow(LossPanel):
        def frame(self, run):
            began = time.thread_time()
            while time.thread_time() - began < 0.02:
                pass
            return {}

    board = PanelSet([ProgressPanel(), Slow()], share=0.02)
    run = begun()
    board.begin(run)
    seen = [name for _ in range(8) for name in (time.sleep(0.02), board.frames(run))[1]]
    assert seen.count("loss") == 2  # the first time is free
    assert seen.count("progress") >= 3


def test_the_dashboard_can_watch_one_run_after_another(screen):
    dashboard = LiveDashboard(view=screen)
    play(begun(), [dashboard], [[1.0] * 10])
    second = begun()
    play(second, [dashboard], [[5.0]])
    assert dashboard.run is second
    assert screen.final["loss"]["traces"]["loss"]["steps"] == 1


def test_previous_runs_of_the_same_model_are_shown_and_others_are_not(screen):
    first = begun(model="a", n_obs=7)
    play(first, [LiveDashboard(view=RecordingDisplay())], [[1.0, 2.0]])
    play(begun(model="b"), [LiveDashboard(view=RecordingDisplay())], [[1.0, 2.0]])
    play(begun(model="a"), [LiveDashboard(view=screen)], [[1.0, 2.0]])
    [run] = screen.frames[0]["previous_runs"]["runs"]
    assert run["label"].startswith(f"run {first.number}, ")
    assert (run["n_obs"], run["trace"]["steps"]) == (7, 2)


def test_losses_of_another_outcome_are_no_previous_runs_and_named_where_they_are_asked_for(screen):
    logs, values = begun(model="a", outcome="log(y)"), begun(model="a")
    play(logs, [LiveDashboard(view=RecordingDisplay())], [[1.0, 2.0]])
    play(values, [LiveDashboard(view=screen)], [[1.0, 2.0]])
    assert screen.frames[0]["previous_runs"]["runs"] == []
    drawn = [line.get_label() for line in loss_figure(values, logs).axes[0].lines]
    assert f"a · run {logs.number}, 2 steps, of log(y)" in drawn
    assert show(values, logs).previous_runs["runs"][0]["label"].endswith(", of log(y)")


def test_a_run_has_one_number_in_every_view_in_whatever_order_runs_end(screen):
    early, late, third = (begun(model="ordered") for _ in range(3))
    views = RecordingDisplay(), RecordingDisplay()
    boards = [LiveDashboard(view=view) for view in views]
    for board, run in zip(boards, (early, late), strict=True):
        board.on_fit_begin(run)
        feed(run, [1.0, 2.0])
    for board, run in zip(boards[::-1], (late, early), strict=True):
        run.finish("completed", "")
        board.on_fit_end(run)
    assert [view.frames[0]["meta"]["number"] for view in views] == [early.number, late.number]
    assert early.number < late.number
    LiveDashboard(view=screen).on_fit_begin(third)
    labels = [run["label"] for run in screen.frames[0]["previous_runs"]["runs"]]
    assert [label.split(",")[0] for label in labels] == [
        f"run {late.number}",
        f"run {early.number}",
    ]
    assert third.number > late.number
    assert f"ordered · run {early.number} · SVI" in summary_text(early)
    assert loss_figure(early).axes[0].get_title("left").startswith(f"ordered · run {early.number}")
    drawn = [line.get_label() for line in loss_figure(late, early).axes[0].lines]
    assert f"ordered · run {early.number}, 2 steps" in drawn


def test_few_previous_runs_are_kept_and_the_latest_are():
    runs = [begun(model="many") for _ in range(9)]
    for run in runs:
        play(run, [LiveDashboard(view=RecordingDisplay())], [[1.0, 2.0]])
    labels = [
        run["label"].split(",")[0] for run in previous_runs.frame(begun(model="many"))["runs"]
    ]
    assert labels == [f"run {run.number}" for run in runs[-4:]]


def test_a_predictive_check_is_done_every_k_epochs(screen, rng):
    asked = []

    def replicate(run):
        asked.append(run.epoch)
        return rng.normal(size=30), rng.normal(size=(5, 30))

    dashboard = LiveDashboard(view=screen, predictive_check=replicate, check_every=2)
    assert dashboard.every_epoch
    run = begun()
    callbacks = Callbacks([dashboard], run)
    callbacks.emit("on_fit_begin")
    for epoch in range(1, 6):
        callbacks.steps_end(feed(run, [1.0], epoch=epoch), [epoch])
    run.finish("completed", "")
    callbacks.emit("on_fit_end")
    assert asked == [2, 4]
    assert screen.final["check"]["epoch"] == 4


def test_a_failing_check_is_switched_off(screen):
    dashboard = LiveDashboard(view=screen, predictive_check=lambda run: 1 / 0)
    run = begun()
    callbacks = Callbacks([dashboard], run)
    callbacks.emit("on_fit_begin")
    callbacks.steps_end(feed(run, [1.0]), [1])
    run.finish("completed", "")
    callbacks.emit("on_fit_end")
    assert screen.final["check"]["error"].startswith("ZeroDivisionError")
    assert run.disabled == []


def test_what_it_asks_of_the_trainer():
    run = begun()
    plain = Callbacks([LiveDashboard(view="none")], run)
    assert not plain.aligned_to_epochs
    assert plain.metrics == frozenset()
    asking = LiveDashboard(view="none", grad_norm=True, predictive_check=lambda run: ((), ()))
    asked = Callbacks([asking], run)
    assert asked.aligned_to_epochs
    assert asked.metrics == {"grad_norm"}


@pytest.mark.parametrize(
    "arguments", [{"view": "hologram"}, {"share": 0.0}, {"share": 2}, {"check_every": 0}]
)
def test_arguments_that_are_not_allowed(arguments):
    with pytest.raises(ArgumentError):
        LiveDashboard(**arguments)


class TestDefaultDisplay:
    def test_false_is_silence(self):
        assert default_display(False) is None

    def test_true_is_silent_in_continuous_integration(self, monkeypatch):
        monkeypatch.setattr(environment, "place", lambda: "automation")
        assert default_display(True) is None

    @pytest.mark.parametrize("place", ["page", "kernel", "terminal", "pipe"])
    @pytest.mark.parametrize("progress", [True, "live"])
    def test_elsewhere_it_is_the_dashboard(self, monkeypatch, place, progress):
        monkeypatch.setattr(environment, "place", lambda: place)
        assert isinstance(default_display(progress), LiveDashboard)

    def test_text_is_a_line(self):
        assert isinstance(default_display("text"), ProgressLine)

    def test_asking_for_a_page_without_its_packages_names_the_extra(self, monkeypatch):
        monkeypatch.setattr(environment, "place", lambda: "page")
        monkeypatch.setattr(environment, "has_widgets", lambda: False)
        with pytest.raises(OptionalDependencyError, match=r"aimz_lab\[lab\]"):
            default_display("live")
        assert isinstance(default_display(True), LiveDashboard)

    def test_anything_else_is_refused(self):
        with pytest.raises(ArgumentError, match="'live' or 'text'"):
            default_display("loud")


@pytest.mark.parametrize(
    ("place", "widgets", "expected"),
    [
        ("page", True, "WidgetView"),
        ("page", False, "PictureView"),
        ("kernel", True, "NotebookView"),
        ("terminal", True, "LineView"),
        ("pipe", True, "LineView"),
        ("automation", True, "View"),
    ],
)
def test_the_view_fits_the_place(monkeypatch, place, widgets, expected):
    monkeypatch.setattr(environment, "has_widgets", lambda: widgets)
    assert type(view_named("auto", place)).__name__ == expected


def test_views_by_name():
    assert type(view_named("still", "pipe")) is NotebookView
    assert type(view_named("none", "page")) is View


def test_the_place_is_that_where_the_dashboard_was_made(monkeypatch):
    monkeypatch.setattr(environment, "place", lambda: "kernel")
    dashboard = LiveDashboard()
    monkeypatch.setattr(environment, "place", lambda: "automation")
    dashboard.on_fit_begin(begun())
    assert type(dashboard.view) is NotebookView


def test_the_cost_of_a_chunk_is_small(screen):
    """A chunk lasts 50 ms; observing it may take a thousandth of that and a bit."""
    run = begun(get_params=lambda: {"w": np.zeros(3)})
    dashboard = LiveDashboard(view=screen)
    dashboard.on_fit_begin(run)
    steps = [feed(run, np.ones(100)) for _ in range(200)]
    began = time.perf_counter()
    for chunk in steps:
        dashboard.on_steps_end(run, chunk)
    assert (time.perf_counter() - began) / 200 < 0.005


def test_user_callbacks_run_before_the_display(screen):
    order = []

    class User(Callback):
        def on_steps_end(self, run, steps):
            order.append("user")

    class Watching(LiveDashboard):
        def on_steps_end(self, run, steps):
            order.append("display")

    play(begun(), [Watching(view=screen), User()], [[1.0]])
    assert order == ["user", "display"]
