"""The display that ``fit`` shows by itself, found as a plug-in: the core draws nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points

from aimz_lab.inference.events import Callback
from aimz_lab.types import Progress

ENTRY_POINTS = "aimz_lab.display"
"""Group of the entry point that makes a display from the value of ``progress``."""


@cache
def _factory() -> Callable[[Progress], Callback | None] | None:
    found = list(entry_points(group=ENTRY_POINTS))
    return found[0].load() if found else None


def default_display(progress: Progress) -> list[Callback]:
    """Return the display for a value of ``progress``; empty if there is none.

    Args:
        progress: ``False`` for silence, ``True`` for what fits the place, ``"live"`` or ``"text"``.
    """
    factory = None if progress is False else _factory()
    display = factory(progress) if factory else None
    return [display] if display is not None else []
