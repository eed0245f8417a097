"""A dataset keeps what it is given, and hands out rows wherever they live."""

from __future__ import annotations

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from aimz_lab.data import ArrayDataset, ArrayLoader
from aimz_lab.errors import DataError, DataTypeError

X = np.arange(12.0).reshape(6, 2)
y = np.arange(6)


def aligned(n):
    """Float32 zeros at an address where device_put shares their memory, on CPUs."""
    memory = np.zeros(4 * n + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + 4 * n].view(np.float32)


def test_the_documented_import_path():
    from aimz_lab.utils import data

    assert data.ArrayDataset is ArrayDataset
    assert data.__all__ == ["ArrayDataset", "ArrayLoader"]


def test_arrays_are_stored_as_supplied():
    device = jnp.asarray(X)
    dataset = ArrayDataset(X=X, Z=device, w=[1, 2, 3, 4, 5, 6])
    assert dataset.arrays["X"] is X
    assert dataset.arrays["Z"] is device
    assert type(dataset.arrays["w"]) is np.ndarray
    assert dataset.fields == ("X", "Z", "w")
    assert len(dataset) == 6
    assert dataset.nbytes == X.nbytes + device.nbytes + dataset.arrays["w"].nbytes
    assert not dataset.to_jax


def test_a_memory_map_stays_one(tmp_path):
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    dataset = ArrayDataset(X=mapped)
    assert dataset.arrays["X"] is mapped
    np.testing.assert_array_equal(dataset.take(np.array([4, 1]))["X"], X[[4, 1]])
    assert "memory-mapped" in dataset._repr_html_()


def test_the_arrays_cannot_be_exchanged():
    with pytest.raises(TypeError):
        ArrayDataset(X=X).arrays["X"] = y


def test_to_jax_converts_at_construction():
    source = X.copy()
    dataset = ArrayDataset(X=source, y=pd.Series(y), Z=(device := jnp.asarray(X)), to_jax=True)
    assert all(isinstance(array, jax.Array) for array in dataset.arrays.values())
    assert dataset.arrays["Z"] is device
    assert dataset.to_jax
    source[:] = -1.0  # a JAX array never changes
    np.testing.assert_array_equal(dataset.arrays["X"], X)


def test_device_data_does_not_share_the_users_memory():
    source = aligned(256)
    dataset = ArrayDataset(y=source, to_jax=True)
    source[:] = 1.0
    assert not dataset.arrays["y"].any()


@pytest.mark.parametrize("shuffle", [False, True])
def test_placed_batches_do_not_share_the_users_memory(shuffle):
    source = aligned(256)
    loader = ArrayLoader(
        ArrayDataset(y=source),
        jax.random.key(0),
        batch_size=256,
        shuffle=shuffle,
        device=jax.devices()[0],
    )
    batch, _ = next(iter(loader))
    source[:] = 1.0
    assert not batch["y"].any()


def test_none_is_left_out():
    dataset = ArrayDataset(X=X, y=None)
    assert dataset.fields == ("X",)


def test_the_schema_describes_a_row():
    schema = ArrayDataset(X=X, y=y.astype(np.int8)).schema
    assert schema == {"X": ((2,), np.float64), "y": ((), np.int8)}
    assert schema["X"].shape == (2,)


@pytest.mark.parametrize("to_jax", [False, True])
def test_an_int_gives_one_element_per_field(to_jax):
    dataset = ArrayDataset(X=X, y=y, to_jax=to_jax)
    for i in (0, 5, -1, -6, np.int64(3)):
        sample = dataset[i]
        assert list(sample) == ["X", "y"]
        np.testing.assert_array_equal(sample["X"], X[i])
        assert sample["y"] == y[i]
    for i in (6, -7):
        with pytest.raises(IndexError, match="6 rows"):
            dataset[i]
    assert [int(sample["y"]) for sample in dataset] == y.tolist()


@given(
    st.one_of(
        st.slices(6),
        st.lists(st.integers(-6, 5), max_size=9),
        st.lists(st.booleans(), min_size=6, max_size=6),
    ),
    st.booleans(),
)
def test_slices_numbers_and_masks_pick_what_numpy_picks(index, to_jax):
    dataset = ArrayDataset(X=X, y=y, to_jax=to_jax)
    picked = dataset[index]
    numpy_index = index if isinstance(index, slice) or index else np.empty(0, int)
    np.testing.assert_array_equal(picked["X"], X[numpy_index])
    np.testing.assert_array_equal(picked["y"], y[numpy_index])
    assert isinstance(picked["y"], jax.Array if to_jax else np.ndarray)


@pytest.mark.parametrize("to_jax", [False, True])
def test_rows_that_do_not_exist_are_never_clipped(to_jax):
    dataset = ArrayDataset(X=X, to_jax=to_jax)
    for rows in ([0, 6], [-7, 0]):
        with pytest.raises(IndexError, match="does not exist"):
            dataset.take(rows)
    with pytest.raises(IndexError, match="mask has 2"):
        dataset.take([True, False])


