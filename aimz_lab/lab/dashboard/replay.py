"""Show a finished run on the live page, redrawn from its history."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aimz_lab.calls import public
from aimz_lab.inference.run.events import Run
from aimz_lab.lab import environment
from aimz_lab.lab.dashboard.contents import meta, panels_of
from aimz_lab.lab.panels.panel_set import Frames, PanelSet
from aimz_lab.lab.record import RunSource, run_of

if TYPE_CHECKING:
    from anywidget import AnyWidget


def frames_of(run: Run) -> Frames:
    """Describe a whole run at once, as the panels would have at its end."""
    panel_set = PanelSet(panels_of(run), share=1.0)
    panel_set.begin(run)
    return {"meta": meta(run), **panel_set.frames(run, everything=True)}


@public
def show(source: RunSource, *others: RunSource) -> AnyWidget:
    """Show a run on the live page, with other axes or beside other runs.

    Args:
        source: A run, or an object with one: a history, a dashboard, a watched loop.
        *others: Further runs, drawn in grey.

    Returns:
        The widget, which shows itself at the end of a cell. A saved notebook does not keep it; it
        keeps the still picture of the run, or a :func:`~aimz_lab.lab.loss_figure`.

    Raises:
        DataTypeError: If an argument has no run.
        OptionalDependencyError: If the widget's packages are missing.

    Example:
        >>> show(im.last_run).trait_names() != []
        True
    """
    environment.require_widgets()
    from aimz_lab.lab.dashboard.widget import make_widget

    runs = [
        {"label": f"{run.info.model} {i}", "n_obs": run.info.n_obs, "trace": trace}
        for i, run in enumerate(map(run_of, others), start=2)
        for trace in (frames_of(run)["loss"]["traces"]["loss"],)
    ]
    return make_widget({**frames_of(run_of(source)), "previous_runs": {"runs": runs}})
