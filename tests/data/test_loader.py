"""The loader: every row once an epoch, resumable anywhere, and nothing of the caller's changed."""

from __future__ import annotations

import itertools
import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import random
from jax.sharding import NamedSharding, PartitionSpec

from aimz_lab.data import ArrayDataset, ArrayLoader, epoch_order, pad_rows, padding_waste
from aimz_lab.errors import (
    ArgumentError,
    CheckpointError,
    DataError,
    DataTypeError,
)

SIZES = st.integers(1, 60)
BATCH_SIZES = st.integers(1, 70)
SEEDS = st.integers(0, 2**32 - 1)


def make(n=10, batch_size=3, *, seed=0, **options):
    dataset = ArrayDataset(X=np.arange(2 * n).reshape(n, 2), y=np.arange(n))
    return ArrayLoader(dataset, random.key(seed), batch_size=batch_size, **options)


def rows(batches):
    return [batch["y"].tolist() for batch, _ in batches]


def test_the_guides_loop():
    X, y = np.ones((20, 3)), np.zeros(20)
    loader = ArrayLoader(
        ArrayDataset(X=X, y=y),
        rng_key=random.key(0),
        batch_size=10,
        shuffle=True,
        device=jax.devices()[0],
    )
    for batch, n_pad in loader:
        assert {name: array.shape for name, array in batch.items()} == {"X": (10, 3), "y": (10,)}
        assert all(array.devices() == {jax.devices()[0]} for array in batch.values())
        assert n_pad == 0


def test_a_process_alone_brings_the_whole_of_each_batch():
    dataset = ArrayDataset(X=np.arange(20).reshape(10, 2), y=np.arange(10))
    loader = ArrayLoader(dataset, random.key(0), batch_size=3, shuffle=True, process_shard=True)
    assert rows(loader) == rows(make(shuffle=True))
    with pytest.raises(ArgumentError, match="chooses the devices; leave device= out"):
        ArrayLoader(dataset, random.key(0), device=jax.devices()[0], process_shard=True)


@pytest.mark.slow
@given(SIZES, BATCH_SIZES, SEEDS, st.booleans(), st.booleans(), st.booleans())
def test_every_row_comes_exactly_once(n, batch_size, seed, shuffle, to_jax, place):
    dataset = ArrayDataset(X=np.arange(2 * n).reshape(n, 2), y=np.arange(n), to_jax=to_jax)
    device = jax.devices()[0] if place else None
    loader = ArrayLoader(
        dataset, random.key(seed), batch_size=batch_size, shuffle=shuffle, device=device
    )
    batches = list(loader)
    assert len(batches) == len(loader) == -(-n // batch_size)
    y = np.concatenate([batch["y"] for batch, _ in batches])
    X = np.concatenate([batch["X"] for batch, _ in batches])
    np.testing.assert_array_equal(np.sort(y), np.arange(n))
    np.testing.assert_array_equal(X[:, 0], 2 * y)  # the fields stay together
    assert [len(batch["y"]) for batch, _ in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert all(n_pad == 0 for _, n_pad in batches)
    if not shuffle:
        np.testing.assert_array_equal(y, np.arange(n))


def test_the_order_is_that_of_key_and_epoch():
    loader = make(20, 6, seed=3, shuffle=True)
    for epoch in range(3):
        order = epoch_order(20, random.key(3), epoch)
        assert list(itertools.chain(*rows(loader))) == order.tolist()
        np.testing.assert_array_equal(np.concatenate(list(loader.index_batches(epoch))), order)


@given(SIZES, BATCH_SIZES, st.booleans(), st.data())
def test_index_batches_begin_anywhere(n, batch_size, shuffle, data):
    loader = make(n, batch_size, shuffle=shuffle)
    start = data.draw(st.integers(0, len(loader)))
    whole = [batch.tolist() for batch in loader.index_batches(2)]
    rest = list(loader.index_batches(2, start))
    assert [batch.tolist() for batch in rest] == whole[start:]
    assert all(isinstance(batch, np.ndarray) and batch.dtype.kind == "i" for batch in rest)
    taken = [batch["y"].tolist() for batch in loader.batches(2, start)]
    assert taken == whole[start:]
    assert loader.epoch == 0  # reading an epoch by number does not move the loader


def test_epochs_and_batches_out_of_range_are_refused():
    loader = make()
    for epoch, start in ((-1, 0), (0, -1), (0, 5)):
        with pytest.raises(ArgumentError, match="4 batches"):
            loader.index_batches(epoch, start)


def test_iterators_at_the_same_time_have_an_epoch_each():
    loader = make(20, 6, shuffle=True)
    expected = [[batch.tolist() for batch in loader.index_batches(e)] for e in range(2)]
    pairs = list(zip(loader, loader, strict=True))
    assert [batch["y"].tolist() for (batch, _), _ in pairs] == expected[0]
    assert [batch["y"].tolist() for _, (batch, _) in pairs] == expected[1]
    assert loader.epoch == 2


def test_the_epoch_counts_what_is_under_way():
    loader = make(6, 2)
    assert loader.epoch == 0
    iterator = iter(loader)
    assert [loader.epoch for _ in iterator] == [0, 0, 1]
    next(iter(loader))
    assert loader.epoch == 1
    iter(loader)
    assert loader.epoch == 2  # the one before was left


@given(st.integers(1, 25), st.integers(1, 30), st.booleans(), SEEDS, st.integers(0, 60))
def test_a_loader_resumed_anywhere_goes_on_the_same(n, batch_size, shuffle, seed, steps):
    def endless(loader):
        while True:
            yield from rows(loader)

    def step(loader, count):
        """Take so many batches, over as many epochs as it needs."""
        taken = []
        while len(taken) < count:
            for batch, _ in loader:
                taken.append(batch["y"].tolist())
                if len(taken) == count:
                    break
        return taken

    whole = list(
        itertools.islice(endless(make(n, batch_size, seed=seed, shuffle=shuffle)), steps + 7)
    )
    interrupted = make(n, batch_size, seed=seed, shuffle=shuffle)
    assert step(interrupted, steps) == whole[:steps]
    state = json.loads(json.dumps(interrupted.state_dict()))
    assert (state["epoch"], state["batch"]) == divmod(steps, len(interrupted))

    resumed = make(n, batch_size, seed=seed, shuffle=shuffle)
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    assert step(resumed, 7) == whole[steps:]


def test_an_old_iterator_does_not_move_a_resumed_loader():
    loader = make(9, 2)
    old = iter(loader)
    next(old)
    loader.load_state_dict({**loader.state_dict(), "epoch": 1, "batch": 3})
    next(old)
    assert loader.state_dict()["batch"] == 3
    assert loader.epoch == 1


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"n": 11}, "n is 10 there and 11 here"),
        ({"batch_size": 5}, "batch_size is 3 there and 5 here"),
        ({"shuffle": False}, "shuffle is True there and False here"),
        ({"seed": 1}, "key is .*'words': \\[0, 0\\].* there and .*\\[0, 1\\].* here"),
    ],
)
def test_a_state_of_another_loader_is_refused(other, says):
    state = make(shuffle=True).state_dict()
    loader = make(**{"shuffle": True, **other})
    next(iter(loader))
    before = loader.state_dict()
    with pytest.raises(CheckpointError, match=says):
        loader.load_state_dict(state)
    assert loader.state_dict() == before


