"""What every panel is."""

from __future__ import annotations

from typing import Any, ClassVar

from aimz_lab.inference.run.events import Run

Frame = dict[str, Any]
"""What a panel shows at one moment: plain values, and ``bytes`` of little-endian float32."""


class Panel:
    """A part of the dashboard. It draws nothing: it describes what is to be drawn.

    Attributes:
        name: What the views know it by.
        interval_s: Least seconds between two of its frames.
    """

    name: ClassVar[str]
    interval_s: ClassVar[float] = 0.0

    def begin(self, run: Run) -> None:
        """Forget what was, and get ready for ``run``."""

    def frame(self, run: Run) -> Frame:
        """Describe the panel as it is now; neither size nor cost may grow with the run.

        It is called when a frame is due, not for every chunk of steps: what is new since the last
        time is in the run's columns.
        """
        raise NotImplementedError
