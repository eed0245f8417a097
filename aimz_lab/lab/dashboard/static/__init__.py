"""The front end's sources, joined into one JavaScript module and one style sheet."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from pathlib import Path

SOURCES = Path(__file__).parent
"""Folder of the front end's sources."""

_MODULES = {
    "dashboard": (
        "math", "view", "elements", "theme", "marks", "chart", "curve", "panels", "position",
        "record", "dock", "dashboard",
    ),
    "running": ("elements", "record", "running"),
    "worker_map": ("elements", "theme", "record", "worker_map"),
}  # fmt: skip
_IMPORT = re.compile(r'^import \{[^}]*\} from "\.{1,2}/[\w./]+";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default)", re.MULTILINE)


def joined(files: Iterable[Path]) -> str:
    """Join modules into one.

    They stand in the order in which they import each other, and their names are unique. So it is
    enough to leave out the imports and the word ``export``; no bundler is needed.

    Args:
        files: The modules; the last one has the default export.
    """
    sources = (file.read_text(encoding="utf-8") for file in files)
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", source)) for source in sources)


def sheet(file: Path) -> str:
    """Return a style sheet.

    Args:
        file: Its path.
    """
    return file.read_text(encoding="utf-8")


@functools.cache
def module(name: str = "dashboard") -> str:
    """Join the front end's modules into the one that a widget has.

    Args:
        name: The module that comes last, and has the default export.
    """
    return joined(SOURCES / f"{part}.js" for part in _MODULES[name])


@functools.cache
def style() -> str:
    """Return the front end's style sheet."""
    return sheet(SOURCES / "dashboard.css")
