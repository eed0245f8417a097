"""Draw the potential energy of each chain by iteration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from aimz_lab.inference.run.events import Run
from aimz_lab.lab.panels.chains import ENERGY, MOST_CHAINS
from aimz_lab.lab.pictures import ink
from aimz_lab.lab.pictures.vertical_view import VerticalView, linear_view
from aimz_lab.lab.traces import Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 400
_RARE = 1.0  # times the height of the usual energies: so far the axis goes for rare ones
_ABOVE = 0.05  # of the height, between the highest draw and the end of the axis


def draw_energies(axes: Axes, run: Run, *, last_half: bool = False) -> VerticalView | None:
    """Draw the potential energy of each chain, and shade the warm-up.

    Args:
        axes: Where to draw.
        run: A run of chains; if it was read from a file, their mean is drawn.
        last_half: Whether only the second half of the iterations is drawn.

    Returns:
        The vertical axis that suits them; ``None`` if there are no energies.
    """
    traces = _energies(run)
    if not any(np.isfinite(trace.mean).any() for trace in traces):
        axes.text(0.5, 0.5, "no energies", transform=axes.transAxes, color=ink.TEXT, ha="center")
        return None
    warmup = min(run.chains.plan.warmup, run.step) if run.chains else 0
    if warmup:
        axes.axvspan(0, warmup, color=ink.SHADE, zorder=0, label="warm-up")
    first = warmup if run.chains else run.step // 2  # a file has no length of the warm-up
    since = run.step / 2 if last_half else 0.0
    drawn = []
    for chain, trace in enumerate(traces):
        # A bucket that has just begun has the mean of few iterations, which looks like a spike.
        whole = slice(max(trace.n_steps // trace.width, 1))
        steps, mean = trace.steps[whole], trace.mean[whole]
        steps, mean = steps[steps >= since], mean[steps >= since]
        label = f"chain {chain + 1}" if run.chains else "mean of the chains"
        color = ink.LINES[chain % len(ink.LINES)]
        axes.plot(steps, mean, color=color, linewidth=0.9, label=label)
        # A bucket that begins earlier contains a part of the warm-up.
        counted = mean[steps - trace.width >= first]
        drawn.append(counted if counted.size else mean[len(mean) // 2 :])
    finite = [values[np.isfinite(values)] for values in drawn]
    if not any(map(len, finite)):
        ends = (end for trace in traces for end in (trace.low, trace.high))
        finite = [values[np.isfinite(values)] for values in ends]
    axes.set_xlim(since, run.step)
    shown = [*finite, *(line.get_ydata() for line in axes.lines)]
    return _view(finite, shown, [trace.high[trace.steps >= since] for trace in traces])


def _view(
    counted: Sequence[np.ndarray], shown: Sequence[np.ndarray], highest: Sequence[np.ndarray]
) -> VerticalView:
    """Return an axis as on the live page: of the rarest values one alone would squeeze the rest."""
    every = np.concatenate(shown)
    every = every[np.isfinite(every)]
    lowest, most = float(every.min()), float(every.max())
    ends = [np.quantile(values, (0.02, 0.98)) for values in counted if len(values)]
    usual_low, usual_high = float(np.min(ends)), float(np.max(ends))
    room = _RARE * (usual_high - usual_low)
    low = max(lowest, usual_low - room)
    high = min(float(np.max(np.concatenate(counted))), usual_high + room)
    if most > high:
        # What is told is the highest energy: a mean falls as more iterations share its bucket.
        above = float(np.nanmax(np.concatenate(highest)))
        return linear_view(low, high + _ABOVE * (high - low), above)
    return linear_view(low, high)


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
