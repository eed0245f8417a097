"""Draw the potential energy of each chain by iteration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aimz_lab.inference.run.events import Run
from aimz_lab.lab.panels.chains import ENERGY, MOST_CHAINS
from aimz_lab.lab.traces import Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette, as on the page.
COLORS = ("#0072b2", "#c04f00", "#00795a", "#a5477d", "#8a6100", "#4a6fa5", "#555555", "#c0392b")
_MUTED, _WARM = "#5c6066", "#f1f2f4"
_COLUMNS = 400


def draw_energies(axes: Axes, run: Run) -> None:
    """Draw the potential energy of each chain, and shade the warm-up.

    Args:
        axes: Where to draw.
        run: A run of chains; if it was read from a file, their mean is drawn.
    """
    traces = _energies(run)
    if not any(np.isfinite(trace.mean).any() for trace in traces):
        axes.text(0.5, 0.5, "no energies", transform=axes.transAxes, color=_MUTED, ha="center")
        return
    warmup = min(run.chains.plan.warmup, run.step) if run.chains else 0
    if warmup:
        axes.axvspan(0, warmup, color=_WARM, zorder=0, label="warm-up")
    first = warmup if run.chains else run.step // 2  # a file has no length of the warm-up
    drawn = []
    for chain, trace in enumerate(traces):
        # A bucket that has just begun has the mean of few iterations, which looks like a spike.
        whole = slice(max(trace.n_steps // trace.width, 1))
        steps, mean = trace.steps[whole], trace.mean[whole]
        label = f"chain {chain + 1}" if run.chains else "mean of the chains"
        color = COLORS[chain % len(COLORS)]
        axes.plot(steps, mean, color=color, linewidth=0.9, label=label)
        # A bucket that begins earlier contains a part of the warm-up.
        counted = mean[steps - trace.width >= first]
        drawn.append(counted if counted.size else mean[len(mean) // 2 :])
    spanned = np.concatenate(drawn)
    if not np.isfinite(spanned).any():
        spanned = np.concatenate([end for trace in traces for end in (trace.low, trace.high)])
    axes.set_ylim(*_range(spanned))


def _range(values: np.ndarray) -> tuple[float, float]:
    """Ends of the vertical axis, for values of which some are finite."""
    finite = values[np.isfinite(values)]
    low, high = finite.min(), finite.max()
    room = 0.12 * (high - low) or 1.0
    return float(low - room), float(high + room)


def _energies(run: Run) -> list[Trace]:
    """The curve of each chain, or that of their mean."""
    if run.chains is None or ENERGY not in run.chains.names:
        mean = Trace(_COLUMNS)
        mean.add(run.losses)
        return [mean]
    traces = [Trace(_COLUMNS) for _ in range(min(run.chains.plan.chains, MOST_CHAINS))]
    for chain, trace in enumerate(traces):
        trace.follow(run.chains.buckets(ENERGY), chain)
    return traces
