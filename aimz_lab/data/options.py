"""Check the options of a call before anything is computed; every message names the argument."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

import jax
import numpy as np

from aimz_lab.errors import ArgumentError, CallError
from aimz_lab.types import Progress, shown


def check_flag(name: str, value: object) -> bool:
    """Return ``value`` as a ``bool`` if it is one.

    Args:
        name: The argument's name, for the message.
        value: The value passed; NumPy's booleans are accepted, other values are not: ``"no"`` and
            an array would count as true.

    Raises:
        ArgumentError: If not.

    Example:
        >>> check_flag("shuffle", np.bool_(False))
        False
    """
    if value is True or value is False:
        return value
    if isinstance(value, np.bool_) or (_is_0d(value) and value.dtype == bool):
        return bool(value)
    msg = f"{name}={shown(value)} is not allowed; pass True or False."
    raise ArgumentError(msg)


def check_progress(value: object) -> Progress:
    """Return the value of ``progress=`` of a fit: a ``bool``, ``"live"`` or ``"text"``.

    Raises:
        ArgumentError: If it is none of these.
    """
    if isinstance(value, str) and value in ("live", "text"):
        return value
    try:
        return check_flag("progress", value)
    except ArgumentError:
        msg = f"progress={shown(value)} is not known; use True, False, 'live' or 'text'."
        raise ArgumentError(msg) from None


def real_number(value: object) -> float:
    """Return a real number as a ``float``; anything else, booleans and text too, as NaN.

    No comparison with NaN holds, so that ``if not 0 < real_number(value) < 1`` refuses it.

    Args:
        value: Anything; NumPy's numbers and arrays without an axis are numbers.

    Example:
        >>> real_number(np.float32(0.5)), real_number("0.5")
        (0.5, nan)
    """
    if _is_0d(value) and getattr(value.dtype, "kind", "") in tuple("iuf"):
        return float(value)
    if not isinstance(value, Real) or isinstance(value, bool | np.bool_ | np.timedelta64):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def check_names(name: str, value: str | Iterable[str]) -> tuple[str, ...]:
    """Return one name, or several, as a tuple.

    Args:
        name: The argument's name, for the message.
        value: A name, or an iterable of names.

    Raises:
        ArgumentError: If it is neither.

    Example:
        >>> check_names("by_row", "weight"), check_names("by_row", ["weight", "dose"])
        (('weight',), ('weight', 'dose'))
    """
    if isinstance(value, str):
        return (value,)
    listed = None
    if isinstance(value, Iterable) and not isinstance(value, bytes | Mapping) and not _is_0d(value):
        listed = list(value)
    if listed is None or not all(isinstance(one, str) for one in listed):
        msg = f"{name}={shown(value)} is not allowed; use a name, or a list of names (text)."
        raise ArgumentError(msg)
    return tuple(map(str, listed))


def check_mapping(name: str, value: object, holds: str) -> Mapping[str, Any]:
    """Return ``value`` as it is if it is a mapping whose keys are text; ``None`` as an empty one.

    Args:
        name: The argument's name, for the message.
        value: The value passed.
        holds: What it holds, for the message: ``"arrays by site"``.

    Raises:
        CallError: If it is none.

    Example:
        >>> check_mapping("coords", None, "labels by dimension")
        {}
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        msg = f"{name}={shown(value)} is not allowed; use a mapping of {holds} (a dict)."
        raise CallError(msg)
    for key in value:
        if not isinstance(key, str):
            msg = f"{name}= has the key {shown(key)}; use a mapping of {holds}, named by text."
            raise CallError(msg)
    return value


def check_text(name: str, value: object) -> str:
    """Return ``value`` if it is text.

    Raises:
        ArgumentError: If not.
    """
    if not isinstance(value, str):
        msg = f"{name}={shown(value)} is not allowed; use text (str)."
        raise ArgumentError(msg)
    return value


def check_callable(name: str, value: object, takes: str) -> Callable[..., Any]:
    """Return ``value`` if it can be called.

    Args:
        name: The argument's name, for the message.
        value: The value passed.
        takes: What it is called with and returns, for the message.

    Raises:
        ArgumentError: If not.
    """
    if not callable(value):
        msg = f"{name}={shown(value)} is not allowed; use a function {takes}."
        raise ArgumentError(msg)
    return value


def check_path(name: str, value: object) -> Path:
    """Return a path of the file system as a ``Path``.

    Args:
        name: The argument's name, for the message.
        value: Text or an object with a path, such as a ``pathlib.Path``.

    Raises:
        ArgumentError: If it is neither, or no path at all, such as text with a null character.
    """
    if not isinstance(value, str | os.PathLike) or "\0" in (text := os.fsdecode(value)):
        msg = f"{name}={shown(value)} is not allowed; use a path (str or pathlib.Path)."
        raise ArgumentError(msg)
    return Path(text)


def _is_0d(value: object) -> bool:
    return isinstance(value, np.ndarray | jax.Array) and value.ndim == 0
