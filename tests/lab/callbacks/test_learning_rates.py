"""Callbacks that change the learning rate, on losses whose course is known."""

from __future__ import annotations

import numpy as np
import pytest

from aimz_lab.errors import ArgumentError
from aimz_lab.inference.run.events import Callbacks
from aimz_lab.lab.callbacks import LearningRateScheduler, ReduceLROnPlateau
from aimz_lab.lab.monitor import monitor
from tests.runs import tell, told_run


def test_the_rate_falls_at_each_plateau_down_to_the_lowest():
    reduce = ReduceLROnPlateau(factor=0.5, patience=2, min_rate=0.3)
    run = tell([reduce], np.ones(64 * 12), told_run(rate=1.0), chunk=64)
    assert reduce.changes == [(192, 0.5), (320, 0.3)]
    assert run.learning_rate == 0.3


def test_the_lowest_rate_is_set_once_though_it_is_kept_in_32_bits():
    reduce = ReduceLROnPlateau(patience=1, min_rate=0.3)
    tell([reduce], np.ones(640), told_run(rate=float(np.float32(0.3))), chunk=64)
    assert reduce.changes == []


def test_the_rate_stays_while_the_loss_falls():
    reduce = ReduceLROnPlateau(patience=1)
    run = tell([reduce], -np.arange(640.0), told_run(rate=1.0))
    assert (reduce.changes, run.learning_rate) == ([], 1.0)


def test_progress_below_min_delta_is_none():
    reduce = ReduceLROnPlateau(patience=2, min_delta=1000.0)
    tell([reduce], -np.arange(256.0), told_run(rate=1.0), chunk=64)
    assert reduce.changes == [(192, 0.5)]


def test_the_rate_falls_with_the_held_out_loss_in_view():
    reduce = ReduceLROnPlateau("validation", patience=2)
    run = told_run(rate=1.0, validation_every=1)
    tell([reduce], np.zeros(6), run, chunk=1, validation=[3.0, 2.0, 2.5, 2.5, 1.0, 0.5])
    assert reduce.changes == [(4, 0.5)]


def test_a_run_that_goes_on_lowers_the_rate_where_it_would_have():
    losses = np.ones(640)
    whole = ReduceLROnPlateau(patience=2)
    tell([whole], losses, told_run(rate=1.0), chunk=64)
    rest, run = ReduceLROnPlateau(patience=2), told_run(rate=0.5)
    tell([], losses[:256], run, chunk=64)
    tell([rest], losses[256:], run, chunk=64)
    assert rest.changes == whole.changes[1:]


@pytest.mark.parametrize(
    "callback", [ReduceLROnPlateau(), LearningRateScheduler(lambda epoch: 0.1)]
)
def test_an_optimizer_with_a_fixed_rate_is_refused_before_the_first_step(callback):
    run = told_run()
    with pytest.raises(ArgumentError, match="fixed rate"):
        tell([callback], np.ones(3), run)
    assert run.step == 0


@pytest.mark.parametrize(
    ("options", "why"),
    [({}, "pass set_learning_rate="), ({"set_learning_rate": print}, "Nobody tells the present")],
)
def test_a_loop_written_by_hand_must_tell_its_rate(options, why):
    reduce = ReduceLROnPlateau(patience=1, window=4)
    watch = monitor([1.0] * 100, model="demo", callbacks=[reduce], **options)
    with pytest.raises(ArgumentError, match=why):
        list(map(watch.step, watch))


def test_a_schedule_asks_for_each_epochs_rate_and_only_for_changes():
    run = told_run(rate=0.1)
    callbacks = Callbacks([LearningRateScheduler({1: 0.1, 2: 0.1, 3: 0.05}.get)], run)
    callbacks.emit("on_fit_begin")
    asked = []
    for epoch in (1, 2, 3):
        callbacks.emit("on_epoch_begin", epoch)
        asked.append(run.control.take_learning_rate())
    assert asked == [None, None, 0.05]
    assert callbacks.aligned_to_epochs


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_schedule_must_give_rates(rate):
    callbacks = Callbacks([LearningRateScheduler(lambda epoch: rate)], told_run(rate=0.1))
    with pytest.raises(ArgumentError, match="positive finite"):
        callbacks.emit("on_epoch_begin", 1)


@pytest.mark.parametrize("factor", [0.0, 1.0, 2.0, -0.5])
def test_a_factor_lowers(factor):
    with pytest.raises(ArgumentError, match="factor"):
        ReduceLROnPlateau(factor=factor)
