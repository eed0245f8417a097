"""The loss of a run at a step: the mean over the steps up to it.

How many steps that are depends on the step alone, and never on those after it. So the loss at a
step is one number, during the run, at its end, and in its record.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

FEW_STEPS = 16
"""Steps whose mean tells a spoiled state from a sound one."""

_LONGEST = 256
_SHORTEST = 64
_FORGETTING = 8  # at most one part in so many of the steps so far: a start may be far off
_SMOOTHED_SHARE = 50


def window_steps(steps_per_epoch: int | None) -> int:
    """Steps of a window by default: whole epochs if they are short, else 256.

    Windows of whole epochs see the same rows: their means differ by noise and progress alone.

    Example:
        >>> window_steps(6), window_steps(100), window_steps(3_000), window_steps(None)
        (66, 100, 256, 256)
    """
    if steps_per_epoch is None or steps_per_epoch > _LONGEST:
        return _LONGEST
    return -(-_SHORTEST // steps_per_epoch) * steps_per_epoch


def following_steps(steps_per_epoch: int | None) -> int:
    """Steps whose losses judge the state before them: 16, in whole epochs, or else 64.

    A state that a bad update has spoiled shows it in its own loss, that of the next step; the
    others are there for the noise.

    Args:
        steps_per_epoch: Steps of an epoch; ``None`` if unknown.

    Example:
        >>> following_steps(6), following_steps(40), following_steps(100), following_steps(None)
        (18, 40, 64, 64)
    """
    if steps_per_epoch is None or steps_per_epoch > _SHORTEST:
        return _SHORTEST
    return -(-FEW_STEPS // steps_per_epoch) * steps_per_epoch


def averaged_steps(
    step: int | Int[np.ndarray, " value"], steps_per_epoch: int | None
) -> Int[np.ndarray, "*value"]:
    """Return the number of steps whose mean is the value at a step.

    That is a fiftieth of the steps by then, or the steps of a window if these are more, but at most
    an eighth of the steps by then. Where that is an epoch or more, it is whole epochs.

    Args:
        step: The step, from 1, or several.
        steps_per_epoch: Steps of an epoch; ``None`` if unknown.

    Example:
        >>> averaged_steps(np.array([5, 100, 1_000, 10_000]), 6)
        array([  1,  12,  66, 198])
    """
    step = np.asarray(step)
    short = np.minimum(step // _FORGETTING, window_steps(steps_per_epoch))
    steps = np.maximum(np.maximum(step // _SMOOTHED_SHARE, short), 1)
    if steps_per_epoch is None:
        return steps
    whole = steps // steps_per_epoch * steps_per_epoch
    return np.where(whole > 0, whole, steps)


def average_at(
    values: Float[np.ndarray, " step"], step: int, steps_per_epoch: int | None
) -> float | None:
    """Return the mean of the finite values of the last steps up to a step; ``None`` without any.

    Args:
        values: One of each step.
        step: The step, from 1.
        steps_per_epoch: Steps of an epoch; ``None`` if unknown.

    Example:
        >>> average_at(np.array([9.0, 2.0, 3.0]), 3, 1)
        3.0
    """
    kept = values[max(step - int(averaged_steps(step, steps_per_epoch)), 0) : step]
    kept = np.asarray(kept, np.float64)
    kept = kept[np.isfinite(kept)]
    return float(kept.mean()) if len(kept) else None
