"""Files from elsewhere: pipes, devices, bombs and false claims are refused at once, in words."""

from __future__ import annotations

import hashlib
import os
import socket
import tracemalloc
import zipfile
import zlib

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from aimz_lab import ImpactModel
from aimz_lab.errors import (
    AimzLabError,
    ArgumentError,
    ArtifactError,
    ArtifactGoneError,
    CheckpointError,
    DataError,
)
from aimz_lab.files import sealed_text
from aimz_lab.inference.checkpoint.archive import read_archive, write_archive
from aimz_lab.inference.checkpoint.checkpoint import load_checkpoint, next_path
from aimz_lab.lab.callbacks import History
from tests.lab.runs import begun, feed
from tests.runs import mean_field

NUMBERS = {"state/0": np.arange(6.0), "state/1": np.array(3, np.int32)}


def kernel(X, y=None):
    b = numpyro.sample("b", dist.Normal())
    numpyro.sample("y", dist.Normal(b * X, 1.0), obs=y)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    im = ImpactModel(kernel, jax.random.key(0), svi=mean_field(kernel))
    im.set_posterior_sample({"b": np.arange(4.0, dtype=np.float32)})
    return im.save(tmp_path_factory.mktemp("saved") / "model")


@pytest.fixture
def model(model_folder, tmp_path):
    """A folder of a saved model, to be changed."""
    folder = tmp_path / "model"
    folder.mkdir()
    for file in model_folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def load(folder):
    return ImpactModel.load(folder, kernel, svi=mean_field(kernel))


def pipe(path):
    os.mkfifo(path)


def device(path):
    path.symlink_to("/dev/zero")


def terminal(path):
    path.symlink_to("/dev/tty")


def folder(path):
    path.mkdir()


def unix_socket(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(os.path.relpath(path))


def loop(path):
    path.symlink_to(path)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("make", [pipe, device, terminal, folder, unix_socket, loop])
def test_only_regular_files_are_read(make, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("model.json", "arrays.npz"):
        whole = (model / name).read_bytes()
        (model / name).unlink()
        make(model / name)
        with pytest.raises(ArtifactError, match=r"model.* (regular file|cannot be opened)"):
            load(model)
        (model / name).rmdir() if make is folder else (model / name).unlink()
        (model / name).write_bytes(whole)
    place = tmp_path / "000001-step-1.npz"
    make(place)
    with pytest.raises(CheckpointError, match="000001-step-1"):
        load_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="000001-step-1"):
        load_checkpoint(place)
    with pytest.raises(DataError, match="000001-step-1"):
        History.from_json(place)


def test_links_to_files_are_read(model, tmp_path):
    for name in ("model.json", "arrays.npz"):
        (model / name).rename(tmp_path / name)
        (model / name).symlink_to(tmp_path / name)
    assert load(model).posterior["b"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("path", [5, None, b"x", "a\0b", "~nobody-of-this-name/x"])
def test_what_is_no_path_is_refused(path):
    said = "no path|no stored model|does not exist|is not allowed|opened"
    errors = (ArgumentError, ArtifactError, ArtifactGoneError, CheckpointError, DataError)
    for read in (load, load_checkpoint, History.from_json):
        with pytest.raises(errors, match=said):
            read(path)


def test_the_millionth_checkpoint_is_newer_than_the_one_before(tmp_path):
    for name in ("999999-step-1.npz", "1000000-step-2.npz"):
        (tmp_path / name).touch()
    assert next_path(tmp_path, 3).name == "1000001-step-3.npz"


def npz(path, members, *, packed=zipfile.ZIP_STORED):
    """Write a zip file of these members."""
    with zipfile.ZipFile(path, "w", packed) as file:
        for name, data in members:
            file.writestr(name, data)


def manifest(arrays, content=None):
    return sealed_text({"content": content or {}, "arrays": arrays})


def header(dtype, shape):
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape!r}, }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def claims(path, shape, data, packed=zipfile.ZIP_STORED):
    """Write a file whose manifest, with fitting checksums, claims a shape."""
    member = header("<f8", shape) + data
    entry = {"dtype": "<f8", "shape": list(shape), "crc32": zlib.crc32(member)}
    npz(path, [("manifest.json", manifest({"a": entry})), ("a.npy", member)], packed=packed)


def directory_of(path, count):
    npz(path, ((f"{i}.npy", b"") for i in range(count)))


def twice(path):
    entry = {"dtype": "<f8", "shape": [], "crc32": 0}
    with pytest.warns(UserWarning, match="Duplicate"):
        npz(path, [("manifest.json", manifest({"a": entry})), *[("a.npy", header("<f8", ()))] * 2])


def in_manifest(path, value):
    """Write a manifest of this text as a value, with a checksum that fits."""
    rest = f'"content": {value}}}'.encode()
    text = f'{{"sha256": "{hashlib.sha256(rest).hexdigest()}",'.encode() + rest
    npz(path, [("manifest.json", text)])


