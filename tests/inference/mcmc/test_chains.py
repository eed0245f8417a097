"""A watched run of chains: its draws are NumPyro's own, however it is cut; it can be steered."""

from __future__ import annotations

import os
import re
import signal
import time

import arviz_base as azb
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import HMC, MCMC

from aimz_lab import Callback, ImpactModel
from aimz_lab.errors import ArgumentError, BusyError, FitWarning, InferenceError, NotFittedError
from aimz_lab.inference.mcmc.chain_programs import ChainPrograms
from aimz_lab.inference.mcmc.chains import Chains
from aimz_lab.inference.run.chain_record import ChainPlan
from aimz_lab.lab import EarlyStopping, History, LearningRateScheduler, ModelCheckpoint
from aimz_lab.lab.formatting import status_line
from aimz_lab.lab.panels import SamplingPanel
from aimz_lab.lab.panels.compilations import compilation_log
from aimz_lab.lab.pictures.summary import facts

SD = np.array([15.0, 10, 16, 11, 9, 11, 10, 18], np.float32)
EFFECT = np.array([28.0, 8, -3, 7, -1, 1, 18, 12], np.float32)
DATA = {"X": SD, "y": EFFECT}
KEY = jax.random.key(11)
SMALL = {"num_warmup": 30, "num_samples": 41, "num_chains": 2, "thinning": 3}


def schools(X, y=None):
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    numpyro.deterministic("total", mu + tau)
    with numpyro.plate("school", X.shape[0]):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("y", dist.Normal(theta, X), obs=y)


def quick(method="vectorized", **options):
    """A sampler that compiles in a third of the time that NUTS takes."""
    kernel = HMC(schools, num_steps=3, trajectory_length=None)
    return MCMC(kernel, chain_method=method, progress_bar=False, **{**SMALL, **options})


def plain(state):
    """A state with the words of its keys, which can be compared."""
    is_key = lambda leaf: jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)  # noqa: E731
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if is_key(leaf) else leaf, state)


def model(mcmc, key=0):
    return ImpactModel(schools, jax.random.key(key), inference=mcmc)


class Recorder(Callback):
    """Notes the events, and does something at a step."""

    def __init__(self, at=None, do=None):
        self.events, self.draws, self._at, self._do = [], [], at, do

    def on_fit_begin(self, run):
        self.events.append("begin")

    def on_epoch_begin(self, run, epoch):
        self.events.append(f"epoch {epoch}")

    def on_steps_end(self, run, steps):
        self.events.append(len(steps))
        self.draws.append(run.chains.draws)
        if self._at is not None and run.step >= self._at:
            self._at = None
            self._do(run)

    def on_epoch_end(self, run, epoch):
        self.events.append(f"end of epoch {epoch}")

    def on_pause(self, run):
        self.events.append("pause")

    def on_resume(self, run):
        self.events.append("resume")

    def on_exception(self, run, exception):
        self.events.append("exception")

    def on_fit_end(self, run):
        self.events.append(run.status)


@pytest.fixture(scope="module")
def theirs():
    """A run of NumPyro's own."""
    mcmc = quick("sequential")
    mcmc.run(KEY, extra_fields=("potential_energy", "adapt_state.step_size"), **DATA)
    return mcmc


def close(drawn, expected):
    """Check draws of other programs: they differ by rounding, which a few iterations amplify."""
    np.testing.assert_allclose(drawn, expected, rtol=1e-2, atol=1e-2)


@pytest.mark.slow
def test_chunks_of_any_size_draw_what_one_run_of_numpyro_draws(theirs):
    ours = quick("sequential")
    programs = ChainPrograms(ours, {})
    whole = Chains(ours, KEY, DATA, programs=programs)
    whole.advance(71)
    chains = Chains(ours, KEY, DATA, programs=programs)
    sizes = [1, 7, 22, 3, 11, 27]
    reported = [chains.advance(size) for size in sizes]
    assert (chains.done, chains.draws) == (sum(sizes), 13)
    chains.give_to_sampler()
    expected = theirs.get_samples(group_by_chain=True)
    drawn = ours.get_samples(group_by_chain=True)
    assert set(drawn) == {"mu", "tau", "theta", "total"}
    for name in drawn:
        close(drawn[name], expected[name])
    jax.tree.map(close, plain(ours.last_state), plain(theirs.last_state))
    # The values reported of kept iterations are those that NumPyro keeps.
    energy = np.concatenate([columns["potential_energy"] for columns in reported])
    kept = theirs.get_extra_fields(group_by_chain=True)["potential_energy"]
    close(energy[30 + 2 + 2 :: 3].T, kept)
    values = chains.values("theta", [7, 2])
    np.testing.assert_array_equal(values, np.asarray(drawn["theta"])[:, :, [7, 2]])
    np.testing.assert_array_equal(values, whole.values("theta", [7, 2]))


