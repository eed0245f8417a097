"""End the running cell of IPython after its statement, without losing what that assigns.

What the statement assigns is assigned: ``im = ImpactModel(...).fit(...)``. The statements after it
do not run. The cell then counts as one that raised, so that a notebook aborts the queued cells,
unless it was told that this cell may raise (the tag ``raises-exception``).
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from typing import Any

_ended: list[KeyboardInterrupt] = []
"""Why the running cell was ended; empty while it goes on."""


def end_cell(why: str) -> bool:
    """Let nothing run after the present statement of the cell.

    Args:
        why: What a program that runs the notebook reads as the cell's error.

    Returns:
        Whether there is such a cell: of IPython, and on the main thread.
    """
    shell = _shell()
    if shell is None or threading.current_thread() is not threading.main_thread():
        return False
    if not _ended:
        _ended.append(KeyboardInterrupt(why))
        # IPython calls this for each statement of a cell, and goes by what it returns.
        shell.run_code = _leave_out
        shell.events.register("post_run_cell", _conclude)
        shell.events.register("pre_execute", _forget)
    return True


def aborts_queued_cells() -> bool | None:
    """Whether the cells queued behind one that raises are left out.

    Returns:
        What the front end has asked for; ``None`` where cells are not queued, as in a terminal.
    """
    request = getattr(_shell(), "parent_header", None)
    if not isinstance(request, Mapping):
        return None
    # A kernel's default is that of Jupyter's protocol.
    return bool((request.get("content") or {}).get("stop_on_error", True))


def check_cell_goes_on() -> None:
    """Raise in a cell that was ended: its statement goes on, such as a loop over several fits.

    Raises:
        KeyboardInterrupt: With the reason.
    """
    if _ended and threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt(*_ended[0].args)


def _shell() -> Any | None:
    """Return IPython's shell if it runs a cell, without importing IPython."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell if hasattr(shell, "run_code") and hasattr(shell, "events") else None


async def _leave_out(code: Any, result: Any = None, *, async_: bool = False) -> bool:  # noqa: ARG001
    """Stand in for ``run_code``; say that the statement raised."""
    _conclude(result)
    return True


def _conclude(result: Any) -> None:
    if _ended and result is not None and result.success:
        result.error_in_exec = _ended[0]


def _forget() -> None:
    """Leave the shell as it was, before it runs another cell."""
    if threading.current_thread() is not threading.main_thread():
        return  # a page's message to a widget, or a subshell's cell, beside the cell that ends
    shell = _shell()
    _ended.clear()
    del shell.run_code  # the method of its class is back
    shell.events.unregister("post_run_cell", _conclude)
    shell.events.unregister("pre_execute", _forget)