@pytest.mark.parametrize("index", ["X", 1.5, True, None, [[0, 1]], (0, 1.5)])
def test_other_indices_are_refused(index):
    with pytest.raises(DataTypeError, match=r"dataset\.arrays"):
        ArrayDataset(X=X)[index]


def test_a_slice_is_a_view_that_protects_the_data():
    rows = ArrayDataset(X=X).take(slice(1, 3))["X"]
    assert np.shares_memory(rows, X)
    with pytest.raises(ValueError, match="read-only"):
        rows[0] = 0.0
    assert X.flags.writeable


def test_a_gather_is_a_copy():
    rows = ArrayDataset(X=X).take(np.array([1, 2]))["X"]
    assert not np.shares_memory(rows, X)
    rows[0] = 0.0


def test_all_batches_of_a_size_compile_once(caplog):
    dataset = ArrayDataset(X=np.arange(101.0), to_jax=True)
    with jax.log_compiles():
        for start in range(0, 91, 7):
            dataset.take(slice(start, start + 7))
            dataset.take(np.arange(start, start + 7))
    compiled = [record.message for record in caplog.records if "Compiling" in record.message]
    assert len(compiled) == 2, compiled


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({}, ["no arrays", "X=X"]),
        ({"y": None}, ["no arrays"]),
        ({"X": X, "y": y[:5], "w": y}, ["'X' has 6", "'y' has 5", "'w' has 6"]),
        ({"X": X, "y": 3.0}, ["'y'", "single value"]),
        ({"X": np.float64(3.0)}, ["'X'", "single value"]),
        ({"X": np.empty((0, 2)), "y": []}, ["empty", "'X'", "'y'"]),
    ],
)
def test_arrays_that_do_not_fit_are_named(arrays, says):
    with pytest.raises(DataError) as caught:
        ArrayDataset(**arrays)
    assert isinstance(caught.value, ValueError)
    for part in says:
        assert part in str(caught.value)


def test_arrays_of_the_wrong_kind_are_named():
    with pytest.raises(DataTypeError, match=r"ArrayDataset\(X=X, y=y\)"):
        ArrayDataset(X, y)
    with pytest.raises(DataTypeError, match="'race'.*pandas.Categorical"):
        ArrayDataset(race=np.array(["a", "b"]))
    with pytest.raises(DataTypeError, match="'when' holds dates"):
        ArrayDataset(when=np.array(["2020-01-01"], "M8[D]"))
    with pytest.raises(DataTypeError, match="to_jax is an option"):
        ArrayDataset(X=X, to_jax=y)


def test_any_name_can_be_a_field():
    assert ArrayDataset(self=y, unnamed=y, arrays=y).fields == ("self", "unnamed", "arrays")


def test_row_labels_come_from_the_first_field_that_has_some():
    index = pd.Index(list("abcdef"), name="unit")
    dataset = ArrayDataset(w=y, X=pd.DataFrame(X, index=index), y=pd.Series(y, index=index))
    assert dataset.row_coord.dim == "unit"
    assert dataset.row_coord.labels.tolist() == list("abcdef")
    assert ArrayDataset(X=pl.DataFrame(X), y=pd.Series(y)).row_coord is None
    labelled = xr.DataArray(y, dims="t", coords={"t": y + 10})
    assert ArrayDataset(y=labelled, to_jax=True).row_coord.labels.tolist() == (y + 10).tolist()


def test_rows_out_of_step_are_refused():
    a = pd.Series(y, index=list("abcdef"))
    b = pd.Series(y, index=list("abcfed"))
    with pytest.raises(DataError, match="row 3 is d in 'a' and f in 'b'"):
        ArrayDataset(a=a, b=b)
    ArrayDataset(a=a, b=b.loc[a.index])
    ArrayDataset(a=a, b=b.to_numpy())
    with pytest.raises(DataError, match="row 0"):
        ArrayDataset(a=a, b=pd.Series(y, index=y + 1))
    missing = pd.Series([1.0, 2.0], index=[np.nan, 1.0])
    ArrayDataset(a=missing, b=missing)


def test_it_can_be_pickled():
    copy = pickle.loads(pickle.dumps(ArrayDataset(X=X, y=y)))
    np.testing.assert_array_equal(copy[2]["X"], X[2])


def test_what_a_notebook_shows_is_escaped_and_complete():
    dataset = ArrayDataset(**{"X": X, "<b>": jnp.asarray(y)})
    html = dataset._repr_html_()
    for part in ("6 rows", "(6, 2)", "float64", "96 B", "host memory", "device cpu:0", "&lt;b&gt;"):
        assert part in html
    assert "<b>" not in html
    assert "background:transparent" in html  # legible on dark pages
    assert "X=float64[6, 2]" in repr(dataset)
