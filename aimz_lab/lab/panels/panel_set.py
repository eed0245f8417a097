"""The panels of one run, whose frames come when due and at a bounded cost."""

from __future__ import annotations

import time
from collections.abc import Container, Iterable

from aimz_lab.inference.run.events import Run, Steps
from aimz_lab.lab.panels.base import Frame, Panel
from aimz_lab.lab.throttle import Throttle

_RARE_S = 1.0
"""A panel whose frames must be further apart is rare: it holds up itself alone."""

Frames = dict[str, Frame]
"""Frames by the name of their panel."""


class PanelSet:
    """Panels of one run; one that fails is switched off, and the others go on.

    Args:
        panels: The panels.
        share: Largest share of wall time that one panel may take.

    Attributes:
        spent_s: Seconds that the panels took so far.
        usual_s: Seconds of the processor that the latest frames took, without those of rare panels.
    """

    def __init__(self, panels: Iterable[Panel], share: float) -> None:
        self._panels = {panel.name: panel for panel in panels}
        self._share = share
        self._throttles: dict[str, Throttle] = {}
        self._failed: dict[str, str] = {}
        self._reported: set[str] = set()
        self.spent_s = self.usual_s = 0.0

    @property
    def failed(self) -> dict[str, str]:
        """Panels that were switched off, with what they raised."""
        return dict(self._failed)

    def begin(self, run: Run) -> None:
        """Get every panel ready for ``run``, also those that failed before."""
        self._throttles = self._new_throttles()
        self._failed, self._reported, self.spent_s = {}, set(), 0.0
        for name in self._panels:
            self.call(name, "begin", run)

    def take(self, steps: Steps) -> None:
        """Pass new steps on to the panels that need each of them."""
        began = time.perf_counter()
        for name, panel in self._panels.items():
            if type(panel).take is not Panel.take:
                self.call(name, "take", steps)
        self.spent_s += time.perf_counter() - began

    def reset_costs(self) -> None:
        """Count costs from here on, as if no frame had been made yet."""
        self._throttles = self._new_throttles()
        self.spent_s = 0.0

    def _new_throttles(self) -> dict[str, Throttle]:
        return {
            name: Throttle(panel.interval_s, self._share) for name, panel in self._panels.items()
        }

    def frames(
        self, run: Run, wanted: Container[str] | None = None, *, everything: bool = False
    ) -> Frames:
        """Return the frames of the wanted panels, or of all; those that are due, or everything.

        A panel with news is due as well. Panels pay with time of the processor: on a busy machine
        they would pay for the work of others.
        """
        frames: Frames = {}
        self.usual_s = 0.0
        for name in self._panels:
            if wanted is not None and name not in wanted:
                continue
            now = time.perf_counter()
            is_due = everything or self._throttles[name].ready(now)
            if not (is_due or self.call(name, "has_news")):
                continue
            began = time.thread_time()
            frame = self.call(name, "frame", run)
            if frame is not None:
                frames[name] = frame
            cost = time.thread_time() - began
            ended = time.perf_counter()
            self._throttles[name].spent(ended, cost)
            self.spent_s += ended - now
            self.usual_s += cost if self._throttles[name].wait_s <= _RARE_S else 0.0
        return {**frames, **self._new_failures()}

    def _new_failures(self) -> Frames:
        news = {
            name: {"error": why} for name, why in self._failed.items() if name not in self._reported
        }
        self._reported |= news.keys()
        return news

    def call(self, name: str, method: str, *args: object) -> Frame | None:
        """Call a method of a panel; one that raises is switched off for this run."""
        if name in self._failed:
            return None
        try:
            return getattr(self._panels[name], method)(*args)
        except Exception as error:  # noqa: BLE001  a broken panel must not end the run
            self._failed[name] = f"{type(error).__name__}: {error}"
            return None
