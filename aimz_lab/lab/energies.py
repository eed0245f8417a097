"""The picture of a run of chains: the potential energy of each, iteration by iteration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aimz_lab.inference.events import Run
from aimz_lab.lab.panels.chains import ENERGY, MOST_CHAINS
from aimz_lab.lab.traces import Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette; the page has the same.
COLORS = ("#0072b2", "#c04f00", "#00795a", "#a5477d", "#8a6100", "#4a6fa5", "#555555", "#c0392b")
_MUTED, _WARM = "#5c6066", "#f1f2f4"
_COLUMNS = 400


def draw_energies(axes: Axes, run: Run) -> None:
    """Draw the potential energy of each chain, and shade the warm-up.

    Args:
        axes: Where to draw.
        run: A run of chains; of one that was read from a file, their mean is drawn.
    """
    energies = _energies(run)
    if not np.isfinite(energies).any():
        axes.text(0.5, 0.5, "no energies", transform=axes.transAxes, color=_MUTED, ha="center")
        return
    warmup = min(run.chains.plan.warmup, run.step) if run.chains else 0
    if warmup:
        axes.axvspan(0, warmup, color=_WARM, zorder=0, label="warm-up")
    for chain in range(min(energies.shape[1], MOST_CHAINS)):
        trace = Trace(_COLUMNS)
        trace.add(energies[:, chain])
        # The mean of few iterations, in a bucket that has just begun, would stand out as a spike.
        whole = slice(max(trace.n_steps // trace.width, 1))
        label = f"chain {chain + 1}" if run.chains else "mean of the chains"
        color = COLORS[chain % len(COLORS)]
        axes.plot(trace.steps[whole], trace.mean[whole], color=color, linewidth=0.9, label=label)
    low, high = energy_range(energies, warmup)
    axes.set_ylim(low, high)


def energy_range(energies: np.ndarray, warmup: int) -> tuple[float, float]:
    """Return what the vertical axis should span: all but the way down from the beginning.

    Args:
        energies: Shape ``(iteration, chain)``.
        warmup: Iterations that do not count, unless there are no others.
    """
    counted = energies[warmup:] if len(energies) > warmup else energies[len(energies) // 2 :]
    finite = counted[np.isfinite(counted)]
    if finite.size == 0:
        finite = energies[np.isfinite(energies)]
    low, high = np.quantile(finite, [0.001, 0.999])
    room = 0.12 * (high - low) or 1.0
    return float(low - room), float(high + room)


def _energies(run: Run) -> np.ndarray:
    if run.chains is not None and ENERGY in run.chains.names:
        return run.chains.column(ENERGY)
    return run.losses[:, None]
