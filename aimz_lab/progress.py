"""Progress as a line that is kept up to date, or line after line where that cannot be."""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import ROUND_HALF_UP, Context, Decimal
from html import escape
from types import TracebackType
from typing import IO, Any, Self

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

_SEEN_S = 0.05
"""Seconds that are not written as 0.0 s."""

_PLAIN = str.maketrans({"·": "|"})
_WIDEST = Context(prec=400, rounding=ROUND_HALF_UP)  # enough digits for any float
_ROUNDING = 1e-7  # of a value: a smaller spread is what single precision leaves
WELL_MIXED = 1.01
"""R-hat up to which chains agree; Vehtari et al. (2021)."""

_MORE_DECIMALS = 12  # then double precision ends
_MEASURES = ("mean", "median", "50%", "observed", "predicted")
_ENDS = (("hdi_low", "hdi_high"), ("low", "high"), ("5%", "95%"))
_SPREADS = ("sd", "se")


def fixed(value: float, decimals: int = 0, *, group: str = ",") -> str:
    """Write a finite value with so many decimals, thousands in groups.

    An exact half goes away from zero, as on the dashboard's page; Python's own formats round it to
    even. There is no minus before zero.

    Example:
        >>> fixed(1000.5), fixed(0.25, 1), fixed(-0.3)
        ('1,001', '0.3', '0')
    """
    unit = Decimal(1).scaleb(-decimals)
    return f"{_WIDEST.quantize(Decimal(float(value)), unit):z{group}.{decimals}f}"


def number(value: float | None, digits: int = 4) -> str:
    """Write a value with ``digits`` significant digits, thousands in groups.

    Example:
        >>> number(1.41823), number(-10_432.7), number(0.0000123), number(None)
        ('1.418', '-10,433', '1.23e-05', '-')
    """
    if value is None:
        return "-"
    if not math.isfinite(value):
        return str(value)
    if 10 ** (digits - 1) <= abs(value) < 1e9:
        return fixed(value)
    rounded = Context(prec=digits, rounding=ROUND_HALF_UP).create_decimal(float(value))
    return f"{float(rounded):z.{digits}g}"


def number_beside(value: float, spread: float, digits: int = 4) -> str:
    """Write a value that stands beside its spread, as :func:`number` does or with more decimals.

    Args:
        value: A mean, or an end of an interval.
        spread: Its standard deviation, or the width of its interval, which gets two digits. What is
            not finite, or within the rounding of single precision, asks for no more decimals.
        digits: Least significant digits.

    Example:
        >>> number_beside(1182.04, 0.065), number_beside(1182.04, 30.0), number_beside(0.5, 0.2)
        ('1,182.040', '1,182', '0.5')
    """
    if not value or not math.isfinite(value):
        return number(value, digits)
    exponent = math.floor(math.log10(abs(value)))
    decimals = _decimals(spread, abs(value))
    if decimals <= max(0, digits - 1 - exponent):
        return number(value, digits)
    if 1e-3 <= abs(value) < 1e9:
        return fixed(value, decimals)
    return number(value, decimals + 1 + exponent)


def _decimals(spread: float, value: float) -> int:
    """Return how many decimals give a spread two digits."""
    if not _ROUNDING * value < spread < math.inf:
        return 0
    return max(0, 1 - math.floor(math.log10(spread / 0.995)))  # 0.0996 is written 0.10


def beside_limit(value: float, limit: float, decimals: int = 2) -> tuple[str, str]:
    """Write a value and the limit that it is held against, so that they are seen to differ.

    Args:
        value: The value.
        limit: The limit.
        decimals: Least decimals of both; they get more while they look alike and are not.

    Example:
        >>> beside_limit(0.674, 0.6667), beside_limit(0.9, 0.6667), beside_limit(0.5, 0.5)
        (('0.674', '0.667'), ('0.90', '0.67'), ('0.50', '0.50'))
    """
    if not (math.isfinite(value) and math.isfinite(limit)):
        return f"{value:.{decimals}f}", f"{limit:.{decimals}f}"
    most = decimals + _MORE_DECIMALS
    while decimals < most and value != limit and fixed(value, decimals) == fixed(limit, decimals):
        decimals += 1
    return fixed(value, decimals), fixed(limit, decimals)


def numbers_of_row(row: Mapping[str, float]) -> list[str]:
    """Write the numbers of a row of a table; means and ends of intervals beside their spread.

    Args:
        row: The numbers by column. ``sd``, ``se`` and the width of an interval are spreads of
            ``mean``, ``median`` and of the ends of that interval; ``cost_sd`` and the like are
            those of ``cost``, ``cost_mean`` and ``cost_low``. The least one counts.

    Example:
        >>> numbers_of_row({"mean": 1182.04, "sd": 0.06475, "hdi_low": 1181.92, "r_hat": 1.001})
        ['1,182.040', '0.06475', '1,181.920', '1.001']
    """
    return [number_beside(value, _spread_of(name, row)) for name, value in row.items()]


