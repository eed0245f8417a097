"""Progress as a line that is kept up to date, or line after line where that cannot be."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from html import escape
from types import TracebackType
from typing import IO, Any, Self

from aimz_lab.number_text import SEEN_S, count_of, duration, rate
from aimz_lab.system.notebook_output import (
    asked_from_console,
    end_outputs,
    kernel,
    show_output,
    update_output,
)

QUIET_S = 0.5
"""Seconds that a call may take without any line; a short one writes none."""

REWRITE_S = 0.1
"""Least seconds between two states of a line that is written over itself."""

NOTEBOOK_S = 0.25
"""Least seconds between two states of a line in a notebook."""

NEW_LINE_S = 10.0
"""Least seconds between two lines where none can be written over."""

_LEAST_MEASURED_S, _LEAST_MEASURED_SHARE, _MEASURED_S = 1.0, 0.05, 5.0
"""What a time left rests on: so many seconds and such a share of the work, or more seconds."""

_PLAIN = str.maketrans({"·": "|"})


class StatusLine:
    """Writes a line over itself on a terminal, and line after line elsewhere.

    Args:
        stream: Where to write; standard error, as it is at that moment, by default.
        rewrite: Whether the line is written over itself; by default where ``stream`` is a terminal.
    """

    def __init__(self, stream: IO[str] | None = None, *, rewrite: bool | None = None) -> None:
        self._stream = stream or sys.stderr
        self._is_default = stream is None
        self.rewrite = self._stream.isatty() if rewrite is None else rewrite
        self._is_behind = False
        self._length = 0

    @property
    def width(self) -> int | None:
        """Characters that fit; ``None`` where a line may have any length."""
        return shutil.get_terminal_size().columns - 1 if self.rewrite else None

    @property
    def interval_s(self) -> float:
        """Least seconds between two updates."""
        return REWRITE_S if self.rewrite else NEW_LINE_S

    def begin(self, text: str, background: str = "") -> None:
        """Say that a run begins, where the line is written over itself and says nothing yet.

        Args:
            text: The line.
            background: What to say instead if the run goes on in the background, on a terminal or
                a redirected standard error. Others then write on the terminal, such as a prompt,
                and the stream may be closed; so nothing more is written before :meth:`close`.
        """
        is_redirected = self._is_default and self._stream is not sys.__stderr__
        if background and (self.rewrite or is_redirected):
            self.clear()
            self._is_behind = True
            self._put(f"{self._encodable(background)}\n")
        elif self.rewrite and not self._length:
            self.write(text)

    def write(self, text: str, share: float | None = None) -> None:  # noqa: ARG002
        """Show ``text`` now.

        Args:
            text: The line.
            share: What is done, from 0 to 1; a line of text has no bar for it.
        """
        if self._is_behind:
            return
        if not self.rewrite:
            self._put(f"{self._encodable(text)}\n")
            return
        text = self._encodable(text)[: self.width]
        self._put(f"\r{text.ljust(self._length)}")
        self._length = len(text)

    def close(self, text: str, share: float | None = None) -> None:  # noqa: ARG002
        """Show ``text`` uncut as the last line, and go to a new one."""
        self.clear()
        self._put(f"{self._encodable(text)}\n")
        self._is_behind = False

    def clear(self) -> None:
        """Take the line away where it can be written over; elsewhere it stays."""
        if self.rewrite and not self._is_behind:
            self._put(f"\r{' ' * self._length}\r")
        self._length = 0

    def _encodable(self, text: str) -> str:
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            return text.translate(_PLAIN).encode(encoding, "replace").decode(encoding)
        return text

    def _put(self, text: str) -> None:
        # IPython at its prompt has a standard error that writes above it, marimo one of each cell.
        is_now = self._is_behind and self._is_default and sys.stderr is not None
        stream = sys.stderr if is_now else self._stream
        stream.write(text)
        stream.flush()


class NotebookLine:
    """A line with a thin bar in a notebook's output; its last state is what is saved.

    It is no stream: notebooks show standard error on a red ground, which is for errors.
    """

    rewrite = True
    width = None
    interval_s = NOTEBOOK_S

    def __init__(self) -> None:
        self._shown: Any = None

    def begin(self, text: str, background: str = "") -> None:  # noqa: ARG002
        """Show that a run begins, unless the line says something already.

        Args:
            text: The line.
            background: Not shown; the output is the run's own.
        """
        if self._shown is None:
            self.write(text)

    def write(self, text: str, share: float | None = None) -> None:
        """Show ``text`` now, in the output of the cell that wrote first.

        Args:
            text: The line.
            share: What is done, from 0 to 1; ``None`` for no bar.
        """
        if self._shown is None:
            self._shown = show_output(_line_bundle(text, share))
        else:
            update_output(self._shown, _line_bundle(text, share))

    def close(self, text: str, share: float | None = None) -> None:
        """Show ``text`` for good."""
        if self._shown is None:
            self.write(text, share)
        else:
            end_outputs([self._shown], _line_bundle(text, share), line=text)

    def clear(self) -> None:
        """Take the line away."""
        if self._shown is not None:
            update_output(self._shown, {"text/plain": ""})


def _line_bundle(text: str, share: float | None) -> dict[str, str]:
    return {"text/plain": text, "text/html": _line_html(text, share)}


def _line_html(text: str, share: float | None) -> str:
    bar = ""
    if share is not None:
        bar = (
            '<span style="display:inline-block;vertical-align:middle;width:160px;height:4px;'
            'margin-right:10px;border-radius:2px;background:rgba(128,128,128,0.25)">'
            '<span style="display:block;height:4px;border-radius:2px;background:#0f7fc2;'
            f'width:{100 * min(max(share, 0.0), 1.0):.1f}%"></span></span>'
        )
    return f'<div style="font-size:13px;margin:2px 0">{bar}<span>{escape(text)}</span></div>'


def progress_line(stream: IO[str] | None = None) -> StatusLine | NotebookLine:
    """Return the line that fits the place: in a notebook, on a terminal or console, or elsewhere.

    Args:
        stream: Where to write; by default a notebook's output, or else standard error.
    """
    if stream is None and kernel() is not None and not asked_from_console():
        return NotebookLine()
    # A kernel's stream says that it is no terminal, and its page writes lines over all the same.
    is_notebook = type(stream or sys.stderr).__module__ == "ipykernel.iostream"
    return StatusLine(stream, rewrite=True if is_notebook else None)


def time_left(seconds: float | None) -> list[str]:
    """Write the time that is left; nothing where it is unknown, or used up while the work goes on.

    Example:
        >>> time_left(12.0), time_left(0.0), time_left(None)
        (['12 s left'], [], [])
    """
    return [] if seconds is None or seconds < SEEN_S else [f"{duration(seconds)} left"]


class TimeLeft:
    """The seconds that a call will take from now on, by the pace of what follows its first part.

    The first part waits for compilation, so that its pace would promise far too long a time. Until
    a twentieth of the work and a second, or 5 seconds, are measured there is no time left to tell.

    Args:
        total: How much there is to do; ``None`` if that is unknown.

    Example:
        >>> left = TimeLeft(100)
        >>> for done, at_s in ((10, 20.0), (30, 22.0)):
        ...     left.reach(done, at_s)
        ...     print(left.seconds)
        None
        7.0
    """

    def __init__(self, total: float | None) -> None:
        self._total = total
        self._first: tuple[float, float] | None = None
        self.seconds: float | None = None

    def reach(self, done: float, now: float) -> None:
        """Note how much is done.

        Args:
            done: How much.
            now: The time in seconds.
        """
        if self._first is None:
            self._first = done, now
        if self._total is None:
            return
        first, began = self._first
        work, seconds = done - first, now - began
        is_enough = work >= _LEAST_MEASURED_SHARE * self._total and seconds >= _LEAST_MEASURED_S
        if is_enough or (work and seconds >= _MEASURED_S):
            self.seconds = max(self._total - done, 0) * seconds / work


class CallProgress:
    """A line that counts what a call has done: how many, how fast, and soon the time left.

    Nothing is written before :data:`QUIET_S`. A notebook shows a line that is written over itself
    as a terminal does. The last line stays, and says whether the call came to its end.

    Args:
        unit: What is counted, in the singular.
        total: How many there will be; ``None`` if that is unknown.
        stream: Where to write; by default what :func:`progress_line` chooses when the call begins.
        enabled: Whether to write anything.
        clock: Returns seconds.

    Attributes:
        note: What the line says at its end, such as who computes; ``""`` for nothing.

    Example:
        >>> import sys
        >>> seconds = iter([0.0, 20.0, 40.0, 50.0])
        >>> line = CallProgress("row", 200, stream=sys.stdout, clock=lambda: next(seconds))
        >>> with line:
        ...     line.advance(50)
        ...     line.advance(50)
        row 50 of 200 · 2.5 rows/s
        row 100 of 200 · 2.5 rows/s · 40 s left
        row 100 of 200 · 2.0 rows/s · in 50 s
    """

    def __init__(
        self,
        unit: str,
        total: int | None = None,
        *,
        stream: IO[str] | None = None,
        enabled: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._unit = unit
        self._total = total
        self._clock = clock
        self._done = 0
        self._left = TimeLeft(total)
        self._shown = False
        self.note = ""
        # A process without a console has no standard error.
        has_stream = stream is not None or sys.stderr is not None
        self._line = progress_line(stream) if enabled and has_stream else None

    def __enter__(self) -> Self:
        self._began = self._clock()
        if self._line:
            self._due = self._began + (QUIET_S if self._line.rewrite else NEW_LINE_S)
        return self

    def advance(self, count: int) -> None:
        """Count ``count`` more, and write the line if that is due."""
        self._done += count
        if self._line is None:
            return
        now = self._clock()
        self._left.reach(self._done, now)
        if now < self._due:
            return
        text = self._joined(*self._position(now), *time_left(self._left.seconds))
        self._line.write(text, self._share())
        self._due = now + self._line.interval_s
        self._shown = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._line is None or not self._shown:
            return
        now = self._clock()
        how = "in" if kind is None else "stopped after"
        last = f"{how} {duration(now - self._began)}"
        self._line.close(self._joined(*self._position(now), last), self._share())

    def _joined(self, *parts: str) -> str:
        return " · ".join([*parts, self.note] if self.note else parts)

    def _share(self) -> float | None:
        return self._done / self._total if self._total else None

    def _position(self, now: float) -> list[str]:
        per_s = rate(self._done / max(now - self._began, 1e-9))
        return [count_of(self._unit, self._done, self._total), f"{per_s} {self._unit}s/s"]
