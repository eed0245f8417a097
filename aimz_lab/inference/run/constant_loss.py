"""Whether a fit ends worse than a prediction that is the same for all rows."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Num

from aimz_lab.inference.run.family_losses import FAMILIES, family_loss
from aimz_lab.inference.run.loss_words import loss_per_row
from aimz_lab.inference.run.records import ConstantLoss
from aimz_lab.inference.run.run import Run
from aimz_lab.inference.run.smoothing import window_steps
from aimz_lab.inference.run.spent_rate import REBUILD, is_spent
from aimz_lab.number_text import number

_NATS_PER_VALUE = 20.0
"""What the guide's distance from the prior may cost for each latent value, as part of the loss: a
prior a million times as wide as the guide costs 14 nats, and what the guide leaves out a few."""

_LEAST_EXCESS = 1.0
"""Nats per row that a loss has to be above that of a distribution that the kernel may not have."""

_LEAST_OF_FAMILY = 0.1
"""Nats per row that a loss has to be above that of the output's own family, beside that cost."""

_LEAST_WINDOWS = 6
"""Windows of a run that is long enough to judge, as it takes to see whether its loss settled."""

START_ELSEWHERE = (
    "scale columns of large values to an sd near 1, start an autoguide with "
    "init_loc_fn=numpyro.infer.init_to_median, or try another learning rate"
)
"""What to do about it, as a clause."""


def constant_loss(
    outputs: Num[np.ndarray, " row"], latent_values: int, *, is_discrete: bool
) -> ConstantLoss | None:
    """Return the loss of the broadest distribution with the moments of an output.

    Of whole numbers from 0 on it is the geometric distribution with their mean, of others the
    normal one with their mean and standard deviation: among those with these moments they have the
    largest entropy, and this is their loss, whatever the shape of the output.

    Args:
        outputs: The observed output.
        latent_values: Number of values that have a prior.
        is_discrete: Whether the kernel gives probabilities to its values, not densities.

    Returns:
        The loss; ``None`` of an output of one value, with values that are not finite, or of
        negative whole numbers.

    Example:
        >>> constant_loss(np.array([0, 1, 5]), 0, is_discrete=True).value
        1.909...
    """
    outputs = np.asarray(outputs)  # those of a device have fewer digits
    mean, sd = (float(moment(outputs, dtype=np.float64)) for moment in (np.mean, np.std))
    if not (math.isfinite(sd) and sd > 0):
        return None
    excess = max(_LEAST_EXCESS, _cost(latent_values, outputs))
    if not is_discrete:
        value = 0.5 * math.log(2 * math.pi * math.e * sd**2)
        return ConstantLoss(value, "normal", excess)
    if outputs.min() < 0:
        return None
    value = (1 + mean) * math.log1p(mean) - mean * math.log(mean)
    return ConstantLoss(value, "geometric", excess)


def loss_of_family(
    family: str, outputs: Num[np.ndarray, " row"], latent_values: int
) -> ConstantLoss | None:
    """Return the loss of one distribution of the output's own family, whose parameters are learned.

    The kernel can do as well, so that a smaller excess tells.

    Args:
        family: Name of the distribution in NumPyro.
        outputs: The observed output.
        latent_values: Number of values that have a prior.

    Returns:
        The loss; ``None`` where the family has none for these values.

    Example:
        >>> loss_of_family("Poisson", np.array([0, 1, 5]), 1).distribution
        'Poisson'
    """
    value = family_loss(family, outputs)
    if value is None:
        return None
    excess = _LEAST_OF_FAMILY + _cost(latent_values, outputs)
    return ConstantLoss(value, FAMILIES[family].word, excess, is_of_family=True)


def _cost(latent_values: int, outputs: Num[np.ndarray, " row"]) -> float:
    """Return what the priors may cost, in nats per row."""
    return _NATS_PER_VALUE * latent_values / len(outputs)


def worse_than_constant(run: Run) -> str:
    """Say that the loss of a run ended far above that of one distribution for all rows.

    Args:
        run: A run that has taken its last step.

    Returns:
        A clause; empty if it did not, had few steps, or cannot be compared.
    """
    loss = loss_per_row(run)
    if loss is None or run.step < _LEAST_WINDOWS * window_steps(run.info.steps_per_epoch):
        return ""
    best = run.best_so_far
    lowest = loss if best is None or best.is_held_out else min(loss, best.value)
    exceeded = [one for one in run.constant_losses if lowest > one.value + one.least_excess]
    if not exceeded:
        return ""
    constant = min(exceeded, key=lambda one: one.value)  # of equal ones that of the family
    else_why = "the likelihood does not suit"
    if constant.is_of_family:
        else_why = (
            "the kernel cannot do as well (it has no intercept, an offset that does not suit, or "
            "too narrow a prior)"
        )
    return (
        f"the loss ended at {number(loss)} per row, and one {constant.distribution} distribution "
        f"for all rows has {number(constant.value)}: the training is far off, or {else_why}"
    )


def note_of_end(run: Run) -> str:
    """Return what :func:`worse_than_constant` says, with what to do, as sentences."""
    found = worse_than_constant(run)
    if not found:
        return ""
    return f"{found[0].upper()}{found[1:]}. {train_on_or_elsewhere(run)}; im.diagnose says more."


def train_on_or_elsewhere(run: Run) -> str:
    """Say what to do about it, as a sentence without its full stop.

    Args:
        run: The run.
    """
    lead = f"To train on, {REBUILD}" if is_spent(run) else "Train on: call fit again"
    return f"{lead}. If the loss does not fall, {START_ELSEWHERE}"
