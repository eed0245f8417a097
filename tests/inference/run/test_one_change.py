"""One call at a time changes a model; predictions go on meanwhile, each with its own key."""

from __future__ import annotations

import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoDelta

from aimz_lab import Callback, ImpactModel
from aimz_lab.errors import BusyError, NotFittedError
from aimz_lab.lab.callbacks import LambdaCallback
from tests import kernels
from tests.runs import mean_field_model

pytestmark = pytest.mark.allow_rank_promotion

X, Y = kernels.regression_data(40, 3)
SMALL = {"batch_size": 20, "num_samples": 5, "progress": False}
KEY = jax.random.key(2)
DRAWS = {"beta": np.zeros((5, 3), np.float32)}


class Gate(Callback):
    """Holds a run until it is opened."""

    def __init__(self, then=None):
        self.reached, self.opened, self.then = threading.Event(), threading.Event(), then

    def on_steps_end(self, run, steps):
        self.reached.set()
        assert self.opened.wait(60)
        if self.then:
            self.then()


def changes(im, folder):
    """Every call that changes a model, or that reads all of it."""
    done = im.vi_result
    return {
        "fit": lambda: im.fit(X, Y, **SMALL),
        "fit_on_batch": lambda: im.fit_on_batch(X, Y, num_steps=2, progress=False),
        "train_on_batch": lambda: im.train_on_batch(X, Y, n_obs=40),
        "sample": lambda: im.sample(num_samples=2),
        "set_posterior_sample": lambda: im.set_posterior_sample(DRAWS),
        "save": lambda: im.save(folder / "model"),
        "vi_result=": lambda: setattr(im, "vi_result", done),
        "n_obs=": lambda: setattr(im, "n_obs", 7),
        "setting the state": lambda: setattr(im, "_vi_state", None),
    }


@pytest.fixture(scope="module")
def fitted():
    with jax.numpy_rank_promotion("allow"):
        return mean_field_model(kernels.regression).fit(X, Y, **SMALL)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["in the background", "on another thread"])
def test_a_second_call_is_refused_at_once_and_the_first_is_not_disturbed(fitted, where, tmp_path):
    gate, options = Gate(), {**SMALL, "steps_per_call": 1, "rng_key": jax.random.key(4)}
    losses = fitted.vi_result.losses
    if where == "in the background":
        handle = fitted.fit(X, Y, callbacks=[gate], blocking=False, **options)
        wait = handle.wait
    else:
        thread = threading.Thread(target=lambda: fitted.fit(X, Y, callbacks=[gate], **options))
        thread.start()
        wait = thread.join
    assert gate.reached.wait(60)
    key, posterior = fitted.rng_key, fitted.posterior["beta"]
    for name, call in changes(fitted, tmp_path).items():
        with pytest.raises(BusyError, match=f"{name} has to wait while fit .*Predictions go on"):
            call()
    assert not list(tmp_path.iterdir())
    assert fitted.rng_key is key
    fitted.predict_on_batch(X, rng_key=jax.random.key(1))
    assert fitted.posterior["beta"] is posterior
    gate.opened.set()
    wait()
    assert fitted.last_run.status == "completed"
    assert fitted.posterior["beta"] is not posterior
    assert fitted.vi_result.losses is not losses
    assert fitted.n_obs is None
    for name, call in changes(fitted, tmp_path).items():
        if name != "setting the state":
            call()  # free again
    fitted.n_obs = None
    fitted.fit(X, Y, **SMALL)


def test_a_callback_predicts_and_changes_nothing(tmp_path):
    seen = []

    def within():
        seen.append(im.predict_on_batch(X, return_datatree=False)["y"])
        for call in changes(im, tmp_path).values():
            with pytest.raises(BusyError, match="comes from within, as from a callback"):
                call()

    im = mean_field_model(kernels.regression).set_posterior_sample(DRAWS)
    gate = Gate(within)
    gate.opened.set()
    im.fit(X, Y, callbacks=[gate], **SMALL)
    assert len(seen) >= 1
    assert im.last_run.status == "completed"


class Breaks(Callback):
    def __init__(self, event):
        setattr(self, event, self.fail)

    def fail(self, *_):
        raise ZeroDivisionError

    def on_fit_begin(self, run):
        if "on_fit_begin" in vars(self):
            self.fail()

    def on_steps_end(self, run, steps):
        if "on_steps_end" in vars(self):
            self.fail()

    def on_fit_end(self, run):
        if "on_fit_end" in vars(self):
            self.fail()


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("event", ["on_fit_begin", "on_steps_end", "on_fit_end"])
def test_every_way_out_leaves_the_model_free(fitted, event, blocking):
    def run():
        ran = fitted.fit(X, Y, callbacks=[Breaks(event)], blocking=blocking, **SMALL)
        ran.result(60)

    with pytest.raises(ZeroDivisionError):
        run()
    fitted.set_posterior_sample(DRAWS)


def test_without_a_thread_the_model_is_as_before(fitted, monkeypatch):
    def start(thread):
        raise RuntimeError("can't start new thread")

    key, run, ends = fitted.rng_key, fitted.last_run, []
    watch = LambdaCallback(on_fit_end=lambda run: ends.append(run.status))
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError, match="new thread"):
        fitted.fit(X, Y, blocking=False, callbacks=[watch], **SMALL)
    assert (fitted.rng_key, fitted.last_run, ends) == (key, run, ["failed"])
    fitted.set_posterior_sample(DRAWS)


