"""Accepted steps of chunks, joined until their report, and messages about bad steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Float

from aimz_lab.inference.feeds.feed import Chunk, Position
from aimz_lab.inference.feeds.first_pass import FirstPass
from aimz_lab.inference.run.steps import Steps
from aimz_lab.inference.svi.step import TrainState
from aimz_lab.types import Rows


@dataclass(frozen=True)
class AcceptedSteps:
    """Accepted steps of one or more chunks, without their batches, which take memory.

    Attributes:
        steps: The accepted steps.
        state: The state after them.
        position: Position of the feed after them.
        epoch_ends: Epochs that ended with them.
        nbytes: Bytes that were moved to the devices for them.
        first_pass: Of a stream, its first pass up to their end, where it tells something new.
    """

    steps: Steps
    state: TrainState
    position: Position
    epoch_ends: tuple[int, ...]
    nbytes: int
    first_pass: FirstPass | None = None

    @classmethod
    def of(
        cls,
        chunk: Chunk,
        count: int,
        state: TrainState,
        losses: Float[np.ndarray, " step"],
        metrics: Mapping[str, Float[np.ndarray, " step"]],
        *,
        first: int,
        seconds: float,
    ) -> Self:
        """Return the first ``count`` steps of a chunk; fewer than all of them after a bad step.

        Args:
            chunk: The chunk.
            count: Number of accepted steps.
            state: The state after them.
            losses: Loss of each step in nats.
            metrics: Further values of each step.
            first: Number of the first step in the run, from 1.
            seconds: Wall time of the chunk.
        """
        steps = Steps(
            first=first,
            epoch=chunk.epoch[:count],
            loss=losses[:count],
            rows=chunk.rows[:count],
            n_pad=chunk.n_pad[:count],
            seconds=seconds,
            metrics={name: values[:count] for name, values in metrics.items()},
        )
        if count == len(chunk):
            return cls(steps, state, chunk.end, chunk.epoch_ends, chunk.nbytes, chunk.first_pass)
        return cls(steps, state, _position_of(chunk, count), (), chunk.nbytes)

    def then(self, after: Self) -> Self:
        """Return these steps and those ``after`` them as one."""
        return type(self)(
            _joined(self.steps, after.steps),
            after.state,
            after.position,
            self.epoch_ends + after.epoch_ends,
            self.nbytes + after.nbytes,
            after.first_pass or self.first_pass,
        )


def _joined(before: Steps, after: Steps) -> Steps:
    def both(name: str) -> np.ndarray:
        return np.concatenate([getattr(before, name), getattr(after, name)])

    metrics = {
        name: np.concatenate([values, after.metrics[name]])
        for name, values in before.metrics.items()
    }
    return Steps(
        first=before.first,
        epoch=both("epoch"),
        loss=both("loss"),
        rows=both("rows"),
        n_pad=both("n_pad"),
        seconds=before.seconds + after.seconds,
        learning_rate=after.learning_rate,
        metrics=metrics,
    )


def _position_of(chunk: Chunk, step: int) -> Position:
    """Position of the feed before a step of a chunk."""
    epoch = int(chunk.epoch[step]) - 1
    batch = int(np.count_nonzero(chunk.epoch[:step] == epoch + 1))
    return Position(epoch, batch + (chunk.begin.batch if epoch == chunk.begin.epoch else 0))


def describe_bad_step(chunk: Chunk, at: int, loss: float, done: int) -> str:
    """Return what is not finite, and where, as a phrase.

    Args:
        chunk: The chunk with the bad step.
        at: Index of the step in the chunk.
        loss: Its loss in nats.
        done: Steps done before it.
    """
    what = _what_is_bad(loss)
    rows = ""
    if chunk.rows_of is not None:
        listed = chunk.rows_of(at)
        shown = ", ".join(map(str, listed[:8])) + (", ..." if len(listed) > 8 else "")
        rows = f", rows {shown}"
    return f"{what} at step {done + 1:,} (epoch {chunk.epoch[at]:,}{rows})"


def describe_bad_batch(loss: float, rows: Rows, n_pad: int) -> str:
    """Return a message about a bad step of a hand-written loop.

    Args:
        loss: Its loss in nats.
        rows: Arrays of its batch.
        n_pad: Rows of padding in it.
    """
    shapes = ", ".join(f"{name} {np.shape(array)}" for name, array in rows.items())
    padding = f", {n_pad:,} rows of padding" if n_pad else ""
    return (
        f"{_what_is_bad(loss)} after a step on this batch ({shapes}{padding}); the model stays as "
        "it was before the call. Lower the learning rate, scale the inputs, or check these rows. "
        "If only a few batches are bad, on_nonfinite='skip' leaves them out."
    )


def _what_is_bad(loss: float) -> str:
    return f"the loss was {loss}" if not np.isfinite(loss) else "the parameters were not finite"
