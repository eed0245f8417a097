"""Check what a store says it holds against its files, before anything is read or allocated."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from aimz_lab.errors import ArtifactError
from aimz_lab.predictive.results.damage import CHUNK, METADATA, damaged, missing_part
from aimz_lab.system.lazy_modules import zarr

METADATA_BYTES = 64 * 2**20
"""Largest size of a metadata file, in bytes."""

_COMPRESSED = 1000
"""No compressed chunk holds more than so many times its bytes; LZ4 reaches 255."""

_EXTRA_BYTES = 64
"""Largest size of the header and the checksum of a chunk, in bytes."""

_TEXT_BYTES = 2**31
"""Largest size of a chunk of text, in bytes, whose length follows from no shape."""


def check_metadata(files: Mapping[str, int], path: str) -> None:
    """Check the sizes of the metadata files of a store.

    Args:
        files: Sizes of its files, by key.
        path: Its name in messages.

    Raises:
        ArtifactError: If one is too large to be read.
    """
    for key, size in files.items():
        if key.endswith(METADATA) and size > METADATA_BYTES:
            msg = f"{path} is not a result of this package: {key} has {size:,} bytes."
            raise ArtifactError(msg)


def check_there(metadata: Iterable[str], files: Mapping[str, int], path: str) -> None:
    """Raise :class:`ArtifactGoneError` if a group or an array is missing.

    Args:
        metadata: Keys of the metadata files that were written.
        files: Sizes of the files that are left, by key.
        path: The store's name in messages.
    """
    for key in sorted(metadata, key=lambda key: (key.count("/"), key)):
        if key not in files:
            raise missing_part(path, key.removesuffix(f"/{METADATA}"))


def check_sizes(
    root: zarr.Group, written: Mapping[str, list[str]], files: Mapping[str, int], path: str
) -> None:
    """Check that all chunks of a store are there, and that each may hold what it should.

    Args:
        root: Its root.
        written: The names of its arrays, by group.
        files: Sizes of its files, by key.
        path: Its name in messages.

    Raises:
        ArtifactGoneError: If an array or a chunk is missing.
        ArtifactError: If a chunk is too large, or too small for its array.
    """
    chunks: dict[str, dict[str, int]] = {}
    for key, size in files.items():
        if chunk := CHUNK.search(key):
            chunks.setdefault(key[: chunk.start()], {})[key] = size
    for group, names in written.items():
        for name in (f"{group}/{each}" for each in names):
            _check_array(root[name], name, chunks.get(name, {}), path)


def _check_array(
    array: zarr.Array | zarr.Group, name: str, chunks: Mapping[str, int], path: str
) -> None:
    if not isinstance(array, zarr.Array):
        raise damaged(path, f"{name} is no array")
    grid = zip(array.shape, array.chunks, strict=True)
    count = math.prod(-(-size // chunk) for size, chunk in grid)
    if len(chunks) != count:
        there = f"{len(chunks):,} of {count:,} chunks of {name}"
        if len(chunks) > count:
            raise damaged(path, f"there are {there}")
        raise missing_part(path, f"a part of {name}, where {there} are left, and the rest")
    least, most = _chunk_bytes(array)
    for key, size in chunks.items():
        if not least <= size <= most:
            between = f"{most:,}" if least == most else f"{least:,} to {most:,}"
            raise damaged(path, f"{key} has {size:,} bytes, of {between}")


def _chunk_bytes(array: zarr.Array) -> tuple[int, int]:
    """Return the fewest and the most bytes of a chunk's file, with its checksum."""
    size = math.prod(array.chunks) * array.dtype.itemsize
    if not array.compressors:
        return size + 4, size + 4
    if array.dtype.kind in "OT":
        return size // _COMPRESSED, _TEXT_BYTES
    return size // _COMPRESSED, size + _EXTRA_BYTES
