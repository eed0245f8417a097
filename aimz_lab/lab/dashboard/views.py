"""Where frames are shown: nowhere, in a line, as pictures in a notebook, or in a recording.

The live page is in :mod:`aimz_lab.lab.dashboard.widget`. A view is told when a run begins, is given
frames as they come, and is told when it ends. It asks the run for nothing but text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aimz_lab.inference.run.events import Run
from aimz_lab.lab import formatting
from aimz_lab.lab.panels.base import Frame
from aimz_lab.lab.panels.panel_set import Frames
from aimz_lab.lab.pictures.figures import picture_bundle
from aimz_lab.lab.pictures.summary import summary_text
from aimz_lab.progress import StatusLine

Receive = Callable[[dict[str, Any]], None]
"""Takes a message of the page: ``kind`` and perhaps ``value``."""

PANELS = frozenset(
    {
        "progress",
        "loss",
        "padding",
        "devices",
        "parameters",
        "sampling",
        "convergence",
        "check",
    }
)
WIDGET_MIME = "application/vnd.jupyter.widget-view+json"


class View:
    """Shows nothing; the base of those that do.

    Attributes:
        interval_s: Least seconds between two updates.
        wants: Names of the panels whose frames it shows.
    """

    interval_s: float = 1.0
    wants: frozenset[str] = frozenset()

    def open(self, run: Run, frames: Frames, receive: Receive) -> None:
        """Begin to show a run."""

    def show(self, run: Run, frames: Frames) -> None:
        """Show the frames that are new."""

    def close(self, run: Run, frames: Frames) -> None:
        """Show how the run ended, for good."""

    def display(self, run: Run | None) -> None:
        """Show the same once more, where somebody asked for it."""

    def tell(self, message: dict[str, Any]) -> None:
        """Answer whoever clicked."""


class LineView(View):
    """A line that is kept up to date on a terminal; elsewhere a new line now and then.

    Args:
        line: Where to write.
    """

    wants = frozenset({"loss", "convergence"})

    def __init__(self, line: StatusLine) -> None:
        self._line = line
        self._loss: float | None = None
        self._convergence: Frame = {}
        self.interval_s = 0.1 if line.rewrite else 10.0

    def open(self, run: Run, frames: Frames, receive: Receive) -> None:  # noqa: ARG002
        """Say that the run begins, where the line will be written over."""
        self._loss, self._convergence = None, {}
        if self._line.rewrite:
            self._line.write(f"{run.info.model}: compiling the first step")

    def show(self, run: Run, frames: Frames) -> None:
        """Write the line anew."""
        self._line.write(self._text(run, frames))

    def close(self, run: Run, frames: Frames) -> None:
        """Write how the run ended, and why."""
        text = self._text(run, frames)
        if run.reason and run.status != "completed":
            text += f" · {run.reason}"
        self._line.close(text)

    def _text(self, run: Run, frames: Frames) -> str:
        if "loss" in frames:
            self._loss = frames["loss"].get("now")
        self._convergence = frames.get("convergence", self._convergence)
        return formatting.status_line(run, self._loss, self._line.width, self._convergence)


class NotebookView(View):
    """An output of a notebook that becomes a still picture at the end; quiet until then."""

    def __init__(self) -> None:
        self._handles: list[Any] = []

    def live_bundle(self, run: Run) -> dict[str, Any] | None:  # noqa: ARG002
        """Return what the output holds while the run goes on, or ``None`` for nothing yet."""
        return None

    def open(self, run: Run, frames: Frames, receive: Receive) -> None:  # noqa: ARG002
        """Make the output, if there is something to show already."""
        if (bundle := self.live_bundle(run)) is not None:
            self._put(bundle)

    def close(self, run: Run, frames: Frames) -> None:  # noqa: ARG002
        """Turn the output into the picture of the run."""
        bundle, metadata = picture_bundle(run)
        self.replace(bundle, metadata)

    def display(self, run: Run | None) -> None:
        """Show the run in one more output, which follows the others from then on."""
        if run is None:
            return
        live = None if run.finished else self.live_bundle(run)
        self._put(*((live,) if live else picture_bundle(run)))

    def replace(self, bundle: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
        """Show ``bundle`` in every output, or in a new one if there is none."""
        if not self._handles:
            self._put(bundle, metadata)
            return
        for handle in self._handles:
            handle.update(bundle, raw=True, metadata=metadata or {})

    def _put(self, bundle: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
        from IPython.display import display

        self._handles.append(display(bundle, raw=True, metadata=metadata or {}, display_id=True))


class PictureView(NotebookView):
    """A line of text and now and then a picture, where no widget can be shown."""

    interval_s = 1.0

    def live_bundle(self, run: Run) -> dict[str, Any]:
        """Return the picture of the run so far."""
        if run.step == 0:
            return {"text/plain": f"{run.info.model}: compiling the first step"}
        bundle, _ = picture_bundle(run)
        return bundle

    def show(self, run: Run, frames: Frames) -> None:  # noqa: ARG002
        """Draw the picture anew; the caller spaces the calls by what they cost."""
        self.replace(self.live_bundle(run))


class RecordingDisplay(View):
    """Keeps every frame instead of showing it, and can be clicked; for tests.

    Attributes:
        frames: What was shown, in order: each the frames that were new.
        final: The frames of the end, or ``None`` before it.
        text: The summary of the end.
        answers: What it was told after clicks.
    """

    interval_s = 0.0
    wants = PANELS

    def __init__(self) -> None:
        self.answers: list[dict[str, Any]] = []
        self.frames: list[Frames] = []
        self.final: Frames | None = None
        self.text = ""
        self._receive: Receive | None = None

    def open(self, run: Run, frames: Frames, receive: Receive) -> None:  # noqa: ARG002
        """Keep the first frames, and where clicks go."""
        self.frames, self.final, self._receive = [frames], None, receive

    def show(self, run: Run, frames: Frames) -> None:  # noqa: ARG002
        """Keep the frames."""
        self.frames.append(frames)

    def close(self, run: Run, frames: Frames) -> None:
        """Keep the last frames and the summary."""
        self.final, self.text = frames, summary_text(run)

    def tell(self, message: dict[str, Any]) -> None:
        """Keep the answer to a click."""
        self.answers.append(message)

    def click(self, kind: str, value: Any = None) -> None:
        """Do what a click on the page does."""
        if self._receive:
            self._receive({"kind": kind, "value": value})

    @property
    def latest(self) -> Frames:
        """The newest frame of every panel."""
        return {name: frame for frames in self.frames for name, frame in frames.items()}
