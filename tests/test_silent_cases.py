"""Calls that mean something else than they would compute are refused, with what to do."""

from __future__ import annotations

import random
import threading

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from numpyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import ArrayDataset, ArrayLoader, Callback, ImpactModel, lab
from aimz_lab.errors import (
    ArgumentError,
    DataError,
    DataTypeError,
    FitWarning,
    InferenceError,
    KernelError,
    NotFittedError,
    OutOfMemoryError,
    SiteError,
)

N = 40
X = np.linspace(-1, 1, N, dtype=np.float32)
Y = 2 * X
QUIET = {"progress": False}
MASK = np.arange(N) > 3


def linear(X, treat=0.0, mask=True, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    numpyro.deterministic("pair", jnp.stack([slope, -slope]))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(X * slope + treat, 1.0).mask(mask), obs=y)


def wider(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 5.0))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(X * slope, 1.0), obs=y)


def svi_of(kernel, guide_of=None):
    guide = AutoNormal(guide_of or kernel)
    return SVI(kernel, guide, numpyro.optim.Adam(0.1), Trace_ELBO())


def model(kernel=linear):
    return ImpactModel(kernel, jax.random.key(0), svi_of(kernel))


@pytest.fixture(scope="module")
def im():
    return model().fit(X, Y, epochs=3, mask=MASK, **QUIET)


class TestOneKernel:
    @pytest.mark.parametrize(
        ("inference", "what"),
        [
            (svi_of(wider), "the SVI object"),
            (svi_of(linear, wider), "its guide"),
            (MCMC(NUTS(wider), num_warmup=1, num_samples=1), "the sampler"),
        ],
    )
    def test_an_inference_object_of_another_kernel_is_refused(self, inference, what):
        with pytest.raises(InferenceError, match=f"'linear'.*{what}.*'wider'"):
            ImpactModel(linear, jax.random.key(0), inference)

    def test_closures_over_other_values_are_other_kernels(self):
        def made(sd):
            def kernel(X, y=None):
                numpyro.sample("y", dist.Normal(X, sd).to_event(1), obs=y)

            return kernel

        ImpactModel(made(1.0), jax.random.key(0), svi_of(made(1.0)))
        with pytest.raises(InferenceError):
            ImpactModel(made(1.0), jax.random.key(0), svi_of(made(2.0)))

    def test_handlers_and_the_same_code_again_are_the_same_kernel(self):
        again = type(linear)(linear.__code__, linear.__globals__, "linear", linear.__defaults__)
        for kernel in (handlers.block(linear, hide=[]), again):
            ImpactModel(linear, jax.random.key(0), svi_of(kernel))


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"dims": {"slop": ["a"]}}, SiteError, "'slop'.*Did you mean 'slope'"),
        ({"dims": {"pair": ["a", "b"]}}, ArgumentError, "2 dimensions of the site 'pair'"),
        ({"dims": {"y": ["a", "b"]}}, ArgumentError, "name all of them, or all but that of the ro"),
        ({"coords": {"ob": ["a"] * N}}, ArgumentError, "'ob'.*Did you mean 'obs'"),
    ],
)
@pytest.mark.parametrize("reduce", [None, "mean"])
def test_names_of_what_there_is_not_are_refused(im, options, error, match, reduce):
    with pytest.raises(error, match=match):
        im.predict(X, reduce=reduce, **options, **QUIET)


@pytest.mark.parametrize("source", ["arrays", "loader", "stream"])
def test_the_whole_data_has_the_rows_that_are_passed(source):
    dataset = ArrayDataset(X=X, y=Y)
    loader = ArrayLoader(dataset, jax.random.key(0), batch_size=20)
    rows = {"arrays": (X, Y), "loader": (loader,), "stream": (lambda: [(X, Y)],)}[source]
    with pytest.raises(ArgumentError, match=r"n_obs=10 is less than the (20|40) rows"):
        model().fit(*rows, n_obs=10, **QUIET)


