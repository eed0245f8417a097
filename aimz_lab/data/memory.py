"""Refuse what cannot fit into memory before it is allocated."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from aimz_lab.data.html import format_bytes
from aimz_lab.errors import ArgumentError

MOST_DRAWS = 2**32 - 1
"""Most draws of a call: the key of a draw is derived from its number, which has 32 bits."""

_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@cache
def memory_bytes() -> int:
    """Return the memory of this machine, or of this container, in bytes."""
    limits = []
    if hasattr(os, "sysconf"):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for path in _CGROUPS:
        try:
            limits.append(int(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError):  # no such limit, or "max"
            continue
    return min([limit for limit in limits if limit > 0], default=2**63 - 1)


def check_memory(n_draws: int, draw_bytes: int, what: str, advice: str) -> None:
    """Check that draws can fit into memory.

    Args:
        n_draws: Number of draws.
        draw_bytes: Bytes that each of them takes at least.
        what: What they are draws of, for the message: ``"predictions of 12 rows"``.
        advice: What to do instead, for the message.

    Raises:
        ArgumentError: If they take more than all memory, or are too many to have keys.

    Example:
        >>> check_memory(1000, 8, "predictions", "Ask for fewer.")
    """
    needed = n_draws * draw_bytes
    if needed > memory_bytes():
        msg = (
            f"{n_draws:,} draws of {what} take at least {format_bytes(needed)} of memory, and this "
            f"machine has {format_bytes(memory_bytes())}. {advice}"
        )
        raise ArgumentError(msg)
    if n_draws > MOST_DRAWS:
        msg = f"{n_draws:,} draws of {what} are too many; a call has at most {MOST_DRAWS:,}."
        raise ArgumentError(f"{msg} {advice}")
