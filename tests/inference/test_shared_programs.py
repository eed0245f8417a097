"""Fits of a kernel that is defined again compile nothing; one that reads other values compiles."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import ImpactModel
from aimz_lab.inference import shared_programs
from aimz_lab.inference.compiling import compiling
from aimz_lab.inference.shared_programs import SharedJit
from tests import kernels
from tests.runs import compilations

pytestmark = pytest.mark.allow_rank_promotion  # NumPyro's guides draw with a sample shape

CELL = """
def kernel(X, y=None):
    beta = numpyro.sample("beta", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("data", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ beta + offset.mean(), 1.0), obs=y)
"""
X, Y = kernels.regression_data(60, 3, seed=5)


def run_cells(offset, above=""):
    """Run the cells of a notebook that define a kernel and fit it; return the losses."""
    names = {"numpyro": numpyro, "dist": dist, "offset": offset}
    exec(above + CELL, names)
    svi = SVI(names["kernel"], AutoNormal(names["kernel"]), numpyro.optim.Adam(0.05), Trace_ELBO())
    im = ImpactModel(names["kernel"], jax.random.key(0), svi=svi)
    im.fit(X, Y, batch_size=20, epochs=4, num_samples=5, progress=False)
    return im.last_run.losses.copy(), np.asarray(im.posterior["beta"])


def test_a_program_that_is_there_is_traced_and_not_told_as_compiled(monkeypatch):
    told = []
    monkeypatch.setattr(shared_programs, "doing", told.append)
    for _ in range(2):
        SharedJit(lambda x: x * 7.0 - 0.125).compile("the steps", jnp.ones(3))
    assert told == ["tracing the steps", compiling("the steps"), "tracing the steps"]


@pytest.mark.parametrize(("folder", "words"), [(None, "compiling"), ("x", "compiling or loading")])
def test_a_program_that_the_folder_may_have_is_not_said_to_be_compiled(monkeypatch, folder, words):
    config = SimpleNamespace(config=SimpleNamespace(jax_compilation_cache_dir=folder))
    monkeypatch.setattr("aimz_lab.inference.compiling.jax", config)
    assert compiling("the steps") == f"{words} the steps"


@pytest.mark.slow
@pytest.mark.parametrize("above", ["", "# a comment\n\n"])
def test_cells_that_run_again_compile_nothing(above):
    offset = np.full(4, 0.5, np.float32)
    expected = run_cells(offset)
    with compilations() as seen:
        found = run_cells(offset.copy(), above)
    assert seen == []
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_a_kernel_that_reads_another_value_trains_on_it():
    offset = np.zeros(4, np.float32)
    before, _ = run_cells(offset)
    offset[2] = 40.0
    after, _ = run_cells(offset)
    assert (after > 2 * before).all()


def test_a_large_constant_is_compared_whole():
    constant = np.zeros(5_000, np.float32)

    def total():
        return SharedJit(lambda x: x + jnp.asarray(constant.copy()))(np.float32(1.0)).sum()

    assert float(total()) == 5_000
    constant[2_500] = 7.0
    assert float(total()) == 5_007


def test_a_weak_result_is_not_taken_for_a_strong_one():
    weak = SharedJit(lambda x: x * 2)(jnp.asarray(1.0))  # as Python's own numbers
    strong = SharedJit(lambda x: x * 2)(jnp.float32(1.0))
    assert not strong.weak_type
    assert weak.weak_type == jax.jit(lambda x: x * 2)(jnp.asarray(1.0)).weak_type
    of_number = SharedJit(lambda x: x * 2)(1.0)
    assert of_number.weak_type


def test_settings_of_jax_and_places_count():
    product = SharedJit(lambda x: x @ x)
    square = np.eye(2, dtype=np.float32)
    with compilations() as seen:
        product(square)
        with jax.default_matmul_precision("highest"):
            product(square)
        product(square)
    assert len(seen) == 2
    device = jax.local_devices()[-1]
    moved = product(jax.device_put(square, device))
    assert moved.devices() == {device}


def test_static_arguments_are_part_of_the_program():
    power = SharedJit(lambda x, *, by: x**by, static=["by"])
    assert [float(power(np.float32(3.0), by=by)) for by in (1, 2)] == [3.0, 9.0]


def test_without_compilation_the_function_itself_runs():
    called = []
    double = SharedJit(lambda x: called.append(1) or 2 * x)
    with jax.disable_jit():
        assert [float(double(np.float32(2.0))) for _ in range(2)] == [4.0, 4.0]
    assert len(called) == 2


def test_where_nan_is_an_error_it_is_told_as_by_jax():
    logarithm = SharedJit(jnp.log)
    assert np.isnan(logarithm(np.float32(-1.0)))
    with jax.debug_nans(True), pytest.raises(FloatingPointError):
        logarithm(np.float32(-1.0))
