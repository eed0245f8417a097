"""What a loader's explorer says of an epoch: against the loader itself, run on real devices."""

from __future__ import annotations

import jax
import numpy as np
import pandas as pd
import pytest

from aimz_lab import ArrayDataset, ArrayLoader, lab
from aimz_lab.data import padding_waste
from aimz_lab.errors import ArgumentError, DataTypeError
from aimz_lab.lab.explorers.charts import Cells

pytest.importorskip("ipywidgets", reason="needs the lab extra: pip install 'aimz_lab[lab]'")

N = 100
X = np.arange(2.0 * N).reshape(N, 2)  # float64, which JAX holds in 4 bytes
Y = np.arange(N, dtype=np.int32)


def loader_of(**options):
    return ArrayLoader(ArrayDataset(X=X, y=Y), jax.random.key(3), **options)


def values(explorer):
    return explorer.table()["value"].to_dict()


@pytest.mark.parametrize("batch_size", [1, 30, 50, 100, 300])
@pytest.mark.parametrize("device", [None, jax.devices()[0]])
def test_the_plan_is_what_the_loader_yields(batch_size, device):
    loader = loader_of(batch_size=batch_size, device=device)
    found = values(lab.explore_loader(loader))
    batches = list(loader)
    n_pad = [n for _, n in batches]
    sizes = [len(batch["y"]) for batch, _ in batches]
    assert found["batches"] == len(batches) == len(loader)
    assert found["rows of padding"] == sum(n_pad)
    assert found["rows computed"] == sum(sizes)
    assert found["share of padding"] == pytest.approx(sum(n_pad) / sum(sizes))
    if device is not None:
        nbytes = [sum(array.nbytes for array in batch.values()) for batch, _ in batches]
        assert found["bytes moved in an epoch"] == sum(nbytes)
        assert found["bytes of a batch on devices"] == max(nbytes)
    assert found["bytes of the data"] == X.nbytes + Y.nbytes


@pytest.mark.parametrize("devices", [1, 3, 8])
def test_devices_that_are_not_there_are_planned_alike(devices):
    explorer = lab.explore_loader(loader_of(batch_size=30))
    view = explorer.set(devices=devices)
    n_pad, share = padding_waste(N, 30, devices)
    found = values(explorer)
    assert (found["rows of padding"], found["share of padding"]) == (n_pad, pytest.approx(share))
    assert found["bytes on each device"] * devices == found["bytes of a batch on devices"]
    assert found["bytes moved in an epoch"] == (N + n_pad) * 12
    explorer.set(numbers="batches")
    table = explorer.table()
    assert list(table["rows"]) == [30, 30, 30, 10]
    assert ((table["rows"] + table["padding"]) == devices * table["rows on each device"]).all()
    (cells,) = view.charts[0].layers
    assert isinstance(cells, Cells)
    assert (cells.values == 2).sum() == n_pad
    of_devices = {
        1: ["rows"],
        3: ["rows of devices 1, 3", "rows of device 2"],
        8: ["rows of devices 1, 3, ...", "rows of devices 2, 4, ..."],
    }[devices]
    assert [name for name, _ in cells.kinds][: len(of_devices)] == of_devices
    assert (cells.values >= 0).sum() == N + n_pad


def test_rows_of_a_batch_are_the_loaders_with_its_padding_marked():
    loader = loader_of(batch_size=30, shuffle=True)
    explorer = lab.explore_loader(loader)
    assert (explorer.values["epoch"], explorer.values["batch"]) == (1, 1)
    explorer.set(devices=8, numbers="rows", batch=4, epoch=3)
    *_, last = loader.index_batches(epoch=2)
    table = explorer.table()
    assert list(table.index) == [1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15, 16]
    assert list(table["row"]) == [*last[:6], *[last[-1]] * 6]
    assert list(table["kind"]) == ["data"] * 6 + ["padding"] * 6
    assert list(table["device"]) == [1, 1, 2, 2, 3, 3, 6, 6, 7, 7, 8, 8]
    np.testing.assert_array_equal(table["X[1]"], X[table["row"], 1])
    assert (loader.epoch, loader.batch_size) == (0, 30)
    assert next(batch["y"][0] for batch, _ in loader) == next(loader.index_batches(0))[0]


