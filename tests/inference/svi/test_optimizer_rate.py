"""The rate of an optimizer as it is: set during a run, and the same bits while nobody sets it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import optax
import pytest
from numpyro.infer.svi import SVIState

from aimz_lab import Callback, settable_rate
from aimz_lab.errors import FitWarning, InferenceError
from aimz_lab.inference.run.records import RateChange
from aimz_lab.inference.svi.optimizer_rate import OptimizerRate
from aimz_lab.inference.svi.step import TrainState
from aimz_lab.lab.callbacks import LearningRateScheduler, ModelCheckpoint
from tests.kernels import regression_data
from tests.runs import refit, regression_model, same_bits

pytestmark = pytest.mark.allow_rank_promotion

X, Y = regression_data(n=40)
RATE = 0.05
OPTIMIZERS = {
    "Adam": lambda rate: numpyro.optim.Adam(rate, b1=0.8),
    "ClippedAdam": lambda rate: numpyro.optim.ClippedAdam(rate, clip_norm=3.0),
    "Adagrad": numpyro.optim.Adagrad,
    "Momentum": lambda rate: numpyro.optim.Momentum(rate, 0.9),
    "RMSProp": numpyro.optim.RMSProp,
    "RMSPropMomentum": numpyro.optim.RMSPropMomentum,
    "SGD": numpyro.optim.SGD,
    "SM3": numpyro.optim.SM3,
}


def decay(i):
    return RATE * 0.9**i


def svi_state_of(optim):
    """An SVI state before the first update."""
    return SVIState(optim.init({"a": jnp.zeros(2)}), None, jax.random.key(0))


def updates(optim, steps=6):
    """Parameters after some updates by the optimizer alone, on gradients that never change."""
    gradients = {"a": jnp.array([0.3, -2.0]), "b": jnp.array(5.0)}
    state = optim.init({"a": jnp.array([1.0, 2.0]), "b": jnp.array(3.0)})
    for _ in range(steps):
        state = optim.update(gradients, state)
    return optim.get_params(state)


@pytest.mark.parametrize("rate", ["0.1", -1, float("nan"), float("inf")])
def test_a_rate_that_no_step_can_use_is_refused_before_the_first(rate):
    im = regression_model(optimizer=numpyro.optim.Adam(rate))
    with pytest.raises(InferenceError, match=f"rate of the optimizer is {rate!r}; give it a pos"):
        im.fit(X, Y, batch_size=20, epochs=1)
    assert not im.is_fitted()


def test_an_absurd_rate_is_told_before_the_run_diverges():
    im, told = regression_model(optimizer=numpyro.optim.Adam(2e3)), []

    class FirstStep(Callback):
        def on_fit_begin(self, run):
            told.extend(str(one.message) for one in warned)

    with pytest.warns(FitWarning) as warned:
        refit(im, X, Y, callbacks=[FirstStep()])
    assert [one.split(":")[0] for one in told] == ["The learning rate of the optimizer is 2,000"]
    OptimizerRate(numpyro.optim.SGD(999.0)).check()  # without a warning


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_rate_that_is_set_makes_the_steps_of_an_optimizer_with_that_rate(name):
    make = OPTIMIZERS[name]
    changed = OptimizerRate(make(RATE)).optimizer(jnp.float32(0.01))
    for found, expected in zip(
        *map(jax.tree.leaves, (updates(changed), updates(make(0.01)))), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    scaled = OptimizerRate(make(decay)).optimizer(jnp.float32(0.2))
    expected = updates(make(lambda i: 0.2 * decay(i)))
    for found, value in zip(*map(jax.tree.leaves, (updates(scaled), expected)), strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-6)
    own = make(RATE)
    assert OptimizerRate(own).optimizer(None) is own


class At(Callback):
    """Calls a function of the run at some steps, and notes the rates."""

    every_epoch = False

    def __init__(self, **at):
        self.at = {int(step[1:]): do for step, do in at.items()}

    def on_steps_end(self, run, steps):
        if run.step in self.at:
            self.at[run.step](run)


def set_to(rate):
    return lambda run: run.control.set_learning_rate(rate)


@pytest.fixture(scope="module")
def scheduled():
    return regression_model(numpyro.optim.Adam(decay))


OPTIONS = {"steps_per_call": 4, "epochs": 6, "batch_size": 20}


@pytest.mark.slow
def test_training_is_that_of_numpyro_while_nobody_sets_the_rate(scheduled):
    """Against a run whose rate is looked at and, at the last step, asked for and never used."""
    plain = refit(scheduled, X, Y, **OPTIONS)
    losses, state = plain.vi_result.losses.copy(), plain._vi_state
    optim = scheduled.inference.optim
    begin = optim.init(optim.get_params(state.optim_state))
    assert jax.tree.structure(state.optim_state) == jax.tree.structure(begin)
    run = refit(scheduled, X, Y, callbacks=[At(_12=set_to(0.5))], **OPTIONS).last_run
    assert same_bits([losses, state], [run.losses, scheduled._vi_state])
    np.testing.assert_allclose(run.column("learning_rate"), decay(np.arange(12)), rtol=1e-5)
    assert run.first_learning_rate == pytest.approx(RATE)


@pytest.mark.slow
def test_a_schedule_keeps_its_shape_and_a_resumed_run_goes_on_with_it(scheduled, tmp_path):
    save = At(_8=lambda run: run.control.checkpoint())
    keep = ModelCheckpoint(tmp_path)
    callbacks = [At(_4=set_to(0.2)), save, keep]
    run = refit(scheduled, X, Y, callbacks=callbacks, **OPTIONS).last_run
    expected = decay(np.arange(12))
    expected[4:] *= 0.2 / expected[4]
    np.testing.assert_allclose(run.column("learning_rate"), expected, rtol=1e-5)
    assert [(c.step, c.after) for c in run.rate_changes] == [(4, 0.2)]
    [note] = run.notes
    assert note.startswith("The optimizer's schedule goes on from the learning rate that was set")
    losses, state = run.losses.copy(), scheduled._vi_state
    [saved] = tmp_path.glob("*-step-8.npz")
    resumed = refit(scheduled, X, Y, resume=saved, **OPTIONS).last_run
    assert resumed.resumed_at == 8
    assert same_bits([losses, state], [resumed.losses, scheduled._vi_state])
    assert resumed.rate_changes == run.rate_changes
    again = scheduled.fit(X, Y, num_samples=5, progress=False, **OPTIONS).last_run
    assert again.column("learning_rate")[0] == pytest.approx(decay(12), rel=1e-5)


@pytest.mark.slow
def test_a_constant_rate_is_the_one_that_was_set():
    im = regression_model(numpyro.optim.Adam(RATE))
    run = refit(im, X, Y, callbacks=[At(_4=set_to(0.2))], **OPTIONS).last_run
    np.testing.assert_array_equal(run.column("learning_rate"), np.float32([RATE] * 4 + [0.2] * 8))
    assert run.notes == []


@pytest.mark.slow
def test_the_next_fit_says_that_its_rate_is_not_the_one_that_was_set():
    im = regression_model(numpyro.optim.Adam(RATE))
    refit(im, X, Y, callbacks=[At(_4=set_to(0.2))], **OPTIONS)
    options = {**OPTIONS, "num_samples": 5, "progress": False}
    run = im.fit(X, Y, **options).last_run
    assert run.notes == [
        "The learning rate begins at 0.05, the optimizer's own: the run before ended at 0.2, as it "
        "was set there, and that holds for one run. Set it again to go on with it."
    ]
    assert im.fit(X, Y, **options).last_run.notes == []


@pytest.mark.slow
def test_it_is_silent_on_a_rate_that_is_set_again_or_made_the_run_before_diverge():
    im = regression_model(numpyro.optim.Adam(RATE))
    options = {**OPTIONS, "num_samples": 5, "progress": False}
    im.fit(X, Y, callbacks=[At(_4=set_to(0.2))], **options)
    seen = []

    def set_again(run):
        seen.extend(run.notes)
        run.control.set_learning_rate(0.1)

    assert im.fit(X, Y, callbacks=[At(_4=set_again)], **options).last_run.notes == []
    assert "Set it again" in seen[0]
    with pytest.warns(FitWarning, match="The fit ended early"):
        im.fit(X, Y, callbacks=[At(_4=set_to(1e30))], **options)
    assert im.last_run.rate_changes
    assert im.fit(X, Y, **options).last_run.notes == []


@pytest.mark.slow
def test_no_rate_is_missed_where_the_next_fit_has_it_or_sets_one_itself():
    im = regression_model(settable_rate(numpyro.optim.Adam, RATE))
    refit(im, X, Y, callbacks=[At(_4=set_to(0.2))], **OPTIONS)
    options = {**OPTIONS, "num_samples": 5, "progress": False}
    run = im.fit(X, Y, **options).last_run
    assert run.notes == []
    assert run.learning_rate == pytest.approx(0.2)
    im = regression_model(numpyro.optim.Adam(RATE))
    refit(im, X, Y, callbacks=[At(_4=set_to(0.2))], **OPTIONS)
    at_begin = LearningRateScheduler(lambda step: 0.1)
    assert im.fit(X, Y, callbacks=[at_begin], **options).last_run.notes == []


@pytest.mark.slow
def test_a_change_that_waits_at_a_checkpoint_is_known_after_it(tmp_path):
    im = regression_model(numpyro.optim.Adam(RATE))

    def both(run):
        run.control.set_learning_rate(0.2)
        run.control.checkpoint()

    refit(im, X, Y, callbacks=[At(_8=both), ModelCheckpoint(tmp_path)], **OPTIONS)
    [saved] = tmp_path.glob("*-step-8.npz")
    resumed = refit(im, X, Y, resume=saved, **OPTIONS).last_run
    assert resumed.rate_changes == [RateChange(8, pytest.approx(RATE), pytest.approx(0.2))]


def test_a_rate_of_0_is_told():
    with pytest.warns(FitWarning, match=r"is 0: the steps compute losses and train nothing\. Give"):
        OptimizerRate(numpyro.optim.Adam(0.0)).check()
    OptimizerRate(numpyro.optim.Adam(lambda i: 0.0 * i)).check()  # a schedule may begin at 0


@pytest.mark.parametrize(
    ("optimizer", "why"),
    [
        (numpyro.optim.Minimize(), "Minimize has no learning rate"),
        (numpyro.optim.optax_to_numpyro(optax.adam(0.1)), "Optax has compiled the learning rate"),
        (
            numpyro.optim.optax_to_numpyro(optax.adam(optax.cosine_decay_schedule(0.1, 9))),
            "A schedule in the Optax optimizer sets the learning rate",
        ),
        (numpyro.optim._NumPyroOptim(lambda: (lambda p: p,) * 3), "is not known"),
    ],
)
def test_where_the_rate_cannot_be_set_it_says_why(optimizer, why):
    rate = OptimizerRate(optimizer)
    params = {"a": jnp.zeros(2)}
    state = TrainState(numpyro.infer.svi.SVIState(optimizer.init(params), None, None))
    said = rate.why_fixed(state)
    assert why in said
    assert "To set one during a run, train with an optimizer of numpyro.optim" in said
    assert "numpyro.optim.Adam(0.01)" in said
    assert not rate.is_settable(state)
    assert rate.of_next_step(state) is None


@pytest.mark.slow
def test_a_rate_of_zero_has_no_multiples():
    im = regression_model(numpyro.optim.SGD(lambda i: 0.0 * i))
    run = refit(im, X, Y, callbacks=[At(_4=set_to(0.2))], **OPTIONS).last_run
    assert run.notes == ["The learning rate is 0 here and stays so: 0.2 is no multiple of it."]
    assert run.rate_changes == []


def test_rates_are_computed_on_the_host_where_steps_keep_a_gpu_busy(monkeypatch):
    where = []

    def noted(i):
        where.append(jax.config.jax_default_device)
        return RATE * 0.9**i

    rate = OptimizerRate(numpyro.optim.Adam(noted))
    state = TrainState(svi_state_of(numpyro.optim.Adam(noted)))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    where.clear()
    assert rate.of_next_step(state) == pytest.approx(RATE)
    assert where == [jax.local_devices(backend="cpu")[0]]
