"""Listeners that nobody passed: the display, found as a plug-in, and those of all fits."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points

from aimz_lab.inference.events import Callback
from aimz_lab.types import Progress

ENTRY_POINTS = "aimz_lab.display"
"""Group of the entry point that makes a display from the value of ``progress``."""


_standing: dict[str, Callable[[], Callback]] = {}


def set_standing_listener(name: str, make: Callable[[], Callback] | None) -> None:
    """Let every fit of this process have a listener, or no longer.

    Args:
        name: What it goes by; another one of this name is replaced.
        make: Makes the listener of a fit; ``None`` for none any more.
    """
    _standing.pop(name, None)
    if make is not None:
        _standing[name] = make


def standing_listeners() -> list[Callback]:
    """Return the listeners that every fit has."""
    return [make() for make in _standing.values()]


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
