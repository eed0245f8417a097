"""Restore attributes after a failed operation."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def rollback_on_error(*objects: Any) -> Iterator[None]:
    """Restore the attributes of objects if the block raises.

    Values are not copied: the block may replace them, but must not change them in place.

    Args:
        objects: Objects that may change; those without attributes are ignored.
    """
    restore = restorer(*objects)
    try:
        yield
    except BaseException:
        restore()
        raise


@contextlib.contextmanager
def rollback_always(*objects: Any) -> Iterator[None]:
    """Restore the attributes of objects as :func:`rollback_on_error` does, error or not."""
    restore = restorer(*objects)
    try:
        yield
    finally:
        restore()


def restorer(*objects: Any) -> Callable[[], None]:
    """Return a function that restores the attributes that objects have now.

    Args:
        objects: As for :func:`rollback_on_error`.
    """
    holders = [one for one in objects if isinstance(getattr(one, "__dict__", None), dict)]
    before = [dict(vars(holder)) for holder in holders]

    def restore() -> None:
        for holder, attributes in zip(holders, before, strict=True):
            vars(holder).clear()
            vars(holder).update(attributes)

    return restore