def test_a_batch_is_no_larger_than_the_data():
    im = model()
    with pytest.raises(ArgumentError, match="n_obs=10 is less than the 40 rows"):
        im.train_on_batch(X, Y, n_obs=10)
    assert im.n_obs is None
    im.train_on_batch(X, Y, n_obs=30, n_pad=10)


@pytest.mark.slow
def test_a_resumed_run_does_not_end_before_it_begins(tmp_path):
    saved = [lab.ModelCheckpoint(tmp_path)]
    model().fit(X, Y, epochs=3, callbacks=saved, **QUIET)
    with pytest.raises(ArgumentError, match="has begun 3 of them; pass epochs=3 at least"):
        model().fit(X, Y, epochs=2, resume=tmp_path, **QUIET)
    assert model().fit(X, Y, epochs=4, resume=tmp_path, **QUIET).last_run.epoch == 4


def test_a_density_takes_no_complex_numbers(im):
    for call in (model().fit, im.log_likelihood, lambda X, y: im.predict(X)):
        with pytest.raises(DataTypeError, match=r"complex numbers \(complex64\).*two columns"):
            call(X.astype(complex), Y, **({} if call.__name__ == "<lambda>" else QUIET))


@pytest.mark.slow
def test_complex_arguments_are_taken_where_the_sites_are_real():
    def of_spectrum(X, y=None):
        wider(jnp.abs(X), y)

    model(of_spectrum).fit(X.astype(complex), Y, **QUIET)


@pytest.mark.parametrize("treat", ["yes", None])
def test_text_and_none_are_no_numbers(im, treat):
    for call in (lambda **k: model().fit(X, Y, **k), lambda **k: im.predict(X, **k)):
        with pytest.raises(KernelError, match=f"The argument 'treat' is {treat!r} here"):
            call(treat=treat, **QUIET)


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        (({"X": X, "y": Y},), r"'X' is a dict \(of X, y\).*fit\(\*\*data\)"),
        (("data.csv", Y), r"no file is read here.*read_csv\('data.csv'\)"),
        (("data.csv",), "no file is read here"),
    ],
)
def test_what_holds_no_rows_is_named(rows, match):
    with pytest.raises(DataTypeError, match=match):
        model().fit(*rows, **QUIET)


def test_a_tree_of_draws_is_no_dict(im):
    with pytest.raises(DataTypeError, match=r"im.sample\(return_datatree=False\)"):
        im.set_posterior_sample(im.sample(num_samples=20))
    draws = im.sample(num_samples=20, return_datatree=False)
    model().set_posterior_sample(draws)


class HeldAtItsBeginning(Callback):
    """Lets no step be reported before a test says so."""

    def __init__(self):
        self.go_on = threading.Event()

    def on_epoch_begin(self, run, epoch):
        self.go_on.wait(60)


@pytest.mark.slow
def test_the_first_fit_in_the_background_is_waited_for():
    im, held = model(), HeldAtItsBeginning()
    handle = im.fit(X, Y, epochs=100_000, blocking=False, callbacks=[held], **QUIET)
    try:
        with pytest.raises(NotFittedError, match="has not reported its first steps yet"):
            im.predict(X, **QUIET)
    finally:
        held.go_on.set()
        handle.stop()
        handle.wait()
    im.predict(X, store="memory", **QUIET)


def test_rows_that_are_masked_cannot_be_left_out(im):
    pytest.importorskip("arviz_stats")
    with pytest.raises(ArgumentError, match="4 of these 40 rows have the same log-likelihood, 0,"):
        im.log_likelihood(X, Y, mask=MASK, reduce="loo", **QUIET)
    kept = im.log_likelihood(X[MASK], Y[MASK], reduce="loo", **QUIET).log_likelihood
    assert kept.y_loo.sizes["obs"] == 36


GENERATOR = np.random.default_rng(0)


def _with_noise(noise):
    def kernel(X, y=None):
        wider(X + noise(), y)

    return kernel


def _of_helper():
    return np.random.normal()  # noqa: NPY002  what is refused


