"""Regions of a store that is being written, for processes that write their rows themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from aimz_lab.errors import ArtifactWriteError, ClusterError
from aimz_lab.predictive.results.locations import remote_store
from aimz_lab.system.lazy_modules import zarr
from aimz_lab.system.paths import is_url, remedy_of

_LAST_WRITE_S = 30.0
"""How long a failed write waits for other chunks on their way to a file system."""


@dataclass(frozen=True)
class StoreRegions:
    """The arrays of a store that exist already, with none of their chunks.

    Attributes:
        address: Folder or URL of the store while it is written.
        arrays: Path of the array within the store, by site.
        sample_shape: Number of chains, and of draws of a chain.
    """

    address: str
    arrays: Mapping[str, str]
    sample_shape: tuple[int, int]


class RegionWriter:
    """Writes rows to regions of the arrays; no other process may write to the same chunks.

    Args:
        regions: The arrays. Each is opened with its first rows.
    """

    def __init__(self, regions: StoreRegions) -> None:
        # Imported with the first write, as zarr is.
        from aimz_lab.predictive.results.checked_store import WrittenStore

        self._regions, address = regions, regions.address
        remote = is_url(address)
        inner = remote_store(address) if remote else zarr.storage.LocalStore(address)
        self._store = WrittenStore(inner)
        self._arrays: dict[str, zarr.Array] = {}

    def write(self, first: int, values: Mapping[str, np.ndarray]) -> None:
        """Write rows of each site.

        Args:
            first: Number of the first row.
            values: Values by site, ``(S, P, ...)``.

        Raises:
            ClusterError: If the store is not there: it is on another machine, or was removed.
            ArtifactWriteError: If a part cannot be written.
        """
        try:
            for name, value in values.items():
                self._write(name, first, value)
        except BaseException:
            # Zarr's threads go on; once the folder is removed, they would make it again.
            self._store.stop(_LAST_WRITE_S)
            raise

    def _write(self, name: str, first: int, value: np.ndarray) -> None:
        last = first + value.shape[1] - 1
        if name not in self._arrays:
            self._arrays[name] = self._opened(name)
        try:
            self._arrays[name][:, :, first : last + 1] = value.reshape(
                *self._regions.sample_shape, *value.shape[1:]
            )
        except OSError as error:
            msg = (
                f"Rows {first} to {last} could not be written to {self._regions.address}: {error}. "
                f"Nothing was kept. {remedy_of(error)} The path is output_dir=."
            )
            raise ArtifactWriteError(msg) from error

    def _opened(self, name: str) -> zarr.Array:
        path = self._regions.arrays[name]
        try:
            return zarr.open_array(
                self._store, path=path, mode="r+", config={"write_empty_chunks": True}
            )
        except FileNotFoundError as error:
            msg = (
                f"A worker does not see {self._regions.address}. Pass an output_dir= that all "
                "workers share: a folder of a network file system, or a URL such as "
                "s3://bucket/folder."
            )
            raise ClusterError(msg) from error
