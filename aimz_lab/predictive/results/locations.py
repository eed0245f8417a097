"""Locations of stores: folders and fsspec URLs."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from aimz_lab.errors import (
    ArgumentError,
    ArtifactError,
    ArtifactGoneError,
    OptionalDependencyError,
)
from aimz_lab.system.imports import late_import
from aimz_lab.system.paths import is_url, path_text

if TYPE_CHECKING:
    from zarr.abc.store import Store

_DEEPEST = 64
"""Most folders inside one another; a Zarr array has one for each of its dimensions."""


def location(argument: str, path: object) -> str | Path | None:
    """Return a URL unchanged, and anything else, also ``file://``, as an absolute path.

    Args:
        argument: What it is, for messages.
        path: The path or URL, or ``None``.

    Raises:
        ArgumentError: If it is no path.
    """
    if path is None:
        return None
    text = path_text(argument, path)
    return text if is_url(text) else Path(text).expanduser().resolve()


def nothing_at(path: str) -> ArtifactGoneError:
    """The error for a location without a result."""
    msg = f"There is no result at {path}; it was never written, or has been removed."
    return ArtifactGoneError(msg)


def exists(path: str) -> bool:
    """Whether something is at a folder or URL."""
    if not is_url(path):
        return Path(path).exists()
    files, where = late_import("fsspec").core.url_to_fs(path)
    return files.exists(where)


def stored_files(path: str) -> dict[str, int]:
    """Return the sizes of the files in a folder or at a URL, by key.

    Raises:
        ArtifactError: If there is anything but files and folders in it.
    """
    if is_url(path):
        files, where = late_import("fsspec").core.url_to_fs(path)
        files.invalidate_cache(where)  # it may remember how the place looked before
        found = files.find(where, detail=True)
        return {name[len(where) :].lstrip("/"): info["size"] for name, info in found.items()}
    sizes: dict[str, int] = {}
    folders = [(path, "")]
    while folders:
        folder, prefix = folders.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                key = prefix + entry.name
                if entry.is_dir(follow_symlinks=False) and key.count("/") < _DEEPEST:
                    folders.append((entry.path, f"{key}/"))
                elif entry.is_file(follow_symlinks=False):
                    sizes[key] = entry.stat(follow_symlinks=False).st_size
                else:
                    msg = (
                        f"{path} is not a result of this package: {key[:80]} is no regular file, "
                        "or lies too deep."
                    )
                    raise ArtifactError(msg)
    return sizes


def remote_store(url: str, *, read_only: bool = False) -> Store:
    """Return the store at a URL, which may be empty.

    Args:
        url: An fsspec URL.
        read_only: Open it for reading only.

    Raises:
        OptionalDependencyError: If fsspec, or a package that it needs for such URLs, is missing.
        ArgumentError: If fsspec does not know such URLs.
    """
    try:
        late_import("fsspec")
    except ImportError as error:
        msg = "A URL needs fsspec; pip install 'aimz_lab[remote]'."
        raise OptionalDependencyError(msg) from error
    from zarr.storage import FsspecStore

    try:
        with warnings.catch_warnings():
            # The warning only says that a file system is not asynchronous.
            warnings.filterwarnings("ignore", message=".*was not created with.*asynchronous")
            return FsspecStore.from_url(url, read_only=read_only)
    except ImportError as error:
        msg = f"{url} needs another package beside fsspec: {error}."
        raise OptionalDependencyError(msg) from error
    except ValueError as error:
        msg = f"{url} cannot be used as a URL: {error}. A folder goes without '://'."
        raise ArgumentError(msg) from error
