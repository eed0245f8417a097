"""Devices and memory of a run, and its compilations."""

from __future__ import annotations

import math
import sys
import threading
from pathlib import Path
from typing import Any

import jax
import numpy as np

from aimz_lab.inference.run.events import Run, Steps
from aimz_lab.lab.panels.base import Frame, Panel
from aimz_lab.lab.panels.compilations import Compilation, Span, compilation_log, joined

MOST_COMPILATIONS = 6
_SHORT_S = 0.05


class DevicesPanel(Panel):
    """Devices and their memory, and the compilations of the run.

    A run's own compilations are those of its call; of a loop of the user's, those of its thread
    from the beginning on. A panel that joins a run later does not know them, and tells none. The
    seconds that passed count programs that compile at the same time once, and those that compile
    beside the steps not at all.
    """

    name = "devices"
    interval_s = 2.0

    def __init__(self) -> None:
        self._knows = False
        self._programs: dict[str, Frame] = {}
        self._spans: list[Span] = []
        self._thread = 0
        self._looked_at: int | None = None
        self._batch_sizes: set[int] = set()
        self._new_sizes: set[int] = set()

    def begin(self, run: Run) -> None:
        """Count batch sizes from here on, and compilations from the beginning of the call."""
        self._knows, self._programs, self._spans = run.step == run.resumed_at, {}, []
        self._thread = threading.get_ident()
        self._looked_at = compilation_log().count if run.call is None else None
        self._batch_sizes, self._new_sizes = set(), set()

    def take(self, steps: Steps) -> None:
        """Note sizes of batches that are new."""
        self._new_sizes |= _different(steps.rows + steps.n_pad) - self._batch_sizes

    def frame(self, run: Run) -> Frame:
        """Describe the devices, their memory and the compilations."""
        self._note_compilations(run)
        devices = run.info.devices or tuple(jax.local_devices())
        return {
            "devices": [_device(device) for device in devices[:16]],
            "n_devices": len(devices),
            "process": process_memory(),
            "live_buffers": len(jax.live_arrays()),
            "bytes_per_step": run.transferred_bytes / max(run.step - run.resumed_at, 1),
            "compiled": self._compiled(run),
        }

    def _note_compilations(self, run: Run) -> None:
        """Note the compilations since the last frame, each with the step and new batch sizes."""
        new_sizes, self._new_sizes = sorted(self._new_sizes), set()
        where = "before the first step" if run.step == 0 else f"by step {run.step:,}"
        if self._batch_sizes and new_sizes:
            where += f", first batch of {', '.join(f'{n:,}' for n in new_sizes)} rows"
        new_spans: list[Span] = []
        for compilation in compilation_log().since(self._looked_at or 0):
            if self._looked_at not in (None, compilation.number):
                self._knows = False  # the log has forgotten some
            self._looked_at = compilation.number + 1
            if self._is_own(compilation, run):
                before = self._programs.get(compilation.name, {"count": 0, "seconds": 0.0})
                new_spans += compilation.spans
                self._programs[compilation.name] = {
                    "name": compilation.name,
                    "count": before["count"] + 1,
                    "seconds": before["seconds"] + compilation.seconds,
                    "cause": where,
                }
        self._spans = joined([*self._spans, *new_spans])
        self._batch_sizes.update(new_sizes)

    def _is_own(self, compilation: Compilation, run: Run) -> bool:
        if run.call is not None:
            return run.call in compilation.calls
        return compilation.thread == self._thread and not compilation.calls

    def _compiled(self, run: Run) -> Frame | None:
        # Before the first step, the first compilation may be under way.
        if not self._knows or (run.is_preparing and not self._programs):
            return None
        rows = self._programs.values()
        worth_a_line = [row for row in rows if row["seconds"] >= _SHORT_S or row["count"] > 1]
        return {
            "count": sum(row["count"] for row in rows),
            "passed": self._passed(run),
            "seconds": sum(row["seconds"] for row in rows),
            "longest": sorted(worth_a_line, key=lambda row: -row["seconds"])[:MOST_COMPILATIONS],
        }

    def _passed(self, run: Run) -> list[float]:
        """Seconds of compilation that passed before the first step began, and since then.

        Of a call, those since then are the ones that its steps waited for.
        """
        first = math.inf if run.is_preparing else run.first_step_at
        before = sum(max(min(end, first) - begin, 0.0) for begin, end in self._spans)
        if run.call is not None:
            return [before, run.seconds_in.get("compiling", 0.0)]
        return [before, sum(end - begin for begin, end in self._spans) - before]


def _different(sizes: np.ndarray) -> set[int]:
    """The different values; equal ones, the usual case, are not sorted."""
    if len(sizes) and sizes.min() == sizes.max():
        return {int(sizes[0])}
    return set(np.unique(sizes).tolist())


def _device(device: jax.Device) -> dict[str, Any]:
    memory = device.memory_stats() or {}
    return {
        "name": f"{device.platform}:{device.id}",
        "kind": device.device_kind,
        "in_use": memory.get("bytes_in_use"),
        "peak": memory.get("peak_bytes_in_use"),
        "limit": memory.get("bytes_limit"),
    }


def process_memory() -> dict[str, int | None]:
    """Bytes of memory of this process, now and at most; ``None`` where unknown."""
    in_use, peak = _resident_bytes(), _peak_bytes()
    # The system counts the two apart, and the peak may lag.
    return {"in_use": in_use, "peak": max(in_use, peak) if in_use and peak else peak}


def _resident_bytes() -> int | None:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    import resource

    return pages * resource.getpagesize()


def _peak_bytes() -> int | None:
    try:
        import resource
    except ImportError:  # not a Unix
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