@pytest.mark.parametrize(
    ("noise", "source"),
    [
        (_of_helper, "numpy.random"),
        (lambda: random.random(), "Python's random"),
        (lambda: GENERATOR.normal(), "'GENERATOR'"),
        (GENERATOR.normal, "'noise'"),
        (lambda: np.random.default_rng().normal(), r"numpy.random.default_rng\(\)"),
    ],
)
def test_draws_that_are_made_once_are_refused(noise, source):
    im = model(_with_noise(noise))
    with pytest.raises(KernelError, match=f"draws from {source}.*numpyro.sample"):
        im.fit(X, Y, **QUIET)
    with pytest.raises(KernelError, match=source):
        im.sample_prior_predictive(X, **QUIET)


def test_other_uses_of_random_modules_are_left_alone():
    fixed = np.random.default_rng(0).normal()

    def kernel(X, y=None):
        again = np.random.default_rng(0).normal()
        wider(X + fixed + again + 0 * jax.random.normal(numpyro.prng_key()), y)

    model(kernel).sample_prior_predictive(X, num_samples=2, **QUIET)


def test_sites_that_cannot_fit_are_refused_before_they_are_made(monkeypatch):
    monkeypatch.setattr("aimz_lab.data.memory.memory_bytes", lambda: 23 * 2**30)

    def kernel(X, y=None):
        with numpyro.plate("g", 2**31 - 1):
            numpyro.sample("level", dist.Normal(0.0, 1.0))
        wider(X, y)

    for samples in (1, 1000):
        with pytest.raises(OutOfMemoryError, match=r"the largest site, 'level', has \(2147483647"):
            model(kernel).fit(X, Y, num_samples=samples, **QUIET)


@pytest.mark.slow
def test_what_is_not_free_is_not_asked_for(im, monkeypatch):
    monkeypatch.setattr("aimz_lab.data.memory.free_bytes", lambda: 2**20)
    monkeypatch.setattr("aimz_lab.data.memory._SMALL", 2**20)
    rows = np.zeros(10_000, np.float32)
    with pytest.raises(OutOfMemoryError, match=r"1.0 MiB are free.*reduce='mean'.*output_dir="):
        im.predict(rows, store="memory", **QUIET)
    assert "y_mean" in im.predict(rows, reduce="mean", **QUIET).posterior_predictive


def test_memory_that_runs_out_says_where_else_the_draws_can_go(im, monkeypatch):
    def full(*args, **kwargs):
        raise MemoryError("Unable to allocate 11.2 GiB")

    monkeypatch.setattr("aimz_lab.predictive.predictor.Predictor.predict", full)
    with pytest.raises(OutOfMemoryError, match=r"Memory ran out: .*11.2 GiB.*output_dir="):
        im.predict(X, **QUIET)


@pytest.mark.slow
def test_held_out_rows_that_are_trained_on_now_or_before_are_told(tmp_path):
    new = np.linspace(2, 3, 10, dtype=np.float32)
    im = ImpactModel(linear, jax.random.key(0), svi=SVI(
        linear, AutoNormal(linear), numpyro.optim.Adam(0.01), Trace_ELBO()
    ))  # fmt: skip
    options = {"batch_size": 20, "epochs": 1, "num_samples": 5, **QUIET}
    im.fit(X, Y, validation=(new, 2 * new), **options)
    mixed = np.concatenate([X[:30], new])
    with pytest.warns(FitWarning, match="30 of the 40 rows in validation= look like rows"):
        im.fit(X, Y, validation=(mixed, 2 * mixed), **options)
    with pytest.warns(FitWarning, match="40 of the 40 rows in validation="):
        im.fit(new, 2 * new, validation=(X, Y), **options)
    # A saved model knows them too.
    svi = SVI(linear, AutoNormal(linear), numpyro.optim.Adam(0.01), Trace_ELBO())
    loaded = ImpactModel.load(im.save(tmp_path / "model"), linear, svi)
    with pytest.warns(FitWarning, match="40 of the 40 rows in validation="):
        loaded.fit(0.9 * X, 0.9 * Y, validation=(X, Y), **options)
    with pytest.raises(DataError, match="40 of 40 held-out rows look like rows that the model was"):
        lab.compare_runs({"loaded": loaded}, held_out=(X, Y))