BOMBS = {
    "a header of 10^12 numbers": lambda p: npz(p, [("a.npy", header("<f8", (10**12,)))]),
    "a claim of 10^12 numbers": lambda p: claims(p, (10**9, 1000), b""),
    "a claim that numbers overflow": lambda p: claims(p, (2**31 - 1,) * 3, b""),
    "compressed zeros": lambda p: claims(p, (4 << 20,), bytes(32 << 20), zipfile.ZIP_DEFLATED),
    "zeros without a manifest": lambda p: npz(
        p, [("a.npy", bytes(64 << 20))], packed=zipfile.ZIP_DEFLATED
    ),
    "a compressed manifest": lambda p: npz(
        p, [("manifest.json", b" " * (64 << 20))], packed=zipfile.ZIP_DEFLATED
    ),
    "many members": lambda p: directory_of(p, 40_000),
    "a member twice": twice,
    "a deep manifest": lambda p: in_manifest(p, "[" * 100_000 + "]" * 100_000),
    "a manifest of many values": lambda p: in_manifest(p, "[" + "0," * 2_000_000 + "0]"),
    "a manifest of long text": lambda p: in_manifest(p, f'"{"x" * (33 << 20)}"'),
    "a manifest without a checksum": lambda p: npz(p, [("manifest.json", "{}")]),
    "a manifest of no object": lambda p: in_manifest(p, "[]"),
    "a field twice": lambda p: in_manifest(p, '1, "content": 1'),
    "a table of no object": lambda p: in_manifest(p, manifest([])),
    "NaN": lambda p: in_manifest(p, "NaN"),
    "a huge integer": lambda p: in_manifest(p, "9" * 10_000),
    "a file of zeros": lambda p: p.write_bytes(bytes(1000)),
    "four terabytes": lambda p: (p.touch(), os.truncate(p, 1 << 42)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_what_a_file_claims_takes_no_memory(name, tmp_path):
    path = tmp_path / "000001-step-1.npz"
    BOMBS[name](path)
    tracemalloc.start()
    with pytest.raises(CheckpointError, match="000001-step-1.npz is no complete checkpoint"):
        load_checkpoint(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 45 << 20


def test_arrays_that_the_manifest_does_not_describe_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    write_archive(path, {}, NUMBERS)
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    for change in (
        {"state/0.npy": members["state/0.npy"].replace(b"<f8", b"<i8")},
        {"state/0.npy": members["state/0.npy"][:-8]},
        {"state/0.npy": members["state/0.npy"][::-1]},
        {"state/2.npy": b""},
        {"../state/0.npy": b""},
    ):
        npz(path, (members | change).items())
        with pytest.raises(CheckpointError, match="npy"):
            read_archive(path)
    npz(path, members.items())
    np.testing.assert_array_equal(read_archive(path)[0], {})


def test_no_object_is_made_of_an_array(tmp_path):
    path = tmp_path / "a.npz"
    for dtype in ("|O", "O", "<U3", "V8", "<M8[s]"):
        member = header(dtype, (1,)) + bytes(8)
        entry = {"dtype": dtype, "shape": [1], "crc32": zlib.crc32(member)}
        npz(path, [("manifest.json", manifest({"a": entry})), ("a.npy", member)])
        with pytest.raises(CheckpointError, match="expected a type of numbers"):
            read_archive(path)


def test_arrays_of_another_model_are_refused(model, tmp_path):
    im = load(model)
    im.set_posterior_sample({"b": np.arange(4.0, dtype=np.float32) + 1})
    other = im.save(tmp_path / "other")
    (model / "arrays.npz").write_bytes((other / "arrays.npz").read_bytes())
    with pytest.raises(ArtifactError, match=r"arrays.npz is not the one that was saved with model"):
        load(model)


@pytest.mark.slow
def test_every_byte_of_a_model_counts(model):
    """One bit of each byte; unused fields of a zip file aside, each flip is refused."""
    expected = load(model)
    identical = 0
    for name in ("model.json", "arrays.npz"):
        whole = (model / name).read_bytes()
        for at in range(0, len(whole), 3):
            changed = bytearray(whole)
            changed[at] ^= 1 << at % 8
            (model / name).write_bytes(bytes(changed))
            try:
                found = load(model)
            except AimzLabError:
                continue
            identical += 1
            assert found.rng_key == expected.rng_key
            assert found.posterior["b"].tolist() == expected.posterior["b"].tolist()
            assert found.describe() == expected.describe()
        (model / name).write_bytes(whole)
    assert identical < 60


@pytest.mark.slow
def test_every_byte_of_a_history_counts(tmp_path):
    run = begun(n_obs=20, batch_size=10)
    feed(run, [40.0, np.nan], grad_norm=[3.0, 2.0])
    run.finish("completed", "done")
    path = tmp_path / "run.json"
    History(run).to_json(path)
    whole = path.read_bytes()
    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 1 << at % 8
        path.write_bytes(bytes(changed))
        with pytest.raises(DataError, match="checksum"):
            History.from_json(path)
