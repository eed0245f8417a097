"""Run several compiled calls on threads, in order; how many at once, and the memory of them."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

import jax

from aimz_lab.predictive.blocks import BLOCK_ROWS
from aimz_lab.predictive.programs.parts import Span
from aimz_lab.predictive.programs.sizes import blocks_per_call
from aimz_lab.predictive.results.sinks import WRITERS
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


def bytes_in_flight(
    row_bytes: int,
    batch_size: int | None = None,
    devices: tuple[jax.Device, ...] | None = None,
    *,
    input_bytes: int = 0,
) -> int:
    """Upper bound on the bytes of a call, beside posterior draws and what it keeps of all rows.

    The result is computed in parts: blocks of 256 rows with all draws, as many as fit into
    ``batch_size`` or 16 MiB, and at least one for each device. A CPU computes one part per core at
    once (at most 8, and 256 MiB), a GPU three of them, and several devices one. As many parts wait,
    and each writer has one. Each part may exist twice, in two layouts.

    Rows of a source take their part of the 16 MiB too. Those of the parts under way, of the next
    one, and of the one that is read are in memory, in two copies.

    What a call keeps is a result in memory; of a mean, its values; and the labels of the rows.

    Args:
        row_bytes: Number of draws times bytes of a row of the sites.
        batch_size: Rows per part, as in ``predict``.
        devices: The devices to use; by default all.
        input_bytes: Bytes of a row that is read from a source.

    Example:
        >>> bytes_in_flight(row_bytes=1000 * 4, batch_size=256) < 40 * 2**20
        True
        >>> bytes_in_flight(8, input_bytes=80) < bytes_in_flight(80, input_bytes=80)
        True
    """
    devices = devices or tuple(jax.local_devices())
    largest = max(row_bytes, input_bytes)
    rows = blocks_per_call(None, largest, batch_size, len(devices)) * BLOCK_ROWS
    at_once = calls_at_once(devices, rows * row_bytes)
    return 2 * rows * (row_bytes * (2 * at_once + WRITERS) + input_bytes * (at_once + 2))


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
