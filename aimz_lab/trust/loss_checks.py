"""Did the loss settle before the training ended?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from aimz_lab.inference.run.constant_loss import (
    START_ELSEWHERE,
    train_on_or_elsewhere,
    worse_than_constant,
)
from aimz_lab.inference.run.monitor_windows import MonitorWindows
from aimz_lab.inference.run.plateau import (
    PlateauTest,
    errors_of_means,
    fall_at_end,
    steps_at_rate,
)
from aimz_lab.inference.run.run import Run
from aimz_lab.inference.run.run_words import how_diverged
from aimz_lab.inference.run.smoothing import window_steps
from aimz_lab.inference.run.spent_rate import REBUILD, is_spent, moved_nothing
from aimz_lab.trust.report import Finding, FindingLevel

PATIENCE = 5
"""Windows without progress after which the loss has settled, as for ``EarlyStopping``."""

_LEAST_WAITED, _FEW_WINDOWS = 2, 60
"""In a run of few windows the test of the fall at the end has little power: there a loss that made
progress in one of the last windows is not called settled."""

_SETTLED_SHARE = 0.25
"""Share of a run without progress after which its loss settled. In a shorter time noise may hide
that it still falls, so slowly that it takes as many steps again to show."""

_BAD_ENDS = {"diverged": "red", "failed": "red", "interrupted": "amber"}


class LossTrend(NamedTuple):
    """What the plateau test says of a history of losses.

    Attributes:
        windows: Means of windows of steps, in nats per row.
        errors: Their standard errors; infinite where a window is a single step.
        waited: Windows since the last that was progress; ``None`` if there are too few to tell.
        window: Steps of a window.
    """

    windows: Float[np.ndarray, " window"]
    errors: Float[np.ndarray, " window"]
    waited: int | None
    window: int


def loss_trend(run: Run) -> LossTrend:
    """Judge the losses of a run by the test of ``EarlyStopping``.

    Args:
        run: A run that has ended.
    """
    readings = MonitorWindows("loss")
    readings.begin(run)
    windows = readings.new(run)
    window = window_steps(run.info.steps_per_epoch)
    if not len(windows):
        return LossTrend(np.empty(0), np.empty(0), None, window)
    errors = errors_of_means(windows)
    if len(windows) <= PATIENCE:
        return LossTrend(windows.mean(1), errors, None, window)
    waited = PlateauTest().add(windows)[-1]
    with np.errstate(invalid="ignore"):
        return LossTrend(np.nanmean(windows, axis=1), errors, waited, window)


def end_of(run: Run) -> tuple[str, str]:
    """Return why a run ended early, and the advice that stands in its last sentence, if any.

    Args:
        run: A run that was interrupted, failed or diverged.
    """
    what, _, advice = run.reason.partition(". ")
    return what.rstrip("."), advice


def loss_finding(run: Run | None, trend: LossTrend | None, *, is_vouched: bool) -> Finding:
    """Return whether the loss settled.

    Args:
        run: The last run, or ``None``.
        trend: Its losses, judged.
        is_vouched: Whether the draws agree with the model, whatever the loss did. What cannot be
            told of the loss then counts for nothing.
    """
    unknown = "unjudged" if is_vouched else "amber"
    if run is None or trend is None:
        text = "the history of the training is not at hand, so that its end cannot be judged"
        return Finding("loss", unknown, text)
    if run.status == "running":
        text = "the fit goes on in the background, and this is a state before its end"
        return _unsettled("amber", text, "Diagnose it again at its end: handle.wait().")
    if run.status in _BAD_ENDS:
        what, advice = end_of(run)
        text = f"the training {how_diverged(run)} {what}"
        return _unsettled(_BAD_ENDS[run.status], text, advice or "Train on: call fit again.")
    train_on = "" if is_vouched else f"{_train_on(run)}."
    if moved_nothing(run):
        text = (
            "no step of the last run moved a parameter, as the learning rate is 0 or nearly 0: "
            "its loss does not tell whether the training had settled"
        )
        return _unsettled(unknown, text, train_on)
    if is_spent(run) and run.unmoved_steps >= trend.window:  # what moves nothing cannot fall
        text = (
            f"the learning rate came to 0, and the last {run.unmoved_steps:,} of {run.step:,} "
            "steps moved no parameter: it is not known whether the loss settled"
        )
        return _unsettled(unknown, text, train_on)
    if trend.waited is None:
        text = (
            f"the run has {run.step:,} steps, too few to see whether its loss settled (it takes "
            f"{(PATIENCE + 1) * trend.window:,})"
        )
        return _unsettled(unknown, text, train_on)
    if steps_at_rate(run) < 3 * trend.window:
        text = (
            f"the learning rate changed {steps_at_rate(run):,} steps before the end, too few to "
            "see whether the loss settled at it"
        )
        return _unsettled(unknown, text, train_on)
    stuck = "" if is_vouched else worse_than_constant(run)
    falling = fall_at_end(run)
    if falling is not None:  # the summary of the run says so too
        fall, steps = falling
        text = f"the loss still fell by {fall:.3g} nats per row in the last {steps:,} steps"
        advice = "Train on until it levels off: fit(..., callbacks=[lab.EarlyStopping()])."
        if is_spent(run):
            text, advice = f"{text}, and the learning rate has come to 0", f"{_train_on(run)}."
        if stuck:
            text = f"{text}, and {stuck}"
            advice = f"{train_on_or_elsewhere(run)}."
        return _unsettled("amber", text, advice)
    if trend.waited < _LEAST_WAITED and len(trend.windows) < _FEW_WINDOWS:
        since = (trend.waited + 1) * trend.window
        text = (
            f"the loss was still making progress within the last {since:,} of {run.step:,} steps: "
            "it is not known whether it settled"
        )
        return _unsettled(unknown, text, train_on)
    waited = max(trend.waited, 1) * trend.window
    found = "the loss settled:" if _waited_long(trend) else "the loss made"
    text = f"{found} no progress beyond its noise in the last {waited:,} of {run.step:,} steps"
    if stuck:
        advice = f"{START_ELSEWHERE[0].upper()}{START_ELSEWHERE[1:]}."
        return _unsettled("amber", f"{text}, but {stuck}", advice)
    return Finding("loss", "green", text)


def _train_on(run: Run) -> str:
    return f"To train on, {REBUILD}" if is_spent(run) else "Train on: call fit again"


def has_settled(run: Run | None, trend: LossTrend | None) -> bool:
    """Whether the loss of a run settled long enough ago that more steps alone would not help.

    Args:
        run: The last run, or ``None``.
        trend: Its losses, judged.
    """
    found = loss_finding(run, trend, is_vouched=True)
    return found.level == "green" and _waited_long(trend)


def _waited_long(trend: LossTrend) -> bool:
    return trend.waited >= _SETTLED_SHARE * len(trend.windows)


def _unsettled(level: FindingLevel, text: str, advice: str = "") -> Finding:
    """Return a finding of a loss that may be far off, which the other checks may show too."""
    return Finding("loss", level, text, advice, is_cause=level in ("amber", "red"))
