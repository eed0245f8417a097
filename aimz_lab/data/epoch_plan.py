"""The plan of an epoch: which rows each batch has, and how many it is padded by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from aimz_lab.data.checks import check_positive_int
from aimz_lab.data.padding import rows_to_pad


@dataclass(frozen=True)
class EpochPlan:
    """The batches of an epoch.

    Attributes:
        starts: Place of each batch's first row in the order of the epoch.
        rows: Rows of data of each batch.
        row_multiple: Batches are padded to a multiple of this.
        row_bytes: Bytes of one row on the device.
    """

    starts: Int[np.ndarray, " batch"]
    rows: Int[np.ndarray, " batch"]
    row_multiple: int = 1
    row_bytes: int = 0

    @classmethod
    def of(
        cls, n_rows: int, batch_size: int, row_multiple: int = 1, row_bytes: int = 0
    ) -> EpochPlan:
        """Return the plan of rows that are cut into batches, the last one shorter.

        Args:
            n_rows: Rows of data.
            batch_size: Rows of data per batch.
            row_multiple: Batches are padded to a multiple of this.
            row_bytes: Bytes of one row on the device.

        Raises:
            ArgumentError: If one of the first three is not a positive int.

        Example:
            >>> plan = EpochPlan.of(10, batch_size=4, row_multiple=8)
            >>> plan.rows, plan.n_pad
            (array([4, 4, 2]), array([4, 4, 6]))
        """
        size = check_positive_int("batch_size", batch_size)
        starts = np.arange(0, check_positive_int("n_rows", n_rows), size)
        rows = np.minimum(starts + size, n_rows) - starts
        return cls(starts, rows, check_positive_int("row_multiple", row_multiple), row_bytes)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def n_rows(self) -> int:
        """Rows of data of the epoch."""
        return int(self.rows.sum())

    @property
    def n_pad(self) -> Int[np.ndarray, " batch"]:
        """Rows of padding of each batch."""
        return rows_to_pad(self.rows, self.row_multiple)

    @property
    def rows_computed(self) -> int:
        """Rows of data and of padding of the epoch."""
        return int((self.rows + self.n_pad).sum())

    @property
    def wasted(self) -> float:
        """Share of padding among all rows computed."""
        return 1 - self.n_rows / self.rows_computed

    @property
    def batch_bytes(self) -> int:
        """Bytes of the largest batch, its padding included."""
        return int((self.rows + self.n_pad).max()) * self.row_bytes

    @property
    def bytes_moved(self) -> int:
        """Bytes of all batches of the epoch, their padding included."""
        return self.rows_computed * self.row_bytes
