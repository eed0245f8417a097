"""Whether steps still move the parameters, and what is said once they do not."""

from __future__ import annotations

import jax.numpy as jnp
import numpyro
import optax
import pytest
from numpyro.optim import optax_to_numpyro

from aimz_lab import settable_rate
from aimz_lab.inference.run.run_words import run_facts, trend_words
from aimz_lab.inference.run.spent_rate import is_spent as is_spent_run
from aimz_lab.inference.run.spent_rate import spent_note
from aimz_lab.inference.svi.motion import hardly_moved, have_moved, is_spent
from aimz_lab.lab.callbacks import History
from tests.kernels import regression_data
from tests.runs import refit, regression_model, tell, told_run

pytestmark = pytest.mark.allow_rank_promotion

STEPS = 6
X, Y = regression_data(n=40)


def ends(i):
    return 0.1 * jnp.maximum(1 - i / STEPS, 0.0)


SPENT = {
    "a schedule of NumPyro": numpyro.optim.Adam(ends),
    "a schedule of Optax": optax_to_numpyro(optax.adam(optax.cosine_decay_schedule(0.1, STEPS))),
    "next to 0": optax_to_numpyro(optax.sgd(lambda i: jnp.maximum(ends(i), 1e-20))),
    "a rate of 0": numpyro.optim.SGD(0.0),
}
ALIVE = {
    "a constant rate": numpyro.optim.Adam(0.01),
    "a rate in the state": settable_rate(numpyro.optim.Adam, 0.01),
    "a constant rate of Optax": optax_to_numpyro(optax.adam(0.01)),
    "before its end": numpyro.optim.Adam(lambda i: ends(i / 10)),
    "one that begins anew": optax_to_numpyro(
        optax.sgd(optax.join_schedules([optax.constant_schedule(0.0), ends], [100]))
    ),
    "sums of 20 gradients": optax_to_numpyro(optax.MultiSteps(optax.adam(0.01), 20)),
    "clipped": numpyro.optim.ClippedAdam(0.01, clip_norm=1.0),
    "one that searches": numpyro.optim.Minimize(),
}


def after_steps(optimizer, gradient):
    state = optimizer.init({"a": jnp.array([1.0, -0.3]), "b": jnp.array(3.0)})
    gradients = {"a": jnp.array([gradient, -gradient]), "b": jnp.array(gradient)}
    for _ in range(STEPS):
        state = optimizer.update(gradients, state, value=jnp.array(1.0))
    return state


@pytest.mark.slow
@pytest.mark.parametrize("gradient", [0.0, 1.0, 1e7])
@pytest.mark.parametrize(("optimizers", "expected"), [(SPENT, True), (ALIVE, False)])
def test_an_optimizer_shows_by_its_updates_that_its_rate_has_come_to_0(
    optimizers, expected, gradient
):
    for name, optimizer in optimizers.items():
        assert is_spent(optimizer, after_steps(optimizer, gradient)) == expected, name


def test_any_difference_is_a_move_and_a_tiny_one_hardly_is():
    optimizer = numpyro.optim.SGD(1.0)
    before = optimizer.init({"a": jnp.ones(3), "b": jnp.zeros(())})
    assert not have_moved(optimizer, before, before)
    for gradient, hardly in ((1e-6, True), (1e-3, False)):
        after = optimizer.update(
            {"a": jnp.zeros(3).at[1].set(gradient), "b": jnp.zeros(())}, before
        )
        assert have_moved(optimizer, before, after)
        assert hardly_moved(optimizer, before, after) == hardly
    assert not hardly_moved(
        optimizer, before, optimizer.update({"a": jnp.zeros(3), "b": jnp.array(1e-9)}, before)
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a schedule of NumPyro", "a schedule of Optax"])
def test_a_fit_says_that_its_schedule_has_ended_and_the_next_that_it_moved_nothing(name, tmp_path):
    im = regression_model(SPENT[name])
    first = refit(im, X, Y).last_run
    assert first.step == STEPS
    assert first.unmoved_steps < STEPS
    assert spent_note(first).startswith("The learning rate has come to 0 or nearly 0: ")
    second = im.fit(X, Y, batch_size=20, epochs=20, num_samples=10, progress=False).last_run
    assert second.unmoved_steps == second.step
    said = "No step of this run moved a parameter: the learning rate is 0 or nearly 0"
    assert dict(run_facts(second))["note"].startswith(said)
    History(second).to_json(tmp_path / "run.json")
    assert said in repr(History.from_json(tmp_path / "run.json"))


@pytest.mark.slow
def test_a_fit_at_a_rate_says_nothing_of_it():
    run = refit(regression_model(), X, Y).last_run
    assert (run.unmoved_steps, run.has_spent_rate, spent_note(run)) == (0, False, "")


def test_a_run_says_how_many_steps_moved_nothing():
    run = told_run()
    tell([], [3.0] * 2_100, run)
    run.has_spent_rate, run.unmoved_steps = True, 1_100
    assert "0: the last 1,100 steps moved no parameter, and another fit would" in spent_note(run)
    run.end_with("the state of an earlier step")
    assert not is_spent_run(run)  # its optimizer is that of then
    assert spent_note(run) == ""


def test_it_says_so_while_it_goes_on_once_they_are_many():
    run = told_run()
    run.begin()
    run.unmoved_steps = 999
    assert spent_note(run) == ""
    run.unmoved_steps = 1_000
    assert spent_note(run).startswith("The last 1,000 steps moved no parameter: the learning rate")


def test_a_loss_that_still_falls_is_not_sent_on_without_a_rate():
    run = told_run()
    tell([], [5.0 - i / 500 for i in range(2_000)], run)
    assert "train on" in trend_words(run)
    run.has_spent_rate = True
    assert trend_words(run).endswith("when the learning rate came to 0")
