"""Stores that were damaged or made by others are refused, and never read as other values."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import zlib
from pathlib import Path

import fsspec
import numpy as np
import pytest
import xarray as xr
import zarr

from aimz_lab.errors import ArtifactError, ArtifactGoneError
from aimz_lab.predictive import open_results
from aimz_lab.predictive.results import store


def write(output_dir: object) -> str:
    """Write a small result with all kinds of values; return its path."""
    rng = np.random.default_rng(0)
    with store.new_store(output_dir, "y") as writer:
        for name, dtype in (("y", "f4"), ("count", "i4"), ("flag", "?")):
            array = writer.create_array(
                "posterior_predictive",
                name,
                dims=("chain", "draw", "kind", "row"),
                stored_dims=("chain", "draw", "row", "kind"),
                shape=(1, 6, 20, 2),
                chunks=(1, 6, 10, 2),
                dtype=np.dtype(dtype),
            )
            array[:] = (3 * rng.normal(size=array.shape)).astype(dtype)
        coords = {
            "row": [f"row {i}" for i in range(20)],
            "kind": np.array(["a", "b"], object),
            "when": ("draw", np.arange(6).astype("M8[D]").astype("M8[ns]")),
        }
        attrs = {"rng_key": [0, 7], "scale": 1.5}
        writer.write_dataset("posterior_predictive", xr.Dataset({}, coords, attrs))
        writer.write_dataset("posterior", xr.Dataset({"b": (("chain", "draw"), np.ones((1, 6)))}))
        writer.publish()
    return writer.path


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return Path(write(tmp_path_factory.mktemp("written")))


@pytest.fixture
def copied(written, tmp_path):
    """A copy of a store, to damage."""
    return Path(shutil.copytree(written, tmp_path / written.name))


def identical(tree: xr.DataTree, other: xr.DataTree) -> bool:
    return set(tree.children) == set(other.children) and all(
        tree[name].to_dataset().identical(other[name].to_dataset()) for name in tree.children
    )


def read_by(loaded: int, path: object) -> xr.DataTree:
    """Open a store; if it is lazy, as another process gets it."""
    tree = open_results(path)
    return (pickle.loads(pickle.dumps(tree)) if not loaded else tree).load()


@pytest.mark.slow
@pytest.mark.parametrize("loaded", [store.LOADED_BYTES, 0])
def test_no_flipped_bit_is_read_as_another_value(copied, monkeypatch, loaded):
    monkeypatch.setattr(store, "LOADED_BYTES", loaded)
    expected = open_results(copied).load()
    files = sorted(path for path in copied.rglob("*") if path.is_file())
    chance = random.Random(loaded)
    refused = 0
    for file in [*files, *chance.choices(files, k=60)]:
        data = file.read_bytes()
        at = chance.randrange(8 * len(data))
        file.write_bytes(bytes(byte ^ (i == at // 8) << at % 8 for i, byte in enumerate(data)))
        try:
            tree = read_by(loaded, copied)
        except ArtifactError:
            refused += 1
        else:
            assert identical(tree, expected), f"bit {at} of {file}"
        file.write_bytes(data)
    assert refused >= 60
    assert identical(read_by(loaded, copied), expected)


def test_a_flipped_bit_of_a_remote_store_is_noticed(monkeypatch):
    monkeypatch.setattr(store, "LOADED_BYTES", 0)
    path = write("memory://flipped")
    files = fsspec.filesystem("memory")
    [chunk, *_] = [name for name in files.find(path) if "/y/c/" in name]
    data = bytearray(files.cat(chunk))
    data[7] ^= 4
    tree = open_results(path)
    files.pipe(chunk, bytes(data))
    with pytest.raises(ArtifactError, match=r"memory://.*/y/c/.*is not as it was written"):
        tree["posterior_predictive"]["y"].load()


def test_every_array_has_zarrs_own_checksum(written):
    for path in written.rglob("zarr.json"):
        metadata = json.loads(path.read_text())
        if metadata["node_type"] == "array":
            assert metadata["codecs"][-1]["name"] == "crc32c", path
    array = zarr.open_array(written / "posterior_predictive" / "y", mode="r")
    expected = open_results(written)["posterior_predictive"]["y"].transpose(
        "chain", "draw", "row", ...
    )
    np.testing.assert_array_equal(array[:], expected)


def forge(path: Path, name: str, change) -> None:
    """Change the metadata of an array, with checksums that are right again."""
    file = path / name / "zarr.json"
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))
    root = json.loads((path / "zarr.json").read_text())
    mark = root["attributes"]["aimz_lab"]
    mark["checksums"][f"{name}/zarr.json"] = zlib.crc32(file.read_bytes())
    del mark["checksum"]
    mark["checksum"] = zlib.crc32(json.dumps(root["attributes"], sort_keys=True).encode())
    (path / "zarr.json").write_text(json.dumps(root))


def huge(document):
    document["shape"] = [10**12]
    document["chunk_grid"]["configuration"]["chunk_shape"] = [10**12]


def many_chunks(document):
    document["shape"] = [10**12]


def pickled(document):
    document["codecs"] = [{"name": "numcodecs.pickle", "configuration": {}}]


def sharded(document):
    document["codecs"] = [{"name": "sharding_indexed", "configuration": {}}]


@pytest.mark.parametrize("name", ["posterior_predictive/row", "posterior_predictive/kind"])
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (huge, "is damaged: .* bytes, of"),
        (many_chunks, "is missing"),
        (pickled, r"codecs that no result has: .*numcodecs.pickle"),
        (sharded, "codecs that no result has"),
        (lambda document: document.pop("shape"), "damaged"),
        (lambda document: document.update(data_type="unheard of"), "damaged"),
        (lambda document: document.update(node_type="group"), "damaged|cannot be read"),
        (lambda document: document.update(shape=[-3]), "damaged|cannot be read"),
        (lambda document: document.update(attributes={"units": "x since y"}), "damaged"),
    ],
)
def test_metadata_that_ask_for_too_much_are_refused_before_it_is_given(copied, name, change, told):
    forge(copied, name, change)
    with pytest.raises((ArtifactError, ArtifactGoneError), match=told):
        open_results(copied)


def fifo(path):
    os.mkfifo(path / "posterior" / "b" / "c" / "9")


def fifo_of_metadata(path):
    (path / "posterior" / "b" / "zarr.json").unlink()
    os.mkfifo(path / "posterior" / "b" / "zarr.json")


def device(path):
    (path / "posterior" / "zarr.json").unlink()
    (path / "posterior" / "zarr.json").symlink_to("/dev/zero")


def loop(path):
    (path / "posterior" / "again").symlink_to(path)


def deep(path):
    (path / ("d/" * 200)).mkdir(parents=True)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="makes special files")
@pytest.mark.parametrize("change", [fifo, fifo_of_metadata, device, loop, deep])
def test_what_is_no_regular_file_is_refused_and_not_waited_for(copied, change):
    change(copied)
    with pytest.raises(ArtifactError, match="is no regular file"):
        open_results(copied)


def test_metadata_of_any_size_or_depth_are_refused(copied):
    (copied / "zarr.json").write_text('{"a":' * 100_000)
    with pytest.raises(ArtifactError, match="damaged"):
        open_results(copied)
    with (copied / "zarr.json").open("wb") as file:
        file.truncate(2**36)  # takes no room on the disk
    with pytest.raises(ArtifactError, match=r"zarr.json has 68,719,476,736 bytes"):
        open_results(copied)


def test_what_was_added_later_is_refused(copied):
    shutil.copytree(copied / "posterior", copied / "posterior_predictive" / "more")
    with pytest.raises(ArtifactError, match=r"more/zarr.json is not as it was written"):
        open_results(copied)


def test_the_metadata_of_older_formats_are_never_read(copied):
    shutil.rmtree(copied / "posterior" / "b")
    zarr.create_array(
        copied / "posterior" / "b", shape=(1, 6), dtype="f4", zarr_format=2, filters=None
    )
    with pytest.raises(ArtifactGoneError, match="posterior/b is missing"):
        open_results(copied)


@pytest.mark.parametrize("mark", [{"format": 2}, {"format": 2, "complete": True, "arrays": 5}, []])
def test_a_mark_of_another_shape_is_refused(copied, mark):
    root = json.loads((copied / "zarr.json").read_text())
    attributes = {"aimz_lab": mark}
    checksum = zlib.crc32(json.dumps(attributes, sort_keys=True).encode())
    if isinstance(mark, dict):
        mark = {**mark, "checksum": checksum}
    (copied / "zarr.json").write_text(json.dumps({**root, "attributes": {"aimz_lab": mark}}))
    with pytest.raises(ArtifactError, match="damaged|not a result"):
        open_results(copied)
