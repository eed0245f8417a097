"""The record of a run that callbacks read: history, state, and how it ended."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NoReturn

import jax
import numpy as np
from jaxtyping import Float, Int, Num

from aimz_lab.errors import ArgumentError
from aimz_lab.inference.copies import refuse_copy
from aimz_lab.inference.run.best_state import BestSoFar
from aimz_lab.inference.run.buckets import HIGH, LOW, Buckets
from aimz_lab.inference.run.chain_record import ChainRecord
from aimz_lab.inference.run.control import Control
from aimz_lab.inference.run.records import (
    HELD_OUT,
    TRAINING,
    Best,
    ConstantLoss,
    Place,
    RateChange,
    RunInfo,
    TrainerState,
    ValidationLosses,
)
from aimz_lab.inference.run.run_clock import RunClock
from aimz_lab.inference.run.run_words import run_html, run_line
from aimz_lab.inference.run.step_history import StepHistory
from aimz_lab.inference.run.steps import Steps
from aimz_lab.types import JsonObject, RunStatus, shown

AxisLabels = Mapping[str, tuple[Sequence[str] | None, ...]]
"""Labels along each axis of sites, by site."""
_MOST_CHANGES = 1_000
_SINGLE = 1e-7  # an optimizer has its rate in single precision


class Run:
    """The record of a run, as its callbacks read it.

    The loss of every step is kept, in 4 bytes. Everything else is bounded: in a run of more than
    131,072 steps, neighbouring steps share a bucket; see :meth:`column`. To keep every value of
    every step, write them to a file during the run with :class:`~aimz_lab.lab.callbacks.CSVLogger`.

    Args:
        info: Facts known before the first step.
        control: Takes requests; a new one by default.
        get_params: Called for :attr:`params`.

    Attributes:
        info: Facts known before the first step.
        control: Takes requests for a stop, a pause, a checkpoint or another learning rate.
        clock: Counts its wall time; for trainers.
        status: One of :data:`aimz_lab.types.RunStatus`.
        reason: Why the run ended, as a phrase.
        epoch: Epoch of the last step, from 1; 0 before the first.
        learning_rate: The rate of the last step; ``None`` if it is not known.
        first_learning_rate: The rate of the first step; ``None`` if it is not known, and of a
            resumed run.
        disabled: Callbacks that failed and were switched off, each with its error.
        checkpoints: The newest paths written, with the step of each; at most 1,000.
        transferred_bytes: Bytes of training data moved to the devices so far, in a resumed run
            since it resumed: the batches, padding included; or, if the rows stay on the devices,
            all rows once and the row numbers of batches. Held-out rows, which are moved once, do
            not count.
        skipped: Steps left out because their loss or the new parameters were not finite. They count
            as steps, with the loss NaN.
        notes: Sentences for a display to show.
        trust: Verdict of the last trust report on what the run trained; empty before the first.
        exception: The error that ended a failed run.
        best: Best states that callbacks keep, by monitor; see :attr:`best_so_far`.
        candidates: States that may be the best by a training loss, by monitor. The steps after them
            judge them.
        end_best: The last state or a candidate, by monitor, if it is the best one at the end.
            Checkpoints do not keep it, because a run that resumes judges it by more steps.
        losses_after: Losses in nats of a few steps after the last one, computed at the end to judge
            the last state; these steps are not taken. ``None`` before the end.
        rate_changes: The latest changes of the learning rate on request; at most 1,000.
        unmoved_steps: Steps up to the last one that moved no parameter, as far as reports tell.
        has_spent_rate: Whether steps after the last one would move no parameter, as the learning
            rate has come to 0, or next to it.
        ending: If the run was interrupted or diverged, how it ended and which state the model has,
            as a phrase for its ``repr``; otherwise empty.
        has_diverged: Whether the state after the last step is not to be used. The model then has
            another one, or is wrecked, or stayed as it was.
        is_wrecked: Whether the run diverged without a good state to go back to; its state must not
            be used.
        chains: The progress of Markov chains, chain by chain; ``None`` for other runs.
        guide: The guide that is trained; ``None`` for other runs.
        number: Number of the run in this process, from 1, once a page or a list has shown it; else
            ``None``.
        in_background: Whether the caller goes on meanwhile: a fit with ``blocking=False``.
        activity: What it does in place of steps, such as compiling them for a new learning rate;
            empty otherwise.
        with_rate: Returns a state of the trainer with another learning rate; ``None`` if it cannot
            be set.
        call: Number of the call that trains, as compilations have it; ``None`` for a hand-written
            loop.
        constant_losses: Losses of one distribution for all rows, to compare the end with, that of
            the output's family first; none where they are not comparable, or not known.
        outcome_column: The table's column of the outcome, or the name of the output; empty if it is
            not known.
        axis_labels: Returns the known labels along the axes of each site, by site: names of columns
            and levels. An axis without labels is ``None``.

    Example:
        >>> run = im.fit(X, y, epochs=5, progress=False).last_run
        >>> run.status, run.losses.shape
        ('completed', (5,))
    """

    def __init__(
        self,
        info: RunInfo,
        *,
        control: Control | None = None,
        get_params: Callable[[], Mapping[str, jax.Array]] | None = None,
    ) -> None:
        self.info = info
        self.control = control or Control()
        self.status: RunStatus = "pending"
        self.reason = ""
        self.epoch = 0
        self.learning_rate: float | None = None
        self.first_learning_rate: float | None = None
        self.disabled: list[tuple[object, Exception]] = []
        self.checkpoints: list[tuple[int, str]] = []
        self.clock = RunClock()
        self.transferred_bytes = 0
        self.skipped = 0
        self.notes: list[str] = []
        self.trust = ""
        self.exception: BaseException | None = None
        self.best: dict[str, Best] = {}
        self.candidates: dict[str, Best] = {}
        self.end_best: dict[str, Best] = {}
        self.losses_after: Float[np.ndarray, " step"] | None = None
        self.rate_changes: list[RateChange] = []
        self.unmoved_steps = 0
        self.has_spent_rate = False
        self.ending = ""
        self.has_diverged = False
        self.is_wrecked = False
        self.chains: ChainRecord | None = None
        self.guide: Callable | None = None
        self.number: int | None = None
        self.in_background = False
        self.activity = ""
        self.call: int | None = None
        self.constant_losses: tuple[ConstantLoss, ...] = ()
        self.outcome_column = ""
        self.axis_labels: Callable[[], AxisLabels] = dict
        self._history = StepHistory()
        self._best_so_far = BestSoFar()
        self._validation = ValidationLosses()
        self._final_state: TrainerState | None = None
        self._get_params = get_params
        self._get_state: Callable[[], TrainerState] | None = None
        self._get_position: Callable[[], tuple[int, int]] | None = None
        self._get_provenance: Callable[[], JsonObject] | None = None
        self.with_rate: Callable[[TrainerState, float], TrainerState] | None = None
        self._epochs_over: tuple[int, int] | None = None  # and the steps in them
        self._recording = threading.RLock()  # others read a run while its thread records steps

    def __reduce__(self) -> NoReturn:
        refuse_copy(
            "A run",
            "Its values do not: run.losses, run.column(name); aimz_lab.lab.History(run).to_json("
            "path) writes all of them, and History.from_json reads them.",
        )

    def __repr__(self) -> str:
        return f"<Run {run_line(self)}>"

    def _repr_html_(self) -> str:
        return run_html(self)

    @property
    def step(self) -> int:
        """Steps done so far."""
        return len(self._history)

    @property
    def losses(self) -> Float[np.ndarray, " step"]:
        """Loss of each step in nats; shape ``(step,)``, read-only, empty while the run prepares."""
        return self._history.losses

    @property
    def losses_per_row(self) -> Float[np.ndarray, " step"]:
        """Loss of each step in nats per row; the total if the number of rows is unknown."""
        return self.losses / (self.info.n_obs or 1)

    @property
    def validation(self) -> ValidationLosses:
        """Pairs of step and held-out loss in nats per row, of all evaluations."""
        return self._validation

    @validation.setter
    def validation(self, pairs: Iterable[tuple[int, float]]) -> None:
        self._validation = ValidationLosses(pairs)

    def column(self, name: str) -> Num[np.ndarray, " bucket"]:
        """Return one value a step: ``loss``, ``epoch``, ``rows``, ``n_pad``, or a metric.

        ``seconds`` is the stepping time at the end of the step's chunk, in seconds, and
        ``learning_rate`` the rate of the step, NaN if it is not known. With a schedule within
        ``optax.inject_hyperparams``, all steps of a report have the rate of its last step.

        In a run of more than 131,072 steps, there is one value for each bucket of neighbouring
        steps, see :attr:`bucket_steps`: the mean of the finite losses or metrics (NaN if there are
        none), the sum of ``rows`` or ``n_pad``, and of anything else the value of the last step.

        Args:
            name: One of :attr:`columns`, or of :attr:`metrics`.

        Returns:
            Read-only, shape ``(step,)``, or ``(bucket,)`` of a longer run.

        Raises:
            ArgumentError: If no step reported such a value.
        """
        try:
            return self._history.column(name if isinstance(name, str) else "")
        except KeyError:
            known = ", ".join(map(repr, (*self.columns, *self.metrics)))
            msg = f"No step reported {shown(name)}; the run has the columns {known}."
            raise ArgumentError(msg) from None

    def lowest(self, name: str) -> Num[np.ndarray, " bucket"]:
        """Return the lowest finite value of each bucket; in a run without buckets, the column.

        Args:
            name: ``loss``, ``n_pad`` or a metric.

        Returns:
            Read-only, shape ``(step,)``, or ``(bucket,)`` of a longer run.

        Raises:
            KeyError: If it is none of them.
        """
        return self._history.extreme(name, LOW)

    def highest(self, name: str) -> Num[np.ndarray, " bucket"]:
        """Return the highest finite value of each bucket; in a run without buckets, the column.

        Args:
            name: ``loss``, ``n_pad`` or a metric.

        Returns:
            Read-only, shape ``(step,)``, or ``(bucket,)`` of a longer run.

        Raises:
            KeyError: If it is none of them.
        """
        return self._history.extreme(name, HIGH)

    @property
    def bucket_steps(self) -> Int[np.ndarray, " bucket"]:
        """Steps that each value of a :meth:`column` stands for: 1, up to 131,072 steps.

        In longer runs, neighbouring buckets are joined in pairs each time there would be more
        buckets than that. The last few steps, which do not fill a bucket yet, have one each.
        """
        return self._history.bucket_steps

    def table(self) -> dict[str, Num[np.ndarray, " bucket"]]:
        """Return every column at one moment, also while the run goes on.

        Returns:
            :attr:`bucket_steps`, the columns and the metrics by name. Where buckets hold several
            steps, ``loss_low`` and ``loss_high`` too, and those of the metrics.
        """
        return self._history.table()

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the values that every step has; :attr:`metrics` has further ones."""
        return self._history.columns

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the further values that the steps reported."""
        return self._history.metrics

    @property
    def resumed_at(self) -> int:
        """Steps of an earlier process, up to the checkpoint; 0 for a new run."""
        return self._history.resumed_at

    @property
    def seconds_in(self) -> dict[str, float]:
        """Wall time by activity.

        ``preparing`` is all before the first step begins: reading, checking, setting up, compiling.
        Then there are ``data`` (gathering batches and moving them), ``dispatch``, ``steps``
        (waiting for them), ``validation``, ``callbacks``, ``paused``, ``compiling`` and ``tracing``
        (since the first step; ``tracing`` if the compiled program was there, or loaded from disk),
        and ``waiting`` (for other calls, of which one at a time traces its kernel).
        """
        return self.clock.seconds_in

    @property
    def first_step_at(self) -> float | None:
        """Time at which the first step began, in seconds of the monotonic clock, or ``None``."""
        return self.clock.first_step_at

    @property
    def elapsed_s(self) -> float:
        """Wall time from the beginning of the call that trains to the end of the run."""
        return self.clock.elapsed_s

    @property
    def seconds_so_far(self) -> dict[str, float]:
        """:attr:`seconds_in` with the present wait for steps, which may take seconds.

        Other activities may compile or wait for another call, which is known once they end.
        """
        return self.clock.seconds_so_far

    @property
    def paused_s(self) -> float:
        """Wall time of all pauses so far, including the present one."""
        return self.clock.paused_s

    @property
    def prepared_s(self) -> float:
        """Wall time before the first step began."""
        if self.is_preparing:
            return self.elapsed_s
        return self.seconds_in.get("preparing", 0.0)

    @property
    def trained_s(self) -> float:
        """Time of the steps, with callbacks and held-out losses; with that of an earlier process.

        It is the wall time since the first step began, without pauses, :attr:`compiling_s` and
        :attr:`waited_s`. While the run goes on, it is known up to the last thing that ended, or the
        present wait for steps.
        """
        return self.clock.trained_s + self._history.earlier_s

    @property
    def compiling_s(self) -> float:
        """Wall time since the first step began in which the run itself traced and compiled.

        Steps compile anew for a learning rate that is set for the first time, for instance.
        """
        return self.seconds_in.get("compiling", 0.0) + self.seconds_in.get("tracing", 0.0)

    @property
    def waited_s(self) -> float:
        """Wall time since the first step began in which the run waited for other calls.

        One call at a time traces its kernel.
        """
        return self.seconds_in.get("waiting", 0.0)

    @property
    def stepping_s(self) -> float:
        """Stepping time so far in seconds, including that of an earlier process."""
        return self._history.stepping_s

    @property
    def steps_per_s(self) -> float:
        """Rate over the last few seconds of stepping; 0 before the first chunk.

        In a hand-written loop the first chunk may include compilation on another thread, so it
        counts only until the second one.
        """
        return self._history.steps_per_s

    @property
    def rows_per_s(self) -> float:
        """Rows of data per second, at the rate of :attr:`steps_per_s`."""
        return self.steps_per_s * self._history.recent_rows

    @property
    def planned_steps(self) -> int | None:
        """Steps of the whole run, as far as they are known by now, or ``None``.

        Epochs that are over count with the steps that they had. If the present epoch already has
        more steps than planned, its length is unknown, and so is this.
        """
        with self._recording:
            per_epoch, total = self.info.steps_per_epoch, self.info.total_steps
            if total is None or self._epochs_over is None:
                return None if total is None or self.step > total else total
            epochs, steps = self._epochs_over
            if self.step - steps >= per_epoch:
                return None
            return steps + (self.info.epochs - epochs) * per_epoch

    @property
    def place(self) -> Place:
        """How far the run has come; all of one moment, also while its thread records steps."""
        with self._recording:
            return Place(self.epoch, self.step, self.planned_steps, self.eta_s)

    @property
    def eta_s(self) -> float | None:
        """Expected wall time to the planned end, or ``None`` if not known yet."""
        total, rate = self.planned_steps, self.steps_per_s
        if total is None or rate == 0 or (self._history.in_first_chunk and self.step < total):
            return None
        return max(total - self.step, 0) / rate

    @property
    def is_preparing(self) -> bool:
        """Whether the first step has not begun."""
        return self.first_step_at is None

    @property
    def finished(self) -> bool:
        """Whether the run has ended."""
        return self.clock.has_ended

    @property
    def was_refused(self) -> bool:
        """Whether the run failed before its first step; its model is then as before the call."""
        return self.status == "failed" and self.step == self.resumed_at

    @property
    def best_so_far(self) -> Best | None:
        """The best state so far, or ``None`` before the first is known.

        With held-out data, it is the state with the lowest held-out loss. Without, it is the state
        with the lowest loss as the run shows it: the mean of the last steps, of whole epochs where
        they fit, see :func:`~aimz_lab.inference.run.smoothing.averaged_steps`. These losses were
        computed before the last update of the state. So a state counts as the best only once the
        losses of the next 16 to 64 steps are known and are not higher by more than noise; while the
        loss falls, the best loss is therefore above the present one. At the end, a few steps that
        are not taken judge the last state. A mean over few steps has to be lower by more than its
        noise.

        Only states at the end of a report can be judged, after the first 64 steps.
        ``steps_per_call="auto"`` goes by the clock, so two runs that are otherwise the same may
        judge different states. The best state of a callback with a monitor of its own takes
        precedence. A checkpoint keeps the best state for a run that resumes from it.
        """
        kept = {**self.best, **self.end_best}
        own = kept.pop(TRAINING, None) or self.own_best
        return kept.get(HELD_OUT) or next(iter(kept.values()), own)

    @property
    def params(self) -> Mapping[str, jax.Array]:
        """The guide's constrained parameters after the last step; empty if there are none."""
        return self._get_params() if self._get_params else {}

    @property
    def state(self) -> TrainerState | None:
        """The trainer's state after the last accepted step; ``None`` if there is no trainer."""
        return self._get_state() if self._get_state else None

    @property
    def position(self) -> tuple[int, int] | None:
        """Position in the data of the next step; ``None`` if there is no trainer."""
        return self._get_position() if self._get_position else None

    @property
    def provenance(self) -> JsonObject:
        """Facts that a run must share to go on from a checkpoint of this one."""
        return self._get_provenance() if self._get_provenance else {}

    @property
    def final_state(self) -> TrainerState | None:
        """The state that the model ends with: the one of :meth:`end_with`, else :attr:`state`."""
        return self.state if self._final_state is None else self._final_state

    @property
    def restored(self) -> Best | None:
        """The best state that the model has instead of the last one; ``None`` if it has none."""
        if self._final_state is None:
            return None
        kept = (*self.best.values(), *self.end_best.values(), self.best_so_far)
        return next((best for best in kept if best and best.state is self._final_state), None)

    @property
    def has_last_state(self) -> bool:
        """Whether the model has the state after the last step, and none from before it."""
        return self._final_state is None

    @property
    def left_model(self) -> bool:
        """Whether the run diverged before it had taken a step: its model is as it was."""
        return self.has_diverged and self.has_last_state and not self.is_wrecked

    @property
    def step_of_model(self) -> int:
        """Steps done by the state that the model ends with; 0 if that is from before the run."""
        if self.has_last_state:
            return self.step
        return self.restored.step if self.restored else self.resumed_at

    def end_with(self, state: TrainerState) -> None:
        """Give the model ``state`` at the end, instead of the one after the last step.

        Training still uses :attr:`state`, and so do checkpoints, unless the run has diverged.
        """
        self._final_state = state

    def bind(
        self,
        *,
        params: Callable[[], Mapping[str, jax.Array]],
        state: Callable[[], TrainerState],
        position: Callable[[], tuple[int, int]],
        provenance: Callable[[], JsonObject] | None = None,
        with_rate: Callable[[TrainerState, float], TrainerState] | None = None,
    ) -> None:
        """Set the functions behind ``params``, ``state``, ``position`` and ``provenance``.

        ``with_rate`` returns a state with another learning rate.
        """
        self.with_rate = with_rate
        self._get_params, self._get_state, self._get_position = params, state, position
        self._get_provenance = provenance

    def begin(self, called: float | None = None) -> None:
        """Start the clock; for trainers.

        Args:
            called: Time at which the call began that trains, in seconds of the monotonic clock;
                ``None`` for now.
        """
        self.status = "running"
        self.first_learning_rate = None if self.step else self.learning_rate
        self.clock.begin(called)

    def record(self, steps: Steps) -> None:
        """Append ``steps`` to the history; for trainers."""
        with self._recording:
            self._history.extend(steps)
            if self.position is not None:
                epoch, batch = self.position
                self._epochs_over = epoch, self.step - batch
            self.learning_rate = steps.learning_rate
            if len(steps):
                self.epoch = int(steps.epoch[-1])
        self._best_so_far.look(self)

    def validated(self, loss_per_row: float) -> None:
        """Append the held-out loss of the present state; for trainers.

        Args:
            loss_per_row: The loss in nats per row.
        """
        self._validation.append((self.step, loss_per_row))
        self._best_so_far.look(self)

    def judge_last(self, losses: Float[np.ndarray, " step"]) -> None:
        """Judge the state after the last step, once no more are taken; for trainers.

        Args:
            losses: Losses of one or a few steps after it in nats.
        """
        self.losses_after = losses
        if (best := self._best_so_far.at_end(self)) is not None:
            self.end_best[TRAINING] = best

    def rate_changed(self, rate: float) -> None:
        """Note that ``rate`` holds from the next step on; for trainers."""
        before = self.learning_rate
        if before is not None and math.isclose(before, rate, rel_tol=_SINGLE):
            return
        change = RateChange(self.step, before, rate)
        self.rate_changes = [*self.rate_changes[-_MOST_CHANGES + 1 :], change]
        self.learning_rate = rate
        if self.step == 0:
            self.first_learning_rate = rate

    def kept(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Return the history as it is kept, at one moment: what :meth:`take_over` needs.

        Returns:
            The :attr:`columns` and the :attr:`metrics` by name. The losses have the shape
            ``(step,)``, and so have the others up to 131,072 steps; beyond, their leading axis is
            that of the buckets.
        """
        return self._history.kept()

    def buckets(self, name: str) -> Buckets:
        """Return the column behind :meth:`column`, for a curve that follows it.

        Args:
            name: One of :attr:`columns`, or of :attr:`metrics`.

        Returns:
            The column itself, which grows with the run; of the losses a new one.

        Raises:
            KeyError: If no step reported such a value.
        """
        return self._history.buckets(name)

    def take_over(
        self,
        columns: Mapping[str, Num[np.ndarray, "bucket ..."]],
        metrics: Mapping[str, Num[np.ndarray, "bucket ..."]],
        rate_changes: Sequence[RateChange] = (),
    ) -> None:
        """Begin with the history of an earlier process; for trainers.

        Args:
            columns: All of :attr:`columns` by name, as they were :meth:`kept`.
            metrics: The metrics of the same steps by name.
            rate_changes: The changes of the learning rate there.

        Raises:
            ValueError: If a column has not the shape that belongs to so many losses.
        """
        self._history.restore(columns, metrics)
        self.rate_changes = list(rate_changes)
        self.epoch = int(columns["epoch"][-1]) if self.step else 0

    @property
    def own_best(self) -> Best | None:
        """The best state so far, apart from those of callbacks: what a checkpoint keeps."""
        return self._best_so_far.look(self)

    def take_over_best(self, best: Best | None) -> None:
        """Begin with the best state of an earlier process, after its history; for trainers.

        Args:
            best: The :attr:`own_best` there.
        """
        self._best_so_far.take_over(best, self)

    def begin_pause(self) -> None:
        """Count the time as paused from here on; for trainers."""
        self.clock.begin_pause()
        self.status = "paused"

    def end_pause(self, status: RunStatus) -> None:
        """Count the time as trained again; for trainers.

        Args:
            status: The status from here on.
        """
        self.clock.end_pause()
        self.status = status

    def finish(self, status: RunStatus, reason: str) -> None:
        """Stop the clock, and set how the run ended; for trainers.

        Args:
            status: How it ended.
            reason: Why, as a phrase.
        """
        self.status, self.reason = status, reason
        self.clock.end()
