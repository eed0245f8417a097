"""What a call does before its first result, told from a thread, so that it moves meanwhile.

A first call traces and compiles for seconds, with the calling thread busy. The code that does so
names its activity by :func:`doing`; whoever shows the call begins a :class:`Preparation`.
"""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from aimz_lab.number_text import count_of, duration
from aimz_lab.progress import QUIET_S, NotebookLine, StatusLine, TimeLeft, progress_line, time_left

EVERY_S = 0.5
"""Seconds from one telling to the next."""

FIRST_S = 0.3
"""Seconds before the first one: a call that is quick has none."""


@dataclass(frozen=True)
class Preparing:
    """What a call does now, before its first result.

    Attributes:
        name: Name of the kernel.
        activity: What it does, such as ``"compiling the training steps"``.
        seconds: Seconds since the call began.
        stage: What the call as a whole is at.
        left_s: Seconds that the call still takes, if that is known.

    Example:
        >>> Preparing("earnings", "tracing the model", 2.43).text
        'earnings: preparing · tracing the model · 2.4 s'
        >>> Preparing("earnings", "training copy 2 of 11", 14.0, "placebo", 70.0).text
        'earnings: placebo · training copy 2 of 11 · 14 s · 1:10 left'
    """

    name: str
    activity: str
    seconds: float
    stage: str = "preparing"
    left_s: float | None = None

    @property
    def what(self) -> str:
        """The activity, its seconds, and those that are left."""
        return " · ".join([self.activity, duration(self.seconds), *time_left(self.left_s)])

    @property
    def text(self) -> str:
        """The same with the name of the kernel, as a line."""
        return f"{self.name}: {self.stage} · {self.what}"


class Preparation:
    """Tells twice a second what a call does, until its first result.

    Args:
        name: Name of the kernel.
        tell: Called on a thread of its own; an error in it ends the telling. ``None`` tells nobody.
        withdraw: Called at the end, if anything was told.
        first_s: Seconds before the first telling.

    Attributes:
        number: Its number in this process, by which compilations are known to belong to the call.
        activity: What the call does now.
        stage: What the call as a whole is at.
        began: Time at which the call began, in seconds of the monotonic clock; ``None`` before.

    Example:
        >>> told = []
        >>> with Preparation("demo", told.append, first_s=0.0).under_way() as preparation:
        ...     doing("tracing the model")
        ...     while not told:
        ...         time.sleep(0.01)
        >>> told[0].name
        'demo'
    """

    def __init__(
        self,
        name: str,
        tell: Callable[[Preparing], None] | None = None,
        *,
        withdraw: Callable[[], None] | None = None,
        first_s: float = FIRST_S,
    ) -> None:
        self.number = next(_numbers)
        self.activity, self.stage = "reading the data", "preparing"
        self._outer: Preparation | None = None
        self._parts: tuple[int, int] | None = None
        self._left, self._reached_at, self._share = TimeLeft(1.0), 0.0, 0.0
        self.began: float | None = None
        self._name, self._tell, self._withdraw, self._first_s = name, tell, withdraw, first_s
        self._has_told = False
        self._ended = threading.Event()
        self._telling = threading.Lock()
        if tell is None:
            self._ended.set()

    def begin(self) -> None:
        """Count the seconds from here on, and begin to tell."""
        self.began = time.monotonic()
        if self._ended.is_set():
            return
        # What it shows belongs to the cell that began it.
        context = contextvars.copy_context()
        threading.Thread(
            target=context.run, args=(self._go_on,), name="aimz_lab-preparing", daemon=True
        ).start()

    @property
    def is_told(self) -> bool:
        """Whether anybody is told of it."""
        return self._tell is not None and not self._ended.is_set()

    def at_part(self, part: tuple[int, int]) -> None:
        """Count from here on the parts of the call: how many are done, and how many there are."""
        self._parts = part
        self._note_share(part[0] / part[1])

    def _note_share(self, share: float) -> None:
        self._share = share
        if share > 0:  # the first result waits for compilation, and tells no pace
            self._reached_at = time.monotonic()
            self._left.reach(share, self._reached_at)

    def reach(self, share: float) -> None:
        """Note the share of the present part that is done, here and in the calls around."""
        if self._parts is not None:
            done, of = self._parts
            share = (done + share) / of
            self._note_share(share)
        if self._outer is not None:
            self._outer.reach(share)

    def _left_s(self, now: float) -> float | None:
        left = self._left.seconds
        return None if left is None else max(left - (now - self._reached_at), 0.0)

    def _go_on(self) -> None:
        wait = self._first_s
        while not self._ended.wait(wait):
            with self._telling:
                if self._ended.is_set():
                    return
                now, self._has_told = time.monotonic(), True
                told = Preparing(
                    self._name, self.activity, now - self.began, self.stage, self._left_s(now)
                )
                try:
                    self._tell(told)
                except Exception:  # noqa: BLE001  a broken display must not end the call
                    return
            wait = EVERY_S

    def end(self) -> None:
        """Tell no more; nothing is told once this returns."""
        if self._ended.is_set():
            return
        self._ended.set()
        with self._telling:
            if self._has_told and self._withdraw:
                self._withdraw()

    @contextlib.contextmanager
    def under_way(self) -> Iterator[Preparation]:
        """Begin, and be the one that :func:`doing` speaks to; an error ends it."""
        self._outer = _current.get()
        try:
            with self.as_current():
                self.begin()
                yield self
        except BaseException:
            self.end()
            raise

    @contextlib.contextmanager
    def interrupted_in_words(self, outcome: str = "") -> Iterator[None]:
        """Give an interrupt without words, as Python raises it, those of the activity.

        Args:
            outcome: What else to say of it.
        """
        try:
            yield
        except KeyboardInterrupt as error:
            if not error.args:
                error.args = (f"Interrupted while {self.activity}{outcome}.",)
            raise error from None  # JAX chains the frames of its trace to it

    @contextlib.contextmanager
    def as_current(self) -> Iterator[Preparation]:
        """Be the one that :func:`doing` speaks to, and whose call compiles what is compiled."""
        token = _current.set(self)
        try:
            yield self
        finally:
            _current.reset(token)


