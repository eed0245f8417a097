"""Write out values as short text that another process can compare."""

from __future__ import annotations

import datetime
import enum
import numbers
import re
import zlib
from collections.abc import Mapping, Sized
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike

from aimz_lab.system.lazy_modules import pd

LONGEST = 80
"""Longer text is compared by a checksum."""

_OF_LONG = re.compile(r"\w+( of \d+)?, [0-9a-f]{8}")
_PIECE = 1 << 20
_BITS = 30
"""Bits of a number that count, about 9 digits: what data computed it from may differ in its last
ones."""


def plain_text(value: object) -> str | None:
    """Write out a number, text, an array, or a collection of these; ``None`` for other values.

    Numbers in double precision count to 9 digits. Long text and arrays are written as checksums.

    Example:
        >>> plain_text((1, 2.5, "end")), plain_text(np.arange(3, dtype=np.int8))
        ("(1, 2.5, 'end')", 'int8[3] 0854897f')
    """
    text = _written(value)
    if text is None or len(text) <= LONGEST:
        return text
    size = f" of {len(value)}" if isinstance(value, Sized) else ""
    return f"{type(value).__name__}{size}, {zlib.crc32(text.encode()):08x}"


def is_checksum(text: str) -> bool:
    """Whether a text of :func:`plain_text` stands for one that is too long to write out."""
    return _OF_LONG.fullmatch(text) is not None


def _written(value: object) -> str | None:
    if isinstance(value, enum.Enum):
        text = _written(value.value)
        return f"{type(value).__name__}.{value.name}{f'={text}' if text else ''}"
    if isinstance(value, np.generic) and value.dtype.kind in "biufcSU":
        value = value.item()
    if value is None or isinstance(value, int | complex | range | slice | np.dtype):
        return str(value)
    if isinstance(value, float):
        return f"{value:.9g}"
    if isinstance(value, str | bytes):
        return ascii(value)
    if isinstance(value, datetime.date | datetime.time | datetime.timedelta | numbers.Rational):
        return str(value)
    if isinstance(value, Mapping):
        pairs = sorted((_written(key), _written(part)) for key, part in value.items())
        return _joined([None if None in pair else ": ".join(pair) for pair in pairs], "{}")
    if isinstance(value, list | tuple):
        return _joined([_written(part) for part in value], "[]" if type(value) is list else "()")
    if isinstance(value, set | frozenset):
        parts = [_written(part) for part in value]
        return _joined(parts if None in parts else sorted(map(str, parts)), "{}")
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return _array(value)
    if type(value).__module__.partition(".")[0] == "pandas":
        return _table(value)
    return None  # also arrays of other libraries, which may lie on a disk


def _joined(parts: list[str | None], around: str) -> str | None:
    return None if None in parts else f"{around[0]}{', '.join(map(str, parts))}{around[1]}"


def _table(value: Any) -> str | None:
    """Describe a table by its columns and their labels, a column by its values and their labels."""
    if isinstance(value, pd.DataFrame):
        parts = [_joined([_written(name), _table(column)], "()") for name, column in value.items()]
        return _joined(parts, "{}")
    if isinstance(value, pd.Series):
        return _joined([_array(value), _array(value.index)], "()")
    return _array(value)


def _array(value: ArrayLike) -> str | None:
    """Describe an array or a table; ``None`` where its values are not at hand, or no numbers."""
    if isinstance(value, jax.core.Tracer) or not getattr(value, "is_fully_addressable", True):
        return None
    if isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    array = np.asarray(value)
    if array.dtype.hasobject:  # such as text
        return _written(array.tolist()) if array.ndim else None
    if array.ndim == 0 and array.dtype.kind in "biufc":
        return _written(array.item())
    found, flat = 0, array.reshape(-1)
    for begin in range(0, flat.size, _PIECE):
        piece = flat[begin : begin + _PIECE]
        rounded = _rounded(piece) if piece.dtype == np.float64 else piece
        found = zlib.crc32(np.ascontiguousarray(rounded).view(np.uint8).data, found)
    return f"{array.dtype}{list(array.shape)} {found:08x}"


def _rounded(values: np.ndarray) -> np.ndarray:
    mantissa, exponent = np.frexp(values)
    rounded = np.ldexp(np.round(np.ldexp(mantissa, _BITS)), exponent - _BITS)
    return np.where(np.isnan(values), np.nan, rounded + 0.0)  # 0 for -0
