"""The live dashboard: a callback that describes a run in frames and hands these to a view."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aimz_lab.calls import public
from aimz_lab.data.checks import check_positive_int
from aimz_lab.data.options import check_callable, check_flag, check_progress, real_number
from aimz_lab.errors import AimzLabError, ArgumentError
from aimz_lab.inference.run.events import Callback, Run, Steps
from aimz_lab.inference.run.getting_ready import Display
from aimz_lab.inference.run.smoothing import following_steps, window_steps
from aimz_lab.lab import environment
from aimz_lab.lab.cache import enable_compilation_cache
from aimz_lab.lab.callbacks import ProgressLine
from aimz_lab.lab.dashboard import previous_runs
from aimz_lab.lab.dashboard.clicks import obey
from aimz_lab.lab.dashboard.contents import meta, panels_of
from aimz_lab.lab.dashboard.rate_doubts import doubt
from aimz_lab.lab.dashboard.view_choice import MOST_UPDATES_PER_S, ViewName, view_named
from aimz_lab.lab.dashboard.views import NotebookView, Receive, View
from aimz_lab.lab.panels import CheckPanel, DevicesPanel, Panel
from aimz_lab.lab.panels.compilations import compilation_log
from aimz_lab.lab.panels.panel_set import Frames, PanelSet
from aimz_lab.lab.panels.predictive_check import Replicate
from aimz_lab.lab.throttle import Throttle
from aimz_lab.preparing import Preparing
from aimz_lab.system.imports import late_import
from aimz_lab.types import Progress, check_choice, shown

if TYPE_CHECKING:
    from aimz_lab.cluster.call_log import CallDisplay

_MEASURED = 0.4  # of the share; the rest is for the thread that encodes and sends, and the page


@public
class LiveDashboard(Display):
    """Watch and steer a run while it trains, or while its chains draw.

    In a notebook: curves, padding, devices, parameters, and buttons that stop, pause and steer the
    run. "Stop and restore best" gives the model the best state: by the held-out loss, or else the
    lowest loss. For chains, it shows energies, divergences, step sizes, R-hat and effective sample
    sizes. When the run ends, a still picture with a summary takes their place.

    The view survives a reload of the page, which shows it live again, or the picture of a run that
    has ended meanwhile. If an output is cleared or its cell runs again, the buttons move to a card
    in a corner of the page. A cell that still runs gets the picture of the end all the same; else
    the card keeps it, also after a reload, until you close it, and :func:`~aimz_lab.lab.show` puts
    it into a cell. :func:`~aimz_lab.lab.running` lists every run of the process.

    A terminal or a console gets one line (for a fit in the background, one at its beginning and one
    at its end); a notebook that a program executes gets the picture; continuous integration and
    tests get nothing.

    Args:
        view: Where to show the run. ``"auto"`` chooses; ``"page"`` is the live page, ``"picture"``
            a picture that is redrawn now and then, ``"still"`` the picture of the end alone,
            ``"line"`` text. Or a view of your own.
        predictive_check: Called with the run every ``check_every`` epochs; returns observed values,
            shape ``(row,)``, and replicated ones, shape ``(draw, row)``, whose densities are shown.
        check_every: Epochs from one predictive check to the next. A run of chains is one epoch.
        grad_norm: Whether to ask the trainer for the norm of the gradient of each step.
        share: Largest share of wall time that the display may take.

    Attributes:
        run: The run that was watched last, or ``None``.
        view: The view that shows it.

    Raises:
        ArgumentError: If an argument has a value that is not allowed.
        OptionalDependencyError: If the live page is asked for and its packages are missing.

    Example:
        >>> from aimz_lab.lab.dashboard.views import RecordingDisplay
        >>> LiveDashboard(view=RecordingDisplay()).run is None
        True
    """

    def __init__(
        self,
        *,
        view: ViewName | View = "auto",
        predictive_check: Replicate | None = None,
        check_every: int = 1,
        grad_norm: bool = False,
        share: float = 0.02,
    ) -> None:
        if not isinstance(view, View):
            check_choice("view", view, ViewName)
        if not 0 < real_number(share) <= 1:
            msg = f"share={shown(share)} must be a fraction of the wall time, such as 0.02."
            raise ArgumentError(msg)
        share = real_number(share)
        if predictive_check is not None:
            check_callable("predictive_check", predictive_check, "of the run")
        self.run: Run | None = None
        # Only a check needs the parameters as they are where an epoch ends.
        self.every_epoch = predictive_check is not None
        self.metrics = ("grad_norm",) if check_flag("grad_norm", grad_norm) else ()
        self._asked_view = view
        # Asked here, in the cell: a run may begin on another thread.
        self._place = environment.place()
        self._check_every = check_positive_int("check_every", check_every)
        self._restore_best = False
        self._check = CheckPanel(predictive_check) if predictive_check else None
        self._share = share
        self._panel_set = PanelSet([], share=share / 3)
        self.view: View = View()
        self._throttle = Throttle(1 / MOST_UPDATES_PER_S, share)
        self._sent_s = 0.0
        # A click is answered on a thread of the page; the newest frame must come last.
        self._showing = threading.RLock()
        self._next_view: View | None = None
        self._opening = threading.Lock()

    def _panels(self, run: Run) -> list[Panel]:
        panels = [*panels_of(run, lambda: self.display_s), DevicesPanel()]
        return [*panels, self._check] if self._check else panels

    @property
    def display_s(self) -> float:
        """Seconds that the display took from the run so far."""
        return self._panel_set.spent_s + self._sent_s

    @property
    def shows_facts(self) -> bool:
        """Whether the facts of the run stand below its picture."""
        return isinstance(self.view, NotebookView)

    def on_call_begin(self) -> None:
        """Listen to compilations from here on: most come before the run has begun."""
        compilation_log()

    def on_preparing(self, preparing: Preparing) -> None:
        """Show what the call does; not while the view opens, which takes a moment."""
        if not self._opening.acquire(blocking=False):
            return
        try:
            is_open = self.run is not None and not self.run.finished
            if not is_open and self._next_view is None:
                self._next_view = self._new_view()
            (self._next_view or self.view).prepare(preparing)
            if is_open and not self.run.is_preparing and not self.run.activity:
                self._show_progress(self.run)
        finally:
            self._opening.release()

    def on_refused(self) -> None:
        """Take back what was shown of the call."""
        if self._next_view is not None:
            self._next_view.withdraw()
            self._next_view = None

    def _new_view(self) -> View:
        asked = self._asked_view
        return asked if isinstance(asked, View) else view_named(asked, self._place)

    def on_fit_begin(self, run: Run) -> None:
        """Choose the view and show that the run begins."""
        with self._opening:
            self._open(run)

    def _open(self, run: Run) -> None:
        self.run = run
        self._restore_best = False
        self._sent_s = 0.0
        self.view, self._next_view = self._next_view or self._new_view(), None
        self._panel_set = PanelSet(self._panels(run), share=self._share / 3)
        self._panel_set.begin(run)
        run.control.listen(lambda: self._show_request(run))
        first: Frames = {"meta": meta(run), "previous_runs": previous_runs.frame(run)}
        first |= self._panel_set.frames(run, self.view.wants, everything=True)
        self.view.open(run, first, self._receive)
        # Opening imports packages; its cost does not count against the run's share.
        self._throttle = Throttle(self.view.interval_s, _MEASURED * self._share)
        self._panel_set.reset_costs()

    def on_steps_end(self, run: Run, steps: Steps) -> None:
        """Show what is new, if that is due."""
        self._panel_set.take(steps)
        self._refresh(run)

    def on_pause(self, run: Run) -> None:
        """Show that the run waits."""
        self._refresh(run, at_once=True)

    def on_resume(self, run: Run) -> None:
        """Show that the run goes on."""
        self._refresh(run, at_once=True)

    def on_epoch_end(self, run: Run, epoch: int) -> None:
        """Do the predictive check, if one is due."""
        if self._check and epoch % self._check_every == 0:
            self._panel_set.call(self._check.name, "refresh", run)

    def on_fit_end(self, run: Run) -> None:
        """Show how the run ended, for good, and keep its curve for comparison."""
        best = run.best_so_far
        if self._restore_best and best and best.state is not None:
            if best.step == run.step:
                run.notes.append("The model has the best state, the last one.")
            else:
                run.end_with(best.state)
                run.notes.append(f"The model has the best state, that of step {best.step:,}.")
        with self._showing:
            frames = self._panel_set.frames(run, self.view.wants, everything=True)
            self.view.close(run, frames)
        previous_runs.remember(run)

    def _refresh(self, run: Run, *, at_once: bool = False) -> None:
        began = time.perf_counter()
        if not (at_once or self._throttle.ready(began)):
            return
        with self._showing:
            frames = self._panel_set.frames(run, self.view.wants, everything=at_once)
            sending = time.perf_counter()
            self._throttle.interval_s = self.view.interval_s
            self.view.show(run, frames)
        ended = time.perf_counter()
        self._sent_s += ended - sending
        cost = self._panel_set.usual_s + ended - sending - self.view.apart_s
        self._throttle.spent(ended, cost)

    def _receive(self, message: dict[str, Any]) -> None:
        """Do what a message of the page asks for; from any thread."""
        run = self.run
        if run is None or run.finished:
            return
        try:
            if message.get("kind") == "restore_best":
                self._stop_at_best(run)
            is_rate = message.get("kind") == "learning_rate"
            if is_rate and (question := doubt(run, message.get("value"))):
                self.view.send({"kind": "doubted", "why": question})
                return
            obey(run.control, message.get("kind"), message.get("value"))
        except AimzLabError as error:
            self.view.send({"kind": "refused", "why": str(error)})
        else:
            self.view.send({"kind": "taken"})
            # At once: the run may not get to it before a long compilation ends.
            self._show_progress(run)

    def _show_request(self, run: Run) -> None:
        """Show a request, from code too, to which the run gets later; any other is shown soon."""
        if run is self.run and (run.status == "paused" or run.is_preparing or run.activity):
            self._show_progress(run)

    def _show_progress(self, run: Run) -> None:
        """Show the progress alone; callable from any thread."""
        with self._showing:
            if run.finished or "progress" not in self.view.wants:
                return
            progress = self._panel_set.call("progress", "frame", run)
            if progress is not None:
                self.view.show(run, {"progress": progress})

    def _stop_at_best(self, run: Run) -> None:
        best = run.best_so_far
        if best is None or best.state is None:
            per_epoch = run.info.steps_per_epoch
            least = window_steps(per_epoch) + following_steps(per_epoch)
            msg = f"There is no best state yet; the first is known after {least} steps or more."
            raise ArgumentError(msg)
        self._restore_best = True
        run.control.stop("Stop and restore best was clicked")

    def of_call(self) -> CallDisplay | None:
        """Return the map of a predictive call on workers; ``None`` where a line of text has it."""
        if self._place != "page" or not environment.has_widgets():
            return None
        return late_import("aimz_lab.lab.dashboard.worker_map").WorkerMap()

    def follow(self, run: Run, open_view: Callable[[Receive], View]) -> None:
        """Get ready to join the callbacks of a run that began before.

        Args:
            run: The run.
            open_view: Opens the view, whose clicks it hands to its argument.
        """
        self.run = run
        self._panel_set = PanelSet(self._panels(run), share=self._share / 3)
        run.control.listen(lambda: self._show_request(run))
        self.view = self._asked_view = open_view(self._receive)

    def _ipython_display_(self) -> None:
        with self._showing:
            self.view.display(self.run)


@public
def default_display(progress: Progress) -> Callback | None:
    """Return the display that ``fit`` shows for a value of ``progress``.

    Args:
        progress: ``True`` for what fits the place, and nothing in continuous integration;
            ``"live"`` for the same with an error where its packages are missing; ``"text"`` for a
            line; ``False`` for nothing.

    Returns:
        A callback, or ``None``.

    Raises:
        ArgumentError: If ``progress`` is none of these.
        OptionalDependencyError: If ``"live"`` is asked for in a notebook without widgets.

    Example:
        >>> default_display(False) is None
        True
    """
    progress = check_progress(progress)
    if isinstance(progress, bool):
        quiet = not progress or environment.place() == "automation"
        return None if quiet else _shown(LiveDashboard())
    if progress == "text":
        return _shown(ProgressLine())
    if environment.place() == "page":
        environment.require_widgets()
    return _shown(LiveDashboard())


def _shown(display: Callback) -> Callback:
    """Return ``display``, and keep what is compiled, so that the next session need not wait."""
    enable_compilation_cache()
    return display
