"""Numbers, durations and states of a run in words, the same wherever the lab writes them."""

from __future__ import annotations

import math

from aimz_lab.inference.events import Run
from aimz_lab.types import RunStatus

STATUS_WORDS: dict[RunStatus, str] = {
    "pending": "about to begin",
    "running": "running",
    "paused": "paused",
    "completed": "completed",
    "stopped": "stopped",
    "early_stopped": "stopped early",
    "interrupted": "interrupted",
    "diverged": "diverged",
    "failed": "failed",
}


def number(value: float | None, digits: int = 4) -> str:
    """Write a value with ``digits`` significant digits, thousands in groups.

    Example:
        >>> number(1.41823), number(-10_432.7), number(0.0000123), number(None)
        ('1.418', '-10,433', '1.23e-05', '-')
    """
    if value is None:
        return "-"
    if not math.isfinite(value):
        return str(value)
    if 10 ** (digits - 1) <= abs(value) < 1e9:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def count(value: float | None) -> str:
    """Write a whole number, thousands in groups.

    Example:
        >>> count(4812)
        '4,812'
    """
    return "-" if value is None else f"{value:,.0f}"


def rate(value: float) -> str:
    """Write a rate per second: whole from 10 on, one decimal below.

    Example:
        >>> rate(61_204.3), rate(2.34)
        ('61,204', '2.3')
    """
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def duration(seconds: float | None) -> str:
    """Write a span of time as a clock does.

    Example:
        >>> duration(0.4), duration(41), duration(3_725), duration(None)
        ('0.4 s', '0:41', '1:02:05', '-')
    """
    if seconds is None or not math.isfinite(seconds):
        return "-"
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(n_bytes: float | None) -> str:
    """Write a number of bytes.

    Example:
        >>> size(512), size(412 * 2**20), size(None)
        ('512 B', '412 MiB', '-')
    """
    if n_bytes is None:
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(n_bytes) < 1024:
            digits = 0 if n_bytes >= 10 or unit == "B" else 1
            return f"{n_bytes:.{digits}f} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.1f} TiB"


def share(fraction: float) -> str:
    """Write a fraction as a percentage.

    Example:
        >>> share(0.375), share(0.0385), share(0.0004), share(0)
        ('37.5%', '3.9%', '0.04%', '0%')
    """
    percent = 100 * fraction
    return f"{percent:.2g}%" if percent < 10 else f"{percent:.3g}%"


def status_line(run: Run, loss: float | None = None, width: int | None = None) -> str:
    """Tell where a run is, in one line of text.

    Args:
        run: The run.
        loss: The loss to show, per row where the rows are known; nothing is shown for ``None``.
        width: Characters there are room for; what matters least is left out for them.
    """
    epochs, total = run.info.epochs, run.info.total_steps
    parts = {
        "name": f"{run.info.model}: {STATUS_WORDS[run.status]}",
        "epoch": f"epoch {count(run.epoch)}" + (f" of {count(epochs)}" if epochs else ""),
        "step": f"step {count(run.step)}" + (f" of {count(total)}" if total else ""),
    }
    if loss is not None:
        parts["loss"] = f"loss {number(loss)}" + (" per row" if run.info.n_obs else "")
    if run.finished:
        parts["time"] = f"in {duration(run.elapsed_s)}"
    elif run.steps_per_s:
        parts["rate"] = f"{rate(run.rows_per_s)} rows/s"
        if run.eta_s is not None:
            parts["eta"] = f"ETA {duration(run.eta_s)}"
    for dispensable in ("step", "name"):
        line = " · ".join(parts.values())
        if width is None or len(line) <= width:
            return line
        del parts[dispensable]
    return " · ".join(parts.values())
