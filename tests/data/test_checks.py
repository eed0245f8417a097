"""Values that are not finite are found, named and counted, at the cost of one pass."""

from __future__ import annotations

import tracemalloc

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimz_lab.data import check_finite, check_rows
from aimz_lab.errors import DataError


@given(
    st.integers(1, 40),
    st.integers(1, 3),
    st.lists(st.tuples(st.integers(0, 39), st.integers(0, 2)), min_size=1, max_size=5),
    st.sampled_from([np.nan, np.inf, -np.inf]),
)
def test_the_first_bad_row_and_their_number_are_named(n, width, places, value):
    array = np.zeros((n, width))
    for row, column in places:
        array[row % n, column % width] = value
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    with pytest.raises(DataError) as caught:
        check_finite({"fine": np.zeros(n), "X": array})
    message = str(caught.value)
    assert f"'X' has {len(bad)} row{'s' if len(bad) > 1 else ''} with" in message
    assert f"is row {bad[0]}{':' if width == 1 else ','}" in message
    assert f": {value}." in message
    assert "allow_nonfinite=True" in message


def test_rows_are_counted_across_blocks():
    array = np.zeros((400_000, 2), np.float32)  # three megabytes: several blocks
    array[[250_001, 390_000], 1] = np.nan
    with pytest.raises(DataError, match=r"has 2 rows .* row 250001, position 1: nan"):
        check_finite({"X": array})


@pytest.mark.parametrize(
    "array",
    [
        np.array([1.0, 3e38], np.float32),  # their sum is infinite, they are not
        np.array([1, 2]),
        np.array([True]),
        np.empty((3, 0)),
        jnp.array([1.0]),
        np.array([1 + 1j]),
        np.float64(1.0),
    ],
)
def test_finite_data_passes(array):
    check_finite({"X": array})


def test_a_single_value_and_other_types_are_checked():
    with pytest.raises(DataError, match="1 row "):
        check_finite({"scale": np.array(np.inf)})
    with pytest.raises(DataError, match="row 1: nan"):
        check_finite({"y": jnp.array([0.0, jnp.nan], jnp.bfloat16)})
    with pytest.raises(DataError, match="row 0"):
        check_finite({"y": np.array([complex(0, np.inf)])})


def test_it_can_be_allowed():
    check_finite({"X": np.array([np.nan])}, allow_nonfinite=True)


def test_large_data_is_checked_without_a_large_temporary():
    array = np.zeros((2_000_000, 4), np.float32)  # 32 MB
    tracemalloc.start()
    check_finite({"X": array})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_rows_are_counted():
    assert check_rows({"X": np.zeros((1, 0)), "y": jnp.zeros(1)}) == 1
