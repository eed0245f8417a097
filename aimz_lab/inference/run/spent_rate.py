"""A learning rate that has come to 0: what it means for a run, and what to do."""

from __future__ import annotations

from aimz_lab.inference.run.read_run import ReadRun
from aimz_lab.number_text import count

REBUILD = "build the model anew, with a schedule as long as the training, or with a constant rate"
"""What to do to train on, as a clause."""

_MANY_STEPS = 1_000
"""Steps without motion that a run tells of while it goes on."""


def is_spent(run: ReadRun) -> bool:
    """Whether further steps from the state of the model would move no parameter.

    Args:
        run: A run that has ended; its model may have gone back to a state at another rate.
    """
    return run.has_spent_rate and run.step_of_model >= run.step - run.unmoved_steps


def moved_nothing(run: ReadRun) -> bool:
    """Whether no step of a run moved a parameter, as the learning rate had come to 0 before it.

    Args:
        run: A run that has ended.
    """
    return is_spent(run) and 0 < run.step - run.resumed_at <= run.unmoved_steps


def spent_note(run: ReadRun) -> str:
    """Say that the learning rate has come to 0, and what to do; empty if it has not.

    Args:
        run: The run; of one that goes on, it is told once many steps moved nothing.
    """
    if not run.finished:
        if run.unmoved_steps < _MANY_STEPS:
            return ""
        return (
            f"The last {count(run.unmoved_steps)} steps moved no parameter: the learning rate may "
            "have come to 0."
        )
    if not is_spent(run):
        return ""
    if moved_nothing(run):
        return (
            "No step of this run moved a parameter: the learning rate is 0 or nearly 0, as at the "
            f"end of a schedule. To train on, {REBUILD}."
        )
    since = ""
    if run.unmoved_steps:
        steps = "step" if run.unmoved_steps == 1 else f"{count(run.unmoved_steps)} steps"
        since = f"the last {steps} moved no parameter, and "
    return (
        f"The learning rate has come to 0 or nearly 0: {since}another fit would move none. To "
        f"train on, {REBUILD}."
    )
