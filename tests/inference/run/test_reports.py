"""Short chunks are reported together, and none is lost, however the run ends."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from aimz_lab import Callback
from aimz_lab.inference.feeds import feed
from aimz_lab.inference.svi import trainer
from tests.kernels import regression_data
from tests.runs import refit, regression_model, same_bits

pytestmark = pytest.mark.allow_rank_promotion

X, Y = regression_data(n=103)
X_NEW, Y_NEW = regression_data(n=30, seed=1)
EPOCHS, STEPS, CHUNK = 20, 6, 4


class Heard(Callback):
    """Notes the steps that are reported to it."""

    every_epoch = False

    def __init__(self):
        self.reports, self.rates = [], []

    def on_steps_end(self, run, steps):
        assert steps.first + len(steps) == run.step + 1
        self.reports.append(np.array([steps.epoch, steps.loss, steps.rows, steps.n_pad]))
        self.rates += [steps.learning_rate] * len(steps)

    @property
    def sizes(self):
        return [report.shape[1] for report in self.reports]

    def heard_all_of(self, run):
        names = "epoch", "loss", "rows", "n_pad"
        reported = np.concatenate(self.reports, axis=1)
        return same_bits(reported, np.array([run.column(name) for name in names]))


@pytest.fixture(scope="module")
def model():
    return regression_model()


@pytest.fixture(autouse=True)
def never_due(monkeypatch):
    """Chunks are short, and no time is long enough: only what has to be is reported before."""
    monkeypatch.setattr(feed, "CHUNK_STEPS", CHUNK)
    monkeypatch.setattr(trainer, "REPORT_S", np.inf)


def batches(at, do, y=Y):
    """A stream of all batches, which does something before one of them."""

    def stream():
        for i in range(STEPS):
            nonlocal epochs
            epochs += i == 0
            if (epochs - 1) * STEPS + i == at:
                do()
            yield {"X": X[20 * i : 20 * (i + 1)], "y": y[20 * i : 20 * (i + 1)]}

    epochs = 0
    return stream


def fit(im, source, callbacks, **more):
    im._vi_state = None
    options = {"n_obs": len(X), "epochs": EPOCHS, "num_samples": 5, "progress": False}
    return im.fit(source, rng_key=jax.random.key(1), callbacks=callbacks, **options, **more)


def steps_of(state):
    """Steps that an optimizer has done."""
    return int(state.optim_state[0])


@pytest.mark.slow
def test_a_run_is_the_same_with_fewer_reports(model):
    each, together = Heard(), Heard()
    refit(model, X, Y, epochs=EPOCHS, steps_per_call=CHUNK, callbacks=[each])
    state = model._vi_state
    refit(model, X, Y, epochs=EPOCHS, callbacks=[together])
    assert each.sizes == [CHUNK] * (EPOCHS * STEPS // CHUNK)
    assert together.sizes == [CHUNK, EPOCHS * STEPS - CHUNK]
    assert together.heard_all_of(model.last_run)
    assert same_bits(np.concatenate(each.reports, 1), np.concatenate(together.reports, 1))
    assert same_bits(state, model._vi_state)


@pytest.mark.slow
def test_reports_come_as_soon_as_they_are_due(model, monkeypatch):
    heard = Heard()
    monkeypatch.setattr(trainer, "REPORT_S", 0.0)
    refit(model, X, Y, epochs=EPOCHS, callbacks=[heard])
    assert max(heard.sizes) == CHUNK


def test_a_callback_of_epochs_sees_the_run_as_it_is_at_their_ends(model):
    class Ends(Heard):
        every_epoch = True

        def on_epoch_end(self, run, epoch):
            assert run.step == steps_of(run.state.svi) == epoch * STEPS

    ends = Ends()
    refit(model, X, Y, epochs=EPOCHS, callbacks=[ends])
    assert ends.sizes == [CHUNK, STEPS - CHUNK] + [STEPS] * (EPOCHS - 1)


def test_held_out_rows_are_evaluated_where_they_should_be(model):
    heard = Heard()
    held_out = {"validation": (X_NEW, Y_NEW), "validation_every": 5}
    refit(model, X, Y, epochs=EPOCHS, callbacks=[heard], **held_out)
    assert [step for step, _ in model.last_run.validation] == [30, 60, 90, 120]
    assert heard.sizes == [CHUNK, 30 - CHUNK, 30, 30, 30]


@pytest.mark.slow
@pytest.mark.parametrize("at", [13, 50, 51])
def test_a_stop_reports_what_is_pending(model, at):
    heard = Heard()
    fit(model, batches(at, lambda: model.last_run.control.stop("enough")), [heard])
    run = model.last_run
    assert (run.status, run.reason) == ("stopped", "enough")
    assert run.step == steps_of(model._vi_state) == len(model.vi_result.losses)
    assert at - 3 * CHUNK <= run.step <= at
    assert heard.heard_all_of(run)


@pytest.mark.parametrize("error", [OSError("the disk is gone"), KeyboardInterrupt()])
def test_a_source_that_fails_loses_nothing_that_was_done(model, error):
    def fail():
        raise error

    heard = Heard()
    source = batches(50, fail)
    if isinstance(error, OSError):
        with pytest.raises(OSError, match="the disk is gone"):
            fit(model, source, [heard])
    else:
        with pytest.warns(match="interrupted after step"):
            fit(model, source, [heard])
    run = model.last_run
    assert 50 - 3 * CHUNK <= run.step == steps_of(model._vi_state) <= 50
    assert heard.heard_all_of(run)


def test_a_callback_that_fails_at_the_end_raises_in_the_context_of_the_first_error(model):
    class Fails(Heard):
        def on_steps_end(self, run, steps):
            super().on_steps_end(run, steps)
            if run.step > CHUNK:
                raise ValueError("cannot hear any more")

    def fail():
        raise OSError("the disk is gone")

    with pytest.raises(ValueError, match="cannot hear") as caught:
        fit(model, batches(50, fail), [Fails()])
    assert isinstance(caught.value.__context__, OSError)
    assert model.last_run.step == steps_of(model._vi_state)


def test_each_step_is_reported_with_the_rate_that_it_had(model):
    heard = Heard()
    fit(model, batches(50, lambda: model.last_run.control.set_learning_rate(0.01)), [heard])
    first = heard.rates.index(pytest.approx(0.01))
    np.testing.assert_allclose(heard.rates, np.repeat([0.05, 0.01], [first, 120 - first]), 1e-6)
    assert 50 - 3 * CHUNK <= first <= 50
    assert heard.heard_all_of(model.last_run)


def test_a_pause_comes_after_a_report_of_all_steps(model):
    seen = []

    class Looks(Heard):
        kind = "display"

        def on_pause(self, run):
            seen.append((run.step, steps_of(run.state.svi), self.heard_all_of(run)))
            run.control.resume()

    fit(model, batches(50, lambda: model.last_run.control.pause()), [Looks()])
    [(step, done, heard_all)] = seen
    assert 50 - 3 * CHUNK <= step == done <= 50
    assert heard_all
    assert model.last_run.status == "completed"


@pytest.mark.slow
@pytest.mark.parametrize("on_nonfinite", ["stop", "skip"])
def test_a_bad_step_is_reported_after_what_was_pending(model, on_nonfinite):
    y, heard = Y.copy(), Heard()

    def spoil():
        y[:] = np.nan

    options = {"on_nonfinite": on_nonfinite, "allow_nonfinite": True}
    if on_nonfinite == "stop":
        with pytest.warns(match="at step 51"):
            fit(model, batches(50, spoil, y), [heard], **options)
        assert model.last_run.step == steps_of(model._vi_state) == 50
    else:
        with pytest.warns(match="70 of 120 steps were skipped, the last 70 in a row"):
            fit(model, batches(50, spoil, y), [heard], **options)
        assert (model.last_run.step, model.last_run.skipped) == (120, 70)
        assert steps_of(model._vi_state) == 50
    assert heard.heard_all_of(model.last_run)
