"""What panels cost, and whom it holds up."""

from __future__ import annotations

import time

from aimz_lab.lab.panels.base import Frame, Panel
from aimz_lab.lab.panels.panel_set import PanelSet
from tests.lab.runs import begun


class _Slow(Panel):
    """Works for a while in each frame."""

    name = "slow"

    def frame(self, run) -> Frame:
        began = time.thread_time()
        while time.thread_time() - began < 0.03:
            pass
        return {}


class _Waiting(Panel):
    """Waits in each frame, as where other processes have the cores."""

    name = "waiting"

    def frame(self, run) -> Frame:
        time.sleep(0.03)
        return {}


def test_a_busy_machine_does_not_hold_up_a_panel():
    run = begun()
    panels = PanelSet([_Waiting()], share=0.01)
    panels.begin(run)
    for _ in range(4):
        assert panels.frames(run).keys() == {"waiting"}
        time.sleep(0.05)
    assert panels.spent_s >= 0.12


def test_a_slow_panel_holds_up_itself_alone():
    run = begun()
    panels = PanelSet([_Slow()], share=0.01)
    panels.begin(run)
    for _ in range(3):
        assert panels.frames(run, everything=True).keys() == {"slow"}
    assert panels.usual_s == 0.0
    assert not panels.frames(run)


def test_a_panel_with_news_does_not_wait_until_it_is_due():
    class Asks(Panel):
        name, interval_s = "asks", 60.0
        news = False

        def has_news(self):
            return self.news

        def frame(self, run) -> Frame:
            return {}

    run, panel = begun(), Asks()
    panels = PanelSet([panel], share=0.01)
    panels.begin(run)
    assert panels.frames(run).keys() == {"asks"}
    assert not panels.frames(run)
    panel.news = True
    assert panels.frames(run).keys() == {"asks"}
