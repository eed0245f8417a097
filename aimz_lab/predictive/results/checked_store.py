"""Zarr stores that verify what is read from them, byte for byte, and what is written to them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import google_crc32c
from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import WrapperStore

from aimz_lab.predictive.results.damage import CHUNK, METADATA, damaged, missing_part
from aimz_lab.predictive.results.owner import Owner

_CODECS = {"blosc", "bytes", "crc32c", "vlen-utf8"}
"""The codecs that this package writes; none of them runs code of the file's."""

_CHECKSUM_BYTES = 4


class CheckedStore(WrapperStore):
    """A store for reading that raises where anything is missing or is not as it was written.

    It verifies the checksum at the end of each chunk, and that of each metadata file. Zarr gets
    the chunks without their checksums, which it would verify a second time.

    Args:
        store: The store.
        path: Its name in messages.
        owner: Owner of a temporary store, kept alive by this object.
        checksums: Checksums of the metadata files by key, except for the root's.
    """

    def __init__(
        self,
        store: Store,
        path: str = "",
        owner: Owner | None = None,
        checksums: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(store)
        self._path, self._owner = path, owner
        self.checksums = dict(checksums or {})

    def __reduce__(self) -> tuple[object, ...]:
        return CheckedStore, (self._store, self._path, None, self.checksums)

    def _with_store(self, store: Store) -> CheckedStore:
        return CheckedStore(store, self._path, self._owner, self.checksums)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Read a key; see the base class.

        Raises:
            ArtifactGoneError: If it is missing, but was written.
            ArtifactError: If it is damaged, or was not written by this package.
        """
        return self._verified(key, await self._store.get(key, prototype), byte_range)

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Read a key as :meth:`get` does; newer releases of Zarr read local files so."""
        value = self._store.get_sync(key, prototype=prototype)
        return self._verified(key, value, byte_range)

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Read parts of several keys; see :meth:`get`."""
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    _get_many = Store._get_many  # that of WrapperStore goes past get

    def _verified(
        self, key: str, value: Buffer | None, byte_range: ByteRequest | None
    ) -> Buffer | None:
        if key == METADATA:
            return value  # the root's has its own checksum
        if key.endswith(f"/{METADATA}"):
            value = self._metadata(key, value)
        elif CHUNK.search(key):
            value = self._chunk(key, value)
        else:
            return None  # such as the metadata of older formats
        return value if value is None or byte_range is None else _cut(value, byte_range)

    def _chunk(self, key: str, value: Buffer | None) -> Buffer:
        if value is None:
            raise missing_part(self._path, key)
        data = value.as_numpy_array()
        there = bytes(data[-_CHECKSUM_BYTES:])
        computed = google_crc32c.value(data[:-_CHECKSUM_BYTES]).to_bytes(4, "little")
        if there != computed:
            raise damaged(self._path, f"{key}, of {len(value):,} bytes, is not as it was written")
        return value[:-_CHECKSUM_BYTES]

    def _metadata(self, key: str, value: Buffer | None) -> Buffer | None:
        written = self.checksums.get(key)
        if value is None:
            if written is None:
                return None
            raise missing_part(self._path, key.removesuffix(f"/{METADATA}"))
        data = value.to_bytes()
        if zlib.crc32(data) != written:
            raise damaged(self._path, f"{key} is not as it was written")
        document = json.loads(data)
        if document.get("node_type") != "array":
            return value
        foreign = [one.get("name") for one in document["codecs"] if one.get("name") not in _CODECS]
        if foreign or document.get("storage_transformers"):
            raise damaged(self._path, f"{key} names codecs that no result has: {foreign}")
        document["codecs"] = [one for one in document["codecs"] if one["name"] != "crc32c"]
        return value.from_bytes(json.dumps(document).encode())


class WrittenStore(WrapperStore):
    """A store for writing that notes the checksums of its metadata, and can be stopped.

    Zarr writes the chunks of an array on threads of its own. They go on when one of them fails.

    Args:
        store: The store.

    Attributes:
        checksums: Checksums of the metadata files by key, as written last.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.checksums: dict[str, int] = {}
        self._under_way, self._stopped = 0, False
        self._changed = threading.Condition()

    def _with_store(self, store: Store) -> WrittenStore:
        other = WrittenStore(store)
        other.__dict__.update(vars(self), _store=store)
        return other

    async def set(self, key: str, value: Buffer) -> None:
        """Write a key; see the base class.

        Raises:
            OSError: If writing was stopped, or fails.
        """
        with self._writing(key, value.to_bytes):
            await self._store.set(key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Write a key unless it is there already; see :meth:`set`."""
        if not await self._store.exists(key):
            await self.set(key, value)

    async def _set_many(self, values: Iterable[tuple[str, Buffer]]) -> None:
        await asyncio.gather(*[self.set(key, value) for key, value in values])

    def set_sync(self, key: str, value: Buffer) -> None:
        """Write a key as :meth:`set` does; newer releases of Zarr write local files so."""
        with self._writing(key, value.to_bytes):
            self._store.set_sync(key, value)

    def write_files(self, folder: Path, files: Mapping[str, bytes]) -> None:
        """Write files of a store in a folder from this thread; see :meth:`set`.

        Args:
            folder: The folder.
            files: Their contents by key.
        """
        for key, data in files.items():
            path = folder / key
            with self._writing(key, lambda data=data: data):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)

    def stop(self, timeout_s: float) -> None:
        """Refuse to write any more, and wait for what is being written.

        Args:
            timeout_s: How long to wait, in seconds.
        """
        with self._changed:
            self._stopped = True
            self._changed.wait_for(lambda: not self._under_way, timeout_s)

    @contextlib.contextmanager
    def _writing(self, key: str, content: Callable[[], bytes]) -> Iterator[None]:
        with self._changed:
            if self._stopped:
                msg = f"{key} was not written: the call has failed"
                raise OSError(msg)
            self._under_way += 1
        try:
            yield
            if key.endswith(f"/{METADATA}"):
                self.checksums[key] = zlib.crc32(content())
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()


def _cut(value: Buffer, part: ByteRequest) -> Buffer:
    match part:
        case RangeByteRequest(start, end):
            return value[start:end]
        case OffsetByteRequest(offset):
            return value[offset:]
        case SuffixByteRequest(suffix):
            return value[max(len(value) - suffix, 0) :]
