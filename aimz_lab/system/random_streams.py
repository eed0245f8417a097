"""Random numbers that no data was simulated with."""

from __future__ import annotations

import zlib

import numpy as np


def own_rng(purpose: str, seed: int = 0) -> np.random.Generator:
    """Return a generator of its own, the same in every process.

    Numbers that meet data row by row must not be those that the data was simulated with, and
    ``np.random.default_rng(0)`` is where many simulations begin.

    Args:
        purpose: What the numbers are for.
        seed: For another stream.

    Example:
        >>> bool(own_rng("rows").random() == np.random.default_rng(0).random())
        False
    """
    return np.random.default_rng([zlib.crc32(f"aimz_lab {purpose}".encode()), seed])
