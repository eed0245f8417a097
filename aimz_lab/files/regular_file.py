"""Open regular files alone: what could block, or never end, is refused before it is read."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from aimz_lab.files.refusals import Malformed
from aimz_lab.types import shown

# Without O_NONBLOCK, opening a pipe would wait for somebody to write to it.
_FLAGS = os.O_RDONLY | sum(
    getattr(os, name, 0) for name in ("O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY")
)
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file, or a link to one, for reading.

    Args:
        path: The file.

    Raises:
        Malformed: If it is a pipe, a device, a folder or a socket, or cannot be opened.
    """
    try:
        # Opening a device can do something, so that its kind is looked up first.
        _check_kind(as_path(path).stat().st_mode)
        descriptor = os.open(path, _FLAGS)
    except (OSError, ValueError) as error:
        if isinstance(error, Malformed):
            raise
        msg = f"it cannot be opened ({type(error).__name__}: {error})"
        raise Malformed(msg) from error
    try:
        # It may have been replaced in between.
        _check_kind(os.fstat(descriptor).st_mode)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def as_path(path: str | os.PathLike[str]) -> Path:
    """Return a path.

    Raises:
        Malformed: If it is none.
    """
    try:
        return Path(path)
    except TypeError as error:
        msg = f"{shown(path)} is no path"
        raise Malformed(msg) from error


def machine_bytes() -> int | None:
    """Return the memory of this machine in bytes, or ``None`` where it cannot be asked."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _check_kind(mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "no regular file")
    msg = f"it is {kind}, and a regular file is expected"
    raise Malformed(msg)
