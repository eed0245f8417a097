"""One line of text that is kept up to date, or now and then a new one where lines cannot be."""

from __future__ import annotations

import shutil
import sys
from typing import IO

_PLAIN = str.maketrans({"·": "|"})


class StatusLine:
    """Writes a line over itself on a terminal, and line after line elsewhere.

    Args:
        stream: Where to write; standard error, as it is at that moment, by default.
        rewrite: Whether the line is written over itself; by default where ``stream`` is a terminal.
    """

    def __init__(self, stream: IO[str] | None = None, *, rewrite: bool | None = None) -> None:
        self._stream = stream or sys.stderr
        self.rewrite = self._stream.isatty() if rewrite is None else rewrite
        self._length = 0

    @property
    def width(self) -> int | None:
        """Characters that fit; ``None`` where lines may be as long as they like."""
        return shutil.get_terminal_size().columns - 1 if self.rewrite else None

    def write(self, text: str) -> None:
        """Show ``text`` now."""
        if not self.rewrite:
            self._put(f"{self._written(text)}\n")
            return
        text = self._written(text)[: self.width]
        self._put(f"\r{text.ljust(self._length)}")
        self._length = len(text)

    def close(self, text: str) -> None:
        """Show ``text`` as the last, whole, and go to a new line."""
        if self.rewrite:
            self._put(f"\r{' ' * self._length}\r")
        self._put(f"{self._written(text)}\n")
        self._length = 0

    def _written(self, text: str) -> str:
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            return text.translate(_PLAIN).encode(encoding, "replace").decode(encoding)
        return text

    def _put(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
