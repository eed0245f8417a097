"""Carry out what is clicked on a page: requests to the control of a run."""

from __future__ import annotations

from typing import Any

from aimz_lab.inference.run.events import Control


def obey(control: Control, kind: str | None, value: Any = None) -> None:
    """Make the request of a click; other kinds of messages are none.

    Args:
        control: The control of the run.
        kind: The kind of the message.
        value: Its value, such as a learning rate.

    Raises:
        ArgumentError: If the rate cannot be set.
    """
    match kind:
        case "stop":
            control.stop("Stop was clicked")
        case "pause":
            control.pause()
        case "resume":
            control.resume()
        case "checkpoint":
            control.checkpoint()
        case "learning_rate" | "sure_learning_rate":
            control.set_learning_rate(value)
