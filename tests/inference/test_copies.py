"""A copy of a model goes on as the model would; what cannot be copied says what works."""

from __future__ import annotations

import copy
import pickle
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import cloudpickle
import jax
import numpy as np
import optax
import pytest
from numpyro.infer import HMC, MCMC, SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoLaplaceApproximation, AutoNormal

from aimz_lab import Callback, ImpactModel
from aimz_lab.errors import BusyError, CallError, CopyError
from aimz_lab.lab import History
from tests.kernels import regression, regression_data
from tests.runs import mean_field_model, same_bits

pytestmark = pytest.mark.allow_rank_promotion

X, Y = regression_data(60, 3)
KEY = jax.random.key(5)
SMALL = {"batch_size": 20, "num_samples": 5, "progress": False}


def svi(guide=AutoNormal, kernel=regression):
    return SVI(kernel, guide(kernel), optax.chain(optax.clip(1.0), optax.adam(0.05)), Trace_ELBO())


@pytest.fixture(scope="module")
def im():
    with jax.numpy_rank_promotion("allow"):
        model = ImpactModel(regression, jax.random.key(0), svi=svi(), device=jax.devices()[0])
        return model.fit(X, Y, **SMALL)


def pickled(model):
    return pickle.loads(pickle.dumps(model))


def cloudpickled(model):
    return cloudpickle.loads(cloudpickle.dumps(model))


def predicted(model, **options):
    return model.predict_on_batch(X[:9], return_datatree=False, **options)["y"]


@pytest.mark.slow
@pytest.mark.parametrize("made", [copy.deepcopy, pickled])
def test_a_copy_goes_on_as_the_model_would_and_shares_nothing(im, made):
    original = pickled(im)
    one = made(original)
    assert one.inference is not original.inference
    assert one.inference.guide is not original.inference.guide
    assert repr(one) == repr(original)
    key, posterior, state = original.rng_key, original.posterior, original._vi_state
    ahead = predicted(one), one.sample(num_samples=4, rng_key=KEY, return_datatree=False)
    one.fit(X, Y, **SMALL)
    # What the copy did has not touched the original, which now does the same.
    assert original.rng_key is key
    assert original._vi_state is state
    assert same_bits(original.posterior, posterior)
    assert same_bits(predicted(original), ahead[0])
    assert same_bits(original.sample(num_samples=4, rng_key=KEY, return_datatree=False), ahead[1])
    original.fit(X, Y, **SMALL)
    assert same_bits(original._vi_state, one._vi_state)
    assert same_bits(original.posterior, one.posterior)
    assert same_bits(original.rng_key, one.rng_key)


@pytest.mark.slow
def test_a_copy_in_memory_knows_the_training_rows_and_a_pickle_does_not(im):
    tree = copy.copy(im).predict_on_batch(X)
    np.testing.assert_array_equal(tree.observed_data["y"], Y)
    assert "observed_data" not in cloudpickled(im).predict_on_batch(X).children
    size = len(pickle.dumps(im))
    many = np.tile(X, (200, 1)), np.tile(Y, 200)
    large = copy.deepcopy(im).fit(*many, **{**SMALL, "batch_size": 12_000})
    assert len(pickle.dumps(large)) < size + 20_000


@pytest.mark.slow
def test_a_guide_that_keeps_the_data_keeps_it_in_a_copy():
    im = ImpactModel(regression, jax.random.key(0), svi=svi(AutoLaplaceApproximation))
    im.fit_on_batch(X, Y, num_steps=50, num_samples=5, progress=False)
    drawn = im.sample(num_samples=4, rng_key=KEY, return_datatree=False)
    found = copy.deepcopy(im).sample(num_samples=4, rng_key=KEY, return_datatree=False)
    assert same_bits(found, drawn)
    with pytest.raises(CallError, match="which is not stored"):
        pickled(im).sample()


@pytest.mark.slow
def test_chains_go_on_in_a_copy():
    sampler = HMC(regression, num_steps=3, trajectory_length=None)
    mcmc = MCMC(sampler, num_warmup=10, num_samples=5, progress_bar=False)
    im = ImpactModel(regression, jax.random.key(0), mcmc).fit_on_batch(X, Y, progress=False)
    one = copy.deepcopy(im)
    ahead = one.sample(num_samples=3, X=X, y=Y, return_datatree=False)
    one.fit_on_batch(X[:30], Y[:30], progress=False)
    assert same_bits(im.sample(num_samples=3, X=X, y=Y, return_datatree=False), ahead)


def test_what_no_pickle_can_hold_is_named_with_what_works():
    lock = threading.Lock()

    def kernel(X, y=None):
        with lock:
            return regression(X, y)

    im = mean_field_model(kernel)
    with pytest.raises(CopyError, match=r"cannot pickle '_thread.lock'.*im\.save\(path\)"):
        pickle.dumps(im)
    assert issubclass(CopyError, TypeError)


@pytest.mark.slow
def test_runs_and_handles_stay_in_their_process_and_say_what_works(im, tmp_path):
    for made in (pickle.dumps, cloudpickle.dumps, copy.deepcopy, copy.copy):
        with pytest.raises(CopyError, match=r"A run belongs to the process.*History\(run\)"):
            made(im.last_run)
        handle = copy.copy(im).fit(X, Y, blocking=False, **SMALL)
        with pytest.raises(CopyError, match=r"A handle belongs.*result\(\) first"):
            made(handle)
        handle.wait(60)
    History(im.last_run).to_json(tmp_path / "run.json")
    recorded = History.from_json(tmp_path / "run.json")
    np.testing.assert_array_equal(recorded.losses, im.last_run.losses)


def test_a_model_is_not_copied_while_it_changes():
    class Within(Callback):
        def on_steps_end(self, run, steps):
            for made in (pickle.dumps, copy.deepcopy):
                with pytest.raises(BusyError, match="comes from within"):
                    made(im)

    im = mean_field_model(regression)
    im.fit(X, Y, callbacks=[Within()], **SMALL)
    assert im.last_run.status == "completed"


@pytest.mark.slow
def test_processes_get_a_model_as_it_is():
    im = mean_field_model(regression).fit(X, Y, **SMALL)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        there = pool.submit(predicted, im, rng_key=KEY).result(120)
    np.testing.assert_array_equal(there, predicted(im, rng_key=KEY))
