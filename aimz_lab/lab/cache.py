"""JAX's persistent compilation cache, in a folder of the user's.

A kernel compiles for seconds when it is first trained, and again after every restart of the
notebook. JAX can keep compiled programs; the lab switches that on when it first shows a run, unless
the user has chosen a folder or none.
"""

from __future__ import annotations

import os
from pathlib import Path

import jax
import platformdirs
from jax.experimental.compilation_cache import compilation_cache

from aimz_lab.calls import public
from aimz_lab.data.options import check_path

VARIABLE = "AIMZ_LAB_COMPILATION_CACHE"
"""Environment variable: ``0`` switches the cache off, a path moves it."""

_OFF = ("0", "off", "no", "false")


def cache_directory() -> Path | None:
    """Where compiled programs are kept by default; ``None`` if that is switched off.

    Example:
        >>> import os
        >>> os.environ[VARIABLE] = "off"
        >>> cache_directory() is None
        True
        >>> del os.environ[VARIABLE]
    """
    chosen = os.environ.get(VARIABLE, "")
    if chosen.lower() in _OFF:
        return None
    return Path(chosen) if chosen else platformdirs.user_cache_path("aimz_lab") / "compiled"


@public
def enable_compilation_cache(directory: str | os.PathLike[str] | None = None) -> Path | None:
    """Keep compiled programs between sessions.

    Args:
        directory: The folder; by default one in the user's cache, or that of the environment
            variable ``AIMZ_LAB_COMPILATION_CACHE`` (``0`` for none).

    Returns:
        The folder, or ``None`` without one. By default, a folder that was set before, as
        ``jax_compilation_cache_dir``, is kept.

    Raises:
        ArgumentError: If ``directory`` is no path.

    Example:
        >>> folder = enable_compilation_cache()
        >>> folder is None or folder.is_dir()
        True
    """
    if directory is None and jax.config.jax_compilation_cache_dir:
        return Path(jax.config.jax_compilation_cache_dir)
    folder = check_path("directory", directory) if directory is not None else cache_directory()
    if folder is None or not _writable(folder):
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # A training step compiles in a second, the many small programs around it in much less.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    # If anything is compiled already, JAX has decided about the cache, and must do so again.
    compilation_cache.reset_cache()
    return folder


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)
