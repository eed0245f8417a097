"""A file of arrays is whole or refused, whatever happened to it."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aimz_lab.errors import CheckpointError
from aimz_lab.inference.checkpoint.archive import PARTIAL, read_archive, write_archive

ARRAYS = {
    "state/0": np.arange(12.0).reshape(3, 4),
    "state/1": np.array(7, np.int32),
    "history/epoch": np.repeat(np.arange(20, dtype=np.int32), 30),
    "history/loss": np.random.default_rng(0).normal(size=50).astype(np.float32),
}
MANIFEST = {"format": 1, "name": "kernel", "value": 0.1, "none": None}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "000001-step-5.npz"


@pytest.fixture
def content(path):
    write_archive(path, MANIFEST, ARRAYS)
    return path.read_bytes()


def assert_same(got, expected):
    manifest, arrays = got
    assert manifest == expected[0]
    assert list(arrays) == list(expected[1])
    for name, array in expected[1].items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)


def test_what_is_written_is_read(path, content):
    assert_same(read_archive(path), (MANIFEST, ARRAYS))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_numpy_alone_reads_it(path, content):
    with np.load(path, allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["history/loss"], ARRAYS["history/loss"])


@given(
    array=hnp.arrays(
        hnp.scalar_dtypes().filter(lambda d: d.kind in "biufc" and d.itemsize <= 16 and d.isnative),
        hnp.array_shapes(min_dims=0, min_side=0, max_side=4),
    )
)
def test_any_array_keeps_its_bits(tmp_path_factory, array):
    path = tmp_path_factory.mktemp("archive") / "a.npz"
    write_archive(path, {}, {"array": array})
    read = read_archive(path)[1]["array"]
    assert (read.dtype, read.shape, read.tobytes()) == (array.dtype, array.shape, array.tobytes())


@given(cut=st.floats(0, 1, exclude_max=True))
def test_no_beginning_of_a_file_is_taken_for_the_file(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("archive") / "a.npz"
    write_archive(path, MANIFEST, ARRAYS)
    content = path.read_bytes()
    path.write_bytes(content[: int(cut * len(content))])
    with pytest.raises(CheckpointError, match="no complete checkpoint"):
        read_archive(path)


@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_noticed_or_changes_nothing(tmp_path_factory, at, bit):
    """Some bits of a zip file's headers, such as times, mean nothing to us."""
    path = tmp_path_factory.mktemp("archive") / "a.npz"
    write_archive(path, MANIFEST, ARRAYS)
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 1 << bit
    path.write_bytes(content)
    try:
        read = read_archive(path)
    except CheckpointError:
        return
    assert_same(read, (MANIFEST, ARRAYS))


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_file_as_it_was(monkeypatch, path, content, failing):
    def fail(*args):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="no space"):
        write_archive(path, {"format": 2}, {})
    assert path.read_bytes() == content
    monkeypatch.undo()
    write_archive(path, {"format": 2}, {})
    assert_same(read_archive(path), ({"format": 2}, {}))
    assert not list(path.parent.glob(f"*{PARTIAL}"))


def test_nothing_is_unpickled(path):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError):
        read_archive(path)
    bombs = np.empty(1, object)
    bombs[0] = Bomb()
    np.savez(path, **{"manifest.json": np.zeros(1)}, bombs=bombs)
    with pytest.raises(CheckpointError):
        read_archive(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere.npz"):
        read_archive(tmp_path / "nowhere.npz")
