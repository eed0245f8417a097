"""Every source of batches reads the same, and says which batch is wrong where one is."""

from __future__ import annotations

import functools
from collections import namedtuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from aimz_lab.data import ArrayDataset, ArrayLoader, as_source, is_batches
from aimz_lab.errors import ArgumentError, DataError, DataTypeError

X = np.arange(14.0).reshape(7, 2)
y = np.arange(7.0)
SLICES = [slice(0, 3), slice(3, 6), slice(6, 7)]
Pair = namedtuple("Pair", ["y", "X"])


class Again:
    """An iterable that begins anew each time, and can do nothing else."""

    def __init__(self, *batches):
        self.batches, self.times = batches, 0

    def __iter__(self):
        self.times += 1
        return iter(self.batches)


class Holds:
    """An array-like that hands out the array that it holds."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


class DuckDataLoader(Again):
    """What is read of a PyTorch DataLoader, which yields lists."""

    def __init__(self, dataset, sampler, *batches):
        super().__init__(*batches)
        self.dataset, self.sampler = dataset, sampler


def loader(**options):
    options = {"batch_size": 3, **options}
    return ArrayLoader(ArrayDataset(X=X, y=y), jax.random.key(0), **options)


def generate():
    for rows in SLICES:
        yield {"X": X[rows], "y": y[rows]}


def generate_numbered(epoch):
    yield from ({"X": X[rows] + epoch, "y": y[rows]} for rows in SLICES)


SOURCES = {
    "loader": loader,
    "device dataset": lambda: ArrayLoader(
        ArrayDataset(X=X, y=y, to_jax=True), jax.random.key(0), batch_size=3
    ),
    "loader with a device": lambda: loader(device=jax.devices()[0]),
    "pairs of a loader": lambda: list(loader()),
    "padded pairs": lambda: [
        ({"X": np.pad(X[rows], [(0, 2), (0, 0)], mode="edge"), "y": np.pad(y[rows], (0, 2))}, 2)
        for rows in SLICES
    ],
    "generator function": lambda: generate,
    "generator": generate,
    "partial": lambda: functools.partial(lambda rows: ((X[r], y[r]) for r in rows), SLICES),
    "list of mappings": lambda: list(generate()),
    "tuples": lambda: Again(*((X[rows], y[rows]) for rows in SLICES)),
    "lists": lambda: Again(*([X[rows], y[rows]] for rows in SLICES)),
    "list of tuples": lambda: [(X[rows], y[rows]) for rows in SLICES],
    "named tuples": lambda: Again(*(Pair(y=y[rows], X=X[rows]) for rows in SLICES)),
    "nested lists": lambda: Again(*((X[rows].tolist(), y[rows].tolist()) for rows in SLICES)),
    "jax arrays": lambda: Again(*((jnp.asarray(X[r]), jnp.asarray(y[r])) for r in SLICES)),
    "pandas": lambda: Again(*((pd.DataFrame(X[r]), pd.Series(y[r])) for r in SLICES)),
    "polars": lambda: Again(*((pl.DataFrame(X[r]), pl.Series(y[r])) for r in SLICES)),
    "xarray": lambda: Again(
        *(xr.Dataset({"X": (("obs", "k"), X[r]), "y": ("obs", y[r])}) for r in SLICES)
    ),
}


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
def test_every_source_gives_the_same_batches(make):
    assert is_batches(make())
    batches = list(as_source(make()).epoch(0))
    assert [len(batch["y"]) for batch in batches] == [3, 3, 1]
    for batch, rows in zip(batches, SLICES, strict=True):
        assert set(batch) == {"X", "y"}
        np.testing.assert_array_equal(batch["X"], X[rows])
        np.testing.assert_array_equal(batch["y"], y[rows])
        assert {array.dtype.name for array in batch.values()} == {"float32"}


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
@pytest.mark.parametrize("start", [0, 1, 3])
def test_an_epoch_can_begin_later(make, start):
    rest = [batch["y"].tolist() for batch in as_source(make()).epoch(0, start)]
    assert rest == [y[rows].tolist() for rows in SLICES[start:]]


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
def test_sources_can_be_read_again_or_say_that_they_cannot(make):
    source = as_source(make())
    first = [batch["X"].tolist() for batch in source.epoch(0)]
    if source.reiterable:
        assert [batch["X"].tolist() for batch in source.epoch(1)] == first
    else:
        with pytest.raises(DataError, match=r"Epoch 2 .* used up .*batches, not batches\(\)"):
            source.epoch(1)


def test_only_an_iterator_is_used_up():
    used_up = [name for name, make in SOURCES.items() if not as_source(make()).reiterable]
    assert used_up == ["generator"]


def test_a_loader_source_follows_the_epochs_of_the_loader_and_leaves_it_alone():
    shuffled = loader(shuffle=True)
    source = as_source(shuffled)
    for epoch in (0, 5):
        expected = [y[rows].tolist() for rows in shuffled.index_batches(epoch)]
        assert [batch["y"].tolist() for batch in source.epoch(epoch)] == expected
    assert shuffled.epoch == 0
    assert source.loader is shuffled


def test_device_data_stays_on_the_device():
    source = as_source(ArrayLoader(ArrayDataset(y=y, to_jax=True), jax.random.key(0)))
    assert isinstance(next(source.epoch(0))["y"], jax.Array)


def test_a_function_is_told_the_epoch_if_it_asks():
    source = as_source(generate_numbered)
    np.testing.assert_array_equal(next(source.epoch(4))["X"], X[:3] + 4)


def test_a_source_is_opened_once_an_epoch():
    batches = Again(*generate())
    source = as_source(batches)
    assert batches.times == 0
    list(source.epoch(0))
    list(source.epoch(1))
    assert batches.times == 2


def test_fields_are_known_at_once_or_after_a_batch():
    assert as_source(loader()).fields == ("X", "y")
    source = as_source(generate)
    assert source.fields is None
    next(source.epoch(0))
    assert source.fields == ("X", "y")


def test_rows_are_known_or_told():
    assert as_source(loader()).n_obs == 7
    assert as_source(loader(), n_obs=100).n_obs == 100
    assert as_source(generate).n_obs is None
    assert as_source(generate, n_obs=np.int64(7)).n_obs == 7
    for n_obs in (0, 7.0, True):
        with pytest.raises(ArgumentError, match="n_obs="):
            as_source(generate, n_obs=n_obs)


def test_a_data_loader_knows_its_rows_by_its_sampler():
    class Endless:
        def __len__(self):
            raise TypeError("it streams")

    batches = [[X[rows], y[rows]] for rows in SLICES]
    assert as_source(DuckDataLoader(range(9), range(7), *batches)).n_obs == 7
    assert as_source(DuckDataLoader(range(9), object(), *batches)).n_obs == 9
    assert as_source(DuckDataLoader(Endless(), Endless(), *batches)).n_obs is None
    assert as_source(DuckDataLoader(range(9), range(7), *batches), n_obs=5).n_obs == 5


@pytest.mark.slow
def test_a_real_data_loader():
    torch = pytest.importorskip("torch")
    data = torch.utils.data
    tensors = data.TensorDataset(torch.as_tensor(X), torch.as_tensor(y))
    source = as_source(data.DataLoader(tensors, batch_size=3, shuffle=True))
    assert source.n_obs == 7
    for epoch in range(2):
        batches = list(source.epoch(epoch))
        assert sorted(np.concatenate([batch["y"] for batch in batches])) == y.tolist()
        assert [batch["X"].shape for batch in batches] == [(3, 2), (3, 2), (1, 2)]

    class Stream(data.IterableDataset):
        def __iter__(self):
            return iter(zip(X, y, strict=True))

    source = as_source(data.DataLoader(Stream(), batch_size=4))
    assert source.n_obs is None
    np.testing.assert_array_equal(np.concatenate([b["X"] for b in source.epoch(0)]), X)


def test_a_real_grain_loader():
    grain = pytest.importorskip("grain")
    rows = grain.MapDataset.source([{"X": X[i], "y": y[i]} for i in range(7)])
    source = as_source(rows.batch(3).to_iter_dataset())
    for epoch in range(2):
        batches = list(source.epoch(epoch))
        np.testing.assert_array_equal(np.concatenate([batch["X"] for batch in batches]), X)


def test_other_names_for_the_parts_of_a_tuple():
    batches = Again((X, y), (X, y))
    batch = next(as_source(batches, names=("features", "outcome")).epoch(0))
    assert list(batch) == ["features", "outcome"]


def test_fewer_parts_than_names_and_single_arrays():
    assert list(next(as_source(Again((X,))).epoch(0))) == ["X"]
    assert list(next(as_source(Again(X)).epoch(0))) == ["X"]
    assert list(next(as_source(Again({"X": X, "y": None})).epoch(0))) == ["X"]


def test_buffers_may_be_used_again():
    def reusing():
        buffer = np.empty(4, np.float32)  # in JAX's type already, so that no conversion copies it
        for i in range(3):
            buffer[:] = i
            yield {
                "whole": buffer,
                "part": buffer[:],
                "list": [i] * 4,
                "double": buffer * 1.0,
                "xarray": xr.DataArray(buffer, dims="row"),
                "wrapper": Holds(buffer),
                "pandas": pd.Series(buffer, copy=False),
            }

    batches = list(as_source(reusing).epoch(0))
    for name in batches[0]:
        assert [set(batch[name].tolist()) for batch in batches] == [{0}, {1}, {2}], name


def test_batches_are_brought_to_the_type_of_the_first():
    source = as_source(Again({"y": [0.5]}, {"y": [1]}, {"y": np.float16([2.0])}))
    assert [batch["y"].dtype.name for batch in source.epoch(0)] == ["float32"] * 3


@pytest.mark.parametrize(
    ("second", "says", "kind"),
    [
        ({"X": X, "y": y[:4]}, "'X' has 7, 'y' has 4", DataError),
        ({"X": X}, "has the fields X, and the first batch X, y", DataError),
        ({"X": X[:, :1], "y": y}, r"field 'X' have the shape \(1,\), and \(2,\)", DataError),
        ({"X": X[:0], "y": y[:0]}, "empty", DataError),
        ({"X": X, "y": y, "w": y}, "has the fields X, y, w", DataError),
        ({"X": X, "y": ["a"] * 7}, "'y' holds text", DataTypeError),
        ({"X": X, "y": np.complex64(y)}, "'y' is complex64, and float32", DataTypeError),
        ({"X": X, 1: y}, "not by 1", DataTypeError),
        (
            {"X": X, "y": np.where(y == 2, np.nan, y)},
            "field 'y' has 1 row .* row 2: nan",
            DataError,
        ),
        ((X, y, y), r"3 parts, and only 2 have a name \(X, y\)", DataError),
        (({"X": X, "y": y}, 7), "7 of its 7 rows are said to be padding", DataError),
        (({"X": X, "y": y}, -1), "-1 of its 7 rows", DataError),
        ((X, 3.0), "'y' is a single value", DataError),
        (None, "not NoneType", DataTypeError),
        (3.0, "not float", DataTypeError),
    ],
)
def test_a_bad_batch_is_named_by_its_number(second, says, kind):
    batches = as_source(Again({"X": X, "y": y}, second)).epoch(2)
    next(batches)
    with pytest.raises(kind, match=f"^Batch 2 of epoch 3: .*{says}"):
        next(batches)


def test_whole_numbers_do_not_become_narrower():
    batches = as_source(Again({"y": np.int8([1])}, {"y": np.int32([1])})).epoch(0)
    next(batches)
    with pytest.raises(DataTypeError, match="'y' is int32, and int8 in the first batch"):
        next(batches)


def test_values_that_are_not_finite_can_be_allowed():
    bad = np.array([1.0, np.inf])
    dataset = ArrayDataset(y=bad)
    with pytest.raises(DataError, match="'y' has 1 row"):
        as_source(ArrayLoader(dataset, jax.random.key(0)))
    for data in (ArrayLoader(dataset, jax.random.key(0)), Again({"y": bad})):
        batch = next(as_source(data, allow_nonfinite=True).epoch(0))
        np.testing.assert_array_equal(batch["y"], bad)


def test_an_empty_epoch_is_an_error():
    for data in (Again(), lambda: iter(())):
        with pytest.raises(DataError, match="Epoch 1 has no batches"):
            list(as_source(data).epoch(0))


@pytest.mark.parametrize(
    "data",
    [
        X,
        jnp.ones(3),
        pd.DataFrame(X),
        pl.Series(y),
        X.tolist(),
        [],
        [X, X],
        {"X": X, "y": y},
        ArrayDataset(X=X),
        "batches",
        3,
        None,
    ],
    ids=lambda data: type(data).__name__,
)
def test_rows_are_no_source(data):
    assert not is_batches(data)
    with pytest.raises(DataTypeError, match="no source of batches; pass arrays by field"):
        as_source(data)


def test_functions_that_cannot_serve_are_refused():
    def needs_a_path(path):
        yield path

    with pytest.raises(DataTypeError, match=r"needs_a_path must be callable.*'path'.*partial"):
        as_source(needs_a_path)
    for result in (None, {"X": X}, X):
        with pytest.raises(DataTypeError, match="it must yield batches"):
            as_source(lambda result=result: result).epoch(0)


def test_a_source_passes_through():
    source = as_source(generate)
    assert as_source(source) is source


@pytest.mark.slow
@given(st.integers(1, 40), st.integers(1, 45), st.booleans(), st.data())
def test_streamed_epochs_cover_every_row_once(n, batch_size, shuffle, data):
    reference = ArrayLoader(
        ArrayDataset(y=np.arange(n)), jax.random.key(n), batch_size=batch_size, shuffle=shuffle
    )

    def stream(epoch):
        yield from reference.batches(epoch)

    start = data.draw(st.integers(0, len(reference)))
    source = as_source(stream)
    head = [batch["y"] for batch in source.epoch(3)][:start]
    rest = [batch["y"] for batch in source.epoch(3, start)]
    np.testing.assert_array_equal(np.sort(np.concatenate(head + rest)), np.arange(n))


def test_a_streams_generator_is_closed_when_reading_stops():
    closed = []

    def streaming():
        try:
            yield from generate()
        finally:
            closed.append(True)

    batches = as_source(streaming).epoch(0)
    next(batches)
    batches.close()
    assert closed == [True]
