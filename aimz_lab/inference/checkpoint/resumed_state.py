"""The state and the learning rates that training goes on with from a checkpoint of a run."""

from __future__ import annotations

from aimz_lab.inference.run.records import RateChange, TrainerState
from aimz_lab.inference.run.run import Run


def state_to_resume(run: Run) -> TrainerState | None:
    """Return the state that a checkpoint holds, with the learning rate of the next step.

    Args:
        run: The run.

    Returns:
        Its state with the requested rate. Of a run that diverged it is the state that the model
        went back to, with the rate of before the changes since then; ``None`` without one.
    """
    if not run.has_diverged:
        return _with_rate(run, run.state, run.control.requested_learning_rate)
    if run.has_last_state:
        return None
    undone = _undone_change(run)
    if undone is None or undone.step != run.step_of_model:
        return run.final_state
    # The state may have been kept with the rate that came next.
    return _with_rate(run, run.final_state, undone.before)


def rate_changes_to_resume(run: Run) -> list[RateChange]:
    """Return the changes of the learning rate up to the state that a checkpoint holds.

    Args:
        run: The run.
    """
    rate = run.control.requested_learning_rate
    if run.has_diverged:
        undone = _undone_change(run)
        rate = undone and undone.before
    if rate is None or run.with_rate is None:
        return run.rate_changes
    return [*run.rate_changes, RateChange(run.step, run.learning_rate, rate)]


def _with_rate(run: Run, state: TrainerState | None, rate: float | None) -> TrainerState | None:
    if state is None or rate is None or run.with_rate is None:
        return state
    return run.with_rate(state, rate)


def _undone_change(run: Run) -> RateChange | None:
    """The first change of the learning rate after the state that the model went back to."""
    changes = (change for change in run.rate_changes if change.step >= run.step_of_model)
    return next(changes, None)