@pytest.mark.slow
def test_chains_are_mapped_by_a_function_of_the_users(theirs):
    ours = quick(jax.vmap)
    chains = Chains(ours, KEY, DATA)
    for size in (30, 11, 30):
        reported = chains.advance(size)
    assert reported["potential_energy"].shape == (30, 2)
    chains.give_to_sampler()
    drawn, expected = (m.get_samples(group_by_chain=True)["theta"] for m in (ours, theirs))
    close(drawn, expected)
    np.testing.assert_array_equal(chains.values("theta", range(8)), drawn)


@pytest.mark.slow
def test_a_warmed_up_sampler_goes_on_without_another_warmup(theirs):
    ours = quick("sequential")
    ours.warmup(KEY, **DATA)
    chains = Chains(ours, ours.last_state.rng_key, DATA)
    assert chains.plan == ChainPlan(chains=2, warmup=0, samples=41, thinning=3)
    chains.advance(41)
    chains.give_to_sampler()
    close(ours.get_samples()["tau"], theirs.get_samples()["tau"])


@pytest.mark.slow
def test_events_are_those_of_training_with_iterations_for_steps():
    recorder, history = Recorder(), History()
    im = model(quick()).fit_on_batch(
        SD, EFFECT, steps_per_call=20, callbacks=[recorder, history], progress=False
    )
    assert recorder.events == [
        *("begin", "epoch 1", 20, 10, 20, 20, 1, "end of epoch 1", "completed")
    ]
    assert recorder.draws == [0, 0, 6, 12, 13]
    run = im.last_run
    assert run.info.is_sampling
    assert (run.info.method, run.info.total_steps) == ("MCMC/HMC", 71)
    assert run.reason == "all 13 draws of each chain done"
    chains = run.chains
    assert set(chains.names) == {
        *("potential_energy", "acceptance_rate", "diverging", "n_steps", "step_size")
    }
    energy = chains.column("potential_energy")
    assert energy.shape == (71, 2)
    np.testing.assert_allclose(run.losses, energy.mean(1), rtol=1e-6)
    np.testing.assert_allclose(-im.sample()["sample_stats"]["lp"].T, energy[34::3])
    step_size = chains.sampling("step_size")
    np.testing.assert_array_equal(step_size[0], step_size[-1])
    np.testing.assert_array_equal(step_size[0], im.inference.last_state.adapt_state.step_size)
    np.testing.assert_array_equal(chains.divergences, chains.sampling("diverging").sum(0))
    frame = history.to_frame()
    assert len(frame) == 71
    np.testing.assert_allclose(frame["step_size"], chains.column("step_size").mean(1), rtol=1e-6)
    reported = azb.from_numpyro(im.inference, log_likelihood=True)
    assert reported["log_likelihood"]["y"].shape == (2, 13, 8)
    np.testing.assert_array_equal(reported["posterior"]["mu"], im.sample()["posterior"]["mu"])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sequential", "vectorized"])
def test_stop_keeps_the_draws_so_far_as_many_of_each_chain(method):
    im = model(quick(method)).fit_on_batch(SD, EFFECT, rng_key=KEY, progress=False)
    whole = im.sample()["posterior"]
    # A second fit is like the first.
    stop = Recorder(50, lambda run: run.control.stop("seen enough"))
    im.fit_on_batch(
        SD, EFFECT.copy(), rng_key=KEY, callbacks=[stop], steps_per_call=10, progress=False
    )
    assert (im.last_run.status, im.last_run.step) == ("stopped", 50)
    assert im.last_run.reason == "seen enough, after draw 6 of each chain"
    for site in ("mu", "theta"):
        drawn, all_ = (tree[site].values for tree in (im.sample()["posterior"], whole))
        assert drawn.shape[:2] == (2, 6)
        np.testing.assert_array_equal(drawn, all_[:, :6])
    assert im.sample()["sample_stats"]["lp"].shape == (2, 6)
    im.inference.print_summary()
    # The chains go on from there.
    assert im.sample(num_samples=6, **DATA)["posterior"]["mu"].shape == (2, 2)


