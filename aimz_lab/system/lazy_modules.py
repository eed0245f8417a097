"""pandas, xarray and zarr, imported when they are first used.

Together they take half a second, which a fit does not need; a prediction imports them while its
programs compile.
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING

from aimz_lab.system.imports import late_import

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    import zarr

__all__ = ["pd", "xr", "zarr"]


class LazyModule(types.ModuleType):
    """Stands for a module, which it imports when an attribute is asked for.

    Args:
        name: Its full name.

    Example:
        >>> LazyModule("json").dumps([1])
        '[1]'
    """

    def __getattr__(self, name: str) -> object:
        return getattr(late_import(self.__name__), name)

    def __reduce__(self) -> tuple[type[LazyModule], tuple[str]]:
        return LazyModule, (self.__name__,)


if not TYPE_CHECKING:
    pd, xr, zarr = LazyModule("pandas"), LazyModule("xarray"), LazyModule("zarr")


def import_for_results() -> None:
    """Import what labels results, and dask, which xarray imports with its first array."""
    for name in ("xarray", "dask.array"):
        late_import(name)
