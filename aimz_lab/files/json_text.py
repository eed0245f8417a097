"""JSON within bounds: strict, of limited length and depth, with a checksum of its content."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np

from aimz_lab.files.refusals import Malformed
from aimz_lab.files.regular_file import open_regular
from aimz_lab.types import JsonObject, shown

NONFINITE = ("nan", "inf", "-inf")
"""How numbers that JSON lacks are written, as text."""

_BEGINNING = re.compile(rb'\{"sha256": "([0-9a-f]{64})",')
_LENGTH = len('{"sha256": "') + 64 + len('",')
_LARGEST = 2**64
_PART = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Bounds of a JSON text, in both directions: nothing is written that would not be read.

    Attributes:
        size: Bytes.
        values: Numbers, texts, lists and mappings.
        depth: Lists and mappings inside each other.
    """

    size: int = 32 << 20
    values: int = 1_000_000
    depth: int = 64


def _json_text(value: object, *, indent: int | None = None) -> str:
    """Return JSON text in ASCII; NaN and infinities have to be written as text, see NONFINITE.

    Raises:
        ValueError: If a number is not finite.
    """
    separators = None if indent else (",", ":")
    return json.dumps(
        value, allow_nan=False, separators=separators, indent=indent, default=_plain_scalar
    )


def _plain_scalar(value: object) -> object:
    """Return a number of NumPy's as Python's."""
    if isinstance(value, np.generic):
        return value.item()
    msg = f"{shown(value)} cannot be written as JSON"
    raise Malformed(msg)


def plain_number(number: float) -> float | str:
    """Return a number as JSON can hold it.

    Example:
        >>> plain_number(0.5), plain_number(float("nan"))
        (0.5, 'nan')
    """
    if isinstance(number, int):
        return number
    number = float(number)
    return number if math.isfinite(number) else str(number)


def parse_json(data: bytes, limits: Limits | None = None) -> object:
    """Parse JSON text that anybody may have written.

    Its size is checked before it is parsed, and so is the number of its values.

    Args:
        data: UTF-8.
        limits: Bounds; the default's if ``None``.

    Raises:
        Malformed: If it is too large or too deep, is no JSON, names a field twice, or holds NaN,
            infinities, integers beyond 64 bits or text that is no Unicode.
    """
    limits = limits or Limits()
    _check_text(data, limits)
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=_once, parse_constant=_not_a_number
        )
    except Malformed:
        raise
    except RecursionError as error:
        msg = f"its lists are more than {limits.depth} deep"
        raise Malformed(msg) from error
    except ValueError as error:
        msg = f"it is no JSON ({type(error).__name__}: {str(error)[:200]})"
        raise Malformed(msg) from error
    _check_values(value, limits)
    return value


def sealed_text(
    content: JsonObject, *, indent: int | None = None, limits: Limits | None = None
) -> bytes:
    """Return JSON text that begins with the checksum of all the rest of it.

    Args:
        content: At least one field.
        indent: Spaces of an indent; ``None`` for one line.
        limits: Bounds; the default's if ``None``.

    Raises:
        Malformed: If it is larger than what would be read.
    """
    rest = _json_text(content, indent=indent).encode()[1:]
    _check_text(rest, limits or Limits())
    return f'{{"sha256": "{hashlib.sha256(rest).hexdigest()}",'.encode() + rest


def unsealed(data: bytes, limits: Limits | None = None) -> JsonObject:
    """Return the content of :func:`sealed_text`, and verify its checksum first.

    Raises:
        Malformed: If it has no checksum, another one, or is no JSON within the limits.
    """
    limits = limits or Limits()
    _check_size(len(data), limits)
    _verify(data[:_LENGTH], [data[_LENGTH:]], limits)
    return _without_checksum(parse_json(data, limits))


def checksum_of(data: bytes) -> str:
    """Return the checksum at the beginning of :func:`sealed_text`."""
    return _BEGINNING.match(data)[1].decode()


def read_sealed(path: str | os.PathLike[str], limits: Limits | None = None) -> JsonObject:
    """Return the content of a file of :func:`sealed_text`; what is refused takes no memory.

    Raises:
        Malformed: As :func:`unsealed`; or if it is no regular file.
    """
    limits = limits or Limits()
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        _check_size(size, limits)
        _verify(file.read(_LENGTH), iter(partial(file.read, _PART), b""), limits)
        file.seek(0)
        data = file.read(size)
    return unsealed(data, limits)


def _verify(beginning: bytes, rest: Iterable[bytes], limits: Limits) -> None:
    """Verify the checksum of a text in parts, and count its values."""
    found = _BEGINNING.fullmatch(beginning)
    if found is None:
        msg = "it does not begin with a checksum: another release wrote it, or something else did"
        raise Malformed(msg)
    checksum, values = hashlib.sha256(), 0
    for part in rest:
        checksum.update(part)
        values += _count(part)
        _check_count(values, limits)
    if checksum.hexdigest().encode() != found[1]:
        msg = "its checksum is not that of its content: it was damaged or edited"
        raise Malformed(msg)


def _without_checksum(value: object) -> JsonObject:
    return {name: part for name, part in value.items() if name != "sha256"}


def _check_text(data: bytes, limits: Limits) -> None:
    """Check the size of a JSON text and the number of its values, without parsing it.

    Raises:
        Malformed: If it is larger than the limits.
    """
    _check_size(len(data), limits)
    _check_count(_count(data), limits)


def _check_size(size: int, limits: Limits) -> None:
    """Check a number of bytes.

    Raises:
        Malformed: If there are more than the limits allow.
    """
    if size > limits.size:
        msg = f"its JSON has {size:,} bytes, and at most {limits.size:,} are read"
        raise Malformed(msg)


def _check_count(values: int, limits: Limits) -> None:
    """Check a number of values.

    Raises:
        Malformed: If there are more than the limits allow.
    """
    if values > limits.values:
        msg = f"its JSON has {values:,} values or more, and at most {limits.values:,} are read"
        raise Malformed(msg)


def _count(data: bytes) -> int:
    """Return at least the number of values in a text; marks inside of texts count too."""
    return sum(data.count(mark) for mark in (b",", b":", b"[", b"{"))


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        msg = "it names a field twice"
        raise Malformed(msg)
    return fields


def _not_a_number(name: str) -> object:
    msg = f"it holds {name}, which is no JSON"
    raise Malformed(msg)


def _check_values(value: object, limits: Limits) -> None:
    """Check depth, numbers and text, without recursion."""
    waiting = [(value, 1)]
    while waiting:
        one, depth = waiting.pop()
        if isinstance(one, dict | list):
            if depth > limits.depth:
                msg = f"its lists are more than {limits.depth} deep"
                raise Malformed(msg)
            inner = [*one, *one.values()] if isinstance(one, dict) else one
            waiting.extend((part, depth + 1) for part in inner)
        elif isinstance(one, str):
            if not one.isascii():
                _check_unicode(one)
        elif isinstance(one, float) and not math.isfinite(one):
            msg = "it holds a number that is too large"
            raise Malformed(msg)
        elif isinstance(one, int) and abs(one) >= _LARGEST:
            msg = "it holds an integer of more than 64 bits"
            raise Malformed(msg)


def _check_unicode(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        msg = "it holds text that is no Unicode"
        raise Malformed(msg) from error
