"""Array-likes of every library become the same NumPy array; what is not numeric is refused."""

from __future__ import annotations

import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aimz_lab.data import ArrayDataset, canonical, row_coord, to_host
from aimz_lab.errors import DataError, DataTypeError

MATRIX = np.array([[1.0, 2.0], [3.0, 4.5], [5.0, 6.0]])


class DuckTensor:
    """What the conversion uses of a PyTorch tensor."""

    def __init__(self, values, dtype="torch.float32"):
        self.values, self.dtype = values, dtype

    def float(self):
        return DuckTensor(self.values)

    def numpy(self, *, force):
        assert force, "a tensor that requires gradients only converts by force"
        assert self.dtype != "torch.bfloat16", "NumPy has no such type"
        return self.values


@pytest.fixture
def duck_torch(monkeypatch):
    module = types.ModuleType("torch")
    module.Tensor = DuckTensor
    monkeypatch.setitem(sys.modules, "torch", module)


@pytest.mark.parametrize(
    "make",
    [
        np.asarray,
        jnp.asarray,
        lambda m: m.tolist(),
        lambda m: tuple(map(tuple, m)),
        pd.DataFrame,
        lambda m: pd.DataFrame(m).convert_dtypes(),
        lambda m: pd.DataFrame(m).astype({0: "int64"}),
        lambda m: pd.DataFrame(m, columns=["same", "same"]),
        lambda m: pl.DataFrame(m),
        lambda m: pl.DataFrame(m).with_columns(pl.col("column_0").cast(pl.Int8)),
        lambda m: xr.DataArray(m, dims=["obs", "feature"]),
        lambda m: np.ma.masked_array(m, mask=False),
        lambda m: [jnp.asarray(row) for row in m],
    ],
)
def test_every_kind_of_matrix_gives_the_same_array(make):
    array = to_host("X", make(MATRIX))
    assert type(array) is np.ndarray
    np.testing.assert_array_equal(array, MATRIX)


@pytest.mark.parametrize(
    "make",
    [
        lambda v: pd.Series(v),
        lambda v: pd.Series(v, dtype="Int32"),
        lambda v: pd.Series(v, dtype="Float64"),
        lambda v: pd.Series(pd.arrays.SparseArray(v)),
        lambda v: pd.Index(v),
        lambda v: pl.Series(v),
        lambda v: pl.Series(v).cast(pl.Decimal(10, 2)),
        lambda v: xr.DataArray(v),
        lambda v: xr.Variable("obs", v),
    ],
)
def test_every_kind_of_column_gives_the_same_array(make):
    array = to_host("y", make([4, 0, 7]))
    assert array.dtype.kind in "if"
    np.testing.assert_array_equal(array, [4, 0, 7])


def test_a_plain_array_is_not_copied():
    assert to_host("X", MATRIX) is MATRIX
    assert np.shares_memory(to_host("y", pd.Series(MATRIX[:, 0], copy=False)), MATRIX)
    device = jnp.arange(4.0)
    assert np.shares_memory(to_host("y", device), np.asarray(device))


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([1, None, 3], dtype="Int64"),
        pd.Series([True, None, True], dtype="boolean"),
        pd.Series([1.0, None, 3.0]),
        pl.Series([1, None, 3]),
        pl.Series([True, None, True]),
    ],
)
def test_a_missing_entry_becomes_nan(column):
    array = to_host("y", column)
    assert array.dtype.kind == "f"
    np.testing.assert_array_equal(np.isnan(array), [False, True, False])
    frame = pd.DataFrame if isinstance(column, pd.Series) else pl.DataFrame
    matrix = to_host("X", frame({"a": column, "b": [1, 2, 3]}))
    np.testing.assert_array_equal(np.isnan(matrix), [[False, False], [True, False], [False, False]])


def test_booleans_stay_booleans_and_mix_with_numbers():
    assert to_host("t", pd.Series([True, False])).dtype == np.bool_
    assert to_host("t", pl.Series([True, False])).dtype == np.bool_
    mixed = to_host("X", pd.DataFrame({"a": [True, False], "b": [2, 3]}))
    np.testing.assert_array_equal(mixed, [[1, 2], [0, 3]])


def test_tables_are_laid_out_row_by_row():
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})
    assert to_host("X", frame).flags.c_contiguous
    assert to_host("X", pl.DataFrame(frame.to_dict("list"))).flags.c_contiguous


