"""A pause is reported to callbacks, and the run knows whether one of them writes checkpoints."""

from __future__ import annotations

import contextlib
import re
import threading
import time

import jax
import pytest

from aimz_lab.inference.run.events import Callback, Callbacks, Run, RunInfo
from aimz_lab.inference.run.loop import Lifecycle
from aimz_lab.inference.run.run_words import run_facts
from aimz_lab.kernel.tracing import tracing_lock
from aimz_lab.lab import compare, formatting
from aimz_lab.lab.panels.progress import ProgressPanel
from aimz_lab.lab.pictures.summary import facts
from tests.lab.runs import feed


class Spy(Callback):
    def __init__(self):
        self.seen = []

    def on_pause(self, run):
        self.seen.append(("pause", run.status))

    def on_resume(self, run):
        self.seen.append(("resume", run.status))


class Writer(Callback):
    kind = "checkpoint"

    def on_checkpoint(self, run):
        pass


def begun():
    run = Run(RunInfo("kernel", "SVI"))
    run.begin()
    return run


def test_without_a_pause_nothing_is_reported():
    spy, run = Spy(), begun()
    assert Lifecycle(run, Callbacks([spy], run)).handle_requests() is None
    assert spy.seen == []


def test_a_pause_is_reported_and_ended_by_resume_and_no_stepping_time():
    spy, run = Spy(), begun()
    lifecycle = Lifecycle(run, Callbacks([spy], run))
    lifecycle.lap(time.monotonic())
    run.control.pause()
    threading.Timer(0.15, run.control.resume).start()
    began = time.monotonic()
    assert lifecycle.handle_requests() is None
    now = time.monotonic()
    assert 0.1 < now - began < 5
    assert lifecycle.lap(now) < now - began - 0.1
    assert spy.seen == [("pause", "paused"), ("resume", "running")]


def test_the_time_of_a_pause_is_told_apart_while_it_lasts_and_in_the_end():
    run = begun()
    feed(run, [1.0], seconds=9.0)
    run.begin_pause()
    run.clock._began, run.clock._paused_at = run.clock._began - 11.0, run.clock._paused_at - 11.0
    assert run.paused_s == pytest.approx(11, abs=1)
    assert run.trained_s == pytest.approx(9, abs=1)
    assert re.search(r"was paused at .* for (9\.|10 s).*, and 11 s paused>", repr(run))
    run.end_pause("running")
    run.finish("completed", "all steps done")
    assert (run.status, run.paused_s) == ("completed", pytest.approx(11, abs=1))
    others_s = run.paused_s + run.prepared_s + run.compiling_s
    assert run.trained_s + others_s == pytest.approx(run.elapsed_s, abs=0.1)
    assert dict(run_facts(run))["time"].endswith(", and 11 s paused")


def test_no_time_of_training_goes_by_before_the_first_step():
    run = begun()
    run.clock._began -= 9.0  # it compiles, on this thread or another one
    assert (run.trained_s, run.prepared_s) == (0.0, pytest.approx(9, abs=1))
    assert re.search(r"was preparing at .* step 0, for 0\.0 s, and 9\.\d s to prepare", repr(run))
    run.clock.begin_steps()  # of which none is done yet
    with run.clock.spending("steps"):
        time.sleep(0.06)
        times = run.trained_s, run.prepared_s
        words = repr(run)
    assert times == (pytest.approx(0.06, abs=0.3), pytest.approx(9, abs=1))
    assert times[0] >= 0.06
    assert re.search(r"was running at .*, step 0.*, for 0\.\d s, and 9\.\d s to prepare", words)


