"""The first interrupt ends a run cleanly, the second raises; nothing that was learned is lost."""

from __future__ import annotations

import inspect
import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from aimz_lab import Callback
from aimz_lab.errors import ArgumentError, FitWarning
from aimz_lab.inference.run.control import interrupt_stops
from aimz_lab.inference.run.events import Control
from aimz_lab.inference.svi.compiled_steps import StepEngine
from aimz_lab.lab.monitor import monitor
from tests.kernels import regression_data
from tests.runs import refit, regression_model, same_bits

pytestmark = pytest.mark.allow_rank_promotion

X, Y = regression_data(n=103)


class AtStep(Callback):
    """Does something once a step is reached, and notes how the run ended."""

    every_epoch = False

    def __init__(self, step, do):
        self.step, self.do, self.end = step, do, None

    def on_steps_end(self, run, steps):
        if run.step >= self.step:
            self.do(run)

    def on_fit_end(self, run):
        self.end = (run.status, run.step)


def stopped_by_hand(im, step):
    """The state, losses and posterior of the same run, stopped at a step."""
    refit(im, X, Y, steps_per_call=3, callbacks=[AtStep(step, lambda run: run.control.stop())])
    assert im.last_run.step == step
    return im._vi_state, im.vi_result.losses.copy(), im.posterior


def interrupt(run):
    raise KeyboardInterrupt


def signal_once(run):
    signal.raise_signal(signal.SIGINT)


def signal_twice(run):
    signal_once(run)
    signal_once(run)


@pytest.fixture(scope="module")
def model():
    return regression_model()


@pytest.mark.parametrize("how", [interrupt, signal_once])
def test_an_interrupt_keeps_state_losses_and_posterior(model, how):
    expected = stopped_by_hand(model, 9)
    watch = AtStep(9, how)
    with pytest.warns(FitWarning, match="interrupted after step 9"):
        refit(model, X, Y, steps_per_call=3, callbacks=[watch])
    assert watch.end == ("interrupted", 9)
    assert model.last_run.status == "interrupted"
    assert same_bits([model._vi_state, model.vi_result.losses, model.posterior], list(expected))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_training_goes_on_from_there(model):
    with pytest.warns(FitWarning):
        refit(model, X, Y, callbacks=[AtStep(6, interrupt)], steps_per_call=3)
    state = model._vi_state
    model.fit(X, Y, batch_size=20, num_samples=5, progress=False)
    assert model.last_run.status == "completed"
    assert int(model._vi_state.optim_state[0]) == int(state.optim_state[0]) + 6


def test_a_second_interrupt_raises_and_loses_nothing_either(model):
    expected = stopped_by_hand(model, 9)
    watch = AtStep(9, signal_twice)
    with pytest.raises(KeyboardInterrupt):
        refit(model, X, Y, steps_per_call=3, callbacks=[watch])
    assert watch.end == ("interrupted", 9)
    assert same_bits([model._vi_state, model.vi_result.losses, model.posterior], list(expected))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.skipif(sys.platform == "win32", reason="a signal to oneself ends the process there")
def test_a_signal_from_elsewhere_ends_a_long_run_between_two_chunks(model):
    begun = threading.Event()

    def send():
        begun.wait(60)
        os.kill(os.getpid(), signal.SIGINT)

    sender = threading.Thread(target=send)
    sender.start()
    watch = AtStep(1, lambda run: begun.set())
    with pytest.warns(FitWarning, match="interrupted after step"):
        refit(model, X, Y, epochs=10**6, steps_per_call=3, callbacks=[watch])
    sender.join()
    run = model.last_run
    assert run.status == "interrupted"
    assert run.step % 3 == 0
    assert int(model._vi_state.optim_state[0]) == run.step == len(model.vi_result.losses)


def test_an_interrupt_ends_a_pause(model):
    def interrupt(run):
        time.sleep(0.1)
        # Python drops one that falls into a callback of its garbage collector: a user asks again.
        while not run.finished:
            signal.raise_signal(signal.SIGINT)
            time.sleep(2)

    def pause_then_interrupt(run):
        run.control.pause()
        threading.Thread(target=interrupt, args=(run,), daemon=True).start()

    with pytest.warns(FitWarning, match="interrupted after step 6"):
        refit(model, X, Y, callbacks=[AtStep(6, pause_then_interrupt)], steps_per_call=3)


def test_an_interrupt_before_the_first_step_leaves_the_model_as_it_was(model):
    class Begin(Callback):
        def on_fit_begin(self, run):
            raise KeyboardInterrupt

    refit(model, X, Y)
    state, result = model._vi_state, model.vi_result
    with pytest.warns(FitWarning, match="interrupted after step 0"):
        model.fit(X, Y, batch_size=20, progress=False, callbacks=[Begin()])
    assert same_bits(model._vi_state, state)
    assert model.vi_result is result


