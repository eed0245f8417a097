"""Views: a line of text, still pictures in a notebook, a recording for tests.

A view is opened when a run begins, shows frames as they come, and is closed when the run ends. It
reads the run for text alone. The live page is :class:`aimz_lab.lab.dashboard.widget.WidgetView`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from aimz_lab.inference.run.events import Run
from aimz_lab.lab import formatting
from aimz_lab.lab.dashboard.moving_text import MovingText
from aimz_lab.lab.panels.base import Frame
from aimz_lab.lab.panels.panel_set import Frames
from aimz_lab.lab.pictures.choices import Choices
from aimz_lab.lab.pictures.figures import load_drawing, picture_bundle
from aimz_lab.lab.pictures.summary import notice_html, summary_text
from aimz_lab.lab.throttle import Throttle
from aimz_lab.preparing import Preparing
from aimz_lab.progress import NotebookLine, StatusLine
from aimz_lab.system.notebook_output import (
    asked_by_program,
    end_outputs,
    show_output,
    update_output,
)

Receive = Callable[[dict[str, Any]], None]
"""Takes a message of the page, with ``kind`` and perhaps ``value``."""

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

_PICTURES_SHARE = 0.01  # of the wall time

_QUIET_S = 2.0  # that a run takes before a program's notebook says that it goes on


def widget_bundle(model_id: str, text: str) -> dict[str, Any]:
    """Return the output that refers to a widget.

    Args:
        model_id: Its identifier.
        text: What a page reads that cannot show the widget.
    """
    model = {"version_major": 2, "version_minor": 0, "model_id": model_id}
    return {WIDGET_MIME: model, "text/plain": text}


class View:
    """Base of the views; shows nothing.

    Attributes:
        interval_s: Least seconds between two updates.
        wants: Names of the panels whose frames it shows.
        apart_s: Seconds of the latest update that it keeps within a share of the time by itself.
    """

    interval_s: float = 1.0
    apart_s: float = 0.0
    wants: frozenset[str] = frozenset()

    def prepare(self, preparing: Preparing) -> None:
        """Show what a call does before its first steps; before and after :meth:`open`."""

    def withdraw(self) -> None:
        """Take back what was shown: the call is refused, and there will be no run."""

    def open(self, run: Run, frames: Frames, receive: Receive) -> None:
        """Begin to show a run; ``receive`` takes the messages of its page."""

    def show(self, run: Run, frames: Frames) -> None:
        """Show the frames that are new."""

    def close(self, run: Run, frames: Frames) -> None:
        """Show how the run ended, for good."""

    def display(self, run: Run | None) -> None:
        """Show the run once more, in the cell that asks for it."""

    def send(self, message: dict[str, Any]) -> None:
        """Send the page a message, in answer to a click."""


class LineView(View):
    """A line that is kept up to date on a terminal; elsewhere a new line now and then.

    Args:
        line: The line to write.
    """

    wants = frozenset({"loss", "convergence"})

    def __init__(self, line: StatusLine | NotebookLine) -> None:
        self._line = line
        self._loss: float | None = None
        self._convergence: Frame = {}
        self.interval_s = line.interval_s
        self._prepare_from_s = 0.0

    def prepare(self, preparing: Preparing) -> None:
        """Write the line anew, if that is due."""
        if preparing.seconds >= self._prepare_from_s:
            self._line.write(preparing.text)
            self._prepare_from_s = preparing.seconds + self.interval_s

    def withdraw(self) -> None:
        """Take the line away, where that is possible."""
        self._line.clear()

    def open(self, run: Run, frames: Frames, receive: Receive) -> None:  # noqa: ARG002
        """Say on a terminal that the run begins; the line will be written over."""
        self._loss, self._convergence = None, {}
        self._line.begin(*formatting.first_lines(run))

    def show(self, run: Run, frames: Frames) -> None:
        """Write the line anew."""
        self._line.write(self._text(run, frames))

    def close(self, run: Run, frames: Frames) -> None:
        """Write how the run ended, and why."""
        self._line.close(f"{self._text(run, frames)}{formatting.why_ended(run)}")

    def _text(self, run: Run, frames: Frames) -> str:
        if "loss" in frames:
            self._loss = frames["loss"].get("now")
        self._convergence = frames.get("convergence", self._convergence)
        return formatting.status_line(run, self._loss, self._line.width, self._convergence)


class NotebookView(View):
    """A notebook's output that says where the run was, and at the end is a still picture.

    Args:
        beside: Runs that are drawn in grey.

    Attributes:
        choices: How a reader chose to see the curve on the live page, if one did; the picture shows
            the same, but of all steps.
    """

    def __init__(self, beside: Sequence[Run] = ()) -> None:
        self.choices: Choices | None = None
        self._beside = beside
        self._handles: list[Any] = []
        self._is_announced = self._is_open = self._has_picture = False

    def announce(self, text: str) -> None:
        """Show a line of text in an output, in which the run is shown later; none on a picture."""
        if self._has_picture:
            return
        if not self._is_open:
            self._begin_output()
            self._is_announced = True
        self.replace(_notice(text))

    def withdraw(self) -> None:
        """Empty the output that was announced."""
        if self._is_announced:
            self.replace({"text/plain": ""})
            self._is_announced = False

    def _begin_output(self) -> None:
        """Leave the outputs of an earlier run as they are."""
        if not self._is_announced:
            self._handles = []

    def live_bundle(self, run: Run) -> dict[str, Any] | None:  # noqa: ARG002
        """Return an output that moves while the run goes on; ``None`` for one that does not."""
        return None

    def open(self, run: Run, frames: Frames, receive: Receive) -> None:  # noqa: ARG002
        """Make the output now, in the cell: a cell that has returned takes no new ones.

        Where a program executes the cell, a run in the foreground has its output at the end.
        """
        load_drawing()
        self._begin_output()
        self._is_announced, self._is_open = False, True
        if (live := self.live_bundle(run)) or run.in_background or not asked_by_program():
            self.replace(live or _notice(formatting.line_then(run)))

    def show(self, run: Run, frames: Frames) -> None:  # noqa: ARG002
        """Say where a long run is, if nothing has said so yet."""
        if not self._handles and run.elapsed_s > _QUIET_S:
            self.replace(_notice(formatting.line_then(run)))

    def close(self, run: Run, frames: Frames) -> None:  # noqa: ARG002
        """Show the picture of the run for good."""
        self._is_open = self._has_picture = False
        bundle, metadata = self._record(run)
        if self._handles:
            line = f"{formatting.status_line(run)}{formatting.why_ended(run)}"
            end_outputs(self._handles, bundle, metadata, line=line)
        else:
            self._put(bundle, metadata)

    def _record(self, run: Run) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the lasting picture: of the whole run, since none can ask it for the rest."""
        choices = self.choices and replace(self.choices, last_half=False)
        return picture_bundle(run, choices, self._beside)

    def display(self, run: Run | None) -> None:
        """Show the run in one more output, which is updated like the others."""
        if run is None:
            return
        live = None if run.finished else self.live_bundle(run)
        self._put(*((live,) if live else self._record(run)))

    def replace(self, bundle: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
        """Show a MIME bundle in every output, or in a new one if there is none."""
        self._has_picture = self._is_open and "image/png" in bundle
        if not self._handles:
            self._put(bundle, metadata)
            return
        for handle in self._handles:
            update_output(handle, bundle, metadata)

    def _put(self, bundle: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
        self._handles.append(show_output(bundle, metadata))


def _notice(text: str) -> dict[str, str]:
    return {"text/plain": text, "text/html": notice_html(text)}


class PicturesOnDemand(NotebookView):
    """Pictures in the cells that ask for them, which are drawn anew at the end of the run."""

    def open(self, run: Run, frames: Frames, receive: Receive) -> None:  # noqa: ARG002
        """Get ready to draw; nobody has asked yet."""
        load_drawing()

    def close(self, run: Run, frames: Frames) -> None:  # noqa: ARG002
        """Draw the pictures anew, in the cells that asked for them."""
        self._is_open = False
        self.replace(*self._record(run))

    def replace(self, bundle: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
        """Show a MIME bundle in the outputs that there are."""
        if self._handles:
            super().replace(bundle, metadata)


class SeldomPicture:
    """Draws the picture of a run anew as often as a share of the time allows.

    A picture takes a tenth of a second or two, so it comes every ten or twenty.
    """

    def __init__(self) -> None:
        self._throttle = Throttle(PictureView.interval_s, _PICTURES_SHARE)

    def update(self, run: Run, replace: Callable[[dict[str, Any]], None]) -> float:
        """Draw the picture, if it is due.

        Args:
            run: The run.
            replace: Shows the picture.

        Returns:
            The seconds that it took.
        """
        began = time.perf_counter()
        if not self._throttle.ready(began):
            return 0.0
        replace(picture_so_far(run))
        ended = time.perf_counter()
        self._throttle.spent(ended, ended - began)
        return ended - began


def picture_so_far(run: Run) -> dict[str, Any]:
    """Return the picture of a run that goes on; before its first step, words."""
    if run.step == 0:
        return _notice(f"{run.info.model}: preparing · compiling the first step")
    bundle, _ = picture_bundle(run)
    return bundle


class PictureView(NotebookView):
    """A picture that is redrawn now and then, where no widget can be shown, above a moving line."""

    interval_s = 0.5

    def __init__(self) -> None:
        super().__init__()
        self._text, self._picture = MovingText(), SeldomPicture()

    def open(self, run: Run, frames: Frames, receive: Receive) -> None:
        """Make the output."""
        self._text, self._picture = MovingText(), SeldomPicture()
        super().open(run, frames, receive)

    def live_bundle(self, run: Run) -> dict[str, Any]:
        """Return the picture of the run so far."""
        return picture_so_far(run)

    def prepare(self, preparing: Preparing) -> None:
        """Show the text, until there is a first picture."""
        self.announce(preparing.text)

    def show(self, run: Run, frames: Frames) -> None:  # noqa: ARG002
        """Write the line anew, and redraw the picture if it is due."""
        self._text.show(run)
        self.apart_s = self._picture.update(run, self.replace)

    def close(self, run: Run, frames: Frames) -> None:
        """Replace the output by the picture of the run, and take the line away."""
        self._text.close()
        super().close(run, frames)


class RecordingDisplay(View):
    """Records the frames instead of showing them, and takes clicks; for tests.

    Attributes:
        frames: The new frames of each update, in order.
        preparing: What was told before the first steps; empty again after a refusal.
        final: The frames of the end, or ``None`` before it.
        text: The summary of the end.
        answers: The messages sent in answer to clicks.
    """

    interval_s = 0.0
    wants = PANELS

    def __init__(self) -> None:
        self.answers: list[dict[str, Any]] = []
        self.frames: list[Frames] = []
        self.preparing: list[Preparing] = []
        self.final: Frames | None = None
        self.text = ""
        self._receive: Receive | None = None

    def prepare(self, preparing: Preparing) -> None:
        """Keep what is told."""
        self.preparing.append(preparing)

    def withdraw(self) -> None:
        """Forget what was told."""
        self.preparing = []

    def open(self, run: Run, frames: Frames, receive: Receive) -> None:  # noqa: ARG002
        """Keep the first frames, and the function that takes clicks."""
        self.frames, self.final, self._receive = [frames], None, receive

    def show(self, run: Run, frames: Frames) -> None:  # noqa: ARG002
        """Keep the frames."""
        self.frames.append(frames)

    def close(self, run: Run, frames: Frames) -> None:
        """Keep the last frames and the summary."""
        self.final, self.text = frames, summary_text(run)

    def send(self, message: dict[str, Any]) -> None:
        """Keep the answer to a click."""
        self.answers.append(message)

    def click(self, kind: str, value: Any = None) -> None:
        """Send the message of a click on the page."""
        if self._receive:
            self._receive({"kind": kind, "value": value})

    @property
    def latest(self) -> Frames:
        """The newest frame of every panel."""
        return {name: frame for frames in self.frames for name, frame in frames.items()}
