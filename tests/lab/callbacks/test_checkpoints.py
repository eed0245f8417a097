"""Checkpoints while a run goes on: when they are written, which are kept, what comes back."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from aimz_lab import Callback
from aimz_lab.errors import ArgumentError
from aimz_lab.inference.checkpoint.checkpoint import load_checkpoint, numbered
from aimz_lab.lab.callbacks import EarlyStopping, ModelCheckpoint, checkpoints
from aimz_lab.lab.dashboard.dashboard import LiveDashboard
from aimz_lab.lab.dashboard.views import RecordingDisplay
from tests.kernels import regression_data
from tests.runs import refit, regression_model, same_bits

pytestmark = pytest.mark.allow_rank_promotion

X, Y = regression_data(n=103)
X_NEW, Y_NEW = regression_data(n=30, seed=1)


@pytest.fixture(scope="module")
def model():
    return regression_model()


def steps(folder):
    return [int(path.stem.split("-")[-1]) for _, path in sorted(numbered(folder))]


class Ask(Callback):
    """Asks for a checkpoint at a step."""

    every_epoch = False

    def __init__(self, step):
        self.step = step

    def on_steps_end(self, run, steps):
        if run.step == self.step:
            run.control.checkpoint()


def test_the_newest_are_kept(model, tmp_path):
    refit(model, X, Y, callbacks=[ModelCheckpoint(tmp_path, every_s=0.0)], steps_per_call=5)
    assert steps(tmp_path) == [10, 15, 18]
    refit(model, X, Y, callbacks=[ModelCheckpoint(tmp_path, every_s=0.0, keep=1)])
    assert steps(tmp_path) == [18]


def test_they_are_written_at_the_end_of_every_so_many_epochs(model, tmp_path):
    saver = ModelCheckpoint(tmp_path, every_epochs=2, keep=9)
    run = refit(model, X, Y, epochs=5, callbacks=[saver]).last_run
    assert steps(tmp_path) == [12, 24, 30]
    assert [step for step, _ in run.checkpoints] == [12, 24, 30]
    assert load_checkpoint(run.checkpoints[0][1]).position == (2, 0)


def test_they_are_written_when_asked_for_and_at_the_end(model, tmp_path):
    saver = ModelCheckpoint(tmp_path, every_s=1e9)
    run = refit(model, X, Y, callbacks=[Ask(6), saver], steps_per_call=3).last_run
    assert run.control.can_checkpoint
    assert steps(tmp_path) == [6, 18]


def test_what_is_shown_at_the_end_names_the_newest_of_them(model, tmp_path):
    screen = RecordingDisplay()
    callbacks = [ModelCheckpoint(tmp_path), Ask(5), LiveDashboard(view=screen)]
    refit(model, X, Y, callbacks=callbacks, steps_per_call=5)
    assert screen.final["progress"]["checkpoint"]["step"] == 18


def test_a_run_that_is_stopped_is_kept_where_it_stopped(model, tmp_path):
    class Stop(Callback):
        every_epoch = False

        def on_steps_end(self, run, steps):
            if run.step >= 6:
                run.control.stop("enough")

    whole = refit(model, X, Y).vi_result.losses.copy()
    refit(model, X, Y, callbacks=[Stop(), ModelCheckpoint(tmp_path)], steps_per_call=3)
    assert model.last_run.status == "stopped"
    assert steps(tmp_path) == [6]
    assert same_bits(refit(model, X, Y, resume=tmp_path).vi_result.losses, whole)


def test_a_new_run_in_the_same_folder_is_the_one_to_go_on_with(model, tmp_path):
    """An older run had come further; the newest checkpoint is still that of the new run."""
    refit(model, X, Y, epochs=9, callbacks=[ModelCheckpoint(tmp_path)])
    (tmp_path / "000001-step-54.npz.partial").write_bytes(b"half")
    refit(model, X, Y, epochs=2, callbacks=[ModelCheckpoint(tmp_path)])
    assert load_checkpoint(tmp_path).step == 12
    assert not list(tmp_path.glob("*.partial"))


class SetRates(Callback):
    """Sets learning rates after some steps."""

    every_epoch = False

    def __init__(self, rates):
        self.rates = rates

    def on_steps_end(self, run, steps):
        if (rate := self.rates.get(run.step)) is not None:
            run.control.set_learning_rate(rate)


@pytest.mark.filterwarnings("ignore:The fit ended early")
@pytest.mark.parametrize("every_s", [0.0, 1e9])
def test_a_wreck_is_not_written_and_pushes_no_good_one_out(model, tmp_path, every_s):
    refit(model, X, Y, callbacks=[ModelCheckpoint(tmp_path)])
    saver = ModelCheckpoint(tmp_path, every_s=every_s, keep=1)
    run = refit(model, X, Y, steps_per_call=1, callbacks=[SetRates({1: 1e10}), saver]).last_run
    assert (run.status, run.is_wrecked) == ("diverged", True)
    assert steps(tmp_path) == [18]
    assert run.checkpoints == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The fit ended early")
@pytest.mark.parametrize("rate", [1000.0, 1e6, 1e38])
def test_a_diverged_run_goes_on_from_the_state_that_its_model_went_back_to(model, tmp_path, rate):
    saver = ModelCheckpoint(tmp_path, best="loss", every_s=0.0, keep=2)
    options = {"steps_per_call": 10, "epochs": 100}
    run = refit(model, X, Y, callbacks=[SetRates({300: rate}), saver], **options).last_run
    assert run.status == "diverged"
    state = model._vi_state
    newest = load_checkpoint(tmp_path)
    assert str(newest.path) == run.checkpoints[-1][1]
    assert newest.step == run.step
    assert newest.content.state_of_step == run.restored.step <= 300
    assert newest.content.candidates == {}
    assert not list(tmp_path.glob("candidate-*"))
    again = regression_model()
    begun = []

    class Look(Callback):
        def on_fit_begin(self, run):
            begun.append((run.state.svi, run.learning_rate))

    resumed = refit(again, X, Y, resume=tmp_path, callbacks=[Look()], **options).last_run
    ((first, began_at),) = begun
    assert same_bits(again.inference.get_params(first), again.inference.get_params(state))
    assert began_at == pytest.approx(0.05)
    assert (resumed.status, resumed.step) == ("completed", 600)
    assert resumed.losses[-60:].mean() == pytest.approx(run.losses[240:300].mean(), rel=0.1)
    what = f"Goes on from step {run.step} ({newest.path.name}) at the learning rate 0.05."
    of = f"It had diverged there: the state is that of step {run.restored.step}."
    assert resumed.notes == [f"{what} {of}" if run.restored.step < run.step else what]


@pytest.mark.parametrize("best", ["loss", "validation"])
def test_the_best_state_is_written_and_survives_in_those_after_it(model, tmp_path, best):
    saver = ModelCheckpoint(tmp_path, best=best, every_s=0.0, window=18)
    options = {"validation": (X_NEW, Y_NEW), "epochs": 12, "steps_per_call": 6}
    run = refit(model, X, Y, callbacks=[saver], **options).last_run
    per_row = run.losses.astype(np.float64).reshape(-1, 18).mean(axis=1) / 103
    by_loss = list(per_row[:-1])  # no steps follow the last state
    values = [loss for _, loss in run.validation] if best == "validation" else by_loss
    (name,) = run.best
    assert run.best[name].value == pytest.approx(min(values), rel=1e-12)
    window = 6 if best == "validation" else 18
    assert run.best[name].step == window * (1 + int(np.argmin(values)))
    written = load_checkpoint(tmp_path / "best.npz")
    assert written.step == run.best[name].step
    expected = run.best[name].state
    model._vi_state = None
    resumed = refit(model, X, Y, resume=tmp_path, **options).last_run
    assert resumed.best[name].value == run.best[name].value
    assert resumed.candidates.keys() == run.candidates.keys()
    assert same_bits(resumed.best[name].state, expected)


def test_a_state_that_is_not_judged_yet_is_no_best_file(model, tmp_path):
    """It has a file of its own, which a run that goes on finds; older ones are removed."""
    (tmp_path / "candidate-7.npz").write_bytes(b"of another run")
    options = {"steps_per_call": 6, "callbacks": [ModelCheckpoint(tmp_path, best="loss")]}
    run = refit(model, X, Y, epochs=12, **options).last_run  # 72 steps; a window has 66
    candidate = run.candidates["loss over 66 steps"]
    assert [path.name for path in tmp_path.glob("[bc]*.npz")] == ["candidate-66.npz"]
    assert load_checkpoint(tmp_path / "candidate-66.npz").step == candidate.step == 66
    resumed = refit(model, X, Y, epochs=24, resume=tmp_path, **options).last_run
    best = resumed.best["loss over 66 steps"]
    assert best.step == load_checkpoint(tmp_path / "best.npz").step == 66
    assert same_bits(best.state, candidate.state)
    assert [path.name for path in tmp_path.glob("candidate*")] == ["candidate-132.npz"]
    assert (66, str(tmp_path / "best.npz")) in resumed.checkpoints


@pytest.mark.parametrize("validation", [None, (X_NEW, Y_NEW)])
def test_a_run_that_goes_on_has_the_best_state_of_before(model, tmp_path, validation):
    """As in an unbroken run, although the loss only rises after the checkpoint.

    By the training loss, the state is not judged yet in the checkpoint of step 96.
    """

    class Worsen(Callback):
        every_epoch = False

        def on_steps_end(self, run, steps):
            if run.step == 114:
                run.control.set_learning_rate(10.0)

    options = {"validation": validation, "steps_per_call": 6, "callbacks": [Worsen()]}
    whole = refit(model, X, Y, epochs=24, **options).last_run
    best = whole.best_so_far
    assert best.step == 90 if validation is None else 60 < best.step < 120
    saving = {**options, "callbacks": [Worsen(), ModelCheckpoint(tmp_path, every_epochs=16)]}
    refit(model, X, Y, epochs=16, **saving)
    candidates = load_checkpoint(tmp_path).content.candidates
    assert [step for _, step in candidates.values()] == ([90] if validation is None else [])
    resumed = refit(model, X, Y, epochs=24, resume=tmp_path, **options).last_run
    found = resumed.best_so_far
    assert (found.value, found.step, found.monitor) == (best.value, best.step, best.monitor)
    assert same_bits(found.state.svi, best.state.svi)
    assert same_bits(resumed.losses, whole.losses)


def test_a_best_state_by_another_loss_is_not_kept_and_the_run_says_so(model, tmp_path):
    refit(model, X, Y, epochs=16, steps_per_call=6, callbacks=[ModelCheckpoint(tmp_path)])
    assert model.last_run.own_best.monitor == "loss"
    run = refit(model, X, Y, epochs=17, resume=tmp_path, validation=(X_NEW, Y_NEW)).last_run
    assert run.best_so_far.is_held_out
    assert "judged by the training loss and is not kept" in run.notes[0]


def test_a_run_that_goes_on_can_still_end_with_the_best_state_of_before(model, tmp_path):
    """The held-out loss rises after the checkpoint, so that the best state lies before it."""

    class Worsen(Callback):
        every_epoch = False

        def on_validation_end(self, run, loss):
            run.control.set_learning_rate(5.0)

    def fit(callbacks, **options):
        stopping = EarlyStopping("validation", patience=99, restore_best=True)
        return refit(
            model, X, Y, validation=(X_NEW, Y_NEW), callbacks=[stopping, *callbacks], **options
        )

    saver = ModelCheckpoint(tmp_path)
    fit([Worsen(), saver], epochs=2)
    first = model.last_run
    assert first.best["validation"].step == 6
    resumed = fit([Worsen()], epochs=4, resume=tmp_path)
    assert resumed.last_run.best["validation"].step == 6
    assert same_bits(model._vi_state, first.best["validation"].state.svi)


def test_a_checkpoint_that_cannot_be_written_ends_the_run_and_keeps_the_model(
    model, tmp_path, monkeypatch
):
    written = []

    def fail(path, run):
        written.append(path)
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoints, "save_checkpoint", fail)
    with pytest.raises(OSError, match="no space left"):
        refit(model, X, Y, callbacks=[ModelCheckpoint(tmp_path, every_s=0.0)], steps_per_call=3)
    assert len(written) == 1  # and not once more at the end
    assert (model.last_run.status, model.last_run.step) == ("failed", 3)
    assert len(model.vi_result.losses) == 3
    assert jax.tree.all(jax.tree.map(lambda a: np.isfinite(a).all(), model.posterior))


@pytest.mark.parametrize(
    "options", [{"every_s": -1.0}, {"keep": 0}, {"every_epochs": 0}, {"best": "val"}]
)
def test_values_that_make_no_sense_are_refused(tmp_path, options):
    with pytest.raises(ArgumentError, match=next(iter(options))):
        ModelCheckpoint(tmp_path, **options)


def test_the_best_held_out_state_needs_held_out_data(model, tmp_path):
    with pytest.raises(ArgumentError, match='^best="validation" needs.*: best="loss"'):
        refit(model, X, Y, callbacks=[ModelCheckpoint(tmp_path, best="validation")])
