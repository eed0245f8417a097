"""Programs compile on threads while others are traced or compile."""

from __future__ import annotations

import threading

import jax
import numpy as np
import pytest
from numpyro.infer import HMC, MCMC, SVI, Trace_ELBO, autoguide
from numpyro.optim import Adam

from aimz_lab import ImpactModel
from aimz_lab.inference.compiling import FULL, QUICKEST, compile_on_thread, compiler_options
from tests.kernels import regression

X = np.linspace(0, 1, 12, dtype=np.float32).reshape(4, 3)
Y = np.arange(4, dtype=np.float32)


def test_nobody_waits_for_the_compiler():
    may_end = threading.Event()
    compiled = compile_on_thread(lambda: may_end.wait(20))
    assert not compiled.done()
    may_end.set()
    assert compiled.result(20)


def test_what_xla_flags_say_goes_before_our_options(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=2 --xla_dump_to=here")
    assert set(compiler_options(FULL, "cpu")) == {"xla_cpu_prefer_vector_width"}
    assert set(compiler_options(QUICKEST, "cpu")) == {"xla_llvm_disable_expensive_passes"}
    monkeypatch.delenv("XLA_FLAGS")
    assert compiler_options(FULL, "cpu")["xla_backend_optimization_level"] == FULL
    assert compiler_options(FULL, "gpu") == {}


@pytest.fixture
def compiled_by():
    """Names of the threads that compile."""
    seen = []

    def listen(event, _, **__):
        if event.endswith("backend_compile_duration"):
            seen.append(threading.current_thread().name.split("_0")[0])

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.allow_rank_promotion
def test_draws_of_the_guide_compile_while_the_steps_do(compiled_by):
    svi = SVI(regression, autoguide.AutoNormal(regression), Adam(0.1), Trace_ELBO())
    ImpactModel(regression, jax.random.key(0), svi).fit(X, Y, epochs=1, progress=False)
    assert compiled_by.count("aimz_lab-compiling") == 1


@pytest.mark.allow_rank_promotion
def test_iterations_of_chains_compile_while_their_set_up_does(compiled_by):
    sampler = HMC(regression, num_steps=2, trajectory_length=None)
    mcmc = MCMC(sampler, num_warmup=2, num_samples=2, progress_bar=False)
    im = ImpactModel(regression, jax.random.key(0), inference=mcmc)
    im.fit_on_batch(X, Y, progress=False)
    assert compiled_by.count("aimz_lab-compiling") == 1
