"""Pickle calls with the user's code as it is now, also that of modules that can be imported."""

from __future__ import annotations

import contextlib
import hashlib
import io
import sys
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cloudpickle
import zarr

from aimz_lab.cluster.tasks import Header, here
from aimz_lab.errors import ClusterError
from aimz_lab.kernel.read_code import is_library_module, package_of

if TYPE_CHECKING:
    from aimz_lab.cluster.tasks import Call

_LIBRARIES = {None, "aimz_lab", "equinox", "flax", "jax", "numpy", "numpyro"}
"""Packages whose classes must stay those that workers import."""

_registering = threading.Lock()


def packed(call: Call, platform: str) -> tuple[Header, bytes]:
    """Pickle a call for workers.

    Args:
        call: The call.
        platform: The kind of device that it would compute on here: ``"cpu"``.

    Returns:
        What a worker checks before it reads the call, and the call.

    Raises:
        ClusterError: If a part of it cannot be pickled.
    """
    try:
        with _by_value({package_of(side.request.kernel) for side in call.sides}):
            kernels = cloudpickle.dumps([side.request.kernel for side in call.sides])
            pickled, stores = _with_stores(call)
            if stores:
                pickled = cloudpickle.dumps(replace(call, stores=stores))
    except Exception as error:
        msg = (
            f"The call cannot be sent to the workers: {error}. Kernels, reducers and what they "
            "read must not hold open files, locks, devices or the like; make these within the "
            "kernel."
        )
        raise ClusterError(msg) from error
    kernel = hashlib.sha256(kernels).hexdigest()
    return Header(uuid.uuid4().hex, kernel, *here(platform)), pickled


class _StoreFinder(cloudpickle.Pickler):
    """Pickles, and notes the arrays of Zarr that it meets, however deep: in the graphs of Dask."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.found: dict[tuple[str, str], zarr.Array] = {}

    def persistent_id(self, value: Any) -> None:
        if isinstance(value, zarr.Array):
            self.found[str(value.store_path), value.path] = value


def _with_stores(call: Call) -> tuple[bytes, tuple[zarr.Array, ...]]:
    """Pickle a call; return with it the arrays of Zarr in it.

    A worker that does not see one of them would read its fill value, and no error.
    """
    file = io.BytesIO()
    pickler = _StoreFinder(file)
    pickler.dump(call)
    return file.getvalue(), tuple(pickler.found.values())


@contextlib.contextmanager
def _by_value(homes: set[str | None]) -> Iterator[None]:
    """Let code of the user's modules travel by value.

    By name, a worker would run what it imported once: another version of a module that was edited
    and reloaded here, or other values of its global names.

    Args:
        homes: The packages of the kernels; their code is the user's even if they are installed.
    """
    homes -= _LIBRARIES
    with _registering:
        registered = cloudpickle.list_registry_pickle_by_value()
        modules = [
            module
            for name, module in list(sys.modules.items())
            if getattr(module, "__file__", None)
            and name not in {*registered, "__main__"}
            and (name.partition(".")[0] in homes or not is_library_module(name))
        ]
        for module in modules:
            cloudpickle.register_pickle_by_value(module)
        try:
            yield
        finally:
            for module in modules:
                cloudpickle.unregister_pickle_by_value(module)
