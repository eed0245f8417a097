"""Compare the versions of Dask's workers before anything of this package is sent to them."""

from __future__ import annotations

import threading
from collections.abc import Iterable
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
    found: dict[str, dict[str, str] | Exception] = {}

    def ask() -> None:
        # Text, as code of functions cannot be read by another release of Python.
        found.update(client.run(eval, _QUESTION, workers=new, on_error="return"))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_ANSWER_S)
    expected, _ = here("")
    for address, answer in found.copy().items():
        if isinstance(answer, ImportError | AttributeError):
            msg = (
                f"The worker at {address} lacks a package, or has another release of it: "
                f"{answer}. Install there what this process has."
            )
            raise ClusterError(msg)
        if isinstance(answer, Exception):  # it has died, for one
            continue
        for name, version in expected.items():
            if answer[name] != version:
                raise other_version(f"at {address}", name, answer[name], version)
        known.add(address)


_QUESTION = """{
    "Python": ".".join(__import__("platform").python_version_tuple()[:2]),
    "jax": __import__("jax").__version__,
    "jaxlib": __import__("jaxlib").__version__,
    "numpyro": __import__("numpyro").__version__,
    "aimz_lab": __import__("aimz_lab.version", fromlist=["here"]).__version__,
    "task": __import__("aimz_lab.cluster.tasks", fromlist=["here"]).run_part.__name__,
}"""
"""What a worker has; an error of imports if it lacks something."""
