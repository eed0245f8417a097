"""The test of rows needs a kernel and its structure alone, and finds what mixes rows."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers

from aimz_lab.kernel.rows.row_test import RowTest, choose_rows
from aimz_lab.kernel.tracing import trace_spec

ROWS = 32


def kernel_of(mean):
    def kernel(X, y=None):
        slope = numpyro.sample("slope", dist.Normal())
        with numpyro.plate("rows", X.shape[0]):
            mu = numpyro.deterministic("mu", mean(X[:, 0] * slope))
            numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)

    return kernel


def row_test(kernel, wanted=("y", "mu")):
    def trace(rows, shared, values, key):
        seeded = handlers.seed(handlers.substitute(kernel, data={**shared, **values}), key)
        return handlers.trace(seeded).get_trace(**rows)

    rows = {"X": jax.ShapeDtypeStruct((ROWS, 2), "float32")}
    return RowTest(trace, trace_spec(kernel, rows=rows), wanted)


def crossing_sites(test, X):
    orders = choose_rows([X], ROWS)
    key_data = jax.random.key_data(jax.random.key(0))
    found = jax.jit(test.on_all_and_halves)({"X": X[orders]}, {}, {"slope": 1.5}, key_data)
    return test.crossing_sites(*jax.device_get(found), ROWS)


def searched(mu):
    """Rows alone, but by a loop for which there is no rule."""
    return mu + jnp.searchsorted(jnp.linspace(-1, 1, 9), mu)


APART = {"rows alone": lambda mu: mu, "a search": searched}
ACROSS = {
    "a mean": lambda mu: mu - mu.mean(),
    "a cumulative sum": jnp.cumsum,
    "neighbours": lambda mu: mu - jnp.roll(mu, 1),
    "the number of rows": lambda mu: mu * mu.shape[0],
}


@pytest.mark.parametrize("n_rows", [5, 200])
@pytest.mark.parametrize("what", APART)
def test_rows_alone_cross_nowhere(what, n_rows):
    X = np.random.default_rng(0).normal(size=(n_rows, 2)).astype(np.float32)
    assert crossing_sites(row_test(kernel_of(APART[what])), X) == ()


@pytest.mark.parametrize("n_rows", [5, 200])
@pytest.mark.parametrize("what", ACROSS)
def test_sites_that_mix_rows_are_named(what, n_rows):
    X = np.random.default_rng(0).normal(size=(n_rows, 2)).astype(np.float32)
    assert crossing_sites(row_test(kernel_of(ACROSS[what])), X) == ("mu", "y")


def test_a_computed_site_that_is_not_wanted_may_mix_rows():
    def kernel(X, y=None):
        numpyro.deterministic("mean", X.mean())
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", dist.Normal(X[:, 0], 1.0), obs=y)

    X = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    assert crossing_sites(row_test(kernel, ("y",)), X) == ()
    assert crossing_sites(row_test(kernel, ("y", "mean")), X) == ("mean",)


def abstract(n_rows):
    values = {
        "slope": jax.ShapeDtypeStruct((), "float32"),
        "y": jax.ShapeDtypeStruct((n_rows,), "float32"),
    }
    return {"X": jax.ShapeDtypeStruct((n_rows, 2), "float32")}, {}, values


@pytest.mark.parametrize(
    ("mean", "proven"),
    [(lambda mu: jnp.tanh(mu), True), (lambda mu: mu - mu.mean(), False)],
    ids=["rows alone", "a mean"],
)
def test_the_traced_program_proves_it_where_rules_suffice(mean, proven):
    assert row_test(kernel_of(mean)).is_proven(abstract(8), abstract(16)) is proven


def test_a_kernel_that_cannot_be_traced_is_not_proven():
    def broken(mu):
        raise ValueError

    test = row_test(kernel_of(APART["rows alone"]))
    raising = RowTest(lambda *arguments: broken(arguments), test.spec, test.wanted)
    assert not raising.is_proven(abstract(8), abstract(16))


def test_rows_with_extremes_are_chosen():
    X = np.zeros((1000, 2), np.float32)
    X[417, 1], X[733, 0] = 5.0, -5.0
    orders = choose_rows([X], ROWS)
    assert orders.shape == (5, ROWS)
    for order in orders:
        assert {417, 733} <= set(order.tolist())
