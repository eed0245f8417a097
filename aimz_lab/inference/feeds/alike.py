"""Tell whether processes have the same rows, at little more than the cost of reading them."""

from __future__ import annotations

import zlib

import numpy as np
from jaxtyping import Shaped

_WORDS = 4096
"""Length of the pieces, in words of 8 bytes, that are added up: short enough for a cache. A
checksum of all bytes would cost three times as much."""

_READ_BYTES = 16 * 2**20
"""Bytes read at a time."""

_SAMPLE = 1024
"""Rows of a file that are compared."""


def rows_checksum(array: Shaped[np.ndarray, "row ..."]) -> int:
    """Return a checksum that differs if any one value differs, or rows change places.

    Of a file that is mapped into memory, only some rows are read: it may be larger than memory, and
    the processes mostly read the same one.

    Args:
        array: The rows.
    """
    array = np.asanyarray(array)
    if _is_mapped(array):
        array = array[:: max(len(array) // _SAMPLE, 1)]
    row_bytes = max(array.nbytes // max(len(array), 1), 1)
    step = max(_READ_BYTES // row_bytes, 1)
    found = zlib.crc32(str(array.dtype).encode())
    for first in range(0, len(array), step):
        part = np.ascontiguousarray(array[first : first + step]).reshape(-1).view(np.uint8)
        whole = len(part) - len(part) % (8 * _WORDS)
        pieces = part[:whole].view(np.uint64).reshape(-1, _WORDS)
        # Odd factors: no difference of one piece vanishes, and each place has its own.
        factors = np.random.default_rng(0).integers(2**63, size=len(pieces), dtype=np.uint64)
        sums = np.einsum("p,pw->w", 2 * factors + np.uint64(1), pieces)
        found = zlib.crc32(part[whole:].data, zlib.crc32(sums.data, found))
    return found


def _is_mapped(array: np.ndarray) -> bool:
    """Whether the values lie in a file."""
    base = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            return True
        base = base.base
    return False
