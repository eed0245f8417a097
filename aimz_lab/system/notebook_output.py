"""An output of a notebook's cell that is replaced later, without importing IPython."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from aimz_lab.system.imports import late_import

_late: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {}
"""What outputs were replaced by from a thread, by their identifier, until a cell ends."""

_ended: list[tuple[threading.Thread, str]] = []
"""How runs on threads ended, and these threads, until a cell ends."""


def kernel() -> Any | None:
    """Return the Jupyter kernel of this process, or ``None``, without importing IPython."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return getattr(shell, "kernel", None)


def asked_from_page() -> bool:
    """Whether the running cell was sent by a page.

    Programs (nbclient, papermill, consoles) use ``jupyter_client``, whose messages carry no cell id
    and are numbered ``session_process_count``; pages send a cell id, or a plain UUID.
    """
    parent = getattr(kernel().shell, "parent_header", None) or {}
    if any("cell" in name.lower() for name in parent.get("metadata", {})):
        return True
    message_id = parent.get("header", {}).get("msg_id", "")
    return message_id.count("_") < 2


def asked_by_program() -> bool:
    """Whether a program or a console sent the running cell, and no page."""
    return kernel() is not None and not asked_from_page()


def asked_from_console() -> bool:
    """Whether the running cell was typed at a console of the kernel (jupyter console, qtconsole).

    A person sits there, whom the kernel may ask for input; a program that executes a notebook
    allows no such question. Consoles show an output as it comes, and never replace it.
    """
    if not asked_by_program():
        return False
    parent = getattr(kernel().shell, "parent_header", None) or {}
    return bool(parent.get("content", {}).get("allow_stdin"))


def cell_number() -> int | None:
    """Return the number of the notebook's cell that runs; ``None`` where there is no notebook."""
    return None if kernel() is None else kernel().shell.execution_count


def show_output(bundle: dict[str, Any], metadata: dict[str, Any] | None = None) -> Any:
    """Make an output that can be replaced, in the cell that runs.

    Args:
        bundle: A MIME bundle. A console that shows a picture leaves out its words; they come first.
        metadata: Metadata of its parts.

    Returns:
        What :func:`update_output` takes.
    """
    display = late_import("IPython.display").display
    if "image/png" in bundle and asked_from_console():
        display({"text/plain": bundle["text/plain"]}, raw=True)
    return display(bundle, raw=True, metadata=metadata or {}, display_id=True)


def update_output(
    output: Any, bundle: dict[str, Any], metadata: dict[str, Any] | None = None
) -> None:
    """Replace an output, from any thread.

    A program that executes a notebook takes the messages of the cell that runs alone, and drops
    those of a run in the background. They are sent to it once more when that cell ends.

    Args:
        output: What :func:`show_output` returned for it.
        bundle: A MIME bundle.
        metadata: Metadata of its parts.
    """
    output.update(bundle, raw=True, metadata=metadata or {})
    if not asked_by_program():
        return
    if _is_behind():
        _late[output.display_id] = output, bundle, metadata or {}
        kernel().shell.events.register("post_run_cell", _send_again)
    else:
        _late.pop(output.display_id, None)  # what a thread wrote would come back


def end_outputs(
    outputs: Sequence[Any],
    bundle: dict[str, Any],
    metadata: dict[str, Any] | None = None,
    *,
    line: str,
) -> None:
    """Replace the outputs of a run for the last time, from any thread.

    The log of a program that executes a notebook shows outputs as they come, and no replacement. So
    the end is a new output there, below what is then empty. Of a run in the background it is a line
    below the cell that runs meanwhile.

    Args:
        outputs: What :func:`show_output` returned for them.
        bundle: A MIME bundle.
        metadata: Metadata of its parts.
        line: The end in a line of text.
    """
    if asked_by_program() and not _is_behind():
        for output in outputs:
            update_output(output, {"text/plain": ""})
        show_output(bundle, metadata)
        return
    for output in outputs:
        update_output(output, bundle, metadata)
    if asked_by_program():
        _ended.append((threading.current_thread(), line))
        kernel().shell.events.register("post_run_cell", _send_again)


def leave_out_end(thread: threading.Thread) -> None:
    """Tell no end of the run on a thread below the running cell, which shows that end itself.

    Args:
        thread: The thread.
    """
    _ended[:] = [told for told in _ended if told[0] is not thread]


def _is_behind() -> bool:
    return threading.current_thread() is not threading.main_thread()


def _send_again(_: object) -> None:
    while _late:
        _, (output, bundle, metadata) = _late.popitem()
        output.update(bundle, raw=True, metadata=metadata)
    while _ended:
        show_output({"text/plain": _ended.pop(0)[1]})


class LastingOutput:
    """Outputs that show an object as it is, and once more when it has come to its end.

    Args:
        bundle: Returns the object as a MIME bundle.

    Example:
        >>> LastingOutput(lambda: {"text/plain": "as it is"}).show()  # no notebook
        False
    """

    def __init__(self, bundle: Callable[[], dict[str, str]]) -> None:
        self._bundle = bundle
        self._outputs: list[Any] = []
        self._is_over = False
        self._lock = threading.Lock()

    def show(self) -> bool:
        """Make one more output, in the cell that runs.

        Returns:
            Whether this is a notebook.
        """
        if cell_number() is None:
            return False
        with self._lock:
            output = show_output(self._bundle())
            if not self._is_over:
                self._outputs.append(output)
        return True

    def end(self) -> None:
        """Bring the outputs up to date for the last time; from any thread."""
        with self._lock:
            self._is_over = True
            for output in self._outputs:
                with contextlib.suppress(Exception):  # the notebook may be gone
                    update_output(output, self._bundle())
            self._outputs = []
