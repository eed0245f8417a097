"""Leaving objects as they were when something that changes them does not come to its end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def undone_if_refused(*objects: Any) -> Iterator[None]:
    """Give objects the attributes back that they had, if what is done meanwhile raises.

    What an attribute holds is not copied: that has to be replaced, not changed in place.

    Args:
        objects: Whatever may change; what has no attributes is passed over.
    """
    holders = [one for one in objects if hasattr(one, "__dict__")]
    before = [dict(vars(holder)) for holder in holders]
    try:
        yield
    except BaseException:
        for holder, attributes in zip(holders, before, strict=True):
            vars(holder).clear()
            vars(holder).update(attributes)
        raise
