"""Equal programs are compiled once a process; programs that only look alike are not mixed up."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from aimz_lab.predictive import Predictor
from tests.predictive.models import inputs, request_of
from tests.runs import compilations

CELL = """
def kernel(X, y=None):
    b = numpyro.sample("b", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    mu = numpyro.deterministic("mu", scale * jax.nn.relu(X @ b))
    with numpyro.plate("data", X.shape[0]):
        numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)
"""
DRAWS = {"b": np.random.default_rng(0).normal(size=(11, 3)).astype(np.float32)}
X = inputs(40)


def run_cell(scale: object, above: str = "") -> object:
    """Run the cell of a notebook that defines the kernel."""
    names = {"numpyro": numpyro, "dist": dist, "jax": jax, "scale": scale}
    exec(above + CELL, names)
    return names["kernel"]


def means(kernel: object) -> np.ndarray:
    """Predict with a new predictor, which has compiled nothing."""
    options = {"draws": DRAWS, "return_sites": ("mu",)}
    return Predictor().predict_arrays(request_of(kernel, {"X": X}, **options))["mu"]


@pytest.mark.parametrize("above", ["", "# a comment\n\n"])
def test_a_kernel_whose_cell_runs_again_compiles_nothing(above):
    expected = means(run_cell(2.0))
    with compilations() as seen:
        again = means(run_cell(2.0, above))
        assert not seen
    np.testing.assert_array_equal(again, expected)


def test_a_kernel_that_reads_another_value_gets_a_program_of_its_own():
    before, after = (means(run_cell(np.full(1, scale, np.float32))) for scale in (2.0, 3.0))
    np.testing.assert_allclose(after, 1.5 * before, rtol=1e-6)


def reads(first: bool):
    def kernel(X, Z, y=None):
        numpyro.sample("b", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
        mu = numpyro.deterministic("mu", (X if first else Z)[:, 0])
        with numpyro.plate("data", X.shape[0]):
            numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)

    return kernel


def test_programs_that_use_other_arguments_are_not_taken_for_equal():
    options = {"draws": DRAWS, "return_sites": ("mu",)}
    for first in (True, False):
        rows = {"X": X, "Z": -X}
        request = request_of(reads(first), rows, **options)
        found = Predictor().predict_arrays(request)["mu"]
        np.testing.assert_array_equal(found[0], rows["X" if first else "Z"][:, 0])


def asks_the_host(factor: float):
    def on_host(values):
        return np.asarray(factor * values, np.float32)

    def kernel(X, y=None):
        numpyro.sample("b", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
        shape = jax.ShapeDtypeStruct(X.shape[:1], jnp.float32)
        found = jax.pure_callback(on_host, shape, X[:, 0], vmap_method="sequential")
        mu = numpyro.deterministic("mu", found)
        with numpyro.plate("data", X.shape[0]):
            numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)

    return kernel


def test_programs_that_call_functions_of_the_host_are_never_shared():
    options = {"draws": DRAWS, "return_sites": ("mu",), "row_dependence": "independent"}
    for factor in (2.0, 3.0):
        request = request_of(asks_the_host(factor), {"X": X}, **options)
        found = Predictor().predict_arrays(request)["mu"]
        np.testing.assert_allclose(found[0], factor * X[:, 0], rtol=1e-6)
