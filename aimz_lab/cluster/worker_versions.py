"""Compare the versions of Dask's workers before anything of this package is sent to them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakKeyDictionary

from aimz_lab.cluster.tasks import here, other_version
from aimz_lab.errors import ClusterError

_ANSWER_S = 10.0
"""How long workers may take; Dask never ends a question to one that dies meanwhile."""

_alike: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()
"""Addresses of workers that were compared, by client."""


def check_versions(client: Any, addresses: Iterable[str]) -> None:
    """Check that workers have the versions of this process.

    A worker cannot read a task of a release that it does not have: Dask would end it, start it
    anew, and so on. Workers that do not answer, or come later, are compared part by part.

    Args:
        client: The Dask client.
        addresses: Addresses of its workers.

    Raises:
        ClusterError: If a worker has other versions, or lacks a package.
    """
    known = _alike.setdefault(client, set())
    new = sorted(set(addresses) - known)
    if not new:
        return
    found: dict[str, dict[str, str]] = {}

    def ask() -> None:
        found.update(client.run(_probe(), workers=new, on_error="ignore"))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_ANSWER_S)
    expected, _ = here("")
    for address, versions in found.copy().items():
        if missing := versions.get("missing"):
            msg = (
                f"The worker at {address} lacks a package, or has another release of it: "
                f"{missing}. Install there what this process has."
            )
            raise ClusterError(msg)
        for name, version in expected.items():
            if versions[name] != version:
                raise other_version(f"at {address}", name, versions[name], version)
        known.add(address)


def _probe() -> Callable[[], dict[str, str]]:
    """Return a function that travels by its code, as a worker may not have this module."""

    def versions() -> dict[str, str]:
        import platform

        try:
            import jax
            import jaxlib
            import numpyro

            from aimz_lab.cluster.tasks import run_part  # noqa: F401
            from aimz_lab.version import __version__
        except ImportError as error:
            return {"missing": str(error)}
        return {
            "Python": ".".join(platform.python_version_tuple()[:2]),
            "aimz_lab": __version__,
            "jax": jax.__version__,
            "jaxlib": jaxlib.__version__,
            "numpyro": numpyro.__version__,
        }

    return versions
