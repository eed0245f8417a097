"""A refused call changes nothing: not the model, not its keys, no file."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from aimz_lab import ArrayDataset, ArrayLoader, Callback
from aimz_lab.errors import AimzLabError
from aimz_lab.lab.callbacks import CSVLogger, EarlyStopping, ModelCheckpoint
from tests.kernels import regression, regression_data
from tests.runs import mean_field_model, same_bits

pytestmark = pytest.mark.allow_rank_promotion

X, Y = regression_data(60, 3)
HOLE = np.where(np.arange(60)[:, None] == 4, np.nan, X)
SMALL = {"batch_size": 20, "num_samples": 5, "progress": False}


@pytest.fixture(scope="module")
def im():
    with jax.numpy_rank_promotion("allow"):
        model = mean_field_model(regression)
        model.train_on_batch(X, Y, n_obs=60)
        return model.fit(X, Y, **SMALL)


def known(im):
    """All that a call could change, by identity where nothing may be replaced."""
    kept = [im.kernel_spec, im.input_schema, im._vi_state, im.vi_result, im.last_run]
    kept += list(im.posterior.values()) if im.posterior else []
    plain = [jax.random.key_data(im.rng_key).tolist(), im.n_obs, repr(im)]
    return [id(each) for each in kept], plain


class Fails(Callback):
    """A callback that fails before the first step."""

    def __init__(self, event):
        self._event = event

    def on_fit_begin(self, run):
        if self._event == "begin":
            raise OSError("no room")

    def on_epoch_begin(self, run, epoch):
        raise OSError("no room")


def fits(im, folder):
    """Fits that are refused before their first step, by what is wrong with them."""
    file = folder / "file"
    unwritable = folder / "none" / "run.csv"

    def fit(*args, **options):
        return lambda: im.fit(*(args or (X, Y)), **{**SMALL, **options})

    return {
        "no output": fit(X),
        "hole": fit(HOLE, Y),
        "rows": fit(X, Y[:7]),
        "batch size": fit(batch_size=0),
        "epochs": fit(epochs=-1),
        "draws": fit(num_samples=0),
        "scale": fit(scale="half"),
        "rows=": fit(rows="maybe"),
        "unknown argument": fit(treatment=X[:, 0]),
        "another width": fit(X[:, :2], Y),
        "no checkpoint": fit(resume=folder),
        "validation": fit(validation=(X[:, :2], Y)),
        "unwritable file": fit(callbacks=[CSVLogger(unwritable)]),
        "in the background": fit(callbacks=[CSVLogger(unwritable)], blocking=False),
        "a file for a folder": fit(callbacks=[ModelCheckpoint(file / "checkpoints")]),
        "no validation": fit(callbacks=[EarlyStopping(monitor="validation")]),
        "callback at the beginning": fit(callbacks=[Fails("begin")]),
        "callback before the first step": fit(callbacks=[Fails("epoch")]),
        "no key": fit(rng_key=7),
        "on batch: hole": lambda: im.fit_on_batch(HOLE, Y, progress=False),
        "on batch: steps": lambda: im.fit_on_batch(X, Y, num_steps=0, progress=False),
        "loader without output": fit(ArrayLoader(ArrayDataset(X=X), jax.random.key(0)), None),
    }


def others(im, folder):
    """Other calls that are refused, by what is wrong with them."""
    tree = im.predict_on_batch(X, rng_key=jax.random.key(0))

    def effect(**options):
        return lambda: im.estimate_effect(**options)

    good, bad = {"X": X}, {"X": X, "treatment": 1.0}
    return {
        "step: padding": lambda: im.train_on_batch(X, Y, n_obs=70, n_pad=60),
        "step: hole": lambda: im.train_on_batch(HOLE, Y, n_obs=70),
        "step: loss": lambda: im.train_on_batch(HOLE, Y, n_obs=70, allow_nonfinite=True),
        "step: n_obs": lambda: im.train_on_batch(X, Y, n_obs=0),
        "step: argument": lambda: im.train_on_batch(X, Y, n_obs=70, treatment=1.0),
        "step: rows": lambda: im.train_on_batch(X, Y[:3], n_obs=70),
        "step: key": lambda: im.train_on_batch(X, Y, n_obs=70, rng_key=3),
        "sample: site": lambda: im.sample(return_sites="nowhere"),
        "sample: draws": lambda: im.sample(num_samples=-1),
        "sample: key": lambda: im.sample(rng_key=7),
        "posterior: NaN": lambda: im.set_posterior_sample({"beta": np.full((4, 3), np.nan)}),
        "posterior: shape": lambda: im.set_posterior_sample({"beta": np.ones(4)}),
        "posterior: empty": lambda: im.set_posterior_sample({}),
        "posterior: name": lambda: im.set_posterior_sample({"bta": np.ones((4, 3))}),
        "posterior: chains": lambda: im.set_posterior_sample(
            {"beta": np.ones((4, 3))}, num_chains=3
        ),
        "predict: hole": lambda: im.predict(HOLE, progress=False),
        "predict: site": lambda: im.predict(X, return_sites="nowhere", progress=False),
        "predict: width": lambda: im.predict(X[:, :2], progress=False),
        "predict: store": lambda: im.predict(X, store="cloud", progress=False),
        "predict: reducer": lambda: im.predict(X, reduce="median of means", progress=False),
        "predict: argument": lambda: im.predict(X, treatment=1.0, progress=False),
        "predict: intervention": lambda: im.predict(X, intervention={"z": 1.0}, progress=False),
        "predict: folder": lambda: im.predict(X, output_dir=folder / "file" / "x", progress=False),
        "batch: hole": lambda: im.predict_on_batch(HOLE),
        "batch: key": lambda: im.predict_on_batch(X, rng_key="key"),
        "prior: draws": lambda: im.sample_prior_predictive(X, num_samples=0, progress=False),
        "prior batch: hole": lambda: im.sample_prior_predictive_on_batch(HOLE),
        "likelihood: no output": lambda: im.log_likelihood(X, progress=False),
        "likelihood: hole": lambda: im.log_likelihood(HOLE, Y, progress=False),
        "effect: nothing": effect(),
        "effect: one": effect(args_baseline=good),
        "effect: second": effect(args_baseline=good, args_intervention=bad),
        "effect: second on batch": effect(args_baseline=good, args_intervention=bad, on_batch=True),
        "effect: rows": effect(args_baseline=good, args_intervention={"X": X[:9]}),
        "effect: rows of a tree": effect(output_baseline=tree, args_intervention={"X": X[:9]}),
        "effect: reduce": effect(output_baseline=tree, output_intervention=tree, reduce="mean"),
        "n_obs": lambda: setattr(im, "n_obs", 0),
        "vi_result": lambda: setattr(im, "vi_result", 3),
        "save": lambda: im.save(folder / "file"),
    }


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*width of that range")
@pytest.mark.parametrize("calls", [fits, others])
def test_a_refused_call_changes_nothing(im, calls, tmp_path):
    (tmp_path / "file").write_text("mine")
    for what, call in calls(im, tmp_path).items():
        before, sampled = known(im), im.sample(num_samples=3, rng_key=jax.random.key(1))
        with pytest.raises((AimzLabError, OSError, TypeError)):
            pytest.fail(f"{what} went through: {call()}")
        assert known(im) == before, what
        again = im.sample(num_samples=3, rng_key=jax.random.key(1))
        assert again.equals(sampled), what
        assert [path.name for path in tmp_path.iterdir()] == ["file"], what
    state, _ = im.train_on_batch(X, Y, n_obs=60)  # and all goes on
    assert np.isfinite(jax.tree.leaves(state.optim_state)[-1]).all()
    im.set_posterior_sample(im.sample(num_samples=5, return_datatree=False))


@pytest.mark.slow
def test_after_refusals_the_next_calls_are_those_of_a_model_that_saw_none(im, tmp_path):
    one, other = (mean_field_model(regression) for _ in range(2))
    (tmp_path / "file").write_text("mine")
    calls = fits(one, tmp_path)
    del calls["another width"]  # which the first training may have
    for call in calls.values():
        with pytest.raises((AimzLabError, OSError, TypeError)):
            call()
    for model in (one, other):
        model.fit(X, Y, **SMALL)
    assert same_bits(one._vi_state, other._vi_state)
    assert same_bits(one.posterior, other.posterior)
    assert same_bits(one.rng_key, other.rng_key)


def test_a_callback_that_saw_no_beginning_sees_no_end(im, tmp_path):
    """Else a checkpoint of the run before would be written into the folder of the next."""
    checkpoints = ModelCheckpoint(tmp_path / "runs")
    im.fit(X, Y, callbacks=[checkpoints], **SMALL)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()}
    with pytest.raises(OSError, match="none"):
        im.fit(X, Y, callbacks=[CSVLogger(tmp_path / "none" / "run.csv"), checkpoints], **SMALL)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()} == before


def test_a_refused_fit_leaves_files_as_they_were(im, tmp_path):
    old, new = tmp_path / "old.csv", tmp_path / "new.csv"
    im.fit(X, Y, callbacks=[CSVLogger(old)], **SMALL)
    before = old.read_text()
    loggers = [CSVLogger(old), CSVLogger(new), CSVLogger(tmp_path / "none" / "run.csv")]
    with pytest.raises(OSError, match="none"):
        im.fit(X, Y, callbacks=loggers, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["old.csv"]
    assert old.read_text() == before
    im.fit(X, Y, callbacks=loggers[:2], **{**SMALL, "epochs": 2})
    assert len(old.read_text().splitlines()) == len(new.read_text().splitlines()) == 1 + 6
    im.fit(X, Y, callbacks=[CSVLogger(old, append=True)], **SMALL)
    assert len(old.read_text().splitlines()) == 1 + 6 + 3
