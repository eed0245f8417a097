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
_SHADE = 0.18
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
    since = run.step / 2 if last_half else 0.0
    warmup = shade_warmup(axes, run, since)
    first = warmup if run.chains else run.step // 2  # a file has no length of the warm-up
    lows, highs, ends = [], [], []
    for chain, trace in enumerate(traces):
        # A bucket that has just begun has the mean of few iterations, which looks like a spike.
        whole = slice(max(trace.n_steps // trace.width, 1))
        kept = trace.steps[whole] >= since
        steps, mean, low, high = (
            values[whole][kept] for values in (trace.steps, trace.mean, trace.low, trace.high)
        )
        label = f"chain {chain + 1}" if run.chains else "mean of the chains"
        color = ink.LINES[chain % len(ink.LINES)]
        if trace.width > 1:
            axes.fill_between(steps, low, high, color=color, alpha=_SHADE, linewidth=0)
        marker = "o" if len(steps) == 1 else None
        axes.plot(steps, mean, color=color, linewidth=0.9, label=label, marker=marker)
        # A bucket that begins earlier contains a part of the warm-up.
        counted = steps - trace.width >= first
        if not counted.any():
            counted = np.arange(len(steps)) >= len(steps) // 2
        lows.append(low[counted])
        highs.append(high[counted])
        ends += [low, high]
    if (width := traces[0].width) > 1:
        label = f"mean and range of each {width:,} iterations"
        axes.fill_between([], [], [], color=ink.LINES[0], alpha=_SHADE, linewidth=0, label=label)
    axes.set_xlim(since, run.step)
    return _view(lows, highs, ends)


def shade_warmup(axes: Axes, run: Run, since: float) -> int:
    """Shade the warm-up of chains, whose iterations are no draws.

    Args:
        axes: Where to draw.
        run: A run; one that was read from a file does not know its warm-up.
        since: The iteration from which on it is drawn.

    Returns:
        The iterations of the warm-up so far.
    """
    warmup = min(run.chains.plan.warmup, run.step) if run.chains else 0
    if warmup > since:
        axes.axvspan(since, warmup, color=ink.SHADE, zorder=0, label="warm-up")
    return warmup


def _view(
    lows: Sequence[np.ndarray], highs: Sequence[np.ndarray], shown: Sequence[np.ndarray]
) -> VerticalView:
    """Return an axis as on the live page: of the rarest values one alone would squeeze the rest.

    It has the single energies, not their means alone: those vary the less, the more share a bucket.

    Args:
        lows: Lowest energy in each bucket after the warm-up, of each chain.
        highs: The highest, likewise.
        shown: Lowest and highest energies of all that is drawn.
    """
    if not _finite(shown):
        return linear_view(0.0, 1.0)
    lowest, most = _extent(shown)
    counted = _finite(highs)
    if not counted:
        return linear_view(lowest, most)
    usual_low = min(float(np.quantile(values, 0.02)) for values in _finite(lows))
    usual_high = max(float(np.quantile(values, 0.98)) for values in counted)
    room = _RARE * (usual_high - usual_low)
    low = max(lowest, usual_low - room)
    high = min(_extent(counted)[1], usual_high + room)
    if most > high:
        return linear_view(low, high + _ABOVE * (high - low), most)
    return linear_view(low, high)


def _finite(columns: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the finite values of each, without those that have none."""
    finite = (values[np.isfinite(values)] for values in columns)
    return [values for values in finite if len(values)]


def _extent(columns: Sequence[np.ndarray]) -> tuple[float, float]:
    every = np.concatenate(_finite(columns))
    return float(every.min()), float(every.max())


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
