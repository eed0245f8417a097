"""Forked processes: results can be read there; JAX's computations would never end, and are refused.

JAX computes on threads of its own, and a fork copies none of them.
"""

from __future__ import annotations

import os
import sys

from aimz_lab.errors import ForkedProcessError

_WAY_OUT = (
    'start processes by multiprocessing.get_context("spawn") or "forkserver", as joblib and '
    "concurrent.futures can (mp_context=), or use threads"
)


class _Process:
    """This process.

    Attributes:
        is_cut_off: Whether it was forked from one in which JAX had started its threads.
    """

    is_cut_off = False


def _see_fork() -> None:
    """Note, in the child, whether its parent had used JAX; forget the parent's threads."""
    # JAX has no public way to ask this without starting the threads.
    bridge = sys.modules.get("jax._src.xla_bridge")
    _Process.is_cut_off |= bridge is not None and bridge.backends_are_initialized()
    # Dask would wait for threads of the parent's pool; without one it starts its own.
    threaded = sys.modules.get("dask.threaded")
    if threaded is not None:
        threaded.default_pool = None
        threaded.pools.clear()


if hasattr(os, "register_at_fork"):  # systems without it have no fork
    os.register_at_fork(after_in_child=_see_fork)


def check_can_compute(what: str) -> None:
    """Check that JAX can compute in this process.

    Args:
        what: What would be computed, for the message: ``"predict"``.

    Raises:
        ForkedProcessError: If the process was forked after JAX had been used; it says what works.
    """
    if _Process.is_cut_off:
        msg = (
            f"{what} would never end here: this process was forked after JAX had been used (as by "
            'os.fork, multiprocessing\'s "fork", and the workers of a PyTorch DataLoader), and a '
            f"fork does not copy JAX's threads. Instead, {_WAY_OUT}."
        )
        raise ForkedProcessError(msg)
