"""Regions of a store that is being written, for processes that write their rows themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aimz_lab.errors import ArtifactWriteError, ClusterError
from aimz_lab.predictive.results.locations import remote_store
from aimz_lab.system.lazy_modules import zarr
from aimz_lab.system.paths import is_url

if TYPE_CHECKING:
    from aimz_lab.predictive.results.checked_store import WrittenStore

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

    def write(self, first: int, values: Mapping[str, np.ndarray]) -> None:
        """Write rows of each site; no other process may write to the same chunks.

        Args:
            first: Number of the first row.
            values: Values by site, ``(S, P, ...)``.

        Raises:
            ClusterError: If the store is not there: it is on another machine, or was removed.
            ArtifactWriteError: If a part cannot be written.
        """
        # Imported with the first write, as zarr is.
        from aimz_lab.predictive.results.checked_store import WrittenStore

        remote = is_url(self.address)
        inner = remote_store(self.address) if remote else zarr.storage.LocalStore(self.address)
        store = WrittenStore(inner)
        try:
            self._write(store, first, values)
        except BaseException:
            # Zarr's threads go on; once the folder is removed, they would make it again.
            store.stop(_LAST_WRITE_S)
            raise

    def _write(self, store: WrittenStore, first: int, values: Mapping[str, np.ndarray]) -> None:
        for name, value in values.items():
            array = self._array(store, name)
            try:
                array[:, :, first : first + value.shape[1]] = value.reshape(
                    *self.sample_shape, *value.shape[1:]
                )
            except OSError as error:
                msg = (
                    f"Rows {first} to {first + value.shape[1] - 1} could not be written to "
                    f"{self.address}: {error}. Nothing was kept; free some space there, or pass "
                    "another output_dir=."
                )
                raise ArtifactWriteError(msg) from error

    def _array(self, store: WrittenStore, name: str) -> zarr.Array:
        try:
            return zarr.open_array(
                store, path=self.arrays[name], mode="r+", config={"write_empty_chunks": True}
            )
        except FileNotFoundError as error:
            msg = (
                f"A worker does not see {self.address}. Pass an output_dir= that all workers "
                "share: a folder of a network file system, or a URL such as s3://bucket/folder."
            )
            raise ClusterError(msg) from error
