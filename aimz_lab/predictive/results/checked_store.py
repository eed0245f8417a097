"""Zarr stores that raise on missing chunks; temporary ones are removed with their last reader."""

from __future__ import annotations

import re
import shutil
import weakref
from pathlib import Path
from typing import ClassVar

from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import WrapperStore

from aimz_lab.errors import ArtifactError, ArtifactGoneError

_CHUNK = re.compile(r"/c(/\d+)*$")
"""The end of a chunk's key, behind the path of its array."""


class Owner:
    """Owns a temporary directory, removed when nothing refers to the owner any more.

    Args:
        path: The directory.
    """

    alive: ClassVar[weakref.WeakSet[Owner]] = weakref.WeakSet()
    """The owners of all temporary directories of this process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._remove = weakref.finalize(self, shutil.rmtree, path, ignore_errors=True)
        Owner.alive.add(self)

    def remove(self) -> None:
        """Remove the directory now; a later read from it raises :class:`ArtifactGoneError`."""
        self._remove()
        Owner.alive.discard(self)


class CheckedStore(WrapperStore):
    """A store for reading that raises on a missing or truncated chunk.

    Args:
        store: The store.
        path: Its name in messages.
        owner: Owner of a temporary store, kept alive by this object.

    Attributes:
        chunk_bytes: Size of a chunk by the path of its array; ``None`` where each chunk has its own
            size in its header, as Blosc writes it.
    """

    def __init__(self, store: Store, path: str = "", owner: Owner | None = None) -> None:
        super().__init__(store)
        self._path, self._owner = path, owner
        self.chunk_bytes: dict[str, int | None] = {}

    def __reduce__(self) -> tuple[object, ...]:
        return _checked, (self._store, self._path, None, self.chunk_bytes)

    def _with_store(self, store: Store) -> CheckedStore:
        return _checked(store, self._path, self._owner, self.chunk_bytes)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Read a key; see the base class.

        Raises:
            ArtifactGoneError: If a chunk is missing; all chunks were written.
            ArtifactError: If a chunk is truncated.
        """
        value = await self._store.get(key, prototype, byte_range)
        chunk = _CHUNK.search(key)
        if chunk is None:
            return value
        if value is None:
            raise missing_part(self._path, key)
        array = key[: chunk.start()]
        if byte_range is not None or array not in self.chunk_bytes:
            return value
        written = self.chunk_bytes[array]
        written = _size_in_header(value) if written is None else written
        if len(value) != written:
            msg = (
                f"The result at {self._path} is damaged: {key} has {len(value)} bytes, of "
                f"{written}. Remove it and compute the result again."
            )
            raise ArtifactError(msg)
        return value


def _checked(
    store: Store, path: str, owner: Owner | None, chunk_bytes: dict[str, int | None]
) -> CheckedStore:
    checked = CheckedStore(store, path, owner)
    checked.chunk_bytes = chunk_bytes
    return checked


def _size_in_header(chunk: Buffer) -> int:
    """Bytes of a Blosc-compressed chunk, from the last of the four words of its header."""
    header = chunk[:16].to_bytes()
    return int.from_bytes(header[12:], "little") if len(header) == 16 else 16


def missing_part(path: str, part: str) -> ArtifactGoneError:
    """Return the error for a result with a missing part."""
    return ArtifactGoneError(
        f"The result at {path} is gone, or parts of it are: {part} is missing. It was removed "
        "after it had been written; compute it again, with output_dir= to keep it."
    )
