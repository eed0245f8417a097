"""The runs of this process that go on, each with its number."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from weakref import WeakValueDictionary

from aimz_lab.inference.run.events import Callbacks
from aimz_lab.inference.run.run import Run

_numbers = itertools.count(1)
# Weak, so that a loop that is left without an end leaves the list as well.
_live: WeakValueDictionary[int, LiveRun] = WeakValueDictionary()


@dataclass(frozen=True, eq=False)
class LiveRun:
    """A run that goes on.

    Attributes:
        number: Its number in this process, from 1.
        run: Its record.
        callbacks: Its callbacks; a display may join them.
    """

    number: int
    run: Run
    callbacks: Callbacks


def enter(run: Run, callbacks: Callbacks) -> LiveRun:
    """Add a run that begins, for as long as the result is kept."""
    live = LiveRun(next(_numbers), run, callbacks)
    _live[live.number] = live
    return live


def live_runs() -> list[LiveRun]:
    """Return the runs that go on, in the order in which they began; from any thread."""
    runs = [live for live in _live.copy().values() if not live.run.finished]
    return sorted(runs, key=lambda live: live.number)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_live.clear)  # the threads of the runs are not copied
