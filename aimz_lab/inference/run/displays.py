"""The listeners of a run: the user's, those of all fits, and the display, found as a plug-in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import entry_points

from aimz_lab.errors import CallError
from aimz_lab.inference.run.events import Callback
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


def all_listeners(callbacks: Iterable[Callback], progress: Progress) -> list[Callback]:
    """Return the user's listeners, those of every fit, and a display if there is none among them.

    Args:
        callbacks: The user's.
        progress: As for :func:`default_display`.

    Raises:
        CallError: If a listener was passed where a list of them is expected.
    """
    if isinstance(callbacks, Callback):
        msg = f"callbacks= takes a list of listeners: callbacks=[{type(callbacks).__name__}(...)]."
        raise CallError(msg)
    listeners = [*callbacks, *standing_listeners()]
    if not any(getattr(callback, "kind", "") == "display" for callback in listeners):
        listeners += default_display(progress)
    return listeners
