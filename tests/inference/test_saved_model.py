"""A model that was saved and loaded, or pickled, is the model that it was."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from jax.example_libraries import stax
from numpyro.infer import HMC, MCMC, SVI, Trace_ELBO
from numpyro.infer.autoguide import (
    AutoDelta,
    AutoIAFNormal,
    AutoLaplaceApproximation,
    AutoLowRankMultivariateNormal,
    AutoNormal,
)

from aimz_lab import ImpactModel
from aimz_lab.errors import ArtifactError, ArtifactGoneError, CallError, FitWarning
from aimz_lab.inference.artifact import read_artifact, write_artifact

pytestmark = pytest.mark.allow_rank_promotion  # NumPyro's guides draw with a sample shape

X = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
Y = X.sum(1)
KEY = jax.random.key(9)
WHOLE = {"prior": {"loc": np.zeros(2, np.float32)}, "link": jnp.tanh, "power": 2}


def kernel(X, prior, link, power, y=None):
    """With a parameter of its own, a tree of arrays, a function, and a number."""
    beta = numpyro.sample("beta", dist.Normal(prior["loc"], 1.0).to_event(1))
    shift = numpyro.param("shift", jnp.zeros(()))
    mean = numpyro.deterministic("mean", X @ beta + shift + link(beta.sum()) ** power)
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(mean, 0.5), obs=y)


def inference(guide=AutoNormal, of=kernel, optimizer=None, loss=None, **options):
    optimizer = optax.adam(0.03) if optimizer is None else optimizer
    return SVI(of, guide(of, **options), optimizer, loss or Trace_ELBO())


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    im = ImpactModel(kernel, jax.random.key(0), svi=inference())
    with jax.numpy_rank_promotion("allow"):
        train(im)
    return im, im.save(tmp_path_factory.mktemp("saved") / "model")


def train(im):
    return im.fit(X, Y, epochs=2, batch_size=20, num_samples=30, progress=False, **WHOLE)


def load(path, **options):
    options = {"svi": inference(), "kernel_kwargs": {"link": jnp.tanh}} | options
    return ImpactModel.load(path, options.pop("kernel", kernel), **options)


def assert_equal_trees(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.slow
def test_it_predicts_draws_and_trains_on_to_the_bit(saved):
    im, path = saved
    other = load(path)
    assert other.n_obs == im.n_obs
    assert_equal_trees(other.posterior, im.posterior)
    assert_equal_trees(other.vi_result.params, im.vi_result.params)
    np.testing.assert_array_equal(other.vi_result.losses, im.vi_result.losses)
    for one in (im, other):
        one.before = one.rng_key
    predict = [one.predict_on_batch(X, return_datatree=False, **WHOLE) for one in (im, other)]
    assert_equal_trees(*predict)
    sample = [one.sample(num_samples=7, return_datatree=False) for one in (im, other)]
    assert_equal_trees(*sample)
    for one in (im, other):
        train(one)
    np.testing.assert_array_equal(other.vi_result.losses, im.vi_result.losses)
    assert_equal_trees(other.posterior, im.posterior)
    assert_equal_trees(other._vi_state.optim_state, im._vi_state.optim_state)


@pytest.mark.slow
def test_what_is_written_is_plain_and_holds_no_data(saved):
    _, path = saved
    assert sorted(file.name for file in path.iterdir()) == ["arrays.npz", "model.json"]
    manifest = json.loads((path / "model.json").read_text())
    assert manifest["schema"]["rows"] == {
        "X": {"shape": [2], "dtype": "float32"},
        "y": {"shape": [], "dtype": "float32"},
    }
    assert manifest["schema"]["static"]["link"] == {"type": "PjitFunction"}
    assert {"jax", "numpyro", "python"} <= set(manifest["versions"])
    with np.load(path / "arrays.npz", allow_pickle=False) as file:
        arrays = [file[name] for name in file.files if name.endswith(".npy") or "/" in name]
    assert arrays
    assert all(50 not in array.shape and 20 not in array.shape for array in arrays)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"svi": inference(AutoDelta)},
            "guide is AutoNormal there and AutoDelta here",
        ),
        ({"kernel_kwargs": {}}, "'link' was a PjitFunction, which is code"),
        (
            {"svi": inference(optimizer=numpyro.optim.SGD(0.1))},
            r"is scale_by_adam, scale \(optax .*\) there and SGD \(numpyro.optim\) here\. Load",
        ),
        (
            {"svi": inference(optimizer=optax.adabelief(0.03))},
            "optimizer is scale_by_adam, scale .* there and scale_by_belief, scale",
        ),
    ],
)
def test_other_code_is_refused_and_named(saved, change, message):
    with pytest.raises(ArtifactError, match=message):
        load(saved[1], **change)


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"optimizer": optax.adam(0.01)}, r"step_size, .*\(-0.03 there and -0.01 here\)\. Build"),
        ({"optimizer": optax.adam(0.03, b1=0.8)}, r"b1, which the training reads \(0.9 there"),
        ({"loss": Trace_ELBO(num_particles=4)}, r"loss.num_particles, .*\(1 there and 4 here\)"),
    ],
)
def test_other_settings_of_the_training_are_told(saved, change, difference):
    with pytest.warns(FitWarning, match=f"goes on with other settings than before: {difference}"):
        assert load(saved[1], svi=inference(**change)).is_fitted()


def test_the_scale_that_a_guide_began_with_may_be_another(saved):
    assert load(saved[1], svi=inference(init_scale=0.5)).is_fitted()


@pytest.mark.parametrize(
    ("guide", "one", "other", "difference"),
    [
        (AutoLowRankMultivariateNormal, {"rank": 1}, {"rank": 2}, r"rank, .*\(1 there and 2 here"),
        (AutoIAFNormal, {}, {"nonlinearity": stax.Relu}, r"fun, .*\(elu there and relu here\)"),
        (AutoNormal, {"prefix": "a"}, {"prefix": "b"}, r"prefix, .*\('a' there and 'b' here\)"),
    ],
)
def test_other_options_of_a_guide_are_refused(tmp_path, guide, one, other, difference):
    im = ImpactModel(plain, jax.random.key(0), svi=inference(guide, plain, **one))
    im.set_posterior_sample({"beta": np.ones((5, 2), np.float32)})
    path = im.save(tmp_path / "model")
    with pytest.raises(ArtifactError, match=f"what differs: {difference}"):
        load(path, kernel=plain, svi=inference(guide, plain, **other), kernel_kwargs={})


def test_a_kernel_with_other_sites_is_refused(saved):
    def changed(X, prior, link, power, y=None):
        beta = numpyro.sample("beta", dist.Normal(jnp.zeros(3), 1.0).to_event(1))
        numpyro.param("shift", jnp.zeros(()))
        numpyro.deterministic("mean", X @ beta[:2])
        with numpyro.plate("obs", X.shape[0]):
            numpyro.sample("y", dist.Normal(X @ beta[:2], 0.5), obs=y)

    with pytest.raises(ArtifactError, match=r": site beta: shape is \[2\] there and \[3\] here\."):
        load(saved[1], kernel=changed, svi=inference(of=changed))


HELPED = """
import numpyro
import numpyro.distributions as dist

