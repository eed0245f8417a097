"""Ask back for learning rates that were likely typed by mistake."""

from __future__ import annotations

from aimz_lab.data.options import real_number
from aimz_lab.inference.run.control import LEAST_RATE, MOST_RATE
from aimz_lab.inference.run.run import Run
from aimz_lab.lab import formatting

MOST_TIMES = 100
"""Larger factors of the present rate are asked back."""

LEAST_PART = 1e-6
"""So are smaller parts of it: the parameters would stand still, as if the loss were level."""


def doubt(run: Run, asked: object) -> str:
    """Return a question about a rate that is far from the present one, or an empty text.

    Args:
        run: The run.
        asked: The rate; what is none is left to the run, which refuses it.

    Example:
        >>> from aimz_lab.inference.run.events import RunInfo
        >>> run = Run(RunInfo("kernel", "SVI/AutoNormal"))
        >>> run.learning_rate = 0.01
        >>> doubt(run, 0.5)
        ''
        >>> doubt(run, 50.0)
        '50 is 5,000 times the present rate of 0.01, and the run may diverge. Press Enter again ...'
        >>> doubt(run, 1e-30)
        '1e-30 is 1e-28 times the present rate of 0.01, and the parameters would stand still. ...'
    """
    present, rate = run.learning_rate, real_number(asked)
    if not present or not LEAST_RATE <= rate <= MOST_RATE:
        return ""
    if LEAST_PART * present <= rate <= MOST_TIMES * present:
        return ""
    then = "the run may diverge" if rate > present else "the parameters would stand still"
    times = formatting.number(rate / present, 3 if rate < 1e9 * present else 2)
    return (
        f"{formatting.number(rate)} is {times} times the present rate of "
        f"{formatting.number(present)}, and {then}. Press Enter again to set it, "
        "or type another rate."
    )
