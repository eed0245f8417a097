"""Track and remove the temporary results of a model."""

from __future__ import annotations

import threading
from weakref import WeakValueDictionary

from aimz_lab.predictive.results.owner import Owner
from aimz_lab.system.lazy_modules import xr


class TemporaryResults:
    """Tracks results written without ``output_dir``, as long as something reads them.

    A copy or a pickle of it starts empty.
    """

    def __init__(self) -> None:
        self._owners: WeakValueDictionary[int, Owner] = WeakValueDictionary()
        self._lock = threading.Lock()  # predictions run on several threads

    def __reduce__(self) -> tuple[type[TemporaryResults], tuple[()]]:
        return TemporaryResults, ()

    def remember(self, result: object) -> None:
        """Track a result, if it is temporary."""
        owner = result.encoding.get("owner") if isinstance(result, xr.DataTree) else None
        if owner is None:
            return
        with self._lock:
            self._owners[1 + max(self._owners, default=0)] = owner

    @property
    def latest(self) -> str | None:
        """Directory of the latest result still in use, or ``None``."""
        alive = {n: owner for n, owner in self._owners.items() if owner in Owner.alive}
        return str(alive[max(alive)].path) if alive else None

    def remove(self) -> None:
        """Remove the results from disk now."""
        for owner in list(self._owners.values()):
            owner.remove()
        self._owners.clear()

    @staticmethod
    def remove_all() -> None:
        """Remove the results of all models from disk now."""
        for owner in list(Owner.alive):
            owner.remove()
