"""The contract of a panel."""

from __future__ import annotations

from typing import Any, ClassVar

from aimz_lab.inference.run.events import Run

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

    def frame(self, run: Run) -> Frame:
        """Describe the panel as it is now; neither size nor cost may grow with the run.

        It is called when a frame is due, not for every chunk of steps. The run's columns have the
        steps since the last frame.
        """
        raise NotImplementedError