@pytest.mark.slow
def test_an_interrupt_that_is_dropped_while_a_run_is_prepared_ends_it(monkeypatch):
    """Python drops one that comes in a finalizer."""

    class Garbage:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    def dropped(*_):
        Garbage()
        time.sleep(20)

    im, other = regression_model(), regression_model()
    with monkeypatch.context() as patched:
        patched.setattr(StepEngine, "start", dropped)
        with pytest.raises(KeyboardInterrupt, match="Interrupted while .* the model is as it was"):
            im.fit(X, Y, batch_size=20, progress=False)
    assert im.last_run is None
    for each in (im, other):
        each.fit(X, Y, batch_size=20, num_samples=4, progress=False)
    np.testing.assert_array_equal(im.last_run.losses, other.last_run.losses)


def test_the_frames_that_jax_chains_to_an_interrupt_are_not_shown(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt from ValueError("the stack before the transformation")

    monkeypatch.setattr(StepEngine, "start", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        regression_model().fit(X, Y, batch_size=20, progress=False)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.slow
def test_an_interrupt_while_a_run_is_prepared_leaves_no_run_that_never_began(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    im, other = regression_model(), regression_model()
    with monkeypatch.context() as patched:
        patched.setattr(StepEngine, "start", interrupted)
        said = "Interrupted while gathering the .*, before the first step; the model is as it was"
        with pytest.raises(KeyboardInterrupt, match=said):
            im.fit(X, Y, batch_size=20, progress=False)
    assert im.last_run is None
    for each in (im, other):
        each.fit(X, Y, batch_size=20, num_samples=4, progress=False)
    np.testing.assert_array_equal(im.last_run.losses, other.last_run.losses)


def test_an_interrupt_within_another_library_shows_the_users_line_alone(monkeypatch):
    library = {"__name__": "inspect"}
    code = "def interrupted(*_):\n    raise KeyboardInterrupt"
    exec(compile(code, inspect.__file__, "exec"), library)
    monkeypatch.setattr(StepEngine, "start", library["interrupted"])
    with pytest.raises(KeyboardInterrupt) as caught:
        regression_model().fit(X, Y, batch_size=20, progress=False)
    assert [Path(step.path) for step in caught.traceback] == [Path(__file__)]


def test_a_programs_own_handler_is_left_alone(model):
    seen = []
    before = signal.signal(signal.SIGINT, lambda *args: seen.append(args[0]))
    try:
        run = refit(model, X, Y, callbacks=[AtStep(18, signal_once)], steps_per_call=3).last_run
    finally:
        signal.signal(signal.SIGINT, before)
    assert (run.status, seen) == ("completed", [signal.SIGINT])


def test_other_threads_have_no_signals():
    control, handlers = Control(), []

    def work():
        with interrupt_stops(control):
            handlers.append(signal.getsignal(signal.SIGINT))

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    assert handlers == [signal.default_int_handler]
    assert control.stop_request is None


@pytest.mark.slow
def test_losses_are_those_of_the_steps_that_the_state_has_seen(model):
    """However often and wherever it is interrupted."""
    for step in np.arange(1, 18):
        with pytest.warns(FitWarning):
            refit(model, X, Y, callbacks=[AtStep(step, signal_once)], steps_per_call=1)
        assert int(model._vi_state.optim_state[0]) == len(model.vi_result.losses) == step


def test_a_script_that_asks_for_it_gets_the_interrupt_and_keeps_the_model(model):
    expected = stopped_by_hand(model, 9)
    watch = AtStep(9, signal_once)
    with pytest.raises(KeyboardInterrupt, match="interrupted after step 9; the model has"):
        refit(model, X, Y, steps_per_call=3, callbacks=[watch], on_interrupt="raise")
    assert same_bits([model._vi_state, model.vi_result.losses, model.posterior], list(expected))


@pytest.mark.slow
def test_without_a_cell_to_end_the_program_goes_on(model):
    with pytest.warns(FitWarning, match="interrupted after step 3"):
        model.fit(
            X, Y, batch_size=20, progress=False, steps_per_call=3, on_interrupt="continue",
            callbacks=[AtStep(3, signal_once)],
        )  # fmt: skip
    with pytest.raises(KeyboardInterrupt, match="interrupted after step 5"):
        model.fit_on_batch(
            X, Y, num_steps=20, progress=False, steps_per_call=5, on_interrupt="raise",
            callbacks=[AtStep(5, signal_once)],
        )  # fmt: skip
    assert model.last_run.step == 5


def test_a_loop_by_hand_may_raise_its_interrupt():
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012, SIM117
        with monitor([1.0] * 9, model="demo", callbacks=[], on_interrupt="raise") as watch:
            for loss in watch:
                watch.step(loss)
                raise KeyboardInterrupt
    assert watch.run.status == "interrupted"


def test_what_an_interrupt_stops_is_one_of_three_words(model):
    with pytest.raises(ArgumentError, match="on_interrupt='abort'.*'continue'"):
        refit(model, X, Y, on_interrupt="abort")
