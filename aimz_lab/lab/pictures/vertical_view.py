"""Choose the vertical axis of a curve by its data; dashboard/static/view.js has the same rule."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from aimz_lab.lab import formatting
from aimz_lab.lab.pictures.curves import LOSS, Curve, Line

_WHOLE = 4.0  # times the height of the second half: a curve of that height is shown whole
_CUT = 2.0  # of a curve that is far higher, so many times that height is shown
_SHORT, _LONG = 0.01, 0.04  # of the steps: a start so short is a vertical line, one so long a curve
_FALLS, _FELL = 5.0, 3.0  # a fall to the end is that much higher in the half than in the quarter
_OTHERS = 3.0  # other runs may make the axis this much longer
_ROOM, _LOG_ROOM = 0.06, 0.04
_FLAT = 3e-6  # of the size of a value: beyond it, single precision is all that moves
_FEW_STEPS = 8
_CUT_OFF = 0.1  # of the steps of a curve
_MOST_LONGER = 20.0  # times a linear axis may be longer than that of one curve alone

Values = Float[np.ndarray, " value"]


@dataclass(frozen=True)
class VerticalView:
    """The vertical axis of a curve.

    Attributes:
        kind: ``"linear"``, or ``"log"`` of the distance to ``base``.
        low: Lower end; of the distances, if it is logarithmic.
        high: Upper end, likewise.
        base: The value whose distance a logarithmic axis shows; 0 for the values themselves.
        above: The highest value, likewise, if it lies above the axis.
        below: The lowest value, if it lies below a linear axis.
    """

    kind: Literal["linear", "log"]
    low: float
    high: float
    base: float = 0.0
    above: float | None = None
    below: float | None = None

    def in_lines(self, unit: str) -> str:
        """Return what the axis shows, with a line for each part: the axis is short."""
        return "\n".join(filter(None, [unit, self._scale(), *self._unseen()]))

    def words(self, unit: str) -> str:
        """Return what the axis shows.

        Example:
            >>> VerticalView("linear", 1.0, 2.0, above=400_000.0).words("loss")
            'loss, up to 400,000 above the picture'
            >>> VerticalView("log", 0.1, 2.0, base=1.25).words("loss")
            'loss, log scale above the lowest, 1.25'
            >>> VerticalView("linear", 1.0, 2.0, above=9.0, below=0.5).words("loss")
            'loss, up to 9 above the picture, down to 0.5 below the picture'
        """
        return ", ".join(filter(None, [unit, self._scale(), *self._unseen()]))

    def _scale(self) -> str:
        if self.kind != "log":
            return ""
        if self.base == 0:
            return "log scale"
        return f"log scale above the lowest, {formatting.number(self.base)}"

    def _unseen(self) -> list[str]:
        ends = ((self.above, "up to", "above"), (self.below, "down to", "below"))
        return [
            f"{to} {formatting.number(value)} {side} the picture"
            for value, to, side in ends
            if value is not None
        ]


class _Span(NamedTuple):
    low: float
    high: float
    usual: float


def vertical_view(
    shown: Curve, *, log: bool = False, whole: bool = False, was_log: bool = False
) -> VerticalView:
    """Choose the vertical axis of a curve.

    A start far above the rest is cut off, and the sooner, the less of the width it takes. Where the
    curve falls by orders of magnitude to its end, or does not move at the end, the axis is a
    logarithmic one of the distance to the lowest value.

    The ends follow the data without a jump, and the kind of axis has two thresholds: a live picture
    does not turn over for a little noise.

    Args:
        shown: The curve.
        log: Whether the axis is the logarithmic one.
        whole: Whether the axis has the whole range; it is a linear one unless ``log``.
        was_log: Whether the data chose the logarithmic axis a moment ago.
    """
    first, last = (float(shown.steps[i]) if len(shown.steps) else 0.0 for i in (0, -1))
    every = _span(shown, -np.inf)
    if every is None:
        return VerticalView("linear", 0.0, 1.0)
    highest = _extent(shown.high, np.array([every.high]))[1]
    if log:
        return _log_view(shown, every, highest, whole=whole)
    half, end = (_span(shown, first + share * (last - first)) for share in (0.5, 0.75))
    top = highest
    if not whole and half and end and len(shown.steps) >= _FEW_STEPS:
        height, full = half.usual - every.low, highest - every.low
        higher = np.mean(shown.line > every.low + _CUT * height)
        most = np.interp(higher, [_SHORT, _LONG], [_CUT, _WHOLE])
        if full > most * height:
            flat = _FLAT * max(abs(every.low), abs(half.usual))
            falls = _FELL if was_log else _FALLS
            if height <= flat or height > falls * (end.usual - every.low):
                return _log_view(shown, every, highest)
            # From the whole to a cut without a jump.
            top = every.low + max(2 * most * height - full, _CUT * height)
    above = highest if top < highest else None
    return linear_view(*_nearby(shown.others, every.low, top), above=above)


def common_view(curves: Sequence[Curve], *, log: bool = False) -> VerticalView:
    """Choose the vertical axis of several curves alike, however many steps each has.

    It shows nine tenths of each: a curve that falls late is no start that may be cut off. A curve
    whose rest is not far above that is shown whole, as a run beside it may have diverged.

    Args:
        curves: The curves; none comes before the others.
        log: Whether the axis is the logarithmic one.
    """
    shown = [curve for curve in curves if len(curve.steps)]
    if not shown:
        return VerticalView("linear", 0.0, 1.0)
    # Each curve ends at the same place, so that the end of a short one counts as an end.
    places = [curve.steps / curve.steps[-1] for curve in shown]
    order = np.argsort(np.concatenate(places), kind="stable")
    line = np.concatenate([curve.line for curve in shown])[order]
    steps = np.concatenate(places)[order]
    joint = replace(
        shown[0], steps=steps, mean=line, low=line, high=line, smoothed=None, validation=None,
        others=(),
    )  # fmt: skip
    view = vertical_view(joint, log=log)
    if view.kind == "log" or view.above is None:
        return view
    low, highest = _extent(line)
    highs = [found[1] for curve in shown if (found := _extent(curve.line))]
    ends = [_quantile(curve.line, 1 - _CUT_OFF) for curve in shown]
    top = max(view.high, *filter(np.isfinite, ends))
    if top > view.high:
        own = [vertical_view(curve) for curve in shown]
        least = min(one.high - one.low if one.kind == "linear" else 0.0 for one in own)
        if top - low > _MOST_LONGER * least:
            return vertical_view(joint, log=True)
    whole = max((high for high in highs if high - low <= _OTHERS * (top - low)), default=top)
    if whole <= top:
        return linear_view(low, top, above=highest)
    view = linear_view(low, whole)
    return replace(view, above=highest if highest > view.high else None)


def linear_view(low: float, high: float, above: float | None = None) -> VerticalView:
    """Return a linear axis over these ends."""
    room = _ROOM * (high - low) if high > low else abs(low or 1.0) * 0.1
    top = high + room if above is None else high
    return VerticalView(
        "linear", low - room, top, above=above if above is not None and above > top else None
    )


def _log_view(shown: Curve, every: _Span, highest: float, *, whole: bool = False) -> VerticalView:
    line = shown.line
    held = shown.validation.values if shown.validation else np.empty(0)
    near, far = _nearby(shown.others, every.low, every.high)
    lowest = min(near, _extent(shown.low, line, held)[0])
    base = lowest if shown.name == LOSS or lowest <= 0 else 0.0
    high = max(far, _extent(line, held)[1], highest if whole else -np.inf) - base
    least = max(1e-7 * abs(base), 1e-9 * high)  # single precision has no more
    distances = line - base
    usual = _quantile(distances[distances > 0], 0.01)
    low = max((usual if np.isfinite(usual) else high) / 2, least)
    if not 0 < low < high:
        low = high / 10 if high > 0 else abs(base or 1.0) / 10
    top = max(high, low * 1.5)
    room = (top / low) ** _LOG_ROOM
    above = highest - base if highest - base > top * room else None
    return VerticalView("log", low / room, top * room, base, above)


def _span(shown: Curve, step: float) -> _Span | None:
    """Lowest and highest value after a step: all of the smooth lines, but the rarest raw values."""
    later = shown.steps > step
    line = shown.line[later]
    held = shown.validation.after(step) if shown.validation else np.empty(0)
    raw = np.array([_quantile(shown.low[later], 0.01), _quantile(shown.high[later], 0.99)])
    every = _extent(line, held, raw)
    if every is None:
        return None
    usual = _extent(np.array([_quantile(shown.high[later], 0.98), every[0]]), held)
    return _Span(*every, usual[1])


def _nearby(lines: Iterable[Line], low: float, high: float) -> tuple[float, float]:
    """Return the ends of an axis that shows other runs too, unless they are far off."""
    most = _OTHERS * (high - low)
    ends = (low, high)
    for line in lines:
        found = _extent(line.after(line.steps[-1] / 2)) if len(line.steps) else None
        both = _extent(np.array([*ends, *found])) if found else None
        if both and both[1] - both[0] <= most:
            ends = both
    return ends


def _extent(*arrays: Values) -> tuple[float, float] | None:
    values = np.concatenate(arrays)
    values = values[np.isfinite(values)]
    return (float(values.min()), float(values.max())) if values.size else None


def _quantile(values: Values, q: float) -> float:
    finite = values[np.isfinite(values)]
    return float(np.quantile(finite, q)) if finite.size else np.nan
