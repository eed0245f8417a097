"""A call on workers, described for its page and in words."""

from __future__ import annotations

from typing import Any

from aimz_lab.cluster.call_log import CallLog, LoggedPart, LoggedWorker
from aimz_lab.data.html import format_bytes, html_report
from aimz_lab.lab import formatting
from aimz_lab.progress import time_left

MOST_CELLS = 240
"""Cells of the map; each is a part, or some that follow one another."""

MOST_WORKERS = 32
"""Workers that are listed; the others are counted."""

_ORDER = ("failed", "assigned", "waiting", "done")
_STATES = {"done": "completed", "failed": "failed"}


def frame_of(log: CallLog) -> dict[str, Any]:
    """Describe how a call stands, for its page.

    Args:
        log: The call.

    Returns:
        ``status``, ``position`` and ``share`` of the whole; ``cells`` of the map, each with a state
        and the number of a worker; ``workers`` by number, and how many are not listed.
    """
    names = list(log.workers)
    has = _assigned(log)
    return {
        "status": "running" if log.status == "running" else log.status,
        "is_stopping": log.is_stopping,
        "position": position(log),
        "share": log.done / log.total if log.total else None,
        "unit": log.unit,
        "cells": _cells(log, {name: number for number, name in enumerate(names)}),
        "workers": [
            {
                "name": name,
                "has": _ranges(log.unit, has.get(name, [])),
                **_said(log, log.workers[name]),
            }
            for name in names[:MOST_WORKERS]
        ],
        "more": max(len(names) - MOST_WORKERS, 0),
    }


def position(log: CallLog) -> str:
    """Say how far a call is.

    Args:
        log: The call.

    Example:
        >>> from aimz_lab.cluster.call_log import CallLog
        >>> position(CallLog("taxi", "row", 4096, part_size=1024)).split(" · ")[:2]
        ['row 0 of 4,096', 'part 0 of 4']
    """
    of = "" if log.total is None else f" of {log.total:,}"
    of_parts = "" if log.n_parts is None else f" of {log.n_parts:,}"
    said = [f"{log.unit} {log.done:,}{of}", f"part {log.n_done:,}{of_parts}"]
    if log.done:
        per_s = log.done / max(log.seconds, 1e-9)
        said.append(f"{formatting.rate(per_s)} {log.unit}s/s")
        if log.status == "running":
            said += time_left(log.left.seconds)
    if log.repeats:
        said.append(f"{log.repeats:,} again after a worker was lost")
    if log.status != "running":
        said.append(f"{_ENDED[log.status]} {formatting.duration(log.seconds)}")
    return " · ".join(said)


_ENDED = {"completed": "in", "stopped": "stopped after", "failed": "failed after"}


def record_of_call(log: CallLog) -> dict[str, str]:
    """Return the lasting record of a call, as a MIME bundle of text and a table.

    Args:
        log: The call, which has ended.
    """
    names = ("parts", f"{log.unit}s", "draws", "busy", "lost")
    header = ["worker", *names]
    rows = [
        [name, *(_said(log, one)[key] for key in ("parts", "count", "size", "busy", "lost"))]
        for name, one in list(log.workers.items())[:MOST_WORKERS]
    ]
    if (more := len(log.workers) - MOST_WORKERS) > 0:
        rows.append([f"and {more:,} more", *[""] * len(names)])
    line = f"{log.kernel}: {log.status} · {position(log)}"
    widths = [max(len(str(row[i])) for row in [header, *rows]) for i in range(len(header))]
    lines = [
        "  ".join(str(c).ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
        for row in [header, *rows]
    ]
    return {"text/plain": "\n".join([line, *lines]), "text/html": html_report(line, header, rows)}


def _said(log: CallLog, one: LoggedWorker) -> dict[str, str]:
    """Write the numbers of a worker."""
    share = one.seconds / log.seconds if log.seconds else 0.0
    return {
        "parts": f"{one.parts:,}",
        "count": f"{one.count:,}",
        "size": format_bytes(one.nbytes),
        "busy": f"{100 * min(share, 1.0):.0f}%",
        "lost": f"{one.lost:,}" if one.lost else "",
    }


def _assigned(log: CallLog) -> dict[str, list[LoggedPart]]:
    """Return the parts that each worker has now."""
    found: dict[str, list[LoggedPart]] = {}
    for part in log.open_parts:
        if part.state == "assigned":
            found.setdefault(part.worker, []).append(part)
    return found


def _ranges(unit: str, parts: list[LoggedPart]) -> str:
    """Name rows or draws: ``"rows 0 to 4,095, 8,192 to 12,287"``."""
    if not parts:
        return ""
    some = [f"{part.first:,} to {part.first + part.count - 1:,}" for part in parts[:3]]
    return f"{unit}s {', '.join(some)}{', ...' if len(parts) > len(some) else ''}"


def _cells(log: CallLog, numbers: dict[str, int]) -> list[list[Any]]:
    """Return the cells of the map in the order of the rows: a state, a worker, and a text."""
    parts = list(log.parts.values())
    total = log.n_parts or len(parts)
    per_cell = max(-(-total // MOST_CELLS), 1)
    cells = []
    for start in range(0, total, per_cell):
        some = parts[start : min(start + per_cell, total)]
        state = min((part.state for part in some), key=_ORDER.index, default="none")
        if state == "done" and len(some) < min(per_cell, total - start):
            state = "waiting"
        chosen = next((part for part in some if part.state == state), None)
        worker = numbers.get(chosen.worker, -1) if chosen and chosen.worker else -1
        cells.append([state, worker, _title(log.unit, some, state, chosen)])
    return cells


def _title(unit: str, some: list[LoggedPart], state: str, chosen: LoggedPart | None) -> str:
    if not some or chosen is None:
        return "not handed out yet"
    last = some[-1].first + some[-1].count - 1
    by = {"assigned": "at worker", "done": "done by worker", "failed": "failed"}.get(state, state)
    again = ", after another was lost" if any(part.repeats for part in some) else ""
    who = f" {chosen.worker}" if chosen.worker and state in ("assigned", "done") else ""
    return f"{unit}s {some[0].first:,} to {last:,}: {by}{who}{again}"
