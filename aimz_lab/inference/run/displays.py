"""Collect the callbacks of a run: the user's, those of every fit, and a display."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import entry_points

from aimz_lab.inference.run.events import Callback, check_callbacks
from aimz_lab.system.interrupts import hold_interrupts
from aimz_lab.types import Progress

ENTRY_POINTS = "aimz_lab.display"
"""Group of the entry point that makes a display from the value of ``progress``."""

_default_callbacks: dict[str, Callable[[], Callback]] = {}


def set_default_callback(name: str, make: Callable[[], Callback] | None) -> None:
    """Add a callback to every fit of this process, or remove it.

    Args:
        name: Its name; it replaces another default callback of this name.
        make: Makes the callback of a fit; ``None`` removes it.
    """
    _default_callbacks.pop(name, None)
    if make is not None:
        _default_callbacks[name] = make


@cache
def _display_factory() -> Callable[[Progress], Callback | None] | None:
    found = list(entry_points(group=ENTRY_POINTS))
    with hold_interrupts():  # it imports the packages of the notebook
        return found[0].load() if found else None


def default_display(progress: Progress) -> list[Callback]:
    """Return the display for a value of ``progress``; empty if there is none.

    Args:
        progress: ``False`` shows nothing, ``True`` the display that fits the environment,
            ``"live"`` a dashboard, ``"text"`` a line.
    """
    factory = None if progress is False else _display_factory()
    display = factory(progress) if factory else None
    return [display] if display is not None else []


def all_callbacks(callbacks: Iterable[Callback], progress: Progress) -> list[Callback]:
    """Return the user's callbacks, the default ones, and a display unless they contain one.

    Args:
        callbacks: The user's.
        progress: As for :func:`default_display`.

    Raises:
        CallError: If this is no list of callbacks.
    """
    found = [*check_callbacks(callbacks), *(make() for make in _default_callbacks.values())]
    if not any(getattr(callback, "kind", "") == "display" for callback in found):
        found += default_display(progress)
    return found
