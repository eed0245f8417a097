"""Check paths to write to; errors of writing name the path and a remedy."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aimz_lab.errors import AimzLabError, ArgumentError, ArtifactWriteError
from aimz_lab.system.interrupts import hold_interrupts
from aimz_lab.types import shown

_LOCAL = ("file://", "local://")


def path_text(argument: str, path: object) -> str:
    """Return a path or URL as text.

    Args:
        argument: What it is, for messages, such as ``output_dir``.
        path: The path.

    Raises:
        ArgumentError: If it is no path.
    """
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(text, str):
        msg = f"{argument}={shown(path)} is no path; pass a string or a pathlib.Path."
        raise ArgumentError(msg)
    if not text or "\0" in text:
        msg = f"{argument}={shown(text)} is no path: it is empty, or has a null character in it."
        raise ArgumentError(msg)
    for scheme in _LOCAL:
        text = text.removeprefix(scheme)
    return text


def is_url(path: object) -> bool:
    """Whether it is a URL and not a path of this machine's file system."""
    return path is not None and "://" in str(path)


def local_path(argument: str, path: object) -> Path:
    """Return a path of this machine's file system.

    Args:
        argument: What it is, for messages, such as ``path``.
        path: The path; also a ``file://`` URL.

    Raises:
        ArgumentError: If it is no path, or is a URL of another kind.

    Example:
        >>> local_path("path", "s3://bucket/model")
        Traceback (most recent call last):
        ...
        aimz_lab.errors.ArgumentError: path='s3://bucket/model' is a URL, ...
    """
    text = path_text(argument, path)
    if is_url(text):
        msg = (
            f"{argument}={text!r} is a URL, and must be a path on this machine. Use a local path, "
            "and copy it with the package fsspec: fsspec.filesystem(scheme) has .put(local, url, "
            "recursive=True) and .get(url, local, recursive=True)."
        )
        raise ArgumentError(msg)
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # ~name of nobody
        msg = f"{argument}={text!r} is no path: {error}"
        raise ArgumentError(msg) from error


_REMEDIES = {
    errno.ENOSPC: "Free some space, or choose another path.",
    errno.EDQUOT: "Free some space, or choose another path.",
    errno.EEXIST: "A file is where a folder has to be; choose another path.",
    errno.ENOTDIR: "A file is where a folder has to be; choose another path.",
    errno.EISDIR: "A folder is where the file has to be; choose another path.",
    errno.ENOENT: "Its folder does not exist; make it, or choose another path.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.EACCES: "You may not write there; choose another path.",
    errno.EPERM: "You may not write there; choose another path.",
    errno.EROFS: "You may not write there; choose another path.",
}


def remedy_of(error: OSError) -> str:
    """Say in a sentence what to do where something could not be written.

    Example:
        >>> remedy_of(NotADirectoryError(errno.ENOTDIR, "Not a directory"))
        'A file is where a folder has to be; choose another path.'
    """
    return _REMEDIES.get(error.errno, "Choose another path.")


@contextmanager
def naming(path: object, what: str) -> Iterator[None]:
    """Turn errors of the file system into ours, which name the path.

    Args:
        path: The path that is written to.
        what: What is written, such as ``"checkpoint"``.

    Raises:
        ArtifactWriteError: If the block raises an ``OSError``.
    """
    try:
        yield
    except AimzLabError:
        raise
    except OSError as error:
        msg = f"The {what} could not be written to {path}: {error}. {remedy_of(error)}"
        raise ArtifactWriteError(msg) from error


def write_whole(path: Path, data: bytes) -> None:
    """Write a small file under another name and rename it: it is whole, or as before.

    Args:
        path: The file; replaced if it exists.
        data: What goes into it.

    Raises:
        OSError: If it cannot be written.
    """
    partial = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex[:8]}.partial")
    try:
        with hold_interrupts():
            partial.write_bytes(data)
            partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