def test_a_table_without_columns_keeps_its_rows():
    assert to_host("X", pd.DataFrame(index=range(3))).shape == (3, 0)


def test_tensors_convert(duck_torch):
    values = np.arange(3, dtype=np.float32)
    assert to_host("y", DuckTensor(values)) is values
    assert to_host("y", DuckTensor(values, "torch.bfloat16")) is values


@pytest.mark.slow
def test_real_tensors_convert():
    torch = pytest.importorskip("torch")
    tensor = torch.arange(3.0, requires_grad=True)
    np.testing.assert_array_equal(to_host("y", tensor), [0, 1, 2])
    assert to_host("y", tensor.to(torch.bfloat16)).dtype == np.float32


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (["a", "b"], ["'X'", "text", "'a'", "pandas.Categorical"]),
        (np.array(["a"], object), ["'X'", "str objects", "'a'"]),
        (np.array([b"a"]), ["'X'", "text"]),
        (np.array(["2020-01-01"], "M8[D]"), ["'X'", "dates", "timedelta64"]),
        (np.array([1], "m8[s]"), ["'X'", "durations"]),
        (np.zeros(2, [("a", "f4")]), ["'X'", "expected numbers"]),
        ({"a": 1}, ["'X'", "dict"]),
        ({1, 2}, ["'X'", "set"]),
        (None, ["'X'", "NoneType"]),
        (jax.random.split(jax.random.key(0)), ["'X'", "random keys"]),
        (pd.Series(["a"]), ["'X'", "'a'", "pandas.Categorical"]),
        (pd.Series(pd.Categorical([1, 2])), ["'X'", "categorical", "pandas.Categorical"]),
        (pd.Series(pd.to_datetime(["2020-01-01"])), ["'X'", "dates"]),
        (pd.Series(pd.to_datetime(["2020-01-01"], utc=True)), ["'X'", "Timestamp"]),
        (pd.DataFrame({"age": [1], "race": ["b"]}), ["'race'", "'X'", "'b'"]),
        (pl.DataFrame({"age": [1], "race": ["b"]}), ["'race'", "'X'", "'b'"]),
        (pl.Series(["a"], dtype=pl.Categorical), ["'X'", "'a'"]),
        (pl.LazyFrame({"a": [1]}), ["'X'", ".collect()"]),
        (xr.Dataset({"a": ("obs", [1.0])}), ["'X'", "variables"]),
    ],
)
def test_what_is_not_numeric_is_refused_by_name(value, says):
    with pytest.raises(DataTypeError) as caught:
        to_host("X", value)
    assert isinstance(caught.value, TypeError)
    for part in says:
        assert part in str(caught.value)


def test_sparse_matrices_are_refused_with_the_way_out():
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(DataTypeError, match="toarray"):
        to_host("X", sparse.eye(3))


def test_ragged_lists_and_masked_entries_are_refused():
    with pytest.raises(DataError, match="'X'.*differ in length"):
        to_host("X", [[1.0], [2.0, 3.0]])
    with pytest.raises(DataError, match="'X' has masked entries"):
        to_host("X", np.ma.masked_array([1.0, 2.0], mask=[False, True]))


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("float64", "float32"),
        ("float32", "float32"),
        ("float16", "float16"),
        (">f8", "float32"),
        ("int64", "int32"),
        ("uint64", "uint32"),
        ("int8", "int8"),
        ("bool", "bool"),
        ("complex128", "complex64"),
        (jnp.bfloat16, "bfloat16"),
    ],
)
def test_canonical_types_are_those_of_jax(dtype, expected):
    array = np.ones((3, 2), dtype)
    result = canonical(array)
    assert result.dtype.name == expected == jnp.asarray(result).dtype.name
    assert (result == 1).all()


@pytest.mark.parametrize(
    "of", [lambda array: to_host("X", array), lambda array: ArrayDataset(X=array).arrays["X"]]
)
def test_bytes_in_the_order_of_another_machine_are_put_in_that_of_this_one(of):
    """JAX refuses them, and FITS and NetCDF files have them."""
    for dtype in (">f4", ">i8", "<f8"):
        array = np.arange(6).reshape(3, 2).astype(dtype)
        np.testing.assert_array_equal(of(array), array)
        assert of(array).dtype == array.dtype.newbyteorder("=")
        assert jax.typeof(of(array)).shape == (3, 2)
    native = np.ones(3)
    assert of(native) is native