_numbers = itertools.count()
_NOBODY = Preparation("")
_current: contextvars.ContextVar[Preparation | None] = contextvars.ContextVar(
    "aimz_lab_preparation", default=None
)


def current() -> Preparation:
    """Return the preparation that is under way, or one that tells nobody."""
    return _current.get() or _NOBODY


def doing(activity: str, part: tuple[int, int] | None = None) -> None:
    """Name what the call does from here on; without a display this costs nothing.

    Args:
        activity: A phrase such as ``"tracing the model"``.
        part: How many parts are done, and how many there are, if they take about as long each: the
            time left is then known, by what follows the first result, which waits for compilation.
            An activity within a part names none.
    """
    preparation = current()
    preparation.activity = activity
    if part is not None:
        preparation.at_part(part)


def computed(unit: str, done: int, total: int | None) -> None:
    """Name how far the call has come, for an interrupt to say: it has a result at its end alone.

    Args:
        unit: What is counted, in the singular.
        done: How many are done.
        total: How many there will be, if that is known.

    Example:
        >>> with Preparation("demo").as_current() as preparation:
        ...     computed("row", 50, 200)
        ...     print(preparation.activity)
        computing, after row 50 of 200; nothing is kept
    """
    so_far = f", after {count_of(unit, done, total)}" if done else f" the first {unit}s"
    doing(f"computing{so_far}; nothing is kept")


@contextlib.contextmanager
def preparing_line(name: str, *, enabled: bool, stage: str = "preparing") -> Iterator[None]:
    """Show on a line of text what a call does before its result; the line goes at the end.

    A call within another that has a line has none of its own.

    Args:
        name: Name of the kernel.
        enabled: Whether to show anything.
        stage: What the call as a whole is at.
    """
    told = _ToldLine(stage)
    is_alone = not any(one.is_told for one in _around())
    tell = told.tell if enabled and is_alone else None
    preparation = Preparation(name, tell, withdraw=told.withdraw, first_s=QUIET_S)
    with preparation.under_way(), preparation.interrupted_in_words():
        try:
            yield
        finally:
            preparation.end()


def calls() -> tuple[int, ...]:
    """Return the numbers of the calls that are under way on this thread, the innermost first."""
    return tuple(one.number for one in _around())


def _around() -> Iterator[Preparation]:
    """The preparations of the calls that are under way, the innermost first."""
    one = _current.get()
    while one is not None:
        yield one
        one = one._outer


class _ToldLine:
    """A line for what is told, until it is withdrawn."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._line: StatusLine | NotebookLine | None = None
        self._due_s = 0.0

    def tell(self, preparing: Preparing) -> None:
        self._line = self._line or progress_line()
        if preparing.seconds >= self._due_s:
            self._line.write(replace(preparing, stage=self._stage).text)
            self._due_s = preparing.seconds + self._line.interval_s

    def withdraw(self) -> None:
        if self._line:
            self._line.clear()
