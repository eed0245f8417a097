"""The front end's sources, joined into one JavaScript module and one style sheet."""

from __future__ import annotations

import functools
import re
from pathlib import Path

SOURCES = Path(__file__).parent
"""Folder of the front end's sources."""

_MODULES = {
    "dashboard": (
        "math", "view", "elements", "marks", "chart", "curve", "panels", "position", "record",
        "dock", "dashboard",
    ),
    "running": ("elements", "record", "running"),
}  # fmt: skip
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./[\w.]+";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default)", re.MULTILINE)


@functools.cache
def module(name: str = "dashboard") -> str:
    """Join the front end's modules into the one that a widget has.

    The modules stand in the order in which they import each other, and their names are unique. So
    it is enough to leave out the imports and the word ``export``; no bundler is needed.

    Args:
        name: The module that comes last, and has the default export.
    """
    sources = [(SOURCES / f"{part}.js").read_text(encoding="utf-8") for part in _MODULES[name]]
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", source)) for source in sources)


@functools.cache
def style() -> str:
    """Return the front end's style sheet."""
    return (SOURCES / "dashboard.css").read_text(encoding="utf-8")