SD = 0.5
COUNTED = 0


def slope(X):
    return numpyro.sample("slope", dist.Normal(0.0, 1.0)) * X[:, 0]


def kernel(X, y=None):
    global COUNTED
    COUNTED += 1
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(+slope(X), SD), obs=y)


def guide(X, y=None):
    numpyro.sample("slope", dist.Normal(0.25, 1.0))
"""


@pytest.fixture
def helped(tmp_path):
    """Import a module with the kernel from text, save a model of it, or load one."""
    modules = []

    def imported(text):
        path = tmp_path / f"kernels_{len(modules)}.py"
        path.write_text(text)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        modules.append(importlib.util.module_from_spec(spec))
        spec.loader.exec_module(modules[-1])
        return modules[-1]

    def made(of):
        return SVI(of.kernel, of.guide, optax.adam(0.03), Trace_ELBO())

    def save(text, before=lambda module: None):
        module = imported(text)
        before(module)
        im = ImpactModel(module.kernel, jax.random.key(0), svi=made(module))
        im.set_posterior_sample({"slope": np.ones(5, np.float32)})
        return im.save(tmp_path / "model")

    def load(text, before=lambda module: None):
        module = imported(text)
        before(module)
        return ImpactModel.load(tmp_path / "model", module.kernel, svi=made(module))

    return save, load


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("+slope(X)", "-slope(X)", "differs: the source of the kernel. Load it with the code"),
        ("dist.Normal(0.0, 1.0)", "dist.Normal(0.0, 5.0)", "of slope, which the kernel calls"),
        ("SD = 0.5", "SD = 2.0", r"SD, which the kernel reads \(0.5 there and 2 here\)\. Load"),
        ("dist.Normal(0.25, 1.0)", "dist.Normal(0.5, 1.0)", "source of the guide.* new model"),
    ],
)
def test_a_kernel_with_the_same_sites_and_other_code_is_refused(helped, old, new, message):
    save, load = helped
    save(HELPED)
    with pytest.raises(ArtifactError, match=message):
        load(HELPED.replace(old, new))


def test_a_kernel_that_is_only_written_otherwise_is_loaded(helped):
    save, load = helped
    save(HELPED)
    rewritten = (
        HELPED.replace("    global", '    """Document it."""\n    # and comment\n    global')
        .replace("dist.Normal(+slope(X), SD)", "dist.Normal(\n  (+slope(X)), SD\n)")
        .replace("def kernel(X, y=None):", "def kernel(X: object, y=None) -> None:")
        .replace("COUNTED = 0", "COUNTED = 7")
    )
    assert load(rewritten).describe()["num_samples"] == 5


def edit(module):
    text = Path(module.__file__).read_text()
    Path(module.__file__).write_text(text.replace("slope(X), SD", "3 * slope(X), SD"))


def test_a_kernel_whose_source_is_lost_is_loaded_and_said_not_to_be_compared(helped):
    save, load = helped
    save(HELPED)
    with pytest.warns(FitWarning, match=r"^The source of the kernel was not compared with that"):
        im = load(HELPED.replace("+slope(X)", "-slope(X)"), edit)
    assert im.describe()["num_samples"] == 5


def test_a_kernel_edited_since_its_import_is_told_at_the_save_and_the_load(helped):
    save, load = helped
    with pytest.warns(
        FitWarning, match=r"^The source of the kernel is not at hand.* undo the edit"
    ):
        save(HELPED, edit)
    with pytest.warns(FitWarning, match="make sure that it is the code that was trained"):
        load(HELPED.replace("slope(X), SD", "3 * slope(X), SD"))


@pytest.mark.slow
def test_a_model_is_loaded_in_another_process(helped, tmp_path):
    save, _ = helped
    save(HELPED)
    code = """
