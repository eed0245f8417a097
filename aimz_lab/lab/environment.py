"""Find out where a run is watched: a notebook page, a kernel, a terminal, a pipe, automation."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import IO, Literal

from aimz_lab.errors import OptionalDependencyError
from aimz_lab.system.notebook_output import asked_from_console, asked_from_page, kernel

Place = Literal["page", "console", "kernel", "terminal", "pipe", "automation"]

_AUTOMATION = ("CI", "GITHUB_ACTIONS", "PYTEST_CURRENT_TEST", "PYTEST_VERSION")
_NO = ("", "0", "false", "no")


def place(stream: IO[str] | None = None) -> Place:
    """Return where a run is watched.

    Args:
        stream: Where text would go; standard error by default.

    Returns:
        ``"page"``: a notebook whose cell was run from a page. ``"console"``: a kernel at whose
        console somebody types. ``"kernel"``: a kernel driven by a program, such as a notebook that
        is being converted. ``"automation"``: continuous integration or a test. ``"terminal"`` and
        ``"pipe"``: what ``stream`` is connected to.
    """
    if kernel() is not None:
        if automated():
            return "kernel"
        return "page" if asked_from_page() else "console" if asked_from_console() else "kernel"
    if automated():
        return "automation"
    stream = stream or sys.stderr
    return "terminal" if stream is not None and stream.isatty() else "pipe"


def automated() -> bool:
    """Whether this is continuous integration or a test, by their environment variables."""
    return any(os.environ.get(name, "").lower() not in _NO for name in _AUTOMATION)


def has_subshells() -> bool:
    """Whether the kernel can take a page's messages while a cell runs."""
    return bool(getattr(kernel(), "_supports_kernel_subshells", False))


def has_widgets() -> bool:
    """Whether the packages for a live view are installed."""
    return all(importlib.util.find_spec(name) for name in ("anywidget", "ipywidgets"))


def require_widgets() -> None:
    """Raise unless the packages for a live view are installed.

    Raises:
        OptionalDependencyError: If one is missing.
    """
    if not has_widgets():
        msg = "The live page needs anywidget and ipywidgets: pip install 'aimz_lab[lab]'"
        raise OptionalDependencyError(msg)


def has_matplotlib() -> bool:
    """Whether the package for pictures is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def require_matplotlib() -> None:
    """Raise unless the package for pictures is installed.

    Raises:
        OptionalDependencyError: If it is missing.
    """
    if not has_matplotlib():
        msg = "Pictures need matplotlib: pip install 'aimz_lab[lab]'"
        raise OptionalDependencyError(msg)