@pytest.mark.parametrize("activity", ["dispatch", "callbacks", ""])
@pytest.mark.parametrize("waits", [True, False])
def test_the_clock_stands_still_while_a_run_compiles_or_waits_for_another(waits, activity):
    """Wherever it does so, in a hand-written loop also outside of all that is measured."""
    run, held, seen = begun(), threading.Event(), []
    run.clock.begin_steps()

    def hold():
        with tracing_lock:
            held.set()
            time.sleep(0.2)

    threading.Thread(target=hold).start()
    held.wait()
    prepared = run.prepared_s

    def read():
        while not run.finished:
            seen.append((run.trained_s, run.prepared_s))
            time.sleep(0.005)

    reader = threading.Thread(target=read)
    reader.start()
    with run.clock.spending(activity) if activity else contextlib.nullcontext():
        if waits:
            with tracing_lock:
                pass
        else:
            jax.jit(lambda x: (time.sleep(0.2), x + 3)[1]).lower(1.0)
    run.clock.count()
    before = run.trained_s
    assert before < 0.15 < 0.18 < run.compiling_s + run.waited_s
    with run.clock.spending("steps"):
        time.sleep(0.1)
        assert run.trained_s >= before + 0.1  # it goes on while steps are waited for
    run.finish("completed", "all steps done")
    reader.join()
    clock = [trained for trained, _ in seen]
    assert clock == sorted(clock)  # it never goes back
    assert {each for _, each in seen} == {prepared}
    assert run.seconds_in["waiting" if waits else "tracing"] > 0.18
    own, others = "tracing and compiling", "waiting for other runs"
    told, untold = (others, own) if waits else (own, others)
    frame = ProgressPanel().frame(run)
    assert frame["waited_s"] == frame["seconds_in"].get("waiting", 0.0) == run.waited_s
    table = str(compare({"one": run}))
    for text in (repr(run), facts(run)["time"], formatting.status_line(run)):
        assert re.search(rf"0\.\d s {told}", text)
        assert untold not in text
    assert f"time {told}" in table
    assert f"time {untold}" not in table


def test_a_run_that_compiled_waited_and_paused_tells_each_by_its_own_time():
    run = begun()
    feed(run, [1.0] * 60, seconds=60.0)
    for activity, seconds in {
        "tracing": 0.5,
        "compiling": 0.7,
        "waiting": 6.3,
        "paused": 20,
    }.items():
        run.clock.spend(activity, seconds)
    run.finish("completed", "all steps done")
    rest = "1.2 s tracing and compiling, 6.3 s waiting for other runs, 20 s paused"
    assert rest in repr(run)
    compared = compare({"one": run})["one"]
    assert (compared["compiling_s"], compared["waited_s"]) == (pytest.approx(1.2), 6.3)


def test_times_too_short_to_see_have_no_line_in_a_comparison():
    run = begun()
    feed(run, [1.0] * 60, seconds=60.0)
    run.clock.spend("tracing", 0.01)
    run.finish("completed", "all steps done")
    table = compare({"one": run})
    assert table.loc["compiling_s"].item() == 0.01
    assert "compiling" not in str(table)


def test_rates_are_steps_over_the_time_of_training_as_the_summary_and_the_comparison_tell_it():
    run = begun()
    feed(run, [1.0] * 6000, seconds=60.0)
    run.clock.spend("paused", 20.0)
    run.clock._began -= 20.0
    run.finish("completed", "all steps done")
    assert re.fullmatch(r"1:00, and 20 s paused; (100|99) steps/s, .*", facts(run)["time"])
    assert " in 1:00, and 20 s paused" in repr(run)
    assert formatting.status_line(run).endswith("in 1:00 · 20 s paused")
    compared = compare({"one": run})["one"]
    assert compared["trained_s"] == pytest.approx(60, abs=1)
    assert compared["paused_s"] == pytest.approx(20)
    assert compared["steps_per_s"] == pytest.approx(6000 / compared["trained_s"])


def test_a_resumed_run_counts_the_training_of_the_process_before():
    first, again = begun(), Run(RunInfo("kernel", "SVI"))
    feed(first, [1.0] * 30, seconds=30.0)
    again.take_over(*first.kept())
    again.begin()
    feed(again, [1.0] * 10, seconds=10.0)
    assert again.trained_s == pytest.approx(40, abs=1)
    assert again.elapsed_s == pytest.approx(10, abs=1)


def test_a_stop_ends_the_pause():
    spy, run = Spy(), begun()
    lifecycle = Lifecycle(run, Callbacks([spy], run))
    run.control.pause()
    threading.Timer(0.05, run.control.stop).start()
    assert lifecycle.handle_requests() == ("asked to stop", "stopped")
    assert spy.seen[-1] == ("resume", "running")


def test_an_interrupted_pause_leaves_the_status_as_it_was(monkeypatch):
    spy, run = Spy(), begun()
    lifecycle = Lifecycle(run, Callbacks([spy], run))
    run.control.pause()

    def interrupt():
        time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(run.control, "wait_while_paused", interrupt)
    with pytest.raises(KeyboardInterrupt):
        lifecycle.handle_requests()
    assert run.status == "running"
    assert spy.seen[-1] == ("resume", "running")


@pytest.mark.parametrize(
    ("listeners", "expected"), [([], False), ([Spy()], False), ([Writer()], True)]
)
def test_control_knows_whether_anybody_writes_checkpoints(listeners, expected):
    run = begun()
    Callbacks(listeners, run)
    assert run.control.can_checkpoint is expected
