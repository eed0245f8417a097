"""Leaving objects as they were when what changes them does not come to its end, or only looks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any


@contextlib.contextmanager
def rollback_on_error(*objects: Any) -> Iterator[None]:
    """Give objects the attributes back that they had, if what is done meanwhile raises.

    What an attribute holds is not copied: that has to be replaced, not changed in place.

    Args:
        objects: Whatever may change; what has no attributes is passed over.
    """
    undo = _undo(objects)
    try:
        yield
    except BaseException:
        undo()
        raise


@contextlib.contextmanager
def rollback_always(*objects: Any) -> Iterator[None]:
    """Give objects the attributes back that they had, as :func:`rollback_on_error`, in any case."""
    undo = _undo(objects)
    try:
        yield
    finally:
        undo()


def _undo(objects: Iterable[Any]) -> Callable[[], None]:
    holders = [one for one in objects if isinstance(getattr(one, "__dict__", None), dict)]
    before = [dict(vars(holder)) for holder in holders]

    def undo() -> None:
        for holder, attributes in zip(holders, before, strict=True):
            vars(holder).clear()
            vars(holder).update(attributes)

    return undo
