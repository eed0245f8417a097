"""Folders of unfinished work, named by their process, and removed once that is gone.

A name holds the machine, the process, when that began, and a random part. The next call that
writes to the same place removes what no living process owns. It never touches folders of
living processes, of other machines or containers, or of other users.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import time
import uuid
from contextlib import suppress
from functools import cache
from pathlib import Path

_OWNER = re.compile(r"(?P<host>[0-9a-f]{8})-(?P<pid>\d{1,10})-(?P<start>\d{1,20})-[0-9a-f]{8}")

_PAUSES_S = (0.0, 0.01, 0.05, 0.2, 0.5)
"""Pauses before each try to remove a folder, as threads may still be writing to it."""

_in_use: set[str] = set()
"""Names of the folders that this process is using."""


def make_folder(parent: Path, prefix: str, suffix: str = "", *, visible: bool = True) -> Path:
    """Make a folder whose name says which process owns it.

    Args:
        parent: Where.
        prefix: Beginning of its name.
        suffix: End of its name.
        visible: Whether other users may look into it, as the file mode mask allows.

    Raises:
        OSError: If it cannot be made.
    """
    pid = os.getpid()
    owner = f"{_host()}-{pid}-{_started(pid) or 0}-{uuid.uuid4().hex[:8]}"
    path = parent / f"{prefix}{owner}{suffix}"
    _in_use.add(path.name)
    try:
        path.mkdir(mode=0o777 if visible else 0o700)
    except BaseException:
        _in_use.discard(path.name)
        raise
    return path


def keep_folder(path: Path) -> None:
    """Note that a folder got its final name, so that nobody owns it any more."""
    _in_use.discard(path.name)


def remove_folder(path: Path) -> None:
    """Remove a folder, also while threads that write to it come to an end.

    What cannot be removed now counts as left behind; the next call tries again.
    """
    for pause_s in _PAUSES_S:
        time.sleep(pause_s)
        shutil.rmtree(path, ignore_errors=True)
        if not path.exists():
            break
    _in_use.discard(path.name)


def remove_leftovers(parent: Path, prefix: str, suffix: str = "") -> None:
    """Remove folders that processes left behind when they were killed.

    Args:
        parent: Where to look, and not deeper.
        prefix: Beginning of the names.
        suffix: End of the names.
    """
    with suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if entry.name.startswith(prefix) and entry.name.endswith(suffix):
                owner = _OWNER.search(entry.name)
                if owner and _is_left_behind(entry, owner):
                    shutil.rmtree(entry.path, ignore_errors=True)


def _is_left_behind(entry: os.DirEntry, owner: re.Match) -> bool:
    if owner["host"] != _host() or not entry.is_dir(follow_symlinks=False):
        return False
    with suppress(OSError):
        if hasattr(os, "getuid") and entry.stat(follow_symlinks=False).st_uid != os.getuid():
            return False
        pid, start = int(owner["pid"]), int(owner["start"])
        if pid == os.getpid() and start == (_started(pid) or 0):
            return entry.name not in _in_use
        return _is_gone(pid, start)
    return False


def _is_gone(pid: int, start: int) -> bool:
    """Whether a process of this machine has ended; what is not known is taken for alive."""
    if os.name != "posix":
        return False
    if start and _started(os.getpid()):
        return _started(pid) != start  # another process may have got the number since
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _started(pid: int) -> int | None:
    """When a process began, in ticks since the machine did; ``None`` if it is gone or unknown."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


@cache
def _host() -> str:
    """Identify the machine since it was started, and the container that sees its processes."""
    parts = [platform.node(), platform.system()]
    for read in (
        lambda: Path("/proc/sys/kernel/random/boot_id").read_text(),
        lambda: os.readlink("/proc/self/ns/pid"),  # noqa: PTH115
    ):
        try:
            parts.append(read())
        except (OSError, AttributeError):
            parts.append(str(uuid.getnode()))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]
