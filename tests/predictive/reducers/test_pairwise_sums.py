"""Sums in a tree: who adds what changes no bit."""

from __future__ import annotations

import copy
import itertools
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimz_lab.predictive.reducers.pairwise_sums import PairwiseSums

TERMS = np.random.default_rng(0).normal(size=(200, 2)) * 10.0 ** np.arange(-100, 100)[:, None]


def summed(first, stop):
    sums = PairwiseSums(first)
    for term in TERMS[first:stop]:
        sums.add(term)
    return sums


@given(st.lists(st.integers(1, 199), unique=True), st.integers(0, 5))
def test_parts_of_any_size_joined_in_any_grouping_give_the_same_bits(cuts, start):
    """Terms of many magnitudes: most other orders would round otherwise."""
    edges = [0, *sorted(cuts), 200]
    parts = [summed(a, b) for a, b in itertools.pairwise(edges)]
    before = copy.deepcopy(parts)
    tail = PairwiseSums()
    for part in parts[start:]:
        tail.join(part)
    whole = PairwiseSums()
    for part in [*parts[:start], tail]:
        whole.join(part)
    np.testing.assert_array_equal(whole.total, summed(0, 200).total)
    for part, one in zip(parts, before, strict=True):  # a worker may be asked for a part again
        np.testing.assert_array_equal(part.total, one.total)


@pytest.mark.parametrize("n", [1, 2, 3, 127, 128, 200])
def test_the_sum_is_right(n):
    exact = [math.fsum(column) for column in TERMS[:n].T]
    np.testing.assert_allclose(summed(0, n).total, exact, rtol=1e-14)


def test_few_terms_are_kept():
    assert len(pickle.dumps(summed(0, 128))) < len(pickle.dumps(summed(0, 3)))