def test_the_key_only_matters_where_there_is_an_order():
    make(seed=1).load_state_dict(make(seed=2).state_dict())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"batch": 4}, "from 0 to 3"),
        ({"batch": -1}, "from 0 to 3"),
        ({"batch": 1.0}, "from 0 to 3"),
        ({"epoch": -1}, "epoch -1"),
        ({"epoch": True}, "epoch True"),
        ({"version": 9}, "version 9"),
    ],
)
def test_a_broken_state_is_refused(change, says):
    loader = make()
    with pytest.raises(CheckpointError, match=says):
        loader.load_state_dict({**loader.state_dict(), **change})
    assert loader.epoch == 0


def test_what_is_no_state_is_refused():
    for state in ({}, {"epoch": 1}, None, [1]):
        with pytest.raises(CheckpointError, match="batch, batch_size, epoch"):
            make().load_state_dict(state)


def test_unshuffled_batches_share_the_datas_memory():
    loader = make()
    for batch, _ in loader:
        assert np.shares_memory(batch["X"], loader.dataset.arrays["X"])
        assert not batch["X"].flags.writeable


def test_shuffled_batches_are_free_to_be_changed():
    loader = make(shuffle=True)
    before = loader.dataset.arrays["X"].copy()
    for batch, _ in loader:
        batch["X"][:] = -1
    np.testing.assert_array_equal(loader.dataset.arrays["X"], before)


def test_device_datasets_give_device_batches():
    dataset = ArrayDataset(y=np.arange(10.0), to_jax=True)
    for shuffle in (False, True):
        loader = ArrayLoader(dataset, random.key(0), batch_size=4, shuffle=shuffle)
        for batch, n_pad in loader:
            assert isinstance(batch["y"], jax.Array)
            assert n_pad == 0


def test_a_last_batch_of_one_row():
    shapes = [batch["X"].shape for batch, _ in make(7, 3, shuffle=True, device=jax.devices()[0])]
    assert shapes == [(3, 2), (3, 2), (1, 2)]