@pytest.fixture
def stopping(fitted):
    """A run that was asked to stop and is held in a chunk."""
    gate = Gate()
    options = {**SMALL, "epochs": 10**7, "steps_per_call": 1, "rng_key": jax.random.key(4)}
    handle = fitted.fit(X, Y, callbacks=[gate], blocking=False, **options)
    assert gate.reached.wait(60)
    handle.pause()  # a stop ends a pause
    handle.stop()
    yield handle, gate
    gate.opened.set()
    handle.wait(60)


@pytest.mark.parametrize("name", ["fit", "n_obs=", "predict", "posterior"])
def test_a_call_after_stop_waits_for_the_end_that_was_asked_for(fitted, stopping, name):
    handle, gate = stopping
    calls = {
        "fit": lambda: fitted.fit(X, Y, **SMALL),
        "n_obs=": lambda: setattr(fitted, "n_obs", 7),
        "predict": lambda: fitted.predict_on_batch(X).posterior["beta"].values.tobytes(),
        "posterior": lambda: fitted.posterior["beta"].tobytes(),
    }
    before = fitted._trained.fitted.posterior.draws["beta"].tobytes()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(calls[name])
        with pytest.raises(TimeoutError):
            call.result(0.2)
        gate.opened.set()
        found = call.result(60)
    assert handle.status == "stopped"
    assert found != before
    fitted.n_obs = None


def test_the_wait_for_a_stop_has_an_end_and_can_be_interrupted(fitted, stopping, monkeypatch):
    monkeypatch.setattr("aimz_lab.inference.one_change._LONGEST_WAIT_S", 0.0)
    with pytest.raises(BusyError, match="was asked to stop, and has not ended within 60 s"):
        fitted.sample(num_samples=2)
    monkeypatch.undo()
    threading.Timer(0.3, signal.raise_signal, [signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt, match="waiting for the end of fit, which was asked to"):
        fitted.sample(num_samples=2)
    assert not stopping[0].done


def test_a_callback_that_stops_its_run_does_not_wait_for_it():
    def within():
        im.last_run.control.stop()
        with pytest.raises(BusyError, match="comes from within"):
            im.sample(num_samples=2)
        drawn.append(im.predict_on_batch(X, return_datatree=False)["y"])

    im, drawn = mean_field_model(kernels.regression).set_posterior_sample(DRAWS), []
    gate = Gate(within)
    gate.opened.set()
    im.fit(X, Y, callbacks=[gate], blocking=False, **SMALL).result(60)
    assert len(drawn) == 1
    assert im.last_run.status == "stopped"


def test_of_many_calls_at_once_one_goes_through():
    im = mean_field_model(kernels.regression)
    im.train_on_batch(X, Y, n_obs=40)
    start, gate = threading.Barrier(8), Gate()

    def race(_):
        start.wait(60)
        try:
            im.fit(X, Y, callbacks=[gate], **SMALL)
        except BusyError:
            return 0
        return 1

    with ThreadPoolExecutor(8) as pool:
        results = [pool.submit(race, number) for number in range(8)]
        refused = 0
        while refused < 7:
            refused = sum(result.done() for result in results)
        gate.opened.set()
        assert sum(result.result(60) for result in results) == 1
    assert im.last_run.status == "completed"


def test_predictions_on_threads_have_keys_of_their_own():
    im = mean_field_model(kernels.regression).set_posterior_sample(DRAWS)
    other = mean_field_model(kernels.regression).set_posterior_sample(DRAWS)
    im.predict_on_batch(X)
    start = threading.Barrier(4)

    def predict(_):
        start.wait(60)
        return [im.predict_on_batch(X, return_datatree=False)["y"].tobytes() for _ in range(5)]

    with ThreadPoolExecutor(4) as pool:
        drawn = [each for result in pool.map(predict, range(4)) for each in result]
    assert len(set(drawn)) == 20
    # They are the draws of twenty calls one after the other, in some order.
    other.predict_on_batch(X)
    alone = [other.predict_on_batch(X, return_datatree=False)["y"].tobytes() for _ in range(20)]
    assert sorted(alone) == sorted(drawn)
    assert im.rng_key == other.rng_key


def two_parts(X, y=None):
    """A site and a parameter; a guide that is a point draws the site's parameter itself."""
    shift = numpyro.param("shift", jnp.zeros(()))
    level = numpyro.sample("level", dist.Normal(0.0, 1.0))
    numpyro.deterministic("shift_seen", shift)
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(X[:, 0] * level + shift, 1.0), obs=y)


@pytest.mark.slow
def test_a_prediction_during_fits_never_mixes_two_posteriors():
    svi = SVI(two_parts, AutoDelta(two_parts), numpyro.optim.Adam(0.05), Trace_ELBO())
    im = ImpactModel(two_parts, jax.random.key(0), svi=svi).fit(X, Y, **SMALL)

    def pair():
        tree = im.predict_on_batch(X, rng_key=KEY, return_sites="shift_seen")
        seen = tree.posterior_predictive["shift_seen"].values.ravel()
        return float(tree.posterior["level"].values.ravel()[0]), float(seen[0])

    stop, seen, known = threading.Event(), set(), {pair()}

    def look():
        while not stop.is_set():
            seen.add(pair())

    thread = threading.Thread(target=look)
    thread.start()
    for _ in range(8):
        im.fit(X, Y, **SMALL)
        known.add(pair())
    stop.set()
    thread.join()
    assert len(known) == 9
    assert len(seen) > 1
    assert seen <= known
    im.train_on_batch(X, Y, n_obs=40)
    with pytest.raises(NotFittedError, match="before 1 step of train_on_batch"):
        pair()