import sys, jax, optax
sys.path.insert(0, sys.argv[1])
from numpyro.infer import SVI, Trace_ELBO
from aimz_lab import ImpactModel
import kernels_0
svi = SVI(kernels_0.kernel, kernels_0.guide, optax.adam(0.03), Trace_ELBO())
ImpactModel.load(sys.argv[1] + "/model", kernels_0.kernel, svi=svi)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code, tmp_path], check=True, timeout=200)


def test_a_kernel_with_other_arguments_is_refused(saved):
    def changed(X, y=None):
        numpyro.sample("y", dist.Normal(X.sum(1), 1.0), obs=y)

    with pytest.raises(ArtifactError, match="arguments is .*'prior'.* there"):
        load(saved[1], kernel=changed)


def test_what_is_no_model_is_refused(saved, tmp_path):
    with pytest.raises(ArtifactGoneError, match="no stored model at"):
        load(tmp_path / "nowhere")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ArtifactError, match="no stored model"):
        saved[0].save(tmp_path)
    with pytest.raises(ArtifactError, match="no stored model"):
        saved[0].save(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
    whole = saved[0].save(tmp_path / "model")
    arrays = whole / "arrays.npz"
    arrays.write_bytes(arrays.read_bytes()[:-100])
    with pytest.raises(ArtifactError, match="incomplete or damaged"):
        load(whole)
    manifest, arrays = read_artifact(saved[1])
    write_artifact(whole, {**manifest, "format": 99}, arrays)
    with pytest.raises(ArtifactError, match="format 99"):
        load(whole)


def test_a_failed_save_leaves_the_old_model(saved, tmp_path, monkeypatch):
    im, _ = saved
    path = im.save(tmp_path / "model")
    before = {file.name: file.read_bytes() for file in path.iterdir()}

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        im.save(path)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    monkeypatch.undo()
    im.save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_chains_of_an_injected_posterior_come_back(tmp_path):
    draws = {"beta": np.arange(24, dtype=np.float32).reshape(12, 2)}
    im = ImpactModel(kernel, jax.random.key(0), svi=inference())
    im.set_posterior_sample(draws, num_chains=3)
    other = load(im.save(tmp_path / "model"))
    assert_equal_trees(other.posterior, im.posterior)
    assert other.describe()["num_chains"] == 3


def plain(X, y=None):
    beta = numpyro.sample("beta", dist.Normal(jnp.zeros(2), 1.0).to_event(1))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ beta, 0.5), obs=y)