def test_canonical_keeps_doubles_in_64_bit_mode():
    with jax.enable_x64(True):
        array = np.array([1e300, 1.0])
        assert canonical(array) is array


def test_canonical_is_contiguous_and_free_where_nothing_changes():
    ready = np.ones((3, 2), np.float32)
    assert canonical(ready) is ready
    assert canonical(np.asfortranarray(ready)).flags.c_contiguous
    device = jnp.ones(3)
    assert canonical(device) is device
    assert canonical(np.float32(2.0) * np.ones(())).shape == ()


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.array([1, 2**40]), str(2**40)),
        (np.array([-(2**31) - 1, 0]), str(-(2**31) - 1)),
        (np.array([2**33], np.uint64), str(2**33)),
        (np.array([np.nan, -1e300, np.inf]), "1e+300"),
    ],
)
def test_canonical_never_wraps_or_overflows(array, says):
    with pytest.raises(DataError) as caught:
        canonical(array, "id")
    assert "'id'" in str(caught.value)
    assert says in str(caught.value)


@given(hnp.arrays(np.int64, st.integers(0, 8), elements=st.integers(-(2**31), 2**31 - 1)))
def test_canonical_keeps_every_value_in_range(array):
    np.testing.assert_array_equal(canonical(array), array)


def test_canonical_keeps_infinities_and_nan():
    np.testing.assert_array_equal(
        canonical(np.array([np.inf, -np.inf, np.nan])), np.float32([np.inf, -np.inf, np.nan])
    )


def test_plain_data_has_no_row_labels():
    for value in (
        [1.0],
        np.ones(2),
        jnp.ones(2),
        pl.Series([1.0]),
        pd.Series([1.0, 2.0]),
        pd.DataFrame({"a": [1.0]}, index=pd.Index([0])),
        xr.DataArray([1.0, 2.0], dims="obs"),
        xr.DataArray(1.0),
    ):
        assert row_coord(value) is None


@pytest.mark.parametrize(
    ("index", "dim", "labels"),
    [
        (pd.RangeIndex(2, name="unit"), "unit", [0, 1]),
        (pd.RangeIndex(5, 7), None, [5, 6]),
        (pd.Index(["TX", "CA"], name="state"), "state", ["TX", "CA"]),
        (pd.CategoricalIndex(["TX", "CA"]), None, ["TX", "CA"]),
        (pd.Index([0.5, np.nan]), None, [0.5, np.nan]),
        (pd.MultiIndex.from_tuples([("TX", 2020), ("CA", 2021)]), None, ["TX, 2020", "CA, 2021"]),
        (
            pd.MultiIndex.from_tuples([("TX", 1.5), (None, 2.0)], names=["state", "x"]),
            "state_x",
            ["TX, 1.5", "nan, 2.0"],
        ),
        (pd.PeriodIndex(["2020-01", "2020-02"], freq="M"), None, ["2020-01", "2020-02"]),
    ],
)
def test_a_pandas_index_labels_the_rows(index, dim, labels):
    for value in (pd.Series([1.0, 2.0], index=index), pd.DataFrame({"a": [1, 2]}, index=index)):
        coord = row_coord(value)
        assert coord.dim == dim
        assert coord.labels.dtype.kind != "O"
        np.testing.assert_array_equal(coord.labels, np.array(labels))


def test_dates_stay_dates():
    index = pd.date_range("2020-01-01", periods=3)
    coord = row_coord(pd.Series([1.0, 2.0, 3.0], index=index))
    assert coord.labels.dtype.kind == "M"
    np.testing.assert_array_equal(coord.labels, index.to_numpy())


def test_an_xarray_coordinate_labels_the_rows():
    array = xr.DataArray(
        np.ones((2, 3)), dims=["unit", "t"], coords={"unit": [0, 1], "t": [1, 2, 3]}
    )
    assert row_coord(array).dim == "unit"
    np.testing.assert_array_equal(row_coord(array).labels, [0, 1])
    assert row_coord(array.T).dim == "t"
    assert row_coord(array.drop_vars("unit")) is None
