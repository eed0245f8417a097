"""The temporary results of a model: which are still read, and how to be rid of them."""

from __future__ import annotations

from functools import cached_property
from typing import Any
from weakref import WeakValueDictionary

import xarray as xr

from aimz_lab.inference.checkpoint.saved_model import StorableModel
from aimz_lab.predictive.results.checked_store import Owner


class CleanableModel(StorableModel):
    """A model that knows its temporary results; see :class:`aimz_lab.ImpactModel`."""

    def _remember(self, result: Any) -> None:
        """Keep track of a result for as long as it is read, if it is a temporary one."""
        owner = result.encoding.get("owner") if isinstance(result, xr.DataTree) else None
        if owner is not None:
            self._temporary[1 + max(self._temporary, default=0)] = owner

    @cached_property
    def _temporary(self) -> WeakValueDictionary[int, Owner]:
        """Owners of the temporary results that are still read, by their number."""
        return WeakValueDictionary()

    def __getstate__(self) -> dict[str, Any]:
        return {name: v for name, v in super().__getstate__().items() if name != "_temporary"}

    @property
    def temp_dir(self) -> str | None:
        """Directory of the latest temporary result that is still read, or ``None``.

        A result that was written without ``output_dir`` has a directory of its own, which goes with
        the last tree that reads it.
        """
        alive = {n: owner for n, owner in self._temporary.items() if owner in Owner.alive}
        return str(alive[max(alive)].path) if alive else None

    def cleanup(self) -> None:
        """Remove the temporary results of this model from disk now.

        There is no need to: each goes with the last tree that reads it. Trees that are in memory,
        as small ones are, stay as they are; a larger one that still reads raises
        :class:`~aimz_lab.errors.ArtifactGoneError`. What was written to an ``output_dir`` stays.

        Example:
            >>> tree = im.predict(X, progress=False)
            >>> im.cleanup()
            >>> im.temp_dir is None
            True
        """
        for owner in list(self._temporary.values()):
            owner.remove()
        self._temporary.clear()

    @classmethod
    def cleanup_models(cls) -> None:
        """Remove the temporary results of all models from disk now; see :meth:`cleanup`.

        Example:
            >>> im.cleanup_models()
        """
        for owner in list(Owner.alive):
            owner.remove()