@pytest.mark.slow
def test_a_stop_in_the_warmup_leaves_the_model_as_it_was():
    im = model(quick())
    stop = Recorder(10, lambda run: run.control.stop())
    with pytest.warns(FitWarning, match="in the warm-up, at iteration 10 of .*; the model"):
        im.fit_on_batch(SD, EFFECT, callbacks=[stop], steps_per_call=10, progress=False)
    run, warmup = im.last_run, im.inference.num_warmup
    said = f"none in each of 2 chains, after 10 of {warmup:,} iterations of warm-up"
    assert facts(run)["draws"] == said
    assert f"warm-up 10 of {warmup:,}" in status_line(run)
    panel = SamplingPanel().frame(run)
    assert (panel["warming_up"], panel["iterations"], panel["draws"]) == (True, 10, 0)
    assert not im.is_fitted()
    assert im.input_schema is None
    assert im.inference.last_state is None
    for call in (im.summary, im.sample, lambda: im.predict(SD, progress=False)):
        with pytest.raises(NotFittedError, match="stopped in their warm-up, after 10 of .* again"):
            call()


@pytest.mark.slow
def test_an_interrupt_keeps_the_draws_so_far():
    interrupt = Recorder(40, lambda run: os.kill(os.getpid(), signal.SIGINT))
    im = model(quick())
    with pytest.warns(FitWarning, match="interrupted after draw 2 of each chain"):
        im.fit_on_batch(SD, EFFECT, callbacks=[interrupt], steps_per_call=10, progress=False)
    assert im.last_run.status == "interrupted"
    assert im.posterior["mu"].shape == (4,)
    assert re.search(r"training interrupted at draw 2 of \d+ in 2 chains on 8 rows", repr(im))


@pytest.mark.slow
def test_an_error_leaves_model_and_sampler_as_they_were():
    im = model(quick()).fit_on_batch(SD, EFFECT, progress=False)
    before, last = im.posterior["mu"], im.inference.last_state

    def fail(run):
        msg = "no"
        raise RuntimeError(msg)

    recorder = Recorder(50, fail)
    with pytest.raises(RuntimeError, match="no"):
        im.fit_on_batch(SD, EFFECT, callbacks=[recorder], steps_per_call=10, progress=False)
    assert recorder.events[-2:] == ["exception", "failed"]
    assert im.last_run.reason == "RuntimeError: no"
    np.testing.assert_array_equal(im.posterior["mu"], before)
    assert im.inference.last_state is last


@pytest.mark.slow
def test_in_the_background_it_is_followed_paused_and_stopped():
    recorder = Recorder()
    im = model(quick(num_samples=10**6, thinning=1000))
    handle = im.fit_on_batch(SD, EFFECT, blocking=False, callbacks=[recorder], progress=False)
    with pytest.raises(BusyError):
        im.fit_on_batch(SD, EFFECT)
    with pytest.raises(ArgumentError, match="no learning rate"):
        handle.set_learning_rate(0.1)
    until(lambda: handle.run.chains.draws > 2)
    handle.pause()
    until(lambda: handle.status == "paused")
    draws = handle.run.chains.draws
    assert re.search(rf"was paused at .*, draw {draws} of 1,000 in 2 chains, ", repr(handle))
    # From this thread, while the run is under way.
    values = handle.run.chains.values("theta", [0])
    assert values.shape == (2, draws, 1)
    handle.resume()
    until(lambda: handle.run.chains.draws > draws)
    handle.stop()
    assert handle.result(60) is im
    assert (handle.status, im.is_fitted()) == ("stopped", True)
    assert "pause" in recorder.events
    np.testing.assert_array_equal(im.posterior["theta"].reshape(2, -1, 8)[:, :draws, :1], values)


def test_what_needs_a_loss_is_refused_before_anything_begins(tmp_path):
    im = model(quick())
    for callback in (EarlyStopping(), ModelCheckpoint(tmp_path / "c")):
        with pytest.raises(InferenceError, match=f"{type(callback).__name__}.*leave it out"):
            im.fit_on_batch(SD, EFFECT, callbacks=[callback], progress=False)
    with pytest.raises(InferenceError, match="LearningRateScheduler"):
        im.fit_on_batch(SD, EFFECT, callbacks=[LearningRateScheduler(lambda step: 0.1)])
    assert im.last_run is None


@pytest.mark.slow
def test_one_program_serves_all_chunks():
    chains = Chains(quick(), KEY, DATA)
    chains.compile()
    before = compilation_log().count
    for size in (1, 4, 25, 3, 8):
        chains.advance(size)
    assert compilation_log().count == before


def until(condition, seconds=60):
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
