"""Hear a page's messages on a comm while a cell runs, and leave alone what the cell draws."""

from __future__ import annotations

import threading
from typing import Any


def hear_beside_cells(comm: Any) -> None:
    """Patch a comm for messages that arrive on a thread of their own while a cell runs.

    Args:
        comm: The comm of a widget; one of another make is left as it is.
    """
    let_page_choose_shell(comm)
    fire_no_events_beside_cells(comm)


def let_page_choose_shell(comm: Any) -> None:
    """Patch a comm so that ipykernel follows the subshell that a message names.

    Reason: ipykernel sends a page's message to the shell that last wrote on the comm. While a cell
    runs that is the busy one, so that a click on "stop" waits for the end of the cell.

    Seen in: ipykernel 7.4.0. Other versions lack the private method that is replaced here.

    Gain: clicks arrive while a cell runs. ``test_comm_routing.py`` fails once ipykernel does so by
    itself: delete the patch then.

    Args:
        comm: The comm of a widget.
    """
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda data, asked: asked  # noqa: ARG005


def fire_no_events_beside_cells(comm: Any) -> None:
    """Patch a comm so that its messages fire no events of IPython on another thread than a cell's.

    Reason: a comm fires ``pre_execute`` and ``post_execute`` around each message. At the latter,
    matplotlib's inline backend shows and closes every open figure of pyplot, so that a figure that
    the cell is drawing comes out cut off, empty or in another size.

    Seen in: comm 0.2.3 with ipykernel 7.4.0. On the main thread no cell is in the midst of drawing,
    and the events are fired as before.

    Gain: pictures beside a run in the background are whole. ``test_comm_routing.py`` fails once
    comms do so by themselves: delete the patch then.

    Args:
        comm: The comm of a widget.
    """
    if not (hasattr(comm, "handle_msg") and hasattr(comm, "_msg_callback")):
        return
    with_events = comm.handle_msg

    def handle_msg(message: dict[str, Any]) -> None:
        if threading.current_thread() is threading.main_thread():
            with_events(message)
        elif comm._msg_callback is not None:
            comm._msg_callback(message)

    comm.handle_msg = handle_msg
