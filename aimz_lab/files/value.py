"""A JSON value that knows where it stands, read as the type that it should have."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Container
from typing import TypeVar

import numpy as np

from aimz_lab.files.json_text import NONFINITE
from aimz_lab.files.refusals import Malformed
from aimz_lab.types import shown

_T = TypeVar("_T")

MOST = 2**53
"""The largest whole number by default: all up to it are numbers of double precision too."""

MOST_EPOCHS = 2**32 - 1
"""The largest number of an epoch, from which its random key is derived."""

_DTYPE = re.compile(r"[<>=|]?[biufc]\d{1,2}|bool|(u?int|b?float|complex)\d{1,3}(_\w{1,16})?")
_DIMENSIONS = 32


class Value:
    """A JSON value and the path of fields to it, for messages.

    Args:
        value: What ``json.loads`` returned.
        where: The path of fields to it.

    Example:
        >>> Value({"n": [3, "x"]}).fields("n")["n"].listed()[1].whole()
        Traceback (most recent call last):
        ...
        aimz_lab.files.refusals.Malformed: n[1] is 'x'; expected a whole number from 0
    """

    def __init__(self, value: object, where: str = "") -> None:
        self.value = value
        self.where = where

    def refuse(self, expected: str) -> Malformed:
        """Return the refusal of this value, to be raised."""
        return Malformed(
            f"{self.where or 'the content'} is {shown(self.value)}; expected {expected}"
        )

    def named(self) -> dict[str, Value]:
        """Read a mapping of any names."""
        if not isinstance(self.value, dict):
            raise self.refuse("an object with fields")
        inside = f"{self.where}." if self.where else ""
        return {name: Value(part, f"{inside}{name}") for name, part in self.value.items()}

    def fields(self, *names: str) -> dict[str, Value]:
        """Read a mapping of exactly these names."""
        found = self.named()
        here = f" in {self.where}" if self.where else ""
        for name in names:
            if name not in found:
                msg = f"the field {name!r} is missing{here}"
                raise Malformed(msg)
        for name in found:
            if name not in names:
                msg = f"the field {shown(name)}{here} is not known"
                raise Malformed(msg)
        return found

    def listed(self, count: int | None = None) -> list[Value]:
        """Read a list, of ``count`` values if given."""
        if not isinstance(self.value, list) or count not in (None, len(self.value)):
            raise self.refuse("a list" if count is None else f"a list of {count}")
        return [Value(part, f"{self.where}[{i}]") for i, part in enumerate(self.value)]

    def optional(self, read: Callable[[Value], _T]) -> _T | None:
        """Read ``null`` as ``None``, anything else by ``read``."""
        return None if self.value is None else read(self)

    def whole(self, least: int = 0, most: int = MOST) -> int:
        """Read a whole number within bounds."""
        value = self.value
        if type(value) is not int or not least <= value <= most:
            to = f" to {most:,}" if most != MOST else ""
            raise self.refuse(f"a whole number from {least:,}{to}")
        return value

    def number(self, *, finite: bool = True) -> float:
        """Read a number; NaN and infinities as text, unless it has to be finite."""
        value = self.value
        if type(value) in (int, float):
            return float(value)
        if finite or not isinstance(value, str) or value not in NONFINITE:
            raise self.refuse("a number")
        return float(value)

    def text(self) -> str:
        """Read text."""
        if not isinstance(self.value, str):
            raise self.refuse("text")
        return self.value

    def flag(self) -> bool:
        """Read ``true`` or ``false``."""
        if not isinstance(self.value, bool):
            raise self.refuse("true or false")
        return self.value

    def choice(self, allowed: Container[str]) -> str:
        """Read one of some names."""
        if not isinstance(self.value, str) or self.value not in allowed:
            raise self.refuse(f"one of {', '.join(map(repr, allowed))}")
        return self.value

    def texts(self) -> tuple[str, ...]:
        """Read a list of texts."""
        return tuple(part.text() for part in self.listed())

    def names(self) -> tuple[str, ...]:
        """Read a list of different texts."""
        found = self.texts()
        if len(set(found)) < len(found):
            raise self.refuse("names that differ")
        return found

    def shape(self) -> tuple[int, ...]:
        """Read the shape of an array, with fewer than 2^63 entries."""
        sizes = tuple(part.whole() for part in self.listed())
        if len(sizes) > _DIMENSIONS or math.prod(sizes) >= 2**63:
            raise self.refuse("the shape of an array")
        return sizes

    def dtype(self) -> np.dtype:
        """Read the name of a type of numbers, of NumPy's or JAX's."""
        name = self.text()
        try:
            found = np.dtype(name) if _DTYPE.fullmatch(name) else None
        except TypeError:
            found = None
        # Types that are registered beside NumPy's, such as bfloat16, are of the kind V.
        is_own = found is not None and found.kind in "biufc" and found.isnative
        if not (is_own or (found is not None and found.isbuiltin == 2)):
            raise self.refuse("a type of numbers, such as 'float32'")
        return found
