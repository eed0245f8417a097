"""Write and read named arrays and a manifest in one file, atomically.

Why not a checkpoint library: a run has few arrays to keep, on one host, of some kilobytes to some
megabytes. Orbax wrote ten files in 80-140 ms for them. One ``.npz``, synced to the disk,
took 1 ms, needs only NumPy, and opens anywhere with ``numpy.load``. The file is written under
another name, synced, and renamed: under its own name it is complete.

The manifest has a checksum of its own, and the type, shape and checksum of each array. Nothing is
compressed, so that no file holds more than its own size, and nothing is ever unpickled: a file
from elsewhere is compared with its manifest before any memory is taken for it.
"""

from __future__ import annotations

import contextlib
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from aimz_lab.errors import CheckpointError
from aimz_lab.files import (
    Limits,
    Malformed,
    Value,
    checksum_of,
    machine_bytes,
    open_regular,
    refusing,
    sealed_text,
    unsealed,
)
from aimz_lab.inference.checkpoint.trees import check_names
from aimz_lab.types import JsonObject

PARTIAL = ".partial"
"""Suffix of a file that is still being written."""

MOST_ARRAYS = 30_000
"""Arrays of a file: the values of its directory take memory before anything can be checked."""

_MANIFEST = "manifest.json"
_LIMITS = Limits()
_READ = 1 << 20
_DIRECTORY = 2 << 20
_UNREADABLE = (
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What :mod:`zipfile` raises for a file that is damaged, or uses what is never written here."""


def write_archive(path: Path, manifest: JsonObject, arrays: Mapping[str, np.ndarray]) -> str:
    """Write a file atomically: after a crash it is complete, or as before.

    Args:
        path: The file; it is replaced.
        manifest: Values that JSON can hold.
        arrays: Arrays of numbers by name.

    Returns:
        The checksum of the manifest, and so of everything.

    Raises:
        OSError: If the file cannot be written.
        Malformed: If there is more than would be read.
    """
    stored = {name: _bits(array) for name, array in arrays.items()}
    table = {name: _entry(arrays[name], array) for name, array in stored.items()}
    content = {"content": manifest, "arrays": table}
    text = sealed_text(content, limits=_LIMITS)
    if len(table) > MOST_ARRAYS:
        msg = f"there are {len(table):,} arrays, and at most {MOST_ARRAYS:,} go into one file"
        raise Malformed(msg)
    partial = path.with_name(path.name + PARTIAL)
    try:
        with partial.open("wb") as file:
            _write_members(file, text, stored)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)
    return checksum_of(text)


def _write_members(file: BinaryIO, text: bytes, stored: Mapping[str, np.ndarray]) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo(_MANIFEST), text)
        for name, array in stored.items():
            _write_array(archive, name, array)


def read_archive(path: Path) -> tuple[JsonObject, dict[str, np.ndarray]]:
    """Read a file completely, and verify its checksums; see :func:`read_with_checksum`."""
    manifest, arrays, _ = read_with_checksum(path)
    return manifest, arrays


def read_with_checksum(path: Path) -> tuple[JsonObject, dict[str, np.ndarray], str]:
    """Read a file completely, and verify its checksums.

    Args:
        path: From :func:`write_archive`.

    Returns:
        The manifest, the arrays by name, and the checksum that :func:`write_archive` returned.

    Raises:
        CheckpointError: If the file is missing, damaged, or no archive.
    """
    with refusing(f"{path} is no complete checkpoint", CheckpointError), open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        memory = machine_bytes()
        if memory is not None and size > memory:
            msg = f"its {size:,} bytes are more than the memory of this machine"
            raise Malformed(msg)
        try:
            with zipfile.ZipFile(_BoundedReads(file)) as archive:
                return _read(archive, size)
        except Malformed:
            raise
        except _UNREADABLE as error:
            msg = f"it is damaged, or no such file ({type(error).__name__}: {error})"
            raise Malformed(msg) from error


def _bits(array: np.ndarray) -> np.ndarray:
    """Return an array of NumPy's own types: of others, such as bfloat16, the bits."""
    array = np.asarray(array, order="C")
    if array.dtype.kind in "biufc":
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype.isbuiltin != 2:
        msg = f"arrays of {array.dtype} cannot be written"
        raise Malformed(msg)
    return array.view(f"u{array.dtype.itemsize}")


def _entry(array: np.ndarray, stored: np.ndarray) -> JsonObject:
    """Describe an array in the manifest: its type, its shape, the checksum of its member."""
    dtype = stored.dtype.str if array.dtype.kind in "biufc" else str(array.dtype)
    checksum = zlib.crc32(_data(stored), zlib.crc32(_npy_header(stored.dtype, stored.shape)))
    return {"dtype": dtype, "shape": list(array.shape), "crc32": checksum}


def _data(array: np.ndarray) -> memoryview:
    return memoryview(array.reshape(-1).view(np.uint8))


def _npy_header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """Return the header of NumPy's file format, version 1.0, as it is always written here."""
    text = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': {shape!r}, }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode("ascii")


def _write_array(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    info = zipfile.ZipInfo(f"{name}.npy")
    header, data = _npy_header(array.dtype, array.shape), _data(array)
    info.file_size = len(header) + data.nbytes
    with archive.open(info, "w") as member:
        member.write(header)
        member.write(data)


class _BoundedReads:
    """A file that is read in small parts: the directory of a zip file says itself how long it is.

    Args:
        file: The file.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        """Read at most :data:`_DIRECTORY` bytes."""
        data = self._file.read(size if 0 <= size <= _DIRECTORY else _DIRECTORY + 1)
        if len(data) > _DIRECTORY:
            msg = f"its directory has more than {_DIRECTORY:,} bytes"
            raise Malformed(msg)
        return data


def _read(archive: zipfile.ZipFile, size: int) -> tuple[JsonObject, dict[str, np.ndarray], str]:
    members = {member.filename: member for member in archive.infolist()}
    if len(members) < len(archive.infolist()) or len(members) > MOST_ARRAYS + 1:
        msg = f"it has {len(archive.infolist()):,} members; some twice, or too many"
        raise Malformed(msg)
    if sum(member.file_size for member in members.values()) > size:
        msg = "its members are larger than the file"
        raise Malformed(msg)
    if _MANIFEST not in members:
        msg = f"it has no {_MANIFEST}"
        raise Malformed(msg)
    text = _read_text(archive, members.pop(_MANIFEST))
    content = unsealed(text, _LIMITS)
    found = Value(content).fields("content", "arrays")
    found["content"].named()
    table = found["arrays"].named()
    check_names(members, [f"{name}.npy" for name in table])
    arrays = {
        name: _read_array(archive, members[f"{name}.npy"], entry) for name, entry in table.items()
    }
    return content["content"], arrays, checksum_of(text)


def _read_text(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    if member.file_size > _LIMITS.size:
        msg = f"its {_MANIFEST} has {member.file_size:,} bytes; at most {_LIMITS.size:,} are read"
        raise Malformed(msg)
    text = np.empty(member.file_size, np.uint8)
    with _opened(archive, member, member.file_size) as file:
        _fill(text, file)
    return text.tobytes()


def _read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, entry: Value) -> np.ndarray:
    fields = entry.fields("dtype", "shape", "crc32")
    dtype, shape = fields["dtype"].dtype(), fields["shape"].shape()
    stored = dtype if dtype.kind in "biufc" else np.dtype(f"u{dtype.itemsize}")
    header = _npy_header(stored, shape)
    size = len(header) + math.prod(shape) * stored.itemsize
    if fields["crc32"].whole(most=2**32 - 1) != member.CRC:
        msg = f"{member.filename} is not the array that the manifest describes"
        raise Malformed(msg)
    with _opened(archive, member, size) as file:
        if file.read(len(header)) != header:
            msg = f"the header of {member.filename} says otherwise than the manifest"
            raise Malformed(msg)
        array = np.empty(shape, stored)
        _fill(array.reshape(-1).view(np.uint8), file)
    return array.view(dtype)


@contextlib.contextmanager
def _opened(archive: zipfile.ZipFile, member: zipfile.ZipInfo, size: int) -> Iterator[BinaryIO]:
    """Open a member of a known size, which is not compressed."""
    sizes = {member.file_size, member.compress_size}
    if member.compress_type != zipfile.ZIP_STORED or sizes != {size}:
        msg = (
            f"{member.filename} has {member.file_size:,} bytes, or is compressed; expected {size:,}"
        )
        raise Malformed(msg)
    with archive.open(member) as file:
        yield file


def _fill(buffer: np.ndarray, file: BinaryIO) -> None:
    """Read a member to its end, where its checksum is verified."""
    for begin in range(0, len(buffer), _READ):
        part = buffer[begin : begin + _READ]
        data = file.read(len(part))
        if len(data) < len(part):
            msg = "it ends too early"
            raise Malformed(msg)
        part[:] = np.frombuffer(data, np.uint8)


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where folders can be synced."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
