"""The runs of this process that go on, each with its number."""

from __future__ import annotations

import itertools
import os
import threading
from weakref import WeakValueDictionary

from aimz_lab.inference.run.events import Callbacks
from aimz_lab.inference.run.run import Run

_entries = itertools.count()
_numbers = itertools.count(1)
_numbering = threading.Lock()
# Weak, so that a loop that is left without an end leaves the list as well.
_live: WeakValueDictionary[int, LiveRun] = WeakValueDictionary()


class LiveRun:
    """A run that goes on.

    Args:
        run: Its record.
        callbacks: Its callbacks.

    Attributes:
        run: Its record.
        callbacks: Its callbacks; a display may join them.
    """

    def __init__(self, run: Run, callbacks: Callbacks) -> None:
        self.run, self.callbacks = run, callbacks

    @property
    def number(self) -> int:
        """Its number in this process, from 1, which the run keeps; see :func:`number_of`."""
        return number_of(self.run)


def number_of(run: Run) -> int:
    """Return the number of a run in this process, from 1; runs that nobody looks at have none.

    It is the same on every page and picture, however the run ended.

    Args:
        run: The run, which gets the next number if it has none.
    """
    with _numbering:
        # Those that began before and go on come first.
        for one in [*(live.run for live in live_runs()), run] if run.number is None else []:
            one.number = one.number or next(_numbers)
            if one is run:
                break
    return run.number


def enter(run: Run, callbacks: Callbacks) -> LiveRun:
    """Add a run that begins, for as long as the result is kept."""
    live = LiveRun(run, callbacks)
    _live[next(_entries)] = live
    return live


def live_runs() -> list[LiveRun]:
    """Return the runs that go on, in the order in which they began; from any thread."""
    return [live for _, live in sorted(_live.copy().items()) if not live.run.finished]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_live.clear)  # the threads of the runs are not copied
