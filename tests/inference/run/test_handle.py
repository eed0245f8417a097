"""A run in the background is the run in the foreground, and can be steered meanwhile."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import jax
import numpy as np
import numpyro
import pytest
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import Callback, ImpactModel, settable_rate
from aimz_lab.errors import BusyError
from aimz_lab.inference.feeds.index_feed import host_buffer
from tests import kernels

pytestmark = pytest.mark.allow_rank_promotion

X, Y = kernels.regression_data(90, 3, seed=5)
SMALL = {"batch_size": 20, "num_samples": 5, "progress": False}


def model(optimizer=None):
    kernel = kernels.regression
    svi = SVI(kernel, AutoNormal(kernel), optimizer or numpyro.optim.Adam(0.05), Trace_ELBO())
    return ImpactModel(kernel, jax.random.key(0), svi=svi)


def until(condition, seconds=60):
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.slow
def test_it_gives_what_the_foreground_gives():
    here = model().fit(X, Y, epochs=7, **SMALL)
    there = model()
    handle = there.fit(X, Y, epochs=7, blocking=False, **SMALL)
    assert handle.result(timeout=60) is there
    assert handle.done
    assert handle.status == "completed"
    np.testing.assert_array_equal(handle.history, here.last_run.losses)
    np.testing.assert_array_equal(there.posterior["beta"], here.posterior["beta"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.* rows in validation= look like rows that the model")
@pytest.mark.parametrize("batch_size", [20, 90])
def test_arrays_may_be_changed_while_it_runs(batch_size):
    changed = threading.Event()

    class Waits(Callback):
        def on_steps_end(self, run, steps):
            assert changed.wait(60)

    options = {"epochs": 3, "steps_per_call": 1, **SMALL, "batch_size": batch_size}
    here = model().fit(X, Y, validation=(X, Y), **options).last_run
    own, own_y = on_page(X), on_page(Y)
    handle = model().fit(
        own, own_y, validation=(own, own_y), blocking=False, callbacks=[Waits()], **options
    )
    own[:] = own_y[:] = 1e3
    changed.set()
    run = handle.result(timeout=60).last_run
    np.testing.assert_array_equal(run.losses, here.losses)
    np.testing.assert_array_equal(run.validation.losses, here.validation.losses)


def on_page(array):
    """Return a copy that JAX takes as it is: it begins where a line of the cache begins."""
    copy = host_buffer(array.shape, array.dtype)
    copy[:] = array
    return copy


def test_callbacks_are_called_at_the_beginning_where_fit_was_called_and_then_elsewhere():
    class Where(Callback):
        def __init__(self):
            self.threads = {}

        def on_fit_begin(self, run):
            self.threads["begin"] = threading.current_thread()

        def on_steps_end(self, run, steps):
            self.threads["steps"] = threading.current_thread()

    where = Where()
    model().fit(X, Y, blocking=False, callbacks=[where], **SMALL).wait(60)
    assert where.threads["begin"] is threading.current_thread()
    assert where.threads["steps"].name == "aimz_lab-fit"


def test_it_stops_and_keeps_what_it_has():
    im = model()
    handle = im.fit(X, Y, epochs=10**7, blocking=False, **SMALL)
    until(lambda: handle.run.step > 0)
    handle.stop("seen enough")
    handle.wait(60)
    assert (handle.status, handle.run.reason) == ("stopped", "seen enough")
    assert im.is_fitted()
    assert len(im.vi_result.losses) == handle.run.step > 0


def test_it_pauses_and_goes_on():
    handle = model().fit(X, Y, epochs=10**7, blocking=False, **SMALL)
    handle.pause()
    until(lambda: handle.status == "paused")
    before = handle.run.step
    time.sleep(0.05)
    assert handle.run.step == before
    handle.resume()
    until(lambda: handle.run.step > before)
    handle.stop()
    handle.wait(60)


def test_its_learning_rate_can_be_set():
    im = model(settable_rate(numpyro.optim.Adam, 0.05))
    handle = im.fit(X, Y, epochs=10**7, blocking=False, **SMALL)
    handle.set_learning_rate(0.001)
    until(lambda: handle.run.learning_rate == pytest.approx(0.001))
    handle.stop()
    handle.wait(60)


def test_a_model_trains_one_run_at_a_time():
    im = model()
    handle = im.fit(X, Y, epochs=10**7, blocking=False, **SMALL)
    for again in (
        lambda: im.fit(X, Y, **SMALL),
        lambda: im.fit_on_batch(X, Y, progress=False),
        lambda: im.train_on_batch(X, Y),
    ):
        with pytest.raises(BusyError, match="while fit of this model is under way"):
            again()
    handle.stop()
    handle.wait(60)
    im.fit(X, Y, epochs=1, **SMALL)


def test_what_fails_is_raised_where_the_result_is_asked_for():
    class Broken(Callback):
        def on_steps_end(self, run, steps):
            raise ZeroDivisionError("mine")

    im = model()
    handle = im.fit(X, Y, blocking=False, callbacks=[Broken()], **SMALL)
    assert handle.wait(60).status == "failed"
    with pytest.raises(ZeroDivisionError, match="mine"):
        handle.result()
    assert im.is_fitted()


def test_what_is_refused_is_refused_at_once():
    class Broken(Callback):
        def on_fit_begin(self, run):
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        model().fit(X, Y, blocking=False, callbacks=[Broken()], **SMALL)


def test_waiting_ends_at_its_limit_and_the_run_goes_on():
    handle = model().fit(X, Y, epochs=10**7, blocking=False, **SMALL)
    with pytest.raises(TimeoutError, match="it goes on"):
        handle.wait(0.05)
    assert not handle.done
    assert re.search("preparing|running", repr(handle))
    handle.stop()
    handle.wait(60)


def test_it_can_be_awaited():
    async def main():
        handle = model().fit(X, Y, epochs=10**7, blocking=False, **SMALL)

        async def stop_it_meanwhile():
            while handle.run.step == 0:
                await asyncio.sleep(0.01)
            handle.stop("from the event loop")

        im, _ = await asyncio.gather(handle, stop_it_meanwhile())
        return im, handle

    im, handle = asyncio.run(main())
    assert im.is_fitted()
    assert handle.run.reason == "from the event loop"


PROGRAM = """
import _thread, threading, time
from tests.inference.run.test_handle import SMALL, X, Y, model
im = model()
handle = im.fit(X, Y, epochs=10**7, blocking=False, **SMALL)
while handle.run.step == 0:
    time.sleep(0.01)
"""


@pytest.mark.slow
def test_an_interrupt_while_waiting_and_the_end_of_a_program_end_a_run_cleanly():
    rest = """
        threading.Timer(0.3, _thread.interrupt_main).start()
        handle.wait()
        print(handle.status, im.is_fitted(), len(im.vi_result.losses) == handle.run.step)
        handle = im.fit(X, Y, epochs=10**7, blocking=False, **SMALL)  # until the program ends
        while handle.run.step == 0:
            time.sleep(0.01)
    """
    env = dict(os.environ, PYTHONPATH=str(Path(__file__).parents[3]), JAX_PLATFORMS="cpu")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM + textwrap.dedent(rest)],
        env=env,
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (done.stdout.strip(), done.stderr.strip()) == ("interrupted True True", "")
