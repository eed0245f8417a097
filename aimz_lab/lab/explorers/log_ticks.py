"""Ticks of logarithmic axes in still pictures: few, and apart from each other, as on the page."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from aimz_lab.lab.formatting import number

_ABOUT = 6
_LINEAR_DECADES = 0.7
"""An axis of fewer has the ticks of a linear one."""

_FEW_DECADES = 2.0
"""An axis of no more has numbers between powers of ten."""


def log_ticks(
    low: float,
    high: float,
    length: float,
    size_of: Callable[[str], float],
    *,
    of_counts: bool = False,
) -> list[float]:
    """Return powers of ten, with numbers between them where these are few, that can be read.

    Args:
        low: The lower end of the axis; positive, or at least -1 of counts.
        high: Its upper end.
        length: Its length, in any unit.
        size_of: Returns what the label of a tick takes of it, in the same unit.
        of_counts: Whether it is the logarithm of one more, which has a zero.

    Example:
        >>> log_ticks(2e-11, 3e12, 500.0, lambda label: 6.0 * len(label))
        [1e-08, 0.0001, 1.0, 10000.0, 100000000.0, 1000000000000.0]
    """
    on = np.log1p if of_counts else np.log10
    first, high = (1.0, max(high, 2.0)) if of_counts else (low, high)
    per_unit = length / (on(high) - on(low))
    for ticks in _candidates(first, high):
        found = [0.0, *ticks] if of_counts else ticks
        places = [per_unit * float(on(tick)) for tick in found]
        if _are_apart(places, [size_of(number(tick)) for tick in found]):
            break
    return found


def _candidates(low: float, high: float) -> Iterator[list[float]]:
    """Yield ticks, each time fewer, two at least where they fit; at last a single one."""
    found: list[list[float]] = []
    decades = math.log10(high / low)
    if decades < _LINEAR_DECADES:
        from matplotlib.ticker import MaxNLocator

        found = [list(MaxNLocator(most).tick_values(low, high)) for most in range(_ABOUT, 1, -1)]
    begin, end = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = max(1, math.ceil((end - begin) / _ABOUT))
    if decades <= _FEW_DECADES:
        found.append(_multiples((1, 2, 5), every, begin, end))
    found += [_multiples((1,), step, begin, end) for step in range(every, end - begin + 1)]
    inside = [[tick for tick in ticks if 0.999 * low <= tick <= 1.001 * high] for ticks in found]
    yield from (ticks for ticks in inside if len(ticks) > 1)
    most = max(inside, key=len)
    yield [most[0], most[-1]]
    yield most[:1]


def _multiples(within: Sequence[int], every: int, begin: int, end: int) -> list[float]:
    """Return powers of ten with exponents that are multiples, so that 1 is among them."""
    exponents = range(begin // every * every, end + 1, every)
    return [float(f"{m}e{exponent}") for exponent in exponents for m in within]


def _are_apart(places: Sequence[float], sizes: Sequence[float]) -> bool:
    """Whether labels in the middle of their places leave room between them."""
    return all(
        other - one >= (size + next_size) / 2
        for (one, size), (other, next_size) in itertools.pairwise(zip(places, sizes, strict=True))
    )
