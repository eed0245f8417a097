"""Show this package's warnings in a notebook as calm notices: its red ground is for errors."""

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
        notice = f'<div style="{_STYLE}">{escape(text)}</div>'
        self._display({"text/plain": text, "text/html": notice}, raw=True)


def show_as_notices() -> None:
    """Show warnings as notices from now on, in a notebook that shows them as Python does."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    is_recorded = getattr(warnings, "_showwarnmsg_impl", None) is not _AS_IT_IS
    if getattr(shell, "kernel", None) is None or is_recorded:
        return
    if not isinstance(warnings.showwarning, Notices):
        warnings.showwarning = Notices(ipython.display.display, warnings.showwarning)
