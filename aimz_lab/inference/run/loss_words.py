"""The loss of a run and of its best state, in numbers and words.

*The loss of a run* at a step is one number everywhere: the mean negative ELBO of its last steps in
nats per row, see :mod:`~aimz_lab.inference.run.smoothing`. That of its best state is this number at
its step, or the held-out loss. States are judged by later steps, so that it may be above the loss
of the run: words then say why. Where it helps, the loss of all rows stands beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

from aimz_lab.inference.run.best_state import not_kept
from aimz_lab.inference.run.plateau import fall_at_end, rise_to_end
from aimz_lab.inference.run.read_run import ReadRun
from aimz_lab.inference.run.records import TRAINING, Best
from aimz_lab.inference.run.smoothing import average_at
from aimz_lab.inference.run.spent_rate import is_spent
from aimz_lab.number_text import count, number


def total_loss(run: ReadRun, step: int | None = None) -> float | None:
    """Return the loss of a run in nats of all rows; ``None`` without a finite one.

    It is the mean over the last steps up to there; later ones do not change it.

    Args:
        run: The run; of chains it is the mean potential energy.
        step: The step of it; by default the last one.
    """
    step = run.step if step is None else step
    return average_at(run.losses, step, run.info.averaged_epoch)


def loss_per_row(run: ReadRun, step: int | None = None) -> float | None:
    """Return the loss of a run in nats per row; the total if the number of rows is unknown.

    Args:
        run: The run.
        step: The step of it; by default the last one.
    """
    total = total_loss(run, step)
    return None if total is None else total / (run.info.n_obs or 1)


@dataclass(frozen=True)
class ShownBest:
    """The best state of a run, as it is shown.

    Attributes:
        best: The state, its step and its value.
        is_lower: Whether it is lower than the last value of the loss that it is the best by.
    """

    best: Best
    is_lower: bool

    @property
    def step(self) -> int:
        """Steps done by then."""
        return self.best.step

    @property
    def value(self) -> float:
        """Its loss per row: held-out, or that of the run at its step."""
        return self.best.value

    @property
    def is_held_out(self) -> bool:
        """Whether the value is a held-out loss."""
        return self.best.is_held_out

    @property
    def what(self) -> str:
        """The loss that it is the best by."""
        if self.is_held_out:
            return "held-out loss"
        return "training loss" if self.best.monitor == TRAINING else self.best.monitor

    @property
    def name(self) -> str:
        """What it is called beside the loss of the run, which may be another loss."""
        return "best" if self.best.monitor == TRAINING else f"best {self.what}"


def shown_best(run: ReadRun) -> ShownBest | None:
    """Return the best state of a run: the one that its model went back to, if it did.

    Its value is the one that was shown at its step.

    Args:
        run: The run.
    """
    best = run.restored or run.best_so_far
    if best is None:
        return None
    if best.monitor != TRAINING:
        return ShownBest(best, is_lower=best.step < run.step)
    now = loss_per_row(run)
    return ShownBest(best, is_lower=now is None or best.value < now)


def loss_words(run: ReadRun) -> str:
    """Write the loss of a run; empty before the first step, and for chains.

    Example:
        >>> loss_words(im.fit(X, y, epochs=5, progress=False).last_run)
        '... per row'
    """
    if run.info.is_sampling or not run.step:
        return ""
    loss = loss_per_row(run)
    if loss is None:
        return "not finite"
    return f"{number(loss)} per row" if run.info.n_obs else number(loss)


def loss_of_model(run: ReadRun, *, total: bool = False) -> str:
    """Write the loss of the state that a run gave its model, which may not be the last one.

    Args:
        run: The run; if the model is as it was before, there is nothing to write.
        total: Write the loss of all rows beside it.
    """
    if run.left_model:
        return ""
    if run.has_last_state:
        return with_total(run) if total else loss_words(run)
    if run.restored is None or (best := shown_best(run)) is None:
        return ""
    per = " per row" if run.info.n_obs else ""
    held_out = "held-out, " if best.is_held_out else ""
    return f"{number(best.value)}{per} ({held_out}best state, step {count(best.step)})"


def best_not_kept(run: ReadRun) -> str:
    """Say why a run that has ended has no best state, or one above a loss that was shown before.

    Args:
        run: The run.

    Returns:
        A clause; empty where there is nothing to say, as for a best state by a held-out loss.
    """
    if run.info.is_sampling or not run.finished or run.info.validation_every:
        return ""
    best = run.restored or run.best_so_far
    if best is not None and best.monitor != TRAINING:
        return ""
    lower = None if best is None else best.lower
    if (words := not_kept(run, best)) or lower is None:
        return words
    if number(lower.value) == number(best.value):
        return ""
    return (
        f"{number(lower.value)} at step {count(lower.step)} was a mean over fewer steps: noise "
        "leaves open which is lower"
    )


def best_words(run: ReadRun) -> str:
    """Write the loss of a run's best state and its step, or why it has none; empty if too short."""
    if (best := shown_best(run)) is None:
        return best_not_kept(run)
    per = " per row" if run.info.n_obs else ""
    what = "" if best.name == "best" else f", {best.what}"
    words = f"{number(best.value)}{per}{what}, at step {count(best.step)}"
    if lower := best_not_kept(run):
        return f"{words}; {lower}"
    if best.is_lower or best.step == run.step or best.name != "best":
        return words
    return f"{words}, the best that later steps confirm"


def with_total(run: ReadRun) -> str:
    """Write the loss of a run, and that of all rows beside it."""
    words, rows = loss_words(run), run.info.n_obs
    if not words or not rows or (total := total_loss(run)) is None:
        return words
    return f"{words}, {number(total)} for all {count(rows)} rows"


def trend_words(run: ReadRun) -> str:
    """Say whether the loss of a run still fell at its end, or rose to it; empty if neither."""
    per = " per row" if run.info.n_obs else ""
    if run.status in ("completed", "stopped") and (end := fall_at_end(run)):
        fall, steps = end
        fell = f"by {number(fall)}{per} in the last {steps:,} steps"
        if is_spent(run):
            return f"still falling, {fell}, when the learning rate came to 0"
        return f"still falling at the end, {fell}; train on to see it level off"
    if not run.finished or not (rise := rise_to_end(run)):
        return ""
    steps = f"steps {rise.first:,} to {rise.first + rise.window - 1:,}"
    means = (
        f"from {number(rise.lowest)}{per} (mean of {steps}) to {number(rise.last)} (of the last "
        f"{rise.window:,})"
    )
    return f"the loss rose, {means}; a lower learning rate may keep it lower"
