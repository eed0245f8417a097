"""The sources of the explorers' front end, joined with those that it shares with the dashboard."""

from __future__ import annotations

import functools
from pathlib import Path

from aimz_lab.lab.dashboard.static import SOURCES as SHARED
from aimz_lab.lab.dashboard.static import joined, sheet

SOURCES = Path(__file__).parent
"""Folder of the explorers' own sources."""

_MODULES = (
    *(SHARED / f"{name}.js" for name in ("math", "elements", "theme")),
    *(SOURCES / f"{name}.js" for name in ("plot", "layers", "figure", "explorer")),
)


@functools.cache
def module() -> str:
    """Join the modules into the one that a widget has."""
    return joined(_MODULES)


@functools.cache
def style() -> str:
    """Return the style sheets: the dashboard's, and what the explorers add."""
    return sheet(SHARED / "dashboard.css") + sheet(SOURCES / "explorer.css")
