"""Choose the view that fits the place where a run is watched."""

from __future__ import annotations

from typing import Literal

from aimz_lab.lab import environment
from aimz_lab.lab.dashboard.views import LineView, NotebookView, PictureView, View
from aimz_lab.progress import progress_line
from aimz_lab.system.imports import late_import

ViewName = Literal["auto", "page", "picture", "still", "line", "none"]
MOST_UPDATES_PER_S = 10.0


def view_named(name: ViewName, place: environment.Place) -> View:
    """Return the view of a name.

    Args:
        name: The name; ``"auto"`` for what fits ``place``.
        place: Where the run is watched.

    Raises:
        OptionalDependencyError: If the live page is asked for and its packages are missing.
    """
    if name == "auto":
        name = _best_view(place)
    match name:
        case "page":
            environment.require_widgets()
            return late_import("aimz_lab.lab.dashboard.widget").WidgetView(1 / MOST_UPDATES_PER_S)
        case "picture":
            return PictureView()
        case "still":
            return NotebookView()
        case "line":
            return LineView(progress_line())
        case _:
            return View()


def _best_view(place: environment.Place) -> ViewName:
    if place == "page":
        return "page" if environment.has_widgets() else "picture"
    return {"kernel": "still", "automation": "none"}.get(place, "line")
