"""The decimals that values of single and half precision were written as."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from aimz_lab.system.lazy_modules import pd

_EXACT_POWERS = 22
"""Powers of ten up to this one are exact in double precision."""


def as_written(column: pd.Series, dtype: Any, numbers: Sequence[float]) -> pd.Series:
    """Return a column of low precision with the numbers that its values are written as.

    In single precision 0.1 is 0.100000001, which is neither 0.1 nor below it; and 1 minus that is
    not 0.9. Of all decimals that its precision cannot tell from a value, the shortest one is what
    was written; but a number of the formula goes first.

    Args:
        column: Values in double precision.
        dtype: The type that they had.
        numbers: What the formula compares the column with.
    """
    dtype = getattr(dtype, "numpy_dtype", dtype)
    if dtype not in (np.float16, np.float32):
        return column
    made = pd.Series(shortest_decimals(column.to_numpy(), np.dtype(dtype)), column.index)
    for written in numbers:
        with np.errstate(over="ignore"):
            made = made.mask(column == float(dtype.type(written)), written)
    return made


def shortest_decimals(
    values: Float[np.ndarray, " row"], dtype: np.dtype
) -> Float[np.ndarray, " row"]:
    """Return the shortest decimals that a type of low precision does not tell from its values."""
    found, wanted = values.copy(), np.isfinite(values) & (values != 0)
    exponents = np.zeros(len(values), int)
    exponents[wanted] = np.floor(np.log10(np.abs(values[wanted])))
    for digits in range(1, np.finfo(dtype).precision + 3):
        power = digits - 1 - exponents
        near = wanted & (np.abs(power) <= _EXACT_POWERS)
        scale = 10.0 ** np.abs(power[near])
        up = power[near] >= 0
        whole = np.rint(np.where(up, values[near] * scale, values[near] / scale))
        made = np.where(up, whole / scale, whole * scale)
        with np.errstate(over="ignore"):
            same = made.astype(dtype) == values[near]
        at = np.flatnonzero(near)[same]
        found[at], wanted[at] = made[same], False
    return found
