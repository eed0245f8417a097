"""The training loop: chunks of compiled steps, and reports of them.

While one chunk computes, the next is gathered and dispatched behind it, with the result of the
first as its state. If a callback then stops the run or changes the learning rate, the chunk ahead
is dropped: callbacks only ever see accepted steps.

A chunk is short, so that requests are handled soon; the memory of its batches may make it shorter.
Accepted
chunks are joined until a report is due. Until then the run has neither their steps nor their state.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import numpy as np
from numpyro.infer.svi import SVIState

from aimz_lab.errors import FitWarning, NonFiniteLossError
from aimz_lab.inference.compiling import compiling
from aimz_lab.inference.feeds.feed import BEGINNING, Chunk, Feed, Position
from aimz_lab.inference.feeds.first_pass import FirstPass, contradiction
from aimz_lab.inference.run.control import Control, StopRequest
from aimz_lab.inference.run.events import Callbacks
from aimz_lab.inference.run.getting_ready import preparation_for
from aimz_lab.inference.run.loop import CHUNK_S, RunLoop
from aimz_lab.inference.run.meetings import Meetings
from aimz_lab.inference.run.run import Run
from aimz_lab.inference.run.smoothing import FEW_STEPS
from aimz_lab.inference.run.team import ALONE, Team, local
from aimz_lab.inference.svi.accepted_steps import AcceptedSteps, describe_bad_step
from aimz_lab.inference.svi.compiled_steps import ChunkResult, StepEngine
from aimz_lab.inference.svi.divergence import FallBack
from aimz_lab.inference.svi.motion import hardly_moved, have_moved, is_spent
from aimz_lab.inference.svi.optimizer_rate import OptimizerRate
from aimz_lab.inference.svi.step import TrainState
from aimz_lab.kernel.scaling import DataSize
from aimz_lab.number_text import number
from aimz_lab.tracebacks import warn
from aimz_lab.types import OnNonFinite, RunStatus, Shared

REPORT_S = 0.09
"""Least seconds between two reports if ``steps_per_call`` is ``"auto"``: about two chunks, and the
interval at which a display redraws."""

_FIRST_STEPS = 16
_GROWTH = 16

_SCHEDULE_GOES_ON = (
    "The optimizer's schedule goes on from the learning rate that was set: it keeps its shape, "
    "scaled. For a rate that stays, train with a constant one, as in numpyro.optim.Adam(0.01)."
)


@dataclass(frozen=True)
class Validation:
    """The held-out loss.

    Attributes:
        loss: Returns it in nats per row, for an SVI state.
        every: Epochs between two evaluations.
    """

    loss: Callable[[SVIState], float]
    every: int = 1


@dataclass(frozen=True)
class TrainOptions:
    """Options of a run.

    Attributes:
        steps_per_call: Steps of a chunk; ``"auto"`` aims at :data:`CHUNK_S`.
        on_nonfinite: Whether to stop at a step with a loss or a state that is not finite, skip it,
            or raise.
        validation: Held-out loss, or ``None``.
        scaled_by: Who scales the rows of a batch to all of the data: ``"us"``, ``"kernel"``, or
            ``""`` for nobody.
    """

    steps_per_call: int | Literal["auto"] = "auto"
    on_nonfinite: OnNonFinite = "stop"
    validation: Validation | None = None
    scaled_by: Literal["us", "kernel", ""] = ""


@dataclass(frozen=True)
class _Dispatched:
    """A chunk that was dispatched, and when."""

    chunk: Chunk
    result: ChunkResult
    at_s: float


class Trainer(RunLoop):
    """Trains on the chunks of a feed by compiled steps.

    Args:
        engine: The compiled steps.
        feed: The batches.
        state: State to begin with.
        run: The record that the trainer fills and callbacks read.
        callbacks: The callbacks of the run.
        shared: The kernel's shared arguments, on the devices.
        size: How many rows a batch stands for.
        options: Options of the run.
        start: Position of the feed at the beginning.
        put: Brings a state to the devices; by default it is there.
        team: The processes that train together.
        was_trained: Whether the state is that of an earlier training.
        rate_before: Learning rate at the end of the run before, if it was set there; or ``None``.
        rate: The learning rate of the optimizer; by default what the optimizer's state has.

    Attributes:
        state: State after the last reported step, even if the run failed later.
        position: Position of the feed after that step.
        reported: That state with the number of the step, which other threads read at once; ``None``
            before the first report.
    """

    def __init__(
        self,
        engine: StepEngine,
        feed: Feed,
        state: TrainState,
        run: Run,
        callbacks: Callbacks,
        *,
        shared: Shared,
        size: DataSize,
        options: TrainOptions,
        start: Position = BEGINNING,
        put: Callable[[TrainState], TrainState] = lambda state: state,
        team: Team = ALONE,
        was_trained: bool = False,
        rate_before: float | None = None,
        rate: OptimizerRate | None = None,
    ) -> None:
        super().__init__(run, callbacks)
        self.state = state
        self._put, self._team = put, team
        self._meetings = Meetings(team, run)
        self._fall_back = FallBack(run, state if was_trained else None)
        self.position = start
        self._rate = rate or OptimizerRate(None)
        self._rate_before, self._rate_note = rate_before, ""
        self.reported: tuple[TrainState, int] | None = None
        self._engine = engine
        self._feed: Feed | None = feed
        self._shared = shared
        self._size = size
        self._options = options
        self._ahead: _Dispatched | None = None
        self._pending_report: AcceptedSteps | None = None
        self._steps_per_s: float | None = None
        every = options.validation.every if options.validation else 0
        self._align = 1 if callbacks.aligned_to_epochs else every
        self._done_s = 0.0
        self._first_pass: FirstPass | None = None
        self._contradiction = ""

    def begin(self) -> None:
        """Start the clock and call ``on_fit_begin``; :meth:`run_to_end` does so if needed.

        Raises:
            Exception: An error of a callback that is not a display.
        """
        self.run.learning_rate = self._rate.of_next_step(self.state)
        try:
            super().begin()
        except BaseException as error:
            self._meetings.fail(error)
            raise

    def _tell_rate_before(self) -> None:
        """Note that a rate of the run before is not this one's, unless a callback sets one."""
        rate, before, self._rate_before = self.run.learning_rate, self._rate_before, None
        if before is None or self.run.rate_changes:
            return
        if np.float32(rate) != np.float32(before):
            self._rate_note = (
                f"The learning rate begins at {number(rate)}, the optimizer's own: the run before "
                f"ended at {number(before)}, as it was set there, and that holds for one run. Set "
                "it again to go on with it."
            )
            self.run.notes.append(self._rate_note)

    def run_to_end(self) -> None:
        """Run to the end, a stop, an interrupt or a failure.

        Afterwards ``run.status`` and ``run.reason`` say how it ended, and :attr:`state` is the
        state after the last accepted step.

        Raises:
            ClusterError: If another process of the run has failed or is gone.
            NonFiniteLossError: With ``on_nonfinite="raise"``, at the first bad step.
            KeyboardInterrupt: If the run was interrupted a second time before it had ended.
            Exception: An error of the kernel, or of a callback that is not a display.
        """
        try:
            super().run_to_end()
        except BaseException as error:
            self._meetings.fail(error)
            raise
        finally:
            # The run keeps this object for its state; its rows can be freed.
            self._feed = self._ahead = None
        self._meetings.end()
        if self.run.status == "diverged" and self._options.on_nonfinite == "raise":
            raise NonFiniteLossError(self.run.reason)

    @property
    def lost_others(self) -> bool:
        """Whether other processes are lost, and devices may wait for them forever."""
        return self._meetings.lost_others

    @property
    def is_spoiled(self) -> bool:
        """Whether a run that skips bad steps has a state that is not to be used."""
        return self.run.skipped > 0 and self._fall_back.is_due

    def chunks(self) -> StopRequest:
        """Run the chunks, with one computing and one dispatched behind it."""
        self._validate_if_missed()
        self._align = self._team.gather(self._align, "begins to train")[0]
        self._meetings.agree(self._steps_by_clock)
        self.preparation.activity = "gathering the first batches"
        first = self._next_chunk()
        if first is not None:
            self._call(self._engine.compile, self._put(self.state), first, len(first))
        self.preparation.activity = "computing the first steps"
        self.begin_steps()
        self._ahead = self._dispatch(self._put(self.state), first)
        stop, now = None, None
        while self._ahead is not None and stop is None:
            for epoch in self._ahead.chunk.epoch_begins:
                self.callbacks.emit("on_epoch_begin", epoch)
            if self._ahead.chunk.epoch_begins:
                self._meetings.agree(self._steps_by_clock)
            self.handle_learning_rate()
            self._tell_rate_before()
            now = self._ahead
            self._ahead = self._dispatch(now.result.state, self._next_chunk())
            bad = self._accept(now)
            if bad:
                return bad, "diverged"
            self._meetings.agree(self._steps_by_clock)
            stop = self.handle_requests(is_last=self._ahead is None)
        if now is not None:
            self._judge_last(now.chunk)
        return stop or (f"all {self.run.step:,} steps done", "completed")

    def _judge_last(self, chunk: Chunk) -> None:
        """Judge the state after the last step by a few steps on a chunk, which are not taken."""
        few = min(self._steps(), FEW_STEPS, len(chunk))
        result = self._dispatch(self._put(self.state), chunk, few).result
        losses, tried = jax.device_get(self._team.wait((result.losses, result.tried)))
        self.run.judge_last(losses[: int(tried)])
        if (optimizer := self._rate.optimizer(self.state.rate)) is not None:
            now, after = (local(one).svi.optim_state for one in (self.state, result.state))
            stands = hardly_moved(optimizer, now, after)
            self.run.has_spent_rate = stands and is_spent(optimizer, now)

    def set_learning_rate(self, rate: float) -> str:
        """Train with ``rate`` from the next step on; the chunk ahead is dispatched anew.

        A schedule of the optimizer goes on from there, scaled; a note says so.
        """
        if self._rate.of_next_step(self.state) == 0:
            return f"The learning rate is 0 here and stays so: {rate:g} is no multiple of it."
        ahead = self._ahead
        self._team.wait(ahead.result.tried)
        self.state = self._rate.set(self.state, rate)
        # The first rate that is set is an argument of the steps, which compile anew with it.
        preparation = preparation_for(self.run.info.model, self.callbacks.active)
        preparation.activity = compiling("the steps for the new learning rate")
        self.run.activity = preparation.activity
        try:
            with preparation.under_way():
                self._ahead = self._dispatch(self._put(self.state), ahead.chunk)
        finally:
            self.run.activity = ""
        preparation.end()
        if self._rate_note in self.run.notes:
            self.run.notes.remove(self._rate_note)
        if self._rate.has_schedule and _SCHEDULE_GOES_ON not in self.run.notes:
            self.run.notes.append(_SCHEDULE_GOES_ON)
        return ""

    @property
    def control(self) -> Control:
        """The requests to handle: those to any of the processes, at the same step in all."""
        return self._meetings.control

    def wait_while_paused(self) -> None:
        """Block until the pause is over; of several processes, any one ends it."""
        self._meetings.wait_while_paused(self._steps_by_clock)

    def _next_chunk(self) -> Chunk | None:
        with self.run.clock.spending("data"):
            return self._feed.next(self._steps(), self._align)

    def _steps(self) -> int:
        """Steps of the next chunk."""
        return self._steps_by_clock() if self._meetings.steps is None else self._meetings.steps

    def _steps_by_clock(self) -> int:
        """Steps of the next chunk, from the rate of the chunks before."""
        if self._options.steps_per_call != "auto":
            return self._options.steps_per_call
        if self._steps_per_s is None:
            return _FIRST_STEPS
        return max(1, int(self._steps_per_s * CHUNK_S))

    def _dispatch(
        self, state: TrainState, chunk: Chunk | None, steps: int | None = None
    ) -> _Dispatched | None:
        """Dispatch the steps of a chunk, or the first of them; ``None`` without a chunk."""
        if chunk is None:
            return None
        with self.run.clock.spending("dispatch"):
            steps = len(chunk) if steps is None else steps
            result = self._call(self._engine.run, state, chunk, steps)
        return _Dispatched(chunk, result, time.monotonic())

    def _call(
        self, function: Callable[..., Any], state: TrainState, chunk: Chunk, steps: int
    ) -> Any:
        """Call a function of the engine with steps of a chunk."""
        return function(
            state,
            chunk.feed,
            chunk.valid,
            steps,
            self._shared,
            size=self._size,
            skip_bad=self._options.on_nonfinite == "skip",
        )

    def _accept(self, dispatched: _Dispatched) -> str:
        """Wait for a chunk, and report it if a report is due; return a message about a bad step."""
        chunk, result, pending = dispatched.chunk, dispatched.result, self._pending_report
        with self.run.clock.spending("steps"):
            # On all devices: each may still read the batches that the feed overwrites next.
            done = self._team.wait((result.losses, result.metrics, result.tried, result.ok))
            losses, metrics, tried, ok = jax.device_get(done)
        now = time.monotonic()
        good = int(tried) if ok else int(tried) - 1
        self._learn_speed(good, now - max(dispatched.at_s, self._done_s))
        self._done_s = now
        accepted = AcceptedSteps.of(
            chunk,
            good,
            result.state,
            losses,
            metrics,
            first=self.run.step + (len(pending.steps) if pending else 0) + 1,
            seconds=self.lap(now),
        )
        self._pending_report = pending.then(accepted) if pending else accepted
        if self._ahead is None or not ok or self._is_due(self._pending_report):
            self.flush()
        if ok:
            return ""
        self.run.judge_last(losses[good : good + 1])  # the loss of the state before the bad step
        return describe_bad_step(chunk, good, float(losses[good]), self.run.step)

    def _is_due(self, pending: AcceptedSteps) -> bool:
        """Whether it is time to report the accepted steps."""
        if self._options.steps_per_call != "auto" or self.run.step == self.run.resumed_at:
            return True
        if not self._team.is_alone:  # each process has a clock of its own
            return True
        if self._align and any(epoch % self._align == 0 for epoch in pending.epoch_ends):
            return True
        return pending.steps.seconds >= REPORT_S

    def flush(self) -> None:
        """Report the accepted steps, and evaluate the held-out loss if it is due."""
        accepted, self._pending_report = self._pending_report, None
        if accepted is None:
            return
        steps = replace(
            accepted.steps,
            learning_rate=self._rate.of_last_step(local(accepted.state)),
            rates=self._rate.of_steps(self.state, local(accepted.state), len(accepted.steps)),
        )
        self.run.transferred_bytes += accepted.nbytes
        self.run.skipped += int(np.count_nonzero(~np.isfinite(steps.loss)))
        self._see_motion(local(accepted.state), len(steps))
        self.state, self.position = local(accepted.state), accepted.position
        self.reported = self.state, steps.first + len(steps) - 1
        self._see(accepted.first_pass)
        self.report(steps, accepted.epoch_ends)
        self._validate(accepted.epoch_ends)
        self._fall_back.look()

    def _see_motion(self, state: TrainState, steps: int) -> None:
        """Count the steps that moved no parameter."""
        if (optimizer := self._rate.optimizer(None)) is None:
            return
        before, after = (one.svi.optim_state for one in (self.state, state))
        moved = have_moved(optimizer, before, after)
        self.run.unmoved_steps = 0 if moved else self.run.unmoved_steps + steps

    def _see(self, seen: FirstPass | None) -> None:
        """Plan by the length of a stream's first pass, and say if it contradicts ``n_obs``."""
        if seen is None or seen == self._first_pass:
            return
        self._first_pass, run = seen, self.run
        if seen.is_over:
            run.info = replace(run.info, steps_per_epoch=seen.n_batches)
        if not self._options.scaled_by or self._size.n_obs is None:
            return
        found = contradiction(self._size, seen, by_kernel=self._options.scaled_by == "kernel")
        if found == self._contradiction:
            return
        # At its end, the sentence has the number of rows that the one before could not have.
        run.notes = [*(note for note in run.notes if note != self._contradiction), found]
        self._contradiction = found
        if self._team.leads:
            warn(found, FitWarning)

    def _close(self, status: RunStatus, reason: str) -> None:
        """End the run; after a divergence, also one of skipped steps, with the best state."""
        if status == "diverged":
            reason = self._fall_back.take(reason)
        elif self.is_spoiled:
            before = "" if status == "completed" else f"{reason}; "
            reason = f"{before}{self._fall_back.take_after_skips()}"
            status = status if status in ("interrupted", "failed") else "diverged"
        elif status == "interrupted":
            self.run.ending = reason
        super()._close(status, reason)

    def _learn_speed(self, steps: int, seconds: float) -> None:
        if steps and seconds > 0:
            most = np.inf if self._steps_per_s is None else self._steps_per_s * _GROWTH
            self._steps_per_s = min(steps / seconds, most)

    def _validate_if_missed(self) -> None:
        """Evaluate the held-out loss that was due when the resumed run was stopped."""
        epoch, batch = self.position
        done = self.run.validation[-1][0] if self.run.validation else 0
        if epoch and batch == 0 and done < self.run.step:
            self._validate((epoch,))

    def _validate(self, epoch_ends: tuple[int, ...]) -> None:
        validation = self._options.validation
        if validation is None or not any(e % validation.every == 0 for e in epoch_ends):
            return
        with self.run.clock.spending("validation"):
            self._team.gather(None, "validates")  # if one has failed, the others do not wait for it
            loss = validation.loss(self.state.svi)
            self.run.validated(loss)
        self.callbacks.emit("on_validation_end", loss)
