"""Locations of stores: folders and fsspec URLs."""

from __future__ import annotations

import warnings
from pathlib import Path

from zarr.abc.store import Store

from aimz_lab.errors import ArgumentError, ArtifactGoneError, OptionalDependencyError


def location(path: str | Path | None) -> str | Path | None:
    """Return a URL unchanged, and anything else, also ``file://``, as an absolute path."""
    if path is None:
        return None
    text = str(path)
    for scheme in ("file://", "local://"):
        text = text.removeprefix(scheme)
    return text if is_url(text) else Path(text).expanduser().resolve()


def is_url(path: object) -> bool:
    """Whether it is a URL and not a folder."""
    return path is not None and "://" in str(path)


def nothing_at(path: str) -> ArtifactGoneError:
    """The error for a location without a result."""
    msg = f"There is no result at {path}; it was never written, or has been removed."
    return ArtifactGoneError(msg)


def exists(path: str) -> bool:
    """Whether something is at a folder or URL."""
    if not is_url(path):
        return Path(path).exists()
    import fsspec

    files, where = fsspec.core.url_to_fs(path)
    return files.exists(where)


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
        import fsspec  # noqa: F401
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
