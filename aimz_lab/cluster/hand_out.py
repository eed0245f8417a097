"""Hand parts out to workers, and take their results back in order."""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from aimz_lab.cluster.call_log import CallLog
from aimz_lab.cluster.executors import PartFuture, Workers
from aimz_lab.cluster.sums_on_workers import SumsOnWorkers
from aimz_lab.cluster.tasks import Header, Part, PartResult
from aimz_lab.tracebacks import warn

_AHEAD = 8
"""Parts in hand for each one under way, where results are small: a slow part keeps nobody idle."""

_LOOK_S = 0.25
"""How often a call looks which worker has which part, and shows it."""

_TOTAL = -1
"""In place of the first row of a part: the sums of all."""


class HandOut:
    """The parts of a call that workers have.

    Args:
        workers: The workers.
        header: Identifies the call.
        pickled: The call.
        log: Takes what becomes of the parts.
        tell: Called with the rows or draws that came in, and with 0 now and then.
        sums: Where the sums of parts stay; ``None`` if they come back with the parts.
    """

    def __init__(
        self,
        workers: Workers,
        header: Header,
        pickled: bytes,
        log: CallLog,
        tell: Callable[[int], None],
        sums: SumsOnWorkers | None = None,
    ) -> None:
        self._workers, self._header, self._log, self._tell = workers, header, log, tell
        self._pickled, self._sums = pickled, sums
        self._futures: dict[int, PartFuture] = {}
        self._kept: dict[int, PartFuture] = {}
        self._results: dict[int, PartResult] = {}
        self._warned: set[tuple[type[Warning], str]] = set()
        self._looked = time.monotonic()

    def results(
        self, parts: Iterable[Part], *, is_small: bool
    ) -> Iterator[tuple[Part, PartResult]]:
        """Yield the results of parts in order, while a bounded number is under way.

        Args:
            parts: The parts.
            is_small: Whether some results may wait here for that of an earlier part.

        Yields:
            Each part with its result; where sums stay on the workers, the last part once more, with
            the sums of all.

        Raises:
            ClusterError: If the workers are lost, or cannot do their part.
            CallStoppedError: If somebody asked to stop.
        """
        at_once = self._workers.at_once
        in_hand = at_once * (_AHEAD if is_small else 2)
        sent = self._workers.send(self._pickled)
        waiting: deque[Part] = deque()
        for part in parts:
            self._submit(sent, part)
            waiting.append(part)
            while len(self._futures) >= at_once or len(waiting) >= in_hand:
                yield from self._ready(waiting)
                if len(self._futures) >= at_once or len(waiting) >= in_hand:
                    self._wait(waiting)
        while waiting:
            yield from self._ready(waiting)
            if waiting:
                self._wait(waiting)
        if self._sums is not None:
            yield part, self._total(self._sums)

    def close(self) -> None:
        """Cancel what is left."""
        sums = [] if self._sums is None else self._sums.futures
        self._workers.stop([*self._futures.values(), *self._kept.values(), *sums])

    def _submit(self, sent: object, part: Part) -> None:
        self._log.check_stop()
        self._log.submitted(part)
        future = self._workers.submit(self._header, sent, part)
        if self._sums is not None:
            self._kept[part.first] = future
            future = self._workers.told(future)
        self._futures[part.first] = future
        self._tell_end(part.first)

    def _tell_end(self, number: int) -> None:
        future = self._futures[number]
        if hasattr(future, "add_done_callback"):
            future.add_done_callback(lambda _: self._log.ended.put(number))

    def _ready(self, waiting: deque[Part]) -> Iterator[tuple[Part, PartResult]]:
        """Yield the results that are next in order."""
        while waiting and waiting[0].first in self._results:
            part = waiting.popleft()
            if self._sums is not None:
                self._sums.add(self._kept.pop(part.first))
            yield part, self._results.pop(part.first)

    def _wait(self, waiting: deque[Part]) -> None:
        """Wait until a part has ended, or somebody asks to stop."""
        number = self._next_ended(waiting)
        self._log.check_stop()
        if number is None or number not in self._futures:
            return
        try:
            result = self._workers.result(self._futures[number])
        except Exception:
            self._log.failed(number)
            raise
        if result is None:
            self._tell_end(number)
            return
        del self._futures[number]
        self._results[number] = result
        self._log.computed(number, result)
        for category, text in set(result.warned) - self._warned:
            warn(text, category)
        self._warned.update(result.warned)
        self._tell(self._log.parts[number].count)

    def _next_ended(self, waiting: deque[Part]) -> int | None:
        """Return the number of a part that has ended; ``None`` after a while."""
        first = next(part.first for part in waiting if part.first in self._futures)
        if not hasattr(self._futures[first], "add_done_callback"):
            return first  # its result() waits
        self._look(self._futures | self._kept)
        return self._next_event()

    def _look(self, futures: dict[int, PartFuture]) -> None:
        """Look now and then which worker has which part, and whether there are workers."""
        if time.monotonic() - self._looked > _LOOK_S:
            self._workers.look(futures, self._log)
            self._tell(0)
            self._looked = time.monotonic()

    def _next_event(self) -> int | None:
        try:
            return self._log.ended.get(timeout=_LOOK_S)
        except queue.Empty:
            return None

    def _total(self, sums: SumsOnWorkers) -> PartResult:
        """Wait until the sums of all parts are joined, and take them."""
        total, result = sums.total(), None
        while result is None:
            total.add_done_callback(lambda _: self._log.ended.put(None))
            while not total.done():
                self._log.check_stop()
                self._look({_TOTAL: total})
                self._next_event()
            result = self._workers.result(total)
        self._sums = None
        return result
