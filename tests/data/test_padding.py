"""Padding repeats the last row, and its cost is what it is said to be."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

from aimz_lab.data import (
    ArrayDataset,
    ArrayLoader,
    pad_rows,
    padding_advice,
    padding_waste,
    row_multiple,
)
from aimz_lab.errors import ArgumentError, DataError, DataTypeError


@given(st.integers(1, 30), st.integers(1, 9), st.sampled_from([(), (3,), (2, 2), (0,)]))
def test_it_equals_edge_padding(n, multiple, shape):
    array = np.random.default_rng(n).normal(size=(n, *shape))
    batch = {"X": array, "y": np.arange(n)}
    padded, n_pad = pad_rows(batch, multiple)
    assert type(n_pad) is int
    assert 0 <= n_pad < multiple
    assert (n + n_pad) % multiple == 0
    for name, value in batch.items():
        widths = [(0, n_pad)] + [(0, 0)] * (value.ndim - 1)
        np.testing.assert_array_equal(padded[name], np.pad(value, widths, mode="edge"))
        assert padded[name].dtype == value.dtype


def test_device_arrays_are_padded_where_they_are():
    padded, n_pad = pad_rows({"X": jnp.arange(10.0).reshape(5, 2)}, 4)
    assert isinstance(padded["X"], jax.Array)
    assert n_pad == 3
    np.testing.assert_array_equal(padded["X"][5:], [[8.0, 9.0]] * 3)


def test_without_need_the_arrays_pass_as_they_are():
    batch = {"X": np.ones(4)}
    padded, n_pad = pad_rows(batch, 2)
    assert n_pad == 0
    assert padded["X"] is batch["X"]
    assert padded is not batch


def test_the_callers_batch_stays_as_it_was():
    batch = {"X": np.ones(3)}
    pad_rows(batch, 8)
    assert batch["X"].shape == (3,)


def test_bad_batches_and_multiples_are_refused():
    with pytest.raises(DataError, match="'X' has 2, 'y' has 3"):
        pad_rows({"X": np.ones(2), "y": np.ones(3)}, 2)
    for multiple in (0, 1.0, True):
        with pytest.raises(ArgumentError, match="multiple="):
            pad_rows({"X": np.ones(2)}, multiple)


def test_the_multiple_of_one_device():
    mesh = jax.make_mesh((1,), ("rows",))
    for device in (
        None,
        jax.devices()[0],
        SingleDeviceSharding(jax.devices()[0]),
        NamedSharding(mesh, PartitionSpec()),
        NamedSharding(mesh, PartitionSpec("rows", None)),
    ):
        assert row_multiple(device) == 1


@pytest.mark.parametrize("device", ["cpu", 0, PartitionSpec("rows"), jax.devices])
def test_other_devices_are_refused(device):
    with pytest.raises(DataTypeError, match=r"jax\.devices\(\)\[0\]"):
        row_multiple(device)


@given(st.integers(1, 200), st.integers(1, 40), st.integers(1, 9))
def test_the_waste_is_what_padding_every_batch_adds(n, batch_size, multiple):
    loader = ArrayLoader(ArrayDataset(y=np.zeros(n)), jax.random.key(0), batch_size=batch_size)
    added = sum(pad_rows(batch, multiple)[1] for batch, _ in loader)
    n_pad, share = padding_waste(n, batch_size, multiple)
    assert n_pad == added
    assert share == pytest.approx(added / (n + added))


@given(st.integers(1, 200), st.integers(1, 40), st.integers(1, 9))
def test_advice_is_only_given_where_it_helps(n, batch_size, multiple):
    advice = padding_advice(n, batch_size, multiple)
    if advice:
        better = int(advice.split("; ")[1].split()[0])
        assert better % multiple == 0
        assert padding_waste(n, better, multiple)[1] < padding_waste(n, batch_size, multiple)[1]
    else:
        better = -(-batch_size // multiple) * multiple
        assert padding_waste(n, better, multiple) >= padding_waste(n, batch_size, multiple)


def test_the_sentence():
    assert padding_advice(1600, 10, 8) == (
        "batch_size=10 on 8 devices wastes 37.5% of the rows computed; 16 wastes 0%."
    )
    assert padding_advice(1600, 16, 8) == ""
    assert "wastes 20%" in padding_advice(1600, 100, 5 * 25)
    for arguments in ((0, 1, 1), (1, 0, 1), (1, 1, 0)):
        with pytest.raises(ArgumentError):
            padding_advice(*arguments)
