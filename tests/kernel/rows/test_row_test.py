"""The test of rows needs a kernel and its structure alone, and finds what mixes rows."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers

from aimz_lab.kernel.rows.row_test import RowTest
from aimz_lab.kernel.tracing import trace_spec

PIECE = 16


def kernel_of(mean):
    def kernel(X, y=None):
        slope = numpyro.sample("slope", dist.Normal())
        with numpyro.plate("rows", X.shape[0]):
            mu = numpyro.deterministic("mu", mean(X[:, 0] * slope))
            numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)

    return kernel


def row_test(kernel, wanted=("y", "mu"), **options):
    def trace(rows, shared, values, key):
        seeded = handlers.seed(handlers.substitute(kernel, data={**shared, **values}), key)
        return handlers.trace(seeded).get_trace(**rows)

    rows = {"X": jax.ShapeDtypeStruct((PIECE, 2), "float32")}
    return RowTest(trace, trace_spec(kernel, rows=rows), wanted, **options)


def crossing_sites(test, X, pieces=None, seed=0):
    n_blocks = -(-len(X) // PIECE)
    if pieces is None:
        pieces = np.minimum(np.arange(n_blocks * PIECE), len(X) - 1).reshape(-1, PIECE)
    key_data = jax.random.key_data(jax.random.key(seed))
    found = jax.jit(test.crossing)({"X": X}, {}, {"slope": 1.5}, key_data, pieces)
    return test.crossing_sites(jax.device_get(found))


def inputs(n_rows):
    return np.random.default_rng(0).normal(size=(n_rows, 2)).astype(np.float32)


def host(mu):
    """Rows alone, but computed where no rule can look."""
    return jax.pure_callback(np.sin, jax.typeof(mu), mu)


APART = {"rows alone": lambda mu: mu, "on the host": host}
ACROSS = {
    "a mean": lambda mu: mu - mu.mean(),
    "a cumulative sum": jnp.cumsum,
    "neighbours": lambda mu: mu - jnp.roll(mu, 1),
    "the number of rows": lambda mu: mu * mu.shape[0],
    "a small ramp": lambda mu: mu + 1e-3 * jnp.arange(mu.shape[0]),
}
LATE = {
    "a step": lambda mu: mu + (jnp.arange(mu.shape[0]) >= 150),
    "a long lag": lambda mu: mu + jnp.concatenate([jnp.zeros(150), mu])[: mu.shape[0]],
    "a clip": lambda mu: mu + jnp.clip(jnp.arange(mu.shape[0]) - 190.0, 0),
    "a stock that runs out": lambda mu: mu * (jnp.cumsum(jnp.ones_like(mu)) < 180),
    "beside a huge entry": lambda mu: mu.at[0].set(1e7) + (jnp.arange(mu.shape[0]) >= 199),
}


@pytest.mark.slow
@pytest.mark.parametrize("n_rows", [1, 5, 16, 200])
@pytest.mark.parametrize("what", APART)
def test_rows_alone_cross_nowhere(what, n_rows):
    assert crossing_sites(row_test(kernel_of(APART[what])), inputs(n_rows)) == ()


@pytest.mark.slow
@pytest.mark.parametrize("what", ACROSS)
def test_sites_that_mix_rows_are_named(what):
    assert crossing_sites(row_test(kernel_of(ACROSS[what])), inputs(200)) == ("mu", "y")


@pytest.mark.parametrize("what", ["a mean", "the number of rows"])
def test_padding_must_change_nothing(what):
    assert crossing_sites(row_test(kernel_of(ACROSS[what])), inputs(5)) == ("mu", "y")


@pytest.mark.slow
@pytest.mark.parametrize("n_rows", [1, 5])
def test_padding_has_drawn_values_of_its_own(n_rows):
    def kernel(X, y=None):
        with numpyro.plate("rows", X.shape[0]):
            z = numpyro.sample("z", dist.Normal())
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", dist.Normal(X[:, 0] + abs(z).max(), 1.0), obs=y)

    test = row_test(kernel, ("y",))
    found = [crossing_sites(test, inputs(n_rows), seed=seed) for seed in range(4)]
    assert ("y",) in found


@pytest.mark.slow
@pytest.mark.parametrize("what", LATE)
def test_what_shows_late_is_found_at_its_place(what):
    assert crossing_sites(row_test(kernel_of(LATE[what])), inputs(200)) == ("mu", "y")


@pytest.mark.slow
def test_a_number_of_rows_that_is_another_case_is_found_where_it_matters():
    test = row_test(kernel_of(lambda mu: mu * (2 if mu.shape[0] < 8 else 1)))
    assert crossing_sites(test, inputs(5)) == ("mu", "y")
    assert crossing_sites(test, inputs(200)) == ()


@pytest.mark.slow
def test_shuffled_batches_are_compared_row_by_row():
    pieces = np.random.default_rng(1).permutation(192).reshape(-1, PIECE)
    X = inputs(192)
    assert crossing_sites(row_test(kernel_of(APART["rows alone"])), X, pieces) == ()
    assert crossing_sites(row_test(kernel_of(jnp.cumsum)), X, pieces) == ("mu", "y")


@pytest.mark.slow
def test_a_computed_site_that_is_not_wanted_may_mix_rows():
    def kernel(X, y=None):
        numpyro.deterministic("mean", X.mean())
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", dist.Normal(X[:, 0], 1.0), obs=y)

    assert crossing_sites(row_test(kernel, ("y",)), inputs(200)) == ()
    assert crossing_sites(row_test(kernel, ("y", "mean")), inputs(200)) == ("mean",)


@pytest.mark.parametrize("reduced", [False, True])
def test_a_factor_may_have_rows_but_not_sum_them(reduced):
    def kernel(X, y=None):
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", dist.Normal(X[:, 0], 1.0), obs=y)
        numpyro.factor("penalty", (X[:, 0] ** 2).sum() if reduced else X[:, 0] ** 2)

    found = crossing_sites(row_test(kernel, ("y", "penalty")), inputs(200))
    assert found == (("penalty",) if reduced else ())
    assert crossing_sites(row_test(kernel, ("y",)), inputs(200)) == ()


@pytest.mark.parametrize("normalised", [False, True])
def test_weights_may_follow_their_row_but_not_the_others(normalised):
    def kernel(X, y=None):
        weights = jnp.exp(X[:, 0])
        weights = weights / weights.sum() if normalised else weights
        plate = numpyro.plate("rows", 200, subsample_size=X.shape[0])
        with plate, handlers.scale(scale=weights):
            numpyro.sample("y", dist.Normal(X[:, 0], 1.0), obs=y)

    test = row_test(kernel, ("y",), in_training=True)
    assert crossing_sites(test, inputs(200)) == (("y",) if normalised else ())
    assert crossing_sites(row_test(kernel, ("y",)), inputs(200)) == ()


def test_a_site_that_only_some_numbers_of_rows_have_crosses():
    def kernel(X, y=None):
        if X.shape[0] > PIECE + 2:
            numpyro.deterministic("many", X[:, 0])
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", dist.Normal(X[:, 0], 1.0), obs=y)

    assert crossing_sites(row_test(kernel, ("y",)), inputs(200)) == ("many",)
    assert crossing_sites(row_test(kernel, ("y",)), inputs(9)) == ()


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
