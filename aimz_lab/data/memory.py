"""Refuse what cannot fit into memory before it is allocated."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import jax

from aimz_lab.data.html import format_bytes
from aimz_lab.errors import AimzLabError, ArgumentError, OutOfMemoryError

MOST_DRAWS = 2**32 - 1
"""Most draws of a call: the key of a draw is derived from its number, which has 32 bits."""

_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_USED = ("/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory/memory.usage_in_bytes")
_SMALL = 1 << 28
"""Bytes that are not compared with what is free at the moment, which takes a moment to read."""


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


def free_bytes() -> int:
    """Return the memory that this process can still get, in bytes; all of it where unknown."""
    found = [memory_bytes()]
    lines = _text("/proc/meminfo")
    kinds = {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d+) kB", lines, re.M)}
    if "MemAvailable" in kinds:
        found.append(1024 * (kinds["MemAvailable"] + kinds.get("SwapFree", 0)))
    for limit, used in zip(_CGROUPS, _USED, strict=True):
        if _text(limit).strip().isdigit() and _text(used).strip().isdigit():
            cached = re.search(r"^(?:total_)?inactive_file (\d+)", _text(_stat_of(used)), re.M)
            in_use = int(_text(used)) - (int(cached[1]) if cached else 0)
            found.append(max(0, int(_text(limit)) - in_use))
    own = re.search(r"^VmSize:\s+(\d+) kB", _text("/proc/self/status"), re.M)
    if own and (most := _address_space()) is not None:
        found.append(max(0, most - 1024 * int(own[1])))
    return min(found)


def _stat_of(used: str) -> str:
    return str(Path(used).with_name("memory.stat"))


def _address_space() -> int | None:
    """The limit on this process's address space, if there is one."""
    try:
        import resource
    except ImportError:  # not on this system
        return None
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if most == resource.RLIM_INFINITY else most


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


@contextmanager
def memory_explained(advice: str) -> Iterator[None]:
    """Turn an allocation that failed into a sentence.

    Args:
        advice: What to do instead.

    Raises:
        OutOfMemoryError: If NumPy, JAX or Python ran out of memory.
    """
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        is_memory = isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)
        if isinstance(error, AimzLabError) or not is_memory:
            raise
        first = str(error).strip().partition("\n")[0].rstrip(".") or "it is full"
        msg = f"Memory ran out: {first}. {advice}"
        raise OutOfMemoryError(msg) from error


def check_memory(n_draws: int, draw_bytes: int, what: str, advice: str) -> None:
    """Check that draws can fit into memory.

    Args:
        n_draws: Number of draws.
        draw_bytes: Bytes that each of them takes at least.
        what: What they are draws of, for the message: ``"predictions of 12 rows"``.
        advice: What to do instead, for the message.

    Raises:
        OutOfMemoryError: If they take more memory than there is.
        ArgumentError: If they are too many to have keys.

    Example:
        >>> check_memory(1000, 8, "predictions", "Ask for fewer.")
    """
    needed = n_draws * draw_bytes
    total = memory_bytes()
    free = free_bytes() if _SMALL < needed <= total else total
    if needed > min(free, total):
        left = f", of which {format_bytes(free)} are free" if free < total else ""
        fit = int(min(free, total) // draw_bytes)
        most = f"About {fit:,} draws would fit." if fit else "Not even one draw fits."
        msg = (
            f"{n_draws:,} draws of {what} take at least {format_bytes(needed)} of memory, and this "
            f"machine has {format_bytes(total)}{left}. {most} {advice}"
        )
        raise OutOfMemoryError(msg)
    if n_draws > MOST_DRAWS:
        msg = f"{n_draws:,} draws of {what} are too many; a call has at most {MOST_DRAWS:,}."
        raise ArgumentError(f"{msg} {advice}")