def _spread_of(name: str, row: Mapping[str, float]) -> float:
    places = [*_MEASURES, *(end for ends in _ENDS for end in ends)]
    stems = [f"{name}_", *(name.removesuffix(one) for one in places if name.endswith(one))]
    found = [row[key] for stem in stems for one in _SPREADS if (key := f"{stem}{one}") in row]
    for stem in stems:
        for low, high in _ENDS:
            if {f"{stem}{low}", f"{stem}{high}"} <= row.keys():
                found.append(row[f"{stem}{high}"] - row[f"{stem}{low}"])
    return min(filter(math.isfinite, found), default=math.nan)


def spread(values: Iterable[float]) -> str:
    """Write several numbers as one, or as the lowest and the highest.

    Example:
        >>> spread([0.3, 0.1]), spread([0.25])
        ('0.1 to 0.3', '0.25')
    """
    ordered = sorted(values)
    low, high = (number(float(end), 2) for end in (ordered[0], ordered[-1]))
    return low if low == high else f"{low} to {high}"


def ratio(value: float | None) -> str:
    """Write an R-hat, so that it is seen to differ from :data:`WELL_MIXED`.

    Example:
        >>> ratio(1.00412), ratio(1.0104), ratio(None)
        ('1.00', '1.0104', '-')
    """
    return "-" if value is None else beside_limit(value, WELL_MIXED)[0]


def numbers_alike(values: Sequence[float], spreads: Iterable[float] = ()) -> list[str]:
    """Write values of one unit with equally many decimals, so that a column of them lines up.

    Args:
        values: The values.
        spreads: Spreads that stand beside them; the least one gets two digits, as in
            :func:`number_beside`.

    Example:
        >>> numbers_alike([9.234, 14.0, 0.85]), numbers_alike([2.0, 31.0]), numbers_alike([1e-9])
        (['9.23', '14.00', '0.85'], ['2', '31'], ['1e-09'])
        >>> numbers_alike([138.471, 138.5293], [0.052])
        ['138.471', '138.529']
    """
    each = [number(float(value)) for value in values]
    largest = max((abs(float(value)) for value in values), default=0.0)
    if not 1e-3 <= largest < 1e9 or any("n" in text for text in each):  # nan, inf
        return each
    beside = max((_decimals(float(spread), largest) for spread in spreads), default=0)
    decimals = max(0, 3 - math.floor(math.log10(largest)), beside)
    alike = [f"{float(value):z,.{decimals}f}" for value in values]
    while decimals and all(text.endswith("0") for text in alike):
        decimals, alike = decimals - 1, [text[:-1] for text in alike]
    return [text.removesuffix(".") for text in alike]


def count(value: float | None) -> str:
    """Write a whole number, thousands in groups.

    Example:
        >>> count(4812)
        '4,812'
    """
    return "-" if value is None else fixed(value)


def rate(value: float) -> str:
    """Write a rate per second: whole from 10 on, one decimal below.

    Example:
        >>> rate(61_204.3), rate(2.34)
        ('61,204', '2.3')
    """
    return fixed(value, 0 if value >= 10 else 1)


def percentage(share: float) -> str:
    """Write a share as a percentage with one decimal; what is almost none or all says so.

    Example:
        >>> [percentage(share) for share in (0.0, 1e-9, 0.0631, 0.9996, 1.0)]
        ['0%', 'under 0.1%', '6.3%', 'over 99.9%', '100%']
    """
    if share in (0, 1):
        return f"{share:.0%}"
    if share < 0.001:
        return "under 0.1%"
    return "over 99.9%" if share > 0.999 else f"{fixed(100 * share, 1)}%"


def count_of(unit: str, done: int, total: int | None) -> str:
    """Write how many of a unit are done, and how many there are, if that is known.

    Example:
        >>> count_of("row", 50, 4_812), count_of("row", 50, None)
        ('row 50 of 4,812', 'row 50')
    """
    return f"{unit} {count(done)}" + ("" if total is None else f" of {count(total)}")


def duration(seconds: float | None) -> str:
    """Write a span of time: in seconds below a minute, else as a clock does.

    Example:
        >>> duration(0.4), duration(41), duration(3_725), duration(None)
        ('0.4 s', '41 s', '1:02:05', '-')
    """
    if seconds is None or not math.isfinite(seconds):
        return "-"
    if seconds < 9.95:
        return f"{fixed(seconds, 1)} s"
    minutes, rest = divmod(math.floor(seconds + 0.5), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


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
    return [] if seconds is None or seconds < _SEEN_S else [f"{duration(seconds)} left"]


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
