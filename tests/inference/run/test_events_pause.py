"""A pause is reported to callbacks, and the run knows whether one of them writes checkpoints."""

from __future__ import annotations

import threading
import time

import pytest

from aimz_lab.inference.run.events import Callback, Callbacks, Run, RunInfo
from aimz_lab.inference.run.loop import Lifecycle


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
