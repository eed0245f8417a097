"""Labels of rows and columns: which ones belong together, and which contradict each other."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
import xarray as xr

from aimz_lab import ArrayDataset
from aimz_lab.data import as_source, column_names, same_columns
from aimz_lab.errors import DataError

VALUES = np.arange(4.0)
DAYS = pd.date_range("2025-01-01", periods=4)
PAIRS = pd.MultiIndex.from_tuples([(0, 0), (0, 1), (1, 0), (1, 1)], names=["shop", "day"])
TUPLES = pd.MultiIndex.from_tuples([(2, 1), (1, 2), (3, 1), (1, 3)])


def series(index=None):
    return pd.Series(VALUES, index=index)


def array(labels, dim="unit"):
    return xr.DataArray(VALUES, dims=dim, coords={dim: labels})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (series(list("abcd")), series(list("dcba"))),
        (series(list("abcd")), series(list("abce"))),
        (series(), series([3, 2, 1, 0])),
        (series(), series([1, 4, 7, 9])),  # row 1 is another one in each
        (series(), series(pd.Index([4, 5, 6, 7], dtype=object))),
        (series(DAYS), series(DAYS[::-1])),
        (series(DAYS.tz_localize("UTC")), series(DAYS)),
        (series(DAYS.tz_localize("UTC")), series(DAYS.tz_localize("Asia/Tokyo"))),
        (series(PAIRS), series(PAIRS.swaplevel())),
        (series(TUPLES), series(TUPLES.swaplevel())),
        (series([1, 2, 3, 4]), series(list("1234"))),
        (series(list("abcd")), array(list("bacd"))),
        (array([0, 1, 2, 3]), array([1, 0, 2, 3])),
        (series(list("aabb")), series(list("abab"))),
        (array(list("abcd")), xr.DataArray(np.ones((4, 4)), dims=("time", "unit"))),
    ],
)
def test_rows_labelled_otherwise_are_refused(one, other):
    for first, second in ((one, other), (other, one)):
        with pytest.raises(DataError, match="'X' and 'y' label their rows differently|Put them"):
            ArrayDataset(X=first, y=second)


@pytest.mark.parametrize(
    "other",
    [
        series(list("abcd")),
        array(list("abcd")),
        series(),  # nobody labelled these
        pl.Series(VALUES),
        VALUES,
        xr.DataArray(VALUES, dims="unit"),
    ],
)
def test_rows_with_the_same_labels_or_none_belong_together(other):
    index = pd.Index(list("abcd"), name="unit")
    assert ArrayDataset(X=series(index), y=other).row_coord.labels.tolist() == list("abcd")


def test_other_numbers_than_those_counted_may_be_other_rows_of_a_table():
    with pytest.raises(DataError, match="row 0 is 50 in 'X' and 0 in 'y'"):
        ArrayDataset(X=series([50, 51, 52, 53]), y=series())


def test_named_numbers_and_texts_agree_with_rows_that_are_only_counted():
    assert len(ArrayDataset(X=series(pd.Index([1, 2, 3, 4], name="id")), y=series())) == 4
    assert len(ArrayDataset(X=series(list("aabb")), y=series(list("aabb")))) == 4


def test_a_third_field_is_compared_with_each():
    with pytest.raises(DataError, match="'y' and 'w'"):
        ArrayDataset(X=VALUES, y=series(), w=series([3, 2, 1, 0]))
    with pytest.raises(DataError, match="'X' and 'w'"):
        ArrayDataset(X=series(DAYS), y=series(), w=series(DAYS[::-1]))


def test_columns_have_names_whatever_they_are_labelled_with():
    assert column_names(pd.DataFrame([[1, 2]], columns=[2020, 2021])) == ("2020", "2021")
    assert column_names(pl.DataFrame({"a": [1], "b": [2]})) == ("a", "b")
    table = xr.DataArray(
        np.ones((2, 2)), dims=("row", "channel"), coords={"channel": ["tv", "web"]}
    )
    assert column_names(table) == ("tv", "web")
    cube = xr.DataArray(np.ones((2, 1, 2)), dims=("row", "t", "c"), coords={"c": ["tv", "web"]})
    assert column_names(cube) == ("t=?", "c=tv", "c=web")
    assert column_names(cube) != column_names(cube.transpose("row", "c", "t"))
    assert column_names(pd.Series([1.0])) is column_names(np.ones((2, 2))) is None


def test_columns_that_only_count_fit_others_but_not_their_own_in_another_order():
    assert same_columns(("0", "1"), ("a", "b"))
    assert not same_columns(("0", "1"), ("1", "0"))
    assert not same_columns(("a", "b"), ("b", "a"))
    assert not same_columns(("0", "1"), ("0", "1", "2"))


def test_batches_of_a_stream_keep_their_columns_and_rows():
    table = pd.DataFrame(np.ones((4, 2)), columns=["a", "b"])

    def read(*batches):
        return list(as_source(batches).epoch(0))

    y = series()
    assert len(read({"X": table, "y": y}, {"X": table, "y": y})) == 2
    with pytest.raises(DataError, match=r"Batch 2 of epoch 1: field 'X' has the columns b, a"):
        read({"X": table, "y": y}, {"X": table[["b", "a"]], "y": y})
    with pytest.raises(DataError, match=r"Batch 1 of epoch 1: Fields 'X' and 'y' label"):
        read({"X": table, "y": y[::-1]})
