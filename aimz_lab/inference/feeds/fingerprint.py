"""Recognise the training rows by checksum."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped

from aimz_lab.data import AxisLabels, canonical
from aimz_lab.types import Rows

_LARGEST = 256 << 20
"""Rows up to this size in bytes get a checksum, which takes about 0.1 s; larger ones get none."""


@dataclass(frozen=True)
class TrainingFingerprint:
    """The training outputs, and a checksum of the other arguments of the same rows.

    Attributes:
        checksum: Checksum of all per-row arguments except the output.
        outputs: The outputs.
        labels: Labels of the rows, if a field had some.
    """

    checksum: int
    outputs: Shaped[np.ndarray, "row ..."]
    labels: AxisLabels | None = None

    @classmethod
    def of(
        cls, rows: Rows, output: str, labels: AxisLabels | None = None
    ) -> TrainingFingerprint | None:
        """Return the fingerprint of rows, or ``None`` if they are too large for a checksum.

        Args:
            rows: Arrays by kernel argument, output included.
            output: Name of the output.
            labels: Labels of the rows, if a field has some.
        """
        if output not in rows or sum(array.nbytes for array in rows.values()) > _LARGEST:
            return None
        return cls(_checksum(rows, output), np.array(rows[output]), labels)

    def outputs_of(
        self, rows: Rows, output: str, labels: AxisLabels | None = None
    ) -> Shaped[np.ndarray, "row ..."] | None:
        """Return the training outputs if these are the training rows, else ``None``."""
        known = self.labels
        if labels is not None and known is not None and labels.conflict(known) is not None:
            return None
        inputs = [array for name, array in rows.items() if name != output]
        if len(inputs[0]) != len(self.outputs):
            return None
        if sum(array.nbytes for array in inputs) > _LARGEST:
            return None
        return self.outputs if _checksum(rows, output) == self.checksum else None


def _checksum(rows: Rows, output: str) -> int:
    checksum = 0
    for name in sorted(rows):
        if name != output:
            array = np.ascontiguousarray(canonical(np.asarray(rows[name]), name))
            checksum = zlib.crc32(f"{name} {array.shape} {array.dtype}".encode(), checksum)
            checksum = zlib.crc32(array.reshape(-1).view(np.uint8).data, checksum)
    return checksum
