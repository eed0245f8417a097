"""The contract of a panel."""

from __future__ import annotations

from typing import Any, ClassVar

from aimz_lab.inference.run.events import Run, Steps

Frame = dict[str, Any]
"""A panel at one moment: plain values, and ``bytes`` of little-endian float32."""


class Panel:
    """Describes a part of the dashboard; a view draws it.

    Attributes:
        name: Its name in the views.
        interval_s: Least seconds between two of its frames.
    """

    name: ClassVar[str]
    interval_s: ClassVar[float] = 0.0

    def begin(self, run: Run) -> None:
        """Forget the previous run, and get ready for ``run``."""

    def take(self, steps: Steps) -> None:
        """Take new steps, if the panel needs each of them; it is called for every report."""

    def has_news(self) -> bool:
        """Return whether a frame is worth its while before it is due; asked at every update."""
        return False

    def frame(self, run: Run) -> Frame:
        """Describe the panel as it is now; neither size nor cost may grow with the run.

        It is called when a frame is due, not for every report of steps. The run's losses have the
        steps since the last frame; its other columns join them in a long run.
        """
        raise NotImplementedError
