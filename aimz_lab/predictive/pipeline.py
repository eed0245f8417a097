"""Run several compiled calls on threads, and yield their results in order."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

import jax

from aimz_lab.predictive.programs.parts import Span
from aimz_lab.preparing import computed, current
from aimz_lab.progress import CallProgress
from aimz_lab.system.cores import usable_cores

Call = TypeVar("Call")
Values = TypeVar("Values")

MOST_AT_ONCE = 8
"""Largest number of calls computed at the same time."""

ON_ACCELERATOR = 3
"""Calls at the same time on a GPU: one computes, one is copied to the host, one is put in place
there or written."""

AT_ONCE_BYTES = 2**28
"""Largest size of their results together, in bytes, unless one result is larger."""


def calls_at_once(devices: tuple[jax.Device, ...], call_bytes: int) -> int:
    """Return how many calls a host computes at the same time.

    One call does not use all cores of a CPU. A GPU computes one after the other, and the next while
    the results of the last are copied. Several devices share each call; two such calls at once
    could wait for one another.

    Args:
        devices: The devices to use.
        call_bytes: Bytes of a call's result.
    """
    if len(devices) > 1:
        return 1
    wanted = usable_cores() if devices[0].platform == "cpu" else ON_ACCELERATOR
    return min(wanted, MOST_AT_ONCE, max(AT_ONCE_BYTES // max(call_bytes, 1), 1))


def in_order(
    compute: Callable[[Call], tuple[Span, Values]],
    calls: Iterable[Call],
    at_once: int,
    *,
    total: int | None,
    unit: str,
    progress: bool,
) -> Iterator[tuple[Span, Values]]:
    """Compute calls, several at a time, and yield their results in order; a single one here.

    While a result is written, ``at_once`` calls are under way. One thread, the caller's, reads
    their inputs.

    Args:
        compute: Computes a call, on a thread of its own.
        calls: The calls; not ``None``.
        at_once: Number of calls under way at the same time.
        total: Sum of the spans of all results, if known.
        unit: Unit of the spans, in the singular.
        progress: Whether to show a line of progress.
    """
    telling, done = current(), 0
    telling.end()
    calls = iter(calls)
    first = list(itertools.islice(calls, 2))
    computed(unit, done, total)
    with CallProgress(unit, total, enabled=progress) as line:
        if len(first) > 1:
            results = _on_threads(compute, itertools.chain(first, calls), at_once)
        else:  # threads would take as long as a small call
            results = (compute(call) for call in first)
        with closing(results):
            for span, values in results:
                yield span, values
                line.advance(span.count)
                done += span.count
                computed(unit, done, total)
                if total:
                    telling.reach(min(done / total, 1.0))


def _on_threads(
    compute: Callable[[Call], tuple[Span, Values]], calls: Iterable[Call], at_once: int
) -> Iterator[tuple[Span, Values]]:
    waiting: deque[Future] = deque()
    with ThreadPoolExecutor(at_once, thread_name_prefix="aimz_lab-compute") as pool:
        try:
            for call in itertools.chain(calls, [None] * at_once):
                if call is not None:
                    waiting.append(pool.submit(compute, call))
                if waiting and (call is None or len(waiting) > at_once):
                    yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