def test_placed_batches_are_in_the_types_of_jax_and_never_wrap():
    device = jax.devices()[0]
    dataset = ArrayDataset(X=np.array([0.5, 1.5]), id=np.array([1, 2**40]))
    loader = ArrayLoader(dataset, random.key(0), batch_size=1, device=device)
    batches = iter(loader)
    assert {v.dtype.name for v in next(batches)[0].values()} == {"float32", "int32"}
    with pytest.raises(DataError, match="'id' holds 1099511627776"):
        next(batches)


def test_a_sharding_places_the_batches():
    sharding = NamedSharding(jax.make_mesh((1,), ("rows",)), PartitionSpec("rows"))
    batch, n_pad = next(iter(make(device=sharding)))
    assert batch["X"].sharding == sharding
    assert n_pad == 0


def test_a_sharding_that_does_not_fit_names_the_field():
    sharding = NamedSharding(jax.make_mesh((1,), ("rows",)), PartitionSpec("rows", None))
    with pytest.raises(
        DataError, match=r"field 'y', .*1 axes and .* names 2\. Shard the rows alone"
    ):
        make(device=sharding)


@pytest.mark.parametrize("batch_size", [0, -1, 2.0, True, "32", None, np.float32(3)])
def test_bad_batch_sizes_are_refused(batch_size):
    with pytest.raises(ArgumentError, match="batch_size=.*at least 1") as caught:
        make(batch_size=batch_size)
    assert isinstance(caught.value, ValueError)


def test_bad_arguments_are_refused():
    dataset = ArrayDataset(y=[1.0])
    with pytest.raises(DataTypeError, match=r"ArrayDataset\(X=X, y=y\)"):
        ArrayLoader({"y": [1.0]}, random.key(0))
    with pytest.raises(DataTypeError, match="rng_key"):
        ArrayLoader(dataset, 0)
    with pytest.raises(DataTypeError, match="shuffle must be"):
        ArrayLoader(dataset, random.key(0), shuffle="yes")
    with pytest.raises(DataTypeError, match="device must be"):
        ArrayLoader(dataset, random.key(0), device="cpu")


def test_the_settings_can_be_read_and_not_written():
    legacy = random.PRNGKey(4)
    loader = ArrayLoader(ArrayDataset(y=[1.0]), legacy, batch_size=np.int64(8), shuffle=True)
    assert loader.rng_key == random.key(4)
    assert type(loader.batch_size) is int
    assert (loader.batch_size, loader.shuffle, loader.device) == (8, True, None)
    for name in ("dataset", "rng_key", "batch_size", "shuffle", "device", "epoch"):
        with pytest.raises(AttributeError):
            setattr(loader, name, None)


def test_the_key_of_the_caller_is_not_used_up():
    key = random.key(9)
    data = np.asarray(random.key_data(key)).copy()
    list(ArrayLoader(ArrayDataset(y=np.arange(5)), key, shuffle=True))
    np.testing.assert_array_equal(random.key_data(key), data)


def test_it_can_be_pickled_in_mid_epoch():
    loader = make(9, 2, shuffle=True)
    iterator = iter(loader)
    next(iterator)
    copy = pickle.loads(pickle.dumps(loader))
    assert copy.state_dict() == loader.state_dict()
    assert rows(copy) == [batch.tolist() for batch in loader.index_batches(1)]


def test_batches_convert_to_jax_without_a_warning():
    batch, _ = next(iter(make()))
    assert jnp.asarray(batch["X"]).dtype == jnp.int32


def test_what_a_notebook_shows():
    html = make(100, 32, shuffle=True)._repr_html_()
    for part in ("100", "X, y", "32", "shuffled anew", "where the data is", "none"):
        assert f">{part}<" in html or part in html
    assert "advice" not in html
    assert "batch_size=32" in repr(make(100, 32))
    assert "batches=4" in repr(make(100, 32))


@pytest.mark.parametrize("multiple", [1, 3, 8])
def test_the_plan_is_what_padding_its_batches_gives(multiple):
    loader = ArrayLoader(
        ArrayDataset(X=np.ones((10, 2)), y=np.arange(10)), jax.random.key(0), batch_size=4
    )
    plan = loader.plan(row_multiple=multiple)
    padded = [pad_rows(batch, multiple) for batch in loader.batches(epoch=0)]
    assert plan.n_pad.tolist() == [n for _, n in padded]
    assert plan.rows_computed == sum(len(batch["y"]) for batch, _ in padded)
    assert plan.wasted == pytest.approx(padding_waste(10, 4, multiple)[1])
    assert plan.bytes_moved == 12 * plan.rows_computed  # float32 and int32 on the device
    assert [rows[0] for rows in loader.index_batches(0)] == plan.starts.tolist()
    with pytest.raises(ArgumentError, match="row_multiple"):
        loader.plan(row_multiple=0)
