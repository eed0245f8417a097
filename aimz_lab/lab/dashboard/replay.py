"""Show a run on the live page: one that goes on live, one that ended from its history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aimz_lab.calls import public
from aimz_lab.inference.run.events import Run
from aimz_lab.inference.run.live_runs import LiveRun, live_runs
from aimz_lab.inference.run.run_words import of_outcomes, run_name
from aimz_lab.lab import environment
from aimz_lab.lab.dashboard import previous_runs
from aimz_lab.lab.dashboard.contents import meta, panels_of
from aimz_lab.lab.dashboard.dashboard import LiveDashboard
from aimz_lab.lab.dashboard.views import PicturesOnDemand
from aimz_lab.lab.panels import ParametersPanel
from aimz_lab.lab.panels.panel_set import Frames, PanelSet
from aimz_lab.lab.pictures.figures import picture_bundle
from aimz_lab.lab.record import RunSource, run_of

if TYPE_CHECKING:
    from anywidget import AnyWidget


def frames_of(run: Run) -> Frames:
    """Describe a whole run at once, as the panels would have at its end."""
    panels = panels_of(run)
    if run.finished:  # how the parameters moved is known while they move alone
        panels = [panel for panel in panels if not isinstance(panel, ParametersPanel)]
    panel_set = PanelSet(panels, share=1.0)
    panel_set.begin(run)
    return {"meta": meta(run), **panel_set.frames(run, everything=True)}


@public
def show(source: RunSource, *others: RunSource) -> AnyWidget | LiveDashboard:
    """Show a run on the live page, with other axes or beside other runs.

    A run that goes on is shown live, with its buttons, also if it began without a display.

    Args:
        source: A run, or an object with one: a history, a dashboard, a handle, a watched loop.
        *others: Further runs, drawn in grey.

    Returns:
        The widget, which shows itself at the end of a cell. A notebook that is opened without its
        kernel shows a still picture in its place, or says where the run was when it was saved. If a
        program executes the notebook, a run that goes on is shown as a picture, which is drawn anew
        when the run has ended.

    Raises:
        DataTypeError: If an argument has no run.
        OptionalDependencyError: If the widget's packages are missing.

    Example:
        >>> show(im.last_run).trait_names() != []
        True
    """
    environment.require_widgets()
    from aimz_lab.lab.dashboard.widget import WidgetView, make_widget, show_picture_below

    run, beside_it = run_of(source), [run_of(other) for other in others]
    for live in live_runs():
        if live.run is not run:
            continue
        shown = [c.view for c in live.callbacks.active if isinstance(c, LiveDashboard)]
        for view in shown:
            if isinstance(view, WidgetView) and not others:
                return view.widget
        if followed := _follow(live, beside_it):
            return followed
    frames = frames_of(run) | _beside(run, beside_it)
    widget = make_widget(frames if run.finished else _as_snapshot(frames))
    widget.show_below = lambda: show_picture_below(widget, *picture_bundle(run, others=beside_it))
    return widget


def _label(run: Run, place: int) -> str:
    """Name a run beside another one, by its number if it has one."""
    return f"{run.info.model} {place}" if run.number is None else run_name(run)


def _beside(run: Run, others: Sequence[Run]) -> Frames:
    """Describe the runs beside another one."""
    described = [
        previous_runs.described(other, f"{_label(other, place)}{of_outcomes([other, run])[0]}")
        for place, other in enumerate(others, start=2)
    ]
    return {"previous_runs": {"runs": described}}


def _follow(live: LiveRun, others: Sequence[Run]) -> AnyWidget | LiveDashboard | None:
    """Return what follows a run from the next event on, unless the run has ended."""
    from aimz_lab.lab.dashboard.widget import FollowingView

    dashboard = LiveDashboard()
    # A program that executes a notebook saves the state of widgets, of a run that will be over.
    if environment.place() in ("kernel", "console"):
        dashboard.follow(live.run, lambda _: PicturesOnDemand(others))
        return dashboard if live.callbacks.join(dashboard) else None
    so_far = {name: frame for name, frame in frames_of(live.run).items() if "error" not in frame}
    frames = so_far | _beside(live.run, others)
    dashboard.follow(live.run, lambda receive: FollowingView(live.run, frames, receive, others))
    return dashboard.view.widget if live.callbacks.join(dashboard) else None


def _as_snapshot(frames: Frames) -> Frames:
    """Say that these frames of a run without an end stay as they are."""
    why = "The run as it was when it was shown; this view does not follow it."
    progress = frames["progress"] | {"status": "snapshot", "words": "snapshot", "reason": why}
    return frames | {"progress": progress | {"asked": "", "asked_rate": None}}
