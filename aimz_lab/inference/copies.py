"""Pickle and copy models, with their code.

Plain pickle cannot hold optimizers and most kernels, which are functions made by functions, so the
parts of a model are pickled by cloudpickle.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from aimz_lab.errors import CopyError

_WAY_OUT = (
    "What always works: im.save(path) here, and ImpactModel.load(path, kernel, svi=svi) there, "
    "which takes kernel and inference object from your code."
)


def pickled(parts: Mapping[str, Any]) -> bytes:
    """Pickle the parts of an object, functions by value where they cannot be imported.

    Args:
        parts: Values of attributes by name.

    Raises:
        CopyError: If a part cannot be pickled; it says what works.
    """
    import cloudpickle

    try:
        return cloudpickle.dumps(dict(parts))
    except Exception as error:
        msg = f"This model cannot be pickled: {error} {_WAY_OUT}"
        raise CopyError(msg) from error


def unpickled(kind: type, data: bytes) -> Any:
    """Return an object of a class whose attributes were pickled by :func:`pickled`."""
    import cloudpickle

    made = kind.__new__(kind)
    vars(made).update(cloudpickle.loads(data))
    return made


def copied(
    original: Any, parts: Mapping[str, Any], memo: dict[int, Any], shared: Iterable[Any]
) -> Any:
    """Return a deep copy of an object.

    Args:
        original: The object.
        parts: The attributes to copy, by name.
        memo: The memo of :func:`copy.deepcopy`.
        shared: Immutable objects among them, which the copy shares.

    Raises:
        CopyError: If a part cannot be copied; it says what works.
    """
    made = type(original).__new__(type(original))
    memo[id(original)] = made
    memo |= {id(each): each for each in shared}
    try:
        vars(made).update(copy.deepcopy(dict(parts), memo))
    except Exception as error:
        msg = f"This model cannot be copied: {error} {_WAY_OUT}"
        raise CopyError(msg) from error
    return made


def refuse_copy(what: str, way_out: str) -> NoReturn:
    """Raise the error of an object that belongs to its process.

    Args:
        what: The object, as the beginning of a sentence.
        way_out: What works instead, as a sentence.

    Raises:
        CopyError: Always.
    """
    msg = f"{what} belongs to the process that trains, and cannot be pickled or copied. {way_out}"
    raise CopyError(msg)
