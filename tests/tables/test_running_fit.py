"""Predictions while a fit goes on in the background: from the guide as it is, of one state."""

from __future__ import annotations

import threading

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpyro.infer import HMC, MCMC, SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import Callback, ImpactModel, TableSpec, summarize_effect
from aimz_lab.errors import ArgumentError, NotFittedError, OutputWarning
from aimz_lab.lab import explore_effect, explore_model, explore_predictions, plot_forest

KEY = jax.random.key(5)
N = 64


def kernel(X, treated, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    lift = numpyro.sample("lift", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(X * slope + lift * treated, 0.1), obs=y)


def model(inference=None):
    svi = inference or SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(0.05), Trace_ELBO())
    spec = TableSpec(X="scale(age)", y="scale(pay)", treated="treated")
    return ImpactModel(kernel, jax.random.key(0), inference=svi, table=spec)


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"age": rng.normal(40, 10, N), "treated": rng.random(N) < 0.5})
    return frame.assign(pay=100 + 2 * frame.age + 9 * frame.treated)


class HoldAt(Callback):
    """Stops the training inside a report, so that a test can look at a known state."""

    def __init__(self, step):
        self.step, self.at, self.go_on = step, threading.Event(), threading.Event()
        self.seen = None

    def on_steps_end(self, run, steps):
        if self.at.is_set() or run.step < self.step:
            return
        self.params = {name: np.asarray(value) for name, value in run.params.items()}
        self.held_at = run.step
        self.at.set()
        self.go_on.wait(60)


@pytest.mark.slow
def test_predictions_come_from_the_guide_as_it_is(table, capsys):
    im, hold = model(), HoldAt(40)
    handle = im.fit(
        table, epochs=4_000, num_samples=30, steps_per_call=20, callbacks=[hold], progress=False,
        blocking=False,
    )  # fmt: skip
    assert hold.at.wait(60)
    try:
        now = im.predict(table, rng_key=KEY, store="memory")
        assert now["posterior_predictive"].attrs["fit_step"] == hold.held_at == 40
        assert now["posterior_predictive"].attrs["fit_status"] == "running"
        line = f"the guide after step {hold.held_at}; the fit goes on"
        assert line in capsys.readouterr().err
        again = im.predict_on_batch(table, rng_key=KEY)
        np.testing.assert_allclose(now.posterior_predictive.y, again.posterior_predictive.y)
        centre = float(now.posterior.slope.mean())
        at, width = (float(hold.params[f"slope_auto_{name}"]) for name in ("loc", "scale"))
        assert abs(centre - at) < 4 * width / np.sqrt(30)
        with pytest.warns(OutputWarning, match="differ in rng_key, so"):  # and not in the posterior
            effect = im.estimate_effect(
                args_baseline={"X": table.assign(treated=0), "rng_key": KEY},
                args_intervention={"X": table.assign(treated=1), "rng_key": jax.random.key(6)},
            )
        lift = now.posterior.lift.values[..., None] * table.pay.std()
        noise = effect.posterior_predictive.y - lift
        assert float(abs(noise.mean())) < 1
        np.testing.assert_allclose(effect.posterior.lift, now.posterior.lift)
        assert im.log_likelihood(table, progress=False).log_likelihood.attrs["fit_step"] == 40
        assert im.is_fitted()
        assert im.posterior is None  # an attribute that is the same at each look
        tree = im.posterior_tree
        assert tree.posterior.attrs["fit_step"] == 40
        np.testing.assert_array_equal(tree.posterior.slope, now.posterior.slope)
        capsys.readouterr()
        summary = im.summary(["slope"])
        assert summary.attrs == {"fit_status": "running", "fit_step": 40}
        assert summary["mean"].item() == pytest.approx(centre, rel=1e-3)
        assert line in capsys.readouterr().err
        sides = table.assign(treated=0), table.assign(treated=1)
        effect = im.estimate_effect(*sides, average=True)
        assert line in capsys.readouterr().err
        assert "after step 40 of a fit that went on" in summarize_effect(effect)["y"].text
        assert im.sweep("age", [30, 40], table).posterior_predictive.attrs["fit_step"] == 40
        assert line in capsys.readouterr().err
        decision = im.decide(dict(zip(("no", "yes"), sides, strict=True)))
        assert line in capsys.readouterr().err
        assert decision.fit_step == 40
        assert "after step 40 of a fit that went on" in decision.text
        im.sweep("age", [30, 40], table, progress=False)
        assert line not in capsys.readouterr().err
        with pytest.raises(ArgumentError, match="is being trained, .* Wait for the end of the fit"):
            explore_effect(im, table)
        reading = explore_model(im, table).set(site="slope")
        assert "The model is being trained; open the explorer again" in str(reading.sentences)
        assert plot_forest(im) is not None
        capsys.readouterr()
        assert explore_predictions(im, table).view is not None
        assert capsys.readouterr().err.count(line) == 1
    finally:
        handle.stop()
        hold.go_on.set()
    handle.wait()
    done = im.predict(table, rng_key=KEY, progress=False)
    assert "fit_step" not in done.posterior_predictive.attrs
    assert "a fit that went on" not in im.decide({"no": table, "yes": table}).text
    np.testing.assert_array_equal(done.posterior.slope, now.posterior.slope)  # it ended there


@pytest.mark.slow
def test_many_predictions_during_a_fit_never_mix_two_states(table):
    """The posterior of each tree is the one of its step, drawn with one key."""
    im = model()
    states = {}

    class Keep(Callback):
        def on_steps_end(self, run, steps):
            states[run.step] = float(run.params["slope_auto_loc"])

    handle = im.fit(
        table, epochs=1_000_000, num_samples=200, callbacks=[Keep()], progress=False, blocking=False
    )
    seen = {}
    while not handle.done and len(seen) < 8:
        try:
            tree = im.predict_on_batch(table[:5], rng_key=KEY)
        except NotFittedError:
            continue
        step = tree["posterior_predictive"].attrs.get("fit_step")
        if step is not None:
            seen[step] = float(tree.posterior.slope.mean())
    handle.stop()
    handle.wait()
    assert len(seen) > 3
    for step, centre in seen.items():
        assert abs(centre - states[step]) < 0.05


def test_callbacks_have_the_posterior_of_before(table):
    seen, fitted = [], []

    class Look(Callback):
        def on_steps_end(self, run, steps):
            try:
                im.predict_on_batch(table)
            except NotFittedError as error:
                seen.append(str(error))
                fitted.append(im.is_fitted())

    im = model()
    im.fit(table, epochs=2, callbacks=[Look()], progress=False, blocking=False).wait()
    assert "has not reported its first steps" in seen[0]
    assert not any(fitted)


@pytest.mark.slow
def test_chains_have_a_posterior_at_their_end(table):
    hold = HoldAt(1)
    sampler = MCMC(
        HMC(kernel, trajectory_length=0.1), num_warmup=2, num_samples=4, progress_bar=False
    )
    chains = model(sampler)
    handle = chains.fit_on_batch(table, callbacks=[hold], progress=False, blocking=False)
    assert hold.at.wait(60)
    with pytest.raises(NotFittedError, match=r"chains have one at their end.*stop\(\) them"):
        chains.predict(table, progress=False)
    hold.go_on.set()
    handle.wait()
    assert "fit_step" not in chains.predict(table, progress=False).posterior_predictive.attrs

    # A further run starts afresh, so it learns the scale of its own table.
    larger = table.assign(age=3 * table.age)
    tree = chains.fit_on_batch(larger, progress=False).predict(larger, progress=False)
    assert abs(float(tree.constant_data.X.mean())) < 1e-3
