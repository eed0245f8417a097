"""The front end's sources, and the one module that the page is given."""

from __future__ import annotations

import functools
import re
from pathlib import Path

_HERE = Path(__file__).parent
_MODULES = ("math.js", "elements.js", "chart.js", "curve.js", "panels.js", "dashboard.js")
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./[\w.]+";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default)", re.MULTILINE)


@functools.cache
def module() -> str:
    """Join the front end's modules into one, since a widget has one and no bundler is needed.

    They come in the order in which they import each other, names are unique among them, and so it
    is enough to leave out the imports and the word ``export``.
    """
    sources = [(_HERE / name).read_text(encoding="utf-8") for name in _MODULES]
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", source)) for source in sources)


@functools.cache
def style() -> str:
    """Return the front end's style sheet."""
    return (_HERE / "dashboard.css").read_text(encoding="utf-8")
