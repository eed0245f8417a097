"""The time in which a thread traces and compiles, and in which it waits for others that trace.

JAX reports each span at its end, on the thread that compiles. A span of tracing holds those of the
functions inside of it, so that their union counts.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax

_SPANS = frozenset(
    f"/jax/core/compile/{name}_duration"
    for name in ("jaxpr_trace", "jaxpr_to_mlir_module", "backend_compile")
)
_COMPILED = "/jax/core/compile/backend_compile_duration"
LOADED = "/jax/compilation_cache/cache_retrieval_time_sec"
"""A program that JAX reads from its folder is traced and lowered, and not compiled."""

_KEPT = 64
"""Spans in which a later one may lie; those inside of one are joined in it."""


class _CompileTime:
    """Seconds of compiling by thread."""

    def __init__(self) -> None:
        self._of_thread = threading.local()

    def record(self, event: str, seconds: float, **_: Any) -> None:
        """Add an event of :mod:`jax.monitoring`."""
        own = self._of_thread
        if event in (_COMPILED, LOADED):  # one that was loaded ends as if it were compiled
            own.programs = self.programs + (1 if event == _COMPILED else -1)
        if event not in _SPANS:
            return
        end = time.monotonic()
        begin = end - seconds
        spans = own.__dict__.setdefault("spans", [])
        added = seconds
        while spans and spans[-1][1] > begin:
            first, last = spans.pop()
            added -= last - max(first, begin)
            begin = min(begin, first)
        spans.append((begin, end))
        del spans[:-_KEPT]
        own.seconds = self.of_thread + added

    @property
    def of_thread(self) -> float:
        """Seconds of this thread."""
        return getattr(self._of_thread, "seconds", 0.0)

    @property
    def programs(self) -> int:
        """Programs that this thread compiled."""
        return getattr(self._of_thread, "programs", 0)


_waits = threading.local()


@functools.cache
def _compile_time() -> _CompileTime:
    found = _CompileTime()
    jax.monitoring.register_event_duration_secs_listener(found.record)
    return found


def compiled_s() -> float:
    """Return the seconds that this thread has traced and compiled since the first call.

    Example:
        >>> before = compiled_s()
        >>> _ = jax.jit(lambda x: x + 1)(1.0)
        >>> compiled_s() > before
        True
    """
    return _compile_time().of_thread


def compiled_programs() -> int:
    """Return how many programs this thread has compiled since the first call of this module.

    One that JAX's cache on disk had is loaded, and not compiled.
    """
    return _compile_time().programs


def waited_s() -> float:
    """Return the seconds that this thread has waited for others that trace."""
    return getattr(_waits, "seconds", 0.0)


@contextlib.contextmanager
def waiting_for_threads() -> Iterator[None]:
    """Count the time within as waiting for other threads that trace."""
    began = time.monotonic()
    try:
        yield
    finally:
        _waits.seconds = waited_s() + time.monotonic() - began
