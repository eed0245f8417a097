"""Which worker has which part of a call, and what came of it."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from aimz_lab.cluster.tasks import Part, PartResult
from aimz_lab.errors import CallStoppedError
from aimz_lab.inference.run.displays import default_display
from aimz_lab.progress import TimeLeft

PartState = Literal["waiting", "assigned", "done", "failed"]
CallStatus = Literal["running", "completed", "stopped", "failed"]


@dataclass
class LoggedPart:
    """A part of a call that was handed out.

    Attributes:
        first: Number of its first row or draw.
        count: Number of rows or draws.
        state: ``"waiting"`` for a worker, ``"assigned"`` to one, ``"done"`` or ``"failed"``.
        worker: Name of the worker that has it or had it; ``""`` before.
        repeats: How often it was given to another worker because one was lost.
        address: Address of the worker; another process of the same name has another one.
    """

    first: int
    count: int
    state: PartState = "waiting"
    worker: str = ""
    repeats: int = 0
    address: str = field(default="", repr=False)


@dataclass
class LoggedWorker:
    """What a worker has done of a call.

    Attributes:
        name: Its name.
        parts: Parts that it has computed.
        count: Rows or draws in them.
        nbytes: Bytes of their draws, written, reduced or sent back.
        seconds: Seconds that it computed and wrote.
        lost: How often a process of this name was lost with a part.
    """

    name: str
    parts: int = 0
    count: int = 0
    nbytes: int = 0
    seconds: float = 0.0
    lost: int = 0


class CallLog:
    """The parts of a call, the workers that compute them, and whether somebody asked to stop.

    Args:
        kernel: Name of the kernel.
        unit: What is counted: ``"row"`` or ``"draw"``.
        total: How many there will be; ``None`` if that is unknown.
        part_size: Rows or draws of a part.
        unit_bytes: Bytes of the draws of a row, or of a draw of all rows.
        link: Address of a page about the workers; ``""`` for none.

    Attributes:
        parts: Those that were handed out, by their first row or draw, in order.
        workers: The workers that have or had a part, by name.
        status: How it stands.
        done: Rows or draws that are done.
        repeats: How often a part was given to another worker because one was lost.
        left: The time that it will take from now on.
        ended: Numbers of parts that have ended, as they come; ``None`` wakes whoever waits.
    """

    def __init__(
        self,
        kernel: str,
        unit: str,
        total: int | None,
        *,
        part_size: int,
        unit_bytes: int = 0,
        link: str = "",
    ) -> None:
        self.kernel, self.unit, self.total, self.link = kernel, unit, total, link
        self.unit_bytes = unit_bytes
        self.n_parts = None if total is None else -(-total // part_size)
        self.parts: dict[int, LoggedPart] = {}
        self._open: dict[int, LoggedPart] = {}
        self.workers: dict[str, LoggedWorker] = {}
        self.status: CallStatus = "running"
        self.done = self.n_done = self.repeats = 0
        self.left = TimeLeft(total)
        self.ended: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._began, self._seconds = time.monotonic(), None
        self._reason = ""

    @property
    def seconds(self) -> float:
        """Seconds since the call began, or until it ended."""
        return time.monotonic() - self._began if self._seconds is None else self._seconds

    @property
    def open_parts(self) -> list[LoggedPart]:
        """The parts that were handed out and have not ended."""
        return list(self._open.copy().values())

    @property
    def is_stopping(self) -> bool:
        """Whether somebody asked to stop."""
        return bool(self._reason)

    def submitted(self, part: Part) -> None:
        """Note that a part was handed out."""
        self.parts[part.first] = self._open[part.first] = LoggedPart(part.first, part.count)

    def assigned(self, found: Mapping[int, tuple[str, str]], alive: set[str]) -> None:
        """Note which worker has which part, as the scheduler says.

        Args:
            found: Address and name of the worker, by the first row or draw of the part.
            alive: Addresses of the workers that are there.
        """
        for first, part in self._open.items():
            if part.address and part.address not in alive:
                part.repeats += 1
                self.repeats += 1
                self._worker(part.worker).lost += 1
                part.state, part.worker, part.address = "waiting", "", ""
            if first in found:
                part.state = "assigned"
                part.address, part.worker = found[first]
                self._worker(part.worker)

    def computed(self, first: int, result: PartResult) -> None:
        """Note the result of a part."""
        part, worker = self._open.pop(first), self._worker(result.worker)
        part.state, part.worker = "done", result.worker
        worker.parts += 1
        worker.count += part.count
        worker.nbytes += part.count * self.unit_bytes
        worker.seconds += result.seconds
        self.done += part.count
        self.n_done += 1
        self.left.reach(self.done, time.monotonic())

    def failed(self, first: int) -> None:
        """Note that a part has failed, and the call with it."""
        self._open.pop(first).state = "failed"

    def stop(self, reason: str) -> None:
        """Ask the call to end; from any thread.

        Args:
            reason: Why, as the beginning of a sentence: ``"Stop was clicked"``.
        """
        self._reason = self._reason or reason
        self.ended.put(None)

    def check_stop(self) -> None:
        """Raise :class:`CallStoppedError` if somebody asked to stop."""
        if self._reason:
            of = "" if self.n_parts is None else f" of {self.n_parts:,}"
            msg = f"{self._reason} after {self.n_done:,}{of} parts of the call; nothing was kept."
            raise CallStoppedError(msg)

    def end(self, error: BaseException | None) -> None:
        """Note that the call has ended, and how."""
        self._seconds = self.seconds
        is_stop = isinstance(error, CallStoppedError | KeyboardInterrupt)
        self.status = "stopped" if is_stop else "failed" if error else "completed"

    def _worker(self, name: str) -> LoggedWorker:
        return self.workers.setdefault(name, LoggedWorker(name))


class CallDisplay(Protocol):
    """Shows a call on workers while it goes on."""

    def show(self, log: CallLog) -> None:
        """Show how it stands, if that is due."""

    def close(self, log: CallLog) -> None:
        """Show how it ended, for good."""


def display_of_call(*, progress: bool) -> CallDisplay | None:
    """Return the display of a call on workers; ``None`` where a line of text is all there is.

    A display of runs that can show calls too has a method ``of_call`` that makes one.

    Args:
        progress: Whether to show anything.
    """
    makers: list[Callable[[], CallDisplay | None]] = [
        display.of_call for display in default_display(progress) if hasattr(display, "of_call")
    ]
    return makers[0]() if makers else None
