"""Whether a fit ends worse than a prediction that is the same for all rows."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Num

from aimz_lab.inference.run.records import ConstantLoss
from aimz_lab.inference.run.run import Run
from aimz_lab.inference.run.run_words import loss_per_row
from aimz_lab.inference.run.smoothing import window_steps
from aimz_lab.progress import number

_LEAST_EXCESS = 1.0
"""Nats per row that a loss has to be above it. The guide's distance from the prior may cost as
much, and is part of the loss."""

_LEAST_WINDOWS = 6
"""Windows of a run that is long enough to judge, as it takes to see whether its loss settled."""

START_ELSEWHERE = (
    "start an autoguide with init_loc_fn=numpyro.infer.init_to_median, or lower the learning rate"
)
"""What to do about it, as a clause."""


def constant_loss(outputs: Num[np.ndarray, " row"], *, is_discrete: bool) -> ConstantLoss | None:
    """Return the loss of the broadest distribution with the moments of an output.

    Of whole numbers from 0 on it is the geometric distribution with their mean, of others the
    normal one with their mean and standard deviation: among those with these moments they have the
    largest entropy, and this is their loss, whatever the shape of the output.

    Args:
        outputs: The observed output.
        is_discrete: Whether the kernel gives probabilities to its values, not densities.

    Returns:
        The loss; ``None`` of an output of one value, with values that are not finite, or of
        negative whole numbers.

    Example:
        >>> constant_loss(np.array([0, 1, 5]), is_discrete=True)
        ConstantLoss(value=1.909..., distribution='geometric')
    """
    outputs = np.asarray(outputs)  # those of a device have fewer digits
    mean, sd = (float(moment(outputs, dtype=np.float64)) for moment in (np.mean, np.std))
    if not (math.isfinite(sd) and sd > 0):
        return None
    if not is_discrete:
        return ConstantLoss(0.5 * math.log(2 * math.pi * math.e * sd**2), "normal")
    if outputs.min() < 0:
        return None
    value = (1 + mean) * math.log1p(mean) - mean * math.log(mean)
    return ConstantLoss(value, "geometric")


def worse_than_constant(run: Run) -> str:
    """Say that the loss of a run ended far above that of one distribution for all rows.

    Args:
        run: A run that has taken its last step.

    Returns:
        A clause; empty if it did not, had few steps, or cannot be compared.
    """
    constant, loss = run.constant_loss, loss_per_row(run)
    if constant is None or loss is None:
        return ""
    best = run.best_so_far
    lowest = loss if best is None or best.is_held_out else min(loss, best.value)
    is_short = run.step < _LEAST_WINDOWS * window_steps(run.info.steps_per_epoch)
    if is_short or not lowest > constant.value + _LEAST_EXCESS:
        return ""
    return (
        f"the loss ended at {number(loss)} per row, and one {constant.distribution} distribution "
        f"for all rows has {number(constant.value)}: the training is far off, or the likelihood "
        "does not suit"
    )


def note_of_end(run: Run) -> str:
    """Return what :func:`worse_than_constant` says, with what to do, as sentences."""
    found = worse_than_constant(run)
    if not found:
        return ""
    return (
        f"{found[0].upper()}{found[1:]}. Train on if the loss still falls; else {START_ELSEWHERE}; "
        "im.diagnose says more."
    )
