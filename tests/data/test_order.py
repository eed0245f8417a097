"""The order of an epoch: a permutation, and a function of key and epoch alone."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimz_lab.data import as_typed_key, epoch_order
from aimz_lab.errors import ArgumentError, DataTypeError

PINNED = [[1, 4, 5, 6, 2, 0, 3, 7], [7, 6, 2, 3, 1, 0, 4, 5]]
PINNED_LARGE = [75032, 66905, 3952, 75222, 49798]
SEEDS = st.integers(0, 2**32 - 1)


@given(st.integers(0, 300), SEEDS, st.integers(0, 10_000))
def test_it_is_a_permutation_and_repeats(n, seed, epoch):
    key = jax.random.key(seed)
    order = epoch_order(n, key, epoch)
    assert order.dtype == np.int64
    np.testing.assert_array_equal(np.sort(order), np.arange(n))
    np.testing.assert_array_equal(order, epoch_order(n, jax.random.key(seed), epoch))


@given(SEEDS, st.integers(0, 10_000))
def test_epochs_and_keys_have_orders_of_their_own(seed, epoch):
    key = jax.random.key(seed)
    order = epoch_order(50, key, epoch)
    assert (order != epoch_order(50, key, epoch + 1)).any()
    assert (order != epoch_order(50, jax.random.fold_in(key, 1), epoch)).any()


def test_the_order_is_pinned():
    """A saved run goes on in a later release, and on another machine, in the same order."""
    orders = [epoch_order(8, jax.random.key(0), epoch).tolist() for epoch in (0, 1)]
    assert orders == PINNED
    large = epoch_order(100_003, jax.random.key(7), 3)
    assert large[:5].tolist() == PINNED_LARGE


def test_every_row_is_as_likely_everywhere():
    n, epochs = 5, 4_000
    counts = np.zeros((n, n))
    for epoch in range(epochs):
        counts[np.arange(n), epoch_order(n, jax.random.key(1), epoch)] += 1
    # Binomial(4000, 1/5): 5.5 standard deviations, over 25 cells.
    np.testing.assert_allclose(counts, epochs / n, atol=5.5 * np.sqrt(epochs * 0.2 * 0.8))


def test_neighbours_in_the_data_do_not_stay_neighbours():
    order = epoch_order(100_000, jax.random.key(2), 0)
    correlation = np.corrcoef(order[:-1], order[1:])[0, 1]
    assert abs(correlation) < 5 / np.sqrt(len(order))


def test_legacy_keys_count_as_the_typed_ones():
    legacy, typed = jax.random.PRNGKey(5), jax.random.key(5)
    np.testing.assert_array_equal(epoch_order(20, legacy, 2), epoch_order(20, typed, 2))
    assert as_typed_key(typed) is typed
    assert as_typed_key(np.asarray(legacy)) == typed


def test_keys_of_any_implementation_work():
    assert sorted(epoch_order(9, jax.random.key(5, impl="rbg"), 0)) == list(range(9))


@pytest.mark.parametrize(
    "key", [0, None, "key", np.zeros(2), np.zeros(3, np.uint32), np.uint32(3), jax.numpy.zeros(2)]
)
def test_what_is_no_key_is_refused(key):
    with pytest.raises(DataTypeError, match=r"jax\.random\.key\(0\)"):
        as_typed_key(key)


def test_several_keys_are_refused():
    for keys in (jax.random.split(jax.random.key(0)), jax.random.split(jax.random.PRNGKey(0), 3)):
        with pytest.raises(DataTypeError, match="single key"):
            as_typed_key(keys)


def test_negative_numbers_are_refused():
    for n, epoch in ((-1, 0), (3, -1)):
        with pytest.raises(ArgumentError, match="is not allowed; use a whole number"):
            epoch_order(n, jax.random.key(0), epoch)