def test_other_batch_sizes_are_tried_and_dragged():
    explorer = lab.explore_loader(loader_of(batch_size=30))
    explorer.set(devices=8, batch=4)
    view = explorer.set(batch_size=50)
    assert "100 rows in 2 batches of 50 rows: 2 steps an epoch." in view.sentences
    assert explorer.controls["batch"].value == 2  # there is no fourth any more
    assert "batch_size=50 on 8 devices wastes 10.7% of the rows computed; 56 wastes 3.8%." in (
        view.sentences
    )
    line = view.charts[1].layers[0]
    expected = [100 * padding_waste(N, int(size), 8)[1] for size in line.x]
    np.testing.assert_allclose(line.y, expected)
    explorer.take({"kind": "drag", "name": "batch_size", "value": 63.7})
    explorer.wait()
    assert explorer.values["batch_size"] == 64
    with pytest.raises(ArgumentError, match="It goes from 1 to 2147483648"):
        explorer.set(epoch=0)
    with pytest.raises(ArgumentError, match="It goes from 1 to 100"):
        explorer.set(batch_size=101)
    with pytest.raises(ArgumentError, match="take 'abc'. It takes whole numbers from 1 to 100.$"):
        explorer.set(batch_size="abc")
    names = {"loader": loader_of(batch_size=30)}
    exec(explorer.code(), names)
    assert names["plan"].n_pad.tolist() == [0, 4]
    assert explorer.figure().axes[0].get_title(loc="left") == "Batches of an epoch"


@pytest.mark.parametrize(
    ("batch", "first", "place"), [(1, 1, 0), (31, 1, 30), (40, 10, 30), (100, 41, 59)]
)
def test_of_many_batches_those_around_the_chosen_one_are_shown(batch, first, place):
    explorer = lab.explore_loader(loader_of(batch_size=1))
    chart = explorer.set(batch=batch).charts[0]
    (cells,) = chart.layers
    assert chart.title == f"Batches {first} to {first + 59} of 100"
    assert (cells.x_names[0], cells.x_names[place]) == (str(first), str(batch))
    assert np.flatnonzero(cells.values[0] == 1).tolist() == [place]
    assert cells.kinds[1] == (f"batch {batch}, chosen", "data")


def test_a_batch_has_bytes_as_it_lies_and_on_devices():
    explorer = lab.explore_loader(loader_of(batch_size=30))
    batch, _ = next(iter(loader_of(batch_size=30)))
    nbytes = sum(array.nbytes for array in batch.values())  # float64 and int32, by NumPy
    found = values(explorer)
    assert found["bytes of a batch as it lies"] == nbytes == 30 * 20
    assert found["bytes of a batch on devices"] == 30 * 12
    held = "JAX holds numbers of 64 bits in 32"
    assert f"A batch takes 600 B as it lies, and 360 B on a device, where {held}." in (
        explorer.view.sentences
    )
    assert (
        f"A batch takes 600 B as it lies, and 384 B on 8 devices, where {held}, 48 B on each; "
        "an epoch moves 1.3 KiB."
    ) in explorer.set(devices=8).sentences
    small = ArrayLoader(ArrayDataset(y=Y), jax.random.key(0), batch_size=30)
    assert "A batch takes 120 B as it lies." in lab.explore_loader(small).view.sentences


def test_many_rows_share_cells_and_many_batches_are_left_out():
    rows = ArrayDataset(y=np.zeros(100_000, np.float32))
    explorer = lab.explore_loader(ArrayLoader(rows, jax.random.key(0), batch_size=1000))
    (cells,) = explorer.view.charts[0].layers
    assert cells.values.shape == (63, 60)  # of 16 rows each, of which the last has fewer
    assert (cells.values[:, 1:] == 0).all()
    assert (cells.values[:, 0] == 1).all()  # the chosen one
    assert cells.x_names[-2:] == ["59", "60"]
    assert (
        "1 batch of 100 rows: 1 step"
        in lab.explore_loader(loader_of(batch_size=300)).view.sentences[0]
    )


