"""JAX's compilations in this process, by function, with their seconds.

JAX reports each compilation through :mod:`jax.monitoring`. One log, started when it is first
needed, keeps the latest ones.
"""

from __future__ import annotations

import functools
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jax

from aimz_lab.preparing import calls
from aimz_lab.system.compile_time import LOADED

# One compilation reports three spans under one name: tracing, lowering and XLA's own work. The last
# one ends the compilation.
_SPANS = (
    "/jax/core/compile/jaxpr_trace_duration",
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    "/jax/core/compile/backend_compile_duration",
)
_KEPT = 512

Span = tuple[float, float]
"""Begin and end, in seconds of the monotonic clock."""


@dataclass(frozen=True, slots=True)
class Compilation:
    """One function compiled once.

    Attributes:
        number: Running number in this process, from 0.
        name: Name of the function.
        spans: When it was traced, lowered and compiled.
        calls: Numbers of the calls that compiled it, the innermost first; see
            :func:`aimz_lab.preparing.calls`.
        thread: Identity of the thread that compiled it.
    """

    number: int
    name: str
    spans: tuple[Span, ...]
    calls: tuple[int, ...]
    thread: int

    @property
    def seconds(self) -> float:
        """Seconds of tracing, lowering and compiling."""
        return sum(end - begin for begin, end in self.spans)


def joined(spans: Iterable[Span]) -> list[Span]:
    """Join spans that overlap, as those of programs that compile side by side do.

    Example:
        >>> joined([(3.0, 4.0), (0.0, 2.0), (1.0, 2.5)])
        [(0.0, 2.5), (3.0, 4.0)]
    """
    found: list[Span] = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((begin, end))
    return found


class CompilationLog:
    """The latest compilations of this process; use :func:`compilation_log`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: deque[Compilation] = deque(maxlen=_KEPT)
        self._open: dict[tuple[int, str], tuple[Span, ...]] = {}
        self._loading: set[int] = set()
        self._count = 0

    def record(self, event: str, seconds: float, **details: Any) -> None:
        """Add an event of :mod:`jax.monitoring`."""
        thread = threading.get_ident()
        if event == LOADED:
            self._loading.add(thread)
        if event not in _SPANS:
            return
        name, now = _bare(str(details.get("fun_name", "?"))), time.monotonic()
        key = thread, name
        with self._lock:
            spans = *self._open.pop(key, ()), (now - seconds, now)
            if event == _SPANS[-1]:
                if thread in self._loading:
                    self._loading.remove(thread)
                    return
                self._kept.append(Compilation(self._count, name, spans, calls(), thread))
                self._count += 1
            elif len(self._open) < _KEPT:  # some are traced and never compiled, as by `eval_shape`
                self._open[key] = spans

    @property
    def count(self) -> int:
        """Compilations so far; the ``number`` that the next one gets."""
        return self._count

    def since(self, number: int) -> list[Compilation]:
        """Return those of the latest compilations that have this number or a later one."""
        with self._lock:
            return [c for c in self._kept if c.number >= number]


def _bare(name: str) -> str:
    return name[4:-1] if name.startswith("jit(") and name.endswith(")") else name


@functools.cache
def compilation_log() -> CompilationLog:
    """Return the log of this process, and start it on the first call."""
    log = CompilationLog()
    jax.monitoring.register_event_duration_secs_listener(log.record)
    return log
