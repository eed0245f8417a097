"""The curve that a picture of a run shows: each step, smoothed, held-out, other runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Shaped

from aimz_lab.inference.run.events import Run
from aimz_lab.inference.run.loss_words import best_not_kept, shown_best
from aimz_lab.inference.run.records import RateChange
from aimz_lab.inference.run.run_words import of_outcomes, run_name
from aimz_lab.inference.run.smoothing import average_at
from aimz_lab.lab import formatting
from aimz_lab.lab.panels.loss import MOST_CHANGES
from aimz_lab.lab.panels.rate_curve import LEARNING_RATE
from aimz_lab.lab.record import loss_trace
from aimz_lab.lab.traces import Trace

LOSS = "loss"
_IN_A_DECADE = 256  # nearer to each other than a moving average is long: it hides no step


@dataclass(frozen=True)
class Line:
    """A line of a picture.

    Attributes:
        label: Its name in the legend.
        steps: Steps of its points.
        values: Its values there.
    """

    label: str
    steps: Shaped[np.ndarray, " point"]
    values: Float[np.ndarray, " point"]

    def after(self, step: float) -> Float[np.ndarray, " later"]:
        """Return the values after a step."""
        return self.values[self.steps > step]

    def since(self, step: float) -> Line:
        """Return the line from a step on."""
        kept = self.steps >= step
        return replace(self, steps=self.steps[kept], values=self.values[kept])


@dataclass(frozen=True)
class Curve:
    """A curve over the steps of a run, in buckets of as many steps.

    Attributes:
        name: What it shows: ``"loss"``, ``"learning_rate"`` or a metric.
        unit: The same in words, with its unit.
        total: Steps of the run.
        width: Steps in a bucket.
        steps: Last step of each bucket.
        mean: Mean of each bucket; the step itself where a bucket has one step.
        low: Lowest value in each bucket.
        high: Highest value in each bucket.
        smoothed: The moving average, or ``None``.
        validation: Held-out losses, or ``None``.
        others: Smoothed losses of other runs.
        best: Name, step and loss of the best state, or ``None``.
        rate_changes: The latest changes of the learning rate.
    """

    name: str
    unit: str
    total: int
    width: int
    steps: Shaped[np.ndarray, " bucket"]
    mean: Float[np.ndarray, " bucket"]
    low: Float[np.ndarray, " bucket"]
    high: Float[np.ndarray, " bucket"]
    smoothed: Float[np.ndarray, " bucket"] | None = None
    validation: Line | None = None
    others: tuple[Line, ...] = ()
    best: tuple[str, int, float] | None = None
    rate_changes: tuple[RateChange, ...] = ()

    @property
    def line(self) -> Float[np.ndarray, " bucket"]:
        """What is drawn as the curve: the moving average, or each step."""
        return self.mean if self.smoothed is None else self.smoothed

    def since(self, step: float) -> Curve:
        """Return the curve from a step on."""
        kept = self.steps >= step
        return replace(
            self,
            steps=self.steps[kept],
            mean=self.mean[kept],
            low=self.low[kept],
            high=self.high[kept],
            smoothed=None if self.smoothed is None else self.smoothed[kept],
            validation=self.validation and self.validation.since(step),
            others=tuple(other.since(step) for other in self.others),
            best=self.best if self.best and self.best[1] >= step else None,
            rate_changes=tuple(one for one in self.rate_changes if one.step >= step),
        )

    def coarser(self, most: int) -> Curve:
        """Return the curve with at most so many buckets, for what is drawn of each step."""
        group = 1
        while group * most < len(self.steps):
            group *= 2
        if group == 1:
            return self
        starts = np.arange(0, len(self.steps), group)
        finite = np.isfinite(self.mean)
        count = np.add.reduceat(finite.astype(float), starts)
        total = np.add.reduceat(np.where(finite, self.mean, 0.0), starts)
        return replace(
            self,
            width=self.width * group,
            steps=np.maximum.reduceat(self.steps, starts),
            mean=np.divide(total, count, out=np.full(len(starts), np.nan), where=count > 0),
            low=np.fmin.reduceat(self.low, starts),
            high=np.fmax.reduceat(self.high, starts),
        )


def curve_names(run: Run) -> list[str]:
    """Return the names of the curves that a run has."""
    if run.info.is_sampling:
        return list(run.chains.names) if run.chains else [LOSS]
    rates = [LEARNING_RATE] if run.learning_rate is not None else []
    return [LOSS, *rates, *run.metrics]


def trace_of(run: Run, name: str) -> Trace:
    """Return one curve of a run in bounded memory; the loss in nats of all rows."""
    if name == LOSS:
        return loss_trace(run)
    trace = Trace()
    trace.follow(run.buckets(name))
    return trace


def curve_of(
    run: Run, others: Sequence[Run] = (), *, name: str = LOSS, per_row: bool, smooth: bool
) -> Curve:
    """Return a curve of a run.

    Args:
        run: The run.
        others: Runs whose losses come along.
        name: One of :func:`curve_names`.
        per_row: Whether a loss is divided by the number of rows, if it is known.
        smooth: Whether the moving average is drawn as well.
    """
    is_loss = name == LOSS
    rows = _rows(run) if is_loss and per_row else 1
    trace = trace_of(run, name)
    smoothed = (
        trace.smooth(run.info.averaged_epoch) / rows if smooth and name != LEARNING_RATE else None
    )
    unit = formatting.curve_words(name, is_sampling=run.info.is_sampling)
    if is_loss:
        unit = "loss per row (nats)" if per_row and run.info.n_obs else "loss (nats)"
    return Curve(
        name,
        unit,
        trace.n_steps,
        trace.width,
        trace.steps,
        trace.mean / rows,
        trace.low / rows,
        trace.high / rows,
        smoothed,
        _validation(run, per_row=per_row) if is_loss else None,
        tuple(_other(other, run, per_row=per_row) for other in others) if is_loss else (),
        _best(run, rows) if is_loss else None,
        tuple(run.rate_changes[-MOST_CHANGES:]),
    )


def over_log_steps(run: Run, *, per_row: bool) -> Line:
    """Return the smoothed loss of a run at steps that lie evenly on a logarithmic axis.

    But for the last one, they are the same for all runs: two that took the same first steps have
    the same line there, however long they are. Buckets of as many steps hide the start of a long
    run on such an axis.

    Args:
        run: A run with one step at least.
        per_row: Whether the loss is divided by the number of rows, if it is known.
    """
    decades = int(np.ceil(np.log10(run.step)))
    even = np.rint(10 ** (np.arange(decades * _IN_A_DECADE + 1) / _IN_A_DECADE)).astype(np.int64)
    steps = np.unique(np.append(even[even < run.step], run.step))
    losses = run.losses
    values = [average_at(losses, step, run.info.averaged_epoch) for step in steps.tolist()]
    return Line(LOSS, steps, np.array(values, float) / (_rows(run) if per_row else 1))


def _best(run: Run, rows: int) -> tuple[str, int, float] | None:
    best = shown_best(run)
    if best is None:
        return None
    is_scaled = best.is_held_out and rows < _rows(run)
    has_kept = best.name == "best" and not run.info.is_by_hand
    name = "best kept" if has_kept and best_not_kept(run) else best.name
    return f"{name}{', scaled' * is_scaled}", best.step, best.value * _rows(run) / rows


def _rows(run: Run) -> int:
    return run.info.n_obs or 1


def _validation(run: Run, *, per_row: bool) -> Line | None:
    if not run.validation or not (per_row or run.info.n_obs):
        return None
    steps, values = (np.asarray(column, float) for column in zip(*run.validation, strict=True))
    if per_row:
        return Line("held-out loss", steps, values)
    # Beside the loss of all training rows stands the held-out loss of as many.
    name = f"held-out loss, scaled to {run.info.n_obs:,} training rows"
    return Line(name, steps, values * run.info.n_obs)


def _other(run: Run, beside: Run, *, per_row: bool) -> Line:
    trace = loss_trace(run)
    rows = _rows(run) if per_row else 1
    return Line(
        f"{run_name(run)}, {run.step:,} steps{of_outcomes([run, beside])[0]}",
        trace.steps,
        trace.smooth(run.info.averaged_epoch) / rows,
    )