def test_tables_lists_and_arrays_on_disk_tell_their_plan(tmp_path):
    zarr = pytest.importorskip("zarr")
    frame = pd.DataFrame({"dose": np.arange(2000.0), "place": ["a", "b"] * 1000})
    explorer = lab.explore_loader(frame)
    explorer.set(devices=3, batch_size=500, numbers="rows")
    assert list(explorer.table().columns[-2:]) == ["dose", "place"]
    assert (explorer.table()["dose"] == explorer.table()["row"]).all()

    batches = [{"X": X[:5], "y": Y[:5]}, {"X": X[5:8], "y": Y[5:8]}]
    explorer = lab.explore_loader(batches)
    explorer.set(devices=4)
    assert values(explorer)["rows of padding"] == 3 + 1
    explorer.set(numbers="rows", batch=2)
    assert list(explorer.table()["y"]) == [5, 6, 7, 7]

    stored = zarr.create_array(str(tmp_path / "X"), shape=(40_000, 2), dtype="f4")
    stored[:] = np.arange(80_000, dtype=np.float32).reshape(-1, 2)
    explorer = lab.explore_loader({"X": stored})
    assert values(explorer)["batches"] == 3
    assert values(explorer)["bytes of a batch on devices"] == 16_384 * 8
    explorer.set(numbers="rows", batch=3)
    assert explorer.table()["X[0]"].iloc[-1] == 79_998


def test_a_stream_is_not_read_and_said_to_have_no_plan():
    read = []

    def batches():
        read.append(1)
        yield {"X": X, "y": Y}

    opened = batches()
    for stream in (batches, opened):
        explorer = lab.explore_loader(stream)
        assert explorer.controls == {}
        assert "does not tell how many rows" in explorer.view.sentences[0]
    assert read == []
    assert len(list(opened)) == 1
    with pytest.raises(DataTypeError, match="Wrap arrays"):
        lab.explore_loader(X)


class Torchlike:
    """A ``DataLoader`` of PyTorch, as far as it tells its length."""

    def __init__(self, rows, batch_size, *, drop_last):
        self.dataset = self.sampler = range(rows)
        self.batch_size, self.drop_last = batch_size, drop_last

    def __len__(self):
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self):
        raise AssertionError("it was read")


@pytest.mark.parametrize("drop_last", [True, False])
def test_a_torch_loader_is_planned_without_being_read(drop_last):
    explorer = lab.explore_loader(Torchlike(100, 30, drop_last=drop_last))
    explorer.set(devices=8)
    found = values(explorer)
    assert (found["rows"], found["batches"]) == ((90, 3) if drop_last else (100, 4))
    assert ("It drops 10 of 100 rows (drop_last)." in explorer.view.sentences) == drop_last


def test_a_loaders_own_sharding_decides_the_bytes():
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("rows",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("rows"))
    loader = loader_of(batch_size=30, device=sharding)
    found = values(lab.explore_loader(loader))
    shards = [array.addressable_shards for array in next(iter(loader))[0].values()]
    assert found["bytes on each device"] == sum(each[0].data.nbytes for each in shards)


@pytest.mark.parametrize("kind", ["loader", "dataset", "frame", "list"])
def test_the_code_gives_the_table_that_is_shown(kind):
    columns = {"row": 7 * np.arange(13), "dose": np.arange(13.0)}
    loader = {
        "loader": ArrayLoader(ArrayDataset(**columns), jax.random.key(1), batch_size=5),
        "dataset": ArrayDataset(**columns),
        "frame": pd.DataFrame(columns),
        "list": [
            {name: one[at] for name, one in columns.items()} for at in (np.r_[:4], np.r_[4:13])
        ],
    }[kind]
    explorer = lab.explore_loader(loader)
    several = {} if kind == "list" else {"batch_size": 4, "epoch": 2, "shuffle": True}
    for numbers in ("epoch", "batches", "rows"):
        explorer.set(**several, devices=4, batch=2, numbers=numbers)
        lines = explorer.code().splitlines()
        names = {"loader": loader}
        assert lines[0] == f"# loader is the {type(loader).__name__} that explore_loader was given."
        exec("\n".join(lines[:-1]), names)
        pd.testing.assert_frame_equal(eval(lines[-1], names), explorer.table())
    shown = explorer.table()
    assert shown["row (given)"].tolist() == (7 * shown["row"]).tolist()
    if kind == "list":
        assert explorer.view.sentences[0].startswith("13 rows in 2 batches of 4 to 9 rows")
