"""Show this package's warnings in a notebook as calm notices: its red ground is for errors.

A cell says the same once: a call may read several tables in the same way.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from html import escape
from typing import IO, Any

_OURS = "aimz_lab.errors"
_STYLE = "font-size:13px;margin:4px 0;padding-left:8px;border-left:3px solid #c08400"
_AS_IT_IS = getattr(warnings, "_showwarnmsg_impl", None)


class Notices:
    """Shows warnings of this package in the cell's output, and others as before.

    Args:
        display: IPython's ``display``.
        before: What shows warnings otherwise.
    """

    def __init__(self, display: Callable[..., Any], before: Callable[..., None]) -> None:
        self._display, self._before = display, before
        self._cell: str | None = None
        self._said: set[str] = set()

    def __call__(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: IO[str] | None = None,
        line: str | None = None,
    ) -> None:
        """Show one; the arguments are those of ``warnings.showwarning``."""
        if file is not None or category.__module__ != _OURS:
            self._before(message, category, filename, lineno, file, line)
            return
        text = f"{category.__name__}: {message}"
        if not self._was_said(text):
            self._display(_bundle(text), raw=True)

    def _was_said(self, text: str) -> bool:
        """Whether the running cell has shown this already; it has now."""
        cell = _running_cell()
        if cell is None:
            return False
        if cell != self._cell:
            self._cell, self._said = cell, set()
        was_said = text in self._said
        self._said.add(text)
        return was_said


def tell(text: str) -> None:
    """Show a sentence in a notebook's cell, which wraps it at words; else write it as a line."""
    ipython = sys.modules.get("IPython")
    if getattr(ipython.get_ipython() if ipython else None, "kernel", None) is None:
        sys.stdout.write(f"{text}\n")
    else:
        ipython.display.display(_bundle(text), raw=True)


def _bundle(text: str) -> dict[str, str]:
    return {"text/plain": text, "text/html": f'<div style="{_STYLE}">{escape(text)}</div>'}


def _running_cell() -> str | None:
    """Return the identifier of the request that the kernel carries out, if it tells."""
    kernel = sys.modules["IPython"].get_ipython().kernel
    parent = getattr(kernel, "get_parent", dict)()
    return parent.get("header", {}).get("msg_id")


def show_as_notices() -> None:
    """Show warnings as notices from now on, in a notebook that shows them as Python does."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    is_recorded = getattr(warnings, "_showwarnmsg_impl", None) is not _AS_IT_IS
    if getattr(shell, "kernel", None) is None or is_recorded:
        return
    if not isinstance(warnings.showwarning, Notices):
        warnings.showwarning = Notices(ipython.display.display, warnings.showwarning)
