"""The temporary results of a model: which are still read, and how to remove them."""

from __future__ import annotations

from weakref import WeakValueDictionary

import xarray as xr

from aimz_lab.predictive.results.checked_store import Owner


class TemporaryResults:
    """Keeps track of results that were written without ``output_dir``, as long as they are read.

    A copy or a pickle of it starts empty.
    """

    def __init__(self) -> None:
        self._owners: WeakValueDictionary[int, Owner] = WeakValueDictionary()

    def __reduce__(self) -> tuple[type[TemporaryResults], tuple[()]]:
        return TemporaryResults, ()

    def remember(self, result: object) -> None:
        """Keep track of a result, if it is a temporary one."""
        owner = result.encoding.get("owner") if isinstance(result, xr.DataTree) else None
        if owner is not None:
            self._owners[1 + max(self._owners, default=0)] = owner

    @property
    def latest(self) -> str | None:
        """Directory of the latest one that is still read, or ``None``."""
        alive = {n: owner for n, owner in self._owners.items() if owner in Owner.alive}
        return str(alive[max(alive)].path) if alive else None

    def remove(self) -> None:
        """Remove them from disk now."""
        for owner in list(self._owners.values()):
            owner.remove()
        self._owners.clear()

    @staticmethod
    def remove_all() -> None:
        """Remove those of all models from disk now."""
        for owner in list(Owner.alive):
            owner.remove()
