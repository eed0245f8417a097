"""Which processes of a run are still there.

By itself JAX aborts all processes once it hears nothing more of one; a run would lose the steps
since its last checkpoint, without a reason. Processes that JAX may recover are asked here
instead, and end with an error that says which one is lost.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any

import jax

ENDS_AFTER_S = 60.0
"""Seconds after which a process ends that still waits for a lost one, in a collective of JAX."""

AFTER_LOST = 4
"""Exit code of a process that ends because another one is lost."""

_LEFT = "aimz_lab/left"
"""Key under which processes say that they leave."""

_PAUSE_S, _LEAVING_PAUSE_S = 0.5, 0.02
"""Seconds between two roll calls: as a rule, and when this process is about to leave."""


def lost_sentence(lost: frozenset[int], size: int) -> str:
    """Say which processes are lost, and what to do.

    Args:
        lost: Their numbers.
        size: Number of all processes.
    """
    return (
        f"Process {min(lost)} of {size} is gone, or does not answer any more. "
        "Start them again with resume= and the last checkpoint; their number may be another."
    )


class RollCall:
    """Asks, in a thread, which processes are there; JAX answers once each of them has asked.

    JAX counts those as gone that it has not heard of for its time between heartbeats, which do
    not wait for Python.

    Args:
        store: JAX's client of the coordination service.
        size: Number of processes.
        rank: Number of this process.

    Attributes:
        lost: Processes that are gone, and have not said that they leave.
        present: Processes that are there.
        left: Processes that have said that they leave.
    """

    def __init__(self, store: Any, size: int, rank: int) -> None:
        self.lost = self.left = frozenset[int]()
        self.present = frozenset(range(size))
        self._all, self._rank, self._store = self.present, rank, store
        self._leaving, self._last = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._ask, name="roll call", daemon=True)
        self._thread.start()

    def leave(self, *, within_s: float | None = None) -> None:
        """Say that this process leaves; the first one waits until the others have left or are lost.

        JAX's service lies in the first process, and JAX aborts those that lose it.

        Args:
            within_s: After a failure, the seconds that the first process waits at most for the
                others to say so. By default it waits until they are gone.
        """
        self._store.key_value_set(f"{_LEFT}/{self._rank}", "", allow_overwrite=True)
        self._leaving.set()
        if self._rank == 0:
            until = time.monotonic() + (float("inf") if within_s is None else within_s)
            while time.monotonic() < until:
                if not self.present - {0} - (frozenset() if within_s is None else self.left):
                    break
                time.sleep(_LEAVING_PAUSE_S)
        self._last.set()
        self._thread.join(within_s)

    def _ask(self) -> None:
        found_s = None
        while not self._last.is_set():
            try:
                self.present = frozenset(self._store.get_live_nodes(sorted(self._all)))
                left = self._store.key_value_dir_get(_LEFT)
            except jax.errors.JaxRuntimeError:  # if the first process is gone, JAX ends this one
                time.sleep(_PAUSE_S)
                continue
            self.left = frozenset(int(key.rpartition("/")[2]) for key, _ in left)
            self.lost = self._all - self.present - self.left
            if self.lost:
                found_s = found_s or time.monotonic()
                if time.monotonic() - found_s > ENDS_AFTER_S:
                    self._end()
            self._leaving.wait(_PAUSE_S)
            if self._leaving.is_set():
                time.sleep(_LEAVING_PAUSE_S)

    def _end(self) -> None:
        sys.stderr.write(f"{lost_sentence(self.lost, len(self._all))}\n")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(AFTER_LOST)
