"""Knowing the rows that a model was trained on again, without keeping them."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from aimz_lab.data import canonical

_LARGEST = 256 << 20
"""Bytes of rows up to which they are read once more to be known again: about 0.1 s."""


@dataclass(frozen=True)
class TrainingFingerprint:
    """The outputs that a model was trained on, and the checksum of the rows that they belong to.

    Attributes:
        checksum: Of all inputs.
        outputs: The outputs, rows first.
    """

    checksum: int
    outputs: np.ndarray

    @classmethod
    def of(cls, rows: Mapping[str, Any], output: str) -> TrainingFingerprint | None:
        """Remember rows; ``None`` for what is too large to be read once more.

        Args:
            rows: Arrays by kernel argument, output included.
            output: Name of the output.
        """
        if output not in rows or sum(array.nbytes for array in rows.values()) > _LARGEST:
            return None
        return cls(_checksum(rows, output), np.array(rows[output]))

    def outputs_of(self, rows: Mapping[str, Any], output: str) -> np.ndarray | None:
        """Return the outputs that belong to rows, if they are those that were trained on."""
        inputs = [array for name, array in rows.items() if name != output]
        if len(inputs[0]) != len(self.outputs):
            return None
        if sum(array.nbytes for array in inputs) > _LARGEST:
            return None
        return self.outputs if _checksum(rows, output) == self.checksum else None


def _checksum(rows: Mapping[str, Any], output: str) -> int:
    checksum = 0
    for name in sorted(rows):
        if name != output:
            array = np.ascontiguousarray(canonical(np.asarray(rows[name]), name))
            checksum = zlib.crc32(f"{name} {array.shape} {array.dtype}".encode(), checksum)
            checksum = zlib.crc32(array.reshape(-1).view(np.uint8).data, checksum)
    return checksum
