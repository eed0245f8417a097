"""The training loop: chunks of compiled steps, and reports of what they did.

While one chunk computes, the next is gathered and dispatched behind it; it begins at the state
that the first will have. Should a listener then stop the run or change the learning rate, what was
dispatched ahead is dropped: nobody ever sees a step that was not accepted.

A chunk is short, so that a stop or another learning rate is not waited for, and shorter still where
memory bounds it. What chunks did is held together until it is worth a report: only then does the
run have new steps and a new state, and do listeners hear.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import numpy as np
from numpyro.infer.svi import SVIState

from aimz_lab.errors import NonFiniteLossError
from aimz_lab.inference.feeds.feed import BEGINNING, Chunk, Feed, Position
from aimz_lab.inference.run.events import Callbacks, Run, Steps
from aimz_lab.inference.run.loop import RunLoop
from aimz_lab.inference.run.rates import learning_rate, set_learning_rate
from aimz_lab.inference.svi.accepted_steps import AcceptedSteps
from aimz_lab.inference.svi.compiled_steps import ChunkResult, StepEngine
from aimz_lab.inference.svi.step import TrainState
from aimz_lab.types import OnNonFinite, RunStatus

CHUNK_S = 0.05
"""Aimed length of a chunk in seconds: short enough to feel live, long enough to cost nothing."""

_REPORT_S = 0.09
"""Least seconds from one report to the next, where nobody chose how many steps a chunk has: two
chunks or so, and about as often as a display shows anything new."""

_FIRST_STEPS = 16
_GROWTH = 16


@dataclass(frozen=True)
class Validation:
    """How the held-out loss is evaluated.

    Attributes:
        loss: Its value in nats per row, from the SVI state.
        every: Epochs between two evaluations.
    """

    loss: Callable[[SVIState], float]
    every: int = 1


@dataclass(frozen=True)
class TrainOptions:
    """How a run goes.

    Attributes:
        steps_per_call: Steps of a chunk; ``"auto"`` aims at :data:`CHUNK_S`.
        on_nonfinite: What to do about a step with a loss or a state that is not finite.
        validation: Held-out loss, or ``None``.
    """

    steps_per_call: int | Literal["auto"] = "auto"
    on_nonfinite: OnNonFinite = "stop"
    validation: Validation | None = None


@dataclass(frozen=True)
class _Pending:
    """A chunk that was dispatched, and when."""

    chunk: Chunk
    result: ChunkResult
    dispatched_s: float


class Trainer(RunLoop):
    """Runs a feed through an engine.

    Args:
        engine: The compiled steps.
        feed: The batches.
        state: State to begin with.
        run: What listeners read; the trainer fills it.
        callbacks: The listeners.
        shared: Kernel arguments that are the same for all steps, on the devices.
        n_obs: Rows of the data set.
        options: How the run goes.
        start: Where the feed begins.

    Attributes:
        state: State after the last accepted step, whatever happened after it.
        position: Where the feed stood then.
    """

    def __init__(
        self,
        engine: StepEngine,
        feed: Feed,
        state: TrainState,
        run: Run,
        callbacks: Callbacks,
        *,
        shared: Mapping[str, Any],
        n_obs: int,
        options: TrainOptions,
        start: Position = BEGINNING,
    ) -> None:
        super().__init__(run, callbacks)
        self.state = state
        self.position = start
        self._engine = engine
        self._feed: Feed | None = feed
        self._whole = shared
        self._n_obs = n_obs
        self._options = options
        self._held: AcceptedSteps | None = None
        self._rate: float | None = None
        every = options.validation.every if options.validation else 0
        self._align = 1 if callbacks.aligned_to_epochs else every
        self._accepted_s = 0.0
        self._seen_s = 0.0

    def begin(self) -> None:
        """Start the clock and tell the listeners; :meth:`train` does it if nobody has.

        Raises:
            Exception: What a callback that is not a display raised.
        """
        self._accepted_s = time.monotonic()
        self._run.learning_rate = learning_rate(self.state.svi.optim_state)
        super().begin()

    def train(self) -> None:
        """Run to the end, a stop, an interrupt or a failure.

        Afterwards ``run.status`` and ``run.reason`` say how it ended, and :attr:`state` is the
        state after the last accepted step.

        Raises:
            NonFiniteLossError: With ``on_nonfinite="raise"``, at the first bad step.
            KeyboardInterrupt: If the run was interrupted a second time before it had ended.
            Exception: What the kernel or a callback that is not a display raised.
        """
        try:
            self.run_to_end()
        finally:
            # Whoever keeps the run keeps this object for its state, and not for the rows.
            self._feed = None
        if self._run.status == "diverged" and self._options.on_nonfinite == "raise":
            raise NonFiniteLossError(self._run.reason)

    def _loop(self) -> tuple[RunStatus, str]:
        self._validate_if_missed()
        try:
            return self._chunks()
        except BaseException:
            self._report()  # what was done before it is not lost
            raise

    def _chunks(self) -> tuple[RunStatus, str]:
        run, control = self._run, self._run.control
        pending = self._dispatch(self.state, self._next_chunk())
        while pending is not None:
            for epoch in pending.chunk.epoch_begins:
                self._callbacks.emit("on_epoch_begin", epoch)
            pending = self._after_requests(pending)
            ahead = self._dispatch(pending.result.state, self._next_chunk())
            bad = self._accept(pending, is_last=ahead is None)
            if bad:
                return "diverged", bad
            if control.paused:
                self._report()
                self._accepted_s += self._callbacks.hold_while_paused()
            if control.stop_request:
                self._report()
                reason, status = control.stop_request
                return status, reason
            pending = ahead and self._after_requests(ahead)
        return "completed", f"all {run.step:,} steps done"

    def _next_chunk(self) -> Chunk | None:
        began = time.monotonic()
        chunk = self._feed.next(self._steps(), self._align)
        self._run.spend("data", time.monotonic() - began)
        return chunk

    def _steps(self) -> int:
        """Steps of the next chunk, from the rate of those before."""
        if self._options.steps_per_call != "auto":
            return self._options.steps_per_call
        if self._rate is None:
            return _FIRST_STEPS
        return max(1, int(self._rate * CHUNK_S))

    def _dispatch(self, state: TrainState, chunk: Chunk | None) -> _Pending | None:
        if chunk is None:
            return None
        began = time.monotonic()
        result = self._engine.run(
            state,
            chunk.feed,
            chunk.valid,
            len(chunk),
            self._whole,
            n_obs=self._n_obs,
            skip_bad=self._options.on_nonfinite == "skip",
        )
        now = time.monotonic()
        self._run.spend("dispatch", now - began)
        return _Pending(chunk, result, now)

    def _after_requests(self, pending: _Pending) -> _Pending:
        """Apply a requested learning rate; what was dispatched ahead then runs anew."""
        rate = self._run.control.take_learning_rate()
        if rate is None:
            return pending
        self._report()
        jax.block_until_ready(pending.result.tried)
        svi = self.state.svi
        svi = svi._replace(optim_state=set_learning_rate(svi.optim_state, rate))
        self.state = self.state._replace(svi=svi)
        return self._dispatch(self.state, pending.chunk)

    def _accept(self, pending: _Pending, *, is_last: bool) -> str:
        """Wait for a chunk, and report it if it is time; returns what went wrong."""
        chunk, result, held = pending.chunk, pending.result, self._held
        waited = time.monotonic()
        # Of all devices: each may read the batches where the feed is going to write the next ones.
        done = jax.block_until_ready((result.losses, result.metrics, result.tried, result.ok))
        losses, metrics, tried, ok = jax.device_get(done)
        now = time.monotonic()
        self._run.spend("steps", now - waited)
        good = int(tried) if ok else int(tried) - 1
        self._learn_rate(good, now - max(pending.dispatched_s, self._seen_s))
        self._seen_s = now
        steps = Steps(
            first=self._run.step + (len(held.steps) if held else 0) + 1,
            epoch=chunk.epoch[:good],
            loss=losses[:good],
            rows=chunk.valid[:good],
            n_pad=chunk.n_pad[:good],
            seconds=now - self._accepted_s,
            metrics={name: values[:good] for name, values in metrics.items()},
        )
        self._accepted_s = now
        position = chunk.end if ok else _position_of(chunk, good)
        epoch_ends = chunk.epoch_ends if ok else ()
        accepted = AcceptedSteps(steps, result.state, position, epoch_ends, chunk.nbytes)
        self._held = held.then(accepted) if held else accepted
        if is_last or not ok or self._is_due(self._held):
            self._report()
        return "" if ok else self._describe_bad(chunk, good, float(losses[good]))

    def _is_due(self, held: AcceptedSteps) -> bool:
        """Whether it is time to report what is held."""
        if self._options.steps_per_call != "auto" or self._run.step == self._run.resumed_at:
            return True
        if self._align and any(epoch % self._align == 0 for epoch in held.epoch_ends):
            return True
        return held.steps.seconds >= _REPORT_S

    def _report(self) -> None:
        """Make the steps that are held the run's, and tell the listeners."""
        held, self._held = self._held, None
        if held is None:
            return
        run = self._run
        steps = replace(held.steps, learning_rate=learning_rate(held.state.svi.optim_state))
        run.record(steps)
        run.transferred_bytes += held.nbytes
        run.skipped += int(np.count_nonzero(~np.isfinite(steps.loss)))
        self.state, self.position = held.state, held.position
        if len(steps):
            self._callbacks.steps_end(steps, held.epoch_ends)
        self._validate(held.epoch_ends)
        if run.control.take_checkpoint():
            self._callbacks.emit("on_checkpoint")

    def _learn_rate(self, steps: int, seconds: float) -> None:
        if steps and seconds > 0:
            rate = steps / seconds
            self._rate = rate if self._rate is None else min(rate, self._rate * _GROWTH)

    def _validate_if_missed(self) -> None:
        """Evaluate what is due where the run goes on: it was stopped before it came to that."""
        epoch, batch = self.position
        done = self._run.validation[-1][0] if self._run.validation else 0
        if epoch and batch == 0 and done < self._run.step:
            self._validate((epoch,))

    def _validate(self, epoch_ends: tuple[int, ...]) -> None:
        validation = self._options.validation
        if validation is None or not any(e % validation.every == 0 for e in epoch_ends):
            return
        began = time.monotonic()
        loss = validation.loss(self.state.svi)
        self._run.validation.append((self._run.step, loss))
        self._run.spend("validation", time.monotonic() - began)
        self._callbacks.emit("on_validation_end", loss)

    def _describe_bad(self, chunk: Chunk, at: int, loss: float) -> str:
        what = f"the loss was {loss}" if not np.isfinite(loss) else "the parameters were not finite"
        rows = ""
        if chunk.rows_of is not None:
            listed = chunk.rows_of(at)
            shown = ", ".join(map(str, listed[:8])) + (", ..." if len(listed) > 8 else "")
            rows = f", rows {shown}"
        return (
            f"{what} at step {self._run.step + 1:,} (epoch {chunk.epoch[at]}{rows}); the model "
            f"keeps the state after step {self._run.step:,}. Lower the learning rate, scale the "
            "inputs, or check these rows; on_nonfinite='skip' leaves such steps out."
        )


def _position_of(chunk: Chunk, step: int) -> Position:
    """Where the feed stands before a step of a chunk."""
    epoch = int(chunk.epoch[step]) - 1
    batch = int(np.count_nonzero(chunk.epoch[:step] == epoch + 1))
    return Position(epoch, batch + (chunk.begin.batch if epoch == chunk.begin.epoch else 0))
