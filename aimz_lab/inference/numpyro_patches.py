"""The same program in every process: sites are added up in the order of their names.

NumPyro's ELBO goes through a set of names, and the order of a set of strings is another one in each
Python process. Losses then differ in their last bits from one process to the next, so that a run
that goes on from a checkpoint is not quite the one that was cut short, and a compiled program that
was kept is never found again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

from numpyro.infer import elbo


class _InOrder(set):
    """A set of names that is gone through in their order."""

    def __iter__(self) -> Iterator[Any]:
        return iter(sorted(super().__iter__(), key=str))

    def union(self, *others: Iterable[Any]) -> _InOrder:
        # Of a plain set too: NumPyro also says set.union(one, other).
        return _InOrder(set(self).union(*others))


@contextlib.contextmanager
def sites_in_order() -> Iterator[None]:
    """Have NumPyro's ELBO go through sites in order; held with the tracing lock."""
    elbo.set = _InOrder
    try:
        yield
    finally:
        vars(elbo).pop("set", None)
