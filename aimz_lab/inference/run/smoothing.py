"""The moving average that losses are shown in: its rates, and its value at one step."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

FASTEST_DECAY = 50.0
"""Highest rate: with a faster one, a float has nothing left of the previous value."""

_SMOOTHED_SHARE = 50
_FORGETTING = 8.0  # the window is at most one part in so many of the steps so far
_TERMS = 20  # of the window: what is older weighs less than 1e-8


def default_window(n_steps: int) -> float:
    """Steps over which a curve is smoothed by default: a fiftieth of all, at least one.

    Example:
        >>> default_window(5_000), default_window(10)
        (100.0, 1.0)
    """
    return max(n_steps / _SMOOTHED_SHARE, 1.0)


def rates(first: int, last: int, share: float) -> Float[np.ndarray, " value"]:
    """Return the rates at which a moving average forgets: high at first, as a start may be far off.

    Args:
        first: Number of the first value, from 1.
        last: Number of the last value.
        share: Steps from one value to the next, over those of the window.

    Example:
        >>> rates(1, 4, 0.1), rates(81, 82, 0.1)
        (array([8.        , 4.        , 2.66666667, 2.        ]), array([0.1, 0.1]))
    """
    return np.maximum(share, _FORGETTING / np.arange(first, last + 1))


def average_at(values: Float[np.ndarray, " step"], step: int, window: float) -> float | None:
    """Return the moving average of the values of steps at one of them; ``None`` without a finite.

    Args:
        values: One of each step.
        step: The step, from 1.
        window: Time constant in steps.

    Example:
        >>> average_at(np.array([2.0, 2.0, 9.0]), 2, 1.0)
        2.0
    """
    first = max(step - math.ceil(_TERMS * window), 0)
    kept = np.asarray(values[first:step], np.float64)
    finite = np.isfinite(kept)
    if not finite.any():
        return None
    decay = np.minimum(rates(first + 1, first + len(kept), 1 / window), FASTEST_DECAY)
    age = decay.sum() - np.cumsum(decay)
    weights = -np.expm1(-decay) * np.exp(-age) * finite
    return float(weights @ np.where(finite, kept, 0.0) / weights.sum())
