"""Displays of a run that goes on begin with its history."""

from __future__ import annotations

import io

import numpy as np

from aimz_lab.inference.run.events import Steps
from aimz_lab.lab.callbacks import History, ProgressLine
from aimz_lab.lab.panels.loss import LossPanel
from aimz_lab.lab.traces import unpack
from tests.runs import tell, told_run


def resumed_run():
    """A run of which another process has done 100 steps."""
    before, run, ones = told_run(), told_run(), np.ones(100, np.int32)
    losses = np.linspace(3, 2, 100)
    metrics = {"grad_norm": losses}
    before.record(Steps(1, ones, losses, ones, 0 * ones, 5.0, metrics=metrics))
    columns = {name: before.column(name) for name in before.columns}
    run.take_over(columns, {"grad_norm": before.column("grad_norm")})
    return run


def test_the_curves_have_all_steps():
    run, panel = resumed_run(), LossPanel()
    panel.begin(run)
    traces = panel.frame(run)["traces"]
    assert traces["loss"]["steps"] == traces["grad_norm"]["steps"] == 100
    np.testing.assert_allclose(unpack(traces["loss"]["mean"]), np.linspace(3, 2, 100), rtol=1e-6)


def test_rate_and_remaining_time_are_those_of_this_process():
    run = resumed_run()
    assert (run.steps_per_s, run.eta_s) == (0.0, None)
    ones = np.ones(10, np.int32)
    run.record(Steps(101, ones, ones, ones, 0 * ones, seconds=50.0))  # compiles
    assert run.eta_s is None
    run.record(Steps(111, ones, ones, ones, 0 * ones, seconds=2.0))
    assert run.steps_per_s == 5.0
    assert run.eta_s == (run.info.total_steps - 120) / 5.0


def test_history_and_line_go_on():
    history, stream = History(), io.StringIO()
    run = tell([history, ProgressLine(stream)], np.ones(20), resumed_run())
    frame = history.to_frame()
    assert len(frame) == run.step == 120
    np.testing.assert_allclose(frame["loss"].iloc[[0, 99, 119]], [3, 2, 1])
    assert frame["grad_norm"].isna().sum() == 20
    assert "120" in stream.getvalue()