@pytest.mark.slow
def test_mcmc(tmp_path):
    def make():
        sampler = HMC(plain, num_steps=3, trajectory_length=None)
        return MCMC(sampler, num_warmup=10, num_samples=5, progress_bar=False)

    im = ImpactModel(plain, jax.random.key(0), inference=make()).fit_on_batch(X, Y)
    other = ImpactModel.load(im.save(tmp_path / "model"), plain, make())
    assert_equal_trees(other.posterior, im.posterior)
    one, two = (m.predict_on_batch(X, rng_key=KEY, return_datatree=False) for m in (im, other))
    assert_equal_trees(one, two)


@pytest.mark.slow
def test_a_guide_that_keeps_the_data_wants_it_again(tmp_path):
    im = ImpactModel(plain, jax.random.key(0), svi=inference(AutoLaplaceApproximation, plain))
    im.fit_on_batch(X, Y, num_steps=300, num_samples=5, progress=False)
    expected = im.sample(rng_key=KEY, num_samples=400, return_datatree=False)["beta"]
    svi = inference(AutoLaplaceApproximation, plain)
    other = ImpactModel.load(im.save(tmp_path / "model"), plain, svi)
    with pytest.raises(CallError, match="which is not stored"):
        other.sample()
    found = other.sample(rng_key=KEY, num_samples=400, return_datatree=False, X=X, y=Y)["beta"]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.slow
def test_cloudpickle_in_another_process(tmp_path):
    """Code goes along; what is compiled and the data do not."""
    sizes = {}
    for n in (200, 20_000):
        many = np.ones((n, 2), np.float32)
        im = ImpactModel(plain, jax.random.key(0), svi=inference(of=plain))
        im.fit(many, many[:, 0], batch_size=20, num_samples=10, progress=False)
        im.predict(many[:5], store="memory", progress=False)
        sizes[n] = len(cloudpickle.dumps(im))
    assert abs(sizes[20_000] - sizes[200]) < 20_000  # the losses of 990 more steps
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        (tmp_path / "model").write_bytes(cloudpickle.dumps(im))
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    code = """
import sys, cloudpickle, jax, numpy as np
folder = sys.argv[1]
im = cloudpickle.loads(open(folder + "/model", "rb").read())
X = np.ones((40, 2), np.float32)
y = im.predict_on_batch(X[:5], rng_key=jax.random.key(9), return_datatree=False)["y"]
im.fit(X, X[:, 0], batch_size=20, num_samples=3, progress=False)
np.savez(folder + "/out.npz", y=y, losses=im.vi_result.losses)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code, tmp_path], check=True, timeout=200)
    out = np.load(tmp_path / "out.npz")
    here = im.predict_on_batch(many[:5], rng_key=KEY, return_datatree=False)["y"]
    np.testing.assert_array_equal(out["y"], here)
    im.fit(many[:40], many[:40, 0], batch_size=20, num_samples=3, progress=False)
    np.testing.assert_array_equal(out["losses"], im.vi_result.losses)
