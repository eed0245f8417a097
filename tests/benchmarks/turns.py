"""Alternating turns: several ways to do one thing, measured side by side on a shared machine.

A machine that others use drifts by a tenth within seconds. So the ways take turns, the one that
goes first changes from turn to turn, and a ratio is taken within each turn, of neighbours in time.
A benchmark prints ``machine_line()``, calls ``take_turns``, and prints ``Turns.line``:

    turns = take_turns({"ours": fit, "scan": scan}, turns=5)
    print(turns.line("ours", "scan"))

which reads ``ours/scan 0.94 (0.91 to 0.97 in 5 turns)``.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import numpy as np


def seconds(call: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Return what one call takes; the call has to wait for its own result."""
    began = clock()
    call()
    return clock() - began


@dataclass(frozen=True)
class Turns:
    """What each way took in each turn.

    Attributes:
        figures: By name, one figure a turn, in the order of the turns.
    """

    figures: Mapping[str, tuple[float, ...]]

    def median(self, name: str) -> float:
        """Return the median of a way's turns."""
        return float(np.median(self.figures[name]))

    def best(self, name: str, *, most: bool = False) -> float:
        """Return the least figure of a way's turns; of rates, the ``most``."""
        return float((np.max if most else np.min)(self.figures[name]))

    def ratios(self, name: str, other: str) -> np.ndarray:
        """Return ``name`` over ``other`` within each turn."""
        return np.divide(self.figures[name], self.figures[other])

    def ratio(self, name: str, other: str) -> dict[str, float]:
        """Return the median of ``name`` over ``other``, and its least and largest turn."""
        ratios = self.ratios(name, other)
        middle, low, high = (round(float(f(ratios)), 3) for f in (np.median, np.min, np.max))
        return {"median": middle, "low": low, "high": high, "turns": len(ratios)}

    def line(self, name: str, other: str) -> str:
        """Return the ratio with its spread, as text."""
        ratio = self.ratio(name, other)
        return (
            f"{name}/{other} {ratio['median']:.2f} "
            f"({ratio['low']:.2f} to {ratio['high']:.2f} in {ratio['turns']} turns)"
        )


def take_turns(
    ways: Mapping[str, Callable[[], float]],
    turns: int,
    *,
    warm_ups: int = 1,
    deadline: float | None = None,
) -> Turns:
    """Measure each way once a turn, after warm-ups that do not count.

    Args:
        ways: By name, a call that returns its figure: seconds, or a rate. ``seconds`` measures one.
        turns: Number of turns.
        warm_ups: Turns before the first one that counts.
        deadline: Stop after the turn in which ``time.perf_counter()`` passes it; one is finished.
    """
    names = list(ways)
    taken: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(-warm_ups, turns):
        if turn > 0 and deadline is not None and time.perf_counter() > deadline:
            break
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            figure = ways[name]()
            if turn >= 0:
                taken[name].append(figure)
    return Turns({name: tuple(figures) for name, figures in taken.items()})


def machine() -> dict[str, object]:
    """Return the versions, devices and cores that a figure was measured with, and the load."""
    import jax

    devices = jax.devices()
    return {
        **{name: _version(name) for name in ("jax", "numpyro", "aimz_lab", "aimz")},
        "python": platform.python_version(),
        "devices": f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "processor": platform.machine(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def machine_line() -> str:
    """Return the same as one line."""
    return "; ".join(f"{name} {value}" for name, value in machine().items() if value is not None)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
