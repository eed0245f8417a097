"""A checksum of the arguments that all rows share; equal in another process of the same Python."""

from __future__ import annotations

import contextlib
import functools
import itertools
import types
import zlib
from collections.abc import Iterator, Mapping

import jax
import numpy as np

_LARGEST = 256 << 20
"""Arrays up to this size in bytes are read, which takes about 0.1 s; of larger ones the shape."""

_DEEPEST, _MOST_PARTS = 8, 10_000
"""Objects within objects that are read, and parts of an argument; what lies beyond is not."""


def shared_checksum(shared: Mapping[str, object]) -> int:
    """Return a checksum that is the same for equal numbers of any type.

    A function counts by its code and by what it was made with, a closure or defaults; what it
    reads elsewhere does not.

    Args:
        shared: The arguments by name: arrays, containers of arrays, and any other values.
    """
    checksum = 0
    for path, value in jax.tree.leaves_with_path(dict(shared)):
        checksum = zlib.crc32(jax.tree_util.keystr(path).encode(), checksum)
        for part in itertools.islice(_parts(value, 0), _MOST_PARTS):
            checksum = zlib.crc32(part, checksum)
    return checksum


def _parts(value: object, depth: int) -> Iterator[bytes | memoryview]:
    """Yield what a value consists of."""
    if depth > _DEEPEST:
        return
    if isinstance(value, str | bytes | None | type):
        yield repr(value).encode()
    elif isinstance(value, functools.partial | types.MethodType | types.FunctionType | Mapping):
        yield from _of_all(_contents(value), depth)
    elif isinstance(value, types.CodeType):
        yield value.co_code
        yield from _of_all((value.co_names, value.co_consts), depth)
    elif isinstance(value, tuple | list):
        yield from _of_all(value, depth)
    elif isinstance(value, set | frozenset):
        yield from _of_all(sorted(value, key=repr), depth)
    elif (array := _numbers(value)) is not None:
        yield str(array.shape).encode()
        if array.nbytes <= _LARGEST:
            yield array.reshape(-1).view(np.uint8).data
    elif isinstance(value, np.ndarray):  # of dates, texts or any objects
        yield str(value.shape).encode()
        yield from _of_all(value.ravel().tolist(), depth)
    else:
        name = getattr(value, "__qualname__", type(value).__qualname__)
        yield from _of_all((name, _state(value)), depth)


def _contents(value: object) -> tuple[object, ...]:
    if isinstance(value, functools.partial):
        return value.func, value.args, value.keywords
    if isinstance(value, types.MethodType):
        return value.__func__, value.__self__
    if isinstance(value, types.FunctionType):
        return value.__code__, value.__defaults__, value.__kwdefaults__, _closure(value)
    return tuple(sorted(value.items(), key=repr))


def _state(value: object) -> object:
    """Return what a value would be made again from; its attributes if nothing says that."""
    try:
        made = value.__reduce_ex__(2)
    except Exception:  # noqa: BLE001  any class may have its own, and fail
        return getattr(value, "__dict__", None)
    return made if isinstance(made, str) else made[1:3]


def _closure(function: types.FunctionType) -> list[object]:
    found = []
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # a variable that was never set
            found.append(cell.cell_contents)
    return found


def _of_all(values: object, depth: int) -> Iterator[bytes | memoryview]:
    for value in values:
        yield from _parts(value, depth + 1)


def _numbers(value: object) -> np.ndarray | None:
    """Return numbers as they are computed with; ``None`` for anything else."""
    if isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    try:
        array = np.ascontiguousarray(value)
    except (TypeError, ValueError):
        return None
    if array.dtype.kind not in "biufV":
        return None
    is_whole = array.dtype.kind in "biu"
    return array.astype(np.float64 if is_whole else np.float32).astype(np.float64)
