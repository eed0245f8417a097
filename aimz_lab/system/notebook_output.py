"""An output of a notebook's cell that is replaced later, without importing IPython."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable
from typing import Any


def cell_number() -> int | None:
    """Return the number of the notebook's cell that runs; ``None`` where there is no notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return None if getattr(shell, "kernel", None) is None else shell.execution_count


class LastingOutput:
    """Outputs that show an object as it is, and anew when it has come to its end.

    Args:
        bundle: Returns the object as a MIME bundle.

    Example:
        >>> LastingOutput(lambda: {"text/plain": "as it is"}).show()  # no notebook
        False
    """

    def __init__(self, bundle: Callable[[], dict[str, str]]) -> None:
        self._bundle = bundle
        self._outputs: list[Any] = []
        self._lock = threading.Lock()

    def show(self) -> bool:
        """Make one more output, in the cell that runs.

        Returns:
            Whether this is a notebook.
        """
        if cell_number() is None:
            return False
        with self._lock:
            output = sys.modules["IPython"].display.display(
                self._bundle(), raw=True, display_id=True
            )
            self._outputs.append(output)
        return True

    def end(self) -> None:
        """Bring the outputs up to date; from any thread, in the name of its cell."""
        with self._lock:
            for output in self._outputs:
                with contextlib.suppress(Exception):  # the notebook may be gone
                    output.update(self._bundle(), raw=True)
