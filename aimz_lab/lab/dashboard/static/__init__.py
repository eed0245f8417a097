"""The front end's sources, joined into one JavaScript module and one style sheet."""

from __future__ import annotations

import functools
import re
from pathlib import Path

SOURCES = Path(__file__).parent
"""Folder of the front end's sources."""

_MODULES = ("math", "elements", "marks", "chart", "curve", "panels", "position", "dashboard")
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./[\w.]+";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default)", re.MULTILINE)


@functools.cache
def module() -> str:
    """Join the front end's modules into the one that a widget has.

    The modules stand in the order in which they import each other, and their names are unique. So
    it is enough to leave out the imports and the word ``export``; no bundler is needed.
    """
    sources = [(SOURCES / f"{name}.js").read_text(encoding="utf-8") for name in _MODULES]
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", source)) for source in sources)


@functools.cache
def style() -> str:
    """Return the front end's style sheet."""
    return (SOURCES / "dashboard.css").read_text(encoding="utf-8")
