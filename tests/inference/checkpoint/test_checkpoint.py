"""A run that goes on from a checkpoint is the run that was never stopped, bit for bit."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal
from numpyro.optim import optax_to_numpyro
from numpyro.primitives import mutable

from aimz_lab import ArrayDataset, ArrayLoader, Callback, ImpactModel
from aimz_lab.errors import CheckpointError, FitWarning
from aimz_lab.inference.checkpoint import checkpoint as checkpoints
from aimz_lab.inference.checkpoint.checkpoint import load_checkpoint, next_path, save_checkpoint
from aimz_lab.lab.callbacks import GradientNorm
from tests.kernels import regression, regression_data, regression_without_plate
from tests.runs import refit, regression_model, same_bits

pytestmark = pytest.mark.allow_rank_promotion

X, Y = regression_data(n=103)
X_NEW, Y_NEW = regression_data(n=30, seed=1)


class SaveEachChunk(Callback):
    """Writes a checkpoint after each chunk and keeps them all."""

    kind = "checkpoint"
    every_epoch = False

    def __init__(self, folder):
        self.folder = folder

    def on_steps_end(self, run, steps):
        save_checkpoint(next_path(self.folder, run.step), run)

    def files(self):
        return sorted(self.folder.iterdir())


@pytest.fixture(scope="module")
def model():
    return regression_model()


def batches(epoch):
    """A stream of 103 rows in batches of 20, in another order each epoch."""
    order = np.random.default_rng(epoch).permutation(103)
    for start in range(0, 103, 20):
        rows = order[start : start + 20]
        yield {"X": X[rows], "y": Y[rows]}


def loader(seed=0, **options):
    options = {"batch_size": 20, "shuffle": True, **options}
    return ArrayLoader(ArrayDataset(X=X, y=Y), jax.random.key(seed), **options)


WAYS = {
    "arrays": lambda im, **o: refit(
        im, X, Y, validation=(X_NEW, Y_NEW), validation_every=2, epochs=4, **o
    ),
    "metrics": lambda im, callbacks=(), **o: refit(
        im, X, Y, callbacks=[GradientNorm(), *callbacks], **o
    ),
    "accumulate": lambda im, **o: refit(im, X, Y, accumulate=4, **o),
    "loader": lambda im, **o: refit(im, loader(), None, batch_size=None, **o),
    "on the device": lambda im, **o: refit(
        im,
        ArrayLoader(ArrayDataset(X=X, y=Y, to_jax=True), jax.random.key(3), shuffle=True),
        None,
        batch_size=None,
        **o,
    ),
    "stream": lambda im, **o: refit(im, batches, None, batch_size=None, n_obs=103, **o),
    "all rows": lambda im, **o: refit(im, X, Y, batch_size=103, epochs=19, **o),
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_every_checkpoint_leads_to_the_same_end(model, tmp_path, way):
    fit, saver = WAYS[way], SaveEachChunk(tmp_path)
    whole = fit(model, callbacks=[saver], steps_per_call=5)
    run, result, posterior = whole.last_run, whole.vi_result, whole.posterior
    end, next_losses = model._vi_state, fit(model).vi_result.losses
    files = saver.files()
    assert len(files) >= 3
    for file in [files[0], files[len(files) // 2], files[-1]]:
        resumed = fit(model, resume=file, steps_per_call=3)
        again = resumed.last_run
        assert again.resumed_at == load_checkpoint(file).step > 0
        assert again.status == "completed"
        assert same_bits(resumed.vi_result.losses, result.losses)
        assert same_bits(resumed.vi_result.params, result.params)
        assert same_bits(model._vi_state, end)
        assert same_bits(resumed.posterior, posterior)
        assert again.validation == run.validation
        assert again.metrics == run.metrics
        done = again.resumed_at
        assert same_bits(again.column("seconds")[:done], run.column("seconds")[:done])
        for name in {*run.columns, *run.metrics} - {"seconds"}:
            assert same_bits(again.column(name), run.column(name)), name
        # Epochs have been trained since, which have orders of their own: the checkpoint's count
        # is the one that the next fit goes on from.
        assert same_bits(fit(model).vi_result.losses, next_losses)


@pytest.mark.slow
def test_all_rows_at_once_go_on_too_and_can_be_asked_for_more_steps(model, tmp_path):
    def fit(num_steps, **options):
        model._vi_state = None
        options = {"num_samples": 5, "progress": False, "rng_key": jax.random.key(1), **options}
        return model.fit_on_batch(X, Y, num_steps=num_steps, **options)

    whole = fit(60).vi_result.losses
    saver = SaveEachChunk(tmp_path)
    fit(40, callbacks=[saver], steps_per_call=16)
    for file in saver.files():
        assert same_bits(fit(60, resume=file).vi_result.losses, whole)


@pytest.mark.slow
def test_a_long_run_goes_on_too_from_a_checkpoint_of_bounded_size(model, tmp_path):
    class Saver(SaveEachChunk):
        def on_steps_end(self, run, steps):
            before = run.step - len(steps)
            if before // 35_000 < run.step // 35_000:
                super().on_steps_end(run, steps)

    def fit(**options):
        return refit(model, X, Y, batch_size=103, epochs=150_000, **options)

    saver = Saver(tmp_path)
    whole = fit(callbacks=[saver, GradientNorm()])
    run, losses = whole.last_run, whole.vi_result.losses
    assert len(losses) == run.step == 150_000 > 1.9 * len(run.bucket_steps)
    newest = saver.files()[-1]
    assert load_checkpoint(newest).step >= 140_000
    again = fit(resume=newest, callbacks=[GradientNorm()])
    assert same_bits(again.vi_result.losses, losses)
    for name in {*run.columns, *run.metrics} - {"seconds"}:
        assert same_bits(again.last_run.column(name), run.column(name)), name
    assert newest.stat().st_size < 4 * 150_000 + 110 * len(run.bucket_steps)


@pytest.mark.slow
def test_a_new_model_with_another_key_goes_on_the_same(model, tmp_path):
    saver = SaveEachChunk(tmp_path)
    whole = refit(model, X, Y, callbacks=[saver], steps_per_call=5)
    svi = SVI(regression, AutoNormal(regression), model.inference.optim, Trace_ELBO())
    other = ImpactModel(regression, jax.random.key(77), svi=svi)
    other.fit(
        X, Y, batch_size=20, epochs=3, num_samples=10, progress=False, resume=saver.files()[1]
    )
    assert same_bits(other.vi_result.losses, whole.vi_result.losses)
    assert same_bits(other.posterior, whole.posterior)


def test_a_finished_run_can_be_asked_for_more_epochs(model, tmp_path):
    saver = SaveEachChunk(tmp_path)
    refit(model, X, Y, epochs=2, callbacks=[saver])
    more = refit(model, X, Y, epochs=4, resume=tmp_path).vi_result.losses
    assert same_bits(more, refit(model, X, Y, epochs=4).vi_result.losses)


def test_a_finished_run_with_nothing_left_to_do_is_the_run(model, tmp_path):
    whole = refit(model, X, Y, callbacks=[SaveEachChunk(tmp_path)])
    losses, posterior = whole.vi_result.losses.copy(), whole.posterior
    again = refit(model, X, Y, resume=tmp_path)
    assert same_bits(again.vi_result.losses, losses)
    assert same_bits(again.posterior, posterior)


@pytest.mark.slow
def test_a_run_in_the_background_resumes_one_that_was_not(tmp_path):
    def treated(X, treat, y=None):  # its rows are read as X, y, treat: not in alphabetical order
        effect = numpyro.sample("effect", dist.Normal(0.0, 1.0))
        with numpyro.plate("row", X.shape[0]):
            numpyro.sample("y", dist.Normal(X[:, 0] + effect * treat, 1.0), obs=y)

    im = regression_model(kernel=treated)
    refit(im, X, Y, treat=Y > 0, epochs=1, callbacks=[SaveEachChunk(tmp_path)])
    more = {"batch_size": 20, "epochs": 2, "num_samples": 10, "progress": False}
    im.fit(X, Y, treat=Y > 0, resume=tmp_path, blocking=False, **more).result()
    assert im.last_run.resumed_at == 6
    assert "of X, y and treat," in repr(im)


def test_a_finished_stream_is_not_read_beyond_its_end(model, tmp_path):
    way = WAYS["stream"]
    losses = way(model, callbacks=[SaveEachChunk(tmp_path)]).vi_result.losses.copy()
    assert same_bits(way(model, resume=tmp_path).vi_result.losses, losses)


def test_a_learning_rate_that_was_just_asked_for_is_not_lost(model, tmp_path):
    class Halve(Callback):
        every_epoch = False

        def on_steps_end(self, run, steps):
            if run.step == 6:
                run.control.set_learning_rate(0.02)

    saver = SaveEachChunk(tmp_path)
    whole = refit(model, X, Y, callbacks=[Halve(), saver], steps_per_call=3)
    losses = whole.vi_result.losses.copy()
    file = next(file for file in saver.files() if file.name.endswith("step-6.npz"))
    resumed = refit(model, X, Y, resume=file, steps_per_call=3)
    assert same_bits(resumed.vi_result.losses, losses)
    assert resumed.last_run.learning_rate == pytest.approx(0.02)


@pytest.fixture
def saved(model, tmp_path):
    folder = tmp_path / "saved"
    folder.mkdir()
    refit(model, X, Y, callbacks=[SaveEachChunk(folder)], steps_per_call=9)
    return folder


CHANGES = {
    "batch_size is 20 there and 21 here": {"batch_size": 21},
    "accumulate is 1 there and 2 here": {"accumulate": 2},
    "scale is auto there and none here": {"scale": "none"},
    "order of the rows is shuffled": {"shuffle": False},
    "n_obs is 103 there and 500 here": {"n_obs": 500},
}


@pytest.mark.parametrize("difference", CHANGES)
def test_other_settings_are_named(model, saved, difference):
    refit(model, X, Y)
    state, posterior, key = model._vi_state, model.posterior, model.rng_key
    with pytest.raises(CheckpointError, match=difference):
        model.fit(X, Y, **{"batch_size": 20, **CHANGES[difference]}, progress=False, resume=saved)
    assert model._vi_state is state
    assert same_bits([model.posterior, model.rng_key], [posterior, key])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "difference"),
    [
        ((X, Y + 1), "checksum of the rows"),
        ((X[:, :2], Y), r"field X is float32\[3\] a row there and float32\[2\] a row here"),
        ((X[:100], Y[:100]), "n_obs is 103 there and 100 here"),
    ],
)
def test_other_data_is_named(saved, rows, difference):
    im = regression_model()
    with pytest.raises(CheckpointError, match=difference):
        im.fit(*rows, batch_size=20, progress=False, resume=saved)
    assert im._vi_state is None
    assert not im.is_fitted()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (lambda: regression_model(kernel=regression_without_plate), "kernel is regression there"),
        (
            lambda: regression_model(numpyro.optim.SGD(0.1)),
            r"optimizer is settable_rate, Adam \(aimz_lab\) there and SGD \(numpyro.optim\) here",
        ),
    ],
)
def test_another_model_is_named(saved, other, difference):
    im = other()
    with pytest.raises(CheckpointError, match=difference):
        im.fit(X, Y, batch_size=20, epochs=4, progress=False, resume=saved)
    assert im._vi_state is None


def sloped(sd, noise=dist.Normal):
    def kernel(X, y=None):
        beta = numpyro.sample("beta", dist.Normal(0, sd).expand([X.shape[1]]).to_event(1))
        with numpyro.plate("obs", X.shape[0]):
            numpyro.sample("y", noise(X @ beta, 1.0), obs=y)

    return kernel


def sloped_down():
    def kernel(X, y=None):
        beta = numpyro.sample("beta", dist.Normal(0, 1).expand([X.shape[1]]).to_event(1))
        with numpyro.plate("obs", X.shape[0]):
            numpyro.sample("y", dist.Normal(-X @ beta, 1.0), obs=y)

    return kernel


@pytest.mark.slow
def test_another_code_of_the_kernel_is_named(tmp_path):
    refit(regression_model(kernel=sloped(1.0)), X, Y, callbacks=[SaveEachChunk(tmp_path)])
    for kernel, difference in [
        (sloped_down(), "another run: the source of the kernel. Build"),
        (sloped(2.0), r"sd, which the kernel reads \(1 there and 2 here\)"),
        (sloped(1.0, dist.Cauchy), r"noise, which the kernel reads \(Normal there and Cauchy here"),
    ]:
        with pytest.raises(CheckpointError, match=difference):
            refit(regression_model(kernel=kernel), X, Y, resume=tmp_path)
    assert refit(regression_model(kernel=sloped(1.0)), X, Y, resume=tmp_path).is_fitted()


@pytest.mark.slow
def test_another_learning_rate_is_told_and_allowed(tmp_path):
    one, other = (regression_model(numpyro.optim.Adam(rate)) for rate in (0.05, 0.01))
    refit(one, X, Y, callbacks=[SaveEachChunk(tmp_path)], epochs=2)
    with pytest.warns(FitWarning, match=r"step_size, .*\(0.05 there and 0.01 here"):
        refit(other, X, Y, resume=tmp_path, epochs=3)
    assert other.last_run.learning_rate == pytest.approx(0.01)


def test_another_key_of_a_loader_is_named(model, tmp_path):
    refit(model, loader(0), None, batch_size=None, callbacks=[SaveEachChunk(tmp_path)])
    with pytest.raises(CheckpointError, match="order of the rows"):
        refit(model, loader(1), None, batch_size=None, resume=tmp_path)


def test_a_change_of_versions_is_told_and_allowed(model, saved, monkeypatch):
    monkeypatch.setattr(checkpoints, "versions", lambda: {"jax": "0.0"})
    with pytest.warns(FitWarning, match=r"jax is .* there and 0\.0 here"):
        refit(model, X, Y, resume=saved)


def test_a_checkpoint_of_another_format_is_refused(model, saved, monkeypatch):
    monkeypatch.setattr(checkpoints, "_FORMAT", 7)
    with pytest.raises(CheckpointError, match="format 6, and format 7 is understood"):
        load_checkpoint(saved)


def test_the_newest_whole_checkpoint_is_taken(saved, tmp_path):
    files = sorted(saved.iterdir())
    for file in files:
        content = file.read_bytes()
        whole = file is files[0]
        (tmp_path / file.name).write_bytes(content if whole else content[: len(content) // 2])
    (tmp_path / "000009-step-90.npz.partial").write_bytes(files[-1].read_bytes())
    (tmp_path / "best.npz").write_bytes(files[-1].read_bytes())
    assert load_checkpoint(tmp_path).path.name == files[0].name
    assert load_checkpoint(tmp_path).step == 9


@pytest.mark.parametrize("content", [None, b"", b"PK"])
def test_a_folder_without_a_whole_checkpoint_is_refused(model, tmp_path, content):
    if content is not None:
        (tmp_path / "000001-step-5.npz").write_bytes(content)
    with pytest.raises(CheckpointError, match="holds no complete checkpoint"):
        refit(model, X, Y, resume=tmp_path)


def test_a_checkpoint_that_is_not_there_is_named(model, tmp_path):
    with pytest.raises(CheckpointError, match="nowhere does not exist; resume= takes a"):
        refit(model, X, Y, resume=tmp_path / "nowhere")


@pytest.mark.slow
def test_types_that_numpy_lacks_and_keys_of_other_kinds_come_back(tmp_path):
    """The optimizer keeps its moments in bfloat16, the run its key in another generator."""
    optimizer = optax_to_numpyro(optax.adam(0.05, mu_dtype=jnp.bfloat16))
    im = regression_model(optimizer)

    def fit(**options):
        im._vi_state = None
        key = jax.random.key(5, impl="rbg")
        return im.fit(
            X, Y, batch_size=20, epochs=3, num_samples=5, rng_key=key, progress=False, **options
        )

    saver = SaveEachChunk(tmp_path)
    losses = fit(callbacks=[saver], steps_per_call=5).vi_result.losses.copy()
    assert any(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(im._vi_state.optim_state))
    assert same_bits(fit(resume=saver.files()[1]).vi_result.losses, losses)


def test_a_run_that_nobody_trains_cannot_be_saved(tmp_path):
    from tests.runs import told_run

    with pytest.raises(CheckpointError, match="fit_on_batch"):
        save_checkpoint(tmp_path / "a.npz", told_run())


def test_resuming_says_nothing_without_a_reason(model, saved):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refit(model, X, Y, resume=saved)


@pytest.mark.slow
def test_a_source_that_is_not_at_hand_is_told_at_the_checkpoint_and_the_resume(tmp_path):
    space = {"numpyro": numpyro, "dist": dist}
    exec(
        "def kernel(X, y=None):\n"
        "    b = numpyro.sample('b', dist.Normal(0, 1))\n"
        "    with numpyro.plate('obs', X.shape[0]):\n"
        "        numpyro.sample('y', dist.Normal(X[:, 0] * b, 1.0), obs=y)\n",
        space,
    )
    with pytest.warns(FitWarning, match=r"source of the kernel is not at hand, so fit\(resume=\)"):
        refit(regression_model(kernel=space["kernel"]), X, Y, callbacks=[SaveEachChunk(tmp_path)])
    with pytest.warns(FitWarning, match="source of the kernel was not compared with that of"):
        refit(regression_model(kernel=space["kernel"]), X, Y, resume=tmp_path)


def counting(X, y=None):
    """A regression with a mutable site that the optimizer knows nothing of."""
    seen = mutable("seen", {"batches": jnp.zeros(())})
    beta = numpyro.sample("beta", dist.Normal(0, 1).expand([X.shape[1]]).to_event(1))
    if y is not None:
        seen["batches"] = seen["batches"] + 1.0
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ beta, 1.0 + 1 / (1 + seen["batches"])), obs=y)


@pytest.mark.slow
def test_mutable_sites_come_back(tmp_path):
    im, saver = regression_model(kernel=counting), SaveEachChunk(tmp_path)
    losses = refit(im, X, Y, callbacks=[saver], steps_per_call=5).vi_result.losses.copy()
    state = im._vi_state
    assert float(state.mutable_state["seen"]["batches"]) == 19  # once to set up
    assert same_bits(refit(im, X, Y, resume=saver.files()[1]).vi_result.losses, losses)
    assert same_bits(im._vi_state, state)
